//! Identity as a family of features.

use std::collections::BTreeMap;
use std::sync::Arc;

use timely::dataflow::Stream;

use super::columns::{Bare, Member, Tallied, ValueFacts};
use super::propagate::Entity;
use super::spec::{Identity, IdentityPlan, uses_labels};
use super::turns::{IdentityAsker, IdentityView, Publishes};
use crate::event::{Id, Schema};
use crate::flow::{Asker, Block, Epoch, Labelled};
use crate::operators::Owned;
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

    fn askers(&self, schema: &Arc<Schema>, _index: u16) -> Result<Vec<Box<dyn Asker>>, String> {
        let plan = Arc::new(self.resolve(schema)?);
        Ok(vec![Box::new(IdentityAsker::new(plan, schema.clone()))])
    }

    fn build<'scope>(&self, mut inputs: FamilyInputs<'scope>) -> Result<FamilyOutputs<'scope>, String> {
        let plan = Arc::new(self.resolve(&inputs.schema)?);
        let requests = inputs.requests.remove(0);
        let owned = if plan.uses_tallies() {
            identity::<Tallied>(&inputs, requests, plan, Publishes::Nothing)
        } else if plan.is_plain() {
            identity::<Bare>(&inputs, requests, plan, Publishes::Nothing)
        } else {
            identity::<ValueFacts>(&inputs, requests, plan, Publishes::Nothing)
        };
        // What was seen on arrival is never revised.
        Ok(FamilyOutputs::of(owned?.slices))
    }

    fn expected(&self, schema: &Schema, events: &[Labelled]) -> BTreeMap<Id, Vec<f64>> {
        super::twin::expected(self, schema, events)
    }
}

/// Builds the owner of all links.
pub fn identity<'scope, P: Member + 'static>(
    inputs: &FamilyInputs<'scope>,
    requests: Stream<'scope, Epoch, Vec<Block>>,
    plan: Arc<IdentityPlan>,
    publishes: Publishes,
) -> Result<Owned<'scope, (Entity, Entity)>, String> {
    let (index, by_id_ms) = (inputs.index, inputs.horizons.by_id_ms);
    let name = match publishes {
        Publishes::Nothing => format!("Identity {}", plan.name),
        Publishes::Links => format!("Links of {}", plan.name),
        // Several may be of one plan but for its caps.
        Publishes::Clusters => format!("Clusters {index}"),
    };
    let view: IdentityView<P> = IdentityView::new(plan, index, by_id_ms, publishes, inputs.worker());
    inputs.own(name, view, requests, false)
}
