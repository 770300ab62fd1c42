//! Whole jobs: two processes give what one gives, and a restart from the journal goes on as if nothing had happened.
//!
//! What is compared is what holds in the end of every transaction: its last feature row and its assessment, between jobs
//! and with the oracle. A small share runs always; `DELTAWATCH_FULL=1` runs 20 seeds of 50 000 records each.

mod references;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use deltawatch::dataflow::{Dataflow, EngineSettings, Setup};
use deltawatch::epoch::Pace;
use deltawatch::event::{Event, Id, Limits};
use deltawatch::flow::Cause;
use deltawatch::metrics::Metrics;
use deltawatch::runtime::job::{Job, Outputs};
use deltawatch::runtime::state::{State, StateSettings};
use deltawatch::score::assessment::{Assessment, Decision, ScoredDiff};
use deltawatch::sink::features::{FeatureFormat, FeatureLog};
use deltawatch::sink::{OutputRecord, ScoredEncoder};
use deltawatch::source::sealed::Terms;
use deltawatch::source::tables::{ReferenceSource, WantedTable};
use deltawatch::testkit::memory::{MemorySource, MemoryWriter};
use deltawatch::testkit::{TestModel, arrive, expected, resolve};
use timely::{CommunicationConfig, Config, WorkerConfig};

use crate::{flows, invariance};

const PARTITIONS: usize = 3;

/// Seeds, records per seed, and every how manieth row is compared with the oracle.
fn amount() -> (u64, usize, usize) {
    match std::env::var_os("DELTAWATCH_FULL") {
        Some(_) => (20, 50_000, 7),
        None => (1, 1_500, 1),
    }
}

/// Text that is written by one thread and read by another.
#[derive(Clone, Default)]
struct Text(Arc<Mutex<Vec<u8>>>);

impl Write for Text {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("not poisoned").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A dataflow, its records, and what the oracle makes of them.
struct Trial {
    name: String,
    flow: (Arc<dyn Dataflow>, Setup),
    references: Vec<WantedTable>,
    events: Vec<Event>,
    columns: Vec<String>,
    /// Scored transactions in the end.
    transactions: usize,
    /// What holds of every so manieth.
    oracle: Held,
}

fn trial(name: &str, seed: u64, count: usize, nth: usize) -> Trial {
    let flow = if name == "payments" { flows::payments() } else { flows::handbook() };
    let (dataflow, setup) = &flow;
    let schema = &setup.schema;
    let features = dataflow.features(setup).expect("features");
    let plans = features.plans(schema).expect("it resolves");
    let records = match name {
        "payments" => invariance::payments_records(seed, count),
        _ => invariance::handbook_records(seed, count, schema),
    };
    let horizon_ms = plans.iter().map(|plan| plan.revise_ms).min().expect("a key");
    let events = arrive::within(&records, schema, &plans, horizon_ms);
    assert!(events.len() > count * 9 / 10);
    let rows = expected::sample(&features, schema, &resolve::retained(&events, schema), nth, seed as usize % nth);
    Trial::new(format!("{name}, seed {seed}"), flow, Vec::new(), events, rows)
}

/// A job that writes to memory.
struct Written {
    scored: MemoryWriter,
    rows: Text,
    metrics: Arc<Metrics>,
}

impl Trial {
    /// With the rows that the oracle makes of some or all transactions.
    fn new(
        name: String,
        flow: (Arc<dyn Dataflow>, Setup),
        references: Vec<WantedTable>,
        events: Vec<Event>,
        rows: BTreeMap<Id, Vec<f64>>,
    ) -> Trial {
        let (dataflow, setup) = &flow;
        let schema = &setup.schema;
        let columns = dataflow.features(setup).expect("features").columns();
        let retained = resolve::retained(&events, schema);
        let scored = retained.iter().filter(|(event, _)| schema.is_scored(event.kind));
        let by_id: BTreeMap<_, _> = scored.map(|(event, _)| (event.id, event)).collect();
        let scorer = TestModel::scorer(columns.clone());
        let encoder = ScoredEncoder::new(schema.clone(), Some(scorer.clone().into()), columns.clone());
        let mut oracle = Held::default();
        for (id, row) in rows {
            let event = Arc::new(by_id[&id].clone());
            let (assessment, model) = scorer.assess(&row, row.len(), [&*event].into_iter()).rows.remove(0);
            let Assessment { action, score, rules, .. } = &assessment;
            let decision = Decision { action: *action, score: *score, rules: rules.clone(), model, deployment: 0 };
            let (cause, assessment) = (Cause::Arrival, Some(assessment));
            let said = ScoredDiff { event, revision: 0, diff: 1, epoch: 0, cause, decision, assessment, arrived_ns: 0 };
            let record = encoder.encode(&said);
            oracle.rows.insert(String::from_utf8(record.key.clone()).expect("UTF-8"), row);
            oracle.assessments.extend(assessments(&[record]).expect("one +1"));
        }
        let transactions = by_id.len();
        Trial { name, columns, events, transactions, oracle, flow, references }
    }

