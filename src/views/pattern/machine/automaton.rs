//! The automaton of one pattern over one key: it takes the events of the key's log one after the other.
//!
//! Runs whose first step counts are not kept while they count: the log knows. An event that could end the count looks
//! back over the log, adding up from the latest event to the earliest, and so sees the count of every possible start in
//! one pass (`first_count.rs`).
//!
//! Nor are runs that have taken one event only more than the place of that event: most never get beyond it.
//!
//! An event that comes late, or goes, touches only what began less than the pattern's reach before it. That is thrown
//! away, and the log is taken again from there, by the same steps (`replay.rs`).

use serde::{Deserialize, Serialize};

use super::choose::Candidates;
use super::history::settle;
use super::log::KeyLog;
use super::run::{Fate, KeptMatch, Run, Totals};
use crate::event::Id;
use crate::flow::Place;
use crate::views::pattern::compile::plan::{COUNTED_MS, Group, Program};

/// What one pattern keeps for one key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Automaton {
    /// What has begun, and is beyond its first event.
    pub runs: Vec<Run>,
    /// Where what has taken one event, which it does not count, and has more to take, has begun.
    pub(super) young: Vec<Place>,
    /// Matches in order of (completion, start).
    pub matches: Vec<KeptMatch>,
    /// What would be matches if they did not skip it, in the same order.
    pub(super) skipped: Vec<KeptMatch>,
    /// Starts that are beyond their first count, in order.
    pub(super) begun: Vec<Place>,
    /// No start before this waits to end its first count. The next walk back finds out anew.
    #[serde(skip)]
    pub(super) open_from: Option<Place>,
}

/// Buffers that are used again.
#[derive(Debug, Default)]
pub struct Scratch {
    pub(super) totals: Totals,
    pub(super) counted: Vec<usize>,
    pub(super) found: Vec<KeptMatch>,
}

/// Starts that a replay is about, by index in the log.
pub(super) type Eligible<'a> = Option<&'a dyn Fn(usize) -> bool>;

