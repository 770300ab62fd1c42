//! The watermark of each epoch, as the operators of one worker see it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::Epoch;

/// The watermarks of recent epochs, milliseconds of event time. The worker sets an epoch's watermark before it closes
/// the epoch; operators act on an epoch once it is closed, hence always find it.
#[derive(Clone, Debug, Default)]
pub struct Watermarks(Rc<RefCell<BTreeMap<Epoch, i64>>>);

/// Epochs whose watermark is kept: more than can be in flight.
const EPOCHS_KEPT_MAX: usize = 1024;

impl Watermarks {
    /// Sets the watermark of an epoch. A watermark that would go back is held.
    pub fn set(&self, epoch: Epoch, watermark_ms: i64) {
        let mut epochs = self.0.borrow_mut();
        let reached = epochs.last_key_value().map_or(i64::MIN, |(_, &reached)| reached);
        epochs.insert(epoch, watermark_ms.max(reached));
        while epochs.len() > EPOCHS_KEPT_MAX {
            epochs.pop_first();
        }
    }

    /// The latest epoch that has a watermark.
    pub fn latest(&self) -> Option<Epoch> {
        self.0.borrow().last_key_value().map(|(&epoch, _)| epoch)
    }

    /// The watermark before an epoch: what an event of the epoch may be late against.
    pub fn before(&self, epoch: Epoch) -> i64 {
        epoch.checked_sub(1).map_or(i64::MIN, |before| self.at(before))
    }

    /// The watermark at the end of an epoch; `i64::MIN` before the first event.
    pub fn at(&self, epoch: Epoch) -> i64 {
        self.0.borrow().range(..=epoch).next_back().map_or(i64::MIN, |(_, &watermark)| watermark)
    }
}
