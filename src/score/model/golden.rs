//! `golden.jsonl`: rows with the scores they had when the model was made, one JSON object a line.
//!
//! ```text
//! {"row": [1, 0.5, null, "inf"], "score": 0.25}
//! ```
//!
//! `null` is missing, infinities are the strings `"inf"` and `"-inf"`. The score is the probability as the training library
//! gave it, calibrated, before quantisation.

use serde::Deserialize;

use super::SCORE_STEPS;

/// A golden file has at most this many rows: they are scored at every load.
pub const GOLDEN_ROWS_MAX: usize = 10_000;
/// How far a score may be from the expected one: one step of quantisation.
pub const GOLDEN_TOLERANCE: f64 = 1.0 / SCORE_STEPS;

/// One golden row.
pub(crate) struct GoldenRow {
    pub(crate) row: Vec<f64>,
    pub(crate) score: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    row: Vec<Option<Cell>>,
    score: f64,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Cell {
    Number(f64),
    Infinite(Infinite),
}

#[derive(Deserialize)]
enum Infinite {
    #[serde(rename = "inf")]
    Plus,
    #[serde(rename = "-inf")]
    Minus,
}

/// Parses the file; the error has the line's number, from 1.
pub(crate) fn parse(text: &str, width: usize) -> Result<Vec<GoldenRow>, (usize, String)> {
    let mut rows = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let line: Line = serde_json::from_str(line).map_err(|e| (i + 1, format!("not a golden row ({e})")))?;
        if line.row.len() != width {
            return Err((i + 1, format!("{} values for {width} features", line.row.len())));
        }
        if rows.len() == GOLDEN_ROWS_MAX {
            return Err((i + 1, format!("more than {GOLDEN_ROWS_MAX} rows: keep fewer")));
        }
        let cell = |cell: Option<Cell>| match cell {
            None => f64::NAN,
            Some(Cell::Number(x)) => x,
            Some(Cell::Infinite(Infinite::Plus)) => f64::INFINITY,
            Some(Cell::Infinite(Infinite::Minus)) => f64::NEG_INFINITY,
        };
        rows.push(GoldenRow { row: line.row.into_iter().map(cell).collect(), score: line.score });
    }
    if rows.is_empty() {
        return Err((1, "there is no row: write at least one".into()));
    }
    Ok(rows)
}
