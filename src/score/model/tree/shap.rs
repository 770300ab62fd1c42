//! Path-dependent TreeSHAP: what each feature adds to the margin of one row compared with the average over the training
//! data. Contributions and the average sum to the margin.
//!
//! On the way to a leaf each feature has two factors: `one`, 1 if this row goes that way and 0 if not, and `zero`, the
//! share of the training rows that do. With the features of a set known and the others not, the leaf counts with its value
//! times the product of `one` over the known and `zero` over the others. The Shapley value of such a game is an integral
//! over its multilinear extension (Owen 1972): with `term = t one + (1 - t) zero`, feature i gets
//!
//! ```text
//! value x (one_i - zero_i) x  ∫  Π term_j dt      over t from 0 to 1, over the features j other than i
//! ```
//!
//! a polynomial of one degree less than there are features on the way, for which so many points of Gauss and Legendre are
//! exact. So one walk over the tree does it: products per point go down, sums over leaves come up, and each edge adds its
//! feature's share. Cost per tree: nodes x points, 3 points up to depth 6; the sums over subset sizes of Lundberg and others
//! (2018, algorithm 2), which give the same, take leaves x depth².

use std::sync::LazyLock;

use super::{DEPTH_MAX, Library, Tree, TreeNode};

/// Adds each feature's contribution in `tree` to `contributions`.
pub fn tree_shap(tree: &Tree, library: Library, row: &[f64], contributions: &mut [f64]) {
    static THREE: LazyLock<Points<3>> = LazyLock::new(Points::new);
    static SIX: LazyLock<Points<6>> = LazyLock::new(Points::new);
    static ALL: LazyLock<Points<POINTS_MAX>> = LazyLock::new(Points::new);
    // As many points as half of the features on the longest way are exact.
    match tree.depth() {
        0..=6 => THREE.walk(tree, library, row, contributions),
        7..=12 => SIX.walk(tree, library, row, contributions),
        _ => ALL.walk(tree, library, row, contributions),
    }
}

/// Enough for the deepest tree.
const POINTS_MAX: usize = DEPTH_MAX / 2;

/// Points of Gauss and Legendre between 0 and 1, and their weights.
struct Points<const K: usize> {
    at: [f64; K],
    weight: [f64; K],
    /// What a feature gains on a way that the row does not go, whatever the share: weight x (0 - zero) / term.
    not_taken: [f64; K],
}

impl<const K: usize> Points<K> {
    /// The roots of the Legendre polynomial of degree K, by Newton's iteration from a guess that is close to each.
    fn new() -> Self {
        let (mut at, mut weight) = ([0.0; K], [0.0; K]);
        for i in 0..K {
            let mut x = (std::f64::consts::PI * (i as f64 + 0.75) / (K as f64 + 0.5)).cos();
            let mut slope = 1.0;
            for _ in 0..NEWTON_STEPS {
                let (mut value, mut before) = (1.0, 0.0);
                for n in 0..K {
                    let n = n as f64;
                    (value, before) = (((2.0 * n + 1.0) * x * value - n * before) / (n + 1.0), value);
                }
                slope = K as f64 * (x * value - before) / (x * x - 1.0);
                x -= value / slope;
            }
            // From -1..1 to 0..1.
            at[i] = (1.0 + x) / 2.0;
            weight[i] = 1.0 / ((1.0 - x * x) * slope * slope);
        }
        Points { at, weight, not_taken: std::array::from_fn(|k| -weight[k] / (1.0 - at[k])) }
    }

    fn walk(&self, tree: &Tree, library: Library, row: &[f64], contributions: &mut [f64]) {
        let way = Vec::with_capacity(tree.depth());
        Walk { points: self, tree, library, row, contributions, way }.descend(0, [1.0; K]);
    }
}

/// It converges to the last digits in four or five.
const NEWTON_STEPS: usize = 8;

/// What a feature's edges on the way say together.
struct Step<const K: usize> {
    feature: usize,
    zero: f64,
    one: f64,
    /// At each point.
    term: [f64; K],
    /// At each point: what the feature gains where the product over all features is 1, weighted.
    gain: [f64; K],
}

struct Walk<'a, const K: usize> {
    points: &'a Points<K>,
    tree: &'a Tree,
    library: Library,
    row: &'a [f64],
    contributions: &'a mut [f64],
    way: Vec<Step<K>>,
}

impl<const K: usize> Walk<'_, K> {
    /// Goes through what lies below a node, where the terms on the way have a product at each point. Returns the leaves'
    /// values times the products of their ways, added up.
    fn descend(&mut self, at: usize, mut product: [f64; K]) -> [f64; K] {
        let (feature, goes_left, left, right, cover) = match &self.tree.nodes[at] {
            TreeNode::Leaf { value, .. } => return product.map(|product| product * value),
            TreeNode::Split { feature, threshold, default_left, missing, left, right, cover } => {
                let goes_left = match (missing.apply(self.row[*feature]), self.library) {
                    (None, _) => *default_left,
                    (Some(x), Library::Xgboost) => (x as f32) < *threshold as f32,
                    (Some(x), Library::Lightgbm) => x <= *threshold,
                };
                (*feature, goes_left, *left, *right, *cover)
            }
        };
        // Where the feature has been split on above, the edge here takes the place of that one.
        let (mut one_above, mut zero_above, mut gain_above) = (1.0, 1.0, [0.0; K]);
        if let Some(above) = self.way.iter().rfind(|step| step.feature == feature) {
            (one_above, zero_above, gain_above) = (above.one, above.zero, above.gain);
            (0..K).for_each(|k| product[k] /= above.term[k]);
        }
        let (mut sums, mut gains) = ([0.0; K], 0.0);
        for (child, taken) in [(left, goes_left), (right, !goes_left)] {
            let share = if cover > 0.0 { self.tree.nodes[child].cover() / cover } else { 0.5 };
            let (one, zero) = (if taken { one_above } else { 0.0 }, zero_above * share);
            if one == 0.0 && zero == 0.0 {
                continue; // Neither this row nor any other goes this way.
            }
            let Points { at, weight, not_taken } = self.points;
            let term: [f64; K] = std::array::from_fn(|k| at[k] * one + (1.0 - at[k]) * zero);
            let gain = match one {
                0.0 => *not_taken,
                _ => std::array::from_fn(|k| weight[k] * (one - zero) / term[k]),
            };
            self.way.push(Step { feature, zero, one, term, gain });
            let below = self.descend(child, std::array::from_fn(|k| product[k] * term[k]));
            self.way.pop();
            for k in 0..K {
                gains += below[k] * (gain[k] - gain_above[k]);
                sums[k] += below[k];
            }
        }
        self.contributions[feature] += gains;
        sums
    }
}
