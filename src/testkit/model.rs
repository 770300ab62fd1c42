//! A model for tests: a weighted sum of squashed features, so that every feature moves the score.

use std::sync::Arc;

use crate::score::model::Model;
use crate::score::scorer::{Scorer, Thresholds};

/// A linear model over all columns, with weights that depend on the column's place alone. Missing counts as 0.
#[derive(Debug)]
pub struct TestModel {
    columns: Vec<String>,
}

impl TestModel {
    /// Over these columns.
    pub fn new(columns: Vec<String>) -> Self {
        TestModel { columns }
    }

    /// A scorer with this model alone, that reviews from 0.5 on and blocks from 0.8 on.
    pub fn scorer(columns: Vec<String>) -> Scorer {
        Scorer::new(
            vec![Arc::new(TestModel::new(columns))],
            Thresholds { review: 0.5, challenge: f64::INFINITY, block: 0.8 },
        )
    }

    /// What a column adds to the log odds.
    fn contribution(column: usize, value: f64) -> f64 {
        let weight = ((column * 37 + 11) % 64) as f64 / 16.0 - 1.5;
        if value.is_finite() { weight * value / (1.0 + value.abs()) } else { 0.0 }
    }
}

impl Model for TestModel {
    fn label(&self) -> &str {
        "test@1"
    }

    fn features(&self) -> &[String] {
        &self.columns
    }

    fn width(&self) -> usize {
        self.columns.len()
    }

    fn score(&self, rows: &[f64], scores: &mut Vec<f64>) {
        scores.clear();
        for row in rows.chunks_exact(self.columns.len().max(1)) {
            let odds: f64 = row.iter().enumerate().map(|(column, &value)| Self::contribution(column, value)).sum();
            // A ratio instead of an exponential: the same bits on every machine.
            scores.push(0.5 + 0.5 * odds / (1.0 + odds.abs()));
        }
    }

    fn reasons(&self, row: &[f64], top: usize) -> Vec<(usize, f64)> {
        let mut all: Vec<_> = row.iter().enumerate().map(|(at, &value)| (at, Self::contribution(at, value))).collect();
        all.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()).then(a.0.cmp(&b.0)));
        all.truncate(top);
        all
    }
}
