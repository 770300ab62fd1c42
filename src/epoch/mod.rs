//! ③ Epochs: which records belong to which tick, and how far event time has come.
//!
//! The differential timestamp is the epoch. One authority (worker 0) mints it: a [`Binding`](crate::flow::Binding) says
//! which records of each partition belong to the epoch and what the watermark is. Everything that depends on "when"
//! (lateness, expiry, revise horizon) is measured against the watermark of the epoch, never against a clock, so the same
//! bindings give the same output. The binding also says how many touched rows the epoch reads again
//! ([`Repair`](crate::flow::Repair)). Both reach the operators as the epoch's [`Facts`](crate::flow::Facts).
//!
//! The *watermark* of an epoch is the smallest, over the partitions that are not idle, of the largest event time that
//! the partition has delivered up to and including the epoch. It never goes back. One wrong clock does not move it
//! ([`clock`]), a partition that is empty and quiet does not hold it, and while any partition has a backlog they are merged by
//! event time ([`Authority`]).

mod authority;
pub mod clock;
mod controlling;
mod dumping;
pub mod journal;
mod queue;
mod recorded;
mod stash;

pub use authority::{Authority, Pace};
pub use controlling::ControlNext;
pub use queue::LaneEnd;
pub use recorded::Recorded;
pub use stash::Stash;

/// What keeps the partitions of a source together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionBounds {
    /// Records of a partition that an epoch takes at most.
    pub records_max: usize,
    /// A partition of a run that is behind the others by more than this, with a backlog, is waited for; milliseconds of event
    /// time.
    pub skew_ms: i64,
    /// A record whose event time is further ahead than this of what the records around it say, and in a run of the wall clock,
    /// does not move event time; milliseconds.
    pub future_ms: i64,
    /// A partition that has been empty and quiet for so long holds nobody back, milliseconds of wall time.
    pub idle_ms: i64,
}

impl PartitionBounds {
    /// The idle bound in nanoseconds.
    pub fn idle_ns(&self) -> u64 {
        self.idle_ms.unsigned_abs().saturating_mul(1_000_000)
    }
}

impl Default for PartitionBounds {
    fn default() -> Self {
        PartitionBounds { records_max: 1024, skew_ms: 10_000, future_ms: 300_000, idle_ms: 500 }
    }
}
