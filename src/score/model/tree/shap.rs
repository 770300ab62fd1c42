//! Path-dependent TreeSHAP (Lundberg and others 2018, algorithm 2): what each feature adds to the margin of one row
//! compared with the average over the training data. Contributions and the average sum to the margin. Cost per tree:
//! leaves x depth²; 300 trees of depth 6 take milliseconds, so it is for alerts.

use super::{Library, Node, Tree};

/// One feature on the path from the root: which share of training rows (`zero`) and whether this row (`one`) would go on
/// if the feature were unknown or known, and the summed permutation weight of subsets of each size.
#[derive(Clone, Copy)]
struct Step {
    feature: usize,
    zero: f64,
    one: f64,
    weight: f64,
}

/// Adds each feature's contribution in `tree` to `contributions`.
pub fn tree_shap(tree: &Tree, library: Library, row: &[f64], contributions: &mut [f64]) {
    let root = Step { feature: usize::MAX, zero: 1.0, one: 1.0, weight: 1.0 };
    descend(tree, library, row, contributions, 0, &mut vec![], root);
}

fn descend(tree: &Tree, library: Library, row: &[f64], out: &mut [f64], at: usize, above: &mut [Step], step: Step) {
    let mut path = above.to_vec();
    extend(&mut path, step);
    match &tree.nodes[at] {
        Node::Leaf { value, .. } => {
            for i in 1..path.len() {
                let mut without = path.clone();
                unwind(&mut without, i);
                let weight: f64 = without.iter().map(|step| step.weight).sum();
                out[path[i].feature] += weight * (path[i].one - path[i].zero) * value;
            }
        }
        Node::Split { feature, threshold, default_left, missing, left, right, cover } => {
            let goes_left = match (missing.apply(row[*feature]), library) {
                (None, _) => *default_left,
                (Some(x), Library::Xgboost) => (x as f32) < *threshold as f32,
                (Some(x), Library::Lightgbm) => x <= *threshold,
            };
            let (hot, cold) = if goes_left { (*left, *right) } else { (*right, *left) };
            let (mut zero, mut one) = (1.0, 1.0);
            if let Some(i) = path.iter().position(|step| step.feature == *feature) {
                (zero, one) = (path[i].zero, path[i].one);
                unwind(&mut path, i);
            }
            let share = |child: usize| if *cover > 0.0 { tree.nodes[child].cover() / cover } else { 0.5 };
            let step = |child: usize, one: f64| Step { feature: *feature, zero: zero * share(child), one, weight: 0.0 };
            descend(tree, library, row, out, hot, &mut path, step(hot, one));
            descend(tree, library, row, out, cold, &mut path, step(cold, 0.0));
        }
    }
}

/// Appends a step: every subset size splits into "without it" and "with it".
fn extend(path: &mut Vec<Step>, step: Step) {
    let length = path.len();
    path.push(Step { weight: if length == 0 { 1.0 } else { 0.0 }, ..step });
    let count = (length + 1) as f64;
    for i in (0..length).rev() {
        path[i + 1].weight += step.one * path[i].weight * (i + 1) as f64 / count;
        path[i].weight = step.zero * path[i].weight * (length - i) as f64 / count;
    }
}

/// Undoes the extension by step `at`, wherever it stands.
fn unwind(path: &mut Vec<Step>, at: usize) {
    let last = path.len() - 1;
    let count = path.len() as f64;
    let Step { zero, one, .. } = path[at];
    let mut next = path[last].weight;
    for i in (0..last).rev() {
        if one != 0.0 {
            let weight = path[i].weight;
            path[i].weight = next * count / ((i + 1) as f64 * one);
            next = weight - path[i].weight * zero * (last - i) as f64 / count;
        } else if zero != 0.0 {
            path[i].weight = path[i].weight * count / (zero * (last - i) as f64);
        }
    }
    for i in at..last {
        let weight = path[i].weight;
        path[i] = Step { weight, ..path[i + 1] };
    }
    path.pop();
}
