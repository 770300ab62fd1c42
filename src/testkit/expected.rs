//! Feature rows from scratch for many events: by definition, per key.
//!
//! Each row looks at the events of its own keys and windows only: 50 000 events of a pack with hundreds of features take
//! minutes, not days.

use std::collections::BTreeMap;

use super::{Plan, resolve};
use crate::event::{Id, Schema};
use crate::feature::FeatureSet;
use crate::flow::Labelled;
use crate::views::Family;
use crate::views::velocity::twin::KeyLogs;

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
        let logs = KeyLogs::new(velocity, schema, events);
        for (row, &at) in rows.iter_mut().zip(wanted) {
            row.extend(logs.row(&events[at]));
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
