//! Dense arithmetic in one pinned order.
//!
//! Both kernels are plain Rust without run-time dispatch, and Rust never contracts a product and a sum into one rounding.
//! Vector units of any width give the same bits: in a layer each output is one chain over the inputs in order (outputs
//! lie side by side in a vector), in a dot product eight chains are combined in a fixed tree.

use std::array;
use std::ops::{Add, Mul};

use candle_core::{CpuStorage, Layout, Result, bail};
use candle_nn::VarBuilder;

/// Outputs that are summed side by side: eight SSE registers.
const LANES: usize = 32;

/// Normalised values are limited to this: an infinite feature cannot make a NaN, and a huge one cannot drown the others
/// in `f32`.
pub(crate) const NORMALISED_MAX: f64 = 1e4;

/// How a feature enters a dense model: `(x - mean) / std`, limited to ±[`NORMALISED_MAX`].
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    mean: f64,
    inverse_std: f64,
}

impl Scale {
    /// `std` must be positive and finite.
    pub(crate) fn new(mean: f64, std: f64) -> Self {
        Scale { mean, inverse_std: 1.0 / std }
    }

    /// The normalised value. NaN, which a missing-value policy should have replaced, counts as the mean.
    #[inline]
    pub(crate) fn apply(&self, x: f64) -> f64 {
        let z = (x - self.mean) * self.inverse_std;
        if z.is_nan() { 0.0 } else { z.clamp(-NORMALISED_MAX, NORMALISED_MAX) }
    }
}

/// The sum of `a[i] * b[i]`: eight partial sums over `i mod 8`, combined as ((0+4)+(2+6)) + ((1+5)+(3+7)).
#[inline]
pub(crate) fn dot<T: Copy + Default + Add<Output = T> + Mul<Output = T>>(a: &[T], b: &[T]) -> T {
    let mut sums = [T::default(); 8];
    let ((a8, a_rest), (b8, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    for (a, b) in a8.iter().zip(b8) {
        sums = array::from_fn(|i| sums[i] + a[i] * b[i]);
    }
    for ((sum, a), b) in sums.iter_mut().zip(a_rest).zip(b_rest) {
        *sum = *sum + *a * *b;
    }
    let [s0, s1, s2, s3, s4, s5, s6, s7] = sums;
    ((s0 + s4) + (s2 + s6)) + ((s1 + s5) + (s3 + s7))
}

/// A dense layer, packed for the kernel: blocks of 32 outputs, input after input.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    packed: Vec<[f32; LANES]>,
    bias: Vec<f32>,
}

impl Layer {
    /// From weights as PyTorch has them: `outputs x inputs`, row-major.
    pub(crate) fn pack(weights: &[f32], bias: Vec<f32>, inputs: usize) -> Self {
        let outputs = bias.len();
        let mut packed = Vec::with_capacity(outputs.div_ceil(LANES) * inputs);
        for block in 0..outputs.div_ceil(LANES) {
            for input in 0..inputs {
                packed.push(array::from_fn(|lane| {
                    let output = block * LANES + lane;
                    if output < outputs { weights[output * inputs + input] } else { 0.0 }
                }));
            }
        }
        Layer { inputs, outputs, packed, bias }
    }

    /// The weight from `input` to `output`.
    pub(crate) fn weight(&self, output: usize, input: usize) -> f32 {
        self.packed[(output / LANES) * self.inputs + input][output % LANES]
    }

    /// `weights * x + bias`, each output summed over the inputs in order, the bias last.
    pub(crate) fn forward(&self, x: &[f32], y: &mut Vec<f32>) {
        y.clear();
        for (block, bias) in self.packed.chunks_exact(self.inputs.max(1)).zip(self.bias.chunks(LANES)) {
            let mut sums = [0.0f32; LANES];
            for (weights, x) in block.iter().zip(x) {
                for (sum, weight) in sums.iter_mut().zip(weights) {
                    *sum += x * weight;
                }
            }
            y.extend(sums.iter().zip(bias).map(|(sum, bias)| sum + bias));
        }
    }
}

/// Layers of these widths from safetensors with `layers.I.weight` and `layers.I.bias`, as PyTorch saves a `ModuleList` of `Linear`.
pub(crate) fn read_layers(
    weights: &VarBuilder,
    inputs: usize,
    widths: impl Iterator<Item = usize>,
) -> Result<Vec<Layer>> {
    let (mut layers, mut inputs) = (Vec::new(), inputs);
    for (i, outputs) in widths.enumerate() {
        let at = weights.pp(format!("layers.{i}"));
        let weight = at.get((outputs, inputs), "weight")?.flatten_all()?.to_vec1::<f32>()?;
        let bias = at.get(outputs, "bias")?.to_vec1::<f32>()?;
        if !weight.iter().chain(&bias).all(|w| w.is_finite()) {
            bail!("a weight of layer {i} is not a finite number: train the model again");
        }
        layers.push(Layer::pack(&weight, bias, inputs));
        inputs = outputs;
    }
    Ok(layers)
}

/// Runs the values in `x` through layers, ReLU between them; what the last one puts out is in `x` then, `y` is scratch. `each` sees what
/// every layer puts out.
pub(crate) fn run_layers(layers: &[Layer], x: &mut Vec<f32>, y: &mut Vec<f32>, mut each: impl FnMut(&[f32])) {
    for (i, layer) in layers.iter().enumerate() {
        layer.forward(x, y);
        if i + 1 < layers.len() {
            y.iter_mut().for_each(|y| *y = if *y > 0.0 { *y } else { 0.0 });
        }
        each(y);
        std::mem::swap(x, y);
    }
}

/// The rows behind a candle tensor: `f64`, contiguous, n x `width`.
pub(crate) fn contiguous_rows<'a>(storage: &'a CpuStorage, layout: &Layout, width: usize) -> Result<&'a [f64]> {
    match (storage, layout.contiguous_offsets(), layout.dims()) {
        (CpuStorage::F64(rows), Some((start, end)), [_, columns]) if *columns == width => Ok(&rows[start..end]),
        _ => bail!("feature rows must be contiguous f64, {width} to a row"),
    }
}
