//! Arrangements on demand: what they hold, at every epoch, and that nothing is left in the end.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use deltawatch::dataflow::{ArrangedBy, BuildError, Context, Dataflow, EngineSettings, Setup};
use deltawatch::event::{Event, Op};
use deltawatch::feature::FeatureSet;
use deltawatch::flow::Epoch;
use deltawatch::generator::{Generator, GeneratorConfig};
use deltawatch::testkit::invariance::{Options, check};
use deltawatch::testkit::{Batching, Harness, Outcome, Plan, TestModel, arrive, resolve};
use deltawatch::views::identity::Identity;
use differential_dataflow::trace::implementations::spine_fueled::SpineBatch;
use differential_dataflow::trace::{Cursor, Navigable, TraceReader};
use differential_dataflow::{ExchangeData, Hashable};
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;

use crate::dataflows::folder;
use crate::images::shipped;

/// How much slower than the generator's slowest stream: what is late stays within the horizon.
const STRETCH: i64 = 8;

/// Payments of a few accounts, so many that they last longer than a week; with some hundreds of them, over more than the 30 days that a link lives, with much of what makes trouble. The latest is plain: it
/// says what time it is.
fn records(seed: u64, count: usize, customers: u32, setup: &Setup) -> Vec<Event> {
    let config = GeneratorConfig {
        seed,
        // The slowest that there is; the rest is done by stretching time.
        rate_per_s: 0.001,
        customers,
        merchants: 10,
        fraud_share: 0.3,
        late_share: 0.05,
        late_ms_max: 280_000,
        duplicate_share: 0.02,
        correction_share: 0.05,
        withdrawal_share: 0.05,
        ..GeneratorConfig::default()
    };
    let generator = Generator::new(config, setup.schema.clone()).expect("a valid configuration");
    let mut records: Vec<Event> = generator.take(count).map(|generated| generated.event).collect();
    let start_ms = records[0].time;
    records.iter_mut().for_each(|record| record.time = start_ms + (record.time - start_ms) * STRETCH);
    loop {
        let last = records.iter().max_by_key(|record| record.time).expect("a record").clone();
        if last.op == Op::Insert && records.iter().filter(|record| record.id == last.id).count() == 1 {
            return records;
        }
        records.retain(|record| record.time < last.time);
    }
}

fn rings() -> (Arc<dyn Dataflow>, Setup) {
    shipped(folder::all().into_iter().find(|dataflow| dataflow.name() == "ring_exposure").expect("it is shipped"))
}

#[test]
fn ring_exposure_is_its_oracle_in_any_order() {
    let (dataflow, setup) = rings();
    for seed in [1, 2, 3] {
        let options = Options { oracle_nth: 5, each_epoch: 0, ..Options::default() };
        let report = check(dataflow.clone(), &setup, &records(seed, 700, 60, &setup), &options);
        let report = report.unwrap_or_else(|difference| panic!("seed {seed}: {difference}"));
        eprintln!("ring_exposure, seed {seed}: {report}");
    }
}

/// What a collection holds after an epoch: (key, value) and how often.
fn holds(outcome: &Outcome, name: &str, until: Epoch) -> BTreeMap<(String, String), isize> {
    let mut held = BTreeMap::new();
    for update in outcome.collections.iter().filter(|update| update.name == name && update.epoch <= until) {
        *held.entry((update.key.clone(), update.value.clone())).or_insert(0) += update.diff;
    }
    held.retain(|_, count| *count != 0);
    held
}

