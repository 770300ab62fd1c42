//! Running it: the cluster, the worker loop, checkpoints, shutdown, metrics, logging. Clocks live here.

pub mod clock;
pub mod metrics;
