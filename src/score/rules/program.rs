//! What a condition is lowered to: a typed tree over the slots of a row and the cells of an event.
//!
//! Types are known, names are resolved and texts to compare with are at hand, so a step is a match and a load. What is missing makes
//! a comparison false; what has no value for another reason (a division by zero, a sum that does not fit) is a fault, which `&&` and
//! `||` pass over where their other side decides, as CEL has it.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::HashSet;

use regex::Regex;

use crate::event::{Event, Slot};
use crate::score::lists::Lists;

/// What a condition is evaluated over.
#[derive(Clone, Copy, Debug)]
pub struct RuleFacts<'a> {
    /// The feature row; NaN is missing.
    pub row: &'a [f64],
    /// The champion's score.
    pub score: f64,
    /// The transaction.
    pub event: &'a Event,
    /// The name of its kind.
    pub kind: &'a str,
    /// The lists that hold for it.
    pub lists: &'a Lists,
}

/// Why an expression has no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Something that it reads is missing.
    Missing,
    /// It divides by zero, or goes beyond the range of its type.
    Arithmetic,
    /// A text is not the number that it is to be read as.
    Conversion,
}

/// A value, or why there is none.
pub type Value<T> = Result<T, Fault>;

/// An expression of any type.
#[derive(Clone, Debug)]
pub(super) enum Typed {
    Bool(Bool),
    Int(Int),
    Double(Double),
    Text(Text),
}

/// How two values compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Comparison {
    /// `None` is what a number has to one that is not a number.
    #[inline]
    fn holds(self, ordering: Option<Ordering>) -> bool {
        let Some(ordering) = ordering else { return self == Comparison::NotEqual };
        match self {
            Comparison::Equal => ordering.is_eq(),
            Comparison::NotEqual => ordering.is_ne(),
            Comparison::Less => ordering.is_lt(),
            Comparison::LessOrEqual => ordering.is_le(),
            Comparison::Greater => ordering.is_gt(),
            Comparison::GreaterOrEqual => ordering.is_ge(),
        }
    }
}

impl Comparison {
    /// The same with its sides exchanged.
    pub fn turned(self) -> Self {
        match self {
            Comparison::Less => Comparison::Greater,
            Comparison::LessOrEqual => Comparison::GreaterOrEqual,
            Comparison::Greater => Comparison::Less,
            Comparison::GreaterOrEqual => Comparison::LessOrEqual,
            same => same,
        }
    }

    /// The first and the last number that compare so with a finite one, if all between them do.
    fn range(self, bound: f64) -> Option<(f64, f64)> {
        match self {
            Comparison::Equal => Some((bound, bound)),
            Comparison::NotEqual => None,
            Comparison::Less => Some((f64::NEG_INFINITY, bound.next_down())),
            Comparison::LessOrEqual => Some((f64::NEG_INFINITY, bound)),
            Comparison::Greater => Some((bound.next_up(), f64::INFINITY)),
            Comparison::GreaterOrEqual => Some((bound, f64::INFINITY)),
        }
    }
}

/// Two values that are compared.
#[derive(Clone, Debug)]
pub(super) enum Pair {
    Bools(Bool, Bool),
    Ints(Int, Int),
    Doubles(Double, Double),
    /// Compared as numbers, exactly.
    IntAndDouble(Int, Double),
    Texts(Text, Text),
}

/// How a text is looked into.
#[derive(Clone, Debug)]
pub(super) enum Search {
    Contains(Text),
    StartsWith(Text),
    EndsWith(Text),
    Matches(Regex),
}

/// Values of a list, to look one up in.
#[derive(Clone, Debug)]
pub(super) enum Among {
    Ints(Int, HashSet<i64>),
    /// By their bits; zero has one sign here.
    Doubles(Double, HashSet<u64>),
    Texts(Text, HashSet<Box<str>>),
}

