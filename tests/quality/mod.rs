//! Confusion matrices and drift: equal to an oracle from scratch while labels come late, change and are withdrawn, and nothing left
//! in the end.

mod figures;
mod labels;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use deltawatch::dataflow::{BuildError, Context, Dataflow, EngineSettings, Hindsight, Parameter, Parameters, Setup};
use deltawatch::event::{Event, IdType, Schema};
use deltawatch::feature::FeatureSet;
use deltawatch::flow::Labelled;
use deltawatch::operators::Expiring;
use deltawatch::score::control::Deployments;
use deltawatch::score::model::Model;
use deltawatch::score::rules::{RuleFile, Rules};
use deltawatch::score::scorer::{DeployedModel, ModelRole, Scorer, Thresholds};
use deltawatch::testkit::{Batching, Harness, Outcome, Plan, TestModel, arrive, compare, resolve};
use deltawatch::views::velocity::{Velocity, Window};
use differential_dataflow::logging::{DifferentialEvent, DifferentialEventBuilder};

use crate::dataflows::folder::payments_quality::PaymentsQuality;

const DAY_MS: i64 = 86_400_000;
/// So long are payments retained: some days less than a run lasts.
const RETENTION_MS: i64 = 5 * DAY_MS;

/// What spines hold, by the operator that arranged them: of one worker.
static SPINES: Mutex<BTreeMap<usize, isize>> = Mutex::new(BTreeMap::new());

/// `payments_quality` over a few features.
struct Few {
    counts: bool,
}

impl Dataflow for Few {
    fn name(&self) -> &'static str {
        "few"
    }

    fn about(&self) -> &'static str {
        "the quality of a few features"
    }

    fn schema(&self) -> &'static str {
        PaymentsQuality.schema()
    }

    fn parameters(&self) -> Vec<Parameter> {
        PaymentsQuality.parameters()
    }

    fn features(&self, setup: &Setup) -> Result<FeatureSet, BuildError> {
        let (amount, unit) = (setup.slot("amount")?, setup.unit(setup.slot("amount")?));
        let value = move |event: &Event| event.int(amount).map_or(f64::NAN, |amount| amount as f64 / unit);
        let windows = [Window::hours(1), Window::days(1)];
        let cards = Velocity::of("card", &["card"]).over(&windows).count().mean("amount");
        Ok(FeatureSet::new().own("amount", value).velocities(vec![cards]))
    }

    fn retention_ms(&self) -> i64 {
        RETENTION_MS
    }

    fn build(&self, context: &mut Context<'_>) -> Result<(), BuildError> {
        if self.counts {
            let mut register = context.scope().worker().log_register().expect("timely logs");
            register.insert::<DifferentialEventBuilder, _>("differential/arrange", |_, events| {
                let mut spines = SPINES.lock().expect("no one panics");
                for (_, event) in events.iter().flatten() {
                    let (operator, more) = match event {
                        DifferentialEvent::Batch(batch) => (batch.operator, batch.length as isize),
                        DifferentialEvent::Merge(merge) => match merge.complete {
                            Some(left) => (merge.operator, left as isize - (merge.length1 + merge.length2) as isize),
                            None => continue,
                        },
                        _ => continue,
                    };
                    *spines.entry(operator).or_default() += more;
                }
            });
        }
        PaymentsQuality.build(context)
    }

    fn oracle_with(&self, setup: &Setup, hindsight: &Hindsight) -> Vec<(String, String)> {
        PaymentsQuality.oracle_with(setup, hindsight)
    }
}

fn few(counts: bool, sample: u64) -> (Arc<dyn Dataflow>, Setup) {
    let dataflow = Few { counts };
    let schema = Schema::parse("few", dataflow.schema()).expect("a shipped schema");
    let parameters = Parameters::resolve("few", &dataflow.parameters(), &[format!("few.sample={sample}")]);
    (Arc::new(dataflow), Setup { schema: Arc::new(schema), parameters: parameters.expect("a parameter it has") })
}

