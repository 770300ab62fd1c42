//! Gradient-boosted trees as one candle operator, bit-exact with XGBoost and LightGBM.
//!
//! **Integer keys.** Floats are mapped to integers in the same order: minus infinity < … < -0 = +0 < … < infinity. A
//! missing value is the integer below or above all of them, whichever side a split sends it to. Then every split of
//! either library is one comparison, "go right if key >= split": XGBoost's `x < t` (as `f32`) has the split `key(t)`,
//! LightGBM's `x <= t` (as `f64`) has `key(t) + 1`, and infinite thresholds and values need no care.
//! A feature that occurs with both sides for missing values gets two columns of keys, filled once per row.
//!
//! **Layouts.** Up to depth 8 a tree is a complete binary tree: the children of node `i` are `2i` and `2i + 1`, no pointers
//! and no leaf test, leaves higher up are repeated below. Deeper (or very ragged) forests are sparse: a node knows its
//! left child, the right one is next to it, and a leaf leads to itself. In both, eight trees are walked together to hide
//! memory latency, and leaves are added in tree order in the library's own precision: the sum is bit-exact.

use std::ops::Add;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape};

use super::dense::contiguous_rows;
use super::tree::{Missing, Tree, TreeNode};

/// Deeper trees are stored sparsely.
pub const COMPLETE_DEPTH_MAX: usize = 8;
/// A complete layout may have this many leaf slots per real leaf; beyond, the sparse one touches less memory.
pub const COMPLETE_SLOTS_PER_LEAF_MAX: usize = 8;
/// Trees walked together.
const TREES: usize = 8;

/// The number type a library compares and sums in, with its integer keys.
pub trait Precision: Copy + Add<Output = Self> + Into<f64> + Send + Sync + 'static {
    /// Integers in the order of the floats.
    type Key: Copy + Ord + Send + Sync;
    /// Below every value: a missing value that goes left.
    const MISSING_LEFT: Self::Key;
    /// At or above every split: a missing value that goes right.
    const MISSING_RIGHT: Self::Key;
    /// A split above every key.
    const NEVER_RIGHT: Self::Key;
    /// The value as this type.
    fn of(x: f64) -> Self;
    /// The key of a value that is not NaN.
    fn key(x: f64) -> Self::Key;
    /// The key from which values go right of this threshold.
    fn split(threshold: f64) -> Self::Key;
}

/// XGBoost: left if `(float)x < t`.
impl Precision for f32 {
    type Key = i32;
    const MISSING_LEFT: i32 = i32::MIN;
    const MISSING_RIGHT: i32 = i32::MAX - 1;
    const NEVER_RIGHT: i32 = i32::MAX;

    fn of(x: f64) -> f32 {
        x as f32
    }

    #[inline]
    fn key(x: f64) -> i32 {
        // Adding zero turns -0 into +0; flipping the magnitude of negative numbers puts them in order.
        let bits = (x as f32 + 0.0).to_bits() as i32;
        bits ^ ((bits >> 31) & i32::MAX)
    }

    fn split(threshold: f64) -> i32 {
        Self::key(threshold)
    }
}

/// LightGBM: left if `x <= t`.
impl Precision for f64 {
    type Key = i64;
    const MISSING_LEFT: i64 = i64::MIN;
    const MISSING_RIGHT: i64 = i64::MAX - 1;
    const NEVER_RIGHT: i64 = i64::MAX;

    fn of(x: f64) -> f64 {
        x
    }

    #[inline]
    fn key(x: f64) -> i64 {
        let bits = (x + 0.0).to_bits() as i64;
        bits ^ ((bits >> 63) & i64::MAX)
    }

    fn split(threshold: f64) -> i64 {
        Self::key(threshold) + 1
    }
}

/// One column of keys: a feature, what counts as missing in it, and the side that missing values take.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Column {
    feature: usize,
    missing: Missing,
    left: bool,
}

