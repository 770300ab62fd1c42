//! A look-up as a family of features.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::lookup::{Looked, LookupSettings, lookup};
use super::plan::{EnrichPlan, planned_columns};
use super::reference::Kind;
use super::spec::Enrich;
use crate::event::{Id, Schema};
use crate::feature::{Family, FamilyInputs, FamilyOutputs, Timing};
use crate::testkit::Plan;
use crate::testkit::oracle::Labelled;

impl Family for Enrich {
    fn about(&self) -> String {
        let by = self.fields.join(" and ");
        let what = match self.reference.kind() {
            Kind::Table => "row of",
            Kind::Networks => "network in",
            Kind::Service(_) => "answer of",
        };
        let when = if self.live { "live" } else { "as of arrival" };
        format!("{what} {} by {by}, {when}", self.reference.name())
    }

    fn columns(&self) -> Vec<(String, f64)> {
        // What cannot be planned is an error of `check`.
        let planned = planned_columns(self).unwrap_or_default();
        planned.into_iter().map(|column| (column.name, column.default)).collect()
    }

    fn timing(&self) -> Timing {
        if self.live { Timing::AsOfEvent } else { Timing::AsOfArrival }
    }

    fn revise_ms(&self) -> i64 {
        if self.live { self.revise_ms } else { 0 }
    }

    fn check(&self, schema: &Schema) -> Result<(), String> {
        EnrichPlan::resolve(self, schema).map(drop)
    }

    fn enrich(&self) -> Option<&Enrich> {
        Some(self)
    }

    fn build<'scope>(&self, inputs: FamilyInputs<'scope>) -> Result<FamilyOutputs<'scope>, String> {
        let plan = Arc::new(EnrichPlan::resolve(self, &inputs.schema)?);
        let settings =
            LookupSettings { index: inputs.index, late_ms: inputs.horizons.late_ms, read_ms: inputs.horizons.read_ms };
        let FamilyInputs { changes, references, schema, facts, metrics, .. } = inputs;
        let Looked { slices, touched } = lookup(changes, references, plan, settings, schema, facts, metrics);
        Ok(FamilyOutputs { slices, touched: self.live.then_some(touched), beyond: None, matches: None })
    }

    /// Without reference records every row has the defaults.
    fn expected(&self, _schema: &Schema, _events: &[Labelled]) -> BTreeMap<Id, Vec<f64>> {
        BTreeMap::new()
    }

    fn expected_of(&self, schema: &Schema, events: &[Labelled], plan: &Plan) -> BTreeMap<Id, Vec<f64>> {
        super::twin::expected(self, schema, events, plan)
    }
}
