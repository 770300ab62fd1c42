//! Models, rules and thresholds over feature rows: a pure function from row and event to assessment.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::assessment::{Assessment, NO_MODEL, Reason};
use super::model::Model;
use super::rules::{RuleMatches, RuleThresholds, Rules};
use crate::event::{Event, IdType};
use crate::flow::Action;

/// Steps of a quantised score.
const STEPS: f64 = 16_384.0;
/// More than sums of scores are off by, and less than any two scores of a model are apart.
const ROUNDING: f64 = 1e-9;
/// Reasons given with an assessment that is not `allow`.
const REASONS_MAX: usize = 5;

/// Scores from which on something is done, in [0, 1].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// From here on a transaction is reviewed.
    pub review: f64,
    /// From here on the payer is asked for a proof.
    pub challenge: f64,
    /// From here on it is blocked.
    pub block: f64,
}

impl Thresholds {
    /// No score has consequences.
    pub const NONE: Thresholds = Thresholds { review: f64::INFINITY, challenge: f64::INFINITY, block: f64::INFINITY };
}

/// What a model is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum ModelRole {
    /// It decides.
    Champion,
    /// It decides on a share of the transactions, by a hash of their ids; it scores them all.
    Challenger,
    /// It scores, and decides nothing.
    Shadow,
}

/// A model of a deployment.
#[derive(Clone)]
pub struct DeployedModel {
    /// What decisions refer to it by.
    pub number: u16,
    /// The model.
    pub model: Arc<dyn Model>,
    /// What it is there for.
    pub role: ModelRole,
    /// The share of the transactions that a challenger decides on.
    pub share: f64,
    /// Scores from which on something is done where it decides.
    pub thresholds: Thresholds,
    /// What tells its files from others, if it was deployed by a message.
    pub files: Option<Arc<str>>,
}

/// A deployment: models, rules and thresholds. A changed copy shares what is the same.
#[derive(Clone, Default)]
pub struct Scorer {
    models: Arc<[DeployedModel]>,
    /// What ids are, if there are challengers.
    id_type: IdType,
    rules: Rules,
}

/// What is said of the rows of an epoch.
#[derive(Default)]
pub struct Assessed {
    /// An assessment per row, and the number of the model that decides on it.
    pub rows: Vec<(Assessment, u16)>,
    /// How often a rule had no value.
    pub faults: u64,
}

impl Scorer {
    /// A champion and further models that score without deciding.
    pub fn new(models: Vec<Arc<dyn Model>>, thresholds: Thresholds) -> Self {
        let model = |(number, model)| DeployedModel {
            number,
            model,
            role: if number == 0 { ModelRole::Champion } else { ModelRole::Shadow },
            share: 0.0,
            thresholds,
            files: None,
        };
        Scorer { models: (0..).zip(models).map(model).collect(), ..Scorer::default() }
    }

    /// The same with other rules, whose thresholds take the place of the models' own.
    #[must_use]
    pub fn with_rules(&self, rules: Rules) -> Self {
        Scorer { rules, ..self.clone() }
    }

    /// The same with other models, for transactions with ids of this type.
    #[must_use]
    pub fn with_models(&self, models: Vec<DeployedModel>, id_type: IdType) -> Self {
        Scorer { models: models.into(), id_type, ..self.clone() }
    }

    /// Its rules.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Its models, in the order of [`Assessment::scores`].
    pub fn models(&self) -> &[DeployedModel] {
        &self.models
    }

    /// `name@version` of each model.
    pub fn labels(&self) -> Vec<String> {
        self.models.iter().map(|deployed| deployed.model.label().to_owned()).collect()
    }

    /// One assessment per row, of these events.
    pub fn assess<'a>(&self, rows: &[f64], width: usize, events: impl Iterator<Item = &'a Event>) -> Assessed {
        let count = rows.len() / width.max(1);
        let mut by_model = Vec::with_capacity(self.models.len());
        for deployed in self.models.iter() {
            let mut scores = Vec::with_capacity(count);
            deployed.model.score(rows, &mut scores);
            by_model.push(scores);
        }
        let mut assessed = Assessed { rows: Vec::with_capacity(count), faults: 0 };
        for (index, (row, event)) in rows.chunks_exact(width.max(1)).zip(events).enumerate() {
            let decides = self.decides_on(event);
            let score = decides.map_or(0.0, |model| by_model[model][index]);
            let matches = self.rules.matches(event, row, score);
            let RuleMatches { rules, shadow, score: added, action, faults } = matches;
            assessed.faults += u64::from(faults);
            let sum = (score + added).clamp(0.0, 1.0);
            let decider = decides.map(|model| &self.models[model]);
            let action = self.action(sum, decider).max(action.unwrap_or(Action::Allow));
            let reasons = match decider {
                Some(decider) if action != Action::Allow => reasons(decider, row),
                _ => Box::default(),
            };
            let scores = by_model.iter().map(|scores| steps(scores[index])).collect();
            let score = steps(sum);
            let assessment = Assessment { action, score, scores, rules: rules.into(), shadow: shadow.into(), reasons };
            assessed.rows.push((assessment, decider.map_or(NO_MODEL, |decider| decider.number)));
        }
        assessed
    }

    /// The model that decides on a transaction: its place among [`Scorer::models`].
    fn decides_on(&self, event: &Event) -> Option<usize> {
        let mut share = (event.id.map_key(self.id_type).route() >> 11) as f64 / (1_u64 << 53) as f64;
        for (place, deployed) in self.models.iter().enumerate() {
            if deployed.role == ModelRole::Challenger {
                if share < deployed.share {
                    return Some(place);
                }
                share -= deployed.share;
            }
        }
        self.models.iter().position(|deployed| deployed.role == ModelRole::Champion)
    }

    fn action(&self, score: f64, decider: Option<&DeployedModel>) -> Action {
        // What rules add is seldom a multiple of a step: 0.3 is 0.3, in whatever order it was added up.
        let score = score + ROUNDING;
        let own = decider.map_or(Thresholds::NONE, |decider| decider.thresholds);
        let RuleThresholds { review, challenge, block } = self.rules.thresholds();
        match () {
            () if score >= block.unwrap_or(own.block) => Action::Block,
            () if score >= challenge.unwrap_or(own.challenge) => Action::Challenge,
            () if score >= review.unwrap_or(own.review) => Action::Review,
            () => Action::Allow,
        }
    }
}

fn reasons(decider: &DeployedModel, row: &[f64]) -> Box<[Reason]> {
    let reason = |(column, contribution): (usize, f64)| Reason {
        column: column as u16,
        value: row[column],
        contribution: (contribution * 1000.0).round() / 1000.0,
    };
    decider.model.reasons(row, REASONS_MAX).into_iter().map(reason).collect()
}

/// A score as it is kept.
fn steps(score: f64) -> u16 {
    (score * STEPS).round() as u16
}
