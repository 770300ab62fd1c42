//! Patterns as features of a row.

use std::collections::BTreeMap;
use std::sync::Arc;

use timely::dataflow::Stream;

use super::operator::{Pattern, pattern};
use super::spec::PatternSpec;
use super::{Match, Patterns};
use crate::event::{Event, Id, Schema};
use crate::flow::{Epoch, Labelled};
use crate::testkit::patterns;
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

    fn build<'scope>(&self, inputs: FamilyInputs<'scope>) -> Result<FamilyOutputs<'scope>, String> {
        build(self, &[], inputs)
    }

    fn expected(&self, schema: &Schema, events: &[Labelled]) -> BTreeMap<Id, Vec<f64>> {
        let events: Vec<Event> = events.iter().map(|(event, _)| event.clone()).collect();
        patterns::features(self, schema, &events)
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

    fn build<'scope>(&self, inputs: FamilyInputs<'scope>) -> Result<FamilyOutputs<'scope>, String> {
        build(&self.patterns, &self.velocities, inputs)
    }

    fn expected(&self, schema: &Schema, events: &[Labelled]) -> BTreeMap<Id, Vec<f64>> {
        let values = patterns::velocity_values(&self.velocities, schema, events);
        let events: Vec<Event> = events.iter().map(|(event, _)| event.clone()).collect();
        patterns::features_beside(&self.patterns, schema, &events, &values)
    }
}

fn build<'scope>(
    patterns: &Patterns,
    velocities: &[Velocity],
    inputs: FamilyInputs<'scope>,
) -> Result<FamilyOutputs<'scope>, String> {
    let plan = patterns.resolve_beside(&inputs.schema, velocities).map_err(|error| error.to_string())?;
    let Pattern { slices, matches, touched, beyond } = pattern(inputs, &plan)?;
    Ok(FamilyOutputs { slices, touched: Some(touched), beyond: Some(beyond), matches: Some(matches) })
}
