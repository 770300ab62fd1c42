//! A checked model, alone or bound to a dataflow's columns.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;

use super::autoencoder::Autoencoder;
use super::dense::Scale;
use super::logistic::Logistic;
use super::manifest::{Architecture, Calibration, Manifest, MissingPolicy};
use super::mlp::Mlp;
use super::tree::{Ensemble, Runnable, parse_lightgbm, parse_xgboost, tree_shap};
use super::{Model, ModelError, quantise, sigmoid};
use crate::event::nearest;

/// A version whose files, weights and golden rows were checked. Its rows are its own features in their order.
///
/// Contributions ([`Model::reasons`]) are in log odds: for logistic regression exact (normalised value times weight, under
/// a microsecond), for trees path-dependent TreeSHAP (some 60 us for 120 trees of depth 5), for an mlp gradient times
/// normalised value (twice a score), a first-order attribution, for an autoencoder each feature's share of the error, exact. They are those of the margin, before calibration.
#[derive(Clone)]
pub struct LoadedModel {
    inner: Arc<Inner>,
}

struct Inner {
    label: String,
    features: Vec<String>,
    manifest: Manifest,
    /// What stands for a missing value; NaN leaves it to the model.
    missing: Vec<f64>,
    net: Net,
}

enum Net {
    Logistic(Logistic),
    Mlp(Mlp),
    Autoencoder(Autoencoder),
    Forest { ensemble: Ensemble, run: Runnable },
}

impl LoadedModel {
    /// From a checked manifest and the bytes of its weights.
    pub(super) fn new(manifest: Manifest, weights: Vec<u8>) -> Result<Self, String> {
        let features: Vec<String> = manifest.features.iter().map(|feature| feature.name.clone()).collect();
        let scales = || {
            let features = manifest.features.iter();
            features.map(|f| Scale::new(f.mean.unwrap_or(0.0), f.std.unwrap_or(1.0))).collect::<Vec<_>>()
        };
        // candle may append a backtrace; its first line says it.
        let first_line = |e: candle_core::Error| e.to_string().lines().next().unwrap_or_default().to_owned();
        let misfit = |e| format!("the weights do not fit model.toml ({}); train the model again", first_line(e));
        let tensors = |weights, dtype| {
            VarBuilder::from_buffered_safetensors(weights, dtype, &Device::Cpu)
                .map_err(|e| format!("not a safetensors file ({}); write it again", first_line(e)))
        };
        let calibrated = manifest.calibration != Calibration::None;
        let net = match manifest.kind {
            Architecture::Logistic => {
                Net::Logistic(Logistic::new(tensors(weights, DType::F64)?, scales()).map_err(misfit)?)
            }
            Architecture::Mlp => {
                Net::Mlp(Mlp::new(tensors(weights, DType::F32)?, scales(), &manifest.hidden).map_err(misfit)?)
            }
            Architecture::Autoencoder => {
                let (tensors, hidden) = (tensors(weights, DType::F32)?, &manifest.hidden);
                Net::Autoencoder(Autoencoder::new(tensors, scales(), hidden).map_err(misfit)?)
            }
            Architecture::Xgboost => forest(parse_xgboost(&weights, calibrated)?, &features)?,
            Architecture::Lightgbm => {
                let text = std::str::from_utf8(&weights).map_err(|_| "not UTF-8: save the model as text")?;
                forest(parse_lightgbm(text, calibrated)?, &features)?
            }
        };
        let missing = manifest.features.iter().map(|feature| feature.missing.unwrap_or(f64::NAN)).collect();
        Ok(LoadedModel { inner: Arc::new(Inner { label: manifest.label(), features, manifest, missing, net }) })
    }

    /// What `model.toml` says: thresholds, reason texts, training figures.
    pub fn manifest(&self) -> &Manifest {
        &self.inner.manifest
    }

