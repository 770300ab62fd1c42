//! Conditions with places for names, and how they are evaluated.
//!
//! Numbers are exact fractions of integers (amounts in minor units over their scale, shares as counts over counts), so
//! that a value on the edge is on the same side everywhere; doubles (degrees, distances) are compared as doubles. A
//! comparison with a value that is missing does not hold, whatever the comparison.

use std::cell::Cell;

use super::expr::Comparison;
use super::history::{Past, PastTerm};
use crate::event::{Event, FieldType, Schema, Slot};

/// A field or a feature of the event: which, its place in the key's log, and how its cell is read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Column {
    /// What it holds.
    pub of: ColumnOf,
    /// Its place among the columns of the key's log; unused where the event itself is looked at.
    pub index: u16,
    /// How its cell is read.
    pub kind: ColumnKind,
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ColumnOf {
    /// A field.
    Field(Slot),
    /// A velocity feature as of the event: its number among [`super::plan::PatternPlan::features`].
    Feature(u16),
}

/// How a cell is read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ColumnKind {
    /// An integer in units of one over this.
    Exact(i64),
    /// The bits of a double.
    Float,
    /// A fingerprint of a text.
    Text,
}

impl ColumnKind {
    /// The kind of a field.
    pub fn of(schema: &Schema, slot: Slot) -> Self {
        let field = schema.field(slot);
        match field.kind {
            FieldType::Text => ColumnKind::Text,
            FieldType::Float => ColumnKind::Float,
            FieldType::Decimal => ColumnKind::Exact(10i64.saturating_pow(u32::from(field.scale))),
            FieldType::Int | FieldType::Bool | FieldType::Time => ColumnKind::Exact(1),
        }
    }
}

/// Where the cells of an event are found.
pub trait Cells {
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

impl Cells for Whole<'_> {
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
pub struct Row<'a> {
    /// Event time, milliseconds.
    pub time: i64,
    /// Which columns are there, bit by bit.
    pub present: u64,
    /// The columns that are there.
    pub cells: &'a [u64],
}

impl Cells for Row<'_> {
    #[inline]
    fn cell(&self, column: &Column) -> Option<u64> {
        let bit = 1 << column.index;
        (self.present & bit != 0).then(|| self.cells[(self.present & (bit - 1)).count_ones() as usize])
    }
}

/// A step that a run has taken: its first event's columns where later steps look at them, and what it has counted.
#[derive(Clone, Debug, Default)]
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

/// A condition, resolved.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// All hold; none given: always.
    All(Vec<Condition>),
    /// One holds.
    Any(Vec<Condition>),
    /// It does not hold.
    Not(Box<Condition>),
    /// An integer field against a constant in the field's own units.
    Bound(Column, Comparison, i64),
    /// A text field against the fingerprint of a constant; false: unequal.
    Is(Column, bool, u64),
    /// Two values.
    Compare(Operand, Comparison, Operand),
    /// The event has the field, or the feature is not missing.
    Has(Column),
    /// The field's value does not occur in an earlier event of the key (of the kinds of this bit).
    FirstSeen(Column, u8),
}

/// A value times a factor.
#[derive(Clone, Debug, PartialEq)]
pub struct Operand {
    /// The factor, a fraction.
    pub factor: (i64, i64),
    /// The value.
    pub source: Source,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// A constant.
    Constant(Value),
    /// The event's own field or feature.
    Own(Column),
    /// A field or feature of an earlier step's event.
    Taken(usize, Column),
    /// Aggregates of an earlier step (or, without one, of this step): the first over the second (or over 1), in units
    /// of one over the last.
    Total(Option<usize>, usize, Option<usize>, i64),
    /// Kilometres from an earlier step's event: latitude and longitude columns.
    Distance(usize, Column, Column),
    /// Kilometres per hour from an earlier step's event.
    Speed(usize, Column, Column),
    /// Milliseconds since an earlier step's event.
    Since(usize),
    /// Earlier events of the key.
    Past(PastTerm),
}

/// A value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// A fraction; the second is above 0.
    Exact(i128, i128),
    /// A double.
    Float(f64),
    /// A fingerprint: compared for equality only.
    Word(u64),
}

impl Condition {
    /// Holds always.
    pub fn always() -> Self {
        Condition::All(Vec::new())
    }

    /// What it looks at: calls with each column of the key's log, and each named event whose earlier ones it looks at.
    pub fn looks_at(&self, look: &mut dyn FnMut(Option<&Column>, Option<u8>)) {
        match self {
            Condition::All(parts) | Condition::Any(parts) => parts.iter().for_each(|part| part.looks_at(look)),
            Condition::Not(inner) => inner.looks_at(look),
            Condition::Bound(column, ..) | Condition::Is(column, ..) | Condition::Has(column) => {
                look(Some(column), None);
            }
            Condition::FirstSeen(column, base) => look(Some(column), Some(*base)),
            Condition::Compare(left, _, right) => [left, right].into_iter().for_each(|side| match &side.source {
                Source::Own(column) | Source::Taken(_, column) => look(Some(column), None),
                Source::Distance(_, lat, lon) | Source::Speed(_, lat, lon) => {
                    look(Some(lat), None);
                    look(Some(lon), None);
                }
                Source::Past(term) => look(term.column(), Some(term.base)),
                Source::Constant(_) | Source::Total(..) | Source::Since(_) => {}
            }),
        }
    }