impl Column {
    #[inline]
    fn key<P: Precision>(&self, row: &[f64]) -> P::Key {
        match self.missing.apply(row[self.feature]) {
            Some(x) => P::key(x),
            None if self.left => P::MISSING_LEFT,
            None => P::MISSING_RIGHT,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Split<K> {
    key: K,
    column: u32,
}

#[derive(Clone, Copy, Debug)]
struct SparseNode<K> {
    key: K,
    column: u32,
    left: u32,
}

enum Trees<P: Precision> {
    /// `2^depth` splits (the first unused) and `2^depth` leaves per tree.
    Complete { depth: usize, splits: Vec<Split<P::Key>>, leaves: Vec<P> },
    /// One pool of nodes; `roots` has the root and depth of each tree.
    Sparse { nodes: Vec<SparseNode<P::Key>>, values: Vec<P>, roots: Vec<(u32, u32)> },
}

/// A forest ready to run. As a candle operator it maps rows (`f64`, n x features) to n margins: `base` + its leaves.
pub struct Forest<P: Precision> {
    features: usize,
    base: P,
    columns: Vec<Column>,
    trees: Trees<P>,
}

impl<P: Precision> Forest<P> {
    /// Lays the trees out. They must be well formed, as [`Tree::check`] says.
    pub fn new(features: usize, base: f64, trees: &[Tree]) -> Self {
        let depth = trees.iter().map(Tree::depth).max().unwrap_or(0).max(1);
        let leaves: usize = trees.iter().map(Tree::leaves).sum();
        let complete = depth <= COMPLETE_DEPTH_MAX && (trees.len() << depth) <= leaves * COMPLETE_SLOTS_PER_LEAF_MAX;
        let mut columns = Vec::new();
        let trees = if complete { lay_complete(trees, depth, &mut columns) } else { lay_sparse(trees, &mut columns) };
        if columns.is_empty() {
            // A forest of single leaves still reads the column of its unused splits.
            columns.push(Column { feature: 0, missing: Missing::Nan, left: true });
        }
        Forest { features, base: P::of(base), columns, trees }
    }

    /// Whether the trees are stored complete (and not sparse).
    pub fn is_complete(&self) -> bool {
        matches!(self.trees, Trees::Complete { .. })
    }

    /// The margin of one row, in the library's precision. `keys` is scratch.
    #[inline]
    fn margin(&self, row: &[f64], keys: &mut Vec<P::Key>) -> P {
        keys.clear();
        keys.extend(self.columns.iter().map(|column| column.key::<P>(row)));
        match &self.trees {
            Trees::Complete { depth, splits, leaves } => match depth {
                1 => sum_complete::<P, 1, 2>(splits, leaves, keys, self.base),
                2 => sum_complete::<P, 2, 4>(splits, leaves, keys, self.base),
                3 => sum_complete::<P, 3, 8>(splits, leaves, keys, self.base),
                4 => sum_complete::<P, 4, 16>(splits, leaves, keys, self.base),
                5 => sum_complete::<P, 5, 32>(splits, leaves, keys, self.base),
                6 => sum_complete::<P, 6, 64>(splits, leaves, keys, self.base),
                7 => sum_complete::<P, 7, 128>(splits, leaves, keys, self.base),
                _ => sum_complete::<P, 8, 256>(splits, leaves, keys, self.base),
            },
            Trees::Sparse { nodes, values, roots } => sum_sparse(nodes, values, roots, keys, self.base),
        }
    }
}

impl<P: Precision> CustomOp1 for Forest<P> {
    fn name(&self) -> &'static str {
        "forest"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let rows = contiguous_rows(storage, layout, self.features)?;
        let mut keys = Vec::with_capacity(self.columns.len());
        let margins: Vec<f64> =
            rows.chunks_exact(self.features).map(|row| self.margin(row, &mut keys).into()).collect();
        let shape = Shape::from(margins.len());
        Ok((CpuStorage::F64(margins), shape))
    }
}

fn column_of(columns: &mut Vec<Column>, column: Column) -> u32 {
    let at = columns.iter().position(|c| *c == column).unwrap_or_else(|| {
        columns.push(column);
        columns.len() - 1
    });
    at as u32
}

fn lay_complete<P: Precision>(trees: &[Tree], depth: usize, columns: &mut Vec<Column>) -> Trees<P> {
    let size = 1 << depth;
    let mut splits = vec![Split { key: P::NEVER_RIGHT, column: 0 }; trees.len() * size];
    let mut leaves = vec![P::of(0.0); trees.len() * size];
    for (i, tree) in trees.iter().enumerate() {
        // (node of the tree, its place in the complete one); a leaf stays the same node down to the last level.
        let mut open = vec![(0usize, 1usize)];
        while let Some((node, at)) = open.pop() {
            let (left, right) = match &tree.nodes[node] {
                TreeNode::Leaf { value, .. } if at >= size => {
                    leaves[i * size + at - size] = P::of(*value);
                    continue;
                }
                TreeNode::Leaf { .. } => (node, node),
                TreeNode::Split { feature, threshold, default_left, missing, left, right, .. } => {
                    let column = Column { feature: *feature, missing: *missing, left: *default_left };
                    splits[i * size + at] = Split { key: P::split(*threshold), column: column_of(columns, column) };
                    (*left, *right)
                }
            };
            open.push((left, 2 * at));
            open.push((right, 2 * at + 1));
        }
    }
    Trees::Complete { depth, splits, leaves }
}

fn lay_sparse<P: Precision>(trees: &[Tree], columns: &mut Vec<Column>) -> Trees<P> {
    let leaf = |at: usize| SparseNode { key: P::NEVER_RIGHT, column: 0, left: at as u32 };
    let (mut nodes, mut values, mut roots) = (Vec::new(), Vec::new(), Vec::new());
    for tree in trees {
        let root = nodes.len();
        roots.push((root as u32, tree.depth() as u32));
        nodes.push(leaf(root));
        values.push(P::of(0.0));
        let mut open = vec![(0usize, root)];
        while let Some((node, at)) = open.pop() {
            match &tree.nodes[node] {
                TreeNode::Leaf { value, .. } => values[at] = P::of(*value),
                TreeNode::Split { feature, threshold, default_left, missing, left, right, .. } => {
                    let child = nodes.len();
                    let column = Column { feature: *feature, missing: *missing, left: *default_left };
                    let column = column_of(columns, column);
                    nodes[at] = SparseNode { key: P::split(*threshold), column, left: child as u32 };
                    nodes.extend([leaf(child), leaf(child + 1)]);
                    values.extend([P::of(0.0); 2]);
                    open.push((*right, child + 1));
                    open.push((*left, child));
                }
            }
        }
    }
    Trees::Sparse { nodes, values, roots }
}

/// `N` is `2^D`.
#[inline(never)]
fn sum_complete<P: Precision, const D: usize, const N: usize>(
    splits: &[Split<P::Key>],
    leaves: &[P],
    keys: &[P::Key],
    base: P,
) -> P {
    let (splits, _) = splits.as_chunks::<N>();
    let (leaves, _) = leaves.as_chunks::<N>();
    let mut sum = base;
    let mut groups = splits.chunks_exact(TREES).zip(leaves.chunks_exact(TREES));
    for (splits, leaves) in &mut groups {
        let mut at = [1usize; TREES];
        for _ in 0..D {
            for (at, splits) in at.iter_mut().zip(splits) {
                // Masking changes nothing (at < N here); it spares the bounds check.
                let split = &splits[*at & (N - 1)];
                *at = 2 * *at + usize::from(keys[split.column as usize] >= split.key);
            }
        }
        for (at, leaves) in at.iter().zip(leaves) {
            sum = sum + leaves[*at & (N - 1)];
        }
    }
    let done = splits.len() - splits.len() % TREES;
    for (splits, leaves) in splits[done..].iter().zip(&leaves[done..]) {
        let mut at = 1usize;
        for _ in 0..D {
            let split = &splits[at & (N - 1)];
            at = 2 * at + usize::from(keys[split.column as usize] >= split.key);
        }
        sum = sum + leaves[at & (N - 1)];
    }
    sum
}

#[inline(never)]
fn sum_sparse<P: Precision>(
    nodes: &[SparseNode<P::Key>],
    values: &[P],
    roots: &[(u32, u32)],
    keys: &[P::Key],
    base: P,
) -> P {
    let mut sum = base;
    for roots in roots.chunks(TREES) {
        let mut at = [0usize; TREES];
        let mut depth = 0;
        for (at, (root, tree_depth)) in at.iter_mut().zip(roots) {
            *at = *root as usize;
            depth = depth.max(*tree_depth);
        }
        for _ in 0..depth {
            for at in &mut at {
                let node = &nodes[*at];
                *at = node.left as usize + usize::from(keys[node.column as usize] >= node.key);
            }
        }
        for (at, _) in at.iter().zip(roots) {
            sum = sum + values[*at];
        }
    }
    sum
}
