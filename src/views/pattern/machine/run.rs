//! Runs and matches: what has begun at one event, how far it has come, and what it has counted.

use std::collections::HashSet;
use std::hash::BuildHasherDefault;

use serde::{Deserialize, Serialize, Serializer};

use super::evaluate::{Around, EventCells, LogRow, Taken};
use super::log::KeyLog;
use crate::event::Id;
use crate::flow::Place;
use crate::operators::Routed;
use crate::views::pattern::compile::count::{Count, CountMeasure};
use crate::views::pattern::compile::plan::Program;

/// Ids that a match carries at most: of more events, the first 63 and the last.
pub const MATCH_IDS_MAX: usize = 64;

/// A match of a program over one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptMatch {
    /// When it was complete: the last event, or the moment until which an event stayed away (before all events of it).
    pub at: Place,
    /// Its first event.
    pub start: Place,
    /// Where the next match may begin, if it skips anything.
    pub next: Place,
    /// The ids of its events, in order, at most [`MATCH_IDS_MAX`].
    pub ids: Box<[Id]>,
    /// How many events it has.
    pub events: u32,
    /// Whether it has left the operator.
    pub announced: bool,
}

/// Aggregates while they grow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// One per aggregate of the step.
    pub values: Vec<i128>,
    /// What the distinct ones have seen.
    #[serde(serialize_with = "in_order")]
    seen: Vec<SeenValues>,
}

type SeenValues = HashSet<u64, BuildHasherDefault<Routed>>;

/// Sets in the order of what is in them, which does not depend on how it came there.
fn in_order<S: Serializer>(seen: &[SeenValues], serializer: S) -> Result<S::Ok, S::Error> {
    let sorted = |seen: &SeenValues| {
        let mut cells: Vec<u64> = seen.iter().copied().collect();
        cells.sort_unstable();
        cells
    };
    serializer.collect_seq(seen.iter().map(sorted))
}

impl Totals {
    /// Starts from nothing.
    pub fn clear(&mut self, count: &Count) {
        self.values.clear();
        self.values.resize(count.aggregates.len(), 0);
        self.seen.iter_mut().for_each(HashSet::clear);
        self.seen.resize_with(count.aggregates.len(), HashSet::default);
    }

    /// Counts an event.
    pub fn add(&mut self, count: &Count, mask: u64, row: &LogRow<'_>) {
        for (index, aggregate) in count.aggregates.iter().enumerate() {
            if aggregate.only.is_some_and(|bit| mask >> bit & 1 == 0) {
                continue;
            }
            self.values[index] += match &aggregate.measure {
                CountMeasure::Count => 1,
                CountMeasure::Sum(column) => row.cell(column).map_or(0, |cell| i128::from(cell as i64)),
                CountMeasure::Distinct(column) => {
                    row.cell(column).is_some_and(|cell| self.seen[index].insert(cell)).into()
                }
            };
        }
    }

    /// Whether the step may be left.
    pub fn enough(&self, count: &Count, row: &LogRow<'_>, taken: &[Taken]) -> bool {
        if self.values.first().is_none_or(|&events| events < count.at_least) {
            return false;
        }
        let around = Around { taken, here: &self.values, past: None, time: row.time };
        count.having.as_ref().is_none_or(|having| having.holds(row, &around))
    }
}

/// What has begun at one event and has taken at least that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Its first event.
    pub start: Place,
    /// The step that has taken the last event.
    pub step: usize,
    /// The steps taken.
    pub taken: Vec<Taken>,
    /// What the step counts, if it does.
    pub totals: Totals,
    /// Whether an event that must not lie before the next step has come.
    pub blocked: bool,
    /// Once all steps are taken: until when an event must stay away, milliseconds.
    pub until_ms: Option<i64>,
    ids: Vec<Id>,
    events: u32,
    last: Place,
    /// Where the next match may begin once this is one, by what has been taken so far.
    next: Place,
}

fn around(taken: &[Taken], time: i64) -> Around<'_> {
    Around { taken, here: &[], past: None, time }
}

/// What an event does to a run.
#[derive(Debug)]
pub enum Fate {
    /// It goes on.
    Goes,
    /// It is over.
    Over,
    /// It is a match, completed at this position.
    Match(Place),
}

impl Run {
    /// A run that begins at an event and takes it for its first step.
    pub fn begin(program: &Program, log: &KeyLog, at: usize) -> Self {
        let mut run = Run::empty(log.entry(at).place());
        run.take(program, 0, log, at);
        run
    }

    /// A run whose first step has counted these events (in order) with these totals.
    pub fn counted(program: &Program, log: &KeyLog, events: &[usize], totals: &[i128]) -> Self {
        let first = events[0];
        let mut run = Run::empty(log.entry(first).place());
        let LogRow { time, present, .. } = log.row(first);
        run.taken.push(Taken { time, present, cells: Box::default(), totals: totals.to_vec() });
        events.iter().for_each(|&at| run.push(program, at == first, log.entry(at).place()));
        run
    }