    fn source(&self) -> MemorySource {
        MemorySource::dealt(&self.events, PARTITIONS)
    }

    fn job(&self, source: MemorySource, pace: Pace, state: Option<&Path>) -> (Job, Written) {
        let (dataflow, setup) = self.flow.clone();
        let (scored, rows, columns) = (MemoryWriter::default(), Text::default(), self.columns.clone());
        let out = Box::new(rows.clone());
        let log = FeatureLog::new(out, "rows", FeatureFormat::Csv, columns.clone(), &setup.schema, true);
        let metrics = Arc::new(Metrics::default());
        let job = Job {
            references: ReferenceSource::new(self.references.clone(), None, pace == Pace::Bounded, Limits::default())
                .expect("the references can be read"),
            services: Default::default(),
            dataflow,
            setup,
            settings: EngineSettings {
                deployments: Some(TestModel::scorer(columns).into()),
                ..EngineSettings::default()
            },
            source: Arc::new(source),
            limits: Limits::default(),
            pace,
            // Small, so that what comes late comes in a later epoch.
            bounds: deltawatch::epoch::PartitionBounds { records_max: 10, ..Default::default() },
            control: None,
            outputs: Outputs {
                scored: Some(Box::new(scored.clone())),
                features: Some(log.expect("a log")),
                ..Outputs::default()
            },
            state: state.map(|state| {
                State::open(state, StateSettings::of(pace), &Terms::default(), Default::default())
                    .expect("a free directory")
            }),
            terms: Terms::default(),
            peer_timeout: Duration::from_secs(60),
            stop: Arc::new(AtomicBool::new(false)),
            metrics: metrics.clone(),
        };
        (job, Written { scored, rows, metrics })
    }

    /// What one process with one worker gives.
    fn alone(&self) -> Held {
        self.of_process(CommunicationConfig::Thread)
    }

    /// What one process gives.
    fn of_process(&self, workers: CommunicationConfig) -> Held {
        let (job, written) = self.job(self.source(), Pace::Bounded, None);
        job.run(config(workers)).expect("the job runs");
        written.held(&self.name)
    }

    /// Whether a job gives the same as another one, and what the oracle says.
    fn check(&self, held: &Held, other: &Held) -> Result<(), String> {
        held.same(other)?;
        let transactions = (held.rows.len(), held.assessments.len());
        if transactions != (self.transactions, self.transactions) {
            return Err(format!("{transactions:?} rows and assessments, the oracle has {}", self.transactions));
        }
        held.only(&self.oracle).same(&self.oracle).map_err(|says| format!("with the oracle: {says}"))
    }

    fn assert_same(&self, held: &Held, other: &Held) {
        self.check(held, other).unwrap_or_else(|says| panic!("{}: {says}", self.name));
    }
}

impl Written {
    fn held(&self, name: &str) -> Held {
        let metrics = &self.metrics;
        assert_eq!((metrics.revisions_missed.get(), metrics.revisions_beyond.get()), (0, 0), "{name}");
        let text = self.rows.0.lock().expect("not poisoned");
        let lines = std::str::from_utf8(&text).expect("UTF-8").lines().skip(1);
        let value = |text: &str| if text.is_empty() { f64::NAN } else { text.parse().expect("a number") };
        let row = |line: &str| {
            let (id, values) = line.split_once(',').expect("an id");
            (id.to_owned(), values.split(',').map(value).collect())
        };
        let assessments = assessments(&self.scored.records()).unwrap_or_else(|says| panic!("{name}: {says}"));
        Held { rows: lines.map(row).collect(), assessments }
    }
}

/// What holds of each transaction in the end.
#[derive(Clone, Default)]
struct Held {
    rows: BTreeMap<String, Vec<f64>>,
    assessments: BTreeMap<String, String>,
}

impl Held {
    fn same(&self, other: &Held) -> Result<(), String> {
        let alike = |a: &f64, b: &f64| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
        let rows_alike = |a: &Vec<f64>, b: &Vec<f64>| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b));
        same("rows", &self.rows, &other.rows, rows_alike)?;
        same("assessments", &self.assessments, &other.assessments, |a, b| a == b)
    }

    /// Those transactions that the other one has too.
    fn only(&self, other: &Held) -> Held {
        let mut held = self.clone();
        held.rows.retain(|id, _| other.rows.contains_key(id));
        held.assessments.retain(|id, _| other.assessments.contains_key(id));
        held
    }

    fn add(&mut self, other: Held) {
        let ids = self.rows.len() + other.rows.len();
        self.rows.extend(other.rows);
        self.assessments.extend(other.assessments);
        assert_eq!(self.rows.len(), ids, "a transaction is owned by one process");
    }
}

