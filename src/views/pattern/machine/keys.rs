//! The keys of one group on one worker, found by key and visited in turns.

use super::automaton::Automaton;
use super::image::{AutomatonImage, KeyImage};
use super::log::Log;
use crate::event::{Id, Key, MapKey};
use crate::flow::Place;
use crate::flow::{Ask, NO_TICKET, Request};
use crate::operators::{ShardedMap, prefetch};
use crate::views::pattern::compile::plan::Group;

/// What is kept for one key.
#[derive(Debug, Default)]
pub struct KeyState {
    /// The key.
    pub key: Key,
    /// Its events.
    pub log: Log,
    /// By program, those that hold something.
    automata: Vec<(usize, Automaton)>,
    /// How far its runs have come: the last event they have seen, though it be withdrawn since, or the moment at which the
    /// watermark completed an absence. What comes before is late.
    pub reached: Place,
    /// Nothing of it is looked through for expiry before the bound has come this far, milliseconds.
    expire_at_ms: i64,
}

impl KeyState {
    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.log.is_empty() && self.automata.iter().all(|(_, one)| one.open_runs() == 0 && one.is_over())
    }

    /// Nothing of a key yet.
    fn new(key: Key, group: &Group) -> Self {
        KeyState {
            key,
            log: Log::new(group.historic != 0),
            automata: Vec::new(),
            reached: (i64::MIN, Id::default()),
            expire_at_ms: i64::MIN,
        }
    }

    /// What cannot be derived of it.
    pub fn image(&self) -> KeyImage {
        let automata = self.automata.iter();
        let automata = automata.map(|(number, one)| AutomatonImage { program: *number as u16, kept: one.clone() });
        KeyImage { key: self.key, reached: self.reached, log: self.log.image(), automata: automata.collect() }
    }

    /// The state that an image is of. The next visit of expiry looks it through.
    pub fn of(image: KeyImage, group: &Group) -> Self {
        let KeyImage { key, reached, log, automata } = image;
        let automata = automata.into_iter().map(|image| (usize::from(image.program), image.kept));
        let empty = KeyState::new(key, group);
        KeyState { reached, log: empty.log.filled(log), automata: automata.collect(), ..empty }
    }

    /// When an event that must stay away has stayed away: (milliseconds, key, program).
    pub fn deadlines(&self, group: &Group) -> impl Iterator<Item = (i64, Key, usize)> {
        let absences = self.automata.iter().filter(|(number, _)| group.programs[*number].absent.is_some());
        absences.flat_map(|(number, automaton)| automaton.deadlines().map(|until_ms| (until_ms, self.key, *number)))
    }

    /// The automata that hold something, with their programs.
    pub fn automata(&self) -> &[(usize, Automaton)] {
        &self.automata
    }

    /// The automaton of a program, if it holds something.
    pub fn automaton(&self, number: usize) -> Option<&Automaton> {
        self.automata.iter().find(|(of, _)| *of == number).map(|(_, automaton)| automaton)
    }

    /// Does something with the automaton of a program, and the log. If it then holds something, it is kept.
    pub fn with_automaton(&mut self, number: usize, act: impl FnOnce(&mut Automaton, &mut Log)) {
        let at = self.automata.partition_point(|(of, _)| *of < number);
        match self.automata.get_mut(at) {
            Some((of, automaton)) if *of == number => {
                act(automaton, &mut self.log);
                if automaton.is_empty() {
                    self.automata.remove(at);
                }
            }
            _ => {
                let mut automaton = Automaton::default();
                act(&mut automaton, &mut self.log);
                if !automaton.is_empty() {
                    self.automata.reserve_exact(1);
                    self.automata.insert(at, (number, automaton));
                }
            }
        }
    }
}

/// Places are handed out in chunks, so that growth moves nothing.
const CHUNK: usize = 1024;

/// A key is looked through for expiry so often while its events are kept: visits in between cost one look at its place,
/// and what has expired stays a little longer.
const EXPIRE_PER_REACH: i64 = 16;

/// And at least this often, milliseconds, for what is kept for its row alone.
const EXPIRE_MS_MAX: i64 = 6 * 3_600_000;

/// How many keys ahead expiry asks for memory.
const EXPIRE_AHEAD: usize = 8;

/// All keys of a group.
#[derive(Debug, Default)]
pub struct Keys {
    index: ShardedMap<u32>,
    chunks: Vec<Vec<KeyState>>,
    free: Vec<u32>,
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
            prefetch(&state.automata, 0);
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
    pub fn states(&self) -> impl Iterator<Item = &KeyState> {
        self.chunks.iter().flatten()
    }

    /// Sets the state of a key.
    pub fn put(&mut self, state: KeyState) {
        // It counts as seen by the last round of expiry.
        self.lately.add(&state);
        let key = state.key;
        match self.slot(key) {
            Some(slot) => *self.at_mut(slot) = state,
            None => {
                let slot = self.place(state);
                self.index.insert(key.into(), slot);
            }
        }
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

    /// Visits so many keys, in turns, and drops what lies before the bound beyond every reach.
    pub fn expire(&mut self, group: &Group, bound_ms: i64, visits: usize) {
        let slots = match self.chunks.split_last() {
            Some((last, full)) => full.len() * CHUNK + last.len(),
            None => return,
        };
        for _ in 0..visits.min(slots) {
            self.turn = (self.turn + 1) % slots;
            if self.turn == 0 {
                self.lately = std::mem::take(&mut self.counted);
            }
            let chunk = &mut self.chunks[self.turn / CHUNK];
            let at = self.turn % CHUNK;
            if let Some(ahead) = chunk.get(at + EXPIRE_AHEAD).filter(|ahead| ahead.expire_at_ms <= bound_ms) {
                ahead.log.prefetch_first();
            }
            let state = &mut chunk[at];
            self.counted.add(state);
            if bound_ms < state.expire_at_ms || state.is_empty() {
                continue;
            }
            let wait_ms = (group.reach_ms / EXPIRE_PER_REACH).min(EXPIRE_MS_MAX);
            state.expire_at_ms = bound_ms.saturating_add(wait_ms);
            // No change comes from before the bound, and none touches rows before it.
            state.log.expire(bound_ms.saturating_sub(group.reach_ms), bound_ms);
            state.automata.retain_mut(|(number, automaton)| {
                automaton.expire(&group.programs[*number], bound_ms);
                !automaton.is_empty()
            });
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

    /// What is kept, as the last whole round of expiry has counted it: a walk over all keys would hold up scores.
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
        self.bytes += state.automata.capacity() * size_of::<(usize, Automaton)>();
        for (_, automaton) in &state.automata {
            self.runs += automaton.open_runs();
            self.matches += automaton.matches.len();
            self.bytes += automaton.bytes();
        }
    }
}
