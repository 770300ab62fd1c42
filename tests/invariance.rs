//! Order does not matter: every arrival order, batching and number of workers gives the oracle's output.
//!
//! A small share runs always; `DELTAWATCH_FULL=1` runs 20 seeds of 50 000 records each, which takes half an hour.

use std::sync::Arc;

use deltawatch::dataflow::{Dataflow, EngineSettings, Setup};
use deltawatch::event::{Event, EventBuilder, Id, Op, Schema};
use deltawatch::generator::{Generator, GeneratorConfig};
use deltawatch::testkit::invariance::{Checked, Options, check};
use deltawatch::testkit::{Batching, Harness, Outcome, Plan, compare};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::flows;

/// How much is run: seeds, records per seed, and every how manieth row is compared with the oracle.
fn amount() -> (u64, usize, usize) {
    if std::env::var_os("DELTAWATCH_FULL").is_some() {
        eprintln!("DELTAWATCH_FULL: 20 seeds of 50 000 records; this takes half an hour");
        (20, 50_000, 7)
    } else {
        (2, 2_000, 3)
    }
}

/// Payments with much of what makes trouble. A slow stream, so that windows end within it.
pub fn payments_records(seed: u64, count: usize) -> Vec<Event> {
    let config = GeneratorConfig {
        seed,
        rate_per_s: 0.05,
        customers: 300,
        merchants: 40,
        fraud_share: 0.05,
        label_share: 0.2,
        late_share: 0.05,
        late_ms_max: 280_000,
        duplicate_share: 0.02,
        correction_share: 0.05,
        withdrawal_share: 0.03,
        ..GeneratorConfig::default()
    };
    let (_, setup) = flows::payments();
    let generator = Generator::new(config, setup.schema).expect("a valid configuration");
    generator.take(count).map(|generated| generated.event).collect()
}

/// Transactions of the handbook's kind: few customers and terminals, many ties on time.
pub fn handbook_records(seed: u64, count: usize, schema: &Schema) -> Vec<Event> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let slot = |name: &str| schema.slot(name).expect("a field of the handbook");
    let (customer, terminal) = (slot("CUSTOMER_ID"), slot("TERMINAL_ID"));
    let (amount, fraud) = (slot("TX_AMOUNT"), slot("TX_FRAUD"));
    let mut builder = EventBuilder::new(schema);
    let mut records: Vec<Event> = Vec::new();
    let mut now_ms = 1_522_540_800_000;
    for number in 0..count as u64 {
        now_ms += random.random_range(0..3) * random.random_range(0..120_000);
        let mut transaction = |random: &mut ChaCha8Rng, id: u64, time: i64, op: Op| {
            builder.set_int(customer, random.random_range(0..60));
            builder.set_int(terminal, random.random_range(0..25));
            builder.set_int(amount, random.random_range(1..100_000));
            builder.set_int(fraud, i64::from(random.random_bool(0.1)));
            builder.finish(Id::from_int(id), time, 0, op, schema)
        };
        let old = records.len().checked_sub(1 + random.random_range(0..6)).map(|at| records[at].clone());
        let record = match (random.random_range(0..100), old) {
            (0..5, _) => {
                let late_ms = random.random_range(1..200_000);
                transaction(&mut random, number, now_ms - late_ms, Op::Insert)
            }
            (5..8, Some(old)) => old,
            (8..12, Some(old)) => transaction(&mut random, old.id.lo, old.time, Op::Correct),
            (12..14, Some(old)) => transaction(&mut random, old.id.lo, old.time + 1_000, Op::Correct),
            (14..17, Some(mut old)) => {
                old.op = Op::Withdraw;
                old
            }
            // A withdrawal that comes before its event.
            (17..18, _) => transaction(&mut random, number + 3, now_ms, Op::Withdraw),
            _ => transaction(&mut random, number, now_ms, Op::Insert),
        };
        records.push(record);
    }
    records
}

fn trial(name: &str, seed: u64, flow: &(Arc<dyn Dataflow>, Setup), records: &[Event], nth: usize) -> Checked {
    // Other rows for every seed: over the seeds, rows of every place are compared.
    let options = Options { oracle_nth: nth, oracle_from: seed as usize % nth, each_epoch: 120, ..Options::default() };
    let report = check(flow.0.clone(), &flow.1, records, &options);
    let report = report.unwrap_or_else(|difference| panic!("{name}, seed {seed}: {difference}"));
    eprintln!("{name}, seed {seed}: {report}");
    report
}

