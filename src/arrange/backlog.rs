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

use crate::epoch::{Epoch, Repair};
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

/// A key of a key kind, by its place on the ring.
type Seat = (u32, u16, Key);

/// Touched stretches by (key kind, key).
#[derive(Debug)]
pub struct Backlog {
    dirty: BTreeMap<Seat, Dirty>,
    /// Those marked since the last repair, and not before.
    fresh: Vec<Seat>,
    /// No stretch begins before this event time, milliseconds.
    oldest_ms: i64,
}

impl Default for Backlog {
    fn default() -> Self {
        Backlog { dirty: BTreeMap::new(), fresh: Vec::new(), oldest_ms: i64::MAX }
    }
}

/// After every id of a millisecond.
pub const LAST: Id = Id { hi: u64::MAX, lo: u64::MAX };

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
        mut walk: impl FnMut(u16, Key, Stretch, usize) -> (usize, Option<(i64, Id)>),
    ) {
        let mut fresh = std::mem::take(&mut self.fresh);
        if self.dirty.is_empty() {
            return;
        }
        let shares = Shares::of(epoch, repair);
        fresh.sort_unstable();
        let turns: Vec<Seat> = match shares.arc {
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
        seat: Seat,
        mut rows: usize,
        walk: &mut impl FnMut(u16, Key, Stretch, usize) -> (usize, Option<(i64, Id)>),
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
fn seat(plan: u16, key: Key) -> Seat {
    ((key.route() >> 32) as u32 ^ u32::from(plan).wrapping_mul(GOLDEN), plan, key)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Rows per key in the test: row `n` at time `n`.
    const ROWS: i64 = 200;

    /// Repairs marks on so many workers; the rows walked in each epoch, and what is left.
    fn walked(
        workers: u64,
        epochs: Epoch,
        repair: impl Fn(Epoch, usize) -> Repair,
    ) -> (Vec<BTreeMap<(u64, i64), usize>>, usize) {
        let mut backlogs: Vec<Backlog> = (0..workers).map(|_| Backlog::default()).collect();
        let mut all = Vec::new();
        for epoch in 0..epochs {
            // Keys are marked in turns, some again while they are walked.
            for n in (0..40).filter(|n| (n * 7 + epoch) % 11 == 0 && epoch < 60) {
                let key = Key::from_int(n as i64);
                let stretch =
                    Stretch { after: ((n + epoch) as i64 % 50, LAST), until_ms: ROWS - 1, cause: Cause::LateEvent };
                backlogs[(key.route() % workers) as usize].mark(3, key, stretch);
            }
            let waiting = backlogs.iter().map(Backlog::len).sum();
            let mut rows = BTreeMap::new();
            for backlog in &mut backlogs {
                let mut visit = |key: Key, stretch: Stretch, limit: usize| {
                    let first = stretch.after.0 + 1;
                    let last = stretch.until_ms.min(first + limit as i64 - 1);
                    (first..=last).for_each(|row| *rows.entry((key.lo, row)).or_default() += 1);
                    let visited = (last - first + 1).max(0) as usize;
                    (visited, (last < stretch.until_ms).then_some((last, LAST)))
                };
                backlog.hasten(epoch as i64 / 3, |_, key, stretch| drop(visit(key, stretch, usize::MAX >> 1)));
                backlog.repair(epoch, repair(epoch, waiting), |_, key, stretch, limit| visit(key, stretch, limit));
            }
            all.push(rows);
        }
        (all, backlogs.iter().map(Backlog::len).sum())
    }

    #[test]
    fn the_number_of_workers_does_not_decide_which_rows_are_walked() {
        let budgets: [&dyn Fn(Epoch, usize) -> Repair; 4] = [
            &|_, _| Repair { rows: 64, keys: 0 },
            &|_, waiting| Repair { rows: 64, keys: waiting as u64 },
            // Fewer rows than keys: they take turns.
            &|epoch, waiting| Repair { rows: 1 + epoch % 9, keys: waiting as u64 },
            &|epoch, _| Repair { rows: 5, keys: epoch * 7 % 50 },
        ];
        for (case, budget) in budgets.iter().enumerate() {
            let (one, left) = walked(1, 3_000, budget);
            assert_eq!(left, 0, "budget {case}: everything is walked in the end");
            assert!(one.iter().map(BTreeMap::len).sum::<usize>() > 1_000);
            for workers in 2..=5 {
                assert_eq!(walked(workers, 3_000, budget).0, one, "budget {case} on {workers} workers");
            }
        }
    }

    #[test]
    fn the_budget_is_shared_out_and_a_key_alone_gets_all_of_it() {
        let shares = |rows, keys| Shares::of(7, Repair { rows, keys });
        assert_eq!((shares(64, 1).waiting, shares(64, 1).fresh), (64, 4));
        assert_eq!((shares(64, 0).waiting, shares(64, 0).fresh), (4, 4));
        assert_eq!((shares(64, 32).waiting, shares(64, 32).fresh), (2, 2));
        assert!(shares(64, 64).arc.is_none());
        let crowded = shares(64, 6_400);
        assert_eq!((crowded.waiting, crowded.fresh), (1, 0));
        assert!(crowded.arc.is_some_and(|(_, length)| length.abs_diff(u32::MAX / 100) < 2));
        assert_eq!(shares(0, 0).waiting, 1, "a log without the fact still gets on");

        let mut backlog = Backlog::default();
        for n in 0..6_400 {
            let stretch = Stretch { after: (0, LAST), until_ms: 100, cause: Cause::LateEvent };
            backlog.mark(0, Key::from_int(n), stretch);
        }
        let mut per_epoch = Vec::new();
        for epoch in 0..100 {
            let mut rows = 0;
            backlog.repair(epoch, Repair { rows: 64, keys: 6_400 }, |_, _, stretch, limit| {
                rows += limit;
                (limit, Some((stretch.after.0 + limit as i64, LAST)))
            });
            per_epoch.push(rows);
        }
        // The first epoch has marked them all.
        let (least, most) = (per_epoch[1..].iter().min(), per_epoch.iter().max());
        assert!(per_epoch[0] == 0 && least > Some(&20) && most < Some(&120), "{per_epoch:?}");
    }
}
