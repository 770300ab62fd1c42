//! A look-up as a family of features.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::asker::LookupAsker;
use super::plan::{EnrichPlan, planned_columns};
use super::spec::Enrich;
use super::view::LookupView;
use crate::event::{Id, Schema};
use crate::flow::{Asker, EpochInput, Labelled};
use crate::source::tables::ReferenceKind;
use crate::views::{Family, FamilyInputs, FamilyOutputs, Timing};

impl Family for Enrich {
    fn about(&self) -> String {
        let by = self.fields.join(" and ");
        let what = match self.reference.kind() {
            ReferenceKind::Table => "row of",
            ReferenceKind::Networks => "network in",
            ReferenceKind::Service(_) => "answer of",
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

    fn askers(&self, schema: &Arc<Schema>, _index: u16) -> Result<Vec<Box<dyn Asker>>, String> {
        let plan = Arc::new(EnrichPlan::resolve(self, schema)?);
        Ok(vec![Box::new(LookupAsker { plan, schema: schema.clone() })])
    }

    fn build<'scope>(&self, mut inputs: FamilyInputs<'scope>) -> Result<FamilyOutputs<'scope>, String> {
        let plan = Arc::new(EnrichPlan::resolve(self, &inputs.schema)?);
        let (late_ms, metrics) = (inputs.horizons.late_ms, inputs.metrics.clone());
        let view = LookupView::new(plan.clone(), inputs.index, late_ms, metrics, inputs.worker());
        let requests = inputs.requests.remove(0);
        Ok(FamilyOutputs::none().with(inputs.own(format!("Look up {}", plan.name), view, requests, true)?))
    }

    /// Without reference records every row has the defaults.
    fn expected(&self, _schema: &Schema, _events: &[Labelled]) -> BTreeMap<Id, Vec<f64>> {
        BTreeMap::new()
    }

    fn expected_of(&self, schema: &Schema, events: &[Labelled], epochs: &[EpochInput]) -> BTreeMap<Id, Vec<f64>> {
        super::twin::expected(self, schema, events, epochs)
    }
}
