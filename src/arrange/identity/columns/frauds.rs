//! Known frauds by account, each from the time it became known.

use std::collections::{BTreeMap, BTreeSet};

use hashbrown::HashMap;

use crate::event::{Id, Key};

/// How long a fraud is remembered after it became known, milliseconds: a year.
pub const FRAUD_MEMORY_MS: i64 = 365 * 86_400_000;

/// Frauds, known and not yet known.
#[derive(Debug, Default)]
pub struct Frauds {
    by_event: HashMap<Id, (Key, i64)>,
    by_account: HashMap<Key, BTreeSet<(i64, Id)>>,
    /// What becomes known later.
    pending: BTreeMap<(i64, Id), Key>,
    /// What is known, by when it became so.
    known: BTreeMap<(i64, Id), Key>,
}

impl Frauds {
    /// Sets what is said of an event: fraud, known from a time on, or nothing (`i64::MAX`). Calls `changed` for accounts
    /// whose known frauds change.
    pub fn set(&mut self, id: Id, account: Key, known_at_ms: i64, now_ms: i64, mut changed: impl FnMut(Key)) {
        if let Some((before, at)) = self.by_event.remove(&id)
            && self.pending.remove(&(at, id)).is_none()
        {
            self.forget(at, id, before);
            changed(before);
        }
        if known_at_ms == i64::MAX || known_at_ms <= now_ms.saturating_sub(FRAUD_MEMORY_MS) {
            return;
        }
        self.by_event.insert(id, (account, known_at_ms));
        if known_at_ms > now_ms {
            self.pending.insert((known_at_ms, id), account);
        } else {
            self.know(known_at_ms, id, account);
            changed(account);
        }
    }

    /// Every fraud that is known or becomes so, by event: the account, and from when on.
    pub fn dump(&self) -> Vec<(Id, Key, i64)> {
        let mut frauds: Vec<_> = self.by_event.iter().map(|(&id, &(account, at))| (id, account, at)).collect();
        frauds.sort_unstable();
        frauds
    }

    /// The same as of a time.
    pub fn load(image: &[(Id, Key, i64)], now_ms: i64) -> Self {
        let mut frauds = Frauds::default();
        image.iter().for_each(|&(id, account, at)| frauds.set(id, account, at, now_ms, |_| {}));
        frauds
    }

    /// Time has come to `now_ms`: some frauds become known, old ones are forgotten, at most so many.
    pub fn advance(&mut self, now_ms: i64, steps_max: &mut usize, mut changed: impl FnMut(Key)) {
        let mut step = || steps_max.checked_sub(1).map(|left| *steps_max = left).is_some();
        while let Some(entry) = self.pending.first_entry().filter(|entry| entry.key().0 <= now_ms && step()) {
            let ((at, id), account) = entry.remove_entry();
            self.know(at, id, account);
            changed(account);
        }
        let forgotten_ms = now_ms.saturating_sub(FRAUD_MEMORY_MS);
        while let Some((&(at, id), &account)) =
            self.known.first_key_value().filter(|(known, _)| known.0 <= forgotten_ms && step())
        {
            self.by_event.remove(&id);
            self.forget(at, id, account);
            changed(account);
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

    fn know(&mut self, at: i64, id: Id, account: Key) {
        self.by_account.entry(account).or_default().insert((at, id));
        self.known.insert((at, id), account);
    }

    fn forget(&mut self, at: i64, id: Id, account: Key) {
        self.known.remove(&(at, id));
        if let Some(frauds) = self.by_account.get_mut(&account) {
            frauds.remove(&(at, id));
            if frauds.is_empty() {
                self.by_account.remove(&account);
            }
        }
    }
}