#[derive(Clone, Debug)]
pub(super) enum Bool {
    Const(bool),
    Field(Slot),
    Not(Box<Bool>),
    And(Vec<Bool>),
    Or(Vec<Bool>),
    Compare(Comparison, Box<Pair>),
    /// A column is between two numbers, both included: what most clauses are, without a step between the load and the answer.
    Within(u16, f64, f64),
    In(Box<Among>),
    /// A text is on the list of this number.
    Listed(u32, Box<Text>),
    Search(Box<(Text, Search)>),
    HasColumn(u16),
    HasField(Slot),
    /// An expression that is missing.
    Missing(Box<Typed>),
    If(Box<(Bool, Bool, Bool)>),
}

/// Arithmetic of two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

#[derive(Clone, Debug)]
pub(super) enum Int {
    Const(i64),
    Field(Slot),
    Negate(Box<Int>),
    Arithmetic(Arithmetic, Box<(Int, Int)>),
    Length(Box<Text>),
    OfDouble(Box<Double>),
    OfText(Box<Text>),
    If(Box<(Bool, Int, Int)>),
}

#[derive(Clone, Debug)]
pub(super) enum Double {
    Const(f64),
    Column(u16),
    Score,
    Field(Slot),
    /// An integer in units of one over this.
    Decimal(Slot, f64),
    Negate(Box<Double>),
    Arithmetic(Arithmetic, Box<(Double, Double)>),
    OfInt(Box<Int>),
    OfText(Box<Text>),
    If(Box<(Bool, Double, Double)>),
}

#[derive(Clone, Debug)]
pub(super) enum Text {
    Const(Box<str>),
    Field(Slot),
    Kind,
    Concat(Box<(Text, Text)>),
    OfInt(Box<Int>),
    OfBool(Box<Bool>),
    If(Box<(Bool, Text, Text)>),
}

/// What is missing makes a comparison false.
#[inline]
fn false_if_missing(value: Value<bool>) -> Value<bool> {
    if value == Err(Fault::Missing) { Ok(false) } else { value }
}

impl Bool {
    /// A comparison of two values, as the cheapest step that there is for it.
    pub fn compare(comparison: Comparison, pair: Pair) -> Bool {
        let (comparison, pair) = match pair {
            Pair::Doubles(one @ Double::Const(_), other @ Double::Column(_)) => {
                (comparison.turned(), Pair::Doubles(other, one))
            }
            pair => (comparison, pair),
        };
        if let Pair::Doubles(Double::Column(column), Double::Const(bound)) = &pair
            && bound.is_finite()
            && let Some((low, high)) = comparison.range(*bound)
        {
            return Bool::Within(*column, low, high);
        }
        Bool::Compare(comparison, Box::new(pair))
    }

    /// Never [`Fault::Missing`]: a missing bool does not hold.
    pub fn eval(&self, facts: &RuleFacts<'_>) -> Value<bool> {
        match self {
            Bool::Const(value) => Ok(*value),
            Bool::Field(slot) => Ok(facts.event.int(*slot).is_some_and(|value| value != 0)),
            Bool::Not(inner) => inner.eval(facts).map(|value| !value),
            Bool::And(all) => decided(all, facts, false),
            Bool::Or(any) => decided(any, facts, true),
            Bool::Compare(comparison, pair) => false_if_missing(pair.compare(*comparison, facts)),
            // What is missing is NaN, and between no numbers.
            Bool::Within(column, low, high) => {
                let value = facts.row[usize::from(*column)];
                Ok((*low <= value) & (value <= *high))
            }
            Bool::In(among) => false_if_missing(among.holds(facts)),
            Bool::Listed(list, text) => {
                false_if_missing(text.eval(facts).map(|value| facts.lists.has(*list, &value, facts.event.time)))
            }
            Bool::Search(search) => false_if_missing(search.1.finds(&search.0, facts)),
            Bool::HasColumn(column) => Ok(!facts.row[usize::from(*column)].is_nan()),
            Bool::HasField(slot) => Ok(facts.event.has(*slot)),
            Bool::Missing(typed) => Ok(typed.fault(facts) == Some(Fault::Missing)),
            Bool::If(parts) => if parts.0.eval(facts)? { &parts.1 } else { &parts.2 }.eval(facts),
        }
    }
}

