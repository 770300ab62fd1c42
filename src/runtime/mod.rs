//! Running it: the cluster, the worker loop, shutdown, logging, health.

pub mod compact;
pub mod control;
pub mod coordinate;
pub mod cut;
pub mod intake;
pub mod job;
pub mod logging;
pub mod memory;
pub mod outlet;
pub mod page;
pub mod peers;
mod ports;
pub mod redact;
pub mod renew;
pub mod state;
pub mod worker;
