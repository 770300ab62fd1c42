//! ① Sources: records with coordinates, from Kafka, files or the generator.
//!
//! A source is a set of *partitions*, each a sequence of records with rising offsets. Partition `p` belongs to worker
//! `p mod workers`. A [`Reader`] serves the partitions of one worker: its IO runs on threads of its own, behind bounded
//! channels, and the worker takes what is ready without ever blocking. Where a reader starts is given by offsets, so a
//! restart from the remap log reads on exactly where the log ends.

pub mod kafka;
mod raw;
pub mod reference;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::decode::CsvHeader;
use crate::event::Event;

mod file;

pub use file::FileSource;
pub use raw::{Raw, Stand};
pub mod generator;

/// A partition of a source. Files count from 0 in the order they were named.
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
    /// When it was taken in: nanoseconds on the process's monotonic clock (see `runtime::clock`).
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

/// What a poll found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    /// Records were taken, or more may be ready at once.
    More,
    /// Nothing is ready now. The partitions are caught up with what the source had.
    CaughtUp,
    /// Nothing is ready yet, though the source has more (it is being fetched).
    Waiting,
    /// The source is bounded and at its end; nothing will come.
    Done,
}

/// Reads the partitions of one worker.
pub trait Reader: Send {
    /// Moves up to `limit` ready records into `into`, in offset order per partition, without blocking.
    fn poll(&mut self, limit: usize, into: &mut Vec<Record>) -> Result<Ready, SourceError>;

    /// The partitions this reader serves now (Kafka may discover more while it runs).
    fn partitions(&self) -> Vec<Partition>;

    /// Partitions that had no more records when the source last looked, each with the offset after its last record, if the
    /// source can tell them apart. Whoever has taken everything before that offset has caught up with the partition.
    fn ends(&self, into: &mut Vec<(Partition, u64)>) {
        let _ = into;
    }

    /// These partitions are far ahead of the others: no records of them are wanted until the next call. What has been
    /// fetched may still come.
    fn hold(&mut self, partitions: &[Partition]) {
        let _ = partitions;
    }

    /// Whether being caught up means that every record which was ever there has been handed out: so it is with a log, and not
    /// with a source that makes its records as time passes.
    fn is_log(&self) -> bool {
        false
    }

    /// What keeps it from reading just now: brokers that do not answer.
    fn trouble(&self) -> Option<String> {
        None
    }

    /// Records known to the source but not yet taken, if it can tell.
    fn lag(&self) -> Option<u64> {
        None
    }
}

/// Where to start: the next offset to read, per partition. Absent partitions start at the source's own beginning.
pub type StartOffsets = BTreeMap<Partition, u64>;

/// Opens the reader of one worker.
pub trait Source: Send + Sync {
    /// A reader for the partitions `p` with `p % workers == worker`, starting at `start`.
    fn open(&self, worker: usize, workers: usize, start: &StartOffsets) -> Result<Box<dyn Reader>, SourceError>;

    /// One line for logs: what is read.
    fn describe(&self) -> String;

    /// What makes it this source and no other: where it is read from does not count, what is read does.
    fn identity(&self) -> String {
        self.describe()
    }

    /// Whether the source ends by itself.
    fn bounded(&self) -> bool;

    /// What a partition is read from.
    fn origin(&self, partition: Partition) -> Origin {
        let _ = partition;
        Origin::Elsewhere
    }
}

/// Why a source failed. Messages say what to do.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The user named something that is not there or not readable.
    #[error("{0}")]
    User(String),
    /// The outside world failed for good (a broker given up on, a disk error).
    #[error("{0}")]
    External(String),
}
