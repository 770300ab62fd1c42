//! The keys of one group on one worker, found by key, and looked through for expiry when they are due.

use super::super::compile::plan::Group;
use super::automaton::Automaton;
use super::calendar::KeyCalendar;
use super::state::KeyState;
use crate::event::{Key, MapKey};
use crate::flow::{Ask, NO_TICKET, Request};
use crate::operators::{ShardedMap, prefetch};

/// Places are handed out in chunks, so that growth moves nothing.
const CHUNK: usize = 1024;

/// A key is looked through for expiry so often, if need be, while its events are kept; what has expired stays a little longer.
const EXPIRE_PER_REACH: i64 = 16;

/// And at least this often, milliseconds, for what is kept for its row alone.
const EXPIRE_MS_MAX: i64 = 6 * 3_600_000;

/// Of as many visits as expiry may make, one in so many counts what is kept, due or not: a round for the metrics.
const COUNT_EVERY: usize = 8;

/// How many keys ahead expiry asks for memory.
const EXPIRE_AHEAD: usize = 8;

/// All keys of a group.
#[derive(Debug, Default)]
pub struct Keys {
    index: ShardedMap<u32>,
    chunks: Vec<Vec<KeyState>>,
    free: Vec<u32>,
    calendar: KeyCalendar,
    turn: usize,
    /// What the visits of this round have counted so far.
    counted: KeyStats,
    /// What the last whole round has counted.
    lately: KeyStats,
}

/// What is kept at present.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyStats {
    /// Keys.
    pub keys: usize,
    /// Events, over all keys.
    pub entries: usize,
    /// Runs that have begun and are not over.
    pub runs: usize,
    /// Matches that count.
    pub matches: usize,
    /// Bytes of all this.
    pub bytes: usize,
}

