//! Conditions with places for names.
//!
//! Numbers are exact fractions of integers (amounts in minor units over their scale, shares as counts over counts), so
//! that a value on the edge is on the same side everywhere; doubles (degrees, distances) are compared as doubles. A
//! comparison with a value that is missing does not hold, whatever the comparison.

use super::expr::Comparison;
use crate::event::{FieldType, Schema, Slot};

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
    pub source: TermSource,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum TermSource {
    /// A constant.
    Constant(TermValue),
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
pub enum TermValue {
    /// A fraction; the second is above 0.
    Exact(i128, i128),
    /// A double.
    Float(f64),
    /// A fingerprint: compared for equality only.
    Word(u64),
}

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
                TermSource::Own(column) | TermSource::Taken(_, column) => look(Some(column), None),
                TermSource::Distance(_, lat, lon) | TermSource::Speed(_, lat, lon) => {
                    look(Some(lat), None);
                    look(Some(lon), None);
                }
                TermSource::Past(term) => look(term.column(), Some(term.base)),
                TermSource::Constant(_) | TermSource::Total(..) | TermSource::Since(_) => {}
            }),
        }
    }

    /// Whether it is known to hold without looking.
    #[inline]
    pub fn is_always(&self) -> bool {
        matches!(self, Condition::All(all) if all.is_empty())
    }
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
