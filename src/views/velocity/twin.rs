//! Velocity features by definition: slow, obvious, and independent of how the engine keeps them.
//!
//! The oracle looks at a final set of events and evaluates filters on the events themselves. Cost: every feature of every
//! row looks at every event; [`KeyLogs`] sorts them by key first.

use std::collections::HashMap;

use crate::event::{Event, FieldType, Key, Schema, Slot};
use crate::flow::Labelled;
use crate::views::velocity::store::ALL_TIME_IDLE_MS;
use crate::views::velocity::{FeatureSpec, Filter, Measure, Velocity, Window};

/// The rows of all events, in their order.
pub fn rows(velocities: &[Velocity], schema: &Schema, events: &[Labelled]) -> Vec<Vec<f64>> {
    (0..events.len()).map(|current| row(velocities, schema, events, current)).collect()
}

/// The row of one event: the features of all velocities, in order. An event without a key has the defaults of that key.
/// A field that the schema does not have counts as missing.
pub fn row(velocities: &[Velocity], schema: &Schema, events: &[Labelled], current: usize) -> Vec<f64> {
    let mut row = Vec::new();
    for velocity in velocities {
        let current = &events[current];
        let Some(key) = key_of(velocity, schema, &current.0) else {
            row.extend(velocity.features().iter().map(|spec| spec.default));
            continue;
        };
        let mut log: Vec<&Labelled> =
            events.iter().filter(|(event, _)| key_of(velocity, schema, event) == Some(key)).collect();
        log.sort_by_key(|(event, _)| (event.time, event.id));
        row.extend(velocity.features().iter().map(|spec| {
            let value = feature(spec, schema, &log, current);
            if value.is_nan() { spec.default } else { value }
        }));
    }
    row
}

/// The events of each key, in (time, id) order: for the rows of many events, each of which looks at those of its own key and
/// windows only.
pub struct KeyLogs<'a> {
    velocity: &'a Velocity,
    schema: &'a Schema,
    by_key: HashMap<Key, Vec<&'a Labelled>>,
}

impl<'a> KeyLogs<'a> {
    /// Of one velocity.
    pub fn new(velocity: &'a Velocity, schema: &'a Schema, events: &'a [Labelled]) -> Self {
        let mut by_key: HashMap<Key, Vec<&Labelled>> = HashMap::new();
        for one in events {
            if let Some(key) = key_of(velocity, schema, &one.0) {
                by_key.entry(key).or_default().push(one);
            }
        }
        by_key.values_mut().for_each(|log| log.sort_by_key(|(event, _)| (event.time, event.id)));
        KeyLogs { velocity, schema, by_key }
    }

    /// The features of one event.
    pub fn row(&self, current: &Labelled) -> Vec<f64> {
        let key = key_of(self.velocity, self.schema, &current.0);
        let log = key.and_then(|key| self.by_key.get(&key));
        let of_spec = |spec: &FeatureSpec| {
            let value = log.map_or(f64::NAN, |log| {
                // What lies outside a window of a fixed length cannot count; the definition sorts out the rest.
                let window = match spec.window {
                    Window::AllTime => &log[..],
                    Window::Millis(length) => {
                        let now = current.0.time;
                        let from = log.partition_point(|(event, _)| event.time <= now - spec.lag_ms - length);
                        let until = log.partition_point(|(event, _)| event.time <= now);
                        &log[from..until]
                    }
                };
                feature(spec, self.schema, window, current)
            });
            if value.is_nan() { spec.default } else { value }
        };
        self.velocity.features().iter().map(of_spec).collect()
    }
}

fn key_of(velocity: &Velocity, schema: &Schema, event: &Event) -> Option<Key> {
    let mut keys = velocity.fields().iter().map(|name| event.key(schema.slot(name)?, schema));
    let first = keys.next()??;
    match keys.next() {
        None => Some(first),
        Some(second) => Some(first.pair(second?)),
    }
}

