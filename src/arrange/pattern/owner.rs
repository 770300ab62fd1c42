//! The owner of a group's keys: requests of an epoch in, features, matches and touched stretches out.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Match;
use super::automaton::{Scratch, settle};
use super::keys::{KeyState, KeyStats, Keys};
use super::log::{Entry, Place};
use super::plan::{COUNTED_MS, Group, Program};
use super::run::Held;
use crate::event::{Id, Key};
use crate::flow::{Ask, Block, Cause, HEAD, NO_TICKET, Replies, Request};

/// What an epoch has done to a group.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Matches that came and went, with diff.
    pub matches: Vec<(Match, isize)>,
    /// Rows of these keys are touched.
    pub touched: Vec<TouchedStretch>,
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

    /// Whether the passing of time alone may complete a match.
    pub fn waits(&self) -> bool {
        !self.deadlines.is_empty()
    }

    /// Applies the requests of an epoch, whose watermark is `watermark`, and fills in the features that they ask for.
    ///
    /// Requests are taken in (key, time, id) order, and of one event in the order given. Events beyond what their key has
    /// reached take one step of each program; of a key with any other change, what the changes reach is taken again.
    /// An event whose features are given again is a change only if it is not kept with the same ones.
    /// Features are read afterwards: they are as of the event's place, so it does not matter what has been added behind it.
    pub fn apply(&mut self, watermark: i64, asked: &[Asked<'_>], replies: &mut Replies) -> Outcome {
        let mut outcome = Outcome::default();
        let place = |at: &u32| {
            let request = &asked[*at as usize].0;
            (request.key, request.time, request.id, *at)
        };
        let mut order: Vec<u32> = (0..asked.len() as u32).collect();
        order.sort_unstable_by_key(place);
        let mut asked: Vec<Asked<'_>> = order.into_iter().map(|at| asked[at as usize]).collect();
        if self.group.featured {
            asked.iter_mut().for_each(|(request, _)| request.ask = self.keys.weighed(request));
        }
        let of_keys: Vec<(&[Asked<'_>], Option<u32>)> =
            asked.chunk_by(|a, b| a.0.key == b.0.key).map(|of_key| (of_key, self.keys.slot(of_key[0].0.key))).collect();
        // The waits for memory overlap.
        of_keys.iter().filter_map(|(_, slot)| *slot).for_each(|slot| self.keys.prefetch(slot));
        of_keys.iter().filter_map(|(_, slot)| *slot).for_each(|slot| self.keys.prefetch_inner(slot));
        for (of_key, slot) in of_keys {
            self.apply_key(of_key, slot, replies, &mut outcome);
        }
        self.pass(watermark, &mut outcome.matches);
        outcome
    }

    /// Applies the requests of one key, whose state is at the place given if there is one.
    fn apply_key(&mut self, asked: &[Asked<'_>], slot: Option<u32>, replies: &mut Replies, outcome: &mut Outcome) {
        let key = asked[0].0.key;
        let changes = || asked.iter().map(|(request, _)| request).filter(|request| request.ask != Ask::Read);
        let inserted = changes().filter(|request| request.ask == Ask::Insert).count();
        let mut diffs = Vec::new();
        let group = self.group.clone();
        // What is only read or removed needs no key to be opened for it.
        let state = match slot {
            None if inserted == 0 && changes().all(|request| request.ask == Ask::Remove) => None,
            known => Some(self.keys.open(key, known, &group)),
        };
        // Rows begin with the defaults: who has none of this key's matches needs no answer.
        let Some(state) = state else { return };
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
                read(state, request, *from, replies);
            }
        }
        for number in (0..group.programs.len()).filter(|&number| group.programs[number].absent.is_some()) {
            let Some(automaton) = state.automaton(number) else { continue };
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
            let (mut reached, program) = (state.reached, &group.programs[number]);
            state.with_automaton(number, |automaton, _| {
                // What completes may skip what has been announced, and that may have skipped what is a match now. The key has
                // no rows as late as that.
                let last = automaton.pass(program, watermark, |held, here| {
                    if here && held.at.0 > watermark {
                        self.deadlines.insert((held.at.0, key, number));
                    } else if !here && held.announced {
                        announced.push((Match::of(&group, number, key, held), -1));
                    }
                });
                reached = last.map_or(reached, |last| reached.max(last));
                for held in automaton.matches.iter_mut().filter(|held| !held.announced && held.at.0 <= watermark) {
                    held.announced = true;
                    announced.push((Match::of(&group, number, key, held), 1));
                }
            });
            state.reached = reached;
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

    /// What was kept when expiry last came by.
    pub fn stats_lately(&self) -> KeyStats {
        self.keys.stats_lately()
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
    Entry::new((request.time, request.id), request.mask, request.mask & !group.historic, request.scored)
}

/// Takes an event that comes after all others of its key.
fn push(group: &Group, state: &mut KeyState, request: &Request<'_>, scratch: &mut Scratch, diffs: &mut Diffs) {
    state.log.insert(entry_of(group, request), request.columns);
    if request.mask == 0 && state.automata().is_empty() {
        return;
    }
    for (number, program) in group.programs.iter().enumerate() {
        // Where nothing has begun, only an event with which something can begin matters, or one to be counted whose
        // conditions over the key's history are to be looked at now.
        let begins = request.mask & (program.triggers | program.begins & group.historic) != 0;
        if !begins && state.automaton(number).is_none() {
            continue;
        }
        state.with_automaton(number, |automaton, log| {
            automaton.push(group, number, log, scratch, noted(program, number, diffs));
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
            Ask::Insert | Ask::Relabel => {
                state.log.insert(entry_of(group, request), request.columns);
                changed.push((place, held | request.mask));
            }
            Ask::Remove => {
                state.log.remove(place);
                changed.push((place, held));
            }
            Ask::Read | Ask::Label => {}
        }
    }
    let (Some(&(first, _)), Some(&(last, _))) = (changed.first(), changed.last()) else { return };
    if group.historic != 0 {
        for at in state.log.lower_bound(first)..state.log.len() {
            let entry = state.log.entry(at);
            if entry.time.saturating_sub(last.0) >= group.history_ms && entry.place() > last {
                break;
            }
            let (held, known) = (entry.mask, state.log.known(at));
            if known != 0 {
                let place = entry.place();
                state.log.set_known(at, 0);
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
    for (number, program) in group.programs.iter().enumerate() {
        let concerns = changed.iter().filter(|(_, mask)| mask & program.uses != 0);
        let mut places: Vec<Place> = concerns.map(|(place, _)| *place).collect();
        places.dedup();
        state.with_automaton(number, |automaton, log| {
            automaton.replay(group, number, log, &places, scratch, noted(program, number, diffs));
            if let (Some(end_ms), true) = (end_ms, program.absent.is_some()) {
                automaton.pass(program, end_ms, noted(program, number, diffs));
            }
        });
    }
}

/// Notes the matches of a program that go (false) and come (true); those of an absence are announced by the watermark.
fn noted(program: &Program, number: usize, diffs: &mut Diffs) -> impl FnMut(&mut Held, bool) {
    move |held, here| {
        if here {
            held.announced = program.absent.is_none();
        }
        diffs.push((number, held.clone(), if here { 1 } else { -1 }));
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
/// Rows begin with 0 for all of them, so there is an answer only if one of them is not.
fn read(state: &KeyState, request: &Request<'_>, from: u32, replies: &mut Replies) {
    let place = (request.time, request.id);
    if state.automata().iter().all(|(_, automaton)| automaton.read(place, COUNTED_MS) == (false, 0)) {
        return;
    }
    let row = replies.row(from, request.ticket);
    for (number, automaton) in state.automata() {
        let (now, count) = automaton.read(place, COUNTED_MS);
        row[2 * number..2 * number + 2].copy_from_slice(&[f64::from(u8::from(now)), count as f64]);
    }
}

/// The requests of a block, in order. Each says how many columns it has.
pub fn requests(block: &Block) -> impl Iterator<Item = Request<'_>> {
    let mut words = &block.words[..];
    std::iter::from_fn(move || {
        let length = HEAD + 1 + words.get(HEAD)?.count_ones() as usize;
        let (row, rest) = words.split_at_checked(length)?;
        words = rest;
        Some(Request::read(row))
    })
}
