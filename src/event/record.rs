//! Records as they were read, with their coordinates.

use std::sync::Arc;

use super::{CsvHeader, Event, Raw, Stand};

/// A partition of a source, where it is clear of which one ([`super::Lane`] says it). Files count from 0 in the order they were
/// named.
pub type Partition = u32;

/// One record as it was read.
#[derive(Clone, Debug)]
pub struct Record {
    /// The partition it came from.
    pub partition: Partition,
    /// Its place in the partition (Kafka: the offset; files: the record number from 0).
    pub offset: u64,
    /// The record's own timestamp in milliseconds UTC (Kafka), else 0.
    pub timestamp_ms: i64,
    /// When it was taken in: nanoseconds on the process's monotonic clock (see `source::clock`).
    pub arrived_ns: u64,
    /// Its place in its file.
    pub stand: Stand,
    /// The content.
    pub payload: Payload,
}

impl Record {
    /// The record as it was read; empty if it was never bytes.
    pub fn into_raw(self) -> Raw {
        let bytes = match self.payload {
            Payload::Json(bytes) | Payload::Csv { line: bytes, .. } => bytes,
            Payload::Tombstone { .. } | Payload::Event(_) => Vec::new(),
        };
        Raw { bytes: bytes.into(), stand: self.stand }
    }
}

/// Paths that lead to the record itself, where it has no field of that name: its place (`PARTITION:OFFSET`), and its own timestamp.
pub const OF_RECORD: [&str; 2] = ["@place", "@timestamp"];

/// What a partition is read from, for those who are to find a record again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// Neither a file nor a topic.
    #[default]
    Elsewhere,
    /// A file, by the path that was given.
    File(String),
    /// A Kafka topic.
    Topic(String),
}

/// The content of a record.
#[derive(Clone, Debug)]
pub enum Payload {
    /// One JSON object.
    Json(Vec<u8>),
    /// One CSV record, without the line end, and the header of the file it stands in.
    Csv {
        /// The columns; every record of a file shares one.
        header: Arc<CsvHeader>,
        /// The record as it was read.
        line: Vec<u8>,
    },
    /// No content (a Kafka tombstone); ends as a reject, or deletes a reference row.
    Tombstone {
        /// The message's key.
        key: Vec<u8>,
    },
    /// An event that needs no decoding (generator, benches, tests).
    Event(Box<Event>),
}

/// What a decoder refuses to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest record, in bytes; longer ones are rejects.
    pub record_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { record_bytes_max: 1 << 20 }
    }
}
