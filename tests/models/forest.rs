//! Forests against the libraries that trained them, 1000 rows each: missing, infinite, tiny, huge values and thresholds.

use deltawatch::score::model::forest::Forest;
use deltawatch::score::model::tree::{Runnable, parse_lightgbm, parse_xgboost};
use deltawatch::score::model::{LoadedModel, Model, SCORE_STEPS};

use super::fixture::{forest, names, table, unpack, wild_rows};

const ROWS: usize = 1000;

#[test]
fn xgboost_is_bit_exact() {
    for name in ["depth6", "depth12"] {
        let model = forest("xgboost", name);
        let (width, rows) = table("rows.csv.gz");
        let (_, expected) = table(&format!("xgboost/{name}.expected.csv.gz"));
        assert_eq!(rows.len(), width * ROWS);
        assert!(
            rows.iter().filter(|x| x.is_nan()).count() > 100 && rows.iter().filter(|x| x.is_infinite()).count() > 50
        );
        let mut others = 0;
        for (i, (row, expected)) in rows.chunks(width).zip(expected.chunks(2)).enumerate() {
            let (margin, probability) = (expected[0] as f32, expected[1] as f32);
            assert_eq!(model.raw_score(row).to_bits(), margin.to_bits(), "{name} row {i}: {margin}");
            // XGBoost calls the C library's expf, which differs between machines in the last bit; ours does not.
            let ulps = (model.probability(row) as f32).to_bits().abs_diff(probability.to_bits());
            assert!(ulps <= 1, "{name} row {i}: {ulps} units in the last place");
            others += ulps;
        }
        assert!(others <= 5, "{name}: {others} probabilities differ in the last bit");
    }
}

#[test]
fn lightgbm_is_within_1e_5() {
    for name in ["nan", "zero", "none"] {
        let model = forest("lightgbm", name);
        let (width, rows) = table("rows.csv.gz");
        let (_, expected) = table(&format!("lightgbm/{name}.expected.csv.gz"));
        assert_eq!(expected.len(), 2 * ROWS);
        let text = String::from_utf8(unpack(&format!("lightgbm/{name}.txt.gz"))).unwrap();
        let Runnable::Double(exact) = parse_lightgbm(&text, false).unwrap().compile() else { panic!("not in f64") };
        let margins = Runnable::Double(exact).margins(rows.clone(), width).unwrap();
        for (i, (row, expected)) in rows.chunks(width).zip(expected.chunks(2)).enumerate() {
            assert_eq!(margins[i], expected[0], "{name} row {i}: the sums are even bit-exact");
            assert!((f64::from(model.raw_score(row)) - expected[0]).abs() <= 1e-5, "{name} row {i}");
            assert!((model.probability(row) - expected[1]).abs() <= 1e-5, "{name} row {i}");
        }
    }
}

/// The shallow forest laid out both ways gives the same bits.
#[test]
fn layouts_agree() {
    let shallow = parse_xgboost(&unpack("xgboost/depth6.json.gz"), false).unwrap();
    let deep = parse_xgboost(&unpack("xgboost/depth12.json.gz"), false).unwrap();
    assert!(Forest::<f32>::new(10, 0.0, &shallow.trees).is_complete());
    assert!(!Forest::<f32>::new(10, 0.0, &deep.trees).is_complete());
    // One deep tree at the end makes the whole forest sparse; without leaves of weight it changes nothing but the layout.
    let mut mixed = shallow.clone();
    mixed.trees.push(deep.trees[0].clone());
    let (width, rows) = table("rows.csv.gz");
    let a = shallow.compile().margins(rows.clone(), width).unwrap();
    let b = mixed.compile().margins(rows.clone(), width).unwrap();
    let mut last = deep.clone();
    last.trees.truncate(1);
    last.base = 0.0;
    let c = last.compile().margins(rows, width).unwrap();
    for ((a, b), c) in a.iter().zip(&b).zip(&c) {
        assert_eq!((*a as f32 + *c as f32).to_bits(), (*b as f32).to_bits());
    }
}