/// Shows the first transactions that differ.
fn same<V: Debug>(
    what: &str,
    got: &BTreeMap<String, V>,
    wanted: &BTreeMap<String, V>,
    alike: impl Fn(&V, &V) -> bool,
) -> Result<(), String> {
    let keys: std::collections::BTreeSet<_> = got.keys().chain(wanted.keys()).collect();
    let unlike = |key: &&&String| match (got.get(**key), wanted.get(**key)) {
        (Some(got), Some(wanted)) => !alike(got, wanted),
        _ => true,
    };
    let unlike: Vec<_> = keys.iter().filter(unlike).collect();
    let first: Vec<_> = unlike.iter().take(2).map(|key| (key, got.get(**key), wanted.get(**key))).collect();
    if unlike.is_empty() { Ok(()) } else { Err(format!("{} of {} {what} differ: {first:?}", unlike.len(), keys.len())) }
}

/// The assessments that hold in the end. Fails if a -1 takes back what was not said, or a +1 comes on top of another.
fn assessments(records: &[OutputRecord]) -> Result<BTreeMap<String, String>, String> {
    let mut held = BTreeMap::new();
    for record in records {
        let Some(payload) = &record.payload else { continue };
        let value: serde_json::Value = serde_json::from_slice(payload).map_err(|error| error.to_string())?;
        let (id, assessment) = (String::from_utf8_lossy(&record.key).into_owned(), value["assessment"].to_string());
        let before = held.remove(&id);
        match (record.headers.diff, before) {
            (1, None) => drop(held.insert(id, assessment)),
            (-1, Some(before)) if before == assessment => {}
            (1, _) => return Err(format!("two hold: {value}")),
            _ => return Err(format!("taken back, never said: {value}")),
        }
    }
    Ok(held)
}

fn config(communication: CommunicationConfig) -> Config {
    Config { communication, worker: WorkerConfig::default() }
}

fn two_processes(trial: &Trial) {
    assert!(on_two_processes(trial) > 0, "nothing was revised: the records show too little");
}

/// Two processes, and one with two workers, give what one with one does. Returns how many assessments were revised.
fn on_two_processes(trial: &Trial) -> u64 {
    let free = || {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.local_addr().expect("an address").to_string()
    };
    let addresses = [free(), free()].to_vec();
    let process = |process: usize| {
        let (job, written) = trial.job(trial.source(), Pace::Bounded, None);
        let addresses = addresses.clone();
        let cluster = CommunicationConfig::Cluster { threads: 1, process, addresses, report: false, zerocopy: false };
        let running = thread::spawn(move || job.run(config(cluster)).map_err(|error| error.to_string()));
        (running, written)
    };
    let processes = [process(0), process(1)];
    let (mut held, mut revised) = (Held::default(), 0);
    for (running, written) in processes {
        assert_eq!(running.join().expect("no panic"), Ok(()));
        revised += written.metrics.revised.get();
        let part = written.held(&trial.name);
        assert!(!part.assessments.is_empty(), "both processes own transactions");
        held.add(part);
    }
    let alone = trial.alone();
    trial.assert_same(&held, &alone);
    trial.assert_same(&trial.of_process(CommunicationConfig::Process(2)), &alone);
    revised
}

/// The records of each key, in order.
type Said = BTreeMap<Vec<u8>, Vec<Option<Vec<u8>>>>;

fn by_key(records: Vec<OutputRecord>) -> Said {
    let mut keys = Said::new();
    records.into_iter().for_each(|record| keys.entry(record.key).or_default().push(record.payload));
    keys
}

/// A job over the journal of `state`, stopped once it has read the records up to an event time.
fn run_on(trial: &Trial, state: &Path, workers: usize, until_ms: Option<i64>) -> Written {
    let source = trial.source();
    let source = until_ms.map_or(source.clone(), |until_ms| source.pausing_at(until_ms));
    let total = until_ms.map_or(0, |_| source.records() as u64);
    let (job, written) = trial.job(source, Pace::Live, Some(state));
    let (stop, metrics) = (job.stop.clone(), job.metrics.clone());
    let running = thread::spawn(move || job.run(config(CommunicationConfig::Process(workers))));
    while !running.is_finished() && (total == 0 || metrics.events.get() < total) {
        thread::sleep(Duration::from_millis(1));
    }
    stop.store(until_ms.is_some(), Ordering::Relaxed);
    running.join().expect("no panic").expect("the job runs");
    written
}

