//! Multi-layer perceptron: normalise, dense layers with ReLU between them, one output.
//!
//! Weights: safetensors with `layers.I.weight` (outputs x inputs) and `layers.I.bias`, I = 0, 1, …, as PyTorch saves a
//! `ModuleList` of `Linear`; the widths of the hidden layers stand in the manifest.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape};
use candle_nn::VarBuilder;

use super::dense::{Layer, Scale, read_layers, run_layers};

/// The weights of a perceptron. As a candle operator it maps rows (`f64`, n x features) to n margins (log odds).
#[derive(Clone, Debug)]
pub struct Mlp {
    scales: Vec<Scale>,
    layers: Vec<Layer>,
}

impl Mlp {
    /// Reads the weights; shapes that do not fit `scales` and `hidden` are an error.
    pub fn new(weights: VarBuilder, scales: Vec<Scale>, hidden: &[usize]) -> Result<Self> {
        let widths = hidden.iter().copied().chain([1]);
        let layers = read_layers(&weights, scales.len(), widths)?;
        Ok(Mlp { scales, layers })
    }

    /// Runs one row; `each` sees what every layer puts out, ReLU applied but for the last.
    fn forward(&self, row: &[f64], x: &mut Vec<f32>, y: &mut Vec<f32>, each: impl FnMut(&[f32])) -> f32 {
        x.clear();
        x.extend(row.iter().zip(&self.scales).map(|(x, scale)| scale.apply(*x) as f32));
        run_layers(&self.layers, x, y, each);
        x[0]
    }

    /// Gradient times normalised value: a first-order attribution, exact only where no ReLU switches between the mean row
    /// and this one. About twice the cost of a score.
    pub fn contributions(&self, row: &[f64]) -> Vec<f64> {
        let mut outputs = Vec::with_capacity(self.layers.len());
        self.forward(row, &mut Vec::new(), &mut Vec::new(), |y| outputs.push(y.to_vec()));
        let mut gradient = vec![1.0f64];
        for (i, layer) in self.layers.iter().enumerate().rev() {
            let below = |input: usize| i == 0 || outputs[i - 1][input] > 0.0;
            gradient = (0..layer.inputs)
                .map(|input| match below(input) {
                    true => (0..layer.outputs).map(|o| gradient[o] * f64::from(layer.weight(o, input))).sum(),
                    false => 0.0,
                })
                .collect();
        }
        row.iter().zip(&self.scales).zip(gradient).map(|((x, scale), gradient)| scale.apply(*x) * gradient).collect()
    }
}

impl CustomOp1 for Mlp {
    fn name(&self) -> &'static str {
        "mlp"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let rows = super::dense::contiguous_rows(storage, layout, self.scales.len())?;
        let (mut x, mut y) = (Vec::new(), Vec::new());
        let margins: Vec<f64> = rows
            .chunks_exact(self.scales.len())
            .map(|row| f64::from(self.forward(row, &mut x, &mut y, |_| ())))
            .collect();
        let shape = Shape::from(margins.len());
        Ok((CpuStorage::F64(margins), shape))
    }
}
