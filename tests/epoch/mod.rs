//! Partitions and clocks: catching up decides as a replay does, no single clock moves event time, a silent partition holds
//! nobody back.

mod catch_up;
mod clock;
mod watermark;
