//! Event patterns by definition: slow, obvious, and independent of the automaton.
//!
//! For every event that may begin a match the oracle looks for the first acceptable event of each step by trying all later
//! ones in turn, and counts from scratch for each. It evaluates the written conditions on the events themselves.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{cycles, expected};
use crate::event::{Event, FieldType, Id, Key, Schema};
use crate::feature::FeatureSet;
use crate::flow::Labelled;
use crate::views::pattern::condition::distance_km;
use crate::views::pattern::expr::{Comparison, Expr, Side, Term, duration_ms, parse};
use crate::views::pattern::history::PAST_EVENTS_MAX;
use crate::views::pattern::spec::{EventSpec, KeySpec, PatternSpec, StepSpec};
use crate::views::pattern::{MATCH_IDS_MAX, Patterns};
use crate::views::velocity::Velocity;

const DAY_MS: i64 = 86_400_000;

/// A match, by definition.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    /// The pattern.
    pub pattern: String,
    /// The key.
    pub key: Key,
    /// When it is complete, and by which event; for an absence the moment, before all events of it.
    pub at: (i64, Id),
    /// Event time of its first event, milliseconds.
    pub started_ms: i64,
    /// Its events; of more than [`MATCH_IDS_MAX`] the first ones and the last.
    pub ids: Vec<Id>,
    /// How many events it has.
    pub events: usize,
    /// Whether it completes by the passing of time.
    pub absence: bool,
}

/// The velocity features of scored events, by name; NaN is missing.
pub type VelocityValues = BTreeMap<Id, BTreeMap<String, f64>>;

/// Velocity features by definition, for conditions over them.
pub fn velocity_values(velocities: &[Velocity], schema: &Schema, events: &[Labelled]) -> VelocityValues {
    let features = FeatureSet::new().velocities(velocities.to_vec());
    let names = features.columns();
    let rows = expected::rows(&features, schema, events, 1);
    rows.into_iter().map(|(id, row)| (id, names.iter().cloned().zip(row).collect())).collect()
}

/// All matches over the events, which are all retained ones.
pub fn matches(patterns: &Patterns, schema: &Schema, events: &[Event]) -> Vec<Found> {
    matches_beside(patterns, schema, events, &VelocityValues::new())
}

/// The same of patterns with conditions over velocity features.
pub fn matches_beside(patterns: &Patterns, schema: &Schema, events: &[Event], values: &VelocityValues) -> Vec<Found> {
    let mut events: Vec<&Event> = events.iter().collect();
    events.sort_by_key(|event| (event.time, event.id));
    let mut found = Vec::new();
    for spec in patterns.expanded().iter().filter(|spec| spec.cycle.is_none()) {
        let mut by_key: BTreeMap<Key, Vec<&Event>> = BTreeMap::new();
        let sides = || spec.events.values().filter_map(|event| event.key.as_ref().or(spec.key.as_ref()));
        for event in &events {
            let keys: BTreeSet<Key> = sides().filter_map(|side| key_of(side, event, schema)).collect();
            keys.into_iter().for_each(|key| by_key.entry(key).or_default().push(event));
        }
        for (key, events) in &by_key {
            let view = View { spec, schema, events, values, key: *key, known: RefCell::default() };
            let candidates = (0..events.len()).filter_map(|start| view.match_from(start));
            found.extend(view.not_skipped(candidates.collect()));
        }
    }
    for spec in patterns.patterns.iter().filter(|spec| spec.cycle.is_some()) {
        found.extend(cycles::cycles(spec, schema, &events).into_iter().map(|(found, _)| found));
    }
    found.sort();
    found
}

/// The features of scored events, in the order of [`Patterns::columns`].
pub fn features(patterns: &Patterns, schema: &Schema, events: &[Event]) -> BTreeMap<Id, Vec<f64>> {
    features_beside(patterns, schema, events, &VelocityValues::new())
}

