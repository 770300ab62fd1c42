//! Logistic regression: normalise, one dot product, one bias. The plainest model and the one whose reasons are exact.
//!
//! Weights: safetensors with `linear.weight` (1 x features) and `linear.bias` (1), as `torch.nn.Linear` saves them.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, bail};
use candle_nn::VarBuilder;

use super::dense::{Scale, dot};

/// The weights of a logistic regression. As a candle operator it maps rows (`f64`, n x features) to n margins (log odds).
#[derive(Clone, Debug)]
pub struct Logistic {
    scales: Vec<Scale>,
    weights: Vec<f64>,
    bias: f64,
}

impl Logistic {
    /// Reads the weights; shapes that do not fit `scales` are an error.
    pub fn new(weights: VarBuilder, scales: Vec<Scale>) -> Result<Self> {
        let linear = weights.pp("linear");
        let bias = linear.get(1, "bias")?.to_vec1::<f64>()?[0];
        let weights = linear.get((1, scales.len()), "weight")?.flatten_all()?.to_vec1::<f64>()?;
        if !weights.iter().all(|w| w.is_finite()) || !bias.is_finite() {
            bail!("a weight is not a finite number: train the model again");
        }
        Ok(Logistic { scales, weights, bias })
    }

    fn normalise(&self, row: &[f64], out: &mut Vec<f64>) {
        out.clear();
        out.extend(row.iter().zip(&self.scales).map(|(x, scale)| scale.apply(*x)));
    }

    /// What each feature adds to the log odds compared with its mean: normalised value times weight. Exact: with the bias
    /// they sum to the margin.
    pub fn contributions(&self, row: &[f64]) -> Vec<f64> {
        row.iter().zip(&self.scales).zip(&self.weights).map(|((x, scale), w)| scale.apply(*x) * w).collect()
    }
}

impl CustomOp1 for Logistic {
    fn name(&self) -> &'static str {
        "logistic"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let width = self.scales.len();
        let rows = super::dense::contiguous_rows(storage, layout, width)?;
        let mut x = Vec::with_capacity(width);
        let margins: Vec<f64> = rows
            .chunks_exact(width)
            .map(|row| {
                self.normalise(row, &mut x);
                dot(&x, &self.weights) + self.bias
            })
            .collect();
        let shape = Shape::from(margins.len());
        Ok((CpuStorage::F64(margins), shape))
    }
}
