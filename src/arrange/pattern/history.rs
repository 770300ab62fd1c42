//! Earlier events of the key: what `first_seen` and `history` look at.
//!
//! The past of an event, for a condition of a named event of kinds K, is the events of the same key and of the kinds K that
//! come before it in (time, id) order and whose time is in `(t - H, t]`, H being the pattern's `history`. All but the age
//! look at the last [`PAST_EVENTS_MAX`] of them. With another named event as last argument (`first_seen(device, activity)`)
//! the past is of the events that are that one, which itself does not look at the past.

use super::condition::{Cells, Column, ColumnKind, Value};
use super::log::Log;
use crate::event::Id;

/// Earlier events that are looked at, at most: a bound on the work per event of a busy key.
pub const PAST_EVENTS_MAX: usize = 10_000;

/// A day, milliseconds.
const DAY_MS: i64 = 86_400_000;

/// An aggregate of the past; missing where it has nothing to be computed of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PastTerm {
    /// What is computed.
    pub measure: PastMeasure,
    /// Events with this bit count: those of the condition's kinds.
    pub base: u8,
}

/// What is computed of the past.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PastMeasure {
    /// Number of events; never missing.
    Count,
    /// Mean of a field, over the events that have it.
    Mean(Column),
    /// Sum of a field over the last so many milliseconds, `(t - ms, t]`; never missing.
    Sum(Column, i64),
    /// The past in slices of 24 h that end at the event, `(t - 24 h * (n + 1), t - 24 h * n]`: the lower median of the
    /// field's sums per slice, from n = 1 to the slice of the earliest event.
    MedianDay(Column),
    /// Milliseconds since the latest event.
    SinceLast,
    /// Milliseconds since the earliest event.
    Age,
}

impl PastTerm {
    /// The field that it looks at.
    pub fn column(&self) -> Option<&Column> {
        match &self.measure {
            PastMeasure::Mean(column) | PastMeasure::Sum(column, _) | PastMeasure::MedianDay(column) => Some(column),
            PastMeasure::Count | PastMeasure::SinceLast | PastMeasure::Age => None,
        }
    }
}

/// The past of one event.
#[derive(Clone, Copy)]
pub struct Past<'a> {
    /// The key's log.
    pub log: &'a Log,
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
    pub fn value(&self, term: &PastTerm) -> Option<Value> {
        let now = self.log.entry(self.at).time;
        let since = |at: usize| Value::Exact(i128::from(now - self.log.entry(at).time), 1);
        let cells = |column: Column| {
            let at_cell = move |at| self.log.row(at).cell(&column).map(|cell| (self.log.entry(at).time, cell as i64));
            self.events(term.base).filter_map(at_cell)
        };
        match term.measure {
            PastMeasure::Count => Some(Value::Exact(self.events(term.base).count() as i128, 1)),
            PastMeasure::SinceLast => self.events(term.base).next().map(since),
            PastMeasure::Age => {
                let from = self.log.lower_bound((now.saturating_sub(self.length_ms).saturating_add(1), Id::default()));
                let mut inside = from..self.at;
                inside.find(|&at| self.log.entry(at).raw >> term.base & 1 == 1).map(since)
            }
            PastMeasure::Mean(column) => {
                let (sum, count) = cells(column).fold((0i128, 0), |(sum, n), (_, v)| (sum + i128::from(v), n + 1));
                (count > 0).then(|| Value::Exact(sum, count * i128::from(unit(&column))))
            }
            PastMeasure::Sum(column, length_ms) => {
                let sum = cells(column)
                    .filter(|(time, _)| *time > now.saturating_sub(length_ms))
                    .map(|(_, v)| i128::from(v))
                    .sum();
                Some(Value::Exact(sum, i128::from(unit(&column))))
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
                Some(Value::Exact(*days.select_nth_unstable(middle).1, i128::from(unit(&column))))
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
