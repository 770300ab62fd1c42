//! Event patterns by definition: slow, obvious, and independent of the automaton.
//!
//! For every event that may begin a match the oracle looks for the first acceptable event of each step by trying all later
//! ones in turn, and counts from scratch for each. It evaluates the written conditions on the events themselves.

mod after_match;
mod candidate;
mod condition;
mod cycles;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use self::candidate::KeyTwin;
use crate::event::{Event, Id, Key, Schema};
use crate::flow::Labelled;
use crate::views::pattern::Patterns;
use crate::views::pattern::spec::{KeySpec, PatternSpec};
use crate::views::velocity::Velocity;
use crate::views::velocity::twin::KeyLogs;

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
    /// Its events; of more than [`super::MATCH_IDS_MAX`] the first ones and the last.
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
    let mut values = VelocityValues::new();
    for velocity in velocities {
        let logs = KeyLogs::new(velocity, schema, events);
        let names = || velocity.features().iter().map(|feature| feature.name.clone());
        for one in events.iter().filter(|(event, _)| schema.is_scored(event.kind)) {
            values.entry(one.0.id).or_default().extend(names().zip(logs.row(one)));
        }
    }
    values
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
            let twin = KeyTwin { spec, schema, events, values, key: *key, known: RefCell::default() };
            let candidates = (0..events.len()).filter_map(|start| twin.match_from(start));
            found.extend(twin.not_skipped(candidates.collect()));
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
