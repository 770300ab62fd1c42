//! Rows waiting to be repaired: which stretch of each key's log a late change has touched.
//!
//! One late event on a busy merchant touches every later row inside the window, a million perhaps. So what is kept is not
//! rows but stretches of event time per key, merged as they come, and walked in bounded steps. While a stretch is being
//! walked, further marks of the same key wait for the next pass, so that a pass always ends and the newest rows are
//! reached even while late events keep coming.
//!
//! # Who is walked how far
//!
//! Which rows an epoch reads again must not depend on which worker owns which key: every revision in between is output. So
//! there is no queue that keys of one worker share. With `rows` and `keys` from the facts of the epoch ([`Repair`], the same
//! on all workers), each key is walked by itself:
//!
//! * a key that waits: `rows / keys` rows, at least one. The only key that waits gets all of them. Where nobody has counted
//!   the keys (a replay), a [`KEYS_ASSUMED`]th;
//! * a key that was marked in this epoch, and so is not among the counted: a [`KEYS_ASSUMED`]th, at most;
//! * if more keys wait than there are rows, one row each of about `rows` keys: those whose hash lies in an arc of the ring of
//!   all hashes that is `rows / keys` long and begins elsewhere in each epoch (golden ratio steps, so that every key's turn
//!   comes round). Keys that were just marked wait like the others.
//!
//! So an epoch reads about `rows` rows again whatever waits: what keeps fresh scores fast. What one key does not use is not
//! given to another in the same epoch; in the next one there are fewer keys to share with.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::event::Key;
use crate::flow::{Cause, Epoch, LAST, Place, Repair};

/// Event times from (exclusive, with the id that breaks ties) and through (inclusive), and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stretch {
    /// Rows after this position are touched.
    pub after: Place,
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

/// A key of a key kind, by its place on the ring.
type RingKey = (u32, u16, Key);

/// What waits of a key, as it is written down.
pub type StretchImage = (u16, Key, Stretch, Option<Stretch>);

/// Touched stretches by (key kind, key).
#[derive(Debug)]
pub struct Backlog {
    dirty: BTreeMap<RingKey, Dirty>,
    /// Those marked since the last repair, and not before.
    fresh: Vec<RingKey>,
    /// No stretch begins before this event time, milliseconds.
    oldest_ms: i64,
}

impl Default for Backlog {
    fn default() -> Self {
        Backlog { dirty: BTreeMap::new(), fresh: Vec::new(), oldest_ms: i64::MAX }
    }
}

/// Keys that share an epoch's rows where nobody has counted them.
pub const KEYS_ASSUMED: u64 = 16;

/// 2^32 divided by the golden ratio: multiples of it fall evenly on the ring.
const GOLDEN: u32 = 0x9e37_79b9;

/// How an epoch's rows are shared out.
#[derive(Clone, Copy, Debug)]
struct Shares {
    /// Rows per key.
    waiting: usize,
    fresh: usize,
    /// Where the arc begins and how long it is, if not all keys are walked.
    arc: Option<(u32, u32)>,
}

impl Shares {
    fn of(epoch: Epoch, repair: Repair) -> Self {
        let (rows, keys) = (repair.rows.max(1), repair.keys);
        let of = |keys: u64| (rows / keys).max(1) as usize;
        let waiting = of(if keys == 0 { KEYS_ASSUMED } else { keys });
        if keys <= rows {
            return Shares { waiting, fresh: of(KEYS_ASSUMED).min(waiting), arc: None };
        }
        let length = (u128::from(rows) << 32) / u128::from(keys);
        Shares { waiting, fresh: 0, arc: Some(((epoch as u32).wrapping_mul(GOLDEN), length.max(1) as u32)) }
    }
}

