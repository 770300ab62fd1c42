//! From the patterns of one key to their group: named events, columns and programs.

use std::collections::BTreeMap;

use super::after_match::{AfterMatch, period_ms};
use super::condition::Column;
use super::count::CountMeasure;
use super::expr::duration_ms;
use super::features::FeatureNames;
use super::plan::{COLUMNS_MAX, COUNTED_MS, EVENTS_MAX, Group, KeySide, NamedEvent, PATTERNS_MAX, Program, Step};
use super::resolve::Names;
use crate::event::Schema;
use crate::views::pattern::PatternError;
use crate::views::pattern::spec::{KeySpec, PatternSpec};

/// How far back history goes unless a pattern says otherwise, milliseconds.
const HISTORY_MS: i64 = 30 * 86_400_000;
impl Group {
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
        self.starts = self.programs.iter().fold(0, |bits, program| bits | program.starts(self.historic));
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
                        CountMeasure::Count => {}
                        CountMeasure::Sum(column) | CountMeasure::Distinct(column) => look(Some(column), None),
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
