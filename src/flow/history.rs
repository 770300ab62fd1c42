//! What has come in, for those who compute from scratch.

use super::{Arrival, ReferenceRecord};
use crate::event::Event;

/// A final event and what is known of its label: the value, and when it became available (milliseconds).
pub type Labelled = (Event, Option<(bool, i64)>);

/// What one epoch takes in.
#[derive(Clone, Debug, Default)]
pub struct EpochInput {
    /// The events, in order of arrival.
    pub arrivals: Vec<Arrival>,
    /// Reference records; whom they are for is filled in by the harness.
    pub references: Vec<ReferenceRecord>,
    /// The watermark once they are in, milliseconds of event time.
    pub watermark_ms: i64,
}
