//! What the events of each account add up to in the windows of the tallies, whether the account has live links or not.
//!
//! An event counts from when it comes until its time is a window ago; a late one for the rest, a withdrawn one no longer.
//! So at any time the totals are those of the events that hold and are in the window, in whatever order they came.
//!
//! Cost: 40 bytes per event and tally that it counts in, for the length of the window; a look-up when it comes and one
//! when it leaves.

use serde::{Deserialize, Serialize};

use super::super::links::{Calendar, FrozenCalendar};
use super::super::request::EntityRequest;
use super::facts::{Payments, Tallies};
use super::tally::TalliesPlan;
use crate::event::{Key, MapKey};
use crate::operators::ShardedMap;

/// Totals by account.
#[derive(Debug)]
pub struct Ledger {
    windows_ms: Vec<i64>,
    by_account: ShardedMap<Tallies>,
    /// By tally: events that leave its window.
    leaving: Vec<Calendar<(Key, Payments)>>,
}

/// The events of one tally that are in its window.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TallyImage {
    /// The window, milliseconds.
    pub window_ms: i64,
    /// By time and account: what counts until that time is a window ago.
    pub events: Vec<(i64, Key, Payments)>,
}

/// Adds up entries of one time and one owner, puts them in order, and leaves out what comes to nothing.
pub(in super::super) fn merged<K: Copy + Ord>(
    entries: impl Iterator<Item = (i64, K, Payments)>,
) -> Vec<(i64, K, Payments)> {
    let mut entries: Vec<_> = entries.collect();
    entries.sort_unstable();
    entries.dedup_by(|(time_ms, owner, more), (kept_ms, kept_owner, kept)| {
        let same = (*time_ms, *owner) == (*kept_ms, *kept_owner);
        if same {
            kept.add(*more);
        }
        same
    });
    entries.retain(|(_, _, events)| *events != Payments::default());
    entries
}

/// What an image of a ledger is made of, as it was.
#[derive(Debug)]
pub struct FrozenLedger {
    windows_ms: Vec<i64>,
    leaving: Vec<FrozenCalendar<(Key, Payments)>>,
}

impl FrozenLedger {
    /// What counts in tallies.
    pub fn image(&self) -> Vec<TallyImage> {
        let tallies = self.windows_ms.iter().zip(&self.leaving);
        let tallies = tallies.map(|(&window_ms, leaving)| {
            let entries = leaving.entries().map(|&(time_ms, (account, events))| (time_ms, account, events));
            TallyImage { window_ms, events: merged(entries) }
        });
        tallies.collect()
    }
}

impl Ledger {
    /// Nothing has happened yet.
    pub fn new(plan: &TalliesPlan) -> Self {
        let windows_ms: Vec<i64> = plan.tallies.iter().map(|tally| tally.window_ms).collect();
        let leaving = windows_ms.iter().map(|&window_ms| Calendar::new(window_ms)).collect();
        Ledger { windows_ms, by_account: ShardedMap::default(), leaving }
    }

    /// Counts an event, or takes it back. True if that changes what its account adds up to.
    pub fn count(&mut self, request: &EntityRequest, back: bool, now_ms: i64) -> bool {
        let event = Payments::new(1, request.amount);
        let event = if back { event.negated() } else { event };
        let mut changes = false;
        for place in 0..self.windows_ms.len() {
            let in_window = request.time_ms > now_ms.saturating_sub(self.windows_ms[place]);
            if request.counted >> place & 1 == 1 && in_window {
                self.add(request.account, place, event);
                self.leaving[place].put(request.time_ms, (request.account, event));
                changes = true;
            }
        }
        changes
    }

    /// Time has come to `now_ms`: events leave, at most so many. Calls `changed` for their accounts.
    pub fn advance(&mut self, now_ms: i64, steps_max: &mut usize, mut changed: impl FnMut(Key)) {
        for place in 0..self.windows_ms.len() {
            let bound_ms = now_ms.saturating_sub(self.windows_ms[place]);
            while *steps_max > 0 {
                let Some((_, (account, event))) = self.leaving[place].take(bound_ms) else { break };
                *steps_max -= 1;
                self.add(account, place, event.negated());
                changed(account);
            }
        }
    }

    /// What the events of an account add up to.
    pub fn of(&self, account: Key) -> Tallies {
        self.by_account.get(&account.into()).copied().unwrap_or_default()
    }

    /// What its image is made of.
    pub fn freeze(&mut self) -> FrozenLedger {
        let leaving = self.leaving.iter_mut().map(Calendar::freeze).collect();
        FrozenLedger { windows_ms: self.windows_ms.clone(), leaving }
    }

    /// The tallies of an image. The error says what does not fit.
    pub fn load(plan: &TalliesPlan, image: &[TallyImage]) -> Result<Self, String> {
        let mut ledger = Ledger::new(plan);
        let windows_ms: Vec<i64> = image.iter().map(|tally| tally.window_ms).collect();
        if windows_ms != ledger.windows_ms {
            return Err(format!("counts over windows of {windows_ms:?} ms, not {:?}", ledger.windows_ms));
        }
        for (place, tally) in image.iter().enumerate() {
            for &(time_ms, account, events) in &tally.events {
                ledger.add(account, place, events);
                ledger.leaving[place].put(time_ms, (account, events));
            }
        }
        Ok(ledger)
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        let entries: usize = self.leaving.iter().map(Calendar::len).sum();
        entries * size_of::<(i64, (Key, Payments))>() + self.by_account.table_bytes()
    }

    fn add(&mut self, account: Key, place: usize, event: Payments) {
        let account = MapKey::from(account);
        let mut tallies = self.by_account.get(&account).copied().unwrap_or_default();
        tallies.add_one(place, event);
        if tallies == Tallies::default() {
            self.by_account.remove(&account);
        } else {
            self.by_account.insert(account, tallies);
        }
    }
}