/// Scores of `rows` in batches of the given sizes, repeated.
pub fn in_batches(model: &dyn Model, rows: &[f64], sizes: &[usize]) -> Vec<f64> {
    let (mut all, mut scores, mut rest) = (Vec::new(), Vec::new(), rows);
    for size in sizes.iter().cycle() {
        let (batch, after) = rest.split_at((size * model.width()).min(rest.len()));
        model.score(batch, &mut scores);
        all.extend_from_slice(&scores);
        rest = after;
        if rest.is_empty() {
            return all;
        }
    }
    all
}

pub fn assert_batch_free(model: &LoadedModel, seed: u64) {
    let rows = wild_rows(model.width(), 257, seed);
    let bits = |scores: Vec<f64>| scores.into_iter().map(f64::to_bits).collect::<Vec<_>>();
    let one = in_batches(model, &rows, &[1]);
    assert_eq!(one.len(), 257);
    assert!(one.iter().all(|s| (0.0..=1.0).contains(s) && (s * SCORE_STEPS).fract() == 0.0));
    assert!(one.windows(2).any(|pair| pair[0] != pair[1]), "all scores are equal: the test shows nothing");
    for sizes in [&[64][..], &[257], &[3, 1, 17, 8], &[5, 64, 2]] {
        assert_eq!(bits(in_batches(model, &rows, sizes)), bits(one.clone()), "batches of {sizes:?}");
    }
    let bits_of = || -> Vec<u32> { rows.chunks(model.width()).map(|row| model.raw_score(row).to_bits()).collect() };
    let again = std::thread::scope(|scope| {
        let thread = scope.spawn(bits_of);
        thread.join().unwrap()
    });
    assert_eq!(bits_of(), again);
}

#[test]
fn batches_do_not_matter() {
    for (library, name) in [("xgboost", "depth6"), ("xgboost", "depth12"), ("lightgbm", "nan"), ("lightgbm", "zero")] {
        assert_batch_free(&forest(library, name), 3);
    }
}

/// A valid XGBoost file changed in one place, and a part of what must be said about it.
#[test]
fn unsupported_xgboost_is_named() {
    let good = String::from_utf8(unpack("xgboost/depth6.json.gz")).unwrap();
    let cases = [
        ("\"name\":\"binary:logistic\"", "\"name\":\"multi:softprob\"", "objective multi:softprob"),
        ("\"num_class\":\"0\"", "\"num_class\":\"3\"", "several classes"),
        ("\"num_target\":\"1\"", "\"num_target\":\"2\"", "several classes or targets"),
        ("\"name\":\"gbtree\"", "\"name\":\"dart\"", "booster dart"),
        ("\"split_type\":[0", "\"split_type\":[1", "categorical"),
        ("\"base_score\":\"[", "\"base_score\":\"[2", "base_score"),
        ("\"left_children\":[1", "\"left_children\":[0", "reached twice"),
        ("\"left_children\":[1", "\"left_children\":[99999", "does not exist"),
        ("\"split_indices\":[", "\"split_indices\":[99", "of 10"),
        ("{\"learner\"", "{\"leaner\"", "not an XGBoost JSON model"),
    ];
    for (from, to, said) in cases {
        assert!(good.contains(from), "{from} is not in the fixture");
        let error = parse_xgboost(good.replacen(from, to, 1).as_bytes(), false).unwrap_err();
        assert!(error.contains(said) && !error.contains('\n'), "{to}: {error}");
    }
    for cut in [0, 1, 1000, good.len() / 2] {
        parse_xgboost(&good.as_bytes()[..cut], false).unwrap_err();
    }
}

