//! The facts of each epoch, as the operators of one worker see them: what beside its records they must know.
//!
//! Facts are minted with the binding ([`super::Binding`]) and logged with it. Operators steer by nothing else, so the same
//! bindings give the same output, revisions in between included, whatever the number of workers.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use serde::{Deserialize, Serialize};
use timely::progress::frontier::MutableAntichain;

use super::{DeploymentNumber, Epoch};

/// How many touched rows an epoch reads again, over all workers and operators; see [`crate::operators::backlog`] for how they
/// are shared out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repair {
    /// About so many rows.
    pub rows: u64,
    /// Keys with touched rows when the epoch was minted, over all workers; 0 if that is not known, as in a replay, whose
    /// epochs do not wait for each other.
    pub keys: u64,
}

impl Repair {
    /// Of an epoch that takes in so many records: it may read as many rows again, or the backlog would grow for ever. Only
    /// what is new counts: if rows read again did, repairs would make room for more repairs, and fresh rows would wait.
    pub fn of(rows_max: usize, records: u64, keys: u64) -> Self {
        Repair { rows: (rows_max as u64).max(records), keys }
    }
}

/// What is dumped at the end of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Dump {
    /// From here on operators dump what they keep, piece by piece.
    Begin,
    /// What is left; then what was dumped and asked since is what is kept at the end of this epoch.
    End,
    /// All at once.
    Whole,
}

/// All that an operator must know of an epoch beside its records. Nothing else steers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The epoch.
    pub epoch: Epoch,
    /// The watermark before the epoch before this one, milliseconds: what had expired when this one began, wherever it is kept.
    pub expired_ms: i64,
    /// The watermark before the epoch, milliseconds: what an event of the epoch may be late against.
    pub before_ms: i64,
    /// The watermark once the epoch's records are in, milliseconds of event time; `i64::MIN` before the first event.
    pub watermark_ms: i64,
    /// How much is repaired.
    pub repair: Repair,
    /// What is dumped at its end.
    pub dump: Option<Dump>,
    /// The deployment in force.
    pub deployment: DeploymentNumber,
}

/// The facts of recent epochs. The worker sets an epoch's before it closes the epoch; operators act on an epoch once it is
/// closed, hence always find them.
#[derive(Clone, Debug, Default)]
pub struct EpochFacts {
    epochs: Rc<RefCell<BTreeMap<Epoch, Facts>>>,
    /// Those of them at whose end something is dumped.
    dumps: Rc<RefCell<VecDeque<(Epoch, Dump)>>>,
}

/// Epochs whose facts are kept: more than can be in flight.
const EPOCHS_KEPT_MAX: usize = 1024;

impl EpochFacts {
    /// Goes on after an epoch with these facts.
    pub fn resume(&self, facts: Facts) {
        self.epochs.borrow_mut().insert(facts.epoch, facts);
    }

    /// Sets the facts of an epoch. A watermark that would go back is held, and the deployment before goes on without another one.
    pub fn set(
        &self,
        epoch: Epoch,
        watermark_ms: i64,
        repair: Repair,
        dump: Option<Dump>,
        deployment: Option<DeploymentNumber>,
    ) {
        let before = epoch.checked_sub(1).and_then(|before| self.last(before));
        let (expired_ms, before_ms) =
            before.map_or((i64::MIN, i64::MIN), |facts| (facts.before_ms, facts.watermark_ms));
        let deployment = deployment.or(before.map(|facts| facts.deployment)).unwrap_or_default();
        let mut epochs = self.epochs.borrow_mut();
        let watermark_ms = watermark_ms.max(before_ms);
        epochs.insert(epoch, Facts { epoch, expired_ms, before_ms, watermark_ms, repair, dump, deployment });
        while epochs.len() > EPOCHS_KEPT_MAX {
            epochs.pop_first();
        }
        let mut dumps = self.dumps.borrow_mut();
        dumps.extend(dump.map(|dump| (epoch, dump)));
        while dumps.front().is_some_and(|(dumped, _)| epoch - dumped > EPOCHS_KEPT_MAX as u64) {
            dumps.pop_front();
        }
    }

    /// The first epoch that an operator with these frontiers may still get something of: once they are all empty, the one after
    /// the last.
    pub fn open(&self, frontiers: &[MutableAntichain<Epoch>]) -> Epoch {
        let open = frontiers.iter().filter_map(|frontier| frontier.frontier().first().copied()).min();
        open.unwrap_or_else(|| self.latest().map_or(0, |last| last + 1))
    }

    /// The first epoch after `after` and before `until` at whose end something is dumped.
    pub fn dump_before(&self, until: Epoch, after: Option<Epoch>) -> Option<(Epoch, Dump)> {
        let dumps = self.dumps.borrow();
        let due = dumps.iter().find(|(epoch, _)| after.is_none_or(|after| *epoch > after));
        due.copied().filter(|(epoch, _)| *epoch < until)
    }

    /// The latest epoch that has facts.
    pub fn latest(&self) -> Option<Epoch> {
        self.epochs.borrow().last_key_value().map(|(&epoch, _)| epoch)
    }

    /// The facts of an epoch.
    pub fn of(&self, epoch: Epoch) -> Facts {
        match self.last(epoch) {
            Some(facts) if facts.epoch == epoch => facts,
            // Beyond the last epoch nothing happens any more.
            Some(last) => {
                let (expired_ms, before_ms) = (last.watermark_ms, last.watermark_ms);
                Facts { epoch, expired_ms, before_ms, watermark_ms: before_ms, dump: None, ..last }
            }
            None => {
                let (expired_ms, before_ms, watermark_ms) = (i64::MIN, i64::MIN, i64::MIN);
                let (repair, deployment) = (Repair::default(), 0);
                Facts { epoch, expired_ms, before_ms, watermark_ms, repair, dump: None, deployment }
            }
        }
    }

    /// The watermark before an epoch.
    pub fn before(&self, epoch: Epoch) -> i64 {
        self.of(epoch).before_ms
    }

    /// The watermark at the end of an epoch.
    pub fn at(&self, epoch: Epoch) -> i64 {
        self.of(epoch).watermark_ms
    }

    /// How much an epoch repairs.
    pub fn repair(&self, epoch: Epoch) -> Repair {
        self.of(epoch).repair
    }

    /// The deployment in force in an epoch.
    pub fn deployment(&self, epoch: Epoch) -> DeploymentNumber {
        self.of(epoch).deployment
    }

    fn last(&self, epoch: Epoch) -> Option<Facts> {
        self.epochs.borrow().range(..=epoch).next_back().map(|(_, &facts)| facts)
    }
}