fn restarted(trial: &Trial) {
    let state = tempfile::tempdir().expect("a directory");
    let mut times: Vec<i64> = trial.events.iter().map(|event| event.time).collect();
    times.sort_unstable();
    let at = |thirds: usize| Some(times[thirds * times.len() / 3]);
    let alone = trial.alone();
    let mut before = Said::new();
    // Stopped twice in the middle, the second time by a run that began with replaying the first. Then the whole log again.
    for (run, (workers, until_ms)) in [(1, at(1)), (2, at(2)), (2, None), (2, None)].into_iter().enumerate() {
        let written = run_on(trial, state.path(), workers, until_ms);
        if until_ms.is_none() {
            trial.assert_same(&written.held(&trial.name), &alone);
        }
        let now = by_key(written.scored.records());
        for (key, said) in &before {
            // Decisions are what they were, epoch and all. In which epoch a row is revised depends on the number of
            // workers, and on what was still to come: the same log on as many workers says the same, bit for bit.
            let (said, again) = if run == 3 { (&said[..], &now[key][..]) } else { (&said[..1], &now[key][..1]) };
            let text = |payloads: &[Option<Vec<u8>>]| -> Vec<_> {
                payloads.iter().flatten().map(|payload| String::from_utf8_lossy(payload).into_owned()).collect()
            };
            assert!(said == again, "{}, run {run}: said {:?}, then {:?}", trial.name, text(said), text(again));
        }
        assert!(now.len() > before.len() || run == 3 && now.len() == before.len(), "{}: it reads on", trial.name);
        before = now;
    }
}

fn of_every_seed(name: &str, check: fn(&Trial)) {
    let (seeds, count, nth) = amount();
    for seed in 1..=seeds {
        let trial = trial(name, seed, count, nth);
        check(&trial);
        eprintln!(
            "{}: {} records, {} transactions, {} compared with the oracle",
            trial.name,
            trial.events.len(),
            trial.transactions,
            trial.oracle.rows.len()
        );
    }
}

#[test]
fn payments_on_two_processes() {
    of_every_seed("payments", two_processes);
}

#[test]
fn handbook_on_two_processes() {
    of_every_seed("handbook", two_processes);
}

#[test]
fn payments_restarted_from_the_journal() {
    of_every_seed("payments", restarted);
}

#[test]
fn handbook_restarted_from_the_journal() {
    of_every_seed("handbook", restarted);
}

#[test]
fn one_wrong_diff_or_row_is_found() {
    let trial = trial("handbook", 11, 800, 3);
    let (job, written) = trial.job(trial.source(), Pace::Bounded, None);
    job.run(config(CommunicationConfig::Thread)).expect("the job runs");
    let (held, records) = (written.held(&trial.name), written.scored.records());
    assert_eq!(trial.check(&held, &held), Ok(()));

    let last = records.iter().rposition(|record| record.headers.diff == 1).expect("a +1");
    let with = |change: &dyn Fn(&mut Vec<OutputRecord>)| {
        let mut records = records.clone();
        change(&mut records);
        assessments(&records).and_then(|assessments| trial.check(&Held { assessments, ..held.clone() }, &held))
    };
    assert_eq!(with(&|_| {}), Ok(()));
    assert!(with(&|records| drop(records.remove(last))).is_err(), "a diff is lost");
    assert!(with(&|records| records.push(records[last].clone())).is_err(), "a diff comes twice");
    let taken = records.iter().position(|record| record.headers.diff == -1).expect("a -1");
    assert!(with(&|records| drop(records.remove(taken))).is_err(), "a -1 is lost");
    let wrong = |records: &mut Vec<OutputRecord>| {
        let payload = records[last].payload.as_mut().expect("a payload");
        let text = String::from_utf8(std::mem::take(payload)).expect("UTF-8");
        let at = text.rfind("\"test@1\":").expect("a score") + "\"test@1\":".len();
        *payload = format!("{}1{}", &text[..at], &text[at..]).into_bytes();
    };
    assert!(with(&wrong).is_err_and(|says| says.contains("1 of")), "a score is wrong");

    // What both jobs get wrong, the oracle finds.
    let id = trial.oracle.rows.keys().next().expect("a row");
    let mut both = held.clone();
    both.rows.get_mut(id).expect("the row")[2] += 1.0;
    assert!(trial.check(&both, &both).is_err_and(|says| says.contains("oracle")));
    assert!(trial.check(&both, &held).is_err(), "a feature is wrong");
    let mut both = held.clone();
    both.assessments.insert(id.clone(), "{}".into());
    assert!(trial.check(&both, &both).is_err_and(|says| says.contains("oracle")));
    let mut fewer = held.clone();
    fewer.rows.pop_last();
    assert!(trial.check(&fewer, &fewer).is_err(), "a row is lost by both");
}
