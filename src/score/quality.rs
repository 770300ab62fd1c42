//! How good a model is, and whether what it sees has changed: figures from histograms.
//!
//! A model's scores are counted in [`SCORE_BINS`] equal bins, apart for fraud, for legitimate transactions and for those that no one has
//! labelled yet. From that follow, with `t` a multiple of 1/64 and *alerts* the transactions that score `t` or more:
//!
//! * the confusion matrix at `t`; precision = fraud among labelled alerts, recall = alerts among fraud ([`confusion`]);
//! * the lowest `t` that raises no more than so many alerts, and what it finds ([`at_budget`]).
//!
//! Histograms add up: over days, over models, over labels. A *population stability index* says how far two of them are apart ([`psi`]).

/// Bins of a score; each is 1/64 wide.
pub const SCORE_BINS: usize = 64;

/// Bins of a feature's value ([`value_bin`]).
pub const VALUE_BINS: usize = 10;

/// What stands for the share of an empty bin, which has no logarithm.
const SHARE_MIN: f64 = 1e-4;

/// The bin of a score in 1/16384. A score of 1 is in the last one.
pub fn score_bin(score: u16) -> usize {
    usize::from(score >> 8).min(SCORE_BINS - 1)
}

/// The bin of a feature's value, by its sign and its binary magnitude: 0 missing, 1 up to -1, 2 negative above it, 3 zero, 4 positive
/// below 1/2, 5 below 2, 6 below 8, 7 below 64, 8 below 1024, 9 what is more. Flags, shares, counts and amounts each spread over some.
pub fn value_bin(value: f64) -> usize {
    match value {
        value if value.is_nan() => 0,
        value if value <= -1.0 => 1,
        value if value < 0.0 => 2,
        0.0 => 3,
        value => 4 + [0.5, 2.0, 8.0, 64.0, 1024.0].iter().filter(|edge| value >= **edge).count(),
    }
}

/// Scores of one model, by what the transactions turned out to be. Bins behind the end of a slice are empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LabelledScores<'a> {
    /// Of fraud.
    pub fraud: &'a [u64],
    /// Of legitimate transactions.
    pub legitimate: &'a [u64],
    /// Of those that have no label yet.
    pub unknown: &'a [u64],
}

/// What a threshold makes of transactions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConfusionMatrix {
    /// Fraud that raises an alert.
    pub true_positives: u64,
    /// Legitimate transactions that do.
    pub false_positives: u64,
    /// Fraud that raises none.
    pub false_negatives: u64,
    /// Legitimate transactions that raise none.
    pub true_negatives: u64,
    /// Transactions without a label that raise an alert.
    pub unknown_alerts: u64,
    /// Transactions without a label that raise none.
    pub unknown_rest: u64,
}

impl ConfusionMatrix {
    /// All alerts, those without a label included.
    pub fn alerts(&self) -> u64 {
        self.true_positives + self.false_positives + self.unknown_alerts
    }

    /// The share of fraud among the alerts that have a label; `None` if none has one.
    pub fn precision(&self) -> Option<f64> {
        share(self.true_positives, self.true_positives + self.false_positives)
    }

    /// The share of known fraud that raises an alert; `None` if there is no known fraud.
    pub fn recall(&self) -> Option<f64> {
        share(self.true_positives, self.true_positives + self.false_negatives)
    }
}

/// What a budget of alerts makes of transactions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BudgetFigures {
    /// The threshold, in 1/64; [`SCORE_BINS`] raises no alert at all.
    pub threshold: usize,
    /// What it makes of them.
    pub matrix: ConfusionMatrix,
}

/// The confusion matrix at the threshold `threshold / 64`.
pub fn confusion(scores: &LabelledScores<'_>, threshold: usize) -> ConfusionMatrix {
    let split = |bins: &[u64]| {
        let (below, above) = bins.split_at(threshold.min(bins.len()));
        (above.iter().sum(), below.iter().sum())
    };
    let (true_positives, false_negatives) = split(scores.fraud);
    let (false_positives, true_negatives) = split(scores.legitimate);
    let (unknown_alerts, unknown_rest) = split(scores.unknown);
    ConfusionMatrix { true_positives, false_positives, false_negatives, true_negatives, unknown_alerts, unknown_rest }
}

/// The lowest threshold that raises at most so many alerts: for the scores of a day, alerts a day; for those of `n` days give `n` times
/// as many. A bin is never split, so it may raise fewer.
pub fn at_budget(scores: &LabelledScores<'_>, alerts_max: u64) -> BudgetFigures {
    let figures = |threshold| BudgetFigures { threshold, matrix: confusion(scores, threshold) };
    let within = (0..SCORE_BINS).map(figures).find(|figures| figures.matrix.alerts() <= alerts_max);
    within.unwrap_or_else(|| figures(SCORE_BINS))
}

/// The population stability index of a histogram against a reference one: the sum over bins of `(a - r) * ln(a / r)`, with `a` and `r` the
/// shares of the bin; an empty bin counts as a share of 0.0001. It is symmetric, and 0 for equal shares. By convention less than 0.1 is no
/// change, more than 0.25 a large one (N. Siddiqi, *Credit Risk Scorecards*, Wiley 2006). `None` if either is empty.
///
/// Of a rule, hits and what it does not hit are a histogram of two bins.
pub fn psi(reference: &[u64], actual: &[u64]) -> Option<f64> {
    let (all_reference, all_actual) = (reference.iter().sum::<u64>(), actual.iter().sum::<u64>());
    let term = |bin: usize| {
        let share =
            |bins: &[u64], all| share(bins.get(bin).copied().unwrap_or(0), all).map(|share| share.max(SHARE_MIN));
        let (reference, actual) = (share(reference, all_reference)?, share(actual, all_actual)?);
        Some((actual - reference) * libm::log(actual / reference))
    };
    let bins = reference.len().max(actual.len()).max(1);
    (0..bins).map(term).sum()
}

fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}
