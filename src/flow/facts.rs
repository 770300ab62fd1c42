//! The facts of each epoch, as the operators of one worker see them: what beside its records they must know.
//!
//! Facts are minted with the binding ([`super::Binding`]) and logged with it. Operators steer by nothing else, so the same
//! bindings give the same output, revisions in between included, whatever the number of workers.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use super::Epoch;

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

/// What holds of one epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The watermark once the epoch's records are in, milliseconds of event time; `i64::MIN` before the first event.
    pub watermark_ms: i64,
    /// How much is repaired.
    pub repair: Repair,
}

/// The facts of recent epochs. The worker sets an epoch's before it closes the epoch; operators act on an epoch once it is
/// closed, hence always find them.
#[derive(Clone, Debug, Default)]
pub struct EpochFacts(Rc<RefCell<BTreeMap<Epoch, Facts>>>);

/// Epochs whose facts are kept: more than can be in flight.
const EPOCHS_KEPT_MAX: usize = 1024;

impl EpochFacts {
    /// Sets the facts of an epoch. A watermark that would go back is held.
    pub fn set(&self, epoch: Epoch, facts: Facts) {
        let mut epochs = self.0.borrow_mut();
        let reached = epochs.last_key_value().map_or(i64::MIN, |(_, reached)| reached.watermark_ms);
        epochs.insert(epoch, Facts { watermark_ms: facts.watermark_ms.max(reached), ..facts });
        while epochs.len() > EPOCHS_KEPT_MAX {
            epochs.pop_first();
        }
    }

    /// The latest epoch that has facts.
    pub fn latest(&self) -> Option<Epoch> {
        self.0.borrow().last_key_value().map(|(&epoch, _)| epoch)
    }

    /// The watermark before an epoch: what an event of the epoch may be late against.
    pub fn before(&self, epoch: Epoch) -> i64 {
        epoch.checked_sub(1).map_or(i64::MIN, |before| self.at(before))
    }

    /// The watermark at the end of an epoch; `i64::MIN` before the first event.
    pub fn at(&self, epoch: Epoch) -> i64 {
        self.last(epoch).map_or(i64::MIN, |facts| facts.watermark_ms)
    }

    /// How much an epoch repairs.
    pub fn repair(&self, epoch: Epoch) -> Repair {
        self.last(epoch).map_or_else(Repair::default, |facts| facts.repair)
    }

    fn last(&self, epoch: Epoch) -> Option<Facts> {
        self.0.borrow().range(..=epoch).next_back().map(|(_, &facts)| facts)
    }
}
