//! Whole jobs that the tests feed by hand.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryRecvError, unbounded};
use deltawatch::dataflow::EngineSettings;
use deltawatch::epoch::Pace;
use deltawatch::event::{Limits, Partition, Payload, Record, Stand};
use deltawatch::metrics::Metrics;
use deltawatch::runtime::job::{Job, JobError, Outputs};
use deltawatch::runtime::state::{State, StateSettings};
use deltawatch::sink::features::{FeatureFormat, FeatureLog};
use deltawatch::source::clock::now_ns;
use deltawatch::source::sealed::Terms;
use deltawatch::source::tables::{ReferenceSource, TableInput, WantedTable};
use deltawatch::source::{Reader, Ready, Source, SourceError, StartOffsets};
use deltawatch::views::lookup::Enrich;
use timely::{CommunicationConfig, Config, WorkerConfig};

use super::look_ups;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// All rows of each transaction, in order; what is missing is `None`.
pub type Rows = BTreeMap<String, Vec<Vec<Option<f64>>>>;

/// A job under way.
pub struct Trial {
    lines: Sender<(Partition, String)>,
    running: JoinHandle<Result<(), JobError>>,
    stop: Arc<AtomicBool>,
    pub metrics: Arc<Metrics>,
    rows: Shared,
    columns: Vec<String>,
}

/// A place to read from, by name of the reference.
pub fn place(look_ups: &[Enrich], name: &str, path: &Path) -> WantedTable {
    let look_up = look_ups.iter().find(|one| one.reference().name() == name).unwrap();
    let place = TableInput::File(path.display().to_string());
    WantedTable { reference: look_up.reference().clone(), tag: look_up.tag(), place }
}

impl Trial {
    /// Starts a job. A bounded one takes the records that are fed until `end`.
    pub fn start(all: &[Enrich], wanted: Vec<WantedTable>, pace: Pace, state: Option<&Path>, workers: usize) -> Trial {
        let (dataflow, setup) = look_ups(all.to_vec());
        let features = dataflow.features(&setup).unwrap();
        let limits = Limits::default();
        let state = state.map(Path::to_owned);
        let references = ReferenceSource::new(wanted, state.clone(), pace == Pace::Bounded, limits).unwrap();
        let (lines, receiver) = unbounded();
        let (rows, metrics, stop) = (Shared::default(), Arc::new(Metrics::default()), Arc::new(AtomicBool::new(false)));
        let out = Box::new(rows.clone());
        let log = FeatureLog::new(out, "rows", FeatureFormat::Json, features.columns(), &setup.schema, false).unwrap();
        let job = Job {
            dataflow,
            setup,
            settings: EngineSettings::default(),
            source: Arc::new(Fed { receiver, bounded: pace == Pace::Bounded }),
            references,
            services: BTreeMap::new(),
            limits,
            pace,
            bounds: deltawatch::epoch::PartitionBounds { records_max: 4, ..Default::default() },
            control: None,
            outputs: Outputs { features: Some(log), ..Outputs::default() },
            state: state.map(|state| {
                State::open(&state, StateSettings::of(pace), &Terms::default(), Default::default()).unwrap()
            }),
            terms: Terms::default(),
            peer_timeout: Duration::from_secs(60),
            stop: stop.clone(),
            metrics: metrics.clone(),
        };
        let communication =
            if workers == 1 { CommunicationConfig::Thread } else { CommunicationConfig::Process(workers) };
        let running = thread::spawn(move || job.run(Config { communication, worker: WorkerConfig::default() }));
        Trial { lines, running, stop, metrics, rows, columns: features.columns() }
    }

    /// Feeds a record.
    pub fn feed(&self, line: &str) {
        self.lines.send((0, line.to_owned())).unwrap();
    }

    /// Feeds a record of another partition.
    pub fn feed_to(&self, partition: Partition, line: &str) {
        self.lines.send((partition, line.to_owned())).unwrap();
    }

    /// Waits until something holds.
    #[track_caller]
    pub fn until(&self, what: &str, holds: impl Fn(&Trial) -> bool) {
        let start = Instant::now();
        while !holds(self) {
            assert!(start.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}; rows {:?}", self.rows());
            assert!(!self.running.is_finished(), "{what}: the job has ended");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// The row of a transaction, once it is there.
    #[track_caller]
    pub fn row(&self, id: &str) -> Vec<Option<f64>> {
        self.until(id, |trial| trial.rows().contains_key(id));
        self.rows()[id].last().unwrap().clone()
    }

    /// All rows of every transaction so far, in order.
    pub fn rows(&self) -> Rows {
        rows_of(&self.rows, &self.columns)
    }

    /// Ends the job and gives back all rows.
    pub fn stop(self) -> Rows {
        self.stop.store(true, Ordering::Relaxed);
        self.running.join().unwrap().unwrap();
        rows_of(&self.rows, &self.columns)
    }

    /// Feeds nothing more and waits for the end of a bounded job.
    pub fn end(self) -> Result<Rows, String> {
        drop(self.lines);
        self.running.join().unwrap().map_err(|error| error.to_string())?;
        Ok(rows_of(&self.rows, &self.columns))
    }
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn rows_of(shared: &Shared, columns: &[String]) -> Rows {
    let text = String::from_utf8(shared.0.lock().unwrap().clone()).unwrap();
    let mut rows = Rows::new();
    for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let features = columns.iter().map(|name| line["features"][name].as_f64()).collect();
        rows.entry(line["id"].as_str().unwrap().to_owned()).or_default().push(features);
    }
    rows
}

/// Records that a test sends.
struct Fed {
    receiver: Receiver<(Partition, String)>,
    bounded: bool,
}

impl Source for Fed {
    fn open(&self, worker: usize, _workers: usize, _start: &StartOffsets) -> Result<Box<dyn Reader>, SourceError> {
        let partitions = if worker == 0 { vec![0, 1] } else { Vec::new() };
        Ok(Box::new(FedReader { receiver: self.receiver.clone(), partitions, next: [0; 2], bounded: self.bounded }))
    }

    fn describe(&self) -> String {
        "what the test sends".to_owned()
    }

    fn bounded(&self) -> bool {
        self.bounded
    }
}

struct FedReader {
    receiver: Receiver<(Partition, String)>,
    partitions: Vec<Partition>,
    next: [u64; 2],
    bounded: bool,
}

impl Reader for FedReader {
    fn poll(&mut self, limit: usize, into: &mut Vec<Record>) -> Result<Ready, SourceError> {
        if self.partitions.is_empty() {
            return Ok(if self.bounded { Ready::Done } else { Ready::CaughtUp });
        }
        for _ in 0..limit {
            match self.receiver.try_recv() {
                Ok((partition, line)) => {
                    let next = &mut self.next[partition as usize];
                    let payload = Payload::Json(line.into_bytes());
                    let (offset, stand) = (*next, Stand::default());
                    into.push(Record { partition, offset, timestamp_ms: 0, arrived_ns: now_ns(), stand, payload });
                    *next += 1;
                }
                Err(TryRecvError::Empty) => return Ok(Ready::CaughtUp),
                Err(TryRecvError::Disconnected) => return Ok(if self.bounded { Ready::Done } else { Ready::CaughtUp }),
            }
        }
        Ok(Ready::More)
    }

    fn partitions(&self) -> Vec<Partition> {
        self.partitions.clone()
    }
}
