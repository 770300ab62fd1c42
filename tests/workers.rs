//! Every revision in between is the same on any number of workers: how much is repaired is a fact of the epoch.

use std::collections::BTreeSet;
use std::sync::Arc;

use deltawatch::dataflow::{Dataflow, EngineSettings, Setup};
use deltawatch::event::{Event, EventBuilder, Id, Limits, Op, Schema};
use deltawatch::feature::FeatureSet;
use deltawatch::source::tables::RowDecoder;
use deltawatch::testkit::{Batching, Harness, Input, Outcome, Plan};
use deltawatch::views::lookup::Enrich;
use deltawatch::views::pattern::Patterns;
use deltawatch::views::velocity::{Measure, Velocity, Window};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::enrich::reference;
use crate::flows;

const SCHEMA: &str = r#"
name = "transfers"
kinds = ["payment", "login"]
scored = ["payment"]
default_kind = "payment"
field = [
  { name = "id", type = "int", role = "id", required = true },
  { name = "rank", type = "int", role = "rank" },
  { name = "kind", type = "text", role = "kind" },
  { name = "op", type = "text", role = "op" },
  { name = "time", type = "time", role = "time", required = true },
  { name = "card", type = "text", role = "entity" },
  { name = "payee", type = "text", role = "entity" },
  { name = "shop", type = "text", role = "entity" },
  { name = "amount", type = "decimal", scale = 2, role = "amount" },
]
"#;

const PATTERNS: &str = r#"
[[pattern]]
name = "after_login"
key = "card"
within = "10m"
[pattern.events]
login = { kind = "login" }
paid = { kind = "payment" }
[[pattern.step]]
event = "login"
[[pattern.step]]
event = "paid"
at_least = 3

[[pattern]]
name = "round"
within = "30m"
cycle = { event = "transfer", from = "card", to = "payee", amount = "amount", hops = [2, 4], share = [0.1, 10.0] }
[pattern.events]
transfer = { kind = "payment" }
"#;

fn shops() -> Enrich {
    Enrich::of("shop_live", &["shop"], reference("shops")).number("risk").or(0.5).live()
}

fn flow() -> (Arc<dyn Dataflow>, Setup) {
    let velocities = vec![
        Velocity::of("card", &["card"])
            .over(&[Window::minutes(30)])
            .count()
            .sum("amount")
            .measure(Measure::Std("amount".into())),
        Velocity::of("shop", &["shop"]).over(&[Window::hours(1)]).count().max("amount").distinct("card"),
        Velocity::of("both", &["card", "shop"]).over(&[Window::minutes(10)]).count(),
    ];
    let features = FeatureSet::new()
        .velocities(velocities)
        .family(Patterns::parse(PATTERNS).expect("patterns"))
        .family(shops())
        .family(Enrich::of("card_live", &["card"], reference("blocked")).known().live());
    flows::of("transfers", SCHEMA, features)
}

/// Disordered payments and logins with corrections (of rank, time, amount and key) and withdrawals, and rows of references.
fn inputs(seed: u64, count: usize, schema: &Schema) -> Vec<Input> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let slot = |name: &str| schema.slot(name).expect("a field");
    let (card, payee, shop, amount) = (slot("card"), slot("payee"), slot("shop"), slot("amount"));
    let mut builder = EventBuilder::new(schema);
    let mut rows = RowDecoder::new(reference("shops"), Limits::default());
    let (mut now_ms, mut events, mut inputs): (i64, Vec<Event>, Vec<Input>) =
        (1_700_000_000_000, Vec::new(), Vec::new());
    for number in 0..count as u64 {
        now_ms += random.random_range(0..4_000);
        if random.random_bool(0.02) {
            let row = format!("{{\"shop\":\"s{}\",\"risk\":0.{}}}", random.random_range(0..3), number % 90);
            inputs.push(Input::Reference(rows.row(shops().tag(), &row, false).expect("a row")));
        }
        let old = events.len().checked_sub(1 + random.random_range(0..40)).map(|at| events[at].clone());
        let mut event = |random: &mut ChaCha8Rng, id: u64, rank: u64, time: i64, op: Op| {
            builder.set_text(card, &format!("c{}", random.random_range(0..12)));
            builder.set_text(payee, &format!("c{}", random.random_range(0..12)));
            builder.set_text(shop, &format!("s{}", random.random_range(0..3)));
            builder.set_int(amount, random.random_range(1..50_000));
            let kind = u16::from(random.random_bool(0.1));
            builder.finish(Id::from_ranked(rank, id), time, kind, op, schema)
        };
        let event = match (random.random_range(0..100), old) {
            (0..12, _) => {
                let late_ms = random.random_range(1..900_000);
                event(&mut random, number, 0, now_ms - late_ms, Op::Insert)
            }
            (12..18, Some(old)) => {
                let (rank, moved) = (random.random_range(0..3), random.random_range(-1..2) * 500);
                event(&mut random, old.id.lo, rank, old.time + moved, Op::Correct)
            }
            (18..22, Some(mut old)) => {
                old.op = Op::Withdraw;
                old
            }
            _ => event(&mut random, number, 0, now_ms, Op::Insert),
        };
        events.push(event.clone());
        inputs.push(Input::Event(event));
    }
    inputs
}

/// Every diff with all that it says.
fn told(outcome: &Outcome) -> Vec<String> {
    let said = |diff: &deltawatch::score::assessment::ScoredDiff| {
        let (id, time, cause, assessment) = (diff.event.id, diff.event.time, diff.cause, &diff.assessment);
        format!(
            "{id:?} {} {} {} {time} {cause:?} {:?} {assessment:?}",
            diff.revision, diff.diff, diff.epoch, diff.decision
        )
    };
    let mut told: Vec<String> = outcome.scored.iter().map(said).collect();
    told.sort();
    told
}

#[test]
fn revisions_in_between_do_not_depend_on_the_number_of_workers() {
    let (dataflow, setup) = flow();
    for (seed, rows, batching) in
        [(1, 3, Batching::Random(4)), (2, 20, Batching::Fixed(7)), (3, 1, Batching::EachEvent)]
    {
        let plan = Plan::of_inputs(&inputs(seed, 1_000, &setup.schema), batching);
        let run = |workers| {
            let settings = EngineSettings { repair_rows_max: rows, ..EngineSettings::default() };
            let harness = Harness::new(dataflow.clone(), setup.clone()).settings(settings).workers(workers);
            harness.run(&plan).expect("it builds")
        };
        let one = run(1);
        let revised: BTreeSet<u64> =
            one.scored.iter().filter(|diff| diff.revision > 0).map(|diff| diff.epoch).collect();
        let waited = one.scored.iter().filter(|diff| diff.revision > 3).count();
        assert!(revised.len() > 8 && waited > 50, "seed {seed}: {} epochs revise, {waited} many times", revised.len());
        let (wanted, beyond) = (told(&one), one.metrics.revisions_beyond.get());
        for workers in [2, 3, 4] {
            let other = run(workers);
            let told = told(&other);
            let differs = wanted.iter().zip(&told).find(|(a, b)| a != b);
            assert!(differs.is_none() && wanted.len() == told.len(), "seed {seed}, {workers} workers: {differs:?}");
            assert_eq!(other.metrics.revisions_beyond.get(), beyond, "seed {seed}, {workers} workers");
        }
    }
}
