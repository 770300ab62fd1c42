//! Rows waiting to be repaired: which stretch of each key's log a late change has touched.
//!
//! One late event on a busy merchant touches every later row inside the window, a million perhaps. So what is kept is not
//! rows but stretches of event time per key, merged as they come, and walked in bounded steps. While a stretch is being
//! walked, further marks of the same key wait for the next pass, so that a pass always ends and the newest rows are
//! reached even while late events keep coming.

use std::collections::{BTreeMap, VecDeque};

use crate::event::{Id, Key};

use super::change::Cause;

/// Event times from (exclusive, with the id that breaks ties) and through (inclusive), and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Rows after this position are touched.
    pub after: (i64, Id),
    /// Rows up to this event time are touched, milliseconds.
    pub until_ms: i64,
    /// The cause that the repaired rows are sent with.
    pub cause: Cause,
}

#[derive(Debug)]
struct Dirty {
    now: Stretch,
    next: Option<Stretch>,
}

/// Touched stretches by (key kind, key); keys take turns.
#[derive(Debug)]
pub struct Backlog {
    dirty: BTreeMap<(u16, Key), Dirty>,
    turns: VecDeque<(u16, Key)>,
    /// No stretch begins before this event time, milliseconds.
    oldest_ms: i64,
}

impl Default for Backlog {
    fn default() -> Self {
        Backlog { dirty: BTreeMap::new(), turns: VecDeque::new(), oldest_ms: i64::MAX }
    }
}

/// After every id of a millisecond.
pub const LAST: Id = Id { hi: u64::MAX, lo: u64::MAX };

impl Backlog {
    /// Marks a stretch of a key as touched.
    pub fn mark(&mut self, plan: u16, key: Key, stretch: Stretch) {
        self.oldest_ms = self.oldest_ms.min(stretch.after.0);
        match self.dirty.get_mut(&(plan, key)) {
            None => {
                self.dirty.insert((plan, key), Dirty { now: stretch, next: None });
                self.turns.push_back((plan, key));
            }
            // Ahead of the walk: this pass reaches it.
            Some(dirty) if stretch.after >= dirty.now.after => {
                dirty.now.until_ms = dirty.now.until_ms.max(stretch.until_ms);
            }
            Some(dirty) => {
                let next = dirty.next.get_or_insert(stretch);
                next.after = next.after.min(stretch.after);
                next.until_ms = next.until_ms.max(stretch.until_ms);
            }
        }
    }

    /// Walks the stretches until `budget` rows are visited. `walk` visits the rows of a stretch, at most so many, and
    /// returns how many it visited and where it stopped, or `None` if it came to the end.
    pub fn repair(
        &mut self,
        mut budget: usize,
        mut walk: impl FnMut(u16, Key, Stretch, usize) -> (usize, Option<(i64, Id)>),
    ) {
        while budget > 0 {
            let Some((plan, key)) = self.turns.pop_front() else { return };
            let Some(dirty) = self.dirty.get_mut(&(plan, key)) else { continue };
            let (visited, stopped) = walk(plan, key, dirty.now, budget);
            budget = budget.saturating_sub(visited.max(1));
            match (stopped, dirty.next.take()) {
                (Some(after), next) => {
                    dirty.now.after = after;
                    dirty.next = next;
                    self.turns.push_back((plan, key));
                }
                (None, Some(next)) => {
                    dirty.now = next;
                    self.turns.push_back((plan, key));
                }
                (None, None) => drop(self.dirty.remove(&(plan, key))),
            }
        }
    }

    /// Walks every row before `bound_ms`, however many: rows that could not be read any more if they waited longer. Costs
    /// nothing as long as no stretch begins before it, else a look at every stretch.
    pub fn hasten(&mut self, bound_ms: i64, mut walk: impl FnMut(u16, Key, Stretch)) {
        if self.oldest_ms >= bound_ms {
            return;
        }
        self.oldest_ms = i64::MAX;
        for (&(plan, key), dirty) in &mut self.dirty {
            for stretch in [Some(&mut dirty.now), dirty.next.as_mut()].into_iter().flatten() {
                if stretch.after.0 < bound_ms {
                    walk(plan, key, Stretch { until_ms: stretch.until_ms.min(bound_ms - 1), ..*stretch });
                    stretch.after = stretch.after.max((bound_ms - 1, LAST));
                }
                self.oldest_ms = self.oldest_ms.min(stretch.after.0.max(bound_ms));
            }
        }
    }

    /// Keys with touched rows.
    pub fn len(&self) -> usize {
        self.dirty.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.dirty.is_empty()
    }
}
