//! Bindings: which records belong to which epoch. And what workers offer for the next one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ControlGroup, DeploymentNumber, Epoch, Repair};
use crate::event::Lane;
use crate::flow::Dump;

/// What belongs to an epoch; minted by the authority, obeyed by every worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// The epoch.
    pub epoch: Epoch,
    /// Per lane, the offset after the last record. Lanes that are not named stay where they are.
    pub uppers: BTreeMap<Lane, u64>,
    /// Records among them whose time is not believed: they become rejects.
    pub refused: Vec<(Lane, u64)>,
    /// The watermark once its records are in, milliseconds of event time; `i64::MIN` before the first event.
    pub watermark_ms: i64,
    /// How many touched rows it reads again.
    pub repair: Repair,
    /// Partitions go on to be merged by event time after this epoch.
    pub merging: bool,
    /// What is dumped at its end.
    pub dump: Option<Dump>,
    /// Control messages that take effect with it.
    pub control: Option<Box<ControlGroup>>,
    /// Readers are to stop: what has been read is the end.
    pub stop: bool,
    /// No epoch follows.
    pub last: bool,
}

/// Where the next epoch is to end when partitions are merged: before an event time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reach {
    /// All records whose merge time is before this, milliseconds.
    pub before_ms: i64,
    /// And of this lane records at that time too, as many as an epoch takes: nothing at all lies before it.
    pub ties_of: Option<Lane>,
}

/// What the authority tells the workers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Word {
    /// Offer for this epoch what lies before the reach.
    Reach(Epoch, Reach),
    /// Make the deployment of these control messages: an epoch will have it.
    Prepare(ControlGroup),
    /// No epoch will have this deployment: a process could not make it.
    GiveUp(DeploymentNumber),
    /// This belongs to the epoch.
    Bind(Binding),
    /// The cut at the end of this epoch is whole: every process has it on disk.
    Whole(Epoch),
    /// Nothing is bound any more. What waits, and what is recorded and was not bound again, is the next run's.
    End,
}

/// What a worker has ready of one lane, beyond what is bound already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// The lane.
    pub lane: Lane,
    /// The offset after the last record offered.
    pub upper: u64,
    /// Records offered.
    pub records: u64,
    /// The merge time of the first record that waits, milliseconds; `i64::MAX` if none does.
    pub first_ms: i64,
    /// The merge time of the last record offered, or bound; milliseconds, `i64::MIN` if there was none.
    pub merge_ms: i64,
    /// The lane's clock up to `upper`, milliseconds; `i64::MIN` before it has one.
    pub clock_ms: i64,
    /// As much as an epoch takes is ready.
    pub ripe: bool,
    /// Everything that waits is offered.
    pub whole: bool,
    /// Everything that waits is offered, and the source says that it has no more for now.
    pub at_end: bool,
    /// Nothing waits, nothing has come for a while, and the source says that it has no more for now.
    pub idle: bool,
    /// Nothing will come after the records offered.
    pub end: bool,
    /// The offset after the last record that has come, offered or not.
    pub came: u64,
    /// Records offered whose time is not believed.
    pub refused: Vec<u64>,
    /// The source has nothing beyond what is offered or waits, for now or for good.
    pub spent: bool,
}

/// The state of one worker, sent to the authority whenever it changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The worker.
    pub worker: u32,
    /// The epoch that its offers are for; a report for an earlier one is out of date.
    pub next: Epoch,
    /// Its lanes.
    pub offers: Vec<Offer>,
    /// The reach that they end before, if there is one.
    pub reach: Option<Reach>,
    /// Its reader is at its end, or stopped, and nothing waits.
    pub done: bool,
    /// It is still reading the initial content of references, before which no event is bound.
    pub loading: bool,
    /// It has been asked to stop.
    pub stopping: bool,
    /// Keys with rows to repair: epochs are wanted even without records.
    pub backlog: u64,
    /// The last cut that its process has on disk.
    pub written: Option<Epoch>,
    /// The last epoch whose output its process's sinks have acknowledged.
    pub acknowledged: Option<Epoch>,
    /// The last epoch at whose end a dump began that this worker has given all pieces of.
    pub dumped: Option<Epoch>,
    /// The epoch at whose end the last cut began that its process could not write.
    pub cut_failed: Option<Epoch>,
    /// The last deployment that its process has made.
    pub deployment: DeploymentNumber,
    /// One that its process could not make, and why.
    pub deployment_failed: Option<(DeploymentNumber, String)>,
}
