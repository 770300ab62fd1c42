//! Patterns resolved against a schema: one group per key, one program per pattern.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::PatternError;
use super::after_match::{AfterMatch, period_ms};
use super::condition::{Column, Condition};
use super::count::{Aggregate, Count, Measure};
use super::cycle::CyclePlan;
use super::expr::duration_ms;
use super::features::{FeatureCell, FeatureNames};
use super::resolve::{Names, StepName, resolve_all};
use super::spec::{KeySpec, PatternSpec, StepSpec};
use crate::event::{Event, Key, Schema, Slot};

/// Named events of one key, over all its patterns: bits of a `u64`.
pub const EVENTS_MAX: usize = 64;
/// Columns of one key, over all its patterns: presence is one bit of a `u64` each.
pub const COLUMNS_MAX: usize = 64;
/// Patterns of one key: bits of a `u64`.
pub const PATTERNS_MAX: usize = 64;
/// How long a match counts in the feature `pattern_NAME_count_24h`, milliseconds.
pub const COUNTED_MS: i64 = 86_400_000;

/// How far back history goes unless a pattern says otherwise, milliseconds.
const HISTORY_MS: i64 = 30 * 86_400_000;

/// All patterns of a dataflow.
#[derive(Clone, Debug, Default)]
pub struct PatternPlan {
    /// The patterns of each key; those that look at features apart, behind the others.
    pub groups: Vec<Arc<Group>>,
    /// Velocity features that conditions look at, by their numbers.
    pub features: Vec<FeatureCell>,
    /// Patterns that are cycles.
    pub cycles: Vec<Arc<CyclePlan>>,
}