#[test]
fn ring_exposure_is_exact_at_every_epoch() {
    let (dataflow, setup) = rings();
    let records = records(7, 500, 150, &setup);
    let outcome = Harness::new(dataflow.clone(), setup.clone()).drained().run(&Plan::of(&records, Batching::EachEvent));
    let outcome = outcome.expect("it runs");
    let columns = dataflow.features(&setup).expect("it has features").columns();
    let mut most = 0;
    for (at, &epoch) in outcome.closed.iter().enumerate() {
        let retained = resolve::retained(&records[..=at], &setup.schema);
        let now_ms = records[..=at].iter().map(|record| record.time).max().expect("a record");
        let mut until = outcome.clone();
        until.scored.retain(|diff| diff.epoch <= epoch);
        let deployments = TestModel::scorer(columns.clone()).into();
        let mut hindsight = until.hindsight(&retained, &setup.schema, &columns, deployments).expect("scores add up");
        // What time it is, also if its record was withdrawn.
        let mut clock = records[at].clone();
        (clock.time, clock.kind) = (now_ms, setup.schema.kind("login").expect("a kind"));
        hindsight.events.push(without_fields(&clock, &setup));
        let wanted = dataflow.oracle_with(&setup, &hindsight).into_iter().map(|record| (record, 1)).collect();
        assert_eq!(holds(&outcome, "ring_exposure", epoch), wanted, "after record {at}");
        most = most.max(wanted.len());
    }
    assert!(most > 1, "at most {most} rings at a time show too little");
}

/// An event of this id and time that says nothing.
fn without_fields(event: &Event, setup: &Setup) -> Event {
    let mut builder = deltawatch::event::EventBuilder::new(&setup.schema);
    builder.finish(event.id, event.time, event.kind, Op::Insert, &setup.schema)
}

/// What the traces of the test below hold, and in how many updates, by name, as of the last time that each was looked at.
static HELD: Mutex<BTreeMap<&str, (usize, usize)>> = Mutex::new(BTreeMap::new());

/// Everything that can be asked for.
struct All {
    inner: Arc<dyn Dataflow>,
    counts: bool,
}

/// Notes what a trace holds, whenever its frontier moves on.
fn counted<K: ExchangeData + Hashable, V: ExchangeData>(
    counts: bool,
    name: &'static str,
    arranged: &ArrangedBy<'_, K, V>,
) {
    if !counts {
        return;
    }
    let mut trace = arranged.trace.clone();
    arranged.stream.clone().sink(Pipeline, "Count updates", move |(input, frontier)| {
        input.for_each(|_, _| {});
        let frontier = frontier.frontier();
        if frontier.is_empty() {
            return;
        }
        trace.set_logical_compaction(frontier);
        trace.set_physical_compaction(frontier);
        // Updates that cancel out stay side by side until the spine merges them again.
        let (mut updates, mut net) = (0, BTreeMap::<(K, V), isize>::new());
        trace.map_spans(|span| {
            let Some(batch) = &span.inner else { return };
            updates += batch.len();
            let mut cursor = batch.cursor();
            while let Some(key) = cursor.get_key(batch) {
                while let Some(value) = cursor.get_val(batch) {
                    let count = net.entry((key.clone(), value.clone())).or_default();
                    cursor.map_times(batch, |_, diff| *count += *diff);
                    cursor.step_val(batch);
                }
                cursor.step_key(batch);
            }
        });
        net.retain(|_, count| *count != 0);
        HELD.lock().expect("no one panics").insert(name, (net.len(), updates));
    });
}

