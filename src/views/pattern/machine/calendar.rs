//! When keys are looked through for expiry: each once in a few periods of event time, whatever comes in, and as late of those
//! as what it holds allows.
//!
//! A key costs its place in the list of a period, and nothing until that begins. A key that is gone stays in its list: its
//! place then says that it is due at another time, or never.

use std::collections::BTreeMap;

/// How many periods a key that has nothing to drop may be passed over: what comes meanwhile may be due before that.
const PERIODS_AHEAD: i64 = 3;

/// Places of keys, by the period from which on they are due.
#[derive(Debug)]
pub struct KeyCalendar {
    due: BTreeMap<i64, Vec<u32>>,
    /// The period to which expiry has come.
    now: i64,
}

impl Default for KeyCalendar {
    fn default() -> Self {
        KeyCalendar { due: BTreeMap::new(), now: i64::MIN }
    }
}

impl KeyCalendar {
    /// Puts a place to a period, if that is one of the next few; otherwise to the nearest of those. Returns which it is.
    #[inline]
    pub fn put(&mut self, slot: u32, period: i64) -> i64 {
        let next = self.now.saturating_add(1);
        let next = period.clamp(next, next.saturating_add(PERIODS_AHEAD));
        self.due.entry(next).or_default().push(slot);
        next
    }

    /// Expiry has come to a period.
    pub fn come_to(&mut self, period: i64) {
        self.now = self.now.max(period);
    }

    /// The place that is due after so many others, if that is easy to say.
    pub fn ahead(&self, others: usize) -> Option<u32> {
        let (period, slots) = self.due.first_key_value()?;
        let at = slots.len().checked_sub(1 + others)?;
        slots.get(at).copied().filter(|_| *period <= self.now)
    }

    /// Takes out a place that is due, and the period to which it was put.
    pub fn take(&mut self) -> Option<(i64, u32)> {
        let mut first = self.due.first_entry().filter(|first| *first.key() <= self.now)?;
        let period = *first.key();
        let slot = first.get_mut().pop();
        if first.get().is_empty() {
            first.remove();
        }
        slot.map(|slot| (period, slot))
    }
}
