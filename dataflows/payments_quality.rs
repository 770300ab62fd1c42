//! How good are the models and rules of `payments`, and has what they see changed?
//!
//! `payments`, with its features, model and schema, and three collections about it, per day of event time (UTC). They follow labels that
//! come weeks after their payments, change or are withdrawn, revised scores, and payments that are corrected, withdrawn or expire:
//!
//! ```text
//!  findings() ─┬─► scores by model, day, label ─────────────► counted ─► model_quality   model|day|label   -> 64 bins
//!              ├─► hits by rule, day ───────────────────────► counted ─► rule_quality    rule|day          -> counts, money
//!              └─► a sample ─ join ─► bins by column, day ──► counted ─► drift           column|day        -> 10 bins
//!  sampled_rows() ─────────────┘
//! ```
//!
//! * `model_quality`: a model's scores as they are now, in 64 equal bins, apart for `fraud`, `legitimate` and `unknown`. Confusion matrices,
//!   precision and recall at thresholds and budgets of alerts, and the drift of scores follow from them: `score::quality` has the formulas.
//! * `rule_quality`: what a rule hits and, in shadow, would hit, by label, with the money. The rule `*` is all payments: what a share
//!   is a share of.
//! * `drift`: the values of a column that the champion reads, in bins of sign and binary magnitude, of one payment in `sample`.
//!
//! A day whose payments are all gone has no records.
//!
//! ```text
//! deltawatch replay --dataflow payments_quality --input generator --events 20000 --output - | grep model_quality
//! ```

use std::collections::{BTreeMap, HashMap};

use deltawatch::dataflow::prelude::*;
use deltawatch::dataflow::{Finding, Hindsight, is_sampled};
use deltawatch::score::control::Deployments;
use deltawatch::score::quality::{SCORE_BINS, VALUE_BINS, score_bin, value_bin};
use differential_dataflow::operators::CountTotal;
use serde::{Deserialize, Serialize};

use super::payments::Payments;

const DAY_MS: i64 = 86_400_000;
/// Stands for all payments among the numbers of rules.
const ALL: u32 = u32::MAX;
/// Figures of a rule: hits and shadow hits, by label, as a count and as money.
const FIGURES: usize = 2 * LABELS.len() * 2;
/// What is known of a payment, in the order of its place among figures.
const LABELS: [&str; 3] = ["fraud", "legitimate", "unknown"];

/// The dataflow.
pub struct PaymentsQuality;

/// How many, and how much money.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
struct Sum {
    count: i64,
    minor: i64,
}

/// Payments by what they turned out to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
struct ByLabel {
    fraud: Sum,
    legitimate: Sum,
    unknown: Sum,
}

/// What a rule has hit on a day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
struct RuleFigures {
    hits: ByLabel,
    shadow: ByLabel,
}

