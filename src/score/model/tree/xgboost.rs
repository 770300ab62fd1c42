//! XGBoost's JSON (`save_model("x.json")`, 1.6 to 3.x), objectives `binary:logistic` and `reg:logistic`.

use std::borrow::Cow;

use serde::Deserialize;

use super::{Ensemble, Library, Missing, Tree, TreeNode};

#[derive(Deserialize)]
struct File {
    learner: Learner,
}

#[derive(Deserialize)]
struct Learner {
    #[serde(default)]
    feature_names: Vec<String>,
    #[serde(default)]
    attributes: Attributes,
    gradient_booster: Booster,
    learner_model_param: LearnerParam,
    objective: Objective,
}

/// What training has noted; as strings, too.
#[derive(Default, Deserialize)]
struct Attributes {
    /// After early stopping: the last round that counts.
    best_iteration: Option<String>,
}

#[derive(Deserialize)]
struct Objective {
    name: String,
}

/// XGBoost writes parameters as strings.
#[derive(Deserialize)]
struct LearnerParam {
    base_score: String,
    #[serde(default)]
    num_class: String,
    num_feature: String,
    #[serde(default)]
    num_target: String,
}

#[derive(Deserialize)]
struct Booster {
    name: String,
    #[serde(default)]
    model: Option<BoosterModel>,
}

#[derive(Deserialize)]
struct BoosterModel {
    #[serde(default)]
    gbtree_model_param: TreeParam,
    trees: Vec<FileTree>,
}

#[derive(Default, Deserialize)]
struct TreeParam {
    #[serde(default)]
    num_parallel_tree: String,
}

#[derive(Deserialize)]
struct FileTree {
    left_children: Vec<i64>,
    right_children: Vec<i64>,
    split_indices: Vec<usize>,
    split_conditions: Vec<f32>,
    default_left: Vec<Flag>,
    #[serde(default)]
    sum_hessian: Vec<f64>,
    #[serde(default)]
    split_type: Vec<u8>,
}

/// 0/1 in newer versions, false/true in older ones.
#[derive(Deserialize)]
#[serde(untagged)]
enum Flag {
    Bool(bool),
    Number(u8),
}

/// Parses a model file. Of one with another objective the margin is taken, which the manifest must calibrate. Errors say what is not
/// supported and how to train it so that it is.
pub fn parse_xgboost(bytes: &[u8], calibrated: bool) -> Result<Ensemble, String> {
    let finite = without_infinity(bytes);
    let file: File = serde_json::from_slice(&finite)
        .map_err(|e| format!("not an XGBoost JSON model ({e}); save it with save_model(\"model.json\")"))?;
    let learner = file.learner;
    let objective = learner.objective.name;
    let logistic = objective == "binary:logistic" || objective == "reg:logistic";
    if !(logistic || calibrated && objective == "reg:squarederror") {
        return Err(format!(
            "objective {objective} gives no probability of fraud: train with binary:logistic, or, if a custom objective gives log odds, \
             say so by [calibration] method = \"platt\", a = 1.0, b = 0.0"
        ));
    }
    let param = learner.learner_model_param;
    let classes = [&param.num_class, &param.num_target].iter().any(|n| n.parse::<i64>().is_ok_and(|n| n > 1));
    if classes {
        return Err("several classes or targets are not supported: train one binary model".into());
    }
    let booster = learner.gradient_booster;
    let model = match booster.model {
        Some(model) if booster.name == "gbtree" => model,
        _ => return Err(format!("booster {} is not supported: train with booster=gbtree", booster.name)),
    };
    // What came after the best round of early stopping does not count.
    let best = learner.attributes.best_iteration.and_then(|round| round.parse::<usize>().ok());
    let per_round = model.gbtree_model_param.num_parallel_tree.parse::<usize>().unwrap_or(1).max(1);
    let counted = best.map_or(usize::MAX, |round| round.saturating_add(1).saturating_mul(per_round));
    let features: usize = param.num_feature.parse().map_err(|_| "num_feature is not a number".to_owned())?;
    let trees = model.trees.into_iter().take(counted).enumerate().map(|(i, tree)| {
        tree.nodes().and_then(|nodes| Tree::check(nodes, features)).map_err(|e| format!("tree {i}: {e}"))
    });
    let trees = trees.collect::<Result<_, String>>()?;
    Ok(Ensemble {
        library: Library::Xgboost,
        features,
        names: learner.feature_names,
        base: if logistic { base_margin(&param.base_score)? } else { base_score(&param.base_score)?.into() },
        slope: 1.0,
        trees,
    })
}

/// `base_score` is a probability, a number or (3.x) a list of one: `5E-1`, `[5E-1]`. Its log odds, in `f32` as XGBoost has it.
fn base_margin(text: &str) -> Result<f64, String> {
    let probability = base_score(text)?;
    if !(probability > 0.0 && probability < 1.0) {
        return Err(format!("base_score {text} is not a probability: train with base_score between 0 and 1"));
    }
    let odds = 1.0 / probability - 1.0;
    Ok(f64::from(-(libm::log(f64::from(odds)) as f32)))
}

fn base_score(text: &str) -> Result<f32, String> {
    let number = text.trim().trim_start_matches('[').trim_end_matches(']');
    number.parse().map_err(|_| format!("base_score {text} is not one number: several targets are not supported"))
}

/// XGBoost writes splits at infinity as `Infinity`, which is no JSON: the largest `f32` parts the same values.
fn without_infinity(bytes: &[u8]) -> Cow<'_, [u8]> {
    const WORD: &[u8] = b"Infinity";
    if !bytes.windows(WORD.len()).any(|window| window == WORD) {
        return Cow::Borrowed(bytes);
    }
    let (mut finite, mut at, mut quoted) = (Vec::with_capacity(bytes.len()), 0, false);
    while let Some(&byte) = bytes.get(at) {
        if !quoted && bytes[at..].starts_with(WORD) {
            finite.extend_from_slice(b"3.4028235e38");
            at += WORD.len();
            continue;
        }
        let escaped = quoted && byte == b'\\';
        finite.push(byte);
        if escaped && let Some(&next) = bytes.get(at + 1) {
            finite.push(next);
            at += 1;
        }
        quoted ^= byte == b'"';
        at += 1;
    }
    Cow::Owned(finite)
}

impl FileTree {
    fn nodes(&self) -> Result<Vec<TreeNode>, String> {
        let n = self.left_children.len();
        let lengths =
            [self.right_children.len(), self.split_indices.len(), self.split_conditions.len(), self.default_left.len()];
        if lengths.iter().any(|&length| length != n) || n == 0 {
            return Err("node lists differ in length: the file is damaged".into());
        }
        if self.split_type.iter().any(|&kind| kind != 0) {
            return Err("categorical splits are not supported: encode categories as numbers before training".into());
        }
        let node = |i: usize| {
            let cover = self.sum_hessian.get(i).copied().unwrap_or(0.0);
            if self.left_children[i] < 0 {
                return Ok(TreeNode::Leaf { value: f64::from(self.split_conditions[i]), cover });
            }
            let child = |c: i64| usize::try_from(c).map_err(|_| format!("node {i} has one child: the file is damaged"));
            Ok(TreeNode::Split {
                feature: self.split_indices[i],
                threshold: f64::from(self.split_conditions[i]),
                default_left: matches!(self.default_left[i], Flag::Bool(true) | Flag::Number(1..)),
                missing: Missing::Nan,
                left: child(self.left_children[i])?,
                right: child(self.right_children[i])?,
                cover,
            })
        };
        (0..n).map(node).collect()
    }
}