/// One feature of one event, given all events of its key in order; NaN is missing.
fn feature(spec: &FeatureSpec, schema: &Schema, log: &[&Labelled], current: &Labelled) -> f64 {
    let (now, here) = (current.0.time, (current.0.time, current.0.id));
    let anew = begins(log, now);
    let in_window = |event: &Event| {
        let before_end = if spec.lag_ms > 0 {
            event.time <= now - spec.lag_ms
        } else if spec.include_current && spec.measure != Measure::SinceLast {
            (event.time, event.id) <= here
        } else {
            (event.time, event.id) < here
        };
        let after_start = match spec.window {
            Window::Millis(length) => event.time > now - spec.lag_ms - length,
            Window::AllTime => event.time >= anew,
        };
        before_end && after_start
    };
    let visible = |label: &Option<(bool, i64)>| !spec.as_known || label.is_some_and(|(_, at)| at <= now);
    let field = field_of(&spec.measure).and_then(|name| schema.slot(name));
    let counted = |(event, label): &Labelled| {
        holds_scored(&spec.filter, event, label.map(|(says, _)| says), schema)
            && field.is_none_or(|slot| event.has(slot))
    };
    let all: Vec<&Labelled> = log.iter().copied().filter(|(event, label)| in_window(event) && visible(label)).collect();
    let window: Vec<&Labelled> = all.iter().copied().filter(|one| counted(one)).collect();
    let times: Vec<i64> = window.iter().map(|(event, _)| event.time).collect();
    let amounts: Vec<i64> = window.iter().filter_map(|(event, _)| event.int(field?)).collect();
    let values: Vec<u64> = window.iter().filter_map(|(event, _)| event.fingerprint(field?, schema)).collect();
    let amount = field.and_then(|slot| current.0.int(slot));
    let decimal = field.map(|slot| schema.field(slot)).filter(|field| field.kind == FieldType::Decimal);
    let unit = decimal.map_or(1.0, |field| 10f64.powi(i32::from(field.scale)));
    match &spec.measure {
        Measure::Count => window.len() as f64,
        Measure::Sum(_) => sum(&amounts) as f64 / unit,
        Measure::Mean(_) => mean(&amounts, unit),
        Measure::Std(_) => std(&amounts, unit),
        Measure::Min(_) => amounts.iter().min().map_or(f64::NAN, |&least| least as f64 / unit),
        Measure::Max(_) => amounts.iter().max().map_or(f64::NAN, |&most| most as f64 / unit),
        Measure::Quantile(_, permille) => {
            let mut sorted = amounts.clone();
            sorted.sort();
            let rank = (sorted.len() * *permille as usize).div_ceil(1000);
            if rank == 0 { f64::NAN } else { sorted[rank - 1] as f64 / unit }
        }
        Measure::Distinct(_) => counts(&values).len() as f64,
        Measure::DistinctRatio(_) => ratio(counts(&values).len(), values.len()),
        Measure::Ratio(filter) => {
            let part = window.iter().filter(|(e, l)| holds_scored(filter, e, l.map(|(says, _)| says), schema));
            ratio(part.count(), window.len())
        }
        Measure::SinceLast => times.last().map_or(f64::NAN, |&time| (now - time) as f64),
        Measure::SinceFirst => times.first().map_or(f64::NAN, |&time| (now - time) as f64),
        Measure::GapMean => mean(&gaps(&times), 1.0),
        Measure::GapStd => std(&gaps(&times), 1.0),
        Measure::GapMin => gaps(&times).iter().min().map_or(f64::NAN, |&gap| gap as f64),
        Measure::IsNew => f64::from(u8::from(window.is_empty())),
        Measure::Entropy(_) => {
            let parts = |n: usize| (n as f64 * (n as f64).log2() * 4_294_967_296.0).round() as i128;
            let of_values: i128 = counts(&values).iter().map(|&n| parts(n)).sum();
            ((parts(values.len()) - of_values) as f64 / values.len() as f64).round() / 4_294_967_296.0
        }
        Measure::TopShare(_) => ratio(counts(&values).into_iter().max().unwrap_or(0), values.len()),
        Measure::Burst(span) => {
            let ending = |end: i64| times.iter().filter(|&&time| time > end - span && time <= end).count();
            times.iter().map(|&end| ending(end)).max().unwrap_or(0) as f64
        }
        Measure::Streak(reset) => {
            let resets = |one: &&Labelled| holds_scored(reset, &one.0, one.1.map(|(says, _)| says), schema);
            let run = all.iter().rev().take_while(|one| !resets(one));
            run.filter(|one| counted(one)).count() as f64
        }
        Measure::Repeat(_) => match field.and_then(|slot| current.0.fingerprint(slot, schema)) {
            None => f64::NAN,
            Some(value) => values.iter().filter(|&&other| other == value).count() as f64,
        },
        Measure::ZScore(_) => match amount {
            Some(amount) if amounts.len() >= 2 && std(&amounts, 1.0) > 0.0 => {
                (amount as f64 - mean(&amounts, 1.0)) / std(&amounts, 1.0)
            }
            _ => f64::NAN,
        },
        Measure::RatioToMean(_) => match amount {
            Some(amount) if sum(&amounts) != 0 => amount as f64 / mean(&amounts, 1.0),
            _ => f64::NAN,
        },
        Measure::RatioToMax(_) => match (amount, amounts.iter().max()) {
            (Some(amount), Some(&most)) if most != 0 => amount as f64 / most as f64,
            _ => f64::NAN,
        },
        Measure::PercentRank(_) => match amount {
            Some(amount) => ratio(amounts.iter().filter(|&&other| other < amount).count(), amounts.len()),
            None => f64::NAN,
        },
    }
}

/// When the key began, or began anew after a long silence, before a time.
fn begins(log: &[&Labelled], until: i64) -> i64 {
    let times: Vec<i64> = log.iter().map(|(event, _)| event.time).filter(|&time| time <= until).collect();
    let breaks = times.windows(2).filter(|pair| pair[1] - pair[0] > ALL_TIME_IDLE_MS);
    breaks.map(|pair| pair[1]).next_back().unwrap_or(i64::MIN)
}

