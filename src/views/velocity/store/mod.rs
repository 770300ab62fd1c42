//! The velocity store: the entries of all keys of one kind, and their features as of any stored entry.
//!
//! ```text
//!  key ──> shard ──> log of the key: entries in (time, id) order, column beside column
//!                      │  up to 128: one chunk     more: chunks of 64, sums, extremes and marks per chunk beside them
//!                      └─ base: sums of what has expired (plans with an all-time feature)
//! ```
//!
//! **In**: entries (insert, remove, relabel) in any order. **Out**: one `f64` per feature of the plan.
//!
//! What holds: a read depends on the set of stored entries alone, never on the order in which they came, on what was read
//! before, or on when expiry ran. State is integers of as many bits as it takes, so nothing wraps; a double is made once, at
//! the end. An event's window of length W and
//! lag D is `(t - D - W, t - D]`; without lag it ends before the event in (time, id) order, or with it where the current
//! event counts. With a lag every entry at a time in the window counts. Where labels must be known, an entry counts if
//! `known_at <= t`.
//!
//! Numbers of something (count, sum, distinct, burst, streak, repeat) are 0 in an empty window, "is new" is 1, all others
//! are missing: the feature's default, NaN unless it says otherwise. "Since the last" is always counted from the last
//! entry before the current one. A measure that compares with the current event ([`AMOUNT_MISSING`], [`VALUE_MISSING`])
//! is missing if that event lacks the field.
//!
//! An all-time feature counts what the key has had since it was last silent for so long that it was forgotten
//! ([`Store::forgetting_after`], [`ALL_TIME_IDLE_MS`] unless told otherwise), whatever the horizon: an in-order entry
//! after a longer silence starts the key anew, and a key silent for so long before the expiry bound is dropped.
//!
//! Cost, n entries of the key, w in the window: count, sum, mean, std, ratio O(log n); min, max, distinct O(log n + w / 4096)
//! in order, and a re-read of distinct grows with the entries behind the event; a late insertion O(n / 64) additions.
//! Gaps, entropy, top share, quantile, percent rank, burst, repeat, streak (up to its reset) and everything `as known` are
//! O(w), as is "since" where few entries count, and what needs squares (deviation, z-score) where the count times the largest
//! amount reaches 2^63. Memory, all included: 57 bytes per entry with one
//! column and tens of entries per key, 109 in pairs with two entries each, 60-170 in the payments pack.
//!
//! What an insertion and its read cost is cache lines: the key's place in the map, the end of each column, the times at
//! each window's border (found by hints), one word per condition counted, and the amounts in the windows.

mod aggregate;
mod chunk;
mod distinct;
mod expiry;
mod image;
mod log;
mod long;
mod program;
mod read;
mod scan;
mod shard;
mod squares;

pub use image::StoreImage;

use std::cell::RefCell;
use std::sync::Arc;

use chunk::SCORED;
use expiry::Sweep;
use program::ReadProgram;
use read::Scratch;
use shard::Shard;

use crate::event::{Id, Key};
use crate::flow::{LAST, Place};
use crate::views::velocity::KeyPlan;

/// An all-time feature starts anew after a key has been silent for longer than this (400 days), milliseconds, unless the
/// store is told otherwise.
pub const ALL_TIME_IDLE_MS: i64 = 400 * 86_400_000;
/// Stands in [`Entry::amounts`] for a field that the event lacks. An amount that is this number counts in sums and extremes,
/// but looks missing where a measure compares with the current event.
pub const AMOUNT_MISSING: i64 = i64::MIN;
/// Stands in [`Entry::values`] for a field that the event lacks.
pub const VALUE_MISSING: u64 = i64::MIN as u64;

/// An event as one key sees it.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// The key.
    pub key: Key,
    /// Event time, milliseconds.
    pub time: i64,
    /// The event's id, which breaks ties on time.
    pub id: Id,
    /// [`KeyPlan::mask_of`]; the top bit is ignored.
    pub mask: u64,
    /// When the label became known; `i64::MAX` without one.
    pub known_at: i64,
    /// Whether the event is of a kind that gets a score.
    pub scored: bool,
    /// One per [`KeyPlan::amounts`]; [`AMOUNT_MISSING`] if absent.
    pub amounts: &'a [i64],
    /// One per [`KeyPlan::values`]; [`VALUE_MISSING`] if absent.
    pub values: &'a [u64],
}