#[test]
fn payments_do_not_depend_on_order() {
    let (seeds, count, nth) = amount();
    let flow = flows::payments();
    for seed in 1..=seeds {
        let report = trial("payments", seed, &flow, &payments_records(seed, count), nth);
        assert!(report.records > count * 9 / 10 && report.revised > 0 && report.late > 0, "{report}");
    }
}

#[test]
fn handbook_does_not_depend_on_order() {
    let (seeds, count, nth) = amount();
    let flow = flows::handbook();
    for seed in 1..=seeds {
        let report = trial("handbook", seed, &flow, &handbook_records(seed, count, &flow.1.schema), nth);
        assert!(report.records > count * 9 / 10 && report.revised > 0 && report.late > 0, "{report}");
    }
}

#[test]
fn a_backlog_that_grows_old_is_repaired_in_time() {
    // A row per epoch at most, unless it would become too old: event time runs far ahead of the repairs.
    let settings = EngineSettings { repair_rows_max: 1, ..EngineSettings::default() };
    let batchings = vec![Batching::EachEvent, Batching::Random(1)];
    let options = Options { settings, batchings, each_epoch: 0, shuffles: 0, ..Options::default() };
    let (dataflow, setup) = flows::payments();
    let report = check(dataflow, &setup, &payments_records(3, 2_500), &options);
    assert!(report.is_ok_and(|report| report.revised > 0));
}

#[test]
fn one_wrong_diff_is_found() {
    let (dataflow, setup) = flows::handbook();
    let columns = dataflow.features(&setup).expect("features").columns();
    let records = handbook_records(5, 500, &setup.schema);
    let outcome = Harness::new(dataflow, setup).run(&Plan::of(&records, Batching::Fixed(20))).expect("it builds");
    let same = |other: &Outcome| compare::equal(&outcome, other, &columns);
    assert_eq!(same(&outcome), Ok(()));

    let mut flipped = outcome.clone();
    let last = flipped.rows.iter_mut().rev().find_map(|record| record.row.as_mut()).expect("a row");
    last[3] += 1.0;
    assert!(same(&flipped).is_err_and(|says| says.0.contains(&columns[3])), "a wrong feature is named");

    for place in [0, outcome.scored.len() / 2, outcome.scored.len() - 1] {
        let mut dropped = outcome.clone();
        let diff = dropped.scored.remove(place);
        // A tombstone says nothing that its -1 has not said.
        assert_eq!(same(&dropped).is_err(), diff.diff != 0, "dropped {diff:?}");
    }
    let revision = outcome.scored.windows(2).position(|pair| pair[0].diff == -1 && pair[1].diff == 1);
    let mut swapped = outcome.clone();
    let at = revision.expect("a revision");
    swapped.scored.swap(at, at + 1);
    assert!(same(&swapped).is_err(), "+1 before its -1");

    let mut wrong = outcome.clone();
    let diff = wrong.scored.iter_mut().rev().find(|diff| diff.diff == 1).expect("a +1");
    diff.assessment.as_mut().expect("an assessment").score += 1;
    assert!(same(&wrong).is_err(), "a wrong score");
}

#[test]
fn a_dataflow_that_depends_on_arrival_is_caught() {
    use deltawatch::dataflow::Context;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// Emits how many events it has seen in this process so far: as wrong as can be.
    struct Counting(AtomicU64);
    impl Dataflow for Counting {
        fn name(&self) -> &'static str {
            "counting"
        }
        fn about(&self) -> &'static str {
            "wrong on purpose"
        }
        fn schema(&self) -> &'static str {
            ""
        }
        fn build(&self, context: &mut Context<'_>) -> Result<(), BuildError> {
            let start = self.0.fetch_add(1, Ordering::Relaxed);
            let events = context.events().map(move |event| (event.id.lo.to_string(), start));
            context.output("seen", events);
            Ok(())
        }
    }
    use deltawatch::dataflow::BuildError;
    let (_, setup) = flows::handbook();
    let records = handbook_records(5, 50, &setup.schema);
    let says = check(Arc::new(Counting(AtomicU64::new(0))), &setup, &records, &Options::default());
    assert!(says.is_err());
}
