//! How conditions are evaluated, and where the cells of an event are found.

use std::cell::Cell;

use serde::{Deserialize, Serialize};

use super::history::Past;
use crate::event::{Event, Schema};
use crate::views::pattern::compile::condition::{
    Column, ColumnKind, ColumnOf, Condition, TermSource, TermValue, distance_km,
};
use crate::views::pattern::compile::expr::Comparison;

/// Where the cells of an event are found.
pub trait EventCells {
    /// The cell of a column, if the event has the field, or the feature is not missing.
    fn cell(&self, column: &Column) -> Option<u64>;
}

/// The event itself, before it is cut to columns. What a text is compared by is computed once.
pub struct Whole<'a> {
    event: &'a Event,
    schema: &'a Schema,
    texts: &'a Texts,
    features: &'a [f64],
}

/// Fingerprints of the texts of one event, as far as somebody asked.
#[derive(Debug, Default)]
pub struct Texts {
    known: Cell<u128>,
    by_slot: Vec<Cell<u64>>,
}

impl Texts {
    /// Room for the fields of a schema.
    pub fn new(schema: &Schema) -> Self {
        Texts { known: Cell::new(0), by_slot: vec![Cell::new(0); schema.fields().len()] }
    }
}

impl<'a> Whole<'a> {
    /// An event that has not been looked at before.
    pub fn new(event: &'a Event, schema: &'a Schema, texts: &'a Texts) -> Self {
        texts.known.set(0);
        Whole { event, schema, texts, features: &[] }
    }

    /// The event with its velocity features, by their numbers; NaN is missing.
    pub fn with_features(self, features: &'a [f64]) -> Self {
        Whole { features, ..self }
    }
}

impl EventCells for Whole<'_> {
    #[inline]
    fn cell(&self, column: &Column) -> Option<u64> {
        match (column.of, column.kind) {
            (ColumnOf::Field(field), ColumnKind::Text) => {
                if !self.event.has(field) {
                    return None;
                }
                let (slot, known) = (usize::from(field.0), self.texts.known.get());
                if known >> slot & 1 == 0 {
                    self.texts.known.set(known | 1 << slot);
                    self.texts.by_slot[slot].set(self.event.fingerprint(field, self.schema)?);
                }
                Some(self.texts.by_slot[slot].get())
            }
            (ColumnOf::Field(field), _) => self.event.int(field).map(|cell| cell as u64),
            (ColumnOf::Feature(number), _) => {
                let value = *self.features.get(usize::from(number))?;
                (!value.is_nan()).then(|| value.to_bits())
            }
        }
    }
}

/// The columns of an event in a log.
#[derive(Clone, Copy, Debug)]
pub struct LogRow<'a> {
    /// Event time, milliseconds.
    pub time: i64,
    /// Which columns are there, bit by bit.
    pub present: u64,
    /// The columns that are there.
    pub cells: &'a [u64],
}

impl EventCells for LogRow<'_> {
    #[inline]
    fn cell(&self, column: &Column) -> Option<u64> {
        let bit = 1 << column.index;
        (self.present & bit != 0).then(|| self.cells[(self.present & (bit - 1)).count_ones() as usize])
    }
}

/// A step that a run has taken: its first event's columns where later steps look at them, and what it has counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// Event time of its (first) event, milliseconds.
    pub time: i64,
    /// Which columns are there.
    pub present: u64,
    /// The columns that are there; empty where no later step looks at them.
    pub cells: Box<[u64]>,
    /// The aggregates of a counting step.
    pub totals: Vec<i128>,
}

/// What a condition may look at beside the event itself.
#[derive(Clone, Copy, Default)]
pub struct Around<'a> {
    /// The steps taken so far.
    pub taken: &'a [Taken],
    /// The aggregates of the step itself.
    pub here: &'a [i128],
    /// Earlier events of the key.
    pub past: Option<Past<'a>>,
    /// Event time of the event, milliseconds.
    pub time: i64,
}

impl Condition {
    /// Whether it holds for an event.
    pub fn holds<C: EventCells>(&self, own: &C, around: &Around<'_>) -> bool {
        match self {
            Condition::All(all) => all.iter().all(|one| one.holds(own, around)),
            Condition::Any(any) => any.iter().any(|one| one.holds(own, around)),
            Condition::Not(inner) => !inner.holds(own, around),
            Condition::Bound(column, comparison, bound) => {
                own.cell(column).is_some_and(|cell| comparison.accepts((cell as i64).cmp(bound)))
            }
            Condition::Is(column, equal, word) => own.cell(column).is_some_and(|cell| (cell == *word) == *equal),
            Condition::Compare(left, comparison, right) => {
                let (left_value, right_value) = (left.source.value(own, around), right.source.value(own, around));
                match (left_value, right_value) {
                    (Some(a), Some(b)) => compare(a, left.factor, *comparison, b, right.factor),
                    _ => false,
                }
            }
            Condition::Has(column) => own.cell(column).is_some(),
            Condition::FirstSeen(column, base) => match (own.cell(column), around.past) {
                (Some(cell), Some(past)) => !past.has_seen(column, cell, *base),
                _ => false,
            },
        }
    }
}

