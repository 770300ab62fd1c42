//! The operator through the engine: every column against its definition, late and withdrawn events, workers, restarts.

use std::collections::BTreeMap;
use std::sync::Arc;

use deltawatch::dataflow::{Dataflow, EngineSettings, Setup};
use deltawatch::event::{Event, EventBuilder, Id, Op};
use deltawatch::feature::FeatureSet;
use deltawatch::testkit::{Batching, Harness, Plan, resolve};
use deltawatch::views::Family;
use deltawatch::views::identity::{ClusterMeasure as C, Flag, Identity};
use deltawatch::views::velocity::{Filter, Window};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::flows;

const SCHEMA: &str = r#"
name = "people"
kinds = ["payment", "order", "refund", "login", "label"]
scored = ["payment", "order"]
field = [
  { name = "id", type = "int", role = "id" },
  { name = "time", type = "time", role = "time" },
  { name = "kind", type = "text", role = "kind" },
  { name = "account", type = "text", role = "entity" },
  { name = "device", type = "text", role = "entity" },
  { name = "card", type = "int", role = "entity" },
  { name = "ip", type = "text", role = "entity" },
  { name = "street", type = "text" },
  { name = "town", type = "text" },
  { name = "outcome", type = "text" },
  { name = "amount", type = "decimal", scale = 2, role = "amount" },
  { name = "target", type = "int", role = "label_target" },
  { name = "fraud", type = "bool", role = "label_value" },
]
"#;

const HOUR_MS: i64 = 3_600_000;

/// The flags, all of which are up now and then.
pub const FLAGS: [&str; 4] = ["burst", "mostly_back", "large", "order_after_refunds"];

pub fn identity() -> Identity {
    let every = [
        C::Size,
        C::Accounts,
        C::StrongSize,
        C::StrongAccounts,
        C::SizeBefore,
        C::MergesTwo,
        C::Age,
        C::Growth,
        C::Links,
        C::Density,
        C::HubShare,
        C::Frauds,
        C::FraudAccounts,
        C::FraudRate,
        C::FraudRateSmoothed,
        C::SinceFraud,
        C::FraudAccountsAt(1),
        C::FraudAccountsAt(2),
        C::Members("device".into()),
        C::Members("ip".into()),
        C::Degree("card".into()),
        C::Degree("ip".into()),
        C::AccountDegree("device".into()),
        C::Count(Window::hours(24)),
        C::Count(Window::days(7)),
        C::Count(Window::days(30)),
        C::Count(Window::AllTime),
        C::Sum(Window::hours(24)),
        C::Sum(Window::days(7)),
        C::Sum(Window::days(30)),
        C::Sum(Window::AllTime),
        C::TallyCount("any".into()),
        C::TallyCount("declined".into()),
        C::TallySum("declined".into()),
        C::TallyCount("refunded".into()),
        C::TallySum("refunded".into()),
        C::TallySum("paid".into()),
        C::TallyCount("large".into()),
        C::TallyCount("night".into()),
    ];
    let identity = Identity::of("account")
        .account_cap(9)
        .strong("device", 4)
        .expires(Window::days(20))
        .strong("card", 3)
        .expires(Window::days(40))
        .weak("ip", 5)
        .tally("any", Filter::Not(Box::new(Filter::kind("label"))), Window::minutes(150))
        .tally("declined", Filter::is("outcome", "declined"), Window::hours(72))
        .tally("refunded", Filter::kind("refund"), Window::days(10))
        .tally("paid", Filter::kind("payment").and(Filter::is("outcome", "approved")), Window::days(10))
        // Longer than any link lives.
        .tally("large", Filter::AtLeast("amount".into(), 8_000), Window::days(60))
        .tally("night", Filter::kind("login").and(Filter::Hours(0, 6)), Window::days(5))
        .flag(Flag::named(FLAGS[0]).count("any", 3))
        .flag(Flag::named(FLAGS[1]).count("refunded", 2).share("refunded", "paid", 400))
        .flag(Flag::named(FLAGS[2]).count("large", 3).sum("large", 28_000))
        .flag(Flag::named(FLAGS[3]).count("refunded", 2).when(Filter::kind("order")))
        .link("address", &["street", "town"], 6, false)
        .expires(Window::days(10));
    every.into_iter().fold(identity, Identity::column)
}

/// Every column of identity.
pub fn people() -> (Arc<dyn Dataflow>, Setup) {
    flows::of("people", SCHEMA, FeatureSet::new().family(identity()))
}

/// Events in order over a few months: payments and orders, refunds and logins without a row, and labels of payments that
/// come when they say.
pub fn events(seed: u64, count: usize) -> Vec<Event> {
    events_of(seed, count, |random| random.random_range(1..10_000))
}

