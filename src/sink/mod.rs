//! ⑦ Sinks: encoded records out, to Kafka, files or stdout.
//!
//! Encoding happens on the workers; a [`Writer`] runs on a thread of its own behind a bounded channel and does nothing
//! but IO. It may block: back-pressure reaches the workers through the channel.

mod acknowledged;
pub mod features;
pub mod file;
pub mod kafka;
pub mod port;
mod reject;
mod scored;
pub mod transactions;

pub use acknowledged::{Acknowledged, Acknowledgements, OutputMark, OutputMarks, marks};
pub use file::FileWriter;
pub use reject::encode_reject;
pub use scored::{ScoredEncoder, encode_update};

use crate::flow::Epoch;
use crate::source::kafka::KafkaConfigError;

/// One encoded output record.
#[derive(Clone, Debug)]
pub struct OutputRecord {
    /// The message key (the transaction id); consolidation and order are per key.
    pub key: Vec<u8>,
    /// The content, one JSON object without a line end; `None` is a tombstone.
    pub payload: Option<Vec<u8>>,
    /// What a sink without tombstones has in the place of one, one JSON object without a line end; empty where there is a
    /// payload.
    pub last_line: Vec<u8>,
    /// Headers where the sink has them: epoch, diff, cause.
    pub headers: Headers,
    /// When the input that caused it was taken in, nanoseconds on the process's monotonic clock; 0 if there is no single
    /// one (revisions, collections).
    pub arrived_ns: u64,
}

/// What travels beside the payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    /// The epoch the record belongs to.
    pub epoch: u64,
    /// -1 or +1.
    pub diff: i8,
    /// The cause, by name (`arrival`, `late_event`, ...); empty for collections without one.
    pub cause: &'static str,
}

/// Called with [`OutputRecord::arrived_ns`] once a record is acknowledged (by the broker, or by the operating system).
pub type OnAcknowledged = Box<dyn FnMut(u64) + Send>;

/// A record that cannot be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Its key.
    pub key: Vec<u8>,
    /// Why, with the setting that would let it through.
    pub why: String,
}

/// Writes records somewhere. One writer per output and process.
pub trait Writer: Send {
    /// Takes a record; may buffer, may block. Order per key is kept.
    fn write(&mut self, record: OutputRecord) -> Result<(), SinkError>;

    /// Makes progress without blocking for long; called when the channel is idle and after each batch.
    fn poll(&mut self) -> Result<(), SinkError>;

    /// Records that cannot be written whatever is tried, since the last call; the others are not held up by them.
    fn refused(&mut self) -> Vec<Refused> {
        Vec::new()
    }

    /// What keeps it from writing just now: brokers that do not answer.
    fn trouble(&self) -> Option<String> {
        None
    }

    /// Everything of epochs up to this one has been written, and nothing of later ones. Does not wait for the acknowledgement.
    fn commit(&mut self, epoch: Epoch) -> Result<(), SinkError> {
        let _ = epoch;
        Ok(())
    }

    /// The last epoch that was committed and is acknowledged.
    fn acknowledged(&self) -> Option<Acknowledged> {
        None
    }

    /// The last epoch that earlier runs have committed, if the sink itself knows.
    fn committed_before(&self) -> Option<Epoch> {
        None
    }

    /// What is written to, as it is told from another one: a path, a topic.
    fn target(&self) -> String {
        String::new()
    }

    /// How long its file was when it was opened, bytes; 0 for what is no file.
    fn begins(&self) -> u64 {
        0
    }

    /// Returns once everything written is acknowledged.
    fn flush(&mut self) -> Result<(), SinkError>;
}

/// Why a sink failed. Messages say what to do.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The user named something that cannot be written.
    #[error("{0}")]
    User(String),
    /// The outside world failed for good.
    #[error("{0}")]
    External(String),
    /// Whoever read the output has gone (`| head`): not all of it has been taken.
    #[error("the reader of the output has gone before its end")]
    Closed,
}

impl From<KafkaConfigError> for SinkError {
    fn from(error: KafkaConfigError) -> Self {
        SinkError::User(error.to_string())
    }
}
