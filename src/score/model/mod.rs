//! Models: what is loaded from `models/NAME/VERSION/`, checked, and applied to feature rows.

/// A loaded model. Rows are `features().len()` doubles each, one after the other; NaN is missing.
///
/// A score depends on its row alone: not on the batch around it, the worker or the machine's vector width.
pub trait Model: Send + Sync {
    /// `name@version`.
    fn label(&self) -> &str;

    /// The features it wants, in order.
    fn features(&self) -> &[String];

    /// Scores `rows` (row-major) into `scores`, one probability in [0, 1] per row, quantised to 1/16384.
    fn score(&self, rows: &[f64], scores: &mut Vec<f64>);

    /// The features that moved the score of one row most, strongest first: (index, contribution).
    fn reasons(&self, row: &[f64], top: usize) -> Vec<(usize, f64)>;
}