/// How much a store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Keys, those with nothing but an all-time base among them.
    pub keys: usize,
    /// Entries.
    pub entries: usize,
    /// Keys that the maps have room for.
    pub map_capacity: usize,
    /// Bytes, all included.
    pub bytes: usize,
}

/// All keys of one kind on one worker.
#[derive(Debug)]
pub struct Store {
    plan: Arc<KeyPlan>,
    program: ReadProgram,
    shards: Vec<Shard>,
    entries: usize,
    /// Bytes that logs hold on the heap.
    heap_bytes: usize,
    bound_ms: i64,
    /// A key that was silent for longer begins anew, milliseconds; at least the longest window.
    forget_ms: i64,
    sweep: Sweep,
    row: Vec<u64>,
    ahead: Vec<(Key, usize)>,
    scratch: RefCell<Scratch>,
}

impl Store {
    /// An empty store.
    pub fn new(plan: Arc<KeyPlan>) -> Self {
        let program = ReadProgram::new(&plan);
        Store {
            plan,
            program,
            shards: shard::empty(),
            entries: 0,
            heap_bytes: 0,
            bound_ms: i64::MIN,
            forget_ms: 0,
            sweep: Sweep::default(),
            row: Vec::new(),
            ahead: Vec::new(),
            scratch: RefCell::default(),
        }
        .forgetting_after(ALL_TIME_IDLE_MS)
    }

    /// All-time features begin anew after a key has been silent for longer than this, milliseconds, or than the longest
    /// window if that is longer: what is inside a window is not forgotten.
    pub fn forgetting_after(mut self, idle_ms: i64) -> Self {
        self.forget_ms = idle_ms.max(self.plan.window_ms_max);
        self
    }

    /// The plan it was made for.
    pub fn plan(&self) -> &Arc<KeyPlan> {
        &self.plan
    }

    /// Stores an entry; one with the same key, time and id is replaced. True if it is the last of its key in (time, id)
    /// order, so that no other row of the key changes.
    pub fn insert(&mut self, entry: &Entry<'_>) -> bool {
        self.put(entry, None)
    }

    /// Stores an entry and reads its features with one look-up. See [`Store::insert`] and [`Store::read`].
    #[inline]
    pub fn insert_and_read(&mut self, entry: &Entry<'_>, out: &mut [f64]) -> bool {
        self.put(entry, Some(out))
    }

    #[inline]
    fn put(&mut self, entry: &Entry<'_>, out: Option<&mut [f64]>) -> bool {
        let program = &self.program;
        self.row.clear();
        let mask = entry.mask & !SCORED | if entry.scored { SCORED } else { 0 };
        self.row.extend([entry.time as u64, entry.id.hi, entry.id.lo, mask]);
        if program.known.is_some() {
            self.row.push(entry.known_at as u64);
        }
        self.row.extend(entry.amounts.iter().map(|&amount| amount as u64));
        self.row.extend(entry.values);
        debug_assert_eq!(self.row.len(), program.columns);
        self.row.resize(program.columns, 0);

        let log = shard::of(&mut self.shards, entry.key).get_or_new(entry.key);
        let (bytes, entries) = (log.bytes(&self.program), log.len());
        if program.all_time {
            log.start_anew_after_silence(entry.time, self.forget_ms);
        }
        let (place, last) = log.insert(program, entry.time, entry.id, &self.row, self.bound_ms);
        self.heap_bytes = self.heap_bytes + log.bytes(&self.program) - bytes;
        self.entries = self.entries + log.len() - entries;
        if let Some(out) = out {
            let scratch = self.scratch.get_mut();
            read::read(program, log, place, out, scratch);
            log.set_hints(scratch.places());
        }
        last
    }

