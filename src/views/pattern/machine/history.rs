//! Earlier events of the key: what `first_seen` and `history` look at.
//!
//! The past of an event, for a condition of a named event of kinds K, is the events of the same key and of the kinds K that
//! come before it in (time, id) order and whose time is in `(t - H, t]`, H being the pattern's `history`. All but the age
//! look at the last [`PAST_EVENTS_MAX`] of them. With another named event as last argument (`first_seen(device, activity)`)
//! the past is of the events that are that one, which itself does not look at the past.

use super::evaluate::{Around, EventCells};
use super::log::KeyLog;
use crate::event::Id;
use crate::views::pattern::compile::condition::{Column, ColumnKind, PastMeasure, PastTerm, TermValue};
use crate::views::pattern::compile::plan::Group;

/// Earlier events that are looked at, at most: a bound on the work per event of a busy key.
pub const PAST_EVENTS_MAX: usize = 10_000;

/// A day, milliseconds.
const DAY_MS: i64 = 86_400_000;

/// The past of one event.
#[derive(Clone, Copy)]
pub struct Past<'a> {
    /// The key's log.
    pub log: &'a KeyLog,
    /// The event's place in it.
    pub at: usize,
    /// How far back, milliseconds.
    pub length_ms: i64,
}

impl Past<'_> {
    /// The events, latest first.
    fn events(&self, base: u8) -> impl Iterator<Item = usize> {
        let log = self.log;
        let from = log.entry(self.at).time.saturating_sub(self.length_ms);
        let inside = (0..self.at).rev().take_while(move |&at| log.entry(at).time > from);
        inside.filter(move |&at| log.entry(at).raw >> base & 1 == 1).take(PAST_EVENTS_MAX)
    }

    /// Whether a field had this value.
    pub fn has_seen(&self, column: &Column, cell: u64, base: u8) -> bool {
        self.events(base).any(|at| self.log.row(at).cell(column) == Some(cell))
    }

    /// The value of an aggregate.
    pub fn value(&self, term: &PastTerm) -> Option<TermValue> {
        let now = self.log.entry(self.at).time;
        let since = |at: usize| TermValue::Exact(i128::from(now - self.log.entry(at).time), 1);
        let cells = |column: Column| {
            let at_cell = move |at| self.log.row(at).cell(&column).map(|cell| (self.log.entry(at).time, cell as i64));
            self.events(term.base).filter_map(at_cell)
        };
        match term.measure {
            PastMeasure::Count => Some(TermValue::Exact(self.events(term.base).count() as i128, 1)),
            PastMeasure::SinceLast => self.events(term.base).next().map(since),
            PastMeasure::Age => {
                let from = self.log.lower_bound((now.saturating_sub(self.length_ms).saturating_add(1), Id::default()));
                let mut inside = from..self.at;
                inside.find(|&at| self.log.entry(at).raw >> term.base & 1 == 1).map(since)
            }
            PastMeasure::Mean(column) => {
                let (sum, count) = cells(column).fold((0i128, 0), |(sum, n), (_, v)| (sum + i128::from(v), n + 1));
                (count > 0).then(|| TermValue::Exact(sum, count * i128::from(unit(&column))))
            }
            PastMeasure::Sum(column, length_ms) => {
                let sum = cells(column)
                    .filter(|(time, _)| *time > now.saturating_sub(length_ms))
                    .map(|(_, v)| i128::from(v))
                    .sum();
                Some(TermValue::Exact(sum, i128::from(unit(&column))))
            }
            PastMeasure::MedianDay(column) => {
                let mut days: Vec<i128> = Vec::new();
                for (time, value) in cells(column) {
                    let day = ((now - time) / DAY_MS) as usize;
                    if days.len() <= day {
                        days.resize(day + 1, 0);
                    }
                    days[day] += i128::from(value);
                }
                let days = days.get_mut(1..).filter(|days| !days.is_empty())?;
                let middle = (days.len() - 1) / 2;
                Some(TermValue::Exact(*days.select_nth_unstable(middle).1, i128::from(unit(&column))))
            }
        }
    }
}

fn unit(column: &Column) -> i64 {
    match column.kind {
        ColumnKind::Exact(unit) => unit,
        ColumnKind::Float | ColumnKind::Text => 1,
    }
}

/// Finds out which of these named events, whose conditions look at the key's history, an event is; unless it is known.
pub fn settle(group: &Group, log: &mut KeyLog, at: usize, asked: u64) {
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