/// The same of patterns with conditions over velocity features.
pub fn features_beside(
    patterns: &Patterns,
    schema: &Schema,
    events: &[Event],
    values: &VelocityValues,
) -> BTreeMap<Id, Vec<f64>> {
    let found = matches_beside(patterns, schema, events, values);
    let columns = patterns.columns();
    let specs = patterns.expanded();
    let names: Vec<&str> =
        columns.iter().filter_map(|name| name.strip_prefix("pattern_")?.strip_suffix("_now")).collect();
    let mut sorted: Vec<&Event> = events.iter().collect();
    sorted.sort_by_key(|event| (event.time, event.id));
    let circles: Vec<(Found, Vec<Key>)> = specs
        .iter()
        .filter(|spec| spec.cycle.is_some())
        .flat_map(|spec| cycles::cycles(spec, schema, &sorted))
        .collect();
    let mut by_key: HashMap<(&str, Key), Vec<&Found>> = HashMap::new();
    found.iter().for_each(|one| by_key.entry((&one.pattern, one.key)).or_default().push(one));
    let scored = events.iter().filter(|event| schema.is_scored(event.kind));
    scored
        .map(|event| {
            let row = names.iter().flat_map(|name| {
                let spec = specs.iter().find(|spec| spec.name == *name);
                let key = spec.and_then(|spec| spec.key.as_ref()).and_then(|key| key_of(key, event, schema));
                if let Some(spec) = spec.filter(|spec| spec.cycle.is_some()) {
                    return cycle_features(spec, schema, &circles, event);
                }
                let own = key.and_then(|key| by_key.get(&(*name, key))).map_or(&[][..], |own| own);
                let now = own.iter().any(|one| one.at == (event.time, event.id));
                let seen = |one: &&&Found| one.at <= (event.time, event.id) && one.at.0 > event.time - DAY_MS;
                [f64::from(u8::from(now)), own.iter().filter(seen).count() as f64]
            });
            (event.id, row.collect())
        })
        .collect()
}

/// The features of a pattern of cycles: of transfers alone, and of the cycles in which their payer pays.
fn cycle_features(spec: &PatternSpec, schema: &Schema, circles: &[(Found, Vec<Key>)], event: &Event) -> [f64; 2] {
    let Some(payer) = cycles::payer(spec, schema, event) else { return [0.0; 2] };
    let place = (event.time, event.id);
    let own = circles.iter().filter(|(one, payers)| one.pattern == spec.name && payers.contains(&payer));
    let counted = own.filter(|(one, _)| one.at <= place && one.at.0 > event.time - DAY_MS).count();
    let now = circles.iter().any(|(one, _)| one.pattern == spec.name && one.at == place);
    [f64::from(u8::from(now)), counted as f64]
}

fn key_of(key: &KeySpec, event: &Event, schema: &Schema) -> Option<Key> {
    let mut keys = key.fields().iter().map(|field| event.key(schema.slot(field)?, schema));
    let first = keys.next()??;
    match keys.next() {
        None => Some(first),
        Some(second) => Some(first.pair(second?)),
    }
}

/// One pattern, one key.
pub(super) struct View<'a> {
    pub spec: &'a PatternSpec,
    pub schema: &'a Schema,
    pub events: &'a [&'a Event],
    /// Velocity features of the events.
    pub values: &'a VelocityValues,
    pub key: Key,
    /// What [`View::is`] has said before.
    pub known: RefCell<HashMap<(String, usize), bool>>,
}

/// The events that each step has taken, by index.
pub(super) type Taken = Vec<Vec<usize>>;

/// What a condition is asked about.
struct Asked<'a> {
    at: usize,
    taken: &'a Taken,
    /// The counted events, in `having`.
    counted: Option<&'a [usize]>,
    /// The named event whose own condition it is.
    named: Option<&'a EventSpec>,
}

#[derive(Clone, Debug)]
enum Value {
    Exact(i128, i128),
    Float(f64),
    Text(String),
}

