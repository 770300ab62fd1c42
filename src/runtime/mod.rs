//! Running it: the cluster, the worker loop, checkpoints, shutdown, metrics, logging. Clocks live here.

pub mod clock;
pub mod coordinate;
pub mod job;
pub mod logging;
pub mod memory;
pub mod metrics;
pub mod outlet;
pub mod page;
pub mod peers;
pub mod redact;
pub mod service;
pub mod state;
pub mod vitals;
pub mod worker;