impl Automaton {
    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        !self.runs_here() && self.is_over() && self.begun.is_empty()
    }

    /// Whether there are neither matches nor what they skip.
    pub fn is_over(&self) -> bool {
        self.matches.is_empty() && self.skipped.is_empty()
    }

    /// Runs that have begun and are not over, as far as they are told apart.
    pub fn open_runs(&self) -> usize {
        self.runs.len() + self.young.len()
    }

    /// What cannot be derived of it.
    pub fn image(&self) -> Self {
        Automaton { open_from: None, ..self.clone() }
    }

    /// The moments up to which events must stay away, or have stayed away without that being announced, milliseconds.
    pub fn deadlines(&self) -> impl Iterator<Item = i64> {
        let waiting = self.runs.iter().filter_map(|run| run.until_ms);
        waiting.chain(self.matches.iter().filter(|held| !held.announced).map(|held| held.at.0))
    }

    /// Whether there are runs.
    pub(super) fn runs_here(&self) -> bool {
        !self.runs.is_empty() || !self.young.is_empty()
    }

    /// Bytes on the heap, about.
    pub fn bytes(&self) -> usize {
        let runs: usize = self.runs.iter().map(Run::bytes).sum();
        let candidates = self.matches.iter().chain(&self.skipped);
        let matches: usize = candidates.map(|held| size_of::<KeptMatch>() + held.ids.len() * 16).sum();
        runs + matches + (self.young.capacity() + self.begun.capacity()) * size_of::<Place>()
    }

    /// Takes the last event of the log. Calls `changed` with the matches that are gone (false) and new (true).
    pub fn push(
        &mut self,
        group: &Group,
        number: usize,
        log: &mut KeyLog,
        scratch: &mut Scratch,
        changed: impl FnMut(&mut KeptMatch, bool),
    ) {
        let (at, program) = (log.len() - 1, &group.programs[number]);
        self.step(program, group, log, at, None, scratch);
        self.candidates().choose(program, &mut scratch.found, None, changed);
    }

    pub(super) fn candidates(&mut self) -> Candidates<'_> {
        Candidates { matches: &mut self.matches, skipped: &mut self.skipped }
    }

    /// Takes the event at `at`; matches go to the scratch.
    pub(super) fn step(
        &mut self,
        program: &Program,
        group: &Group,
        log: &mut KeyLog,
        at: usize,
        eligible: Eligible<'_>,
        scratch: &mut Scratch,
    ) {
        let raw = log.entry(at).raw;
        let concerns = raw & program.uses != 0;
        // Conditions over the key's history cost a walk over it: only those are asked that matter.
        let asked = if self.runs_here() { program.uses } else { program.begins };
        if raw & asked & group.historic != 0 {
            settle(group, log, at, asked);
        }
        let mask = log.entry(at).mask;
        if !self.runs.is_empty() && (concerns || program.absent.is_some()) {
            self.advance(program, log, at, &mut scratch.found);
        }
        if !concerns {
            return;
        }
        if !self.young.is_empty() {
            self.advance_young(program, log, at, &mut scratch.found);
        }
        let first = &program.steps[0];
        match &first.count {
            Some(count) => {
                let ends = if program.steps.len() == 1 { first.bit } else { program.steps[1].bit };
                if mask >> ends & 1 == 1 {
                    self.end_counts(program, count, log, at, eligible, scratch);
                }
            }
            None if mask >> first.bit & 1 == 1 && eligible.is_none_or(|eligible| eligible(at)) => {
                if program.steps.len() > 1 {
                    if self.young.is_empty() {
                        self.young.reserve_exact(1);
                    }
                    self.young.push(log.entry(at).place());
                    return;
                }
                let mut run = Run::begin(program, log, at);
                match run.completed(program, log, at) {
                    Fate::Match(place) => scratch.found.push(run.held(place)),
                    Fate::Goes => self.runs.push(run),
                    Fate::Over => {}
                }
            }
            None => {}
        }
    }

    fn advance(&mut self, program: &Program, log: &KeyLog, at: usize, found: &mut Vec<KeptMatch>) {
        let mut index = 0;
        while index < self.runs.len() {
            match self.runs[index].advance(program, log, at) {
                Fate::Goes => index += 1,
                Fate::Over => drop(self.runs.swap_remove(index)),
                Fate::Match(place) => found.push(self.runs.swap_remove(index).held(place)),
            }
        }
    }

    /// The same for what has taken one event only.
    fn advance_young(&mut self, program: &Program, log: &KeyLog, at: usize, found: &mut Vec<KeptMatch>) {
        let entry = log.entry(at);
        let over = |start: &&Place| entry.time.saturating_sub(start.0) >= program.within_ms;
        let over = self.young.iter().take_while(over).count();
        if over > 0 {
            self.young.drain(..over);
        }
        let next = &program.steps[1];
        if entry.mask & (1 << next.bit | next.not) == 0 {
            return;
        }
        let runs = &mut self.runs;
        self.young.retain(|&start| {
            if entry.time.saturating_sub(start.0) >= program.within_ms {
                return false;
            }
            let Some(first) = log.find(start) else { return false };
            let mut run = Run::begin(program, log, first);
            match run.advance(program, log, at) {
                Fate::Goes if run.step == 0 => return true,
                Fate::Goes => runs.push(run),
                Fate::Over => {}
                Fate::Match(place) => found.push(run.held(place)),
            }
            false
        });
    }

    /// Time has come to `watermark`: runs that wait for an event to stay away are complete once it has passed. Calls
    /// `changed` with the matches that are gone (false) and new (true); returns the last completion.
    pub fn pass(
        &mut self,
        program: &Program,
        watermark: i64,
        changed: impl FnMut(&mut KeptMatch, bool),
    ) -> Option<Place> {
        let mut found = Vec::new();
        let mut index = 0;
        while index < self.runs.len() {
            match self.runs[index].until_ms {
                Some(until_ms) if until_ms <= watermark => {
                    found.push(self.runs.swap_remove(index).held((until_ms, Id::default())));
                }
                _ => index += 1,
            }
        }
        let last = found.iter().map(|held| held.at).max();
        self.candidates().choose(program, &mut found, None, changed);
        last
    }

    /// The last bound for which [`Automaton::expire`] has nothing to drop, milliseconds.
    pub fn due_ms(&self, program: &Program) -> i64 {
        let starts = self.runs.iter().map(|run| run.start.0);
        let starts = starts.chain(self.young.iter().chain(&self.begun).map(|start| start.0));
        let starts = starts.chain(self.skipped.first().map(|held| held.at.0));
        let due_ms = starts.min().map_or(i64::MAX, |first| first.saturating_add(program.reach_ms));
        let counted_ms = program.reach_ms.max(COUNTED_MS);
        self.matches.first().map_or(due_ms, |held| due_ms.min(held.at.0.saturating_add(counted_ms)))
    }

    /// Drops what neither a change from this event time on reaches nor the row of an event from then on looks at.
    pub fn expire(&mut self, program: &Program, bound_ms: i64) {
        let reached_ms = bound_ms.saturating_sub(program.reach_ms);
        self.runs.retain(|run| run.start.0 >= reached_ms);
        self.young.retain(|start| start.0 >= reached_ms);
        self.begun.retain(|start| start.0 >= reached_ms);
        // What a change reaches by its start is known to be complete before it, or it would be found again.
        let expired = self.skipped.partition_point(|held| held.at.0 < reached_ms);
        self.skipped.drain(..expired);
        let matches_from_ms = reached_ms.min(bound_ms.saturating_sub(COUNTED_MS));
        let expired = self.matches.partition_point(|held| held.at.0 < matches_from_ms);
        self.matches.drain(..expired);
        if self.skipped.is_empty() {
            self.skipped = Vec::new();
        }
        if self.runs.is_empty() {
            self.runs = Vec::new();
        }
        if self.young.is_empty() {
            self.young = Vec::new();
        }
        if self.matches.is_empty() {
            self.matches = Vec::new();
        }
    }

    /// Whether a match was completed by the event at a position, and how many were completed up to it in the last
    /// `counted_ms`.
    pub fn read(&self, place: Place, counted_ms: i64) -> (bool, usize) {
        let until = self.matches.partition_point(|held| held.at <= place);
        let from = self.matches.partition_point(|held| held.at.0 <= place.0.saturating_sub(counted_ms));
        let now = until > 0 && self.matches[until - 1].at == place;
        (now, until.saturating_sub(from))
    }
}
