//! Binding a model to a dataflow's columns, and finding versions.

use std::fs;

use deltawatch::score::model::{Model, ModelDir};

use super::dense::dense;
use super::fixture::{forest, names, table};

#[test]
fn columns_are_picked_by_name() {
    let model = forest("xgboost", "depth6");
    let (width, rows) = table("rows.csv.gz");
    // The dataflow has the features backwards, with a column between each two.
    let columns: Vec<String> =
        names(width).into_iter().rev().flat_map(|name| [format!("other_{name}"), name]).collect();
    let wide: Vec<f64> = rows.chunks(width).flat_map(|row| row.iter().rev().flat_map(|x| [7.5, *x])).collect();
    let bound = model.bind(&columns).unwrap();
    assert_eq!((bound.width(), bound.label()), (2 * width, "toy@1"));
    let (mut scores, mut expected) = (Vec::new(), Vec::new());
    bound.score(&wide, &mut scores);
    model.score(&rows, &mut expected);
    assert_eq!(scores.len(), 1000);
    assert_eq!(scores, expected);
    // A reason's index is a column of the dataflow.
    let reasons = bound.reasons(&wide[..2 * width], 3);
    for ((column, a), (feature, b)) in reasons.iter().zip(model.reasons(&rows[..width], 3)) {
        assert_eq!((&columns[*column], *a), (&names(width)[feature], b));
    }
    assert_eq!(reasons.len(), 3);
}

#[test]
fn absent_features_are_named_with_the_nearest() {
    let model = dense("logistic", &[3, 1], 4).0;
    let columns = ["f0", "f2", "f1_7d", "amount"].map(str::to_owned);
    let error = model.bind(&columns).err().unwrap().to_string();
    assert_eq!(
        error,
        "model toy@1 needs `f1` (nearest here: `f0`), which the dataflow does not compute; \
         retrain it on this dataflow's features or choose another with --model"
    );
    let model = forest("xgboost", "depth6");
    let columns = (0..10).map(|i| if i == 3 { "x".repeat(30) } else { format!("card_count_{i}h") }).collect::<Vec<_>>();
    let error = model.bind(&columns).err().unwrap().to_string();
    assert!(!error.contains("nearest"), "nothing is near: {error}");
    let error = model.bind(&["amount".to_owned()]).err().unwrap().to_string();
    assert!(error.contains("needs `f0`, `f1`, `f2` and 7 more, which"), "{error}");
    assert!(model.bind(&[]).is_err());
}

#[test]
fn the_highest_version_is_found() {
    let dir = tempfile::tempdir().unwrap();
    for version in ["payments/2", "payments/10", "payments/old", "payments/007", "cards/1", "empty"] {
        fs::create_dir_all(dir.path().join(version)).unwrap();
    }
    let find = |wanted: &str| ModelDir::find(dir.path(), wanted).map_err(|e| e.to_string());
    assert_eq!(find("payments"), Ok(dir.path().join("payments/10")));
    assert_eq!(find("payments@2"), Ok(dir.path().join("payments/2")));
    for (wanted, said) in [
        ("payments@3", "there are versions 2, 10"),
        ("payments@x", "version `x` is not a whole number"),
        ("payment", "there are cards, payments"),
        ("payment@1", "there are cards, payments"),
        ("empty", "there are cards, payments"),
        ("../secret", "write NAME or NAME@VERSION"),
        ("", "write NAME or NAME@VERSION"),
    ] {
        let error = find(wanted).unwrap_err();
        assert!(error.contains(said) && error.contains(wanted), "{wanted}: {error}");
    }
    let error = ModelDir::find(&dir.path().join("none"), "payments").unwrap_err().to_string();
    assert!(error.contains("scripts/train.py"), "{error}");
}
