//! The keys of one group on one worker, found by key and visited in turns.

use super::automaton::Automaton;
use super::log::{Log, Place};
use super::plan::{COUNTED_MS, Group};
use crate::event::{Id, Key};
use crate::operators::ShardedMap;

/// What is kept for one key.
#[derive(Debug, Default)]
pub struct KeyState {
    /// The key.
    pub key: Key,
    /// Its events.
    pub log: Log,
    /// One per program.
    pub automata: Box<[Automaton]>,
    /// How far its runs have come: the last event they have seen, though it be withdrawn since, or the moment at which the
    /// watermark completed an absence. What comes before is late.
    pub reached: Place,
    /// Nothing of it is looked through for expiry before the bound has come this far, milliseconds.
    expire_at_ms: i64,
}

impl KeyState {
    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.log.is_empty() && self.automata.iter().all(|one| one.runs.is_empty() && one.matches.is_empty())
    }
}

/// Places are handed out in chunks, so that growth moves nothing.
const CHUNK: usize = 1024;

/// A key is looked through for expiry so often while its events are kept: visits in between cost one look at its place,
/// and what has expired stays a little longer.
const EXPIRE_PER_REACH: i64 = 16;

/// All keys of a group.
#[derive(Debug, Default)]
pub struct Keys {
    index: ShardedMap<u32>,
    chunks: Vec<Vec<KeyState>>,
    free: Vec<u32>,
    turn: usize,
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

fn as_id(key: Key) -> Id {
    Id { hi: key.hi, lo: key.lo }
}

impl Keys {
    /// The state of a key, if it has any.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut KeyState> {
        let slot = *self.index.get(&as_id(key))? as usize;
        self.chunks.get_mut(slot / CHUNK)?.get_mut(slot % CHUNK)
    }

    /// The state of a key, if it has any.
    pub fn get(&self, key: Key) -> Option<&KeyState> {
        let slot = *self.index.get(&as_id(key))? as usize;
        self.chunks.get(slot / CHUNK)?.get(slot % CHUNK)
    }

    /// The state of a key, empty if it is new.
    pub fn open(&mut self, key: Key, group: &Group) -> &mut KeyState {
        let known = self.index.get(&as_id(key)).copied();
        let slot = known.unwrap_or_else(|| {
            let automata = group.programs.iter().map(|_| Automaton::default()).collect();
            let state = KeyState {
                key,
                log: Log::new(group.columns.len()),
                automata,
                reached: (i64::MIN, Id::default()),
                expire_at_ms: i64::MIN,
            };
            let slot = self.place(state);
            self.index.insert(as_id(key), slot);
            slot
        }) as usize;
        &mut self.chunks[slot / CHUNK][slot % CHUNK]
    }

    fn place(&mut self, state: KeyState) -> u32 {
        if let Some(slot) = self.free.pop() {
            self.chunks[slot as usize / CHUNK][slot as usize % CHUNK] = state;
            return slot;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let chunks = self.chunks.len();
        let last = &mut self.chunks[chunks - 1];
        last.push(state);
        ((chunks - 1) * CHUNK + last.len() - 1) as u32
    }

    /// Drops a key of which nothing is left.
    pub fn close(&mut self, key: Key) {
        if self.get(key).is_some_and(KeyState::is_empty)
            && let Some(slot) = self.index.remove(&as_id(key))
        {
            self.chunks[slot as usize / CHUNK][slot as usize % CHUNK] = KeyState::default();
            self.free.push(slot);
            if self.index.is_empty() {
                *self = Keys::default();
            }
        }
    }

    /// Visits so many keys, in turns, and drops what lies before the bound beyond every reach.
    pub fn expire(&mut self, group: &Group, bound_ms: i64, visits: usize) {
        let slots = match self.chunks.split_last() {
            Some((last, full)) => full.len() * CHUNK + last.len(),
            None => return,
        };
        for _ in 0..visits.min(slots) {
            self.turn = (self.turn + 1) % slots;
            let state = &mut self.chunks[self.turn / CHUNK][self.turn % CHUNK];
            if state.automata.is_empty() || bound_ms < state.expire_at_ms {
                continue;
            }
            state.expire_at_ms = bound_ms.saturating_add(group.reach_ms / EXPIRE_PER_REACH);
            state.log.expire(bound_ms.saturating_sub(group.reach_ms));
            for (program, automaton) in group.programs.iter().zip(&mut state.automata) {
                automaton.expire(bound_ms.saturating_sub(program.reach_ms), bound_ms.saturating_sub(COUNTED_MS));
            }
            if !state.is_empty() {
                continue;
            }
            let key = state.key;
            self.close(key);
            if self.chunks.is_empty() {
                return;
            }
        }
    }

    /// Counts what is kept: a walk over all keys.
    pub fn stats(&self) -> KeyStats {
        let mut stats = KeyStats { keys: self.index.len(), bytes: self.index.table_bytes(), ..KeyStats::default() };
        for state in self.chunks.iter().flatten() {
            stats.entries += state.log.len();
            stats.bytes += size_of::<KeyState>() + state.log.bytes() + state.automata.len() * size_of::<Automaton>();
            for automaton in &state.automata {
                stats.runs += automaton.runs.len();
                stats.matches += automaton.matches.len();
                stats.bytes += automaton.runs.iter().map(super::run::Run::bytes).sum::<usize>();
                stats.bytes += automaton.matches.iter().map(|held| 64 + held.ids.len() * 16).sum::<usize>();
            }
        }
        stats
    }
}