/// The patterns of one key.
#[derive(Clone, Debug, Default)]
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
#[derive(Clone, Debug)]
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
#[derive(Clone, Debug)]
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
#[derive(Clone, Debug)]
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

    /// Adds a pattern. The error names the place in it and how to mend it.
    pub(super) fn add(
        &mut self,
        spec: &PatternSpec,
        schema: &Schema,
        features: &mut FeatureNames<'_>,
    ) -> Result<(), PatternError> {
        let invalid = |place: &str, reason: String| PatternError::invalid(&spec.name, place, reason);
        let key = spec
            .key
            .as_ref()
            .ok_or_else(|| invalid("key", "is missing; name the field that its events share".into()))?;
        self.name = key.fields().join("_");
        let main = self.side(key, schema).map_err(|reason| invalid("key", reason))?;
        let length = |place: &str, text: &str| duration_ms(text).map_err(|reason| invalid(place, reason));
        let written_ms = spec.within.as_deref().map(|text| length("within", text)).transpose()?;
        let history_ms = spec.history.as_deref().map_or(Ok(HISTORY_MS), |text| length("history", text))?;
        let location = spec.location.clone().unwrap_or_else(|| ["lat".to_owned(), "lon".to_owned()]);
        let mut names = Names {
            schema,
            features,
            group: self,
            bits: BTreeMap::new(),
            steps: Vec::new(),
            kinds: Vec::new(),
            location,
            base: None,
            alone: false,
            here: None,
        };
        // Events that look at the key's history may name those that do not, so those come first.
        let (looking, alone): (Vec<_>, Vec<_>) = spec.events.iter().partition(|(_, event)| event.looks_back());
        let mut later = Vec::new();
        for (name, event) in alone.into_iter().chain(looking) {
            let place = format!("event '{name}'");
            let in_event = |reason: String| PatternError::invalid(&spec.name, &place, reason);
            let bit = names.event(event, main, history_ms).map_err(in_event)?;
            if event.looks_back() {
                later.push((name.clone(), bit));
            } else {
                names.bits.insert(name.clone(), bit);
            }
        }
        names.bits.extend(later);
        let (absent, steps) = match spec.steps.split_last() {
            Some((last, before)) if last.absent.is_some() => (Some(last), before),
            _ => (None, &spec.steps[..]),
        };
        if steps.is_empty() {
            return Err(invalid("step", "there is none; write a [[pattern.step]] with an event".into()));
        }
        let mut resolved = Vec::new();
        for (number, step) in steps.iter().enumerate() {
            let place = format!("step {}", number + 1);
            let one = names.step(step, number).map_err(|reason| invalid(&place, reason))?;
            resolved.push(one);
        }
        if spec.steps.len() > 1 && spec.steps.iter().any(|step| step.whole_window) {
            return Err(invalid(
                "step",
                "with 'whole_window' is the only one of its pattern; remove the others".into(),
            ));
        }
        let absent = match absent {
            None => None,
            Some(step) => Some(names.absent(step).map_err(|reason| invalid("last step", reason))?),
        };
        for (step, used) in resolved.iter_mut().zip(&names.steps) {
            step.keeps = used.keeps;
            if let (Some(count), Some(aggregates)) = (&mut step.count, &used.aggregates) {
                count.aggregates = aggregates.clone();
            }
        }
        let after_match = AfterMatch::resolve(spec.after_match.as_deref(), &resolved, &names.steps);
        let after_match = after_match.map_err(|reason| invalid("after_match", reason))?;
        let single = resolved.len() == 1 && resolved[0].count.is_none();
        let within_ms = match written_ms {
            Some(within_ms) => within_ms,
            None if single => 1,
            None => {
                return Err(invalid("within", "is missing; say how long the pattern may take, like \"24h\"".into()));
            }
        };
        let of_steps = |step: &Step| {
            let only = step.count.iter().flat_map(|count| &count.aggregates).filter_map(|aggregate| aggregate.only);
            only.fold(1 << step.bit | step.not, |bits, bit| bits | 1 << bit)
        };
        let uses =
            resolved.iter().map(of_steps).chain(absent.iter().map(|absent| 1 << absent.bit)).fold(0, |a, b| a | b);
        let reach_ms = within_ms.saturating_add(absent.as_ref().map_or(0, |absent| absent.within_ms));
        // To end a first count is to begin; a step of one event begins alone.
        let ends = if resolved[0].count.is_some() { 2 } else { 1 };
        let begins = resolved.iter().take(ends).map(of_steps).fold(0, |a, b| a | b);
        let triggers = 1 << resolved[ends.min(resolved.len()) - 1].bit;
        let (name, mut steps) = (spec.name.as_str().into(), resolved);
        for step in &mut steps {
            let bit = step.bit;
            step.count.iter_mut().for_each(|count| count.needs = count.least(bit));
        }
        let whole = steps[0].count.as_ref().is_some_and(|count| count.whole_window);
        let ahead_ms = if whole { within_ms } else { 0 };
        let period_ms = period_ms(reach_ms);
        self.programs.push(Program {
            name,
            within_ms,
            steps,
            absent,
            uses,
            begins,
            triggers,
            reach_ms,
            ahead_ms,
            after_match,
            period_ms,
        });
        self.keep();
        let may_be = |kind: usize| {
            let bits = self.events.iter().enumerate().filter(|(_, event)| event.kinds.contains(&(kind as u16)));
            bits.take(EVENTS_MAX).fold(0, |bits, (bit, _)| bits | 1 << bit)
        };
        self.of_kind = (0..schema.kinds().len()).map(may_be).collect();
        let limits = [
            ("patterns", self.programs.len(), PATTERNS_MAX),
            ("different events", self.events.len(), EVENTS_MAX),
            ("different fields", self.columns.len(), COLUMNS_MAX),
        ];
        if let Some((what, _, most)) = limits.iter().find(|(_, count, most)| count > most) {
            return Err(invalid("key", format!("'{}' has more than {most} {what}; take some out", self.name)));
        }
        let looks_back = self.events.iter().filter(|event| !event.historic.is_always());
        self.history_ms = looks_back.map(|event| event.history_ms).max().unwrap_or(0);
        self.historic = (0..self.events.len())
            .filter(|&bit| !self.events[bit].historic.is_always())
            .fold(0, |bits, bit| bits | 1 << bit);
        // What begins that long ago may be looked at again, and then what its events look back to.
        self.longest_ms = self.longest_ms.max(reach_ms.saturating_add(COUNTED_MS));
        self.reach_ms = self.longest_ms.saturating_add(self.history_ms);
        Ok(())
    }

    /// Finds out which columns are kept with the events of the last pattern.
    fn keep(&mut self) {
        let Some(program) = self.programs.last() else { return };
        let (mut columns, mut bits) = (0u64, program.uses);
        let mut look = |column: Option<&Column>, base: Option<u8>| {
            // A key with too many is refused.
            columns |= column.map_or(0, |column| 1u64.checked_shl(u32::from(column.index)).unwrap_or(0));
            bits |= base.map_or(0, |base| 1 << base);
        };
        for step in &program.steps {
            step.condition.looks_at(&mut look);
            if let Some(count) = &step.count {
                count.having.iter().for_each(|having| having.looks_at(&mut look));
                for aggregate in &count.aggregates {
                    match &aggregate.measure {
                        Measure::Count => {}
                        Measure::Sum(column) | Measure::Distinct(column) => look(Some(column), None),
                    }
                }
            }
        }
        program.absent.iter().for_each(|absent| absent.condition.looks_at(&mut look));
        let used = |(bit, _): &(usize, &NamedEvent)| program.uses >> bit & 1 == 1;
        self.events.iter().enumerate().filter(used).for_each(|(_, event)| event.historic.looks_at(&mut look));
        self.kept.resize(self.events.len(), 0);
        for (bit, kept) in self.kept.iter_mut().enumerate().filter(|(bit, _)| bits >> bit & 1 == 1) {
            debug_assert!(bit < EVENTS_MAX);
            *kept |= columns;
        }
    }

    /// The side on which a key is carried.
    pub(super) fn side(&mut self, key: &KeySpec, schema: &Schema) -> Result<usize, String> {
        let fields = key.fields();
        if fields.is_empty() || fields.len() > 2 {
            return Err(format!("has {} fields; a key is one field or two", fields.len()));
        }
        let slot = |name: &String| match schema.slot(name) {
            Some(slot) => Ok(slot),
            None if name == "cluster" => {
                Err("'cluster' is not a field of an event; patterns over identity clusters are not there yet"
                    .to_owned())
            }
            None => Err(format!("the schema '{}' has no field '{name}'; add it there or use another", schema.name())),
        };
        let fields = fields.iter().map(slot).collect::<Result<Vec<_>, _>>()?;
        let known = self.sides.iter().position(|side| side.fields == fields);
        Ok(known.unwrap_or_else(|| {
            self.sides.push(KeySide { fields, bits: 0 });
            self.sides.len() - 1
        }))
    }

    /// The bit of a named event; equal ones share it.
    pub(super) fn bit(&mut self, event: NamedEvent) -> Result<u8, String> {
        let known = self.events.iter().position(|known| *known == event);
        let bit = known.unwrap_or(self.events.len());
        if bit >= EVENTS_MAX {
            return Err(format!("is one of more than {EVENTS_MAX} different events of this key; take some out"));
        }
        self.sides[event.side].bits |= 1 << bit;
        if known.is_none() {
            self.events.push(event);
        }
        Ok(bit as u8)
    }

    /// The column of a field.
    pub(super) fn column(&mut self, column: Column) -> Column {
        let known = self.columns.iter().position(|known| known.of == column.of);
        let index = known.unwrap_or(self.columns.len()) as u16;
        let column = Column { index, ..column };
        if known.is_none() {
            self.columns.push(column);
        }
        column
    }
}

