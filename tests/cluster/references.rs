//! Reference files and topics over several processes: each is read by one worker, and its rows travel to the owners of keys.

use std::path::Path;

use deltawatch::event::{Lane, Limits, Op};
use deltawatch::flow::ReferenceRecord;
use deltawatch::flow::reference::{Body, NO_TIME};
use deltawatch::source::kafka::KafkaConfig;
use deltawatch::source::tables::{RowDecoder, TableInput, WantedTable};
use deltawatch::testkit::{Batching, Input, Plan, expected, random};
use deltawatch::views::lookup::Enrich;
use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::{Trial, on_two_processes, two_processes};
use crate::enrich::{look_ups, networks, oracle, reference};

/// The rows of a look-up, in the order of its file, as records.
fn records(look_up: &Enrich, rows: &[String]) -> Vec<Input> {
    let mut decoder = RowDecoder::new(look_up.reference().clone(), Limits::default());
    rows.iter().map(|row| Input::Reference(decoder.row(look_up.tag(), row, false).expect("a row"))).collect()
}

fn wanted(look_up: &Enrich, place: TableInput) -> WantedTable {
    WantedTable { reference: look_up.reference().clone(), tag: look_up.tag(), place }
}

fn file(look_up: &Enrich, directory: &Path, name: &str, content: &[u8]) -> WantedTable {
    let path = directory.join(name);
    std::fs::write(&path, content).expect("a file");
    wanted(look_up, TableInput::File(path.display().to_string()))
}

/// The shipped joins on three files: what is there before the first payment is seen by all, whoever reads it.
#[test]
fn merchant_risk_with_reference_files() {
    let flow = oracle::merchant_risk();
    let features = flow.0.features(&flow.1).expect("features");
    let all: Vec<Enrich> = features.families().iter().filter_map(|family| family.enrich().cloned()).collect();
    let events = oracle::payments(&flow.1, 5, 0.2);
    let text = |field: &str| {
        let slot = flow.1.schema.slot(field).expect("a field");
        let mut values: Vec<String> = events.iter().filter_map(|event| event.text(slot).map(str::to_owned)).collect();
        values.sort();
        values.dedup();
        values.into_iter().step_by(2)
    };
    let risk = |(at, merchant): (usize, String)| format!(r#"{{"merchant":"{merchant}","risk":0.{at},"tier":"new"}}"#);
    let merchants: Vec<String> = text("merchant").enumerate().map(risk).collect();
    let cards: Vec<String> = text("card").map(|card| format!(r#"{{"card":"{card}"}}"#)).collect();
    let networks = networks::addresses(&text("ip").collect::<Vec<_>>(), true);

    let directory = tempfile::tempdir().expect("a directory");
    let references = vec![
        file(&all[0], directory.path(), "merchants.jsonl", merchants.join("\n").as_bytes()),
        file(&all[1], directory.path(), "cards.jsonl", cards.join("\n").as_bytes()),
        file(&all[2], directory.path(), "networks.mmdb", &networks),
    ];
    let mut inputs = [records(&all[0], &merchants), records(&all[1], &cards)].concat();
    let body = Body::Networks(networks.into());
    let tag = all[2].tag();
    inputs.push(Input::Reference(ReferenceRecord {
        to: 0,
        tag,
        time: NO_TIME,
        lane: Lane::of_table(0, 0),
        offset: 0,
        body,
    }));
    inputs.extend(events.iter().cloned().map(Input::Event));
    let rows = expected::of_plan(&features, &flow.1.schema, &Plan::of_inputs(&inputs, Batching::One));
    for (at, column) in features.columns().iter().enumerate().filter(|(_, name)| name.ends_with("known")) {
        let known = rows.values().filter(|row| row[at] == 1.0).count();
        assert!((1..rows.len()).contains(&known), "{column}: {known} of {}", rows.len());
    }
    on_two_processes(&Trial::new("merchant_risk".to_owned(), flow, references, events, rows));
}

/// Rows with a time of their own from a file, as of arrival and live, and a compacted topic. Without late events a payment
/// sees what was known at its time, however the records are dealt to workers.
#[test]
fn timed_rows_and_a_compacted_topic() {
    let cards = Enrich::of("card", &["card"], reference("cards")).number("limit").known();
    let live = Enrich::of("limit", &["card"], reference("cards")).number("limit").live();
    let shops = Enrich::of("shop", &["shop"], reference("shops")).number("risk").known();
    let flow = look_ups(vec![cards.clone(), live, shops.clone()]);
    let schema = flow.1.schema.clone();
    let mut events = random::records(&schema, 3, 600);
    events.retain(|event| event.op == Op::Insert);
    events.sort_by_key(|event| (event.time, event.id));
    events.dedup_by_key(|event| event.id);
    let limit = |(at, event): (usize, &deltawatch::event::Event)| {
        format!(r#"{{"card":"v{at}","limit":{at},"since":{}}}"#, event.time)
    };
    let limits: Vec<String> = events.iter().step_by(events.len() / 10).take(10).enumerate().map(limit).collect();
    let risks: Vec<String> = (0..8).map(|shop| format!(r#"{{"shop":"v{shop}","risk":0.{shop}}}"#)).collect();

    let cluster = MockCluster::new(1).expect("a broker");
    cluster.create_topic("shops", 2, 1).expect("a topic");
    let brokers = cluster.bootstrap_servers();
    let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", &brokers).create().expect("a producer");
    for (shop, row) in risks.iter().enumerate() {
        let key = format!("v{shop}");
        let record = BaseRecord::to("shops").partition(shop as i32 % 2).key(&key).payload(row);
        producer.send(record).expect("room");
    }
    producer.flush(std::time::Duration::from_secs(20)).expect("acknowledged");
    let config = KafkaConfig::resolve(Some(&brokers), None, &[]).expect("a configuration");
    let directory = tempfile::tempdir().expect("a directory");
    let references = vec![
        file(&cards, directory.path(), "cards.jsonl", limits.join("\n").as_bytes()),
        wanted(&shops, TableInput::Topic(config, "shops".to_owned())),
    ];

    let mut inputs = [records(&cards, &limits), records(&shops, &risks)].concat();
    inputs.extend(events.iter().cloned().map(Input::Event));
    let features = flow.0.features(&flow.1).expect("features");
    let rows = expected::of_plan(&features, &schema, &Plan::of_inputs(&inputs, Batching::One));
    assert!(rows.values().any(|row| row[0].is_nan() && !row[2].is_nan()), "the live join sees more");
    two_processes(&Trial::new("timed rows and a topic".to_owned(), flow, references, events, rows));
}
