//! The owner of a group's keys: requests of an epoch in, features, matches and touched stretches out.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::Match;
use super::super::compile::plan::{COUNTED_MS, Group};
use super::super::outcome::{PatternOutcome, TouchedStretch};
use super::automaton::Scratch;
use super::changes::{consolidated, push, replay};
use super::image::GroupImage;
use super::keys::{KeyStats, Keys};
use super::log::LoggedEvent;
use super::state::KeyState;
use crate::event::Key;
use crate::flow::{Ask, Block, Cause, HEAD, NO_TICKET, Place, Replies, Request};

/// The keys of one group on one worker.
pub struct GroupView {
    group: Arc<Group>,
    keys: Keys,
    /// When an event that must stay away has stayed away: (milliseconds, key, program).
    deadlines: BTreeSet<(i64, Key, usize)>,
    scratch: Scratch,
}

/// A request and the worker that it comes from.
pub type SentRequest<'a> = (Request<'a>, u32);

impl GroupView {
    /// A view without keys.
    pub fn new(group: Arc<Group>) -> Self {
        GroupView { group, keys: Keys::default(), deadlines: BTreeSet::new(), scratch: Scratch::default() }
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
    pub fn apply(&mut self, watermark: i64, asked: &[SentRequest<'_>], replies: &mut Replies) -> PatternOutcome {
        let mut outcome = PatternOutcome::default();
        let place = |at: &u32| {
            let request = &asked[*at as usize].0;
            (request.key, request.time, request.id, *at)
        };
        let mut order: Vec<u32> = (0..asked.len() as u32).collect();
        order.sort_unstable_by_key(place);
        let mut asked: Vec<SentRequest<'_>> = order.into_iter().map(|at| asked[at as usize]).collect();
        if self.group.featured {
            asked.iter_mut().for_each(|(request, _)| request.ask = self.keys.weighed(request));
        }
        let of_keys: Vec<(&[SentRequest<'_>], Option<u32>)> =
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
    fn apply_key(
        &mut self,
        asked: &[SentRequest<'_>],
        slot: Option<u32>,
        replies: &mut Replies,
        outcome: &mut PatternOutcome,
    ) {
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
        self.deadlines.extend(state.deadlines(&group));
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

    /// The scored events of a key after a place, in order.
    pub fn scored_after(&self, key: Key, after: Place) -> impl Iterator<Item = Place> {
        self.keys.get(key).into_iter().flat_map(move |state| {
            let entries = (state.log.lower_bound(after)..state.log.len()).map(|at| state.log.entry(at));
            entries.filter(move |entry| entry.scored && entry.place() > after).map(LoggedEvent::place)
        })
    }

    /// Drops what lies further behind `bound_ms` than anything reaches, of so many keys.
    pub fn expire(&mut self, bound_ms: i64, visits: usize) {
        self.keys.expire(&self.group, bound_ms, visits);
    }

    /// What is kept of the keys of a shard. Loaded anywhere, they go on as they would have here.
    pub fn dump(&self, shard: u32) -> GroupImage {
        let states = self.keys.of_shard(shard).filter(|state| !state.is_empty());
        let mut keys: Vec<_> = states.map(KeyState::image).collect();
        keys.sort_unstable_by_key(|image| image.key);
        GroupImage { keys }
    }

    /// Adds the keys of an image of the same group; what was kept of them is replaced.
    pub fn load(&mut self, image: GroupImage) {
        for image in image.keys {
            let state = KeyState::of(image, &self.group);
            self.deadlines.extend(state.deadlines(&self.group));
            self.keys.put(state);
        }
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
    request_rows(block).map(Request::read)
}

/// The words of the requests whose keys are wanted.
pub fn retained(block: &Block, wanted: impl Fn(Key) -> bool) -> Vec<u64> {
    request_rows(block).filter(|row| wanted(Request::read(row).key)).flatten().copied().collect()
}

fn request_rows(block: &Block) -> impl Iterator<Item = &[u64]> {
    let mut words = &block.words[..];
    std::iter::from_fn(move || {
        let length = HEAD + 1 + words.get(HEAD)?.count_ones() as usize;
        let (row, rest) = words.split_at_checked(length)?;
        words = rest;
        Some(row)
    })
}
