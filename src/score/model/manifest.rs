//! `model.toml`: everything about a version that is not a weight. Parsed strictly, an unknown key is an error.
//!
//! ```toml
//! name = "payments"
//! version = 1
//! kind = "xgboost"                  # logistic, mlp, autoencoder, xgboost, lightgbm
//! weights = "model.json"
//! missing = "native"                # the trees know missing values; "zero": and zeros are missing, too; "default": replaced by each feature's `missing`
//! schema_hash = "9f86d0…"           # of the ordered names and types below
//! features = [                      # in the order of the weights; mean and std normalise for logistic and mlp
//!   { name = "card_count_1h", type = "count" },
//!   { name = "amount", type = "number", missing = 0.0, mean = 41.5, std = 30.2 },
//! ]
//! [calibration]
//! method = "none"                   # "platt" with a, b: probability = sigmoid(a * margin + b); or "isotonic" with margins and
//!                                   # probabilities, both rising: straight lines between those points, level beyond them
//! [thresholds]
//! review = 0.5
//! block = 0.9
//! [training]                        # free text and figures, shown to people
//! from = "2026-01-01"
//! to = "2026-02-01"
//! rows = 100000
//! frauds = 812
//! metrics = { auc = 0.91 }
//! [reasons]                         # feature = text for an analyst
//! card_count_1h = "many payments with this card within an hour"
//! [files]                           # sha256 of the weights, golden.jsonl and whatever else belongs to the version
//! "model.json" = "…"
//! "golden.jsonl" = "…"
//! ```

use std::collections::BTreeMap;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::sigmoid;

/// The golden rows of a version.
pub const GOLDEN_FILE: &str = "golden.jsonl";
/// The most features a model may have.
pub const FEATURES_MAX: usize = 10_000;

/// A parsed and checked `model.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Name of the model: letters, digits, `-` and `_`.
    pub name: String,
    /// Version, from 1.
    pub version: u32,
    /// What the weights are.
    pub kind: Architecture,
    /// File of the weights.
    pub weights: String,
    /// Widths of the hidden layers (`mlp` and `autoencoder`).
    #[serde(default)]
    pub hidden: Vec<usize>,
    /// What happens to missing values.
    pub missing: MissingPolicy,
    /// [`schema_hash`] of the features.
    pub schema_hash: String,
    /// What the model reads, in its order.
    pub features: Vec<ManifestFeature>,
    /// From margin to probability.
    #[serde(default)]
    pub calibration: Calibration,
    /// Scores from which a transaction is reviewed or blocked.
    pub thresholds: ManifestThresholds,
    /// What it was trained on and how well it did.
    #[serde(default)]
    pub training: Training,
    /// Feature to text for an analyst.
    #[serde(default)]
    pub reasons: BTreeMap<String, String>,
    /// File to sha256 (hexadecimal).
    pub files: BTreeMap<String, String>,
}

/// The architectures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// Logistic regression, safetensors.
    Logistic,
    /// Multi-layer perceptron, safetensors.
    Mlp,
    /// Autoencoder, safetensors: what it cannot repeat is unusual.
    Autoencoder,
    /// Boosted trees, XGBoost JSON.
    Xgboost,
    /// Boosted trees, LightGBM text.
    Lightgbm,
}

/// What happens to missing values (NaN).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MissingPolicy {
    /// The model knows them: trees only.
    Native,
    /// The model knows them, and zeros are missing, too, as in the sparse matrix that it was trained on: trees only.
    Zero,
    /// Each is replaced by its feature's `missing`.
    Default,
}

/// What a feature's values are. It documents the column and is part of the schema hash; values are doubles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FeatureType {
    /// Any number.
    Number,
    /// A whole number from zero.
    Count,
    /// 0 or 1.
    Flag,
}

/// One feature of a model.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestFeature {
    /// The column of the dataflow.
    pub name: String,
    /// What its values are.
    #[serde(rename = "type")]
    pub kind: FeatureType,
    /// Replaces a missing value under [`MissingPolicy::Default`].
    pub missing: Option<f64>,
    /// Subtracted before a dense model sees the value.
    pub mean: Option<f64>,
    /// Divided by before a dense model sees the value.
    pub std: Option<f64>,
}