    /// Ties the model to a dataflow: its rows have these columns. An error names the features that are not there.
    pub fn bind(&self, dataflow_features: &[String]) -> Result<BoundModel, ModelError> {
        let (mut columns, mut absent) = (Vec::new(), Vec::new());
        for feature in &self.inner.features {
            match dataflow_features.iter().position(|name| name == feature) {
                Some(column) => columns.push(column),
                None => absent.push(feature),
            }
        }
        if absent.is_empty() {
            return Ok(BoundModel { model: self.clone(), columns, width: dataflow_features.len() });
        }
        let named = absent.iter().take(ABSENT_NAMED_MAX).map(|feature| {
            match nearest(feature, dataflow_features.iter().map(String::as_str)) {
                Some(near) => format!("`{feature}` (nearest here: `{near}`)"),
                None => format!("`{feature}`"),
            }
        });
        let mut reason = named.collect::<Vec<_>>().join(", ");
        if absent.len() > ABSENT_NAMED_MAX {
            reason.push_str(&format!(" and {} more", absent.len() - ABSENT_NAMED_MAX));
        }
        reason.push_str(", which the dataflow does not compute");
        Err(ModelError::Features { label: self.inner.label.clone(), reason })
    }

    /// The margin (log odds before calibration) of one row, exactly as XGBoost has it; for the others as a cast.
    pub fn raw_score(&self, row: &[f64]) -> f32 {
        self.margins(row.to_vec()).first().map_or(f32::NAN, |margin| *margin as f32)
    }

    /// The calibrated probability of one row before it is quantised.
    pub fn probability(&self, row: &[f64]) -> f64 {
        self.margins(row.to_vec()).first().map_or(f64::NAN, |margin| self.calibrate(*margin))
    }

    /// Margins of rows of the model's own features, whole rows only.
    fn margins(&self, mut rows: Vec<f64>) -> Vec<f64> {
        let Inner { missing, net, .. } = &*self.inner;
        let width = missing.len();
        rows.truncate(rows.len() - rows.len() % width);
        if rows.is_empty() {
            return Vec::new();
        }
        self.settle_missing(&mut rows);
        let count = rows.len() / width;
        let tensor = |rows| Tensor::from_vec(rows, (count, width), &Device::Cpu);
        let margins = match net {
            Net::Logistic(op) => tensor(rows).and_then(|rows| rows.apply_op1_no_bwd(op)?.to_vec1()),
            Net::Mlp(op) => tensor(rows).and_then(|rows| rows.apply_op1_no_bwd(op)?.to_vec1()),
            Net::Autoencoder(op) => tensor(rows).and_then(|rows| rows.apply_op1_no_bwd(op)?.to_vec1()),
            Net::Forest { run, .. } => run.margins(rows, width),
        };
        // The operators fail only on tensors of another shape or type than the one built here. Should one fail all the
        // same, the rows count as the highest risk (see `quantise`), so that it is seen.
        margins.unwrap_or_else(|_| vec![f64::NAN; count])
    }

    /// What is missing is what the manifest says of it.
    fn settle_missing(&self, rows: &mut [f64]) {
        let Inner { missing, manifest, .. } = &*self.inner;
        match manifest.missing {
            MissingPolicy::Native => {}
            MissingPolicy::Zero => rows.iter_mut().filter(|x| **x == 0.0).for_each(|x| *x = f64::NAN),
            MissingPolicy::Default => {
                for row in rows.chunks_exact_mut(missing.len()) {
                    row.iter_mut().zip(missing).filter(|(x, _)| x.is_nan()).for_each(|(x, missing)| *x = *missing);
                }
            }
        }
    }

    fn calibrate(&self, margin: f64) -> f64 {
        let own = || match &self.inner.net {
            Net::Forest { ensemble, .. } => ensemble.probability(margin),
            _ => sigmoid(margin),
        };
        self.inner.manifest.calibration.probability(margin).unwrap_or_else(own)
    }