impl View<'_> {
    fn steps(&self) -> (&[StepSpec], Option<&StepSpec>) {
        match self.spec.steps.split_last() {
            Some((last, steps)) if last.absent.is_some() => (steps, Some(last)),
            _ => (&self.spec.steps, None),
        }
    }

    pub(super) fn within_ms(&self) -> i64 {
        self.spec.within.as_deref().and_then(|text| duration_ms(text).ok()).unwrap_or(1)
    }

    /// Whether an event is a named event of this key.
    fn is(&self, name: &str, at: usize) -> bool {
        let asked = (name.to_owned(), at);
        if let Some(known) = self.known.borrow().get(&asked) {
            return *known;
        }
        let (event, named) = (self.events[at], &self.spec.events[name]);
        let key = named.key.as_ref().or(self.spec.key.as_ref()).and_then(|key| key_of(key, event, self.schema));
        let is = key == Some(self.key) && self.is_alone(name, at);
        self.known.borrow_mut().insert(asked, is);
        is
    }

    /// The same, whatever the key.
    pub(super) fn is_alone(&self, name: &str, at: usize) -> bool {
        let (event, named) = (self.events[at], &self.spec.events[name]);
        let kind = &self.schema.kinds()[event.kind as usize];
        let asked = Asked { at, taken: &Vec::new(), counted: None, named: Some(named) };
        named.kind.fields().contains(kind) && self.all_hold(&named.conditions, &asked)
    }

    fn takes(&self, step: &StepSpec, at: usize, taken: &Taken) -> bool {
        let asked = Asked { at, taken, counted: None, named: None };
        self.is(step.event.as_deref().unwrap_or_default(), at) && self.all_hold(&step.conditions, &asked)
    }

    fn enough(&self, step: &StepSpec, counted: &[usize], taken: &Taken) -> bool {
        let asked = Asked { at: counted[counted.len() - 1], taken, counted: Some(counted), named: None };
        counted.len() >= step.at_least.unwrap_or(1) as usize && self.all_hold(&step.having, &asked)
    }

    /// The candidate that begins at an event, and the events that its steps take.
    fn match_from(&self, start: usize) -> Option<(Found, Taken)> {
        let (steps, absent) = self.steps();
        let started_ms = self.events[start].time;
        let in_time = |at: &usize| self.events[*at].time - started_ms < self.within_ms();
        if !self.is(steps[0].event.as_deref()?, start) {
            return None;
        }
        let mut taken: Taken = vec![vec![start]];
        for (number, step) in steps.iter().enumerate().skip(1) {
            let before = &steps[number - 1];
            let first = *taken.last()?.first()?;
            let next = (first + 1..self.events.len()).filter(in_time).find_map(|at| {
                let mut so_far = taken.clone();
                if before.counts() {
                    so_far[number - 1] = self.counted(before, first, at, &taken);
                    if !self.enough(before, &so_far[number - 1], &so_far) {
                        return None;
                    }
                }
                let last = *so_far[number - 1].last()?;
                let between = (last + 1..at).any(|at| step.not.iter().any(|name| self.is(name, at)));
                (!between && self.takes(step, at, &so_far)).then_some((so_far, at))
            });
            let (so_far, at) = next?;
            taken = so_far;
            taken.push(vec![at]);
        }
        let last_step = &steps[steps.len() - 1];
        if last_step.counts() {
            let first = taken.last()?[0];
            let counted = (first..self.events.len()).filter(in_time).find_map(|at| {
                let counted = self.counted(last_step, first, at + 1, &taken);
                let complete = counted.last() == Some(&at) && self.enough(last_step, &counted, &taken);
                let window = |earlier: &usize| self.events[at].time - self.events[*earlier].time < self.within_ms();
                let whole = (0..start).filter(window).all(|earlier| !self.takes(last_step, earlier, &taken));
                let complete = complete && (whole || !last_step.whole_window);
                complete.then_some(counted)
            })?;
            *taken.last_mut()? = counted;
        }
        let last = *taken.last()?.last()?;
        let mut at = (self.events[last].time, self.events[last].id);
        if let Some(absent) = absent {
            let until_ms = at.0 + absent.within.as_deref().and_then(|text| duration_ms(text).ok())?;
            let name = absent.absent.as_deref()?;
            let comes = (last + 1..self.events.len()).any(|at| {
                let asked = Asked { at, taken: &taken, counted: None, named: None };
                self.events[at].time < until_ms && self.is(name, at) && self.all_hold(&absent.conditions, &asked)
            });
            if comes {
                return None;
            }
            at = (until_ms, Id::default());
        }
        let mut ids: Vec<Id> = taken.iter().flatten().map(|&at| self.events[at].id).collect();
        let events = ids.len();
        if events > MATCH_IDS_MAX {
            ids.drain(MATCH_IDS_MAX - 1..events - 1);
        }
        let pattern = self.spec.name.clone();
        let found = Found { pattern, key: self.key, at, started_ms, ids, events, absence: absent.is_some() };
        Some((found, taken))
    }

    /// The events that a counting step counts from its first event up to (not with) another.
    fn counted(&self, step: &StepSpec, first: usize, until: usize, taken: &Taken) -> Vec<usize> {
        let earlier: Taken = taken[..taken.len() - 1].to_vec();
        let more = (first + 1..until).filter(|&at| self.takes(step, at, &earlier));
        std::iter::once(first).chain(more).collect()
    }

    fn all_hold(&self, conditions: &[String], asked: &Asked<'_>) -> bool {
        conditions.iter().all(|text| parse(text).is_ok_and(|expr| self.holds(&expr, asked)))
    }

    fn holds(&self, expr: &Expr, asked: &Asked<'_>) -> bool {
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
                    let earlier = self.value(&arguments[0], &Asked { at, ..*asked });
                    compare(&earlier, Comparison::Equal, &Some(own.clone()))
                })
            }
            Expr::Holds(Term::Call(None, _, arguments)) => self.value(&arguments[0], asked).is_some(),
            Expr::Holds(term) => matches!(self.value(term, asked), Some(Value::Exact(1, 1))),
        }
    }

    fn side(&self, side: &Side, asked: &Asked<'_>) -> Option<Value> {
        let (top, bottom) = (i128::from(side.factor.digits), 10i128.pow(u32::from(side.factor.scale)));
        Some(match self.value(&side.term, asked)? {
            Value::Exact(a, b) => Value::Exact(a * top, b * bottom),
            Value::Float(value) => Value::Float(value * top as f64 / bottom as f64),
            text => text,
        })
    }

    fn field(&self, name: &str, at: usize) -> Option<Value> {
        let (event, slot) = (self.events[at], self.schema.slot(name)?);
        let field = self.schema.field(slot);
        Some(match field.kind {
            FieldType::Text => Value::Text(event.text(slot)?.to_owned()),
            FieldType::Float => Value::Float(event.float(slot)?),
            FieldType::Decimal => Value::Exact(i128::from(event.int(slot)?), 10i128.pow(u32::from(field.scale))),
            _ => Value::Exact(i128::from(event.int(slot)?), 1),
        })
    }

    /// Earlier events of the key that are a named event, or of the kinds of the one that asks, latest first.
    fn past(&self, asked: &Asked<'_>, of: Option<&Term>) -> Vec<usize> {
        let all = self.past_without_limit(asked, of);
        all.into_iter().take(PAST_EVENTS_MAX).collect()
    }

    fn past_without_limit(&self, asked: &Asked<'_>, of: Option<&Term>) -> Vec<usize> {
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

    fn value(&self, term: &Term, asked: &Asked<'_>) -> Option<Value> {
        let step = |name: &str| self.spec.steps.iter().position(|step| step.name() == Some(name));
        let field_of = |term: &Term| match term {
            Term::Name(None, name) => Some(name.clone()),
            _ => None,
        };
        Some(match term {
            Term::Number(number) => Value::Exact(i128::from(number.digits), 10i128.pow(u32::from(number.scale))),
            Term::Duration(ms) => Value::Exact(i128::from(*ms), 1),
            Term::Text(text) => Value::Text(text.clone()),
            Term::Bool(value) => Value::Exact(i128::from(*value), 1),
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
                    Some(Value::Exact(top, bottom)) => Some((self.events[*at].time, top, bottom)),
                    _ => None,
                };
                let values: Vec<(i64, i128, i128)> = past.iter().filter_map(of_field).collect();
                let unit = values.first().map_or(1, |value| value.2);
                match name.as_str() {
                    "count" => Value::Exact(past.len() as i128, 1),
                    "since_last" => Value::Exact(i128::from(now - self.events[*past.first()?].time), 1),
                    "age" => {
                        let earliest = *self.past_without_limit(asked, of).last()?;
                        Value::Exact(i128::from(now - self.events[earliest].time), 1)
                    }
                    "mean" if values.is_empty() => return None,
                    "mean" => Value::Exact(values.iter().map(|value| value.1).sum(), unit * values.len() as i128),
                    "sum" => {
                        let Some(Term::Duration(ms)) = arguments.get(1) else { return None };
                        Value::Exact(
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
                        Value::Exact(*sums.get(sums.len().checked_sub(1)? / 2)?, unit)
                    }
                }
            }
            Term::Call(None, name, arguments) if ["distance", "speed", "since"].contains(&name.as_str()) => {
                let there = asked.taken.get(step(&field_of(arguments.first()?)?)?)?[0];
                let elapsed = self.events[asked.at].time - self.events[there].time;
                if name == "since" {
                    return Some(Value::Exact(i128::from(elapsed), 1));
                }
                let fields = self.spec.location.clone().unwrap_or_else(|| ["lat".into(), "lon".into()]);
                let degrees = |name: &str, at| match self.field(name, at) {
                    Some(Value::Float(value)) => Some(value),
                    _ => None,
                };
                let point = |at| Some((degrees(&fields[0], at)?, degrees(&fields[1], at)?));
                let km = distance_km(point(there)?, point(asked.at)?);
                if name == "distance" || km == 0.0 {
                    return Some(Value::Float(km));
                }
                Value::Float(km / (elapsed as f64 / 3_600_000.0))
            }
            Term::Call(of, name, arguments) if name == "feature" => {
                let at = match of {
                    Some(of) => asked.taken.get(step(of)?)?[0],
                    None => asked.at,
                };
                let (Term::Name(None, name) | Term::Text(name)) = arguments.first()? else { return None };
                let value = *self.values.get(&self.events[at].id)?.get(name)?;
                return (!value.is_nan()).then_some(Value::Float(value));
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
                    "count" => Value::Exact(chosen.len() as i128, 1),
                    "share" => Value::Exact(chosen.len() as i128, counted.len() as i128),
                    "distinct" => {
                        let values = chosen.iter().filter_map(|&at| self.field(field.as_deref()?, at));
                        let mut values: Vec<String> = values.map(|value| format!("{value:?}")).collect();
                        values.sort_unstable();
                        values.dedup();
                        Value::Exact(values.len() as i128, 1)
                    }
                    _ => {
                        let field = field?;
                        let scale = self.schema.field(self.schema.slot(&field)?).scale;
                        let cents = chosen.iter().filter_map(|&at| match self.field(&field, at) {
                            Some(Value::Exact(top, _)) => Some(top),
                            _ => None,
                        });
                        Value::Exact(cents.sum(), 10i128.pow(u32::from(scale)))
                    }
                }
            }
        })
    }
}

fn compare(a: &Option<Value>, comparison: Comparison, b: &Option<Value>) -> bool {
    let float = |value: &Value| match value {
        Value::Exact(top, bottom) => *top as f64 / *bottom as f64,
        Value::Float(value) => *value,
        Value::Text(_) => f64::NAN,
    };
    match (a, b) {
        (Some(Value::Text(a)), Some(Value::Text(b))) => comparison.accepts(a.cmp(b)),
        (Some(Value::Exact(a, below_a)), Some(Value::Exact(b, below_b))) => {
            comparison.accepts((a * below_b).cmp(&(b * below_a)))
        }
        (Some(a), Some(b)) => float(a).partial_cmp(&float(b)).is_some_and(|ordering| comparison.accepts(ordering)),
        _ => false,
    }
}
