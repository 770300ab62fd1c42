//! Kafka: configuration without a broker; source and sink against a real one (`scripts/kafka.sh start`), whose address
//! stands in `DELTAWATCH_TEST_BROKERS`.

mod catch_up;
mod config;
mod delivery;
mod health;
mod hold;
mod kill;
mod outage;
mod pipeline;
mod round_trip;
mod state;
mod verified;

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use deltawatch::event::{Payload, Record};
use deltawatch::sink::kafka::KafkaWriter;
use deltawatch::sink::{Headers, OutputRecord, Writer};
use deltawatch::source::kafka::{KafkaConfig, KafkaSource, Position};
use deltawatch::source::{Reader, Ready, Source, StartOffsets};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;

/// The longest that a test waits for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// The brokers to test against, or a loud line that nothing was tested.
fn brokers() -> Option<String> {
    let brokers = std::env::var("DELTAWATCH_TEST_BROKERS").ok().filter(|brokers| !brokers.is_empty());
    if brokers.is_none() {
        eprintln!(
            "SKIPPED: set DELTAWATCH_TEST_BROKERS to test against a real broker, for example: \
             scripts/kafka.sh start && DELTAWATCH_TEST_BROKERS=127.0.0.1:19092 cargo test --release kafka"
        );
    }
    brokers
}

fn config(brokers: &str) -> KafkaConfig {
    KafkaConfig::resolve(Some(brokers), None, &[]).unwrap().with_broker_timeout(Duration::from_secs(10))
}

fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return output;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn admin(brokers: &str) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap()
}

/// A new topic with a name of its own.
fn topic(brokers: &str, partitions: i32) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let since = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis();
    let name = format!("test-{since}-{}-{count}", std::process::id());
    // Records with timestamps of long ago must not fall to retention.
    let topic = NewTopic::new(&name, partitions, TopicReplication::Fixed(1)).set("retention.ms", "-1");
    let made = block_on(admin(brokers).create_topics([&topic], &AdminOptions::new())).unwrap();
    assert!(made.iter().all(Result::is_ok), "{made:?}");
    name
}

fn add_partitions(brokers: &str, topic: &str, count: usize) {
    let made = block_on(admin(brokers).create_partitions([&NewPartitions::new(topic, count)], &AdminOptions::new()));
    assert!(made.unwrap().iter().all(Result::is_ok));
}

fn output(number: usize) -> OutputRecord {
    OutputRecord {
        key: format!("t-{number}").into_bytes(),
        payload: Some(format!("{{\"id\":\"t-{number}\"}}").into_bytes()),
        last_line: Vec::new(),
        headers: Headers { epoch: number as u64, diff: 1, cause: "arrival" },
        arrived_ns: number as u64,
    }
}

fn write_all(config: &KafkaConfig, topic: &str, records: impl IntoIterator<Item = OutputRecord>) {
    let mut writer = KafkaWriter::open(config, topic, None).unwrap();
    for record in records {
        writer.write(record).unwrap();
    }
    writer.flush().unwrap();
}

fn everything(config: &KafkaConfig, topic: &str) -> KafkaSource {
    KafkaSource::new(config.clone(), topic, Position::Earliest, Some(Position::Latest))
}

/// Reads a bounded source to its end with some workers, in turn.
fn read_all(source: &KafkaSource, workers: usize, start: &StartOffsets) -> Vec<Record> {
    let mut readers: Vec<Box<dyn Reader>> =
        (0..workers).map(|worker| source.open(worker, workers, start).unwrap()).collect();
    let mut records = Vec::new();
    let begin = Instant::now();
    let mut done = vec![false; workers];
    while done.contains(&false) {
        for (worker, reader) in readers.iter_mut().enumerate() {
            let before = records.len();
            done[worker] = reader.poll(1000, &mut records).unwrap() == Ready::Done;
            for record in &records[before..] {
                assert_eq!(record.partition as usize % workers, worker, "a partition of another worker");
            }
        }
        assert!(begin.elapsed() < PATIENCE, "not done after {} records: {done:?}", records.len());
        std::thread::sleep(Duration::from_millis(1));
    }
    records
}

/// Polls an unbounded reader until it has given `count` records.
fn read_some(reader: &mut dyn Reader, count: usize) -> Vec<Record> {
    let mut records = Vec::new();
    let begin = Instant::now();
    while records.len() < count {
        reader.poll(count - records.len(), &mut records).unwrap();
        assert!(begin.elapsed() < PATIENCE, "{} of {count} records", records.len());
        std::thread::sleep(Duration::from_millis(1));
    }
    records
}

fn text(record: &Record) -> &str {
    match &record.payload {
        Payload::Json(bytes) => std::str::from_utf8(bytes).unwrap(),
        other => panic!("not JSON: {other:?}"),
    }
}

fn assert_offsets_rise(records: &[Record]) {
    let mut last = BTreeMap::new();
    for record in records {
        if let Some(before) = last.insert(record.partition, record.offset) {
            assert!(before < record.offset, "offset {} after {before} in {}", record.offset, record.partition);
        }
    }
}
