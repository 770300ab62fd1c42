//! What was made of a record, on its way to its epoch.

use super::{Arrival, ReferenceRecord, Reject};

/// A record after decoding.
#[derive(Debug)]
pub enum Decoded {
    /// An event.
    Event(Arrival),
    /// Not an event.
    Reject(Reject),
    /// An event with the answers of services, which enter the same epoch.
    Answered(Box<(Arrival, Vec<ReferenceRecord>)>),
    /// A row of a reference collection, or a late answer.
    Reference(ReferenceRecord),
}
