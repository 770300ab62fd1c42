//! Boosted trees as their libraries write them, parsed into one form: XGBoost JSON, LightGBM text.
//!
//! What cannot be honoured exactly (categorical splits, several classes, linear leaves, dart) is a clear error, never an
//! approximation.

mod lightgbm;
mod shap;
mod xgboost;

pub use lightgbm::parse_lightgbm;
pub use shap::tree_shap;
pub use xgboost::parse_xgboost;

use candle_core::{Device, Tensor};

use super::forest::Forest;

/// Deeper trees are refused; it bounds the work per row. LightGBM's leaf-wise trees reach a few dozen.
pub const DEPTH_MAX: usize = 64;
/// LightGBM calls values up to this far from zero zero.
pub const ZERO_MAX: f64 = 1e-35_f32 as f64;

/// What a feature's missing values are, as the library saw them when it trained.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Missing {
    /// NaN is missing.
    Nan,
    /// NaN is missing; tiny values are zero (LightGBM).
    NanTinyZero,
    /// NaN and zero are missing (LightGBM `zero_as_missing`).
    Zero,
    /// Nothing is missing, NaN is zero (LightGBM without missing values in training).
    None,
}

impl Missing {
    /// The value that is compared, `None` if it is missing.
    #[inline]
    pub fn apply(self, x: f64) -> Option<f64> {
        let tiny = || x.abs() <= ZERO_MAX;
        match self {
            Missing::Nan => (!x.is_nan()).then_some(x),
            Missing::NanTinyZero if tiny() => Some(0.0),
            Missing::NanTinyZero => (!x.is_nan()).then_some(x),
            Missing::Zero => (!x.is_nan() && !tiny()).then_some(x),
            Missing::None => Some(if x.is_nan() || tiny() { 0.0 } else { x }),
        }
    }
}

/// A node; children are positions in the tree's node list.
#[derive(Clone, Debug, PartialEq)]
pub enum TreeNode {
    /// An inner node.
    Split {
        /// Column of the row.
        feature: usize,
        /// Compared with `<` (XGBoost) or `<=` (LightGBM).
        threshold: f64,
        /// Whether a missing value goes left.
        default_left: bool,
        /// What counts as missing.
        missing: Missing,
        /// Where smaller values go.
        left: usize,
        /// Where larger values go.
        right: usize,
        /// How much training weight came through.
        cover: f64,
    },
    /// What the tree adds to the margin.
    Leaf {
        /// The value.
        value: f64,
        /// How much training weight ended here.
        cover: f64,
    },
}

impl TreeNode {
    /// The training weight that came through.
    pub fn cover(&self) -> f64 {
        match self {
            TreeNode::Split { cover, .. } | TreeNode::Leaf { cover, .. } => *cover,
        }
    }
}

/// One tree; node 0 is its root.
#[derive(Clone, Debug, PartialEq)]
pub struct Tree {
    /// All nodes, each reached once.
    pub nodes: Vec<TreeNode>,
    depth: usize,
}

impl Tree {
    /// A tree of these nodes, if every node is reached exactly once from node 0, values are finite, features are below
    /// `features` and the depth is at most [`DEPTH_MAX`].
    pub fn check(nodes: Vec<TreeNode>, features: usize) -> Result<Self, String> {
        let mut seen = vec![false; nodes.len()];
        let mut open = vec![(0usize, 0usize)];
        let mut depth = 0;
        while let Some((at, level)) = open.pop() {
            match seen.get_mut(at) {
                Some(seen) if !*seen => *seen = true,
                _ => return Err(format!("node {at} does not exist or is reached twice: the file is damaged")),
            }
            depth = depth.max(level);
            if level > DEPTH_MAX {
                return Err(format!("a tree is deeper than {DEPTH_MAX}: train with a smaller max_depth"));
            }
            match &nodes[at] {
                TreeNode::Leaf { value, .. } if !value.is_finite() => {
                    return Err(format!("leaf {at} has the value {value}: train the model again"));
                }
                TreeNode::Leaf { .. } => {}
                TreeNode::Split { feature, .. } if *feature >= features => {
                    return Err(format!("node {at} splits on feature {feature} of {features}: the file is damaged"));
                }
                TreeNode::Split { threshold, .. } if threshold.is_nan() => {
                    return Err(format!("node {at} has no threshold: the file is damaged"));
                }
                TreeNode::Split { left, right, .. } => open.extend([(*right, level + 1), (*left, level + 1)]),
            }
        }
        Ok(Tree { nodes, depth })
    }

    /// Splits on the longest path.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Number of leaves.
    pub fn leaves(&self) -> usize {
        self.nodes.iter().filter(|node| matches!(node, TreeNode::Leaf { .. })).count()
    }
}

/// The library a forest comes from; it decides how values are compared and summed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Library {
    /// `(float)x < t`, sums in `f32`.
    Xgboost,
    /// `x <= t`, sums in `f64`.
    Lightgbm,
}

/// A parsed model file.
#[derive(Clone, Debug)]
pub struct Ensemble {
    /// Where it comes from.
    pub library: Library,
    /// Width of a row.
    pub features: usize,
    /// Names in the file, empty if it has none.
    pub names: Vec<String>,
    /// The margin before the first tree.
    pub base: f64,
    /// Factor of the margin inside the logistic function (LightGBM's `sigmoid`).
    pub slope: f64,
    /// The trees, in the order of summation.
    pub trees: Vec<Tree>,
}

/// A forest ready to run, in its library's precision.
pub enum Runnable {
    /// From XGBoost.
    Single(Forest<f32>),
    /// From LightGBM.
    Double(Forest<f64>),
}

impl Ensemble {
    /// Lays the forest out for scoring.
    pub fn compile(&self) -> Runnable {
        match self.library {
            Library::Xgboost => Runnable::Single(Forest::new(self.features, self.base, &self.trees)),
            Library::Lightgbm => Runnable::Double(Forest::new(self.features, self.base, &self.trees)),
        }
    }

    /// The probability of a margin, in the library's own arithmetic.
    pub fn probability(&self, margin: f64) -> f64 {
        match self.library {
            Library::Xgboost => {
                // As XGBoost does it: f32 throughout, the exponent limited so that it stays finite.
                let exp = libm::exp(f64::from((-margin as f32).min(88.7))) as f32;
                f64::from(1.0 / (exp + 1.0 + 1e-16))
            }
            Library::Lightgbm => super::sigmoid(self.slope * margin),
        }
    }
}

impl Runnable {
    /// Margins of rows (`n x features` doubles).
    pub fn margins(&self, rows: Vec<f64>, features: usize) -> candle_core::Result<Vec<f64>> {
        let rows = Tensor::from_vec(rows, ((), features), &Device::Cpu)?;
        match self {
            Runnable::Single(forest) => rows.apply_op1_no_bwd(forest),
            Runnable::Double(forest) => rows.apply_op1_no_bwd(forest),
        }?
        .to_vec1()
    }
}
