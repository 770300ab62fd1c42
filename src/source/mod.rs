//! ① Sources: records with coordinates, from Kafka, files or the generator.
//!
//! A source is a set of *partitions*, each a sequence of records with rising offsets. Partition `p` belongs to worker
//! `p mod workers`. A [`Reader`] serves the partitions of one worker: its IO runs on threads of its own, behind bounded
//! channels, and the worker takes what is ready without ever blocking. Where a reader starts is given by offsets, so a
//! restart from the journal reads on exactly where the log ends.

pub mod clock;
pub mod control;
pub mod kafka;
pub mod sealed;
pub mod services;
pub mod tables;

use std::collections::BTreeMap;

use crate::event::{Origin, Partition, Record};

mod files;

pub use files::FileSource;

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

/// Reads nothing: what is behind a journal, and in the place of a reader that could not be opened.
#[derive(Clone, Copy, Debug)]
pub struct NoReader;

impl Reader for NoReader {
    fn poll(&mut self, _limit: usize, _into: &mut Vec<Record>) -> Result<Ready, SourceError> {
        Ok(Ready::Done)
    }

    fn partitions(&self) -> Vec<Partition> {
        Vec::new()
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

    /// Whether it gives events and not bytes: they are of the schema that they were made for, and of no later one.
    fn is_decoded(&self) -> bool {
        false
    }

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