impl Bool {
    /// Where it is a value and no condition: a missing bool is missing.
    fn given(&self, facts: &RuleFacts<'_>) -> Value<bool> {
        match self {
            Bool::Field(slot) => facts.event.int(*slot).map(|value| value != 0).ok_or(Fault::Missing),
            Bool::If(parts) => if parts.0.eval(facts)? { &parts.1 } else { &parts.2 }.given(facts),
            _ => self.eval(facts),
        }
    }
}

/// The first that has this value decides; a fault remains if none does.
fn decided(parts: &[Bool], facts: &RuleFacts<'_>, by: bool) -> Value<bool> {
    let mut fault = None;
    for part in parts {
        match part.eval(facts) {
            Ok(value) if value == by => return Ok(by),
            Ok(_) => {}
            Err(error) => fault = fault.or(Some(error)),
        }
    }
    fault.map_or(Ok(!by), Err)
}

impl Typed {
    fn fault(&self, facts: &RuleFacts<'_>) -> Option<Fault> {
        match self {
            Typed::Bool(value) => value.given(facts).err(),
            Typed::Int(value) => value.eval(facts).err(),
            Typed::Double(value) => value.eval(facts).err(),
            Typed::Text(value) => value.eval(facts).err(),
        }
    }
}

impl Pair {
    #[inline]
    fn compare(&self, comparison: Comparison, facts: &RuleFacts<'_>) -> Value<bool> {
        let ordering = match self {
            Pair::Doubles(one, other) => one.eval(facts)?.partial_cmp(&other.eval(facts)?),
            Pair::Ints(one, other) => Some(one.eval(facts)?.cmp(&other.eval(facts)?)),
            Pair::IntAndDouble(one, other) => compare_exactly(one.eval(facts)?, other.eval(facts)?),
            Pair::Bools(one, other) => Some(one.given(facts)?.cmp(&other.given(facts)?)),
            Pair::Texts(one, other) => Some(one.eval(facts)?.cmp(&other.eval(facts)?)),
        };
        Ok(comparison.holds(ordering))
    }
}

/// An integer and a double as numbers: neither is rounded to the other.
fn compare_exactly(int: i64, double: f64) -> Option<Ordering> {
    /// 2^63, the first double that no integer reaches.
    const BEYOND: f64 = 9_223_372_036_854_775_808.0;
    match double {
        _ if double.is_nan() => None,
        _ if double >= BEYOND => Some(Ordering::Less),
        _ if double < -BEYOND => Some(Ordering::Greater),
        _ => Some(int.cmp(&(double.trunc() as i64)).then_with(|| 0.0_f64.total_cmp(&(double.fract() + 0.0)))),
    }
}

/// The bits of a double that equal numbers share.
pub(super) fn bits(value: f64) -> u64 {
    (value + 0.0).to_bits()
}

impl Among {
    fn holds(&self, facts: &RuleFacts<'_>) -> Value<bool> {
        Ok(match self {
            Among::Ints(value, among) => among.contains(&value.eval(facts)?),
            Among::Doubles(value, among) => among.contains(&bits(value.eval(facts)?)),
            Among::Texts(value, among) => among.contains(&*value.eval(facts)?),
        })
    }
}

impl Search {
    fn finds(&self, text: &Text, facts: &RuleFacts<'_>) -> Value<bool> {
        let text = text.eval(facts)?;
        Ok(match self {
            Search::Contains(part) => text.contains(&*part.eval(facts)?),
            Search::StartsWith(part) => text.starts_with(&*part.eval(facts)?),
            Search::EndsWith(part) => text.ends_with(&*part.eval(facts)?),
            Search::Matches(pattern) => pattern.is_match(&text),
        })
    }
}

