//! Reference collections as inputs: files and compacted topics, bound to epochs like events.
//!
//! ```text
//!  file ──► [thread: read, decode, compare with the version before] ─┐
//!                                                                    ├─► log (--state) ─► channel ─► worker's stash
//!  topic ─► [thread: poll, decode] ──────────────────────────────────┘
//! ```
//!
//! Every file is one lane ([`Table`](crate::event::InputStream::Table)), every partition of a topic another one. The
//! authority's bindings name them beside those of the events: an epoch takes in all reference records that are there.
//!
//! * **At the start** no event is bound before every collection has been read once: a file to its end, a topic to the end
//!   it had. These rows come in with the first epoch. In a replay that is all that is read; records with a time of their
//!   own are merged with the events by it, so that a backtest sees rows from their time on.
//! * **Later** a file is looked at every `poll_ms`. A new version (another time of change or length) is read whole and
//!   compared; what differs becomes upserts and deletions with offsets that go on. A version that cannot be read is
//!   refused as a whole: it is logged, counted, and the version before stays. Replace files by renaming, not in place.
//!   A topic's records are upserts; a tombstone, or a row whose `op` field says `withdraw`, deletes.
//! * **With `--state`** everything taken in is written to `reference-NAME-PARTITION.jsonl` and synced before it is handed
//!   on, thus before its epoch's output leaves. A restart reads the log first and then goes on from where the source
//!   stands, so that the recorded bindings find the same records although the file has changed or the topic was compacted
//!   since. A replay reads the log too, and adds nothing to it. The log is never cut (checkpoints are to do that).
//!
//! A key of a topic must live in one partition, as Kafka's producers do it.

mod declaration;
mod file;
mod log;
mod reader;
mod rows;
mod topic;

use std::path::PathBuf;
use std::sync::Arc;

use super::SourceError;
use super::kafka::KafkaConfig;
use crate::event::{Limits, Origin};

pub use declaration::{Reference, ReferenceKind, ServiceSettings, fingerprint};
pub use reader::ReferenceReader;
pub use rows::{RowDecoder, TableRow};

/// Where a reference's rows come from.
#[derive(Clone, Debug)]
pub enum TableInput {
    /// A CSV, JSON lines or MaxMind-format file.
    File(String),
    /// A compacted topic.
    Topic(KafkaConfig, String),
}

/// A reference to be read.
#[derive(Clone, Debug)]
pub struct WantedTable {
    /// Its declaration.
    pub reference: Arc<Reference>,
    /// What its records are addressed by.
    pub tag: u64,
    /// Where it is.
    pub place: TableInput,
}

/// All references of a job.
#[derive(Clone, Debug, Default)]
pub struct ReferenceSource {
    wanted: Vec<WantedTable>,
    state: Option<PathBuf>,
    bounded: bool,
    limits: Option<Limits>,
}

impl ReferenceSource {
    /// References to be read in this order; `bounded`: once, to the end they have now. Files are opened here, so that
    /// what is missing or has the wrong columns is an error before anything starts.
    pub fn new(
        wanted: Vec<WantedTable>,
        state: Option<PathBuf>,
        bounded: bool,
        limits: Limits,
    ) -> Result<Self, SourceError> {
        for one in &wanted {
            if let TableInput::File(path) = &one.place {
                file::probe(&one.reference, path, limits)?;
            } else if *one.reference.kind() == ReferenceKind::Networks {
                let name = one.reference.name();
                let message = format!("--reference {name}: a network file cannot come from a topic; give a path");
                return Err(SourceError::User(message));
            }
        }
        Ok(ReferenceSource { wanted, state, bounded, limits: Some(limits) })
    }

    /// What a reference is read from, by its number among them.
    pub fn origin(&self, table: u32) -> Origin {
        match self.wanted.get(table as usize).map(|wanted| &wanted.place) {
            Some(TableInput::File(path)) => Origin::File(path.clone()),
            Some(TableInput::Topic(_, topic)) => Origin::Topic(topic.clone()),
            None => Origin::Elsewhere,
        }
    }

    /// The reader of one worker's share. Its threads start at once.
    pub fn open(&self, worker: usize, workers: usize) -> Result<ReferenceReader, SourceError> {
        let mut reader = ReferenceReader::default();
        for (table, wanted) in (0..).zip(&self.wanted) {
            let share = reader::Share {
                wanted: wanted.clone(),
                state: self.state.clone(),
                bounded: self.bounded,
                limits: self.limits.unwrap_or_default(),
                table,
                worker,
                workers,
            };
            match &wanted.place {
                TableInput::File(_) if table as usize % workers != worker => {}
                TableInput::File(_) => reader.start(share, file::run)?,
                TableInput::Topic(..) => reader.start(share, topic::run)?,
            }
        }
        Ok(reader)
    }
}
