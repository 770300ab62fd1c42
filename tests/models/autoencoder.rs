//! Autoencoders and isotonic calibration against plain references.

use deltawatch::score::model::{LoadedModel, Model, quantise};

use super::fixture::{Draft, Layers, names, random_layers, safetensors, wild_rows};
use super::forest::assert_batch_free;

const MARGINS: [f64; 4] = [0.5, 1.0, 2.0, 8.0];
const PROBABILITIES: [f64; 4] = [0.0, 0.25, 0.25, 0.875];

/// Mean and deviation of every feature, and what stands for a missing value.
const SCALE: (f64, f64, f64) = (0.5, 2.0, 0.25);

/// Each value's squared error, all in f64.
fn errors(layers: &Layers, row: &[f64]) -> Vec<f64> {
    let (mean, std, missing) = SCALE;
    let scaled = |x: &f64| ((if x.is_nan() { missing } else { *x } - mean) / std).clamp(-1e4, 1e4);
    let given: Vec<f64> = row.iter().map(scaled).collect();
    let mut x = given.clone();
    for (at, (_, inputs, weights, bias)) in layers.iter().enumerate() {
        let output = |(weights, bias): (&[f32], &f32)| {
            let sum: f64 = weights.iter().zip(&x).map(|(w, x)| f64::from(*w) * x).sum::<f64>() + f64::from(*bias);
            if at + 1 < layers.len() { sum.max(0.0) } else { sum }
        };
        x = weights.chunks(*inputs).zip(bias).map(output).collect();
    }
    given.iter().zip(x).map(|(given, x)| (given - x).clamp(-10.0, 10.0).powi(2)).collect()
}

/// Where a line through the points is.
fn isotonic(margin: f64) -> f64 {
    if margin <= MARGINS[0] {
        return PROBABILITIES[0];
    }
    for at in 1..MARGINS.len() {
        if margin <= MARGINS[at] {
            let slope = (PROBABILITIES[at] - PROBABILITIES[at - 1]) / (MARGINS[at] - MARGINS[at - 1]);
            return PROBABILITIES[at - 1] + slope * (margin - MARGINS[at - 1]);
        }
    }
    PROBABILITIES[MARGINS.len() - 1]
}

fn draft(widths: &[usize], seed: u64) -> (Draft, Layers) {
    let layers = random_layers(widths, seed);
    let weights = ("weights.safetensors", safetensors(&layers, |i| format!("layers.{i}")));
    let (mean, std, missing) = SCALE;
    let extra = |_| format!(", missing = {missing}, mean = {mean:?}, std = {std:?}");
    let row: Vec<f64> = (0..widths[0]).map(|i| (i as f64 * 0.7).sin()).collect();
    let error = errors(&layers, &row).iter().sum::<f64>() / widths[0] as f64;
    let mut draft = Draft::new("autoencoder", &names(widths[0]), extra, weights).golden(&[(&row, isotonic(error))]);
    let hidden = widths[1..widths.len() - 1].iter().map(|width| toml::Value::Integer(*width as i64)).collect();
    draft.manifest.insert("hidden".into(), toml::Value::Array(hidden));
    let calibration = format!("method = \"isotonic\"\nmargins = {MARGINS:?}\nprobabilities = {PROBABILITIES:?}");
    let calibration = toml::from_str(&calibration).expect("a table");
    draft.manifest.insert("calibration".into(), toml::Value::Table(calibration));
    (draft, layers)
}

fn autoencoder(widths: &[usize], seed: u64) -> (LoadedModel, Layers) {
    let (draft, layers) = draft(widths, seed);
    (draft.load(), layers)
}

#[test]
fn errors_equal_the_plain_reference_and_add_up() {
    for widths in [&[5, 3, 5][..], &[40, 33, 8, 33, 40], &[200, 64, 200]] {
        let (model, layers) = autoencoder(widths, 3);
        for row in wild_rows(widths[0], 100, 4).chunks(widths[0]) {
            let errors = errors(&layers, row);
            let margin = errors.iter().sum::<f64>() / errors.len() as f64;
            let found = f64::from(model.raw_score(row));
            // Beside an infinite feature (limited to 1e4) the others lose digits of f32.
            let tolerance = if row.iter().any(|x| x.abs() > 1e4) { 2.0 } else { 1e-3 * (1.0 + margin) };
            assert!((margin - found).abs() <= tolerance, "{widths:?}: {found} for {margin}");
            let mut scores = Vec::new();
            model.score(row, &mut scores);
            assert!((scores[0] - quantise(isotonic(f64::from(model.raw_score(row))))).abs() < 1e-4);
            let sum: f64 = model.reasons(row, row.len()).iter().map(|(_, error)| error).sum();
            assert!((sum - found).abs() <= 1e-5 * (1.0 + found), "contributions add up to {sum}, not {found}");
        }
    }
    assert_batch_free(&autoencoder(&[37, 9, 37], 5).0, 6);
}

#[test]
fn wrong_ones_are_refused() {
    let wrong = |change: &dyn Fn(&mut Draft), says: &str| {
        let (mut draft, _) = draft(&[5, 3, 5], 1);
        change(&mut draft);
        let (_folder, path) = draft.write();
        let error = deltawatch::score::model::ModelDir::load(&path).map(|_| ()).expect_err("it is wrong").to_string();
        assert!(error.contains(says), "{error}");
    };
    let isotonic = |margins: &str, probabilities: &str| {
        let text = format!("method = \"isotonic\"\nmargins = {margins}\nprobabilities = {probabilities}");
        toml::Value::Table(toml::from_str(&text).expect("a table"))
    };
    let reason = "isotonic takes as many margins as probabilities";
    for (margins, probabilities) in [
        ("[]", "[]"),
        ("[1.0, 2.0]", "[0.5]"),
        ("[2.0, 1.0]", "[0.1, 0.5]"),
        ("[1.0, 1.0]", "[0.1, 0.5]"),
        ("[1.0, inf]", "[0.1, 0.5]"),
        ("[1.0, 2.0]", "[0.5, 0.1]"),
        ("[1.0, 2.0]", "[0.5, 1.5]"),
        ("[1.0, 2.0]", "[nan, 0.5]"),
    ] {
        let calibration = isotonic(margins, probabilities);
        wrong(&|draft| drop(draft.manifest.insert("calibration".into(), calibration.clone())), reason);
    }
    wrong(&|draft| drop(draft.manifest.remove("calibration")), "the error of an autoencoder is no log odds");
    wrong(&|draft| drop(draft.manifest.remove("hidden")), "hidden lists the widths of the hidden layers");
    let narrow = toml::Value::Array(vec![toml::Value::Integer(4)]);
    wrong(&|draft| drop(draft.manifest.insert("hidden".into(), narrow.clone())), "the weights do not fit model.toml");
}
