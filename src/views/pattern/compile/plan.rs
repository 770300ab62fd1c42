//! Patterns resolved against a schema: one group per key, one program per pattern.

use std::sync::Arc;

use super::after_match::AfterMatch;
use super::condition::{Column, Condition};
use super::count::Count;
use super::cycle::CyclePlan;
use super::features::FeatureCell;
use crate::event::{Event, Key, Schema, Slot};

/// Named events of one key, over all its patterns: bits of a `u64`.
pub const EVENTS_MAX: usize = 64;
/// Columns of one key, over all its patterns: presence is one bit of a `u64` each.
pub const COLUMNS_MAX: usize = 64;
/// Patterns of one key: bits of a `u64`.
pub const PATTERNS_MAX: usize = 64;
/// How long a match counts in the feature `pattern_NAME_count_24h`, milliseconds.
pub const COUNTED_MS: i64 = 86_400_000;

/// All patterns of a dataflow.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PatternPlan {
    /// The patterns of each key; those that look at features apart, behind the others.
    pub groups: Vec<Arc<Group>>,
    /// Velocity features that conditions look at, by their numbers.
    pub features: Vec<FeatureCell>,
    /// Patterns that are cycles.
    pub cycles: Vec<Arc<CyclePlan>>,
}

/// The patterns of one key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Group {
    /// The key's name.
    pub name: String,
    /// Where events carry the key, and which named events count there; the pattern's own key first.
    pub sides: Vec<KeySide>,
    /// Named events.
    pub events: Vec<NamedEvent>,
    /// Which of them an event of a kind, by index, may be.
    pub of_kind: Vec<u64>,
    /// Whether conditions look at velocity features, so that requests wait for those.
    pub featured: bool,
    /// Fields and features kept with events.
    pub columns: Vec<Column>,
    /// Which of them with an event that is this named event, bit by bit.
    pub kept: Vec<u64>,
    /// The patterns.
    pub programs: Vec<Program>,
    /// Named events with conditions over the key's history.
    pub historic: u64,
    /// Those that matter to a key in which nothing has begun.
    pub starts: u64,
    /// A change of one event reaches events this much later, by the history they look at, milliseconds.
    pub history_ms: i64,
    /// The longest reach of a pattern, and how long its matches count, milliseconds.
    pub(super) longest_ms: i64,
    /// Events are kept this long at least, milliseconds.
    pub reach_ms: i64,
    /// How long a row is revised after its event time, milliseconds.
    pub revise_ms: i64,
}

/// Fields of an event that carry the key.
#[derive(Clone, Debug, PartialEq)]
pub struct KeySide {
    /// One field or two.
    pub fields: Vec<Slot>,
    /// The named events that carry it there.
    pub bits: u64,
}

/// A condition over one event: a bit of its mask.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedEvent {
    /// Its kinds, by index.
    pub kinds: Vec<u16>,
    /// Conditions over the event alone.
    pub own: Condition,
    /// Conditions over the key's history.
    pub historic: Condition,
    /// How far back those look, milliseconds.
    pub history_ms: i64,
    /// Which side carries the key.
    pub side: usize,
}

/// One pattern.
#[derive(Clone, Debug, PartialEq)]
pub struct Program {
    /// Its name.
    pub name: Arc<str>,
    /// From the first event to the last it is less than this, milliseconds.
    pub within_ms: i64,
    /// The steps.
    pub steps: Vec<Step>,
    /// What must not come after the last step.
    pub absent: Option<Absent>,
    /// All named events that matter to it.
    pub uses: u64,
    /// Those that matter as long as nothing has begun.
    pub begins: u64,
    /// Those with which something can begin.
    pub triggers: u64,
    /// An event changes no match that began this long before it, milliseconds.
    pub reach_ms: i64,
    /// An event changes no match that begins this long after it, milliseconds: 0 unless a count is over the whole window.
    pub ahead_ms: i64,
    /// What a match skips.
    pub after_match: AfterMatch,
    /// Matches that are complete in different periods of this length, from 0 on, skip nothing of each other, milliseconds.
    pub period_ms: i64,
}

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The named event.
    pub bit: u8,
    /// Conditions on it and earlier steps.
    pub condition: Condition,
    /// Named events that do not lie between the step before and this one.
    pub not: u64,
    /// The step counts.
    pub count: Option<Count>,
    /// Whether later steps look at its event's fields.
    pub keeps: bool,
}

/// What must not come after the last step.
#[derive(Clone, Debug, PartialEq)]
pub struct Absent {
    /// The named event.
    pub bit: u8,
    /// Conditions on it and the steps.
    pub condition: Condition,
    /// For how long, milliseconds.
    pub within_ms: i64,
}

impl Group {
    /// The key of an event on one side, if it has all the fields.
    #[inline]
    pub fn key_of(&self, side: usize, event: &Event, schema: &Schema) -> Option<Key> {
        let fields = &self.sides[side].fields;
        let first = event.key(fields[0], schema)?;
        match fields.get(1) {
            None => Some(first),
            Some(second) => Some(first.pair(event.key(*second, schema)?)),
        }
    }
}

impl Program {
    /// Named events that matter where nothing has begun, if these have conditions over the key's history: those with which
    /// something can begin, and those to be counted of which it is to be found out now whether they are.
    #[inline]
    pub fn starts(&self, historic: u64) -> u64 {
        self.triggers | self.begins & historic
    }
}
