//! Late events: every row they touch inside the revise horizon is revised, the others are counted and published.

use std::collections::{BTreeMap, BTreeSet};

use deltawatch::event::{Event, EventBuilder, Id, Op, Schema};
use deltawatch::flow::{Cause, RejectReason};
use deltawatch::testkit::{Batching, Harness, Plan, compare, expected, resolve};
use deltawatch::views::velocity::{KeyPlan, Velocity, Window};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{cases, flows};

const HOUR_MS: i64 = 3_600_000;

fn pack() -> Vec<Velocity> {
    let over = |velocity: Velocity| velocity.over(&[Window::minutes(90)]).count().sum("amount").max("amount");
    vec![over(Velocity::of("card", &["card"])), over(Velocity::of("shop", &["shop"]).hot())]
}

/// Payments a few seconds apart, one in twenty up to an hour late.
fn records(count: usize, schema: &Schema) -> Vec<Event> {
    let mut random = ChaCha8Rng::seed_from_u64(3);
    let slot = |name: &str| schema.slot(name).expect("a field");
    let mut builder = EventBuilder::new(schema);
    let mut now_ms = 1_000 * HOUR_MS;
    let payment = |number| {
        now_ms += random.random_range(0..40_000);
        let late_ms = if random.random_bool(0.05) { random.random_range(1..HOUR_MS) } else { 0 };
        builder.set_text(slot("card"), &format!("c{}", random.random_range(0..12)));
        builder.set_text(slot("shop"), &format!("s{}", random.random_range(0..4)));
        builder.set_int(slot("amount"), random.random_range(1..1000));
        builder.finish(Id::from_text(&format!("t{number}")), now_ms - late_ms, 0, Op::Insert, schema)
    };
    (0..count).map(payment).collect()
}

/// What a record must do to the rows that are there: the ones it revises, and the keys with touched rows too old for it.
fn touched(
    record: &Event,
    before: &[Event],
    watermark_ms: i64,
    plans: &[KeyPlan],
    schema: &Schema,
) -> (BTreeSet<Id>, usize) {
    let (mut revised, mut beyond) = (BTreeSet::new(), 0);
    for plan in plans {
        let after = |other: &&Event| (other.time, other.id) > (record.time, record.id);
        let same_key = |other: &&Event| plan.key_of(other, schema) == plan.key_of(record, schema);
        let reached = |other: &&Event| other.time - plan.window_ms_max <= record.time;
        let rows = before.iter().filter(after).filter(same_key).filter(reached);
        let (young, old): (Vec<&Event>, Vec<&Event>) = rows.partition(|row| row.time >= watermark_ms - plan.revise_ms);
        revised.extend(young.iter().map(|row| row.id));
        beyond += usize::from(!old.is_empty());
    }
    (revised, beyond)
}

#[test]
fn rows_inside_the_horizon_are_revised_and_the_others_published() {
    let (dataflow, setup) = flows::flow("tiny", cases::TINY, pack);
    let schema = &setup.schema;
    let features = dataflow.features(&setup).expect("features");
    let plans: Vec<KeyPlan> = pack().iter().map(|one| KeyPlan::resolve(one, schema).expect("it resolves")).collect();
    let records = records(700, schema);
    let outcome = Harness::new(dataflow.clone(), setup.clone()).drained().run(&Plan::of(&records, Batching::EachEvent));
    let outcome = outcome.expect("it builds");
    let (mut rows, mut watermark_ms): (BTreeMap<Id, Vec<f64>>, _) = (BTreeMap::new(), i64::MIN / 2);
    let (mut revised, mut beyond) = (0, 0);
    let mut from = 0;
    for (place, record) in records.iter().enumerate() {
        let (mut young, old) = touched(record, &records[..place], watermark_ms, &plans, schema);
        beyond += old;
        revised += young.len();
        let events = resolve::retained(&records[..=place], schema);
        let exact = expected::rows(&features, schema, &events, 1);
        let epoch = outcome.closed[place];
        let causes: BTreeMap<Id, Cause> = outcome
            .rows
            .iter()
            .filter(|row| (from..=epoch).contains(&row.epoch))
            .map(|row| (row.id, row.cause))
            .collect();
        assert_eq!(causes.get(&record.id), Some(&Cause::Arrival));
        assert!(young.iter().all(|id| causes.get(id) == Some(&Cause::LateEvent)), "after {record:?}: {causes:?}");
        young.insert(record.id);
        rows.extend(young.iter().map(|id| (*id, exact[id].clone())));
        let says = compare::same_rows(&outcome.rows_as_of(epoch), &rows, &features.columns());
        assert_eq!(says, Ok(()), "after record {place}, {record:?}");
        (watermark_ms, from) = (watermark_ms.max(record.time), epoch + 1);
    }
    let published = outcome.rejects.iter().filter(|reject| reject.reason == RejectReason::BeyondHorizon).count();
    assert!(revised > 50 && beyond > 10, "{revised} revised, {beyond} beyond: the records show too little");
    assert_eq!(outcome.metrics.revisions_beyond.get(), beyond as u64);
    assert_eq!(published, beyond);
    let first = outcome.rejects.iter().find(|reject| reject.reason == RejectReason::BeyondHorizon).expect("one");
    assert!(first.id.starts_with('t') && first.message.contains("key '"), "{first:?}");
}

#[test]
fn a_hot_key_is_repaired_in_slices_and_exact_in_the_end() {
    use deltawatch::dataflow::EngineSettings;
    let (dataflow, setup) = flows::flow("tiny", cases::TINY, pack);
    let schema = &setup.schema;
    let shop = schema.slot("shop").expect("a field");
    let mut builder = EventBuilder::new(schema);
    let mut payment = |number: i64, time: i64| {
        builder.set_text(shop, "hot");
        builder.finish(Id::from_text(&format!("t{number:06}")), time, 0, Op::Insert, schema)
    };
    // 5 000 payments in five minutes at one shop; then fifty come late.
    let mut records: Vec<Event> = (0..5_000).map(|number| payment(number, 60 * number)).collect();
    records.extend((0..50).map(|number| payment(10_000 + number, 50 + 5_000 * number)));
    let settings = EngineSettings { repair_rows_max: 64, ..EngineSettings::default() };
    let harness = Harness::new(dataflow.clone(), setup.clone()).settings(settings);
    let outcome = harness.run(&Plan::of(&records, Batching::Fixed(10))).expect("it builds");
    let features = dataflow.features(&setup).expect("features");
    let wanted = expected::rows(&features, schema, &resolve::retained(&records, schema), 1);
    assert_eq!(compare::same_rows(&outcome.final_rows(), &wanted, &features.columns()), Ok(()));
    assert_eq!(outcome.metrics.backlog.get(), 0);
    let mut per_epoch: BTreeMap<u64, usize> = BTreeMap::new();
    for row in outcome.rows.iter().filter(|row| row.cause == Cause::LateEvent) {
        *per_epoch.entry(row.epoch).or_default() += 1;
    }
    assert!(outcome.metrics.rescored.get() > 4_000, "{} rows were read again", outcome.metrics.rescored.get());
    // Rows are counted in the epoch that was closed last, so up to the three that are on their way come together.
    assert!(per_epoch.values().all(|&rows| rows <= 4 * 64), "{:?} rows in one epoch", per_epoch.values().max());
}
