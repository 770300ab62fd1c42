//! ③ Epochs: which records belong to which tick, and how far event time has come.
//!
//! The differential timestamp is the epoch. One authority (worker 0) mints it: a [`Binding`] says which records of each
//! partition belong to the epoch and what the watermark is. Everything that depends on "when" (lateness, expiry, revise
//! horizon) is measured against the watermark of the epoch, never against a clock, so the same bindings give the same
//! output. The binding also says how many touched rows the epoch reads again ([`Repair`]). Both reach the operators as the
//! epoch's [`Facts`].
//!
//! The *watermark* of an epoch is the smallest, over the partitions that are not idle, of the largest event time that
//! the partition has delivered up to and including the epoch. It never goes back.

mod authority;
mod binding;
mod facts;
mod remap;
mod stash;

pub use authority::{Authority, Pace};
pub use binding::{Binding, Bound, Offer, Report};
pub use facts::{EpochFacts, Facts, Repair};
pub use remap::{RemapError, RemapLog};
pub use stash::{Decoded, Stash};

/// The differential timestamp.
pub type Epoch = u64;