impl Keys {
    /// The state of a key, if it has any.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut KeyState> {
        let slot = *self.index.get(&MapKey::from(key))? as usize;
        self.chunks.get_mut(slot / CHUNK)?.get_mut(slot % CHUNK)
    }

    /// The state of a key, if it has any.
    pub fn get(&self, key: Key) -> Option<&KeyState> {
        let slot = *self.index.get(&MapKey::from(key))? as usize;
        self.chunks.get(slot / CHUNK)?.get(slot % CHUNK)
    }

    /// The place of a key's state, if it has any.
    #[inline]
    pub fn slot(&self, key: Key) -> Option<u32> {
        self.index.get(&MapKey::from(key)).copied()
    }

    /// Asks for the state at a place.
    #[inline]
    pub fn prefetch(&self, slot: u32) {
        let slot = slot as usize;
        if let Some(chunk) = self.chunks.get(slot / CHUNK) {
            prefetch(chunk, slot % CHUNK);
        }
    }

    /// Asks for what the state at a place needs for its next event.
    #[inline]
    pub fn prefetch_inner(&self, slot: u32) {
        let slot = slot as usize;
        if let Some(state) = self.chunks.get(slot / CHUNK).and_then(|chunk| chunk.get(slot % CHUNK)) {
            state.log.prefetch();
            prefetch(state.automata(), 0);
        }
    }

    /// The state at a place.
    pub fn at_mut(&mut self, slot: u32) -> &mut KeyState {
        &mut self.chunks[slot as usize / CHUNK][slot as usize % CHUNK]
    }

    /// The state of a key whose place is known, or of one that has none: that is empty.
    pub fn open(&mut self, key: Key, known: Option<u32>, group: &Group) -> &mut KeyState {
        let slot = known.unwrap_or_else(|| {
            let slot = self.place(KeyState::new(key, group));
            self.index.insert(key.into(), slot);
            slot
        });
        self.at_mut(slot)
    }

    /// All that is kept, and places of keys of which nothing is left.
    fn states(&self) -> impl Iterator<Item = &KeyState> {
        self.chunks.iter().flatten()
    }

    /// The states of a shard's keys, in no order.
    pub fn of_shard(&self, shard: u32) -> impl Iterator<Item = &KeyState> {
        let slots = self.index.of_shard(shard).map(|(_, slot)| *slot as usize);
        slots.filter_map(|slot| self.chunks.get(slot / CHUNK)?.get(slot % CHUNK))
    }

    /// Sets the state of a key.
    pub fn put(&mut self, mut state: KeyState) {
        // It counts as counted by the last round.
        self.lately.add(&state);
        let key = state.key;
        match self.slot(key) {
            Some(slot) => {
                let held = self.at_mut(slot);
                state.due = held.due;
                *held = state;
            }
            None => {
                let slot = self.place(state);
                self.index.insert(key.into(), slot);
            }
        }
    }

    fn place(&mut self, mut state: KeyState) -> u32 {
        let slot = self.free.pop().unwrap_or_else(|| {
            if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
                self.chunks.push(Vec::with_capacity(CHUNK));
            }
            let chunks = self.chunks.len();
            let last = &mut self.chunks[chunks - 1];
            last.push(KeyState::default());
            ((chunks - 1) * CHUNK + last.len() - 1) as u32
        });
        // What it will hold is not there yet.
        state.due = self.calendar.put(slot, i64::MAX);
        *self.at_mut(slot) = state;
        slot
    }

    /// What is to be done of a request that gives an event its features again: nothing but to read if it is kept with the
    /// same ones. The order of requests of one epoch does not matter to it, as no other one is of the same event.
    pub fn weighed(&self, request: &Request<'_>) -> Ask {
        if request.ask != Ask::Relabel {
            return request.ask;
        }
        let held = self.get(request.key).and_then(|state| {
            let at = state.log.find((request.time, request.id))?;
            Some((state.log.entry(at).raw, state.log.row(at)))
        });
        let same = match held {
            None | Some((0, _)) => request.mask == 0,
            Some((raw, row)) => {
                let (present, cells) = request.columns.split_first().unwrap_or((&0, &[]));
                (raw, row.present, row.cells) == (request.mask, *present, cells)
            }
        };
        match same {
            true => Ask::Read,
            // Where it has no row it is not kept once it is none of the events.
            false if request.mask == 0 && request.ticket == NO_TICKET => Ask::Remove,
            false => Ask::Relabel,
        }
    }

    /// Drops a key of which nothing is left.
    pub fn close(&mut self, key: Key) {
        if self.get(key).is_some_and(KeyState::is_empty)
            && let Some(slot) = self.index.remove(&MapKey::from(key))
        {
            self.chunks[slot as usize / CHUNK][slot as usize % CHUNK] = KeyState::default();
            self.free.push(slot);
            if self.index.is_empty() {
                *self = Keys::default();
            }
        }
    }

    /// Looks through so many of the keys that are due, and drops what lies before the bound beyond every reach.
    pub fn expire(&mut self, group: &Group, bound_ms: i64, visits: usize) {
        self.count(visits.div_ceil(COUNT_EVERY));
        let period_ms = (group.reach_ms / EXPIRE_PER_REACH).clamp(1, EXPIRE_MS_MAX);
        self.calendar.come_to(bound_ms.div_euclid(period_ms));
        for _ in 0..visits {
            if let Some(ahead) = self.calendar.ahead(EXPIRE_AHEAD) {
                self.prefetch(ahead);
            }
            if let Some(ahead) = self.calendar.ahead(EXPIRE_AHEAD / 2) {
                self.chunks[ahead as usize / CHUNK][ahead as usize % CHUNK].log.prefetch_first();
            }
            let Some((period, slot)) = self.calendar.take() else { return };
            let state = &mut self.chunks[slot as usize / CHUNK][slot as usize % CHUNK];
            // The place may be another key's by now, which is due when it says so.
            if state.due != period {
                continue;
            }
            // No change comes from before the bound, and none touches rows before it.
            state.log.expire(bound_ms.saturating_sub(group.reach_ms), bound_ms);
            state.expire_automata(group, bound_ms);
            // It is there for a bound behind that.
            state.due = self.calendar.put(slot, state.due_ms(group).div_euclid(period_ms).saturating_add(1));
            if state.is_empty() {
                let key = state.key;
                self.close(key);
            }
        }
    }

    /// Counts what is kept by so many keys, in turns.
    fn count(&mut self, visits: usize) {
        let slots = match self.chunks.split_last() {
            Some((last, full)) => full.len() * CHUNK + last.len(),
            None => return,
        };
        for _ in 0..visits.min(slots) {
            self.turn = (self.turn + 1) % slots;
            if self.turn == 0 {
                self.lately = std::mem::take(&mut self.counted);
            }
            self.counted.add(&self.chunks[self.turn / CHUNK][self.turn % CHUNK]);
        }
    }

    /// What is kept, as the last whole round has counted it: a walk over all keys would hold up scores.
    pub fn stats_lately(&self) -> KeyStats {
        self.with_index(self.lately)
    }

    /// What is kept: a walk over all keys.
    pub fn stats(&self) -> KeyStats {
        let mut stats = KeyStats::default();
        self.states().for_each(|state| stats.add(state));
        self.with_index(stats)
    }

    fn with_index(&self, stats: KeyStats) -> KeyStats {
        KeyStats { keys: self.index.len(), bytes: stats.bytes + self.index.table_bytes(), ..stats }
    }
}

impl KeyStats {
    fn add(&mut self, state: &KeyState) {
        self.entries += state.log.len();
        self.bytes += size_of::<KeyState>() + state.log.bytes();
        self.bytes += state.automata_capacity() * size_of::<(usize, Automaton)>();
        for (_, automaton) in state.automata() {
            self.runs += automaton.open_runs();
            self.matches += automaton.matches.len();
            self.bytes += automaton.bytes();
        }
    }
}
