//! Feature rows from scratch for many events: by definition, per key.
//!
//! As [`crate::views::velocity::twin`], but each row looks at the events of its own keys and windows only: 50 000 events of a pack with
//! hundreds of features take minutes, not days.

use std::collections::{BTreeMap, HashMap};

use super::{Plan, resolve};
use crate::event::{Id, Key, Schema};
use crate::feature::FeatureSet;
use crate::flow::Labelled;
use crate::views::Family;
use crate::views::velocity::{Velocity, Window, twin};

/// The rows of scored events, by id: own features, then those of each key and family. Of all scored events in their order, every
/// `nth` is computed (1: all of them).
pub fn rows(features: &FeatureSet, schema: &Schema, events: &[Labelled], nth: usize) -> BTreeMap<Id, Vec<f64>> {
    sample(features, schema, events, nth, 0)
}

/// As [`rows`], of the scored events whose place leaves the remainder `from` when divided by `nth`: runs that differ in
/// `from` compare different rows.
pub fn sample(
    features: &FeatureSet,
    schema: &Schema,
    events: &[Labelled],
    nth: usize,
    from: usize,
) -> BTreeMap<Id, Vec<f64>> {
    let nth = nth.max(1);
    let scored = events.iter().enumerate().filter(|(_, (event, _))| schema.is_scored(event.kind));
    let wanted: Vec<usize> = scored.map(|(at, _)| at).skip(from % nth).step_by(nth).collect();
    let by_family = |family: &dyn Family| family.expected(schema, events);
    assembled(features, schema, events, &wanted, by_family)
}

/// The rows of all scored events that a plan leads to, with what look-ups saw of its reference records. The features as
/// of arrival other than look-ups must be indifferent to it, see [`Family::expected`].
pub fn of_plan(features: &FeatureSet, schema: &Schema, plan: &Plan) -> BTreeMap<Id, Vec<f64>> {
    let events = resolve::retained(plan.events(), schema);
    let wanted: Vec<usize> = (0..events.len()).filter(|&at| schema.is_scored(events[at].0.kind)).collect();
    assembled(features, schema, &events, &wanted, |family| family.expected_of(schema, &events, &plan.epochs))
}

/// The rows of the events at these places.
fn assembled(
    features: &FeatureSet,
    schema: &Schema,
    events: &[Labelled],
    wanted: &[usize],
    by_family: impl Fn(&dyn Family) -> BTreeMap<Id, Vec<f64>>,
) -> BTreeMap<Id, Vec<f64>> {
    let mut rows: Vec<Vec<f64>> =
        wanted.iter().map(|&at| features.own_features().map(|(_, own)| own(&events[at].0)).collect()).collect();
    for velocity in features.keys() {
        let groups = Groups::new(velocity, schema, events);
        for (row, &at) in rows.iter_mut().zip(wanted) {
            groups.extend(row, at);
        }
    }
    for family in features.families() {
        let (defaults, values) = (family.columns(), by_family(&**family));
        for (row, &at) in rows.iter_mut().zip(wanted) {
            match values.get(&events[at].0.id) {
                Some(values) => row.extend(values),
                None => row.extend(defaults.iter().map(|(_, default)| default)),
            }
        }
    }
    wanted.iter().map(|&at| events[at].0.id).zip(rows).collect()
}

/// The events of each key, in (time, id) order.
struct Groups<'a> {
    velocity: &'a Velocity,
    schema: &'a Schema,
    events: &'a [Labelled],
    by_key: HashMap<Key, Vec<&'a Labelled>>,
}

impl<'a> Groups<'a> {
    fn new(velocity: &'a Velocity, schema: &'a Schema, events: &'a [Labelled]) -> Self {
        let mut by_key: HashMap<Key, Vec<&Labelled>> = HashMap::new();
        for one in events {
            if let Some(key) = twin::key_of(velocity, schema, &one.0) {
                by_key.entry(key).or_default().push(one);
            }
        }
        by_key.values_mut().for_each(|log| log.sort_by_key(|(event, _)| (event.time, event.id)));
        Groups { velocity, schema, events, by_key }
    }

    fn extend(&self, row: &mut Vec<f64>, at: usize) {
        let current = &self.events[at];
        let key = twin::key_of(self.velocity, self.schema, &current.0);
        let log = key.and_then(|key| self.by_key.get(&key));
        for spec in self.velocity.features() {
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
                twin::feature(spec, self.schema, window, current)
            });
            row.push(if value.is_nan() { spec.default } else { value });
        }
    }
}
