//! ② Decode: records in, events or rejects out.
//!
//! Nothing a record contains can stop the pipeline: what is not an event becomes a [`Reject`] with its raw bytes, its
//! source coordinates and the reason.

use serde::{Deserialize, Serialize};

/// A record that is not an event, with the reason.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Reject {
    /// The partition it came from.
    pub partition: u32,
    /// Its place in the partition.
    pub offset: u64,
    /// The record's own timestamp, milliseconds UTC.
    pub timestamp_ms: i64,
    /// A word for metrics: one of [`RejectReason`]'s names.
    pub reason: RejectReason,
    /// What is wrong, with field and value, in one line.
    pub message: String,
    /// The record as it was read.
    pub raw: Vec<u8>,
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
}

impl RejectReason {
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
        }
    }
}
