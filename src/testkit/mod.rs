//! The test kit: what a researcher tests a dataflow with.
//!
//! * [`Harness`] runs a dataflow in memory: a [`Plan`] of epochs in, an [`Outcome`] out.
//! * [`compare`] says whether two outcomes are equal, and where they first differ.
//! * [`oracle`], [`expected`] and [`resolve`] compute the same from scratch, by definition: slow twins.
//! * [`invariance::check`] puts them together: however the events arrive, the outcome is the oracle's.
//! * [`arrive`] shuffles arrivals within the revise horizon.

pub mod arrive;
pub mod compare;
pub mod expected;
pub mod invariance;
pub mod oracle;
pub mod resolve;

mod harness;
mod model;
mod plan;

pub use harness::{Harness, Outcome, RowRecord};
pub use model::TestModel;
pub use plan::{Batching, Plan, PlannedEpoch};