/// A model with a name of its own that reads all columns but the last.
struct Named(TestModel, &'static str, Vec<String>);

impl Model for Named {
    fn label(&self) -> &str {
        self.1
    }

    fn features(&self) -> &[String] {
        &self.2
    }

    fn width(&self) -> usize {
        self.0.width()
    }

    fn score(&self, rows: &[f64], scores: &mut Vec<f64>) {
        self.0.score(rows, scores);
        if self.1 != "champion@1" {
            scores.iter_mut().for_each(|score| *score *= *score);
        }
    }

    fn reasons(&self, row: &[f64], top: usize) -> Vec<(usize, f64)> {
        self.0.reasons(row, top)
    }
}

const RULES: &str = "
[[rule]]
id = 'large'
when = 'features.amount >= 100.0'
action = 'review'
score = 0.1
reason = 'much money'
[[rule]]
id = 'busy'
version = 3
when = 'card_count_24h >= 1.0'
action = 'tag'
reason = 'not the first one'
mode = 'shadow'
";

/// A champion, a challenger, a shadow model, and two rules.
fn deployments(columns: &[String], setup: &Setup, ids: IdType) -> Deployments {
    let of = |number: u16, name: &'static str, role, share| {
        let read = columns[..columns.len() - 1].to_vec();
        let model: Arc<dyn Model> = Arc::new(Named(TestModel::new(columns.to_vec()), name, read));
        let thresholds = Thresholds { review: 0.4, challenge: 0.6, block: 0.8 };
        DeployedModel { number, model, role, share, thresholds, files: None }
    };
    let models = vec![
        of(0, "champion@1", ModelRole::Champion, 0.0),
        of(1, "challenger@2", ModelRole::Challenger, 0.3),
        of(2, "shadow@1", ModelRole::Shadow, 0.0),
    ];
    let rules = RuleFile::parse("rules", RULES).and_then(|file| Rules::new("rules", file, &setup.schema, columns));
    Scorer::default().with_models(models, ids).with_rules(rules.expect("rules")).into()
}

/// What is there once all that the retention has passed is gone.
fn retained(records: &[Event], schema: &Schema) -> Vec<Labelled> {
    let (expiring, now_ms) = (Expiring::new(RETENTION_MS), records.iter().map(|record| record.time).max());
    let mut all = resolve::retained(records, schema);
    all.retain(|(event, _)| !expiring.has_passed(event.time, now_ms.expect("a record")));
    all
}

/// Records of a run that is drained, and what came of them, which must be what the oracle says.
fn against_oracle(
    (dataflow, setup): &(Arc<dyn Dataflow>, Setup),
    records: &[Event],
    batching: Batching,
    workers: usize,
) -> (Outcome, usize) {
    let columns = dataflow.features(setup).expect("features").columns();
    let deployments = deployments(&columns, setup, setup.schema.id_type());
    let settings = EngineSettings { deployments: Some(deployments.clone()), ..EngineSettings::default() };
    let mut plan = Plan::of(records, batching);
    // What expires does so two epochs later.
    (0..3).for_each(|_| plan.wait_until(i64::MIN));
    let harness = Harness::new(dataflow.clone(), setup.clone()).settings(settings).workers(workers);
    let outcome = harness.run(&plan).expect("it runs");
    let hindsight = outcome.hindsight(&retained(records, &setup.schema), &setup.schema, &columns, deployments);
    let wanted = dataflow.oracle_with(setup, &hindsight.expect("scores add up"));
    let wanted: BTreeMap<(String, String), isize> = wanted.into_iter().map(|record| (record, 1)).collect();
    let emitted = compare::updates(&outcome.collections).expect("they add up");
    let emitted: BTreeMap<_, _> = emitted.into_iter().map(|((_, key, value), count)| ((key, value), count)).collect();
    assert_eq!(emitted, wanted, "{batching:?} on {workers} workers");
    (outcome, wanted.len())
}

