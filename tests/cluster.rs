//! Whole jobs: two processes give what one gives, and a restart from the remap log goes on as if nothing had happened.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use deltawatch::decode::Limits;
use deltawatch::epoch::Pace;
use deltawatch::event::Event;
use deltawatch::pipeline::EngineSettings;
use deltawatch::runtime::job::{Job, Outputs};
use deltawatch::runtime::metrics::Metrics;
use deltawatch::sink::OutputRecord;
use deltawatch::testkit::memory::{MemorySource, MemoryWriter};
use deltawatch::testkit::{TestModel, arrive};
use timely::{CommunicationConfig, Config, WorkerConfig};

use crate::{flows, invariance};

const PARTITIONS: usize = 3;

fn records() -> Vec<Event> {
    let (dataflow, setup) = flows::handbook();
    let plans = dataflow.features(&setup).expect("features").plans(&setup.schema).expect("it resolves");
    arrive::within(&invariance::handbook_records(11, 3_000, &setup.schema), &setup.schema, &plans, 500_000)
}

fn job(source: MemorySource, pace: Pace, state: Option<&Path>) -> (Job, MemoryWriter) {
    let (dataflow, setup) = flows::handbook();
    let columns = dataflow.features(&setup).expect("features").columns();
    let writer = MemoryWriter::default();
    let job = Job {
        references: Default::default(),
        services: Default::default(),
        dataflow,
        setup,
        settings: EngineSettings { scorer: Some(TestModel::scorer(columns)), ..EngineSettings::default() },
        source: Arc::new(source),
        limits: Limits::default(),
        pace,
        epoch_records_max: 50,
        outputs: Outputs { scored: Some(Box::new(writer.clone())), ..Outputs::default() },
        state: state.map(Path::to_owned),
        stop: Arc::new(AtomicBool::new(false)),
        metrics: Arc::new(Metrics::default()),
    };
    (job, writer)
}

fn config(communication: CommunicationConfig) -> Config {
    Config { communication, worker: WorkerConfig::default() }
}

/// What holds of each transaction in the end. Checks that every -1 takes back what was said.
fn consolidated(records: &[OutputRecord]) -> BTreeMap<Vec<u8>, String> {
    let mut held = BTreeMap::new();
    for record in records {
        let Some(payload) = &record.payload else { continue };
        let value: serde_json::Value = serde_json::from_slice(payload).expect("JSON");
        let assessment = value["assessment"].to_string();
        match record.headers.diff {
            1 => assert_eq!(held.insert(record.key.clone(), assessment), None, "two hold: {value}"),
            _ => assert_eq!(held.remove(&record.key), Some(assessment), "taken back, never said: {value}"),
        }
    }
    held
}

/// Shows the first transactions that differ.
fn assert_same(got: &BTreeMap<Vec<u8>, String>, wanted: &BTreeMap<Vec<u8>, String>) {
    let keys: std::collections::BTreeSet<_> = got.keys().chain(wanted.keys()).collect();
    let unlike: Vec<_> = keys.into_iter().filter(|key| got.get(*key) != wanted.get(*key)).collect();
    let first: Vec<_> =
        unlike.iter().take(3).map(|key| (String::from_utf8_lossy(key), got.get(*key), wanted.get(*key))).collect();
    assert!(unlike.is_empty(), "{} of {} differ: {first:#?}", unlike.len(), wanted.len());
}

fn reference(events: &[Event]) -> BTreeMap<Vec<u8>, String> {
    let (job, writer) = job(MemorySource::dealt(events, PARTITIONS), Pace::Bounded, None);
    job.run(config(CommunicationConfig::Thread)).expect("the job runs");
    let held = consolidated(&writer.records());
    assert!(held.len() > 1_000);
    held
}

#[test]
fn two_processes_give_what_one_gives() {
    let events = records();
    let wanted = reference(&events);
    let free = || {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.local_addr().expect("an address").to_string()
    };
    let addresses = [free(), free()].to_vec();
    let process = |process: usize| {
        let (job, writer) = job(MemorySource::dealt(&events, PARTITIONS), Pace::Bounded, None);
        let addresses = addresses.clone();
        let cluster = CommunicationConfig::Cluster { threads: 1, process, addresses, report: false, zerocopy: false };
        let running = thread::spawn(move || job.run(config(cluster)).map_err(|error| error.to_string()));
        (running, writer)
    };
    let processes = [process(0), process(1)];
    let mut records = Vec::new();
    for (running, writer) in processes {
        assert_eq!(running.join().expect("no panic"), Ok(()));
        assert!(!writer.records().is_empty(), "both processes own transactions");
        records.extend(writer.records());
    }
    assert_same(&consolidated(&records), &wanted);
}

/// The records of each key, in order.
type Said = BTreeMap<Vec<u8>, Vec<Option<Vec<u8>>>>;

fn by_key(records: Vec<OutputRecord>) -> Said {
    let mut keys = Said::new();
    records.into_iter().for_each(|record| keys.entry(record.key).or_default().push(record.payload));
    keys
}

#[test]
fn a_restart_goes_on_from_the_remap_log() {
    let events = records();
    let wanted = reference(&events);
    let (whole, writer) = job(MemorySource::dealt(&events, PARTITIONS), Pace::Live, None);
    let metrics = whole.metrics.clone();
    whole.run(config(CommunicationConfig::Thread)).expect("the job runs");
    assert_eq!(metrics.revisions_missed.get(), 0);
    assert_same(&consolidated(&writer.records()), &wanted);
    let state = tempfile::tempdir().expect("a directory");
    let mut before = Said::new();
    // Stopped twice in the middle, the second time by a run that began with replaying the first.
    for (workers, records_max) in [(1, Some(300)), (2, Some(600)), (2, None)] {
        let source = MemorySource::dealt(&events, PARTITIONS);
        let source = records_max.map_or(source.clone(), |records_max| source.pausing_after(records_max));
        let (job, writer) = job(source, Pace::Live, Some(state.path()));
        let (stop, metrics) = (job.stop.clone(), job.metrics.clone());
        let running = thread::spawn(move || job.run(config(CommunicationConfig::Process(workers))));
        let total = (records_max.unwrap_or(0) * PARTITIONS) as u64;
        while !running.is_finished() && (total == 0 || metrics.events.get() < total) {
            thread::sleep(Duration::from_millis(1));
        }
        stop.store(records_max.is_some(), Ordering::Relaxed);
        running.join().expect("no panic").expect("the job runs");
        let records = writer.records();
        if records_max.is_none() {
            assert_same(&consolidated(&records), &wanted);
        }
        let now = by_key(records);
        for (key, said) in &before {
            let again = &now[key];
            assert!(again.starts_with(said), "{key:?} said {said:?}, after the restart {again:?}");
        }
        before = now;
    }
}