impl Names<'_, '_> {
    fn step(&mut self, step: &StepSpec, number: usize) -> Result<Step, String> {
        if step.absent.is_some() {
            return Err("'absent' may stand in the last step only; move it there".into());
        }
        if step.whole_window && !step.counts() {
            return Err("'whole_window' belongs to a step that counts; add at_least or having".into());
        }
        if step.within.is_some() {
            return Err("'within' belongs to the pattern, or to a step with 'absent'".into());
        }
        let event = step.event.as_ref().ok_or("names no event; write event = \"NAME\"")?;
        let bit = self.named(event)?;
        if number == 0 && !(step.conditions.is_empty() && step.not.is_empty()) {
            return Err(
                "is the first: no step stands before it; put conditions into its event, and remove 'not'".into()
            );
        }
        let name = step.name().unwrap_or(event).to_owned();
        if self.steps.iter().any(|known| known.name == name) || name == "history" {
            return Err(format!("the name '{name}' is taken; give the step another with as = \"...\""));
        }
        let kinds = self.group.events[usize::from(bit)].kinds.clone();
        self.kinds.clone_from(&kinds);
        let condition = resolve_all(&step.conditions, self)?;
        let not = step.not.iter().try_fold(0, |bits, name| self.named(name).map(|bit| bits | 1 << bit))?;
        let count = step.counts().then(|| {
            let count = Aggregate { measure: Measure::Count, only: None };
            self.here = Some(vec![count]);
            let having = resolve_all(&step.having, self);
            let aggregates = self.here.take().unwrap_or_default();
            let having = having.map(|having| Some(having).filter(|having| !having.is_always()));
            having.map(|having| {
                let at_least = i128::from(step.at_least.unwrap_or(1).max(1));
                Count { at_least, aggregates, having, whole_window: step.whole_window, needs: Vec::new() }
            })
        });
        let count = count.transpose()?;
        let aggregates = count.as_ref().map(|count| count.aggregates.clone());
        self.steps.push(StepName { name, kinds, aggregates, keeps: false });
        Ok(Step { bit, condition, not, count, keeps: false })
    }

    fn absent(&mut self, step: &StepSpec) -> Result<Absent, String> {
        if step.event.is_some() || step.counts() || !step.not.is_empty() || step.label.is_some() {
            return Err("a step with 'absent' has only 'where' and 'within' beside it; remove the rest".into());
        }
        let bit = self.named(step.absent.as_deref().unwrap_or_default())?;
        self.kinds = self.group.events[usize::from(bit)].kinds.clone();
        let within = step.within.as_deref().ok_or("'absent' needs a 'within': how long the event stays away")?;
        Ok(Absent { bit, condition: resolve_all(&step.conditions, self)?, within_ms: duration_ms(within)? })
    }
}
