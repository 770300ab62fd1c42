//! Rejects: what could not be taken in, with the reason.

use serde::{Deserialize, Serialize};

use crate::event::{Lane, Raw};

/// A record that is not an event, with the reason.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Reject {
    /// The lane it came by; [`Lane::NOWHERE`] if it is not about one record.
    pub lane: Lane,
    /// Its place in the lane.
    pub offset: u64,
    /// The record's own timestamp, milliseconds UTC.
    pub timestamp_ms: i64,
    /// A word for metrics: one of [`RejectReason`]'s names.
    pub reason: RejectReason,
    /// What is wrong, with field and value, in one line.
    pub message: String,
    /// The id of the event, if it is known.
    pub id: String,
    /// The record as it was read; empty if the reject is not about one record.
    pub raw: Raw,
}

/// Classes of rejects, for counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RejectReason {
    /// Not JSON, not CSV, or cut off.
    Malformed,
    /// A required field is absent.
    MissingField,
    /// A field's value does not fit its type.
    BadValue,
    /// The kind is not in the schema.
    UnknownKind,
    /// No content, or an empty one.
    Empty,
    /// Longer than the limit.
    Oversized,
    /// A label whose target never came within the horizon.
    OrphanLabel,
    /// Older than the horizon when it arrived.
    TooLate,
    /// Its event time is ahead of what the other records of its partition say, and in a run the wall clock.
    FromTheFuture,
    /// It changed features of transactions that are too old to be revised.
    BeyondHorizon,
    /// Its id was withdrawn before it came.
    Withdrawn,
    /// What was said of a transaction is larger than the broker takes.
    OutputTooLarge,
}

impl RejectReason {
    /// All of them, in the order of their declaration.
    pub const ALL: [RejectReason; 12] = [
        RejectReason::Malformed,
        RejectReason::MissingField,
        RejectReason::BadValue,
        RejectReason::UnknownKind,
        RejectReason::Empty,
        RejectReason::Oversized,
        RejectReason::OrphanLabel,
        RejectReason::TooLate,
        RejectReason::FromTheFuture,
        RejectReason::BeyondHorizon,
        RejectReason::Withdrawn,
        RejectReason::OutputTooLarge,
    ];

    /// The name used in metrics and output.
    pub fn name(self) -> &'static str {
        match self {
            RejectReason::Malformed => "malformed",
            RejectReason::MissingField => "missing_field",
            RejectReason::BadValue => "bad_value",
            RejectReason::UnknownKind => "unknown_kind",
            RejectReason::Empty => "empty",
            RejectReason::Oversized => "oversized",
            RejectReason::OrphanLabel => "orphan_label",
            RejectReason::TooLate => "too_late",
            RejectReason::FromTheFuture => "from_the_future",
            RejectReason::BeyondHorizon => "beyond_horizon",
            RejectReason::Withdrawn => "withdrawn",
            RejectReason::OutputTooLarge => "output_too_large",
        }
    }
}