#[test]
fn quality_is_its_oracle_however_labels_and_payments_arrive() {
    let (mut records_most, mut late, mut label_changes) = (0, 0, 0);
    for seed in 1..=10 {
        let flow = few(false, 1 + seed % 3);
        let records = labels::records(seed, 260, &flow.1.schema);
        let runs = [(Batching::Fixed(9), 1), (Batching::Random(seed), 2), (Batching::EachEvent, 4)];
        let mut first: Option<Vec<_>> = None;
        for (batching, workers) in runs {
            let (outcome, count) = against_oracle(&flow, &records, batching, workers);
            records_most = records_most.max(count);
            late += outcome.metrics.orphan_labels.get();
            label_changes += outcome.metrics.labels.get();
            // What the champion says does not depend on how the records came.
            let all = compare::updates(&outcome.collections).expect("they add up");
            let held: Vec<_> =
                all.into_keys().filter(|(name, key, _)| *name == "drift" || key.starts_with("champion@1")).collect();
            assert!(!held.is_empty(), "seed {seed}: nothing is left to compare");
            assert_eq!(
                first.get_or_insert_with(|| held.clone()),
                &held,
                "seed {seed}: {batching:?}, {workers} workers"
            );
        }
    }
    eprintln!("{records_most} records at most, {label_changes} labels, {late} of them too late");
    assert!(records_most > 50 && label_changes > 1_000 && late > 10, "{records_most} {label_changes} {late}");
}

#[test]
fn quality_of_the_shipped_features_is_its_oracle() {
    let schema = Arc::new(Schema::parse("payments", PaymentsQuality.schema()).expect("a shipped schema"));
    let settings = ["payments_quality.sample=2".to_owned()];
    let parameters = Parameters::resolve("payments_quality", &PaymentsQuality.parameters(), &settings);
    let setup = Setup { schema, parameters: parameters.expect("a parameter it has") };
    let flow: (Arc<dyn Dataflow>, Setup) = (Arc::new(PaymentsQuality), setup);
    // Nothing has expired within five days.
    let records = labels::records(77, 60, &flow.1.schema);
    let (_, count) = against_oracle(&flow, &records, Batching::Fixed(20), 2);
    assert!(count > 100, "{count} records show too little");
}

#[test]
fn quality_goes_on_wherever_it_is_loaded() {
    let (dataflow, setup) = few(false, 1);
    for seed in 1..=4_usize {
        let records = labels::records(seed as u64, 200, &setup.schema);
        let plan = Plan::of(&records, Batching::Fixed(12));
        let harness = || Harness::new(dataflow.clone(), setup.clone()).partitions(4);
        let whole = harness().run(&plan).expect("it runs");
        let until = plan.epochs.len() / 2 + seed;
        let cut = harness().workers(1 + seed % 2).gradually(seed % 3 * 2).run_until(&plan, until);
        let (first, image) = cut.expect("it runs");
        let second = harness().workers(3).resume(&plan, image).expect("it goes on");
        let mut parts = [first.collections, second.collections].concat();
        let mut whole = whole.collections;
        parts.sort_unstable();
        whole.sort_unstable();
        assert_eq!(parts, whole, "seed {seed}, cut at epoch {until}");
    }
}

#[test]
fn nothing_is_left_of_quality_in_the_end() {
    let flow = few(true, 1);
    let records = labels::records(3, 200, &flow.1.schema);
    let withdrawn = [records.clone(), arrive::withdrawals(&records)].concat();
    let last_ms = records.iter().map(|record| record.time).max().expect("a record");
    let late = EngineSettings { late_ms: 1 << 45, ..EngineSettings::default() };
    for (why, records, settings) in
        [("withdrawn", withdrawn, late), ("expired", records.clone(), EngineSettings::default())]
    {
        let harness = Harness::new(flow.0.clone(), flow.1.clone()).settings(settings);
        // Time goes by; then spines merge, a little with every epoch.
        let mut plan = Plan::of(&records, Batching::Fixed(20));
        let far_ms = if why == "withdrawn" { last_ms } else { last_ms + 20 * DAY_MS };
        (1..=200).for_each(|step| plan.wait_until(last_ms + (far_ms - last_ms) / 200 * step));
        SPINES.lock().expect("no one panics").clear();
        let outcome = harness.run(&plan).expect("it runs");
        assert!(outcome.collections.len() > 200, "{why}: {} updates show too little", outcome.collections.len());
        assert_eq!(compare::updates(&outcome.collections), Ok(BTreeMap::new()), "{why}");
        let spines = SPINES.lock().expect("no one panics").clone();
        assert!(spines.len() >= 5 && spines.values().all(|updates| *updates < 64), "{why}: spines hold {spines:?}");
    }
}
