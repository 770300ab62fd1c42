//! The owner of a group's keys: requests of an epoch in, features, matches and touched stretches out.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Match;
use super::automaton::{Scratch, settle};
use super::keys::{KeyState, KeyStats, Keys};
use super::log::{Entry, Place};
use super::plan::{COUNTED_MS, Group};
use super::replies::Replies;
use super::run::Held;
use crate::arrange::change::{Cause, NO_TICKET};
use crate::arrange::request::{Ask, HEAD, Request};
use crate::event::{Id, Key};

/// What an epoch has done to a group.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Matches that came and went, with diff.
    pub matches: Vec<(Match, isize)>,
    /// Rows of these keys are touched.
    pub touched: Vec<TouchedStretch>,
    /// Events added.
    pub inserted: usize,
}

/// Rows of a key that a change of its matches has touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TouchedStretch {
    /// The key.
    pub key: Key,
    /// The first row that may be touched.
    pub from: Place,
    /// Event time of the last one, milliseconds.
    pub until_ms: i64,
    /// Why.
    pub cause: Cause,
    /// The event that changed.
    pub id: Id,
}

/// The keys of one group on one worker.
pub struct Owner {
    group: Arc<Group>,
    keys: Keys,
    /// When an event that must stay away has stayed away: (milliseconds, key, program).
    deadlines: BTreeSet<(i64, Key, usize)>,
    scratch: Scratch,
}

/// A request and the worker that it comes from.
pub type Asked<'a> = (Request<'a>, u32);

impl Owner {
    /// An owner without keys.
    pub fn new(group: Arc<Group>) -> Self {
        Owner { group, keys: Keys::default(), deadlines: BTreeSet::new(), scratch: Scratch::default() }
    }

    /// The group.
    pub fn group(&self) -> &Arc<Group> {
        &self.group
    }

    /// Words of a request.
    pub fn stride(&self) -> usize {
        HEAD + 1 + self.group.columns.len()
    }

    /// Whether the passing of time alone may complete a match.
    pub fn waits(&self) -> bool {
        !self.deadlines.is_empty()
    }

    /// Applies the requests of an epoch, whose watermark is `watermark`, and fills in the features that they ask for.
    ///
    /// Requests are taken in (key, time, id) order, and of one event in the order given. Events beyond what their key has
    /// reached take one step of each program; of a key with any other change, what the changes reach is taken again.
    /// Features are read afterwards: they are as of the event's place, so it does not matter what has been added behind it.
    pub fn apply(&mut self, watermark: i64, mut asked: Vec<Asked<'_>>, replies: &mut Replies) -> Outcome {
        let mut outcome = Outcome::default();
        let place = |(request, _): &Asked<'_>| (request.key, request.time, request.id);
        asked.sort_by_key(place);
        for of_key in asked.chunk_by(|a, b| a.0.key == b.0.key) {
            self.apply_key(of_key, replies, &mut outcome);
        }
        self.pass(watermark, &mut outcome.matches);
        outcome
    }