    /// Brings into the cache what the next insertions with these keys will touch. A key's log is somewhere in memory, and
    /// insertions wait for it one after the other; here the waits overlap. Changes
    /// nothing that can be seen.
    #[inline]
    pub fn look_ahead(&mut self, keys: impl Iterator<Item = Key>) {
        self.ahead.clear();
        self.ahead.extend(keys.filter_map(|key| {
            let bucket = shard::of_ref(&self.shards, key).find(key)?;
            Some((key, bucket))
        }));
        let logs = || self.ahead.iter().filter_map(|&(key, bucket)| shard::of_ref(&self.shards, key).peek(bucket));
        logs().for_each(log::Log::look_ahead);
        logs().for_each(log::Log::look_ahead_at_hints);
    }

    /// Takes an entry out; false if it is not there (never was, or has expired).
    pub fn remove(&mut self, key: Key, time: i64, id: Id) -> bool {
        let shard = shard::of(&mut self.shards, key);
        let Some(log) = shard.get_mut(key) else { return false };
        let Some(place) = log.find(time, id) else { return false };
        let bytes = log.bytes(&self.program);
        log.remove(&self.program, place);
        self.entries -= 1;
        if log.len() == 0 && log.base.is_none() {
            self.heap_bytes -= bytes;
            shard.remove(key);
        } else {
            self.heap_bytes = self.heap_bytes + log.bytes(&self.program) - bytes;
        }
        true
    }

    /// Gives a stored entry another mask and label time; false if it is not there. Whether it is scored stays.
    pub fn relabel(&mut self, key: Key, time: i64, id: Id, mask: u64, known_at: i64) -> bool {
        let Some(log) = shard::of(&mut self.shards, key).get_mut(key) else { return false };
        let Some(place) = log.find(time, id) else { return false };
        let bytes = log.bytes(&self.program);
        log.relabel(&self.program, place, mask & !SCORED, known_at);
        self.heap_bytes = self.heap_bytes + log.bytes(&self.program) - bytes;
        true
    }

    /// Writes the features of a stored entry, as of it, into `out`, one per feature of the plan. Of an entry that is not
    /// there every feature gets its default.
    pub fn read(&self, key: Key, time: i64, id: Id, out: &mut [f64]) {
        let log = shard::of_ref(&self.shards, key).get(key);
        match log.and_then(|log| Some((log, log.find(time, id)?))) {
            Some((log, place)) => read::read(&self.program, log, place, out, &mut self.scratch.borrow_mut()),
            None => self.plan.features.iter().zip(out).for_each(|(feature, out)| *out = feature.default),
        }
    }

    /// The features of a key as of right after its last entry: what an event without fields would see that came in the same
    /// millisecond, behind it. Returns that entry's time too; `None` if there is no entry.
    pub fn profile(&mut self, key: Key) -> Option<(i64, Vec<f64>)> {
        let time = self.last_time(key)?;
        let mut features = vec![0.0; self.plan.features.len()];
        let (amounts, values) =
            (vec![AMOUNT_MISSING; self.plan.amounts.len()], vec![VALUE_MISSING; self.plan.values.len()]);
        let (mask, known_at, scored) = (0, i64::MAX, false);
        let entry = Entry { key, time, id: LAST, mask, known_at, scored, amounts: &amounts, values: &values };
        self.insert_and_read(&entry, &mut features);
        self.remove(key, time, LAST);
        Some((time, features))
    }

    /// The scored entries of a key after a place, in order.
    pub fn scored_after(&self, key: Key, after: Place) -> impl Iterator<Item = Place> {
        shard::of_ref(&self.shards, key).get(key).into_iter().flat_map(move |log| log.scored_after(after))
    }

    /// Event time of the last entry of a key, milliseconds.
    pub fn last_time(&self, key: Key) -> Option<i64> {
        shard::of_ref(&self.shards, key).get(key)?.last_time()
    }

    /// How much is stored. Costs a look at every shard, not at every key.
    pub fn stats(&self) -> Stats {
        Stats {
            keys: self.shards.iter().map(Shard::len).sum(),
            entries: self.entries,
            map_capacity: self.shards.iter().map(Shard::capacity).sum(),
            bytes: self.heap_bytes + self.shards.iter().map(Shard::bytes).sum::<usize>(),
        }
    }
}
