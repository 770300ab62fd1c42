//! Logistic regression and mlp against a plain f64 reference; the thread settings.

use std::process::Command;

use deltawatch::score::model::{LoadedModel, Model, quantise, sigmoid, threads};

use super::fixture::{Draft, Layers, names, random_layers, safetensors, wild_rows};
use super::forest::assert_batch_free;

fn mean(i: usize) -> f64 {
    i as f64 * 0.01
}

fn std(i: usize) -> f64 {
    1.0 + (i % 3) as f64
}

const MISSING: f64 = 0.25;

/// The straightforward computation, all in f64.
fn reference(layers: &Layers, row: &[f64]) -> f64 {
    let fill = |x: f64| if x.is_nan() { MISSING } else { x };
    let mut x: Vec<f64> =
        row.iter().enumerate().map(|(i, x)| ((fill(*x) - mean(i)) / std(i)).clamp(-1e4, 1e4)).collect();
    for (at, (_, inputs, weights, bias)) in layers.iter().enumerate() {
        let output = |(weights, bias): (&[f32], &f32)| {
            let sum: f64 = weights.iter().zip(&x).map(|(w, x)| f64::from(*w) * x).sum::<f64>() + f64::from(*bias);
            if at + 1 < layers.len() { sum.max(0.0) } else { sum }
        };
        x = weights.chunks(*inputs).zip(bias).map(output).collect();
    }
    x[0]
}

/// A model of these layer widths and its weights.
pub fn dense(kind: &str, widths: &[usize], seed: u64) -> (LoadedModel, Layers) {
    let layers = random_layers(widths, seed);
    let name = |i: usize| if kind == "mlp" { format!("layers.{i}") } else { "linear".into() };
    let weights = ("weights.safetensors", safetensors(&layers, name));
    let extra = |i: usize| format!(", missing = {MISSING}, mean = {:?}, std = {:?}", mean(i), std(i));
    let row = wild_rows(widths[0], 1, 1).iter().map(|x| x.clamp(-9.0, 9.0)).collect::<Vec<_>>();
    let score = sigmoid(reference(&layers, &row));
    let mut draft = Draft::new(kind, &names(widths[0]), extra, weights).golden(&[(&row, score)]);
    if kind == "mlp" {
        let hidden = widths[1..widths.len() - 1].iter().map(|w| toml::Value::Integer(*w as i64)).collect();
        draft.manifest.insert("hidden".into(), toml::Value::Array(hidden));
    }
    (draft.load(), layers)
}

#[test]
fn equal_the_plain_reference() {
    for (kind, widths) in [
        ("logistic", &[1, 1][..]),
        ("logistic", &[13, 1]),
        ("logistic", &[200, 1]),
        ("mlp", &[5, 3, 1]),
        ("mlp", &[40, 33, 31, 1]),
        ("mlp", &[200, 128, 64, 1]),
    ] {
        let (model, layers) = dense(kind, widths, 11);
        for row in wild_rows(widths[0], 200, 12).chunks(widths[0]) {
            let (expected, found) = (reference(&layers, row), f64::from(model.raw_score(row)));
            // f32 has seven digits: beside an infinite feature (limited to 1e4) the others lose four of them.
            let huge = kind == "mlp" && row.iter().any(|x| x.abs() > 1e4);
            let tolerance = 1e-5 * (1.0 + expected.abs()) + if huge { 0.05 } else { 0.0 };
            assert!((expected - found).abs() <= tolerance, "{kind} {widths:?}: {found} for {expected}");
        }
    }
}

#[test]
fn batches_do_not_matter() {
    assert_batch_free(&dense("logistic", &[21, 1], 5).0, 6);
    assert_batch_free(&dense("mlp", &[37, 50, 9, 1], 5).0, 6);
}

/// One score of fixed weights, bit for bit: it fails where a compiler or machine sums in another order.
#[test]
fn the_order_of_summation_is_pinned() {
    let scores: Vec<u32> = [("logistic", &[203, 1][..]), ("mlp", &[203, 128, 64, 1])]
        .iter()
        .map(|(kind, widths)| dense(kind, widths, 21).0.raw_score(&vec![0.7; 203]).to_bits())
        .collect();
    assert_eq!(scores, PINNED, "{scores:#x?}");
}

const PINNED: [u32; 2] = [0x3e2e_4739, 0xbe85_9162];

#[test]
fn scores_are_quantised() {
    let cases =
        [(0.5, 0.5), (-1.0, 0.0), (2.0, 1.0), (1.0 / 16384.0, 1.0 / 16384.0), (0.00004, 1.0 / 16384.0), (0.00002, 0.0)];
    for (probability, expected) in cases {
        assert_eq!(quantise(probability), expected);
    }
    assert_eq!(quantise(f64::NAN), 1.0, "a broken score must be seen");
}

#[test]
fn a_trailing_part_of_a_row_is_ignored() {
    let (model, _) = dense("logistic", &[3, 1], 2);
    let mut scores = vec![9.0];
    model.score(&[1.0, 2.0], &mut scores);
    assert!(scores.is_empty());
    model.score(&[1.0, 2.0, 3.0, 4.0], &mut scores);
    assert_eq!(scores.len(), 1);
}

/// Starts this test alone in a process of its own, where no other thread reads the environment.
#[test]
fn threads_are_pinned() {
    const INNER: &str = "DELTAWATCH_TEST_PIN_THREADS";
    if std::env::var_os(INNER).is_some() {
        assert!(threads::check().is_err(), "the test must start unpinned");
        threads::pin_threads();
        assert_eq!(threads::check(), Ok(()));
        assert_eq!(candle_core::utils::get_num_threads(), 1);
        return;
    }
    let mut inner = Command::new(std::env::current_exe().unwrap());
    inner.args(["--exact", "models::dense::threads_are_pinned", "--test-threads=1"]).env(INNER, "1");
    threads::VARIABLES.iter().for_each(|variable| {
        inner.env_remove(variable);
    });
    let output = inner.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "the inner test did not run");
}