    fn empty(start: Place) -> Self {
        Run {
            start,
            step: 0,
            taken: Vec::new(),
            totals: Totals::default(),
            blocked: false,
            until_ms: None,
            ids: Vec::new(),
            events: 0,
            last: start,
            next: start,
        }
    }

    /// Adds an event, the first of its step or one more that the step counts.
    fn push(&mut self, program: &Program, first: bool, place: Place) {
        self.next = program.after_match.next(self.step, first, place).unwrap_or(self.next);
        self.events += 1;
        self.last = place;
        self.blocked = false;
        if self.ids.len() == MATCH_IDS_MAX {
            self.ids.pop();
        }
        // Most have few events: no room to spare for the first ones.
        if self.ids.len() < 4 {
            self.ids.reserve_exact(1);
        }
        self.ids.push(place.1);
    }

    /// Takes an event for a step.
    pub fn take(&mut self, program: &Program, step: usize, log: &KeyLog, at: usize) {
        let (entry, row) = (log.entry(at), log.row(at));
        let of_step = &program.steps[step];
        let cells = if of_step.keeps { row.cells.into() } else { Box::default() };
        self.freeze(program);
        self.taken.reserve_exact(1);
        self.taken.push(Taken { time: entry.time, present: row.present, cells, totals: Vec::new() });
        self.step = step;
        if let Some(count) = &of_step.count {
            self.totals.clear(count);
            self.totals.add(count, entry.mask, &row);
        }
        self.push(program, true, entry.place());
    }

    /// Keeps what the step has counted for later steps.
    fn freeze(&mut self, program: &Program) {
        if let (true, Some(taken)) = (program.steps[self.step].count.is_some(), self.taken.last_mut())
            && taken.totals.is_empty()
        {
            taken.totals = std::mem::take(&mut self.totals.values);
        }
    }

    /// Once a step has taken or counted an event: whether that was the last that is needed.
    pub fn completed(&mut self, program: &Program, log: &KeyLog, at: usize) -> Fate {
        if self.step + 1 < program.steps.len() {
            return Fate::Goes;
        }
        if let Some(count) = &program.steps[self.step].count
            && !self.totals.enough(count, &log.row(at), &self.taken)
        {
            return Fate::Goes;
        }
        self.freeze(program);
        match &program.absent {
            None => Fate::Match(self.last),
            Some(absent) => {
                self.until_ms = Some(self.last.0.saturating_add(absent.within_ms));
                Fate::Goes
            }
        }
    }

    /// What the event at `at` does to the run.
    pub fn advance(&mut self, program: &Program, log: &KeyLog, at: usize) -> Fate {
        let entry = log.entry(at);
        let has = |bit: u8| entry.mask >> bit & 1 == 1;
        let row = log.row(at);
        if let (Some(until_ms), Some(absent)) = (self.until_ms, &program.absent) {
            return match entry.time >= until_ms {
                true => Fate::Match((until_ms, Id::default())),
                false if has(absent.bit) && absent.condition.holds(&row, &around(&self.taken, entry.time)) => {
                    Fate::Over
                }
                false => Fate::Goes,
            };
        }
        if entry.time.saturating_sub(self.start.0) >= program.within_ms {
            return Fate::Over;
        }
        let next = self.step + 1;
        let count = program.steps[self.step].count.as_ref();
        if let Some(step) = program.steps.get(next).filter(|step| has(step.bit) && !self.blocked)
            && count.is_none_or(|count| self.totals.enough(count, &row, &self.taken))
        {
            // The condition sees what this step has counted as an earlier step's.
            let kept = self.taken.last_mut().filter(|_| count.is_some());
            if let Some(taken) = kept {
                taken.totals.clone_from(&self.totals.values);
            }
            if step.condition.holds(&row, &around(&self.taken, entry.time)) {
                self.take(program, next, log, at);
                return self.completed(program, log, at);
            }
            if let Some(taken) = self.taken.last_mut().filter(|_| count.is_some()) {
                taken.totals.clear();
            }
        }
        let own = &program.steps[self.step];
        if let Some(count) = count.filter(|_| has(own.bit)) {
            let (counted, others) =
                self.taken.split_last().map_or((None, &[][..]), |(last, others)| (Some(last), others));
            debug_assert!(counted.is_some());
            if own.condition.holds(&row, &around(others, entry.time)) {
                self.totals.add(count, entry.mask, &row);
                self.push(program, false, entry.place());
                return self.completed(program, log, at);
            }
        }
        if program.steps.get(next).is_some_and(|step| entry.mask & step.not != 0) {
            self.blocked = true;
            // What has taken one event only waits for the next step: nothing can lift the block.
            if count.is_none() {
                return Fate::Over;
            }
        }
        Fate::Goes
    }

    /// The match that it has become.
    pub fn held(self, at: Place) -> KeptMatch {
        let Run { start, next, ids, events, .. } = self;
        KeptMatch { at, start, next, ids: ids.into(), events, announced: false }
    }

    /// Bytes on the heap, about.
    pub fn bytes(&self) -> usize {
        size_of::<Run>() + self.ids.capacity() * 16 + self.taken.len() * (size_of::<Taken>() + 64)
    }
}