impl Backlog {
    /// Marks a stretch of a key as touched.
    pub fn mark(&mut self, plan: u16, key: Key, stretch: Stretch) {
        self.oldest_ms = self.oldest_ms.min(stretch.after.0);
        let seat = seat(plan, key);
        match self.dirty.get_mut(&seat) {
            None => {
                self.dirty.insert(seat, Dirty { now: stretch, next: None });
                self.fresh.push(seat);
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

    /// Walks the stretches as far as the epoch's share goes. `walk` visits the rows of a stretch, at most so many, and
    /// returns how many it visited and where it stopped, or `None` if it came to the end. To be called once per epoch.
    pub fn repair(
        &mut self,
        epoch: Epoch,
        repair: Repair,
        mut walk: impl FnMut(u16, Key, Stretch, usize) -> (usize, Option<Place>),
    ) {
        let mut fresh = std::mem::take(&mut self.fresh);
        if self.dirty.is_empty() {
            return;
        }
        let shares = Shares::of(epoch, repair);
        fresh.sort_unstable();
        let turns: Vec<RingKey> = match shares.arc {
            None => self.dirty.keys().copied().collect(),
            Some((from, length)) => {
                // The arc may lead over the end of the ring.
                let (first, last) = ((from, 0, Key::default()), from.checked_add(length - 1));
                let highest = |at| (at, u16::MAX, Key { hi: u64::MAX, lo: u64::MAX });
                let ahead = self.dirty.range(first..=highest(last.unwrap_or(u32::MAX)));
                let rest = last.is_none().then(|| self.dirty.range(..=highest(from.wrapping_add(length - 1))));
                ahead.chain(rest.into_iter().flatten()).map(|(&seat, _)| seat).collect()
            }
        };
        for seat in turns {
            let share = if fresh.binary_search(&seat).is_ok() { shares.fresh } else { shares.waiting };
            self.walk(seat, share, &mut walk);
        }
    }

    /// Walks the stretches of one key, at most so many rows.
    fn walk(
        &mut self,
        seat: RingKey,
        mut rows: usize,
        walk: &mut impl FnMut(u16, Key, Stretch, usize) -> (usize, Option<Place>),
    ) {
        let (_, plan, key) = seat;
        let Some(dirty) = self.dirty.get_mut(&seat) else { return };
        while rows > 0 {
            let (visited, stopped) = walk(plan, key, dirty.now, rows);
            rows = rows.saturating_sub(visited.max(1));
            match (stopped, dirty.next) {
                (Some(after), _) => dirty.now.after = after,
                (None, Some(next)) => (dirty.now, dirty.next) = (next, None),
                (None, None) => {
                    self.dirty.remove(&seat);
                    return;
                }
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
        for (&(_, plan, key), dirty) in &mut self.dirty {
            for stretch in [Some(&mut dirty.now), dirty.next.as_mut()].into_iter().flatten() {
                if stretch.after.0 < bound_ms {
                    walk(plan, key, Stretch { until_ms: stretch.until_ms.min(bound_ms - 1), ..*stretch });
                    stretch.after = stretch.after.max((bound_ms - 1, LAST));
                }
                self.oldest_ms = self.oldest_ms.min(stretch.after.0.max(bound_ms));
            }
        }
    }

    /// What waits, by shard: the key kind, the key, the stretch that is being walked, and the one after it.
    pub fn dump(&self, shard_of: impl Fn(Key) -> u32) -> BTreeMap<u32, Vec<StretchImage>> {
        let mut shards: BTreeMap<u32, Vec<StretchImage>> = BTreeMap::new();
        for (&(_, plan, key), &Dirty { now, next }) in &self.dirty {
            shards.entry(shard_of(key)).or_default().push((plan, key, now, next));
        }
        shards
    }

    /// Takes what another one has given.
    pub fn load(&mut self, stretches: Vec<StretchImage>) {
        for (plan, key, now, next) in stretches {
            self.oldest_ms =
                [Some(now), next].into_iter().flatten().map(|stretch| stretch.after.0).fold(self.oldest_ms, i64::min);
            self.dirty.insert(seat(plan, key), Dirty { now, next });
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

/// Where a key sits. The high half of its hash: the low bits have spread keys over workers.
fn seat(plan: u16, key: Key) -> RingKey {
    ((key.route() >> 32) as u32 ^ u32::from(plan).wrapping_mul(GOLDEN), plan, key)
}