impl Dataflow for PaymentsQuality {
    fn name(&self) -> &'static str {
        "payments_quality"
    }

    fn about(&self) -> &'static str {
        "How good are the models and rules of payments, and has what they see changed? While labels come late."
    }

    fn schema(&self) -> &'static str {
        Payments.schema()
    }

    fn model(&self) -> Option<&'static str> {
        Payments.model()
    }

    fn parameters(&self) -> Vec<Parameter> {
        vec![Parameter { key: "sample", about: "one payment in so many counts for drift", default: "64" }]
    }

    fn features(&self, setup: &Setup) -> Result<FeatureSet, BuildError> {
        Payments.features(setup)
    }

    fn build(&self, context: &mut Context<'_>) -> Result<(), BuildError> {
        let features = context.features()?;
        context.score(&features)?;
        let (amount, sample) = (context.setup().slot("amount")?, sample(context.setup())?);
        let (models, rules) = (context.deployments(), context.deployments());
        let findings = context.findings(&features);

        // 1. Scores. What a payment adds stands in its diff, so that only sums are kept.
        let scores = findings.clone().explode(|(_, found)| {
            let (day, label) = (day(&found), label(&found) as u8);
            let score = move |&(model, score): &(u16, u16)| ((model, day, label), one_of(score_bin(score)));
            found.opinion.scores.iter().map(score).collect::<Vec<_>>()
        });
        let by_model = scores.count_total().map(move |((model, day, label), bins)| {
            let model = models.model(model).unwrap_or_default();
            (format!("{model}|{}|{}", date(day), LABELS[usize::from(label)]), histogram(&bins, SCORE_BINS))
        });
        context.output("model_quality", by_model);

        // 2. Rules.
        let hits = findings.clone().explode(move |(_, found)| {
            let (day, minor) = (day(&found), found.event.int(amount).unwrap_or(0) as isize);
            let place = |shadow: usize| (shadow * LABELS.len() + label(&found)) * 2;
            let figures = move |at: usize| {
                let mut figures = vec![0; FIGURES];
                (figures[at], figures[at + 1]) = (1, minor);
                figures
            };
            let (hit, shadow) = (figures(place(0)), figures(place(1)));
            let hits = found.opinion.rules.iter().chain([&ALL]).map(|rule| ((*rule, day), hit.clone()));
            hits.chain(found.opinion.shadow.iter().map(|rule| ((*rule, day), shadow.clone()))).collect::<Vec<_>>()
        });
        let by_rule = hits.count_total().map(move |((rule, day), figures)| {
            (format!("{}|{}", rule_name(&rules, rule), date(day)), RuleFigures::of(&figures))
        });
        context.output("rule_quality", by_rule);

        // 3. Values of the columns that the champion reads.
        let rows = context.sampled_rows(&features, sample)?;
        let (columns, deployments) = (features.columns.clone(), context.deployments());
        let sampled = findings.filter(move |(id, _)| is_sampled(id, sample));
        let sampled = sampled.map(|(id, found)| (id, (day(&found), found.opinion.champion, deployment(&found))));
        let values = rows.join_map(sampled, |_, row, of| (*of, row.clone()));
        // By model: a deployment may be forgotten before its last payment goes.
        let mut read: HashMap<u16, Vec<u16>> = HashMap::new();
        let values = values.explode(move |((day, champion, deployment), row)| {
            let read = read.entry(champion).or_insert_with(|| reads(&deployments, (champion, deployment), &columns));
            let bin = |column: &u16| one_of(value_bin(f64::from_bits(row[usize::from(*column)])));
            read.iter().map(|column| ((*column, day), bin(column))).collect::<Vec<_>>()
        });
        let columns = features.columns.clone();
        let by_column = values.count_total().map(move |((column, day), bins)| {
            (format!("{}|{}", columns[usize::from(column)], date(day)), histogram(&bins, VALUE_BINS))
        });
        context.output("drift", by_column);
        Ok(())
    }

    fn oracle_with(&self, setup: &Setup, hindsight: &Hindsight) -> Vec<(String, String)> {
        let (Ok(amount), Ok(sample)) = (setup.slot("amount"), sample(setup)) else { return Vec::new() };
        let Hindsight { findings, rows, columns, deployments, .. } = hindsight;
        let (mut histograms, mut rules) = (BTreeMap::new(), BTreeMap::new());
        let mut count = |key: String, bin: usize, bins: usize| {
            histograms.entry(key).or_insert_with(|| vec![0_u64; bins])[bin] += 1;
        };
        for (id, found) in findings {
            let (date, label) = (date(day(found)), LABELS[label(found)]);
            for (model, score) in &found.opinion.scores {
                let model = deployments.model(*model).unwrap_or_default();
                count(format!("{model}|{date}|{label}"), score_bin(*score), SCORE_BINS);
            }
            let minor = found.event.int(amount).unwrap_or(0);
            let mut hit = |rule: u32, of: fn(&mut RuleFigures) -> &mut ByLabel| {
                let figures: &mut RuleFigures =
                    rules.entry(format!("{}|{date}", rule_name(deployments, rule))).or_default();
                let ByLabel { fraud, legitimate, unknown } = of(figures);
                let sum = [fraud, legitimate, unknown].into_iter().zip(LABELS).find(|(_, name)| *name == label);
                sum.into_iter().for_each(|(sum, _)| (sum.count, sum.minor) = (sum.count + 1, sum.minor + minor));
            };
            hit(ALL, |figures| &mut figures.hits);
            found.opinion.rules.iter().for_each(|rule| hit(*rule, |figures| &mut figures.hits));
            found.opinion.shadow.iter().for_each(|rule| hit(*rule, |figures| &mut figures.shadow));
            if let Some(row) = rows.get(id).filter(|_| is_sampled(id, sample)) {
                for column in reads(deployments, (found.opinion.champion, deployment(found)), columns) {
                    let (name, value) = (&columns[usize::from(column)], row[usize::from(column)]);
                    count(format!("{name}|{date}"), value_bin(value), VALUE_BINS);
                }
            }
        }
        let histograms = histograms.into_iter().map(|(key, bins)| (key, serde_json::to_string(&bins)));
        let rules = rules.into_iter().map(|(key, figures)| (key, serde_json::to_string(&figures)));
        histograms.chain(rules).map(|(key, json)| (key, json.unwrap_or_default())).collect()
    }
}

