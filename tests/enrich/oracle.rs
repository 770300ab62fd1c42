//! Look-ups against their definition, over random rows of the references between late, corrected and withdrawn events.

use std::collections::BTreeMap;
use std::sync::Arc;

use deltawatch::dataflow::{Dataflow, Parameters, Setup};
use deltawatch::event::{Event, Lane, Limits, Schema};
use deltawatch::flow::ReferenceRecord;
use deltawatch::flow::reference::{Body, NO_TIME};
use deltawatch::generator::{Generator, GeneratorConfig};
use deltawatch::source::tables::RowDecoder;
use deltawatch::testkit::compare::same_rows;
use deltawatch::testkit::{Batching, Harness, Input, Plan, expected, random};
use deltawatch::views::lookup::Enrich;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{look_ups, networks, reference};
use crate::dataflows::folder;

/// Puts changes of the references between events, about one to three events. A change is a row as JSON and whether it goes,
/// for the look-up at a place.
fn interleaved(
    events: Vec<Event>,
    look_ups: &[Enrich],
    seed: u64,
    mut change: impl FnMut(&mut ChaCha8Rng, usize, i64) -> (String, bool),
) -> Vec<Input> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut rows: Vec<RowDecoder> =
        look_ups.iter().map(|one| RowDecoder::new(one.reference().clone(), Limits::default())).collect();
    let (mut inputs, mut now_ms) = (Vec::new(), 0);
    for event in events {
        now_ms = now_ms.max(event.time);
        inputs.push(Input::Event(event));
        while random.random_bool(0.25) {
            let at = random.random_range(0..look_ups.len());
            let (row, gone) = change(&mut random, at, now_ms);
            inputs.push(Input::Reference(rows[at].row(look_ups[at].tag(), &row, gone).expect("a row")));
        }
    }
    inputs
}

/// Cut in several ways, on one worker and several, the outcome is what the definition makes of the same epochs.
fn check(name: &str, flow: &(Arc<dyn Dataflow>, Setup), inputs: &[Input], drained: bool) {
    let (dataflow, setup) = flow;
    let features = dataflow.features(setup).expect("features");
    let mut outcomes = Vec::new();
    for batching in [Batching::One, Batching::EachEvent, Batching::Fixed(17), Batching::Random(5)] {
        let mut plan = Plan::of_inputs(inputs, batching);
        let wanted = expected::of_plan(&features, &setup.schema, &plan);
        // Within an epoch, offsets and times say what comes first, not the order in which a worker gets to see it.
        let mut random = ChaCha8Rng::seed_from_u64(7);
        for epoch in &mut plan.epochs {
            epoch.arrivals.shuffle(&mut random);
            epoch.references.shuffle(&mut random);
        }
        for workers in [1, 2, 4] {
            let harness = Harness::new(dataflow.clone(), setup.clone()).workers(workers);
            let harness = if drained { harness.drained() } else { harness };
            let outcome = harness.run(&plan).expect("it builds");
            assert_eq!(outcome.metrics.too_late.get() + outcome.metrics.revisions_missed.get(), 0, "{name}");
            same_rows(&outcome.final_rows(), &wanted, &features.columns())
                .unwrap_or_else(|says| panic!("{name}, {batching:?}, {workers} workers, drained {drained}: {says}"));
        }
        outcomes.push(wanted);
    }
    // What is seen does depend on the epochs: otherwise the records show too little.
    let columns = features.columns();
    assert!(same_rows(&outcomes[0], &outcomes[1], &columns).is_err(), "{name}: every cut gives the same");
    for (at, column) in columns.iter().enumerate() {
        let mut values: Vec<u64> = outcomes.iter().flat_map(BTreeMap::values).map(|row| row[at].to_bits()).collect();
        values.sort_unstable();
        values.dedup();
        assert!(values.len() > 1, "{name}: column {column} has one value only");
    }
}

pub fn merchant_risk() -> (Arc<dyn Dataflow>, Setup) {
    let dataflow =
        folder::all().into_iter().find(|dataflow| dataflow.name() == "merchant_risk").expect("it is shipped");
    let schema = Arc::new(Schema::parse("payments", dataflow.schema()).expect("a valid schema"));
    (dataflow, Setup { schema, parameters: Parameters::default() })
}

/// Payments with much of what makes trouble, so many a second.
pub fn payments(setup: &Setup, seed: u64, rate_per_s: f64) -> Vec<Event> {
    let config = GeneratorConfig {
        seed,
        rate_per_s,
        customers: 30,
        merchants: 8,
        late_share: 0.1,
        late_ms_max: 280_000,
        duplicate_share: 0.05,
        correction_share: 0.1,
        withdrawal_share: 0.05,
        ..GeneratorConfig::default()
    };
    let generator = Generator::new(config, setup.schema.clone()).expect("a valid configuration");
    generator.take(400).map(|generated| generated.event).collect()
}

