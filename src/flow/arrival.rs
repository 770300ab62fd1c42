//! Events on their way into the graph.

use serde::{Deserialize, Serialize};

use super::{Reject, RejectReason};
use crate::event::{Event, JsonEncoder, Lane, Partition, Raw, Schema};

/// A decoded event on its way in.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Arrival {
    /// The event.
    pub event: Event,
    /// The partition of the input that it came from.
    pub partition: Partition,
    /// Its place in the partition.
    pub offset: u64,
    /// When it was taken in, nanoseconds on the process's clock.
    pub arrived_ns: u64,
    /// The record as it was read, in case the event is not taken in.
    pub raw: Raw,
}

impl Arrival {
    /// The reject of an event that is not taken in, with its bytes as they were read; what never was bytes is written as JSON.
    pub fn refuse(self, schema: &Schema, reason: RejectReason, message: String) -> Reject {
        let Arrival { event, partition, offset, mut raw, .. } = self;
        if raw.bytes.is_empty() {
            let mut bytes = Vec::new();
            JsonEncoder::new(schema).write(&event, schema, &mut bytes);
            raw.bytes = bytes.into();
        }
        let (id, lane) = (event.id_text(schema), Lane::of_events(partition));
        Reject { lane, offset, timestamp_ms: event.time, reason, message, id, raw }
    }
}
