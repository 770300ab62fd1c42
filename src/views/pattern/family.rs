//! Patterns as features of a row.

use std::collections::BTreeMap;
use std::sync::Arc;

use timely::dataflow::Stream;
use timely::dataflow::operators::Concat;

use super::cut::{PatternAsker, cut_with_features};
use super::cycles::cut::CycleAsker;
use super::cycles::view::CycleOwner;
use super::spec::PatternSpec;
use super::view::{PatternView, Seat};
use super::{Match, Patterns, twin};
use crate::event::{Event, Id, Schema};
use crate::flow::{Asker, Epoch, Labelled};
use crate::views::velocity::{REVISE_MS_DEFAULT, Velocity};
use crate::views::{Family, FamilyInputs, FamilyOutputs, Timing};

/// Updates of the collection of matches.
pub type Matches<'scope> = Stream<'scope, Epoch, Vec<(Match, Epoch, isize)>>;

/// Patterns, and the velocity features beside them, which their conditions may look at.
#[derive(Debug)]
struct Beside {
    patterns: Patterns,
    velocities: Vec<Velocity>,
}

impl Family for Patterns {
    fn about(&self) -> String {
        let about = |pattern: PatternSpec| match pattern.after_match {
            Some(strategy) => format!("{} ({strategy})", pattern.name),
            None => pattern.name,
        };
        let patterns: Vec<String> = self.expanded().into_iter().map(about).collect();
        format!("event patterns: {}", patterns.join(", "))
    }

    fn beside(&self, velocities: &[Velocity]) -> Option<Arc<dyn Family>> {
        let beside = || Beside { patterns: self.clone(), velocities: velocities.to_vec() };
        self.look_at_features().then(|| Arc::new(beside()) as Arc<dyn Family>)
    }

    fn columns(&self) -> Vec<(String, f64)> {
        Patterns::columns(self).into_iter().map(|name| (name, 0.0)).collect()
    }

    fn slices(&self) -> Vec<usize> {
        self.block_lengths()
    }

    fn timing(&self) -> Timing {
        Timing::AsOfEvent
    }

    fn revise_ms(&self) -> i64 {
        REVISE_MS_DEFAULT
    }

    fn check(&self, schema: &Schema) -> Result<(), String> {
        self.resolve(schema).map(drop).map_err(|error| error.to_string())
    }

    fn askers(&self, schema: &Arc<Schema>, _index: u16) -> Result<Vec<Box<dyn Asker>>, String> {
        askers(self, &[], schema)
    }

    fn build<'scope>(&self, inputs: FamilyInputs<'scope>) -> Result<FamilyOutputs<'scope>, String> {
        build(self, &[], inputs)
    }

    fn expected(&self, schema: &Schema, events: &[Labelled]) -> BTreeMap<Id, Vec<f64>> {
        let events: Vec<Event> = events.iter().map(|(event, _)| event.clone()).collect();
        twin::features(self, schema, &events)
    }
}

impl Family for Beside {
    fn about(&self) -> String {
        self.patterns.about()
    }

    fn beside(&self, velocities: &[Velocity]) -> Option<Arc<dyn Family>> {
        self.patterns.beside(velocities)
    }

    fn columns(&self) -> Vec<(String, f64)> {
        Family::columns(&self.patterns)
    }

    fn slices(&self) -> Vec<usize> {
        self.patterns.slices()
    }

    fn timing(&self) -> Timing {
        self.patterns.timing()
    }

    fn revise_ms(&self) -> i64 {
        self.patterns.revise_ms()
    }

    fn check(&self, schema: &Schema) -> Result<(), String> {
        let resolved = self.patterns.resolve_beside(schema, &self.velocities);
        resolved.map(drop).map_err(|error| error.to_string())
    }

    fn askers(&self, schema: &Arc<Schema>, _index: u16) -> Result<Vec<Box<dyn Asker>>, String> {
        askers(&self.patterns, &self.velocities, schema)
    }

    fn build<'scope>(&self, inputs: FamilyInputs<'scope>) -> Result<FamilyOutputs<'scope>, String> {
        build(&self.patterns, &self.velocities, inputs)
    }

    fn expected(&self, schema: &Schema, events: &[Labelled]) -> BTreeMap<Id, Vec<f64>> {
        let values = twin::velocity_values(&self.velocities, schema, events);
        let events: Vec<Event> = events.iter().map(|(event, _)| event.clone()).collect();
        twin::features_beside(&self.patterns, schema, &events, &values)
    }
}

fn askers(patterns: &Patterns, velocities: &[Velocity], schema: &Arc<Schema>) -> Result<Vec<Box<dyn Asker>>, String> {
    let plan = patterns.resolve_beside(schema, velocities).map_err(|error| error.to_string())?;
    let mut askers: Vec<Box<dyn Asker>> = vec![Box::new(PatternAsker::new(&plan.groups, schema.clone()))];
    let cycles = plan.cycles.iter().map(|cycle| CycleAsker::new(cycle.clone(), schema.clone()));
    askers.extend(cycles.map(|asker| Box::new(asker) as Box<dyn Asker>));
    Ok(askers)
}

/// The groups have an owner on every worker, each pattern of cycles one of its own.
fn build<'scope>(
    patterns: &Patterns,
    velocities: &[Velocity],
    mut inputs: FamilyInputs<'scope>,
) -> Result<FamilyOutputs<'scope>, String> {
    let plan = patterns.resolve_beside(&inputs.schema, velocities).map_err(|error| error.to_string())?;
    let kept_ms = inputs.horizons.read_ms;
    let ((here, peers), mut index) = (inputs.worker(), inputs.index);
    let mut requests = std::mem::take(&mut inputs.requests).into_iter();
    let mut next = || requests.next().ok_or("no one asks the patterns");
    let mut of_groups = next()?;
    if plan.groups.iter().any(|group| group.featured) {
        let velocity = inputs.velocity.clone();
        let velocity = velocity.ok_or("patterns look at velocity features, which are not built before them")?;
        of_groups = of_groups.concat(cut_with_features(inputs.changes.clone(), velocity, &plan, inputs.schema.clone()));
    }
    // The first column tells them from those of other families, and stays when keys are added before them.
    let name = format!("Patterns {}", patterns.columns().into_iter().next().unwrap_or_default());
    let view = PatternView::new(&plan.groups, kept_ms, Seat { index, here, peers });
    let owned = inputs.own(name, view, of_groups, false)?;
    let mut outputs = FamilyOutputs::none();
    outputs.matches.push(owned.updates.clone());
    outputs = outputs.with(owned);
    index += plan.groups.len() as u16;
    for cycle in &plan.cycles {
        let view = CycleOwner::new(cycle.clone(), kept_ms, Seat { index, here, peers });
        let owned = inputs.own(format!("Cycles {}", cycle.name), view, next()?, false)?;
        outputs.matches.push(owned.updates.clone());
        outputs = outputs.with(owned);
        index += 1;
    }
    Ok(outputs)
}