/// A value of a field of one of the payments.
fn any(random: &mut ChaCha8Rng, events: &[Event], setup: &Setup, field: &str) -> String {
    let slot = setup.schema.slot(field).expect("a field");
    loop {
        if let Some(text) = events[random.random_range(0..events.len())].text(slot) {
            return text.to_owned();
        }
    }
}

/// Payments with rows of the shipped references between them: of merchants, of a list of cards, of networks as whole files.
pub fn with_rows(flow: &(Arc<dyn Dataflow>, Setup), events: Vec<Event>, seed: u64) -> Vec<Input> {
    let (dataflow, setup) = flow;
    let features = dataflow.features(setup).expect("features");
    let all: Vec<Enrich> = features.families().iter().filter_map(|family| family.enrich().cloned()).collect();
    let (tables, networks_tag) = (&all[..2], all[2].tag());
    let known = events.clone();
    let mut inputs = interleaved(events, tables, seed, |random, at, _| {
        let gone = random.random_bool(0.3);
        let row = match at {
            0 => {
                let tier = ["new", "established", "watched", "other"][random.random_range(0..4)];
                let merchant = any(random, &known, setup, "merchant");
                let (risk, opened) = (random.random_range(0..8) as f64 / 8.0, random.random_range(10..29));
                match random.random_bool(0.2) {
                    true => format!(r#"{{"merchant":"{merchant}"}}"#),
                    false => format!(
                        r#"{{"merchant":"{merchant}","risk":{risk},"tier":"{tier}","opened":"2024-01-{opened}T00:00:00Z"}}"#
                    ),
                }
            }
            _ => format!(r#"{{"card":"{}"}}"#, any(random, &known, setup, "card")),
        };
        (row, gone)
    });
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    for hosting in [false, true, false] {
        let addresses: Vec<String> = (0..60).map(|_| any(&mut random, &known, setup, "ip")).collect();
        let content = networks::addresses(&addresses, hosting);
        let body = Body::Networks(content.into());
        let record =
            ReferenceRecord { to: 0, tag: networks_tag, time: NO_TIME, lane: Lane::of_table(1, 0), offset: 0, body };
        inputs.insert(random.random_range(0..inputs.len()), Input::Reference(record));
    }
    inputs
}

/// The shipped joins: a merchant as of arrival, a list of cards live, networks that change as a whole file.
#[test]
fn merchant_risk_is_its_definition() {
    let flow = merchant_risk();
    // Within the hour in which cards revise; and over many, which takes epochs without anything waiting.
    for (seed, rate_per_s, drained) in [(1, 0.2, false), (2, 0.2, false), (3, 0.01, true)] {
        let inputs = with_rows(&flow, payments(&flow.1, seed, rate_per_s), seed);
        check(&format!("merchant_risk, seed {seed}"), &flow, &inputs, drained);
    }
}

/// Rows with a time of their own, prefixes, pairs and categories, as of arrival and live beside each other.
#[test]
fn look_ups_are_their_definition() {
    let all = vec![
        Enrich::of("card", &["card"], reference("cards")).number("limit").known(),
        Enrich::of("card_live", &["card"], reference("blocked")).known().live(),
        Enrich::of("shop", &["shop"], reference("shops")).number("risk").or(0.5).category("tier", &["gold", "iron"]),
        Enrich::of("brand", &["shop"], reference("brands")).code("owner").prefix(2).live(),
        Enrich::of("pair", &["card", "shop"], reference("pairs")).number("seen").live(),
    ];
    let flow = look_ups(all.clone());
    for seed in [1, 2] {
        // Values of the schema's fields are v0 to v11.
        let events = random::records(&flow.1.schema, seed, 400);
        let inputs = interleaved(events, &all, seed, |random, at, now_ms| {
            let (card, shop) = (random.random_range(0..12), random.random_range(0..12));
            let row = match at {
                0 => {
                    // Times do not fall within a partition.
                    let limit = random.random_range(0..9);
                    format!(r#"{{"card":"v{card}","limit":{limit},"since":{now_ms}}}"#)
                }
                1 => format!(r#"{{"card":"v{card}"}}"#),
                2 => {
                    let (tier, risk) = (["gold", "iron", "tin"][random.random_range(0..3)], random.random_range(0..4));
                    format!(r#"{{"shop":"v{shop}","risk":{risk},"tier":"{tier}"}}"#)
                }
                3 => format!(r#"{{"brand":"v{}","owner":"o{}"}}"#, shop % 10, random.random_range(0..3)),
                _ => format!(r#"{{"card":"v{card}","shop":"v{shop}","seen":{}}}"#, random.random_bool(0.5)),
            };
            (row, random.random_bool(0.25))
        });
        check(&format!("look-ups, seed {seed}"), &flow, &inputs, false);
    }
}