fn field_of(measure: &Measure) -> Option<&str> {
    use Measure as M;
    match measure {
        M::Sum(f) | M::Mean(f) | M::Std(f) | M::Min(f) | M::Max(f) | M::Quantile(f, _) => Some(f),
        M::Distinct(f) | M::DistinctRatio(f) | M::Entropy(f) | M::TopShare(f) | M::Repeat(f) => Some(f),
        M::ZScore(f) | M::RatioToMean(f) | M::RatioToMax(f) | M::PercentRank(f) => Some(f),
        _ => None,
    }
}

/// A filter that names no kind holds for scored kinds only.
fn holds_scored(filter: &Filter, event: &Event, label: Option<bool>, schema: &Schema) -> bool {
    (names_kind(filter) || schema.is_scored(event.kind)) && holds(filter, event, label, schema)
}

fn names_kind(filter: &Filter) -> bool {
    match filter {
        Filter::Kind(_) | Filter::Scored => true,
        Filter::And(a, b) => names_kind(a) || names_kind(b),
        Filter::Not(inner) => names_kind(inner),
        _ => false,
    }
}

fn holds(filter: &Filter, event: &Event, label: Option<bool>, schema: &Schema) -> bool {
    let int = |name: &str| schema.slot(name).and_then(|slot| event.int(slot));
    match filter {
        Filter::Scored => schema.is_scored(event.kind),
        Filter::Kind(kinds) => kinds.contains(&schema.kinds()[event.kind as usize]),
        Filter::Is(name, value) => schema.slot(name).is_some_and(|slot| equals(event, slot, value, schema)),
        Filter::AtLeast(name, least) => int(name).is_some_and(|value| value >= *least),
        Filter::MultipleOf(name, unit) => int(name).is_some_and(|value| value > 0 && value % unit == 0),
        Filter::Has(name) => schema.slot(name).is_some_and(|slot| event.has(slot)),
        Filter::Label(says) => label == Some(*says),
        Filter::Labelled => label.is_some(),
        Filter::Hours(from, to) => {
            let hour = event.time.div_euclid(3_600_000).rem_euclid(24);
            i64::from(*from) <= hour && hour < i64::from(*to)
        }
        Filter::And(a, b) => holds(a, event, label, schema) && holds(b, event, label, schema),
        Filter::Not(inner) => !holds(inner, event, label, schema),
    }
}

/// Whether a field has a value; numbers are written as integers, decimals in minor units.
fn equals(event: &Event, slot: Slot, value: &str, schema: &Schema) -> bool {
    match schema.field(slot).kind {
        FieldType::Text => event.text(slot) == Some(value),
        FieldType::Bool => event.int(slot).is_some_and(|cell| (cell == 1) == (value == "true" || value == "1")),
        FieldType::Float => event.float(slot).is_some_and(|cell| value.parse() == Ok(cell)),
        _ => event.int(slot).is_some_and(|cell| cell.to_string() == value),
    }
}

fn gaps(times: &[i64]) -> Vec<i64> {
    times.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

fn sum(amounts: &[i64]) -> i128 {
    amounts.iter().map(|&amount| i128::from(amount)).sum()
}

fn mean(amounts: &[i64], unit: f64) -> f64 {
    sum(amounts) as f64 / (amounts.len() as f64 * unit)
}

fn std(amounts: &[i64], unit: f64) -> f64 {
    let n = amounts.len() as i128;
    // Amounts in halves, a * 2^32 + b: `n * q - s * s` is high * 2^64 + middle * 2^33 + low, none of which is beyond 128 bits.
    let halves: Vec<(i128, i128)> =
        amounts.iter().map(|&amount| (i128::from(amount >> 32), i128::from(amount & 0xffff_ffff))).collect();
    let all = |of: fn(&(i128, i128)) -> i128| halves.iter().map(of).sum::<i128>();
    let (a, b) = (all(|(a, _)| *a), all(|(_, b)| *b));
    let (high, middle, low) =
        (n * all(|(a, _)| a * a) - a * a, n * all(|(a, b)| a * b) - a * b, n * all(|(_, b)| b * b) - b * b);
    let rest = (middle << 33) + low;
    let (high, rest) = ((high + (rest >> 64)) as u128, rest as u64);
    // The nearest double: the leading 128 bits, the last of which is set if anything was cut off.
    let zeros = high.leading_zeros().min(64);
    let cut = if zeros == 64 { 0 } else { rest << zeros };
    let leading = if zeros == 0 { high } else { high << zeros | u128::from(rest >> (64 - zeros)) };
    let spread = (leading | u128::from(cut != 0)) as f64 * 2f64.powi(64 - zeros as i32);
    spread.sqrt() / (n as f64 * unit)
}

/// How often each different value is there.
fn counts(values: &[u64]) -> Vec<usize> {
    let mut sorted = values.to_vec();
    sorted.sort();
    sorted.chunk_by(|a, b| a == b).map(<[u64]>::len).collect()
}

fn ratio(part: usize, whole: usize) -> f64 {
    part as f64 / whole as f64
}
