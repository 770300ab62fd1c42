//! The automaton of one pattern over one key: it takes the events of the key's log one after the other.
//!
//! Runs whose first step counts are not kept while they count: the log knows. An event that could end the count looks
//! back over the log, adding up from the latest event to the earliest, and so sees the count of every possible start in
//! one pass.
//!
//! Nor are runs that have taken one event only more than the place of that event: most never get beyond it.
//!
//! An event that comes late, or goes, touches only what began less than the pattern's reach before it. That is thrown
//! away, and the log is taken again from there, by the same steps.

use super::after_match::Candidates;
use super::condition::{Around, Taken};
use super::count::Count;
use super::history::Past;
use super::log::{Log, Place};
use super::plan::{COUNTED_MS, Group, Program, Step};
use super::run::{Fate, Held, Run, Totals};
use crate::event::Id;

/// What one pattern keeps for one key.
#[derive(Debug, Default)]
pub struct Automaton {
    /// What has begun, and is beyond its first event.
    pub runs: Vec<Run>,
    /// Where what has taken one event, which it does not count, and has more to take, has begun.
    young: Vec<Place>,
    /// Matches in order of (completion, start).
    pub matches: Vec<Held>,
    /// What would be matches if they did not skip it, in the same order.
    skipped: Vec<Held>,
    /// Starts that are beyond their first count, in order.
    begun: Vec<Place>,
    /// No start before this waits to end its first count.
    open_from: Option<Place>,
}

/// Buffers that are used again.
#[derive(Debug, Default)]
pub struct Scratch {
    totals: Totals,
    counted: Vec<usize>,
    found: Vec<Held>,
}

