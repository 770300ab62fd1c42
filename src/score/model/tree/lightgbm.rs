//! LightGBM's text (`save_model("x.txt")`, version 4), objectives `binary` and `cross_entropy`.
//!
//! Blocks of `key=value` lines: a header, then one block per tree up to `end of trees`. In a tree, children at or above
//! zero are inner nodes and below zero are leaves (`-1` is leaf 0). `decision_type` is bits: 1 categorical, 2 missing
//! goes left, 4 and 8 the missing type (none, zero, NaN).

use std::collections::HashMap;

use super::{Ensemble, Library, Missing, Tree, TreeNode};

type Block<'a> = HashMap<&'a str, &'a str>;

/// Parses a model file. Errors say what is not supported and how to train it so that it is.
pub fn parse_lightgbm(text: &str, calibrated: bool) -> Result<Ensemble, String> {
    if !text.starts_with("tree\n") && !text.starts_with("tree\r\n") {
        return Err("not a LightGBM text model; save it with save_model(\"model.txt\")".into());
    }
    let (body, _) =
        text.split_once("end of trees").ok_or("the file is cut off before `end of trees`: save it again")?;
    let mut blocks = body.split("\nTree=").map(block);
    let header = blocks.next().unwrap_or_default();
    if number::<usize>(&header, "num_class")? != 1 || number::<usize>(&header, "num_tree_per_iteration")? != 1 {
        return Err("several classes are not supported: train one binary model".into());
    }
    if body.lines().any(|line| line.trim() == "average_output") {
        return Err("boosting=rf is not supported: train with boosting=gbdt".into());
    }
    let features = number::<usize>(&header, "max_feature_idx")? + 1;
    let names = header.get("feature_names").map_or("", |names| names);
    let names: Vec<String> = names.split_whitespace().map(str::to_owned).collect();
    // Names that the library itself has given say nothing.
    let given = |(place, name): (usize, &String)| *name == format!("Column_{place}");
    let names = if names.iter().enumerate().all(given) { Vec::new() } else { names };
    let slope = match header.get("objective") {
        // A custom objective is not written down.
        None | Some(&"none") if calibrated => 1.0,
        objective => slope(objective.unwrap_or(&"none"))?,
    };
    let trees = blocks.enumerate().map(|(i, tree)| {
        nodes(&tree).and_then(|nodes| Tree::check(nodes, features)).map_err(|e| format!("tree {i}: {e}"))
    });
    let trees = trees.collect::<Result<_, String>>()?;
    Ok(Ensemble { library: Library::Lightgbm, features, names, base: 0.0, slope, trees })
}

/// The factor of the margin: `binary sigmoid:0.7` has 0.7.
fn slope(objective: &str) -> Result<f64, String> {
    let mut words = objective.split_whitespace();
    match words.next() {
        Some("binary") => {}
        Some("cross_entropy") => return Ok(1.0),
        _ => {
            return Err(format!(
                "objective {objective} gives no probability of fraud: train with objective=binary, or, if a custom objective gives log odds, say so by [calibration] method = \"platt\", a = 1.0, b = 0.0"
            ));
        }
    }
    match words.find_map(|word| word.strip_prefix("sigmoid:")) {
        None => Ok(1.0),
        Some(slope) => slope.parse().map_err(|_| format!("objective {objective}: sigmoid is not a number")),
    }
}

fn block(text: &str) -> Block<'_> {
    text.lines().filter_map(|line| line.trim().split_once('=')).collect()
}

fn number<T: std::str::FromStr>(block: &Block, key: &str) -> Result<T, String> {
    block.get(key).and_then(|v| v.parse().ok()).ok_or_else(|| format!("`{key}` is missing or not a number"))
}

fn list<T: std::str::FromStr>(block: &Block, key: &str, length: usize) -> Result<Vec<T>, String> {
    let text = block.get(key).ok_or_else(|| format!("`{key}` is missing: the file is damaged"))?;
    let items: Result<Vec<T>, _> = text.split_whitespace().map(str::parse).collect();
    match items {
        Ok(items) if items.len() == length => Ok(items),
        _ => Err(format!("`{key}` is not {length} numbers: the file is damaged")),
    }
}

/// Inner nodes first, then leaves, as the file numbers them.
fn nodes(tree: &Block) -> Result<Vec<TreeNode>, String> {
    let leaves: usize = number(tree, "num_leaves")?;
    if tree.get("is_linear").is_some_and(|linear| *linear != "0") {
        return Err("linear leaves are not supported: train with linear_tree=false".into());
    }
    if tree.get("num_cat").is_some_and(|n| *n != "0") {
        return Err("categorical splits are not supported: encode categories as numbers before training".into());
    }
    let inner = leaves.checked_sub(1).ok_or("num_leaves is 0: the file is damaged")?;
    let values: Vec<f64> = list(tree, "leaf_value", leaves)?;
    if inner == 0 {
        return Ok(vec![TreeNode::Leaf { value: values[0], cover: 1.0 }]);
    }
    let leaf_cover: Vec<f64> = list(tree, "leaf_count", leaves)?;
    let inner_cover: Vec<f64> = list(tree, "internal_count", inner)?;
    let features: Vec<usize> = list(tree, "split_feature", inner)?;
    let thresholds: Vec<f64> = list(tree, "threshold", inner)?;
    let types: Vec<u8> = list(tree, "decision_type", inner)?;
    let (left, right): (Vec<i64>, Vec<i64>) = (list(tree, "left_child", inner)?, list(tree, "right_child", inner)?);
    // Leaf -1 stands behind the inner nodes; a wild number stays out of range and is found by the check of the tree.
    let child = |c: i64| if c >= 0 { c as usize } else { inner.saturating_add(c.unsigned_abs() as usize - 1) };
    let splits = (0..inner).map(|i| {
        let missing = match (types[i] & 1, types[i] >> 2 & 3) {
            (1, _) => return Err("categorical splits are not supported: encode categories as numbers".to_owned()),
            (_, 0) => Missing::None,
            (_, 1) => Missing::Zero,
            (_, 2) => Missing::NanTinyZero,
            _ => return Err(format!("decision_type {} is unknown: save the model with LightGBM 4", types[i])),
        };
        Ok(TreeNode::Split {
            feature: features[i],
            threshold: thresholds[i],
            default_left: types[i] & 2 != 0,
            missing,
            left: child(left[i]),
            right: child(right[i]),
            cover: inner_cover[i],
        })
    });
    let mut nodes = splits.collect::<Result<Vec<_>, String>>()?;
    nodes.extend(values.iter().zip(leaf_cover).map(|(value, cover)| TreeNode::Leaf { value: *value, cover }));
    Ok(nodes)
}
