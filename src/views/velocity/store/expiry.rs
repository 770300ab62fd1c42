//! Expiry: a sweep over all keys in bounded slices.
//!
//! A sweep begins once the bound has moved by a [`SWEEPS_PER_WINDOW`]th of the longest window since the last one began, so
//! that a store holds a little more than it must and is not swept all the time. Between sweeps a log drops what has
//! expired when it would have to grow.

use super::Store;

/// Sweeps while the bound moves by the length of the longest window.
const SWEEPS_PER_WINDOW: i64 = 8;

/// Places of the map that are looked ahead, as the times of each log are somewhere else in memory.
const BUCKETS_AHEAD: usize = 8;

/// Where the sweep stands.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    running: bool,
    /// The bound when the last one began.
    began_ms: Option<i64>,
    shard: usize,
    bucket: usize,
    /// Buckets of the shard when it was entered: a map that grew in between is swept from its start.
    buckets: usize,
}

impl Store {
    /// Drops entries with a time before the bound, doing about `budget` units of work (keys looked at and entries dropped);
    /// call again to go on. Returns the work done; 0 if there is none until the bound moves on.
    ///
    /// A long log drops whole chunks of up to 64 entries and a short one drops no less than a quarter of its entries, so up
    /// to 63 entries before the bound may stay with a key that goes on. The bound never moves back.
    pub fn expire(&mut self, entries_before_ms: i64, budget: usize) -> usize {
        self.bound_ms = self.bound_ms.max(entries_before_ms);
        if !self.sweep.running {
            let step_ms = self.plan.window_ms_max / SWEEPS_PER_WINDOW;
            let due = self
                .sweep
                .began_ms
                .is_none_or(|began| self.bound_ms > began && self.bound_ms.saturating_sub(began) >= step_ms);
            if !due || self.entries == 0 && self.shards.iter().all(|shard| shard.len() == 0) {
                return 0;
            }
            self.sweep = Sweep { running: true, began_ms: Some(self.bound_ms), ..Sweep::default() };
            self.sweep.buckets = self.shards[0].buckets();
        }
        let mut work = 0;
        while work < budget && self.sweep.running {
            work += self.sweep_one(budget - work);
        }
        work
    }

    /// Looks at one place of the maps.
    fn sweep_one(&mut self, budget: usize) -> usize {
        let shard = &mut self.shards[self.sweep.shard];
        if shard.buckets() != self.sweep.buckets {
            (self.sweep.buckets, self.sweep.bucket) = (shard.buckets(), 0);
        }
        if self.sweep.bucket >= self.sweep.buckets {
            shard.shrink();
            self.sweep.shard += 1;
            self.sweep.bucket = 0;
            match self.shards.get(self.sweep.shard) {
                Some(next) => self.sweep.buckets = next.buckets(),
                None => self.sweep.running = false,
            }
            return 1;
        }
        let bucket = self.sweep.bucket;
        if let Some(ahead) = shard.peek(bucket + BUCKETS_AHEAD) {
            ahead.look_ahead_at_oldest();
        }
        let Some(log) = shard.at(bucket) else {
            self.sweep.bucket += 1;
            return 1;
        };
        let bytes = log.bytes(&self.program);
        let dropped = log.expire(&self.program, self.bound_ms, budget);
        self.entries -= dropped;
        let silent = log.base.as_ref().is_none_or(|base| base.last < self.bound_ms.saturating_sub(self.forget_ms));
        if log.len() == 0 && silent {
            self.heap_bytes -= bytes;
            shard.remove_at(bucket);
            self.sweep.bucket += 1;
        } else {
            self.heap_bytes = self.heap_bytes + log.bytes(&self.program) - bytes;
            // A long log with more to drop than the budget is come back to.
            self.sweep.bucket += usize::from(!log.has_more_to_expire(self.bound_ms));
        }
        1 + dropped
    }
}