/// Starts that a replay is about, by index in the log.
type Eligible<'a> = Option<&'a dyn Fn(usize) -> bool>;

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

    /// Whether there are runs.
    fn runs_here(&self) -> bool {
        !self.runs.is_empty() || !self.young.is_empty()
    }

    /// Bytes on the heap, about.
    pub fn bytes(&self) -> usize {
        let runs: usize = self.runs.iter().map(Run::bytes).sum();
        let candidates = self.matches.iter().chain(&self.skipped);
        let matches: usize = candidates.map(|held| size_of::<Held>() + held.ids.len() * 16).sum();
        runs + matches + (self.young.capacity() + self.begun.capacity()) * size_of::<Place>()
    }

    /// Takes the last event of the log. Calls `changed` with the matches that are gone (false) and new (true).
    pub fn push(
        &mut self,
        group: &Group,
        number: usize,
        log: &mut Log,
        scratch: &mut Scratch,
        changed: impl FnMut(&mut Held, bool),
    ) {
        let (at, program) = (log.len() - 1, &group.programs[number]);
        self.step(program, group, log, at, None, scratch);
        self.candidates().choose(program, &mut scratch.found, None, changed);
    }

    fn candidates(&mut self) -> Candidates<'_> {
        Candidates { matches: &mut self.matches, skipped: &mut self.skipped }
    }

    /// Takes the event at `at`; matches go to the scratch.
    fn step(
        &mut self,
        program: &Program,
        group: &Group,
        log: &mut Log,
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

    fn advance(&mut self, program: &Program, log: &Log, at: usize, found: &mut Vec<Held>) {
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
    fn advance_young(&mut self, program: &Program, log: &Log, at: usize, found: &mut Vec<Held>) {
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

    /// Whether the events within `within` before one can be enough, by their bits alone.
    fn may_be_enough(program: &Program, count: &Count, log: &Log, at: usize) -> bool {
        let time = log.entry(at).time;
        let until = if program.steps.len() > 1 { at } else { at + 1 };
        let most = |(_, least): &(u64, i128)| *least > until as i128;
        if count.needs.iter().any(most) {
            return false;
        }
        count.needs.iter().all(|&(bits, least)| {
            let mut left = least;
            for back in (0..until).rev() {
                let entry = log.entry(back);
                if left <= 0 || time.saturating_sub(entry.time) >= program.within_ms {
                    break;
                }
                left -= i128::from(entry.mask & bits == bits);
            }
            left <= 0
        })
    }

    /// Looks back from an event that may end the first count, over every start that it may end for.
    fn end_counts(
        &mut self,
        program: &Program,
        count: &Count,
        log: &Log,
        at: usize,
        eligible: Eligible<'_>,
        scratch: &mut Scratch,
    ) {
        if !Self::may_be_enough(program, count, log, at) {
            return;
        }
        let first = &program.steps[0];
        let next = program.steps.get(1);
        let time = log.entry(at).time;
        scratch.totals.clear(count);
        scratch.counted.clear();
        let mut open_from = log.entry(at).place();
        let mut back = if next.is_some() { at } else { at + 1 };
        while back > 0 {
            back -= 1;
            let entry = *log.entry(back);
            if time.saturating_sub(entry.time) >= program.within_ms || self.is_closed(count, entry.place()) {
                break;
            }
            if entry.mask >> first.bit & 1 == 0 {
                // Between the last counted event and this one: no start can be ended by it.
                if scratch.counted.is_empty() && next.is_some_and(|next| entry.mask & next.not != 0) {
                    return;
                }
                continue;
            }
            scratch.totals.add(count, entry.mask, &log.row(back));
            scratch.counted.push(back);
            if !count.whole_window && !self.end_count(program, count, log, (back, at), eligible, scratch) {
                open_from = entry.place();
            }
        }
        if let (true, Some(&back)) = (count.whole_window, scratch.counted.last()) {
            self.end_count(program, count, log, (back, at), eligible, scratch);
        }
        self.open_from = Some(open_from);
    }

    /// Ends the first count of the start at `.0` with the event at `.1`, if that is acceptable. False if the start goes on
    /// waiting.
    fn end_count(
        &mut self,
        program: &Program,
        count: &Count,
        log: &Log,
        (back, at): (usize, usize),
        eligible: Eligible<'_>,
        scratch: &mut Scratch,
    ) -> bool {
        let start = log.entry(back).place();
        if self.begun.binary_search(&start).is_ok() || !eligible.is_none_or(|eligible| eligible(back)) {
            return true;
        }
        let Scratch { totals, counted, found } = scratch;
        let row = log.row(at);
        let next = program.steps.get(1);
        let accepts = |next: &Step| {
            let first = Taken { time: log.entry(back).time, totals: totals.values.clone(), ..Taken::default() };
            next.condition.holds(&row, &Around { taken: &[first], here: &[], past: None, time: row.time })
        };
        if !totals.enough(count, &row, &[]) || !next.is_none_or(accepts) {
            return false;
        }
        let place = self.begun.partition_point(|begun| *begun < start);
        self.begun.insert(place, start);
        let events: Vec<usize> = counted.iter().rev().copied().collect();
        let mut run = Run::counted(program, log, &events, &totals.values);
        if next.is_some() {
            run.take(program, 1, log, at);
        } else {
            run.totals.values.clone_from(&totals.values);
        }
        match run.completed(program, log, at) {
            Fate::Match(place) => found.push(run.held(place)),
            Fate::Goes => self.runs.push(run),
            Fate::Over => {}
        }
        true
    }

    /// Whether no start before a position waits to end its first count.
    fn is_closed(&self, count: &Count, place: Place) -> bool {
        !count.whole_window && self.open_from.is_some_and(|open| place < open)
    }

    /// The log has changed at these positions (sorted). Takes it again from the first start that they touch; `changed` is
    /// told the matches that are gone (false) and new (true).
    pub fn replay(
        &mut self,
        group: &Group,
        number: usize,
        log: &mut Log,
        places: &[Place],
        scratch: &mut Scratch,
        mut changed: impl FnMut(&mut Held, bool),
    ) {
        let program = &group.programs[number];
        let (Some(&first), Some(&last)) = (places.first(), places.last()) else { return };
        let touched_by = |start: Place| -> Option<Place> {
            let from = match program.ahead_ms {
                0 => start,
                ahead_ms => (start.0.saturating_sub(ahead_ms).saturating_add(1), Id::default()),
            };
            let next = places.get(places.partition_point(|place| *place < from))?;
            (next.0.saturating_sub(start.0) < program.reach_ms).then_some(*next)
        };
        self.runs.retain(|run| touched_by(run.start).is_none());
        self.young.retain(|start| touched_by(*start).is_none());
        let mut kept_starts = Vec::new();
        let mut gone: Option<Place> = None;
        let mut stays = |held: &Held| match touched_by(held.start) {
            Some(place) if held.at >= place => {
                gone = Some(gone.map_or(held.at, |first| first.min(held.at)));
                false
            }
            Some(_) => {
                kept_starts.push(held.start);
                true
            }
            None => true,
        };
        self.skipped.retain(&mut stays);
        self.matches.retain_mut(|held| {
            let stays = stays(held);
            if !stays {
                changed(held, false);
            }
            stays
        });
        kept_starts.sort_unstable();
        let kept = |start: &Place| kept_starts.binary_search(start).is_ok();
        self.begun.retain(|start| touched_by(*start).is_none() || kept(start));
        let from = log.lower_bound((first.0.saturating_sub(program.reach_ms).saturating_add(1), Id::default()));
        let mut eligible = vec![false; log.len() - from];
        for at in from..log.len() {
            let place = log.entry(at).place();
            eligible[at - from] = touched_by(place).is_some() && !kept(&place);
        }
        let mut again = Automaton { begun: std::mem::take(&mut self.begun), ..Automaton::default() };
        let is_eligible = |at: usize| at >= from && eligible[at - from];
        for at in from..log.len() {
            let beyond_ms = program.reach_ms.saturating_add(program.ahead_ms);
            let over = log.entry(at).time.saturating_sub(last.0) >= beyond_ms && log.entry(at).place() > last;
            if over && !again.runs_here() {
                break;
            }
            again.step(program, group, log, at, Some(&is_eligible), scratch);
        }
        self.runs.append(&mut again.runs);
        self.young.append(&mut again.young);
        self.young.sort_unstable();
        self.begun = again.begun;
        self.open_from = None;
        self.candidates().choose(program, &mut scratch.found, gone, changed);
    }

    /// Time has come to `watermark`: runs that wait for an event to stay away are complete once it has passed. Calls
    /// `changed` with the matches that are gone (false) and new (true); returns the last completion.
    pub fn pass(&mut self, program: &Program, watermark: i64, changed: impl FnMut(&mut Held, bool)) -> Option<Place> {
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

/// Finds out which of these named events, whose conditions look at the key's history, an event is; unless it is known.
pub fn settle(group: &Group, log: &mut Log, at: usize, asked: u64) {
    let entry = *log.entry(at);
    let mut open = entry.raw & asked & group.historic & !log.known(at);
    while open != 0 {
        let bit = open.trailing_zeros();
        open &= open - 1;
        let event = &group.events[bit as usize];
        let past = Some(Past { log, at, length_ms: event.history_ms });
        let around = Around { taken: &[], here: &[], past, time: entry.time };
        let holds = event.historic.holds(&log.row(at), &around);
        log.set_known(at, log.known(at) | 1 << bit);
        let entry = log.entry_mut(at);
        entry.mask = entry.mask & !(1 << bit) | u64::from(holds) << bit;
    }
}
