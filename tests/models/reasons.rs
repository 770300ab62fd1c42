//! Contributions: exact for logistic regression, TreeSHAP against XGBoost's own, gradients against finite differences.

use deltawatch::score::model::Model;
use deltawatch::score::model::tree::{
    DEPTH_MAX, Library, Missing, Tree, TreeNode, parse_lightgbm, parse_xgboost, tree_shap,
};

use super::dense::dense;
use super::fixture::{forest, table, unpack, wild_rows};

#[test]
fn tree_shap_equals_xgboost() {
    for name in ["depth6", "depth12"] {
        let ensemble = parse_xgboost(&unpack(&format!("xgboost/{name}.json.gz")), false).unwrap();
        // Ten features, their ten contributions, the average.
        let (width, rows) = table(&format!("xgboost/{name}.shap.csv.gz"));
        for row in rows.chunks(width) {
            let mut found = vec![0.0; 10];
            ensemble.trees.iter().for_each(|tree| tree_shap(tree, Library::Xgboost, &row[..10], &mut found));
            for (found, expected) in found.iter().zip(&row[10..20]) {
                assert!((found - expected).abs() < 1e-4, "{name}: {found} for {expected}");
            }
        }
    }
}

/// Contributions and the average over training sum to the margin, so two rows differ by what their contributions do.
#[test]
fn tree_shap_is_complete_for_lightgbm() {
    let (width, rows) = table("rows.csv.gz");
    for name in ["nan", "zero", "none"] {
        let text = String::from_utf8(unpack(&format!("lightgbm/{name}.txt.gz"))).unwrap();
        let ensemble = parse_lightgbm(&text, false).unwrap();
        let margins = ensemble.compile().margins(rows.clone(), width).unwrap();
        let averages = rows.chunks(width).take(40).zip(margins).map(|(row, margin)| {
            let mut sums = vec![0.0; width];
            ensemble.trees.iter().for_each(|tree| tree_shap(tree, Library::Lightgbm, row, &mut sums));
            margin - sums.iter().sum::<f64>()
        });
        let averages: Vec<f64> = averages.collect();
        assert!(averages.iter().all(|average| (average - averages[0]).abs() < 1e-9), "{name}: {averages:?}");
    }
}

/// The deepest tree that is taken: a chain of splits, each on a feature of its own or all on two of them.
#[test]
fn tree_shap_is_complete_on_long_ways() {
    for features in [DEPTH_MAX, 2] {
        let mut nodes = Vec::new();
        for level in 0..DEPTH_MAX {
            let cover = 1000.0 - 10.0 * level as f64;
            let (threshold, default_left, missing) = (0.5 - 0.005 * level as f64, true, Missing::Nan);
            let (left, right) = (nodes.len() + 1, nodes.len() + 2);
            nodes.push(TreeNode::Split {
                feature: level % features,
                threshold,
                default_left,
                missing,
                left,
                right,
                cover,
            });
            nodes.push(TreeNode::Leaf { value: (level % 7) as f64 - 2.5, cover: 10.0 });
        }
        nodes.push(TreeNode::Leaf { value: 40.0, cover: 1000.0 - 10.0 * DEPTH_MAX as f64 });
        let leaves = nodes.iter().filter_map(|node| match node {
            TreeNode::Leaf { value, cover } => Some(value * cover / 1000.0),
            TreeNode::Split { .. } => None,
        });
        let average: f64 = leaves.sum();
        let tree = Tree::check(nodes, features).expect("a tree");
        assert_eq!(tree.depth(), DEPTH_MAX);
        for (row, margin) in
            [(vec![0.6; features], 40.0), (vec![0.0; features], -2.5), (vec![f64::NAN; features], -2.5)]
        {
            let mut sums = vec![0.0; features];
            tree_shap(&tree, Library::Lightgbm, &row, &mut sums);
            let found = average + sums.iter().sum::<f64>();
            assert!((found - margin).abs() < 1e-9, "{features} features: {found} for {margin}");
        }
    }
}

#[test]
fn logistic_contributions_sum_to_the_margin() {
    let (model, layers) = dense("logistic", &[21, 1], 5);
    for row in wild_rows(21, 50, 8).chunks(21) {
        let sum: f64 = model.reasons(row, 21).iter().map(|(_, c)| c).sum::<f64>() + f64::from(layers[0].3[0]);
        let margin = f64::from(model.raw_score(row));
        assert!((sum - margin).abs() <= 1e-6 * (1.0 + margin.abs()), "{sum} for {margin}");
    }
}

/// A network without a hidden ReLU in play is linear: there the gradient attribution must equal finite differences.
#[test]
fn mlp_contributions_are_gradients() {
    let (model, _) = dense("mlp", &[6, 8, 4, 1], 9);
    let row = [0.3, -0.2, 0.9, 0.1, -0.7, 0.4];
    let reasons = model.reasons(&row, 6);
    assert_eq!(reasons.len(), 6);
    for (feature, contribution) in reasons {
        let shifted = |by: f64| {
            let mut row = row;
            row[feature] += by;
            f64::from(model.raw_score(&row))
        };
        let slope = (shifted(1e-3) - shifted(-1e-3)) / 2e-3;
        let expected = slope * (row[feature] - feature as f64 * 0.01);
        assert!((contribution - expected).abs() < 2e-3, "feature {feature}: {contribution} for {expected}");
    }
}

#[test]
fn strongest_first_and_no_more_than_asked() {
    let model = forest("xgboost", "depth6");
    let (width, rows) = table("rows.csv.gz");
    let all = model.reasons(&rows[..width], width);
    assert!(all.windows(2).all(|pair| pair[0].1.abs() >= pair[1].1.abs()));
    assert_eq!(model.reasons(&rows[..width], 3), all[..3]);
    assert!(model.reasons(&rows[..3], 3).is_empty(), "a row of another width has no reasons");
}
