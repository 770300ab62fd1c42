//! The test kit: what a researcher tests a dataflow with.
//!
//! * [`Harness`] runs a dataflow in memory: a [`Plan`] of epochs in, an [`Outcome`] out.
//! * [`compare`] says whether two outcomes are equal, and where they first differ.
//! * [`expected`] and [`resolve`] compute the same from scratch, by definition: slow twins.
//! * [`invariance::check`] puts them together: however the events arrive, the outcome is the oracle's.
//! * [`arrive`] shuffles arrivals within the revise horizon; [`memory`] has a source and a writer in memory for whole jobs.
//! * [`disk`] fails where it is told to, and forgets what was not synced.
//! * [`random`] makes records of any schema.
//! * [`cases`] runs text cases: input events and expected diffs in one file.

pub mod arrive;
pub mod cases;
pub mod compare;
pub mod disk;
pub mod expected;
pub mod invariance;
pub mod memory;
pub mod random;
pub mod resolve;

mod as_of_event;
mod harness;
mod hindsight;
mod model;
mod plan;

pub use as_of_event::AsOfEvent;
pub use harness::{Harness, Outcome, RowRecord};
pub use model::TestModel;
pub use plan::{Batching, Input, Plan};
