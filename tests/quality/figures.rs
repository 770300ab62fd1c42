//! Figures from histograms, against counts of the scores themselves.

use deltawatch::score::quality::{
    LabelledScores, SCORE_BINS, VALUE_BINS, at_budget, confusion, psi, score_bin, value_bin,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Scores and labels of random transactions.
fn scored(seed: u64) -> Vec<(u16, Option<bool>)> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let one = |_| {
        let label = [None, Some(true), Some(false)][random.random_range(0..3)];
        let raised = if label == Some(true) { 6_000 } else { 0 };
        ((random.random_range(0..=16_384_u16) / 2 + raised).min(16_384), label)
    };
    (0..500).map(one).chain([(16_384, Some(true)), (0, Some(false))]).collect()
}

fn histogram(scored: &[(u16, Option<bool>)], label: Option<bool>) -> Vec<u64> {
    let mut bins = vec![0; SCORE_BINS];
    scored.iter().filter(|one| one.1 == label).for_each(|one| bins[score_bin(one.0)] += 1);
    bins
}

#[test]
fn matrices_at_every_threshold_and_budget_are_those_of_the_scores() {
    for seed in 0..10 {
        let all = scored(seed);
        let [fraud, legitimate, unknown] = [Some(true), Some(false), None].map(|label| histogram(&all, label));
        let scores = LabelledScores { fraud: &fraud, legitimate: &legitimate, unknown: &unknown };
        let count = |label, alert: bool, threshold: usize| {
            let alerts = |score: u16| usize::from(score) >= threshold * 256;
            all.iter().filter(|one| one.1 == label && alerts(one.0) == alert).count() as u64
        };
        for threshold in 0..SCORE_BINS {
            let matrix = confusion(&scores, threshold);
            assert_eq!(matrix.true_positives, count(Some(true), true, threshold), "at {threshold}");
            assert_eq!(matrix.false_negatives, count(Some(true), false, threshold), "at {threshold}");
            assert_eq!(matrix.false_positives, count(Some(false), true, threshold), "at {threshold}");
            assert_eq!(matrix.true_negatives, count(Some(false), false, threshold), "at {threshold}");
            assert_eq!(matrix.unknown_alerts, count(None, true, threshold), "at {threshold}");
            assert_eq!(matrix.unknown_rest, count(None, false, threshold), "at {threshold}");
        }
        assert_eq!(confusion(&scores, SCORE_BINS).alerts(), 0);
        for budget in [0, 1, 7, 50, 200, 501, 502, 10_000] {
            let figures = at_budget(&scores, budget);
            assert!(figures.matrix.alerts() <= budget);
            assert_eq!(figures.matrix, confusion(&scores, figures.threshold));
            if let Some(lower) = figures.threshold.checked_sub(1) {
                assert!(confusion(&scores, lower).alerts() > budget, "{budget} alerts allow a lower threshold");
            }
        }
    }
}

#[test]
fn precision_and_recall_leave_out_what_no_one_has_labelled() {
    let (fraud, legitimate, unknown) = ([0, 1, 3], [10, 4, 1], [100, 0, 5]);
    let scores = LabelledScores { fraud: &fraud, legitimate: &legitimate, unknown: &unknown };
    let matrix = confusion(&scores, 2);
    assert_eq!((matrix.precision(), matrix.recall(), matrix.alerts()), (Some(0.75), Some(0.75), 9));
    let matrix = confusion(&scores, 1);
    assert_eq!((matrix.precision(), matrix.recall(), matrix.alerts()), (Some(4.0 / 9.0), Some(1.0), 14));
    let nothing = confusion(&LabelledScores::default(), 1);
    assert_eq!((nothing.precision(), nothing.recall(), nothing.alerts()), (None, None, 0));
    // Nine alerts a day, and not thirteen.
    assert_eq!(at_budget(&scores, 13).threshold, 2);
}

#[test]
fn stability_is_nothing_for_equal_shares_and_grows_with_the_distance() {
    let close =
        |psi: Option<f64>, wanted: f64| assert!((psi.expect("both have some") - wanted).abs() < 1e-12, "{psi:?}");
    close(psi(&[10, 30], &[1, 3]), 0.0);
    // (0.4 - 0.5) ln(0.4 / 0.5) + (0.6 - 0.5) ln(0.6 / 0.5)
    close(psi(&[50, 50], &[40, 60]), 0.1 * (1.5_f64).ln());
    close(psi(&[40, 60], &[50, 50]), 0.1 * (1.5_f64).ln());
    // An empty bin counts as a share of 0.0001; bins behind the end are empty.
    let wanted = (1e-4 - 0.5) * (1e-4_f64 / 0.5).ln() + 0.5 * (2.0_f64).ln();
    close(psi(&[50, 50], &[0, 70]), wanted);
    close(psi(&[70], &[35, 35]), wanted);
    assert_eq!((psi(&[], &[1]), psi(&[1], &[0, 0])), (None, None));
}

#[test]
fn values_fall_into_bins_by_sign_and_magnitude() {
    let bins = [
        (f64::NAN, 0),
        (f64::NEG_INFINITY, 1),
        (-1.0, 1),
        (-0.999, 2),
        (-f64::MIN_POSITIVE, 2),
        (-0.0, 3),
        (0.0, 3),
        (f64::MIN_POSITIVE, 4),
        (0.499, 4),
        (0.5, 5),
        (1.0, 5),
        (2.0, 6),
        (7.9, 6),
        (8.0, 7),
        (64.0, 8),
        (1023.0, 8),
        (1024.0, 9),
        (f64::INFINITY, VALUE_BINS - 1),
    ];
    for (value, bin) in bins {
        assert_eq!(value_bin(value), bin, "{value}");
    }
    assert_eq!([0, 255, 256, 16_383, 16_384].map(score_bin), [0, 0, 1, 63, 63]);
}
