//! A dataflow without the features that are looked up on arrival.

use std::sync::Arc;

use crate::dataflow::{BuildError, Context, Dataflow, Hindsight, Parameter, Prepare, Setup};
use crate::event::Event;
use crate::feature::FeatureSet;

/// A dataflow less the families whose values are fixed on arrival: what remains does not depend on the order of arrival.
pub struct AsOfEvent(pub Arc<dyn Dataflow>);

impl Dataflow for AsOfEvent {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn about(&self) -> &'static str {
        self.0.about()
    }

    fn schema(&self) -> &'static str {
        self.0.schema()
    }

    fn parameters(&self) -> Vec<Parameter> {
        self.0.parameters()
    }

    fn features(&self, setup: &Setup) -> Result<FeatureSet, BuildError> {
        Ok(self.0.features(setup)?.as_of_event())
    }

    fn prepare(&self, setup: &Setup) -> Result<Option<Prepare>, BuildError> {
        self.0.prepare(setup)
    }

    fn retention_ms(&self) -> i64 {
        self.0.retention_ms()
    }

    fn build(&self, context: &mut Context<'_>) -> Result<(), BuildError> {
        self.0.build(context)
    }

    fn oracle(&self, setup: &Setup, events: &[Event]) -> Vec<(String, String)> {
        self.0.oracle(setup, events)
    }

    fn oracle_with(&self, setup: &Setup, hindsight: &Hindsight) -> Vec<(String, String)> {
        self.0.oracle_with(setup, hindsight)
    }
}
