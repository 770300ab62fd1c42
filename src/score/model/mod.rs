//! Models: what is loaded from `models/NAME/VERSION/`, checked, and applied to feature rows.
//!
//! ```text
//! models/NAME/VERSION/  --ModelDir::load-->  LoadedModel  --bind(columns of a dataflow)-->  BoundModel: scores, reasons
//!   model.toml            manifest: features in order, missing values, calibration, thresholds, hashes
//!   weights               safetensors, XGBoost JSON or LightGBM text
//!   golden.jsonl          rows with expected scores, reproduced before the model may be used
//! ```
//!
//! What holds: a score is a function of its row and of the files alone. One row is always summed in one order, whatever
//! the batch around it, the number of workers or the machine's vector width; `exp` is our own (`libm`), and scores are
//! quantised to 1/16384. So the `-1` of an old score cancels its `+1`. Rows are doubles, NaN is missing.
//!
//! candle owns the weights (safetensors, `VarBuilder`) and runs each architecture of `models/*.rs` as one operator.
//! Its own matrix product is not used: its summation order depends on the batch and on the vector width found at run time.
//! Versions are immutable: a changed model is a new version.

mod dense;
mod dir;
mod error;
mod golden;
mod loaded;
mod manifest;
pub mod threads;
pub mod tree;

#[path = "../../../models/autoencoder.rs"]
pub mod autoencoder;
#[path = "../../../models/forest.rs"]
pub mod forest;
#[path = "../../../models/logistic.rs"]
pub mod logistic;
#[path = "../../../models/mlp.rs"]
pub mod mlp;

pub use dir::ModelDir;
pub use error::ModelError;
pub use loaded::{BoundModel, LoadedModel};
pub use manifest::{
    Architecture, Calibration, FeatureType, Manifest, ManifestFeature, ManifestThresholds, MissingPolicy, Training,
    schema_hash,
};

/// Scores are multiples of one over this.
pub const SCORE_STEPS: f64 = 16_384.0;

/// A model applied to rows of `width()` doubles each, one after the other; NaN is missing.
///
/// A score depends on its row alone: not on the batch around it, the worker or the machine's vector width.
pub trait Model: Send + Sync {
    /// `name@version`.
    fn label(&self) -> &str;

    /// The features it wants, in its order.
    fn features(&self) -> &[String];

    /// Doubles per row. A model bound to a dataflow takes the dataflow's whole rows and picks its columns.
    fn width(&self) -> usize;

    /// Scores `rows` (row-major) into `scores` (cleared first), one probability in [0, 1] per row, quantised to 1/16384.
    /// A trailing part of a row is ignored.
    fn score(&self, rows: &[f64], scores: &mut Vec<f64>);

    /// The features that moved the score of one row most, strongest first: (index in the row, contribution in log odds).
    /// See [`LoadedModel`] for what a contribution is and costs; it is meant for alerts.
    fn reasons(&self, row: &[f64], top: usize) -> Vec<(usize, f64)>;

    /// What a feature says to an analyst, if that is written down.
    fn reason_text(&self, feature: &str) -> Option<&str> {
        let _ = feature;
        None
    }
}

/// A probability as a multiple of 1/16384 in [0, 1]. What is not a number (overflow in a network) counts as the highest
/// risk, because a broken score must be seen.
pub fn quantise(probability: f64) -> f64 {
    if probability.is_nan() {
        return 1.0;
    }
    (probability.clamp(0.0, 1.0) * SCORE_STEPS).round() / SCORE_STEPS
}

/// The logistic function, bit-identical on every machine.
pub fn sigmoid(margin: f64) -> f64 {
    1.0 / (1.0 + libm::exp(-margin))
}