impl Int {
    pub fn eval(&self, facts: &RuleFacts<'_>) -> Value<i64> {
        match self {
            Int::Const(value) => Ok(*value),
            Int::Field(slot) => facts.event.int(*slot).ok_or(Fault::Missing),
            Int::Negate(inner) => inner.eval(facts)?.checked_neg().ok_or(Fault::Arithmetic),
            Int::Arithmetic(operation, pair) => {
                let (one, other) = (pair.0.eval(facts)?, pair.1.eval(facts)?);
                let value = match operation {
                    Arithmetic::Add => one.checked_add(other),
                    Arithmetic::Subtract => one.checked_sub(other),
                    Arithmetic::Multiply => one.checked_mul(other),
                    Arithmetic::Divide => one.checked_div(other),
                    Arithmetic::Remainder => one.checked_rem(other),
                };
                value.ok_or(Fault::Arithmetic)
            }
            Int::Length(text) => Ok(text.eval(facts)?.chars().count() as i64),
            Int::OfDouble(inner) => {
                let value = inner.eval(facts)?;
                // Beyond these an integer is not the double's.
                let fits = value > i64::MIN as f64 && value < i64::MAX as f64;
                if fits { Ok(value as i64) } else { Err(Fault::Arithmetic) }
            }
            Int::OfText(text) => text.eval(facts)?.parse().map_err(|_| Fault::Conversion),
            Int::If(parts) => if parts.0.eval(facts)? { &parts.1 } else { &parts.2 }.eval(facts),
        }
    }
}

impl Double {
    pub fn eval(&self, facts: &RuleFacts<'_>) -> Value<f64> {
        match self {
            Double::Const(value) => Ok(*value),
            Double::Column(column) => {
                let value = facts.row[usize::from(*column)];
                if value.is_nan() { Err(Fault::Missing) } else { Ok(value) }
            }
            Double::Score => Ok(facts.score),
            Double::Field(slot) => facts.event.float(*slot).ok_or(Fault::Missing),
            Double::Decimal(slot, units) => {
                facts.event.int(*slot).map(|value| value as f64 / units).ok_or(Fault::Missing)
            }
            Double::Negate(inner) => inner.eval(facts).map(|value| -value),
            Double::Arithmetic(operation, pair) => {
                let (one, other) = (pair.0.eval(facts)?, pair.1.eval(facts)?);
                Ok(match operation {
                    Arithmetic::Add => one + other,
                    Arithmetic::Subtract => one - other,
                    Arithmetic::Multiply => one * other,
                    Arithmetic::Divide => one / other,
                    Arithmetic::Remainder => one % other,
                })
            }
            Double::OfInt(inner) => inner.eval(facts).map(|value| value as f64),
            Double::OfText(text) => text.eval(facts)?.parse().map_err(|_| Fault::Conversion),
            Double::If(parts) => if parts.0.eval(facts)? { &parts.1 } else { &parts.2 }.eval(facts),
        }
    }
}

impl Text {
    pub fn eval<'a>(&'a self, facts: &RuleFacts<'a>) -> Value<Cow<'a, str>> {
        Ok(match self {
            Text::Const(value) => Cow::Borrowed(value),
            Text::Field(slot) => Cow::Borrowed(facts.event.text(*slot).ok_or(Fault::Missing)?),
            Text::Kind => Cow::Borrowed(facts.kind),
            Text::Concat(pair) => pair.0.eval(facts)? + pair.1.eval(facts)?,
            Text::OfInt(inner) => Cow::Owned(inner.eval(facts)?.to_string()),
            Text::OfBool(inner) => Cow::Borrowed(if inner.given(facts)? { "true" } else { "false" }),
            Text::If(parts) => return if parts.0.eval(facts)? { &parts.1 } else { &parts.2 }.eval(facts),
        })
    }
}
