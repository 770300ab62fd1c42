//! What is kept, dumped at some epoch and loaded by another number of workers, goes on as if nothing had happened.
//!
//! 20 seeds run always; `DELTAWATCH_FULL=1` runs 500.

use std::sync::Arc;

use deltawatch::dataflow::{Dataflow, Parameters, Setup};
use deltawatch::event::Schema;
use deltawatch::operators::Image;
use deltawatch::testkit::{Batching, Harness, Outcome, Plan, random};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::dataflows::folder;
use crate::enrich::oracle::with_rows;
use crate::flows;
use crate::invariance::{handbook_records, payments_records};

fn seeds() -> u64 {
    if std::env::var_os("DELTAWATCH_FULL").is_some() { 500 } else { 20 }
}

const WORKERS: [usize; 3] = [1, 2, 4];

/// All that came out, as lines in an order of their own. Epochs, revisions and causes count.
fn lines(outcomes: &[&Outcome]) -> Vec<String> {
    let mut lines = Vec::new();
    for outcome in outcomes {
        lines.extend(outcome.scored.iter().map(|diff| {
            let said = (diff.revision, diff.diff, diff.epoch, diff.cause, &diff.decision, &diff.assessment);
            format!("scored {:?} {said:?}", diff.event.id)
        }));
        lines.extend(outcome.rows.iter().map(|row| format!("row {:?} {:?} {:?}", row.id, row.cause, row.row)));
        // Which worker an event came in by is not what is compared.
        lines.extend(
            outcome.rejects.iter().map(|reject| format!("reject {} {:?} {}", reject.id, reject.reason, reject.message)),
        );
        lines.extend(outcome.collections.iter().map(|update| format!("update {update:?}")));
    }
    lines.sort_unstable();
    lines
}

/// The lines of either side that the other lacks, shortened.
fn unlike(whole: &[String], parts: &[String]) -> Option<String> {
    let lacks = |one: &[String], other: &[String]| -> Vec<String> {
        let lacking = one.iter().filter(|line| other.binary_search(line).is_err());
        lacking.take(8).map(|line| line.chars().take(240).collect()).collect()
    };
    let (missing, more) = (lacks(whole, parts), lacks(parts, whole));
    (whole != parts).then(|| format!("{} and {} lines; missing {missing:#?}, more {more:#?}", whole.len(), parts.len()))
}

/// Cuts a run at a random epoch, goes on with other workers, and compares with the run that was not cut.
fn interrupted(name: &str, (dataflow, setup): &(Arc<dyn Dataflow>, Setup), plan: &Plan, seed: u64) -> Image {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    // As many partitions for any number of workers, as of a topic.
    let harness = || Harness::new(dataflow.clone(), setup.clone()).partitions(4);
    let whole = harness().workers(WORKERS[seed as usize / 9 % 3]).run(plan).expect("it runs");
    let (before, after) = (WORKERS[seed as usize % 3], WORKERS[seed as usize / 3 % 3]);
    let epoch = random.random_range(1..plan.epochs.len() - 1);
    eprintln!("{name}, seed {seed}: cut at epoch {epoch} of {}, {before} to {after} workers", plan.epochs.len());
    // All at once, or over so many epochs.
    let gradual = seed as usize % 4 * 3;
    let (first, image) = harness().workers(before).gradually(gradual).run_until(plan, epoch).expect("it runs");
    let second = harness().workers(after).resume(plan, image.clone()).expect("it goes on");
    if let Some(unlike) = unlike(&lines(&[&whole]), &lines(&[&first, &second])) {
        for workers in [before, after] {
            let other = lines(&[&harness().workers(workers).run(plan).expect("it runs")]);
            eprintln!("without a cut, {workers} workers give the same: {}", other == lines(&[&whole]));
        }
        panic!(
            "{name}, seed {seed}: cut at epoch {epoch} of {}, {before} to {after} workers: {unlike}",
            plan.epochs.len()
        );
    }
    assert!(
        !first.rows.is_empty() || !first.collections.is_empty(),
        "{name}, seed {seed}: nothing came out before the cut"
    );
    image
}

fn batching(seed: u64) -> Batching {
    Batching::Fixed(11 + seed as usize * 7 % 60)
}

pub fn shipped(dataflow: Arc<dyn Dataflow>) -> (Arc<dyn Dataflow>, Setup) {
    let schema = Schema::parse(dataflow.name(), dataflow.schema()).expect("its schema is valid");
    let parameters = Parameters::resolve(dataflow.name(), &dataflow.parameters(), &[]).expect("its defaults are valid");
    (dataflow, Setup { schema: Arc::new(schema), parameters })
}

/// All families of views at once: velocity, identity, patterns, cycles, look-ups as of arrival and live.
#[test]
fn payments_go_on_wherever_they_are_loaded() {
    let payments = folder::all().into_iter().find(|dataflow| dataflow.name() == "payments").expect("it is shipped");
    let flow = shipped(payments);
    let (mut owed, mut gradual) = (0, 0);
    for seed in 1..=seeds() {
        let inputs = with_rows(&flow, payments_records(seed, 1_200), seed);
        let image = interrupted("payments", &flow, &Plan::of_inputs(&inputs, batching(seed)), seed);
        let views: Vec<String> = image.bytes().keys().map(|view| (*view).to_owned()).collect();
        for view in ["transactions", "said", "Velocity", "Identity", "Patterns", "Look up merchant", "Look up card"] {
            assert!(views.iter().any(|one| one.starts_with(view)), "seed {seed}: no {view} among {views:?}");
        }
        gradual += usize::from(image.is_gradual());
        owed += usize::from(views.iter().any(|view| view.ends_with("backlog") || view == "touched"));
    }
    assert!(gradual > 2, "{gradual} images were taken piece by piece");
    assert!(owed > 0, "no image had rows that wait to be read again");
}

#[test]
fn every_shipped_dataflow_goes_on_wherever_it_is_loaded() {
    for (dataflow, setup) in folder::all().into_iter().map(shipped) {
        let features = dataflow.features(&setup).expect("a shipped dataflow has features");
        if features.columns().is_empty() {
            // What a graph of its own keeps is built again from events.
            continue;
        }
        let name = dataflow.name().to_owned();
        let flow = (dataflow, setup);
        for seed in 1..=(seeds() / 5) {
            let records = random::records(&flow.1.schema, seed, 600);
            interrupted(&name, &flow, &Plan::of(&records, batching(seed)), seed);
        }
    }
}

#[test]
fn the_handbook_goes_on_wherever_it_is_loaded() {
    let flow = flows::handbook();
    for seed in 1..=seeds() {
        let records = handbook_records(seed, 1_200, &flow.1.schema);
        interrupted("handbook", &flow, &Plan::of(&records, batching(seed)), seed);
    }
}