/// The same with other amounts.
fn events_of(seed: u64, count: usize, amount: fn(&mut StdRng) -> i64) -> Vec<Event> {
    let schema = people().1.schema;
    let mut random = StdRng::seed_from_u64(seed);
    let mut builder = EventBuilder::new(&schema);
    let slot = |name: &str| schema.slot(name).expect("a field");
    let (mut events, mut payments, mut now_ms) = (Vec::new(), Vec::new(), 1_700_000_000_000);
    for number in 1..=count as u64 {
        now_ms += if random.random_bool(0.02) { 15 * 24 * HOUR_MS } else { random.random_range(0..3 * HOUR_MS) };
        let kinds = ["payment", "payment", "payment", "payment", "order", "refund", "login", "label"];
        let kind = kinds[random.random_range(0..kinds.len())];
        let kind = if payments.is_empty() { "payment" } else { kind };
        builder.set_int(slot("id"), number as i64);
        builder.set_int(slot("time"), now_ms);
        builder.set_text(slot("kind"), kind);
        if kind == "label" {
            // One label each: an answer given before a label changed is not what the last label gives.
            let target: u64 = payments.swap_remove(random.random_range(0..payments.len()));
            builder.set_int(slot("target"), target as i64);
            builder.set_int(slot("fraud"), i64::from(random.random_bool(0.7)));
        } else {
            let mut name = |field: &str, many: u32, builder: &mut EventBuilder| {
                let text = match random.random_range(0..many + 2) {
                    0 => return,
                    1 => "unknown".to_owned(),
                    _ if field == "ip" => format!("203.0.113.{}", 1 + random.random_range(0..many)),
                    _ => format!("{field}-{}", random.random_range(0..many)),
                };
                builder.set_text(slot(field), &text);
            };
            [("account", 25), ("device", 30), ("ip", 6), ("street", 12), ("town", 2)]
                .into_iter()
                .for_each(|(field, many)| name(field, many, &mut builder));
            if random.random_bool(0.7) {
                builder.set_int(slot("card"), random.random_range(0..30));
            }
            builder.set_int(slot("amount"), amount(&mut random));
            builder.set_text(slot("outcome"), if random.random_bool(0.7) { "approved" } else { "declined" });
        }
        if kind == "payment" {
            payments.push(number);
        }
        let kind = schema.kind(kind).expect("a kind");
        events.push(builder.finish(Id::from_int(number), now_ms, kind, Op::Insert, &schema));
    }
    events
}

fn rows(events: &[Event], batching: Batching, workers: usize) -> BTreeMap<Id, Vec<f64>> {
    // Labels come for payments of any age.
    let settings = EngineSettings { label_ms: 10_000 * 24 * HOUR_MS, ..EngineSettings::default() };
    let (dataflow, setup) = people();
    let harness = Harness::new(dataflow, setup).settings(settings).workers(workers).unscored();
    harness.run(&Plan::of(events, batching)).expect("it runs").final_rows()
}

fn same(left: &BTreeMap<Id, Vec<f64>>, right: &BTreeMap<Id, Vec<f64>>) {
    assert_eq!(left.keys().collect::<Vec<_>>(), right.keys().collect::<Vec<_>>());
    let names = identity().names();
    for (id, row) in left {
        for ((name, value), other) in names.iter().zip(row).zip(&right[id]) {
            assert!(
                value.to_bits() == other.to_bits() || (value.is_nan() && other.is_nan()),
                "{id:?} {name}: {value} and {other}"
            );
        }
    }
}

/// Rows by definition, with the defaults for transactions without an account.
fn expected(events: &[Event]) -> BTreeMap<Id, Vec<f64>> {
    let schema = people().1.schema;
    let retained = resolve::retained(events, &schema);
    let mut rows = identity().expected(&schema, &retained);
    let defaults: Vec<f64> = identity().columns().into_iter().map(|(_, default)| default).collect();
    for (event, _) in retained.iter().filter(|(event, _)| schema.is_scored(event.kind)) {
        rows.entry(event.id).or_insert_with(|| defaults.clone());
    }
    rows
}

#[test]
fn every_column_is_as_defined() {
    for seed in 0..3 {
        let events = events(seed, 400);
        let expected = expected(&events);
        assert!(expected.len() > 200);
        let names = identity().names();
        for name in FLAGS.map(|flag| format!("cluster_{flag}_now")) {
            let column = names.iter().position(|column| *column == name).expect("a column");
            let up = expected.values().filter(|row| row[column] == 1.0).count();
            assert!(up > 5 && up + 5 < expected.len(), "{name} is up in {up} of {} rows", expected.len());
        }
        for (batching, workers) in
            [(Batching::EachEvent, 1), (Batching::Fixed(50), 1), (Batching::Random(seed), 2), (Batching::Random(7), 4)]
        {
            same(&rows(&events, batching, workers), &expected);
        }
    }
}

#[test]
fn amounts_of_any_size_add_up_over_a_cluster() {
    let edges = |random: &mut StdRng| match random.random_range(0..4) {
        0 => i64::MAX,
        1 => 5_000_000_000_000_000_000,
        2 => i64::MIN + random.random_range(0..9_000),
        _ => random.random_range(1..10_000),
    };
    let events = events_of(5, 400, edges);
    let expected = expected(&events);
    let beyond = expected.values().flatten().filter(|value| value.abs() > 2f64.powi(64) / 100.0).count();
    assert!(beyond > 50, "only {beyond} values are beyond 64 bits");
    for (batching, workers) in [(Batching::EachEvent, 1), (Batching::Random(3), 2)] {
        same(&rows(&events, batching, workers), &expected);
    }
}