/// From margin (log odds) to probability.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(tag = "method", rename_all = "lowercase", deny_unknown_fields)]
pub enum Calibration {
    /// The model's own: the logistic function of the margin.
    #[default]
    None,
    /// The logistic function of `a * margin + b`.
    Platt {
        /// Slope.
        a: f64,
        /// Shift.
        b: f64,
    },
    /// Straight lines between points, level beyond the first and the last.
    Isotonic {
        /// Margins of the points, each above the one before.
        margins: Vec<f64>,
        /// Their probabilities, none below the one before.
        probabilities: Vec<f64>,
    },
}

impl Calibration {
    /// The probability of a margin; `None` if the model's own is taken.
    pub(super) fn probability(&self, margin: f64) -> Option<f64> {
        match self {
            Calibration::None => None,
            Calibration::Platt { a, b } => Some(sigmoid(a * margin + b)),
            Calibration::Isotonic { margins, probabilities } => {
                let after = margins.partition_point(|point| *point <= margin);
                Some(match (after.checked_sub(1), margins.get(after)) {
                    // What is no number counts as the highest risk, as everywhere.
                    _ if margin.is_nan() => f64::NAN,
                    (None, _) => probabilities[0],
                    (Some(before), None) => probabilities[before],
                    (Some(before), Some(next)) => {
                        let share = (margin - margins[before]) / (next - margins[before]);
                        probabilities[before] + share * (probabilities[after] - probabilities[before])
                    }
                })
            }
        }
    }

    fn check(&self) -> Result<(), String> {
        match self {
            Calibration::None => Ok(()),
            Calibration::Platt { a, b } if a.is_finite() && b.is_finite() => Ok(()),
            Calibration::Platt { .. } => Err("calibration: a and b must be finite".into()),
            Calibration::Isotonic { margins, probabilities } => {
                let rising = margins.windows(2).all(|pair| pair[0] < pair[1]) && margins.iter().all(|m| m.is_finite());
                let falls = probabilities.windows(2).any(|pair| pair[0] > pair[1]);
                let within = probabilities.iter().all(|p| (0.0..=1.0).contains(p));
                if margins.is_empty() || margins.len() != probabilities.len() || !rising || falls || !within {
                    return Err("calibration: isotonic takes as many margins as probabilities, the margins finite and each above the \
                                one before, the probabilities from 0 to 1 and none below the one before"
                        .into());
                }
                Ok(())
            }
        }
    }
}

/// Scores from which something is done, 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestThresholds {
    /// Review at or above.
    pub review: f64,
    /// Block at or above.
    pub block: f64,
}

/// For people; the engine reads none of it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// Start of the training window.
    pub from: Option<String>,
    /// End of the training window.
    pub to: Option<String>,
    /// Rows trained on.
    pub rows: Option<u64>,
    /// Frauds among them.
    pub frauds: Option<u64>,
    /// Measured on later rows: `auc`, `average_precision` …
    #[serde(default)]
    pub metrics: BTreeMap<String, f64>,
}

/// Sha256 over a line `name type` for each feature in order, in hexadecimal: changes with any rename, reorder or retype.
pub fn schema_hash<'a>(features: impl IntoIterator<Item = &'a ManifestFeature>) -> String {
    let mut text = String::new();
    for feature in features {
        let kind = match feature.kind {
            FeatureType::Number => "number",
            FeatureType::Count => "count",
            FeatureType::Flag => "flag",
        };
        text.push_str(&format!("{} {kind}\n", feature.name));
    }
    sha256_hex(text.as_bytes())
}

