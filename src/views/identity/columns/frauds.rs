//! Known frauds by account, each from the time it became known.

use std::collections::BTreeSet;

use hashbrown::HashMap;

use super::super::links::Calendar;
use crate::event::{Id, Key};

/// How long a fraud is remembered after it became known, milliseconds: a year.
pub const FRAUD_MEMORY_MS: i64 = 365 * 86_400_000;

/// Frauds, known and not yet known.
#[derive(Debug)]
pub struct Frauds {
    by_event: HashMap<Id, (Key, i64)>,
    /// What is known.
    by_account: HashMap<Key, BTreeSet<(i64, Id)>>,
    /// What becomes known later, and what is known, by when; some of it was taken back since.
    pending: Calendar<Id>,
    known: Calendar<Id>,
}

impl Default for Frauds {
    fn default() -> Self {
        let calendar = || Calendar::new(FRAUD_MEMORY_MS);
        let (by_event, by_account) = (HashMap::default(), HashMap::default());
        Frauds { by_event, by_account, pending: calendar(), known: calendar() }
    }
}

impl Frauds {
    /// Sets what is said of an event: fraud, known from a time on, or nothing (`i64::MAX`). Calls `changed` for accounts
    /// whose known frauds change.
    pub fn set(&mut self, id: Id, account: Key, known_at_ms: i64, now_ms: i64, mut changed: impl FnMut(Key)) {
        if let Some((before, at)) = self.by_event.remove(&id)
            && self.forget(at, id, before)
        {
            changed(before);
        }
        if known_at_ms == i64::MAX || known_at_ms <= now_ms.saturating_sub(FRAUD_MEMORY_MS) {
            return;
        }
        self.by_event.insert(id, (account, known_at_ms));
        if known_at_ms > now_ms {
            self.pending.put(known_at_ms, id);
        } else {
            self.know(known_at_ms, id, account);
            changed(account);
        }
    }

    /// Every fraud that is known or becomes so, by event, in no order: the account, and from when on.
    pub fn all(&self) -> Vec<(Id, Key, i64)> {
        self.by_event.iter().map(|(&id, &(account, at))| (id, account, at)).collect()
    }

    /// The same as of a time.
    pub fn load(image: &[(Id, Key, i64)], now_ms: i64) -> Self {
        let mut frauds = Frauds::default();
        image.iter().for_each(|&(id, account, at)| frauds.set(id, account, at, now_ms, |_| {}));
        frauds
    }

    /// Time has come to `now_ms`: some frauds become known, old ones are forgotten, at most so many.
    pub fn advance(&mut self, now_ms: i64, steps_max: &mut usize, mut changed: impl FnMut(Key)) {
        while *steps_max > 0 {
            let Some((at, id)) = self.pending.take(now_ms) else { break };
            *steps_max -= 1;
            if let Some(account) = self.said(id, at) {
                self.know(at, id, account);
                changed(account);
            }
        }
        while *steps_max > 0 {
            let Some((at, id)) = self.known.take(now_ms.saturating_sub(FRAUD_MEMORY_MS)) else { break };
            *steps_max -= 1;
            if let Some(account) = self.said(id, at) {
                self.by_event.remove(&id);
                self.forget(at, id, account);
                changed(account);
            }
        }
    }

    /// Known frauds of an account and when the last became known; `None` without any.
    pub fn of(&self, account: Key) -> Option<(u32, i64)> {
        let frauds = self.by_account.get(&account)?;
        Some((frauds.len() as u32, frauds.last()?.0))
    }

    /// Whether nothing is known or pending.
    pub fn is_empty(&self) -> bool {
        self.by_event.is_empty()
    }

    /// The account of an event that is said to be a fraud from a time on.
    fn said(&self, id: Id, at: i64) -> Option<Key> {
        self.by_event.get(&id).filter(|(_, said)| *said == at).map(|(account, _)| *account)
    }

    fn know(&mut self, at: i64, id: Id, account: Key) {
        self.by_account.entry(account).or_default().insert((at, id));
        self.known.put(at, id);
    }

    /// False if it was not known.
    fn forget(&mut self, at: i64, id: Id, account: Key) -> bool {
        let Some(frauds) = self.by_account.get_mut(&account) else { return false };
        let known = frauds.remove(&(at, id));
        if frauds.is_empty() {
            self.by_account.remove(&account);
        }
        known
    }
}