    fn apply_key(&mut self, asked: &[Asked<'_>], replies: &mut Replies, outcome: &mut Outcome) {
        let key = asked[0].0.key;
        let changes = || asked.iter().map(|(request, _)| request).filter(|request| request.ask != Ask::Read);
        let inserted = changes().filter(|request| request.ask == Ask::Insert).count();
        outcome.inserted += inserted;
        let mut diffs = Vec::new();
        let group = self.group.clone();
        // What is only read or removed needs no key to be opened for it.
        let state = if inserted > 0 { Some(self.keys.open(key, &group)) } else { self.keys.get_mut(key) };
        let Some(state) = state else { return replies.nothing(asked) };
        let before = state.log.last();
        let mut reached = state.reached;
        let in_order = changes().all(|request| {
            let place = (request.time, request.id);
            request.ask == Ask::Insert && std::mem::replace(&mut reached, place) < place
        });
        if in_order {
            for request in changes() {
                push(&group, state, request, &mut self.scratch, &mut diffs);
            }
        } else {
            replay(&group, state, changes(), &mut self.scratch, &mut diffs);
            diffs = consolidated(diffs);
        }
        state.reached = state.log.last().map_or(state.reached, |last| state.reached.max(last));
        for (request, from) in asked {
            if request.ticket != NO_TICKET {
                let row = replies.row(*from, request.ticket);
                read(state, (request.time, request.id), row);
            }
        }
        for number in (0..group.programs.len()).filter(|&number| group.programs[number].absent.is_some()) {
            let automaton = &state.automata[number];
            let waiting = automaton.runs.iter().filter_map(|run| run.until_ms);
            let silent = automaton.matches.iter().filter(|held| !held.announced).map(|held| held.at.0);
            self.deadlines.extend(waiting.chain(silent).map(|until_ms| (until_ms, key, number)));
        }
        let empty = state.is_empty();
        for (number, held, diff) in diffs {
            let announced = held.announced;
            let silent = group.programs[number].absent.is_some();
            if announced || !silent {
                outcome.matches.push((Match::of(&group, number, key, &held), diff));
            }
            if let Some(before) = before.filter(|before| held.at <= *before) {
                let until_ms = before.0.min(held.at.0.saturating_add(COUNTED_MS - 1));
                let first = changes().next().map_or((Cause::Arrival, held.at.1), |request| (request.cause, request.id));
                let cause = if first.0 == Cause::Arrival { Cause::LateEvent } else { first.0 };
                outcome.touched.push(TouchedStretch { key, from: held.at, until_ms, cause, id: first.1 });
            }
        }
        if empty {
            self.keys.close(key);
        }
    }

    /// Announces the matches that waited for the watermark to come this far.
    pub fn pass(&mut self, watermark: i64, announced: &mut Vec<(Match, isize)>) {
        let group = self.group.clone();
        while let Some(&(until_ms, key, number)) = self.deadlines.first() {
            if until_ms > watermark {
                return;
            }
            self.deadlines.pop_first();
            let Some(state) = self.keys.get_mut(key) else { continue };
            let automaton = &mut state.automata[number];
            automaton.pass(watermark, |held| state.reached = state.reached.max(held.at));
            for held in automaton.matches.iter_mut().filter(|held| !held.announced && held.at.0 <= watermark) {
                held.announced = true;
                announced.push((Match::of(&group, number, key, held), 1));
            }
        }
    }

    /// Visits scored events of a key in `(after, until_ms]`, at most so many. Returns where it stopped, or `None` if it came
    /// to the end.
    pub fn visit_scored(
        &self,
        key: Key,
        after: Place,
        until_ms: i64,
        limit: usize,
        visit: &mut dyn FnMut(i64, Id),
    ) -> Option<Place> {
        let log = &self.keys.get(key)?.log;
        let from = log.lower_bound(after);
        let mut visited = 0;
        for entry in (from..log.len()).map(|at| log.entry(at)).filter(|entry| entry.place() > after) {
            if entry.time > until_ms {
                return None;
            }
            if entry.scored {
                if visited == limit {
                    // The one before this was the last that was visited: go on after it.
                    return Some(before(entry.place()));
                }
                visited += 1;
                visit(entry.time, entry.id);
            }
        }
        None
    }

    /// Drops what lies further behind `bound_ms` than anything reaches, of so many keys.
    pub fn expire(&mut self, bound_ms: i64, visits: usize) {
        self.keys.expire(&self.group, bound_ms, visits);
    }

    /// What is kept: a walk over all keys.
    pub fn stats(&self) -> KeyStats {
        self.keys.stats()
    }
}

/// The position right before another.
pub(super) fn before((time, id): Place) -> Place {
    let whole = u128::from(id.hi) << 64 | u128::from(id.lo);
    match whole.checked_sub(1) {
        Some(less) => (time, Id { hi: (less >> 64) as u64, lo: less as u64 }),
        None => (time.saturating_sub(1), Id { hi: u64::MAX, lo: u64::MAX }),
    }
}

type Diffs = Vec<(usize, Held, isize)>;

fn entry_of(group: &Group, request: &Request<'_>) -> Entry {
    let Request { time, id, mask, scored, columns, .. } = *request;
    Entry { time, id, raw: mask, mask: mask & !group.historic, known: 0, begun: 0, present: columns[0], scored }
}

/// Takes an event that comes after all others of its key.
fn push(group: &Group, state: &mut KeyState, request: &Request<'_>, scratch: &mut Scratch, diffs: &mut Diffs) {
    state.log.insert(entry_of(group, request), &request.columns[1..]);
    for (number, (program, automaton)) in group.programs.iter().zip(&mut state.automata).enumerate() {
        automaton.push(group, number, &mut state.log, scratch, |held| {
            held.announced = program.absent.is_none();
            diffs.push((number, held.clone(), 1));
        });
    }
}

/// Applies changes in any place of the log and takes again what they reach.
fn replay<'a>(
    group: &Group,
    state: &mut KeyState,
    changes: impl Iterator<Item = &'a Request<'a>>,
    scratch: &mut Scratch,
    diffs: &mut Diffs,
) {
    let mut changed: Vec<(Place, u64)> = Vec::new();
    for request in changes {
        let place = (request.time, request.id);
        let held = state.log.find(place).map_or(0, |at| state.log.entry(at).raw);
        match request.ask {
            Ask::Insert => {
                state.log.insert(entry_of(group, request), &request.columns[1..]);
                changed.push((place, held | request.mask));
            }
            Ask::Remove => {
                state.log.remove(place);
                changed.push((place, held));
            }
            Ask::Read | Ask::Label | Ask::Relabel => {}
        }
    }
    let (Some(&(first, _)), Some(&(last, _))) = (changed.first(), changed.last()) else { return };
    if group.historic != 0 {
        for at in state.log.lower_bound(first)..state.log.len() {
            let entry = state.log.entry(at);
            if entry.time.saturating_sub(last.0) >= group.history_ms && entry.place() > last {
                break;
            }
            let Entry { mask: held, known, .. } = *entry;
            if known != 0 {
                let place = entry.place();
                state.log.entry_mut(at).known = 0;
                settle(group, &mut state.log, at, known);
                let mask = state.log.entry(at).mask;
                if held != mask {
                    changed.push((place, held ^ mask));
                }
            }
        }
        changed.sort_unstable();
    }
    let end_ms = state.log.last().map(|last| last.0);
    for (number, (program, automaton)) in group.programs.iter().zip(&mut state.automata).enumerate() {
        let concerns = changed.iter().filter(|(_, mask)| mask & program.uses != 0);
        let mut places: Vec<Place> = concerns.map(|(place, _)| *place).collect();
        places.dedup();
        automaton.replay(group, number, &mut state.log, &places, scratch, |held, here| {
            if here {
                held.announced = program.absent.is_none();
            }
            diffs.push((number, held.clone(), if here { 1 } else { -1 }));
        });
        if let (Some(end_ms), true) = (end_ms, program.absent.is_some()) {
            automaton.pass(end_ms, |held| diffs.push((number, held.clone(), 1)));
        }
    }
}

/// Leaves out matches that went and came again.
fn consolidated(mut diffs: Diffs) -> Diffs {
    let order = |(number, held, _): &(usize, Held, isize)| (*number, held.at, held.start, held.events);
    diffs.sort_by_key(order);
    let mut left: Diffs = Vec::new();
    for (number, held, diff) in diffs {
        let same = left.iter().rposition(|(n, other, d)| {
            *n == number
                && *d == -diff
                && (other.at, other.start, &other.ids) == (held.at, held.start, &held.ids)
                && (other.events, other.announced) == (held.events, held.announced)
        });
        match same {
            Some(at) => drop(left.swap_remove(at)),
            None => left.push((number, held, diff)),
        }
    }
    left
}

/// The features of an event's row: for each program, whether the event completes a match, and the matches of 24 hours.
fn read(state: &KeyState, place: Place, row: &mut [f64]) {
    for (automaton, features) in state.automata.iter().zip(row.chunks_exact_mut(2)) {
        let (now, count) = automaton.read(place, COUNTED_MS);
        features.copy_from_slice(&[f64::from(u8::from(now)), count as f64]);
    }
}
