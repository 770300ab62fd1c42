//! Findings on demand: per retained transaction what was said of it and what it turned out to be; and the rows of a sample.
//!
//! Labels come late, change and are withdrawn, assessments are revised, transactions corrected, withdrawn and expire: each takes the
//! old finding back. It costs nothing unless it is asked for.

use std::sync::Arc;

use differential_dataflow::VecCollection;
use serde::{Deserialize, Serialize};
use timely::dataflow::operators::vec::Map;
use xxhash_rust::xxh3::xxh3_64;

use super::context::Context;
use super::{BuildError, Features};
use crate::event::{Event, MapKey};
use crate::feature::rows::Rows;
use crate::flow::{Action, Changes, Epoch, Verb};
use crate::operators::{LatestInputs, Pieces, PiecesBefore, latest, together};
use crate::score::assessment::{Assessment, Decision, NO_MODEL, RuleNumbers, ScoredDiff};
use crate::score::control::Deployments;
use crate::score::scorer::ModelRole;

/// All that is said of a transaction: the decision made at arrival, and what is said now.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Opinion {
    /// The decision made at arrival, with the numbers of its model and its deployment.
    pub decision: Decision,
    /// The action that is asked for now.
    pub action: Action,
    /// The score that leads to it, with what rules add, in 1/16384.
    pub score: u16,
    /// The number of the deployment's champion, or [`NO_MODEL`].
    pub champion: u16,
    /// Every deployed model, by number, and its score, in 1/16384. Those of others than the champion are as they were when its assessment
    /// last changed.
    pub scores: Box<[(u16, u16)]>,
    /// The rules that match, by number.
    pub rules: RuleNumbers,
    /// Rules in shadow that matched when the assessment last changed, by number.
    pub shadow: RuleNumbers,
}

/// A retained transaction, what is said of it, and what it turned out to be, as far as that is known by now.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Finding {
    /// The transaction as it holds now.
    pub event: Arc<Event>,
    /// What is said of it.
    pub opinion: Arc<Opinion>,
    /// Its label: whether it was fraud; `None` while no one knows.
    pub fraud: Option<bool>,
}

/// A feature row, bit for bit.
pub type RowBits = Arc<[u64]>;

/// Findings by id.
pub type Findings<'scope> = VecCollection<'scope, Epoch, (MapKey, Finding)>;

/// Feature rows by id.
pub type SampledRows<'scope> = VecCollection<'scope, Epoch, (MapKey, RowBits)>;

impl Opinion {
    /// What is said under a decision.
    pub fn of(decision: &Decision, assessment: &Assessment, deployments: &Deployments) -> Self {
        let scorer = deployments.of(decision.deployment);
        let champion = scorer.models().iter().find(|deployed| deployed.role == ModelRole::Champion);
        let numbers = scorer.models().iter().map(|deployed| deployed.number);
        Opinion {
            decision: decision.clone(),
            action: assessment.action,
            score: assessment.score,
            champion: champion.map_or(NO_MODEL, |champion| champion.number),
            scores: numbers.zip(assessment.scores.iter().copied()).collect(),
            rules: assessment.rules.clone(),
            shadow: assessment.shadow.clone(),
        }
    }
}

/// Whether a transaction is one of the sample of every `nth`: by a hash of its id, not the one that spreads transactions over workers or
/// challengers.
pub fn is_sampled(id: &MapKey, nth: u64) -> bool {
    (id.route().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32).is_multiple_of(nth.max(1))
}

impl<'scope> Context<'scope> {
    /// What decides; deployments of nothing where nothing is scored.
    pub fn deployments(&self) -> Deployments {
        let nothing = || Deployments::from(crate::score::scorer::Scorer::default());
        self.given.settings.deployments.clone().unwrap_or_else(nothing)
    }

    /// What is said of each retained transaction, and its label, by id. Without a model and rules there is nothing.
    pub fn findings(&mut self, features: &Features<'scope>) -> Findings<'scope> {
        if let Some(findings) = &self.asked.findings {
            return findings.clone();
        }
        let (schema, deployments) = (self.schema().clone(), self.deployments());
        let ids = schema.id_type();
        let there = self.retained().inner.map(move |(event, _, diff)| (event.id.map_key(ids), event, diff));
        let about = self.given.changes.clone().flat_map(move |changes: Changes| {
            let known = changes.iter().filter(|change| !matches!(change.verb, Verb::Remove | Verb::Read));
            let known = known.map(|change| (change.event.id.map_key(ids), change.label.map(|label| label.fraud)));
            known.collect::<Vec<_>>()
        });
        let now = deployments.clone();
        let said = features.scores().flat_map(move |diff: ScoredDiff| {
            let assessment = diff.assessment?;
            let opinion = || Arc::new(Opinion::of(&diff.decision, &assessment, &now));
            Some((diff.event.id.map_key(ids), (diff.diff > 0).then(opinion)))
        });
        // What was loaded was known and said before.
        let mut before: PiecesBefore<MapKey, Option<bool>, Arc<Opinion>> = Vec::new();
        if self.given.images.facts().is_some() {
            before.extend(self.given.records.borrow().all().map(|one| {
                let opinion = |said: &crate::score::judge::Said| {
                    Arc::new(Opinion::of(&said.decision, &said.assessment, &deployments))
                };
                (one.key, one.label().map(|label| label.fraud), one.said.as_ref().map(opinion))
            }));
        }
        let findings = together("Findings", Pieces { there, about, said }, before, move |event, fraud, opinion| {
            let finding = || Finding { event: Arc::clone(event), opinion: Arc::clone(opinion), fraud: *fraud };
            schema.is_scored(event.kind).then(finding)
        });
        self.asked.findings.insert(findings).clone()
    }

    /// The feature rows, as they are now, of every `nth` retained transaction, by id ([`is_sampled`]). They are kept, also over a
    /// restart: about eight bytes per column.
    ///
    /// # Errors
    /// If what is to be loaded is no sample of rows.
    pub fn sampled_rows(&mut self, features: &Features<'scope>, nth: u64) -> Result<SampledRows<'scope>, BuildError> {
        if let Some(rows) = self.asked.rows.get(&nth) {
            return Ok(rows.clone());
        }
        let ids = self.schema().id_type();
        let values = features.rows().flat_map(move |rows: Rows| {
            let keyed = rows.iter().map(|(head, row)| (head.event.id.map_key(ids), row));
            let sampled = keyed.filter(|(id, _)| is_sampled(id, nth));
            sampled.map(|(id, row)| (id, row.iter().map(|value| value.to_bits()).collect())).collect::<Vec<_>>()
        });
        let keys = self.retained().inner.flat_map(move |(event, epoch, diff)| {
            let id = event.id.map_key(ids);
            is_sampled(&id, nth).then_some((id, epoch, diff))
        });
        let rows = latest(LatestInputs {
            name: format!("Rows of one in {nth}"),
            fingerprint: xxh3_64(features.columns.join(" ").as_bytes()),
            values,
            keys,
            facts: self.given.facts.clone(),
            images: self.given.images.clone(),
        })?;
        self.asked.rows.insert(nth, rows.clone());
        Ok(rows)
    }
}