fn sample(setup: &Setup) -> Result<u64, BuildError> {
    setup.parameters.parsed("sample")
}

/// The day of a payment, counted from 1970-01-01.
fn day(found: &Finding) -> i64 {
    found.event.time.div_euclid(DAY_MS)
}

/// The place of its label among [`LABELS`].
fn label(found: &Finding) -> usize {
    found.fraud.map_or(2, |fraud| usize::from(!fraud))
}

fn deployment(found: &Finding) -> u32 {
    found.opinion.decision.deployment
}

/// A day as it is written; a time that no calendar has stays a number.
fn date(day: i64) -> String {
    let midnight = jiff::Timestamp::from_millisecond(day.saturating_mul(DAY_MS));
    midnight.map_or_else(|_| day.to_string(), |midnight| midnight.strftime("%Y-%m-%d").to_string())
}

fn rule_name(deployments: &Deployments, rule: u32) -> String {
    let mut name = "*".to_owned();
    if rule != ALL {
        deployments.rule_names(&[rule], |known| known.clone_into(&mut name));
    }
    name
}

/// The columns that the champion of a deployment reads.
fn reads(deployments: &Deployments, (champion, deployment): (u16, u32), columns: &[String]) -> Vec<u16> {
    let scorer = deployments.of(deployment);
    let champion = scorer.models().iter().find(|deployed| deployed.number == champion);
    let features = champion.map_or(&[][..], |champion| champion.model.features());
    let place = |feature: &String| columns.iter().position(|column| column == feature);
    features.iter().filter_map(place).map(|column| column as u16).collect()
}

/// One in a bin, as far as that.
fn one_of(bin: usize) -> Vec<isize> {
    let mut bins = vec![0; bin + 1];
    bins[bin] = 1;
    bins
}

/// Counts of all bins; sums have as many as their highest addend.
fn histogram(counts: &[isize], bins: usize) -> Vec<u64> {
    (0..bins).map(|bin| counts.get(bin).map_or(0, |count| *count as u64)).collect()
}

impl RuleFigures {
    fn of(figures: &[isize]) -> Self {
        let sum = |at: usize| Sum { count: figures[2 * at] as i64, minor: figures[2 * at + 1] as i64 };
        let by_label = |from: usize| ByLabel { fraud: sum(from), legitimate: sum(from + 1), unknown: sum(from + 2) };
        RuleFigures { hits: by_label(0), shadow: by_label(LABELS.len()) }
    }
}
