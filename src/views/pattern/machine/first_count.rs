//! Ends of a first count: found by looking back over the log, for every possible start in one pass.

use super::automaton::{Automaton, Eligible, Scratch};
use super::evaluate::{Around, Taken};
use super::log::KeyLog;
use super::run::{Fate, Run};
use crate::flow::Place;
use crate::views::pattern::compile::count::Count;
use crate::views::pattern::compile::plan::{Program, Step};

impl Automaton {
    /// Whether the events within `within` before one can be enough, by their bits alone.
    fn may_be_enough(program: &Program, count: &Count, log: &KeyLog, at: usize) -> bool {
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
    pub(super) fn end_counts(
        &mut self,
        program: &Program,
        count: &Count,
        log: &KeyLog,
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
        log: &KeyLog,
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
}