impl Dataflow for All {
    fn name(&self) -> &'static str {
        "all"
    }

    fn about(&self) -> &'static str {
        "everything that can be asked for"
    }

    fn schema(&self) -> &'static str {
        self.inner.schema()
    }

    fn features(&self, setup: &Setup) -> Result<FeatureSet, BuildError> {
        self.inner.features(setup)
    }

    fn build(&self, context: &mut Context<'_>) -> Result<(), BuildError> {
        let features = context.features()?;
        context.score(&features)?;
        let by_card = context.events_by("card")?;
        // Asked for by several: it is one arrangement.
        counted(self.counts, "events by card", &context.events_by("card")?);
        counted(self.counts, "events by account", &context.events_by("account")?);
        counted(self.counts, "profiles", &context.profiles("card")?);
        counted(self.counts, "scores", &context.scores(&features));
        let findings = context.findings(&features);
        counted(self.counts, "findings", &findings.arrange_by_key_named("Findings by id"));
        let rows = context.sampled_rows(&features, 2)?;
        counted(self.counts, "sampled rows", &rows.arrange_by_key_named("Rows by id"));
        counted(self.counts, "rows", &context.references("merchants")?);
        let spec = Identity::of("account").strong("device", 20).strong("card", 20);
        let clusters = context.clusters(&spec)?;
        counted(self.counts, "clusters", &clusters);
        // The same clusters by iteration.
        let here = clusters.as_collection(|entity, cluster| (format!("{entity:?}"), format!("{cluster:?}")));
        context.output("clusters", here);
        let there = context.propagated_clusters(&spec, 1)?;
        let there = there.map(|(entity, cluster)| (format!("{entity:?}"), format!("{cluster:?}")));
        context.output("propagated", there);
        let by_card = by_card.as_collection(|_, event| (format!("{:?}", event.id), event.time));
        context.output("events", by_card);
        let profiles =
            context.profiles("card")?.as_collection(|card, profile| (format!("{card:?}"), profile.features().len()));
        context.output("profiles", profiles);
        Ok(())
    }
}

fn all(counts: bool) -> (Arc<dyn Dataflow>, Setup) {
    let (payments, setup) =
        shipped(folder::all().into_iter().find(|dataflow| dataflow.name() == "payments").expect("it is shipped"));
    (Arc::new(All { inner: payments, counts }), setup)
}

#[test]
fn clusters_are_those_of_iteration_at_every_epoch() {
    let (dataflow, setup) = all(false);
    let records = records(3, 300, 30, &setup);
    for workers in [1, 2] {
        let harness = Harness::new(dataflow.clone(), setup.clone()).workers(workers).drained();
        let outcome = harness.run(&Plan::of(&records, Batching::Fixed(3))).expect("it runs");
        for &epoch in &outcome.closed {
            let (here, there) = (holds(&outcome, "clusters", epoch), holds(&outcome, "propagated", epoch));
            assert_eq!(here, there, "at epoch {epoch}, {workers} workers");
        }
        let last = *outcome.closed.last().expect("an epoch");
        assert!(holds(&outcome, "clusters", last).len() > 10, "too few links to show anything");
    }
}

/// Whether all is withdrawn or time goes by, nothing is left.
#[test]
fn nothing_is_left_in_the_end() {
    let (dataflow, setup) = all(true);
    let records = records(5, 400, 60, &setup);
    let withdrawn = [records.clone(), arrive::withdrawals(&records)].concat();
    let last_ms = records.iter().map(|record| record.time).max().expect("a record");
    let late = EngineSettings { late_ms: 1 << 45, ..EngineSettings::default() };
    for (why, records, settings) in
        [("withdrawn", withdrawn, late), ("expired", records.clone(), EngineSettings::default())]
    {
        let mut plan = Plan::of(&records, Batching::Fixed(20));
        let most =
            Harness::new(dataflow.clone(), setup.clone()).settings(settings.clone()).run(&plan).expect("it runs");
        let held = holds(&most, "events", Epoch::MAX).len();
        assert!(why == "withdrawn" || held > 50, "{held} events are held before they expire");
        // Time goes by: what is kept longest is 30 days and the horizon; then spines merge, a little with every epoch.
        let far_ms = if why == "withdrawn" { last_ms } else { last_ms + 200 * 86_400_000 };
        (1..=200).for_each(|step| plan.wait_until(last_ms + (far_ms - last_ms) / 200 * step));
        let outcome = Harness::new(dataflow.clone(), setup.clone()).settings(settings).run(&plan).expect("it runs");
        for name in ["clusters", "events", "profiles"] {
            assert_eq!(holds(&outcome, name, Epoch::MAX), BTreeMap::new(), "{why}: {name}");
        }
        let held = HELD.lock().expect("no one panics").clone();
        let few = |(net, updates): &(usize, usize)| *net == 0 && *updates < 64;
        assert!(held.len() == 8 && held.values().all(few), "{why}: something is left in traces: {held:?}");
    }
}
