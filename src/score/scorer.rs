//! Models, rules and thresholds over feature rows: a pure function from row and event to assessment.

use std::sync::Arc;

use super::assessment::{Assessment, Reason};
use super::model::Model;
use super::rules::{RuleMatches, RuleThresholds, Rules};
use crate::event::Event;
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

/// The deployed models and rules of a dataflow. The first model is the champion: its score decides, with the rules.
#[derive(Clone)]
pub struct Scorer {
    models: Arc<[Arc<dyn Model>]>,
    rules: Option<Rules>,
    thresholds: Thresholds,
}

impl Scorer {
    /// A champion and further models that score without deciding.
    pub fn new(models: Vec<Arc<dyn Model>>, thresholds: Thresholds) -> Self {
        Scorer { models: models.into(), rules: None, thresholds }
    }

    /// The same with rules, whose thresholds take the place of its own.
    #[must_use]
    pub fn with_rules(mut self, rules: Rules) -> Self {
        let RuleThresholds { review, challenge, block } = rules.thresholds();
        let Thresholds { review: own_review, challenge: own_challenge, block: own_block } = self.thresholds;
        self.thresholds = Thresholds {
            review: review.unwrap_or(own_review),
            challenge: challenge.unwrap_or(own_challenge),
            block: block.unwrap_or(own_block),
        };
        self.rules = Some(rules);
        self
    }

    /// `id@version` of each rule, by number.
    pub fn rule_labels(&self) -> Vec<String> {
        self.rules.as_ref().map_or_else(Vec::new, Rules::labels)
    }

    /// `name@version` of each model, champion first.
    pub fn labels(&self) -> Vec<String> {
        self.models.iter().map(|model| model.label().to_owned()).collect()
    }

    /// The place of the model that decides, among [`Scorer::labels`].
    pub fn champion(&self) -> u16 {
        0
    }

    /// One assessment per row, of these events; and how many rules had no value.
    pub fn assess<'a>(
        &self,
        rows: &[f64],
        width: usize,
        events: impl Iterator<Item = &'a Event>,
    ) -> (Vec<Assessment>, u64) {
        let count = rows.len() / width.max(1);
        let mut by_model = Vec::with_capacity(self.models.len());
        for model in self.models.iter() {
            let mut scores = Vec::with_capacity(count);
            model.score(rows, &mut scores);
            by_model.push(scores);
        }
        let mut faults = 0;
        let of_row = |(index, (row, event)): (usize, (&[f64], &Event))| {
            let champion = by_model.first().map_or(0.0, |scores| scores[index]);
            let matches = self.rules.as_ref().map(|rules| rules.matches(event, row, champion)).unwrap_or_default();
            let RuleMatches { rules, shadow, score, action, faults: without_value } = matches;
            faults += u64::from(without_value);
            let sum = (champion + score).clamp(0.0, 1.0);
            let score = steps(sum);
            let action = self.action(sum).max(action.unwrap_or(Action::Allow));
            let reasons = if action == Action::Allow { Box::default() } else { self.reasons(row) };
            let scores = by_model.iter().map(|scores| steps(scores[index])).collect();
            Assessment { action, score, scores, rules: rules.into(), shadow: shadow.into(), reasons }
        };
        let assessments = rows.chunks_exact(width.max(1)).zip(events).enumerate().map(of_row).collect();
        (assessments, faults)
    }

    fn action(&self, score: f64) -> Action {
        // What rules add is seldom a multiple of a step: 0.3 is 0.3, in whatever order it was added up.
        let score = score + ROUNDING;
        match () {
            () if score >= self.thresholds.block => Action::Block,
            () if score >= self.thresholds.challenge => Action::Challenge,
            () if score >= self.thresholds.review => Action::Review,
            () => Action::Allow,
        }
    }

    fn reasons(&self, row: &[f64]) -> Box<[Reason]> {
        let Some(champion) = self.models.first() else { return Box::default() };
        let reason = |(column, contribution): (usize, f64)| Reason {
            column: column as u16,
            value: row[column],
            contribution: (contribution * 1000.0).round() / 1000.0,
        };
        champion.reasons(row, REASONS_MAX).into_iter().map(reason).collect()
    }
}

/// A score as it is kept.
fn steps(score: f64) -> u16 {
    (score * STEPS).round() as u16
}
