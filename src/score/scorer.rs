//! Models and thresholds over feature rows: a pure function from row to assessment.

use std::sync::Arc;

use super::assessment::{Assessment, Reason};
use super::model::Model;
use crate::flow::Action;

/// Steps of a quantised score.
const STEPS: f64 = 16_384.0;
/// Reasons given with an assessment that is not `allow`.
const REASONS_MAX: usize = 5;

/// Scores from which on something is done, in [0, 1].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// From here on a transaction is reviewed.
    pub review: f64,
    /// From here on it is blocked.
    pub block: f64,
}

/// The deployed models of a dataflow. The first is the champion: its score decides.
#[derive(Clone)]
pub struct Scorer {
    models: Arc<[Arc<dyn Model>]>,
    thresholds: Thresholds,
}

impl Scorer {
    /// A champion and further models that score without deciding.
    pub fn new(models: Vec<Arc<dyn Model>>, thresholds: Thresholds) -> Self {
        Scorer { models: models.into(), thresholds }
    }

    /// `name@version` of each model, champion first.
    pub fn labels(&self) -> Vec<String> {
        self.models.iter().map(|model| model.label().to_owned()).collect()
    }

    /// The place of the model that decides, among [`Scorer::labels`].
    pub fn champion(&self) -> u16 {
        0
    }

    /// One assessment per row.
    pub fn assess(&self, rows: &[f64], width: usize) -> Vec<Assessment> {
        let count = rows.len() / width.max(1);
        let mut by_model = Vec::with_capacity(self.models.len());
        for model in self.models.iter() {
            let mut scores = Vec::with_capacity(count);
            model.score(rows, &mut scores);
            by_model.push(scores);
        }
        let of_row = |(index, row): (usize, &[f64])| {
            let steps = |scores: &Vec<f64>| (scores[index] * STEPS).round() as u16;
            let scores: Box<[u16]> = by_model.iter().map(steps).collect();
            let score = scores.first().copied().unwrap_or(0);
            let action = self.action(score);
            let reasons = if action == Action::Allow { Box::default() } else { self.reasons(row) };
            Assessment { action, score, scores, reasons }
        };
        rows.chunks_exact(width.max(1)).enumerate().map(of_row).collect()
    }

    fn action(&self, score: u16) -> Action {
        let score = f64::from(score) / STEPS;
        match () {
            () if score >= self.thresholds.block => Action::Block,
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