impl TermSource {
    fn value<C: EventCells>(&self, own: &C, around: &Around<'_>) -> Option<TermValue> {
        match self {
            TermSource::Constant(value) => Some(*value),
            TermSource::Own(column) => own.cell(column).map(|cell| value_of(column, cell)),
            TermSource::Taken(step, column) => {
                let taken = around.taken.get(*step)?;
                taken.row().cell(column).map(|cell| value_of(column, cell))
            }
            TermSource::Total(step, top, bottom, unit) => {
                let totals = match step {
                    Some(step) => &around.taken.get(*step)?.totals,
                    None => around.here,
                };
                let bottom = bottom.map_or(1, |bottom| totals[bottom]);
                (bottom > 0).then(|| TermValue::Exact(totals[*top], bottom.saturating_mul(i128::from(*unit))))
            }
            TermSource::Distance(step, lat, lon) => kilometres(own, around, *step, lat, lon).map(TermValue::Float),
            TermSource::Speed(step, lat, lon) => {
                let distance = kilometres(own, around, *step, lat, lon)?;
                let hours = (around.time - around.taken.get(*step)?.time) as f64 / 3_600_000.0;
                // In no time at all: any distance is too fast, and no distance is none.
                Some(TermValue::Float(if distance == 0.0 { 0.0 } else { distance / hours }))
            }
            TermSource::Since(step) => {
                let since = around.time.saturating_sub(around.taken.get(*step)?.time);
                Some(TermValue::Exact(i128::from(since), 1))
            }
            TermSource::Past(term) => around.past?.value(term),
        }
    }
}

impl Taken {
    /// The event's columns.
    pub fn row(&self) -> LogRow<'_> {
        let present = if self.cells.is_empty() { 0 } else { self.present };
        LogRow { time: self.time, present, cells: &self.cells }
    }
}

fn value_of(column: &Column, cell: u64) -> TermValue {
    match column.kind {
        ColumnKind::Exact(unit) => TermValue::Exact(i128::from(cell as i64), i128::from(unit)),
        ColumnKind::Float => TermValue::Float(f64::from_bits(cell)),
        ColumnKind::Text => TermValue::Word(cell),
    }
}

/// Compares two values, each times its factor.
fn compare(a: TermValue, fa: (i64, i64), comparison: Comparison, b: TermValue, fb: (i64, i64)) -> bool {
    if let (TermValue::Word(a), TermValue::Word(b)) = (a, b) {
        return comparison.accepts(a.cmp(&b));
    }
    if let (Some(left), Some(right)) = (crossed(a, fa, b, fb), crossed(b, fb, a, fa)) {
        return comparison.accepts(left.cmp(&right));
    }
    let (a, b) = (a.float(fa), b.float(fb));
    a.partial_cmp(&b).is_some_and(|ordering| comparison.accepts(ordering))
}

/// One side of `a * fa ? b * fb` once both are multiplied by all denominators; `None` if that is not exact.
fn crossed(a: TermValue, fa: (i64, i64), b: TermValue, fb: (i64, i64)) -> Option<i128> {
    let (TermValue::Exact(top, _), TermValue::Exact(_, other)) = (a, b) else { return None };
    let top = top.checked_mul(i128::from(fa.0))?;
    top.checked_mul(other)?.checked_mul(i128::from(fb.1))
}

impl TermValue {
    /// The value times a factor as a double. A fraction is rounded once, as features are: what is equal compares equal.
    fn float(self, factor: (i64, i64)) -> f64 {
        let (times, per) = (i128::from(factor.0), i128::from(factor.1));
        match self {
            TermValue::Exact(top, bottom) => top.saturating_mul(times) as f64 / bottom.saturating_mul(per) as f64,
            TermValue::Float(value) => value * factor.0 as f64 / factor.1 as f64,
            TermValue::Word(_) => f64::NAN,
        }
    }
}

fn kilometres<C: EventCells>(own: &C, around: &Around<'_>, step: usize, lat: &Column, lon: &Column) -> Option<f64> {
    let there = around.taken.get(step)?.row();
    let degrees = |cell: Option<u64>| cell.map(f64::from_bits);
    let from = (degrees(there.cell(lat))?, degrees(there.cell(lon))?);
    let to = (degrees(own.cell(lat))?, degrees(own.cell(lon))?);
    Some(distance_km(from, to))
}
