//! Identity as a family of features.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::columns::{Bare, Facts, Tallied};
use super::operator::identity;
use super::spec::{Identity, uses_labels};
use crate::event::{Id, Schema};
use crate::flow::Labelled;
use crate::views::{Family, FamilyInputs, FamilyOutputs, Timing};

impl Family for Identity {
    fn about(&self) -> String {
        format!("clusters: {}", self.describe())
    }

    fn columns(&self) -> Vec<(String, f64)> {
        self.names().into_iter().zip(self.measures().iter().map(|measure| measure.default())).collect()
    }

    fn timing(&self) -> Timing {
        Timing::AsOfArrival
    }

    fn uses_labels(&self) -> bool {
        uses_labels(self.measures().iter())
    }

    fn check(&self, schema: &Schema) -> Result<(), String> {
        self.resolve(schema).map(drop)
    }

    fn build<'scope>(&self, inputs: FamilyInputs<'scope>) -> Result<FamilyOutputs<'scope>, String> {
        let plan = Arc::new(self.resolve(&inputs.schema)?);
        let outputs = if plan.uses_tallies() {
            identity::<Tallied>(inputs, plan, false)
        } else if plan.is_plain() {
            identity::<Bare>(inputs, plan, false)
        } else {
            identity::<Facts>(inputs, plan, false)
        };
        Ok(FamilyOutputs { slices: outputs.slices, touched: None, beyond: None, matches: None })
    }

    fn expected(&self, schema: &Schema, events: &[Labelled]) -> BTreeMap<Id, Vec<f64>> {
        super::twin::expected(self, schema, events)
    }
}