#[test]
fn unsupported_lightgbm_is_named() {
    let good = String::from_utf8(unpack("lightgbm/nan.txt.gz")).unwrap();
    let cases = [
        ("num_class=1", "num_class=3", "several classes"),
        ("objective=binary sigmoid:1", "objective=regression", "objective regression"),
        ("num_cat=0", "num_cat=1", "categorical"),
        ("decision_type=10", "decision_type=11", "categorical"),
        ("decision_type=10", "decision_type=12", "decision_type 12"),
        ("is_linear=0", "is_linear=1", "linear"),
        ("left_child=1", "left_child=0", "reached twice"),
        ("left_child=1", "left_child=-9223372036854775808", "does not exist"),
        ("num_leaves=31", "num_leaves=0", "num_leaves"),
        ("num_leaves=31", "num_leaves=32", "32 numbers"),
        ("end of trees", "end", "cut off"),
        ("tree\n", "", "not a LightGBM"),
    ];
    for (from, to, said) in cases {
        assert!(good.contains(from), "{from} is not in the fixture");
        let error = parse_lightgbm(&good.replacen(from, to, 1), false).unwrap_err();
        assert!(error.contains(said) && !error.contains('\n'), "{to}: {error}");
    }
}

/// A forest whose trees are single leaves (LightGBM writes them when nothing is worth a split).
#[test]
fn a_stump_without_splits() {
    let text = "tree\nnum_class=1\nnum_tree_per_iteration=1\nmax_feature_idx=1\nobjective=binary sigmoid:1\n\
                feature_names=f0 f1\n\nTree=0\nnum_leaves=1\nnum_cat=0\nleaf_value=-1.5\n\nend of trees\n";
    let ensemble = parse_lightgbm(text, false).unwrap();
    assert_eq!(ensemble.names, names(2));
    assert_eq!(ensemble.compile().margins(vec![f64::NAN, 1.0, 2.0, 3.0], 2).unwrap(), vec![-1.5, -1.5]);
}

/// What else a file may say, and what it means to the library that wrote it.
#[test]
fn files_say_more_than_trees() {
    let good = String::from_utf8(unpack("xgboost/depth6.json.gz")).unwrap();
    let whole = parse_xgboost(good.as_bytes(), false).unwrap();
    // After early stopping the rounds up to the best one count.
    let attributes = good.replacen("\"attributes\":{", "\"attributes\":{\"best_iteration\":\"4\",", 1);
    let attributes = attributes.replace("\"4\",}", "\"4\"}");
    assert_ne!(attributes, good);
    let stopped = parse_xgboost(attributes.as_bytes(), false).unwrap();
    assert_eq!((stopped.trees.len(), &stopped.trees[..]), (5, &whole.trees[..5]));
    // A split at infinity: every number is below it.
    let at = good.find("\"split_conditions\":[").unwrap() + "\"split_conditions\":[".len();
    let end = at + good[at..].find(',').unwrap();
    let infinite = format!("{}Infinity{}", &good[..at], &good[end..]);
    let split = parse_xgboost(infinite.as_bytes(), false).unwrap();
    let (width, _) = table("rows.csv.gz");
    let left = |value: f64| split.clone().compile().margins(vec![value; width], width).unwrap()[0];
    assert!(left(1e30).is_finite() && split.trees[1..] == whole.trees[1..]);
    // A custom objective gives a margin, if the manifest says what it means.
    let custom = good.replacen("\"name\":\"binary:logistic\"", "\"name\":\"reg:squarederror\"", 1);
    let refused = parse_xgboost(custom.as_bytes(), false).unwrap_err();
    assert!(refused.contains("[calibration] method = \"platt\""), "{refused}");
    assert_eq!(parse_xgboost(custom.as_bytes(), true).unwrap().trees, whole.trees);
    // LightGBM: names of its own making, and no objective.
    let good = String::from_utf8(unpack("lightgbm/nan.txt.gz")).unwrap();
    let line = good.lines().find(|line| line.starts_with("feature_names=")).unwrap();
    let count = line.split_whitespace().count();
    let given: Vec<String> = (0..count).map(|place| format!("Column_{place}")).collect();
    let unnamed = good.replacen(line, &format!("feature_names={}", given.join(" ")), 1);
    assert!(parse_lightgbm(&unnamed, false).unwrap().names.is_empty());
    let custom = good.lines().filter(|line| !line.starts_with("objective=")).collect::<Vec<_>>().join("\n");
    assert!(parse_lightgbm(&custom, false).unwrap_err().contains("platt"));
    assert_eq!(parse_lightgbm(&custom, true).unwrap().trees, parse_lightgbm(&good, false).unwrap().trees);
}
