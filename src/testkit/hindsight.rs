//! What oracles are told, from the records and what came out.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Outcome;
use super::compare::{Difference, consolidated};
use crate::dataflow::{Finding, Hindsight, Opinion};
use crate::event::{Id, Schema};
use crate::flow::Labelled;
use crate::score::assessment::Decision;
use crate::score::control::Deployments;

impl Outcome {
    /// What is known in the end of these events, which are those that are retained ([`super::resolve::retained`]): labels come from the
    /// records, what is said from the scored diffs.
    ///
    /// # Errors
    /// If the scored diffs make no sense.
    pub fn hindsight(
        &self,
        retained: &[Labelled],
        schema: &Schema,
        columns: &[String],
        deployments: Deployments,
    ) -> Result<Hindsight, Difference> {
        let (ids, said, rows) = (schema.id_type(), consolidated(&self.scored)?, self.final_rows());
        let decisions: BTreeMap<Id, &Decision> =
            self.scored.iter().map(|diff| (diff.event.id, &diff.decision)).collect();
        let scored = retained.iter().filter(|(event, _)| schema.is_scored(event.kind));
        let finding = |(event, label): &Labelled| {
            let opinion = Opinion::of(decisions.get(&event.id)?, said.get(&event.id)?, &deployments);
            let fraud = label.map(|(fraud, _)| fraud);
            Some((event.id.map_key(ids), Finding { event: Arc::new(event.clone()), opinion: Arc::new(opinion), fraud }))
        };
        let row = |(event, _): &Labelled| Some((event.id.map_key(ids), rows.get(&event.id)?.clone()));
        Ok(Hindsight {
            events: retained.iter().map(|(event, _)| event.clone()).collect(),
            findings: scored.clone().filter_map(finding).collect(),
            rows: scored.filter_map(row).collect(),
            columns: columns.to_vec(),
            deployments,
        })
    }
}