/// Sha256 in hexadecimal.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Manifest {
    /// Parses and checks the text of a `model.toml`. The error is one line: what is wrong and how to put it right.
    pub fn parse(text: &str) -> Result<Self, String> {
        let manifest: Manifest = toml::from_str(text).map_err(|e| {
            let line = e.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            format!("line {line}: {}", e.message().trim().replace('\n', " "))
        })?;
        manifest.check()?;
        Ok(manifest)
    }

    /// `name@version`.
    pub fn label(&self) -> String {
        format!("{}@{}", self.name, self.version)
    }

    /// Whether the weights are trees.
    pub fn is_forest(&self) -> bool {
        matches!(self.kind, Architecture::Xgboost | Architecture::Lightgbm)
    }

    fn check(&self) -> Result<(), String> {
        if !is_name(&self.name) {
            return Err(format!("name `{}` may have letters, digits, `-` and `_` only", self.name));
        }
        if self.version == 0 {
            return Err("version starts at 1".into());
        }
        if self.features.is_empty() || self.features.len() > FEATURES_MAX {
            return Err(format!("features must be 1 to {FEATURES_MAX}, not {}", self.features.len()));
        }
        if self.missing != MissingPolicy::Default && !self.is_forest() {
            return Err(
                "missing = \"native\" and \"zero\" are for trees: write \"default\" and give each feature its `missing`".into()
            );
        }
        let layered = matches!(self.kind, Architecture::Mlp | Architecture::Autoencoder);
        if self.hidden.is_empty() == layered || self.hidden.contains(&0) {
            return Err(
                "hidden lists the widths of the hidden layers, as in [128, 64], and is for an mlp and an autoencoder only"
                    .into(),
            );
        }
        if self.kind == Architecture::Autoencoder && self.calibration == Calibration::None {
            return Err(
                "calibration: the error of an autoencoder is no log odds; give it method = \"platt\" or \"isotonic\""
                    .into(),
            );
        }
        let mut names: Vec<&str> = self.features.iter().map(|feature| feature.name.as_str()).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("feature `{}` is there twice: remove one", twice[0]));
        }
        self.features.iter().try_for_each(|feature| self.check_feature(feature))?;
        if let Some(unknown) = self.reasons.keys().find(|name| names.binary_search(&name.as_str()).is_err()) {
            return Err(format!("reasons: `{unknown}` is not a feature of the model: remove it"));
        }
        let ManifestThresholds { review, block } = self.thresholds;
        if !(0.0 <= review && review <= block && block <= 1.0) {
            return Err(format!("thresholds must be 0 <= review ({review}) <= block ({block}) <= 1"));
        }
        self.calibration.check()?;
        for file in [self.weights.as_str(), GOLDEN_FILE] {
            if !self.files.contains_key(file) {
                return Err(format!("files: the sha256 of {file} is missing: add it"));
            }
        }
        if let Some(outside) = self.files.keys().find(|file| file.contains(['/', '\\']) || file.starts_with('.')) {
            return Err(format!("files: `{outside}` must be a plain name of a file beside model.toml"));
        }
        let hash = schema_hash(&self.features);
        if hash != self.schema_hash {
            return Err(format!("schema_hash is not that of the features ({hash}): names, order or types were edited"));
        }
        Ok(())
    }

    fn check_feature(&self, feature: &ManifestFeature) -> Result<(), String> {
        let ManifestFeature { name, missing, mean, std, .. } = feature;
        if self.missing == MissingPolicy::Default && !missing.is_some_and(f64::is_finite) {
            return Err(format!("feature `{name}` needs `missing`, a finite number that stands for a missing value"));
        }
        if self.missing != MissingPolicy::Default && missing.is_some() {
            return Err(format!("feature `{name}` has `missing`, which needs missing = \"default\""));
        }
        if self.is_forest() && (mean.is_some() || std.is_some()) {
            return Err(format!("feature `{name}` has mean or std, which trees do not use: remove them"));
        }
        if !mean.unwrap_or(0.0).is_finite() || !std.is_none_or(|std| std.is_normal() && std > 0.0) {
            return Err(format!(
                "feature `{name}`: mean must be finite, std positive (a constant feature has std = 1)"
            ));
        }
        Ok(())
    }
}

/// Whether a model may have this name: it is a directory's name too.
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}