    fn score_owned(&self, rows: Vec<f64>, scores: &mut Vec<f64>) {
        scores.clear();
        scores.extend(self.margins(rows).into_iter().map(|margin| quantise(self.calibrate(margin))));
    }

    /// One contribution per feature, log odds.
    fn contributions(&self, row: &[f64]) -> Vec<f64> {
        let mut row = row.to_vec();
        self.settle_missing(&mut row);
        match &self.inner.net {
            Net::Logistic(logistic) => logistic.contributions(&row),
            Net::Mlp(mlp) => mlp.contributions(&row),
            Net::Autoencoder(autoencoder) => autoencoder.contributions(&row),
            Net::Forest { ensemble, .. } => {
                let mut sums = vec![0.0; row.len()];
                for tree in &ensemble.trees {
                    tree_shap(tree, ensemble.library, &row, &mut sums);
                }
                sums
            }
        }
    }
}

/// So many absent features are named in an error.
const ABSENT_NAMED_MAX: usize = 3;

impl Model for LoadedModel {
    fn label(&self) -> &str {
        &self.inner.label
    }

    fn features(&self) -> &[String] {
        &self.inner.features
    }

    fn width(&self) -> usize {
        self.inner.features.len()
    }

    fn score(&self, rows: &[f64], scores: &mut Vec<f64>) {
        self.score_owned(rows.to_vec(), scores);
    }

    fn reasons(&self, row: &[f64], top: usize) -> Vec<(usize, f64)> {
        if row.len() != self.width() {
            return Vec::new();
        }
        let mut reasons: Vec<(usize, f64)> = self.contributions(row).into_iter().enumerate().collect();
        reasons.retain(|(_, contribution)| *contribution != 0.0);
        // Equal strengths by position, so that the order is always the same.
        reasons.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()).then(a.0.cmp(&b.0)));
        reasons.truncate(top);
        reasons
    }
}

/// A model that picks its columns from the rows of one dataflow.
#[derive(Clone)]
pub struct BoundModel {
    model: LoadedModel,
    columns: Vec<usize>,
    width: usize,
}

impl BoundModel {
    /// The model itself.
    pub fn model(&self) -> &LoadedModel {
        &self.model
    }

    fn gather(&self, rows: &[f64]) -> Vec<f64> {
        let rows = rows.chunks_exact(self.width);
        let mut gathered = Vec::with_capacity(rows.len() * self.columns.len());
        rows.for_each(|row| gathered.extend(self.columns.iter().map(|&column| row[column])));
        gathered
    }
}

impl Model for BoundModel {
    fn label(&self) -> &str {
        self.model.label()
    }

    fn features(&self) -> &[String] {
        self.model.features()
    }

    fn width(&self) -> usize {
        self.width
    }

    fn score(&self, rows: &[f64], scores: &mut Vec<f64>) {
        self.model.score_owned(self.gather(rows), scores);
    }

    fn reasons(&self, row: &[f64], top: usize) -> Vec<(usize, f64)> {
        let reasons = self.model.reasons(&self.gather(row), top);
        reasons.into_iter().map(|(feature, contribution)| (self.columns[feature], contribution)).collect()
    }

    fn reason_text(&self, feature: &str) -> Option<&str> {
        self.model.manifest().reasons.get(feature).map(String::as_str)
    }
}

fn forest(ensemble: Ensemble, features: &[String]) -> Result<Net, String> {
    if ensemble.features != features.len() {
        return Err(format!("the trees read {} features, model.toml lists {}", ensemble.features, features.len()));
    }
    if let Some((named, listed)) = ensemble.names.iter().zip(features).find(|(named, listed)| named != listed) {
        return Err(format!(
            "the trees have `{named}` where model.toml has `{listed}`: list features in training order"
        ));
    }
    let run = ensemble.compile();
    Ok(Net::Forest { ensemble, run })
}
