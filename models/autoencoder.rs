//! Autoencoder: normalise, dense layers with ReLU between them, as many outputs as inputs. What it cannot repeat is unusual.
//!
//! Weights: safetensors with `layers.I.weight` (outputs x inputs) and `layers.I.bias`, I = 0, 1, …; the widths of the hidden layers
//! stand in the manifest. The margin is the mean squared error of the normalised row, limited to ±10 per value; the
//! manifest's calibration makes a probability of it.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape};
use candle_nn::VarBuilder;

use super::dense::{Layer, Scale, read_layers, run_layers};

/// A value is taken to be off by no more than this: one feature that is far off must not drown the others.
const ERROR_MAX: f64 = 10.0;

/// The weights of an autoencoder. As a candle operator it maps rows (`f64`, n x features) to n errors.
#[derive(Clone, Debug)]
pub struct Autoencoder {
    scales: Vec<Scale>,
    layers: Vec<Layer>,
}

impl Autoencoder {
    /// Reads the weights; shapes that do not fit `scales` and `hidden` are an error.
    pub fn new(weights: VarBuilder, scales: Vec<Scale>, hidden: &[usize]) -> Result<Self> {
        let widths = hidden.iter().copied().chain([scales.len()]);
        let layers = read_layers(&weights, scales.len(), widths)?;
        Ok(Autoencoder { scales, layers })
    }

    /// What each feature adds to the margin of a row: its squared error over the number of features. Exact. Costs a score.
    pub fn contributions(&self, row: &[f64]) -> Vec<f64> {
        let (mut x, mut y, mut errors) = (Vec::new(), Vec::new(), Vec::with_capacity(row.len()));
        self.errors(row, &mut x, &mut y, |error| errors.push(error / row.len() as f64));
        errors
    }

    /// Repeats a row and gives the squared error of every value.
    fn errors(&self, row: &[f64], x: &mut Vec<f32>, y: &mut Vec<f32>, mut each: impl FnMut(f64)) {
        x.clear();
        x.extend(row.iter().zip(&self.scales).map(|(x, scale)| scale.apply(*x) as f32));
        run_layers(&self.layers, x, y, |_| ());
        for ((value, scale), repeated) in row.iter().zip(&self.scales).zip(&*x) {
            let error = (scale.apply(*value) - f64::from(*repeated)).clamp(-ERROR_MAX, ERROR_MAX);
            each(error * error);
        }
    }
}

impl CustomOp1 for Autoencoder {
    fn name(&self) -> &'static str {
        "autoencoder"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let rows = super::dense::contiguous_rows(storage, layout, self.scales.len())?;
        let (mut x, mut y) = (Vec::new(), Vec::new());
        let error = |row: &[f64]| {
            let mut sum = 0.0;
            self.errors(row, &mut x, &mut y, |error| sum += error);
            sum / row.len() as f64
        };
        let margins: Vec<f64> = rows.chunks_exact(self.scales.len()).map(error).collect();
        let shape = Shape::from(margins.len());
        Ok((CpuStorage::F64(margins), shape))
    }
}