    /// Whether it is known to hold without looking.
    #[inline]
    pub fn is_always(&self) -> bool {
        matches!(self, Condition::All(all) if all.is_empty())
    }

    /// Whether it holds for an event.
    pub fn holds<C: Cells>(&self, own: &C, around: &Around<'_>) -> bool {
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

impl Source {
    fn value<C: Cells>(&self, own: &C, around: &Around<'_>) -> Option<Value> {
        match self {
            Source::Constant(value) => Some(*value),
            Source::Own(column) => own.cell(column).map(|cell| value_of(column, cell)),
            Source::Taken(step, column) => {
                let taken = around.taken.get(*step)?;
                taken.row().cell(column).map(|cell| value_of(column, cell))
            }
            Source::Total(step, top, bottom, unit) => {
                let totals = match step {
                    Some(step) => &around.taken.get(*step)?.totals,
                    None => around.here,
                };
                let bottom = bottom.map_or(1, |bottom| totals[bottom]);
                (bottom > 0).then(|| Value::Exact(totals[*top], bottom.saturating_mul(i128::from(*unit))))
            }
            Source::Distance(step, lat, lon) => kilometres(own, around, *step, lat, lon).map(Value::Float),
            Source::Speed(step, lat, lon) => {
                let distance = kilometres(own, around, *step, lat, lon)?;
                let hours = (around.time - around.taken.get(*step)?.time) as f64 / 3_600_000.0;
                // In no time at all: any distance is too fast, and no distance is none.
                Some(Value::Float(if distance == 0.0 { 0.0 } else { distance / hours }))
            }
            Source::Since(step) => {
                let since = around.time.saturating_sub(around.taken.get(*step)?.time);
                Some(Value::Exact(i128::from(since), 1))
            }
            Source::Past(term) => around.past?.value(term),
        }
    }
}

impl Taken {
    /// The event's columns.
    pub fn row(&self) -> Row<'_> {
        let present = if self.cells.is_empty() { 0 } else { self.present };
        Row { time: self.time, present, cells: &self.cells }
    }
}

fn value_of(column: &Column, cell: u64) -> Value {
    match column.kind {
        ColumnKind::Exact(unit) => Value::Exact(i128::from(cell as i64), i128::from(unit)),
        ColumnKind::Float => Value::Float(f64::from_bits(cell)),
        ColumnKind::Text => Value::Word(cell),
    }
}

/// Compares two values, each times its factor.
fn compare(a: Value, fa: (i64, i64), comparison: Comparison, b: Value, fb: (i64, i64)) -> bool {
    if let (Value::Word(a), Value::Word(b)) = (a, b) {
        return comparison.accepts(a.cmp(&b));
    }
    if let (Some(left), Some(right)) = (crossed(a, fa, b, fb), crossed(b, fb, a, fa)) {
        return comparison.accepts(left.cmp(&right));
    }
    let (a, b) = (a.float(fa), b.float(fb));
    a.partial_cmp(&b).is_some_and(|ordering| comparison.accepts(ordering))
}

/// One side of `a * fa ? b * fb` once both are multiplied by all denominators; `None` if that is not exact.
fn crossed(a: Value, fa: (i64, i64), b: Value, fb: (i64, i64)) -> Option<i128> {
    let (Value::Exact(top, _), Value::Exact(_, other)) = (a, b) else { return None };
    let top = top.checked_mul(i128::from(fa.0))?;
    top.checked_mul(other)?.checked_mul(i128::from(fb.1))
}

impl Value {
    /// The value times a factor as a double. A fraction is rounded once, as features are: what is equal compares equal.
    fn float(self, factor: (i64, i64)) -> f64 {
        let (times, per) = (i128::from(factor.0), i128::from(factor.1));
        match self {
            Value::Exact(top, bottom) => top.saturating_mul(times) as f64 / bottom.saturating_mul(per) as f64,
            Value::Float(value) => value * factor.0 as f64 / factor.1 as f64,
            Value::Word(_) => f64::NAN,
        }
    }
}

fn kilometres<C: Cells>(own: &C, around: &Around<'_>, step: usize, lat: &Column, lon: &Column) -> Option<f64> {
    let there = around.taken.get(step)?.row();
    let degrees = |cell: Option<u64>| cell.map(f64::from_bits);
    let from = (degrees(there.cell(lat))?, degrees(there.cell(lon))?);
    let to = (degrees(own.cell(lat))?, degrees(own.cell(lon))?);
    Some(distance_km(from, to))
}

/// Mean radius of the earth, kilometres.
const EARTH_KM: f64 = 6_371.0;

/// The great-circle distance of two points (latitude, longitude; degrees), by the haversine formula, with functions that
/// are the same on every machine.
pub fn distance_km(from: (f64, f64), to: (f64, f64)) -> f64 {
    let half = |degrees: f64| libm::sin(degrees.to_radians() / 2.0);
    let (across, along) = (half(to.0 - from.0), half(to.1 - from.1));
    let share = across * across + libm::cos(from.0.to_radians()) * libm::cos(to.0.to_radians()) * along * along;
    2.0 * EARTH_KM * libm::asin(share.min(1.0).sqrt())
}
