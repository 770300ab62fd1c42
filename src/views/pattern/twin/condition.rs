//! Conditions by definition: evaluated as they are written, on the events themselves.

use super::candidate::{KeyTwin, StepEvents};
use super::{DAY_MS, key_of};
use crate::event::FieldType;
use crate::views::pattern::condition::distance_km;
use crate::views::pattern::expr::{Comparison, Expr, Side, Term, duration_ms, parse};
use crate::views::pattern::history::PAST_EVENTS_MAX;
use crate::views::pattern::spec::EventSpec;

/// What a condition is asked about.
pub(super) struct Situation<'a> {
    pub at: usize,
    pub taken: &'a StepEvents,
    /// The counted events, in `having`.
    pub counted: Option<&'a [usize]>,
    /// The named event whose own condition it is.
    pub named: Option<&'a EventSpec>,
}

/// What a term says.
#[derive(Clone, Debug)]
enum TwinValue {
    /// A fraction: what is above the line, and what below.
    Exact(i128, i128),
    Float(f64),
    Text(String),
}

impl KeyTwin<'_> {
    pub(super) fn all_hold(&self, conditions: &[String], asked: &Situation<'_>) -> bool {
        conditions.iter().all(|text| parse(text).is_ok_and(|expr| self.holds(&expr, asked)))
    }

    fn holds(&self, expr: &Expr, asked: &Situation<'_>) -> bool {
        match expr {
            Expr::All(all) => all.iter().all(|one| self.holds(one, asked)),
            Expr::Any(any) => any.iter().any(|one| self.holds(one, asked)),
            Expr::Not(inner) => !self.holds(inner, asked),
            Expr::In(term, values) => {
                let value = self.value(term, asked);
                values.iter().any(|other| compare(&value, Comparison::Equal, &self.value(other, asked)))
            }
            Expr::Compare(left, comparison, right) => {
                compare(&self.side(left, asked), *comparison, &self.side(right, asked))
            }
            Expr::Holds(Term::Call(None, name, arguments)) if name == "first_seen" => {
                let Some(own) = self.value(&arguments[0], asked) else { return false };
                !self.past(asked, arguments.get(1)).into_iter().any(|at| {
                    let earlier = self.value(&arguments[0], &Situation { at, ..*asked });
                    compare(&earlier, Comparison::Equal, &Some(own.clone()))
                })
            }
            Expr::Holds(Term::Call(None, _, arguments)) => self.value(&arguments[0], asked).is_some(),
            Expr::Holds(term) => matches!(self.value(term, asked), Some(TwinValue::Exact(1, 1))),
        }
    }

    fn side(&self, side: &Side, asked: &Situation<'_>) -> Option<TwinValue> {
        let (top, bottom) = (i128::from(side.factor.digits), 10i128.pow(u32::from(side.factor.scale)));
        Some(match self.value(&side.term, asked)? {
            TwinValue::Exact(a, b) => TwinValue::Exact(a * top, b * bottom),
            TwinValue::Float(value) => TwinValue::Float(value * top as f64 / bottom as f64),
            text => text,
        })
    }

    fn field(&self, name: &str, at: usize) -> Option<TwinValue> {
        let (event, slot) = (self.events[at], self.schema.slot(name)?);
        let field = self.schema.field(slot);
        Some(match field.kind {
            FieldType::Text => TwinValue::Text(event.text(slot)?.to_owned()),
            FieldType::Float => TwinValue::Float(event.float(slot)?),
            FieldType::Decimal => TwinValue::Exact(i128::from(event.int(slot)?), 10i128.pow(u32::from(field.scale))),
            _ => TwinValue::Exact(i128::from(event.int(slot)?), 1),
        })
    }

    /// Earlier events of the key that are a named event, or of the kinds of the one that asks, latest first.
    fn past(&self, asked: &Situation<'_>, of: Option<&Term>) -> Vec<usize> {
        let all = self.past_without_limit(asked, of);
        all.into_iter().take(PAST_EVENTS_MAX).collect()
    }

    fn past_without_limit(&self, asked: &Situation<'_>, of: Option<&Term>) -> Vec<usize> {
        let Some(named) = asked.named else { return Vec::new() };
        let length_ms = self.spec.history.as_deref().and_then(|text| duration_ms(text).ok()).unwrap_or(30 * DAY_MS);
        let now = self.events[asked.at].time;
        let earlier = (0..asked.at).rev().filter(|&at| self.events[at].time > now - length_ms);
        let of_key = |at: &usize| {
            let key = named.key.as_ref().or(self.spec.key.as_ref());
            key.and_then(|key| key_of(key, self.events[*at], self.schema)) == Some(self.key)
        };
        let of_kind = |at: &usize| named.kind.fields().contains(&self.schema.kinds()[self.events[*at].kind as usize]);
        match of {
            Some(Term::Name(None, name)) => earlier.filter(|&at| self.is(name, at)).collect(),
            _ => earlier.filter(of_key).filter(of_kind).collect(),
        }
    }

    fn value(&self, term: &Term, asked: &Situation<'_>) -> Option<TwinValue> {
        let step = |name: &str| self.spec.steps.iter().position(|step| step.name() == Some(name));
        let field_of = |term: &Term| match term {
            Term::Name(None, name) => Some(name.clone()),
            _ => None,
        };
        Some(match term {
            Term::Number(number) => TwinValue::Exact(i128::from(number.digits), 10i128.pow(u32::from(number.scale))),
            Term::Duration(ms) => TwinValue::Exact(i128::from(*ms), 1),
            Term::Text(text) => TwinValue::Text(text.clone()),
            Term::Bool(value) => TwinValue::Exact(i128::from(*value), 1),
            Term::Name(None, name) => return self.field(name, asked.at),
            Term::Name(Some(of), name) => return self.field(name, asked.taken.get(step(of)?)?[0]),
            Term::Call(Some(of), name, arguments) if of == "history" => {
                let now = self.events[asked.at].time;
                let count = ["count", "since_last", "age"].contains(&name.as_str());
                let of = arguments.get(if count {
                    0
                } else if name == "sum" {
                    2
                } else {
                    1
                });
                let past = self.past(asked, of);
                let of_field = |at: &usize| match self.field(&field_of(arguments.first()?)?, *at) {
                    Some(TwinValue::Exact(top, bottom)) => Some((self.events[*at].time, top, bottom)),
                    _ => None,
                };
                let values: Vec<(i64, i128, i128)> = past.iter().filter_map(of_field).collect();
                let unit = values.first().map_or(1, |value| value.2);
                match name.as_str() {
                    "count" => TwinValue::Exact(past.len() as i128, 1),
                    "since_last" => TwinValue::Exact(i128::from(now - self.events[*past.first()?].time), 1),
                    "age" => {
                        let earliest = *self.past_without_limit(asked, of).last()?;
                        TwinValue::Exact(i128::from(now - self.events[earliest].time), 1)
                    }
                    "mean" if values.is_empty() => return None,
                    "mean" => TwinValue::Exact(values.iter().map(|value| value.1).sum(), unit * values.len() as i128),
                    "sum" => {
                        let Some(Term::Duration(ms)) = arguments.get(1) else { return None };
                        TwinValue::Exact(
                            values.iter().filter(|(time, ..)| *time > now - ms).map(|value| value.1).sum(),
                            unit,
                        )
                    }
                    _ => {
                        let day = |time: i64| (now - time) / DAY_MS;
                        let days = values.iter().map(|value| day(value.0)).max().unwrap_or(0);
                        let of_day =
                            |n: i64| values.iter().filter(|value| day(value.0) == n).map(|value| value.1).sum();
                        let mut sums: Vec<i128> = (1..=days).map(of_day).collect();
                        sums.sort_unstable();
                        TwinValue::Exact(*sums.get(sums.len().checked_sub(1)? / 2)?, unit)
                    }
                }
            }
            Term::Call(None, name, arguments) if ["distance", "speed", "since"].contains(&name.as_str()) => {
                let there = asked.taken.get(step(&field_of(arguments.first()?)?)?)?[0];
                let elapsed = self.events[asked.at].time - self.events[there].time;
                if name == "since" {
                    return Some(TwinValue::Exact(i128::from(elapsed), 1));
                }
                let fields = self.spec.location.clone().unwrap_or_else(|| ["lat".into(), "lon".into()]);
                let degrees = |name: &str, at| match self.field(name, at) {
                    Some(TwinValue::Float(value)) => Some(value),
                    _ => None,
                };
                let point = |at| Some((degrees(&fields[0], at)?, degrees(&fields[1], at)?));
                let km = distance_km(point(there)?, point(asked.at)?);
                if name == "distance" || km == 0.0 {
                    return Some(TwinValue::Float(km));
                }
                TwinValue::Float(km / (elapsed as f64 / 3_600_000.0))
            }
            Term::Call(of, name, arguments) if name == "feature" => {
                let at = match of {
                    Some(of) => asked.taken.get(step(of)?)?[0],
                    None => asked.at,
                };
                let (Term::Name(None, name) | Term::Text(name)) = arguments.first()? else { return None };
                let value = *self.values.get(&self.events[at].id)?.get(name)?;
                return (!value.is_nan()).then_some(TwinValue::Float(value));
            }
            Term::Call(of, name, arguments) => {
                let counted = match of {
                    Some(of) => asked.taken.get(step(of)?)?,
                    None => asked.counted?,
                };
                let (field, only) = match (name.as_str(), arguments.as_slice()) {
                    ("count" | "share", rest) => (None, rest.first()),
                    (_, [field, rest @ ..]) => (field_of(field), rest.first()),
                    _ => return None,
                };
                let of_event = |at: &&usize| only.and_then(field_of).is_none_or(|name| self.is(&name, **at));
                let chosen: Vec<usize> = counted.iter().filter(of_event).copied().collect();
                match name.as_str() {
                    "count" => TwinValue::Exact(chosen.len() as i128, 1),
                    "share" => TwinValue::Exact(chosen.len() as i128, counted.len() as i128),
                    "distinct" => {
                        let values = chosen.iter().filter_map(|&at| self.field(field.as_deref()?, at));
                        let mut values: Vec<String> = values.map(|value| format!("{value:?}")).collect();
                        values.sort_unstable();
                        values.dedup();
                        TwinValue::Exact(values.len() as i128, 1)
                    }
                    _ => {
                        let field = field?;
                        let scale = self.schema.field(self.schema.slot(&field)?).scale;
                        let cents = chosen.iter().filter_map(|&at| match self.field(&field, at) {
                            Some(TwinValue::Exact(top, _)) => Some(top),
                            _ => None,
                        });
                        TwinValue::Exact(cents.sum(), 10i128.pow(u32::from(scale)))
                    }
                }
            }
        })
    }
}

fn compare(a: &Option<TwinValue>, comparison: Comparison, b: &Option<TwinValue>) -> bool {
    let float = |value: &TwinValue| match value {
        TwinValue::Exact(top, bottom) => *top as f64 / *bottom as f64,
        TwinValue::Float(value) => *value,
        TwinValue::Text(_) => f64::NAN,
    };
    match (a, b) {
        (Some(TwinValue::Text(a)), Some(TwinValue::Text(b))) => comparison.accepts(a.cmp(b)),
        (Some(TwinValue::Exact(a, below_a)), Some(TwinValue::Exact(b, below_b))) => {
            comparison.accepts((a * below_b).cmp(&(b * below_a)))
        }
        (Some(a), Some(b)) => float(a).partial_cmp(&float(b)).is_some_and(|ordering| comparison.accepts(ordering)),
        _ => false,
    }
}
