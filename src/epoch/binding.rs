//! Bindings: which records belong to which epoch. And what workers offer for the next one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Epoch, Facts, Repair};
use crate::source::Partition;

/// The end of the records of one epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Bound {
    /// Per partition, the offset after the last record. Partitions that are not named stay where they are.
    Offsets(BTreeMap<Partition, u64>),
    /// Of each partition all records up to the first whose event time is later than this, milliseconds. Used where
    /// several bounded partitions are merged, so that none runs ahead of the others.
    Through(i64),
}

/// What belongs to an epoch; minted by the authority, obeyed by every worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// The epoch.
    pub epoch: Epoch,
    /// Where its records end.
    pub bound: Bound,
    /// The watermark once its records are in, milliseconds of event time; `i64::MIN` before the first event.
    pub watermark_ms: i64,
    /// How many touched rows it reads again.
    #[serde(default)]
    pub repair: Repair,
    /// Readers are to stop: what has been read is the end.
    pub stop: bool,
    /// No epoch follows.
    pub last: bool,
}

impl Binding {
    /// What the operators must know of the epoch.
    pub fn facts(&self) -> Facts {
        Facts { watermark_ms: self.watermark_ms, repair: self.repair }
    }
}

/// What a worker has ready of one partition, beyond what is bound already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// The partition.
    pub partition: Partition,
    /// The offset after the last record offered.
    pub upper: u64,
    /// Records offered.
    pub records: u64,
    /// The largest event time of the partition up to `upper`, milliseconds; `i64::MIN` if there was none.
    pub time_ms: i64,
    /// As much as an epoch takes is ready, or the partition is at its end: the offer will not change.
    pub ripe: bool,
    /// Nothing is ready and the source says that it has no more for now.
    pub idle: bool,
    /// Nothing will come after the records offered.
    pub end: bool,
    /// Rows of a reference collection: they neither move event time nor hold it back.
    pub reference: bool,
}

/// The state of one worker, sent to the authority whenever it changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The worker.
    pub worker: u32,
    /// The epoch that its offers are for; a report for an earlier one is out of date.
    pub next: Epoch,
    /// Its partitions.
    pub offers: Vec<Offer>,
    /// Its reader is at its end, or stopped, and nothing waits.
    pub done: bool,
    /// It is still reading the initial content of references, before which no event is bound.
    pub loading: bool,
    /// It has been asked to stop.
    pub stopping: bool,
    /// Keys with rows to repair: epochs are wanted even without records.
    pub backlog: u64,
}
