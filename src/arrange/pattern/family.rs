//! Patterns as features of a row.

use std::collections::BTreeMap;

use timely::dataflow::Stream;

use super::operator::{Pattern, PatternSettings, pattern};
use super::spec::PatternSpec;
use super::{Match, Patterns};
use crate::epoch::Epoch;
use crate::event::{Event, Id, Schema};
use crate::feature::{Family, FamilyInputs, FamilyOutputs, REVISE_MS_DEFAULT, Timing};
use crate::testkit::oracle::Labelled;
use crate::testkit::patterns;

/// Updates of the collection of matches.
pub type Matches<'scope> = Stream<'scope, Epoch, Vec<(Match, Epoch, isize)>>;

impl Family for Patterns {
    fn about(&self) -> String {
        let about = |pattern: PatternSpec| match pattern.after_match {
            Some(strategy) => format!("{} ({strategy})", pattern.name),
            None => pattern.name,
        };
        let patterns: Vec<String> = self.expanded().into_iter().map(about).collect();
        format!("event patterns: {}", patterns.join(", "))
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
        let FamilyInputs { changes, index, schema, horizons, repair_rows_max, watermarks, metrics, .. } = inputs;
        let plan = self.resolve(&schema).map_err(|error| error.to_string())?;
        let settings = PatternSettings { repair_rows_max, kept_ms: horizons.read_ms };
        let Pattern { slices, matches, touched, beyond } =
            pattern(changes, &plan, index, schema, settings, watermarks, metrics);
        Ok(FamilyOutputs { slices, touched: Some(touched), beyond: Some(beyond), matches: Some(matches) })
    }

    fn expected(&self, schema: &Schema, events: &[Labelled]) -> BTreeMap<Id, Vec<f64>> {
        let events: Vec<Event> = events.iter().map(|(event, _)| event.clone()).collect();
        patterns::features(self, schema, &events)
    }
}
