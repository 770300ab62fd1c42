//! A run that catches up with four partitions, beside a replay of the same records.
//!
//! The partitions are read in lumps, as a broker hands them out: a thousand records of one, then of the next, one of them
//! at a quarter of the pace of the others. Both take the whole of `payments` with a model, from memory, through the job.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use cpu_time::ProcessTime;
use deltawatch::dataflow::EngineSettings;
use deltawatch::epoch::{Pace, PartitionBounds};
use deltawatch::event::{Event, Partition, Payload, Record};
use deltawatch::generator::{GeneratorConfig, GeneratorSource};
use deltawatch::metrics::Metrics;
use deltawatch::runtime::job::{Job, Outputs};
use deltawatch::source::tables::ReferenceSource;
use deltawatch::source::{Reader, Ready, Source, SourceError, StartOffsets};
use deltawatch::testkit::memory::{MemorySource, MemoryWriter};
use timely::{CommunicationConfig, Config, WorkerConfig};

use crate::drive::setup;
use crate::pack::scorer;

const EVENTS: f64 = 60_000.0;
const PARTITIONS: usize = 4;
/// Records of a partition that come at once; of the slow one a quarter.
const LUMP: usize = 1_000;

/// Prints rows read again per score and CPU time per event of both, with their ratios.
pub fn catch_up(share: f64) {
    let source = MemorySource::new(dealt((EVENTS * share) as u64));
    let pair = || {
        let live = Arc::new(Lumpy(source.clone().pausing_at(i64::MAX)));
        (run(Pace::Bounded, Arc::new(source.clone())), run(Pace::Live, live))
    };
    // The first pair finds the memory that the second one uses again.
    pair();
    let (replay, live) = pair();
    for (what, cost) in [("replay", &replay), ("live  ", &live)] {
        println!(
            "catching up, payments, {what} {:>7.2} us/event CPU, {:.4} rows read again per score, {} epochs",
            cost.us_per_event, cost.read_again, cost.epochs
        );
    }
    println!(
        "    live over replay: CPU {:.2} x (target 1.3 x), rows read again {:.2} x (target 1.2 x)",
        live.us_per_event / replay.us_per_event,
        live.read_again / replay.read_again
    );
}

struct Cost {
    us_per_event: f64,
    read_again: f64,
    epochs: u64,
}

/// The generator's events by partition, as it deals them.
fn dealt(events: u64) -> Vec<Vec<Event>> {
    let schema = setup(crate::dataflow("payments")).schema;
    let source = GeneratorSource::new(GeneratorConfig::default(), schema, Some(events), None).expect("a generator");
    let mut reader = source.open(0, 1, &StartOffsets::new()).expect("a reader");
    let (mut records, mut dealt) = (Vec::new(), vec![Vec::new(); PARTITIONS]);
    while reader.poll(10_000, &mut records).expect("records") != Ready::Done {}
    for record in records {
        if let Payload::Event(event) = record.payload {
            dealt[record.partition as usize].push(*event);
        }
    }
    dealt
}

fn run(pace: Pace, source: Arc<dyn Source>) -> Cost {
    let dataflow = crate::dataflow("payments");
    let setup = setup(dataflow);
    let columns = dataflow.features(&setup).expect("its features are valid").columns();
    let (metrics, stop) = (Arc::new(Metrics::default()), Arc::new(AtomicBool::new(false)));
    let repair_rows_max = if pace == Pace::Live { 64 } else { 65_536 };
    let deployments = Some(scorer("payments@1", &columns).into());
    let shipped = crate::dataflows::all().into_iter().find(|one| one.name() == "payments").expect("it ships");
    let job = Job {
        dataflow: shipped,
        setup,
        settings: EngineSettings { deployments, repair_rows_max, ..EngineSettings::default() },
        source,
        references: ReferenceSource::new(Vec::new(), None, false, Default::default()).expect("none"),
        services: Default::default(),
        limits: Default::default(),
        pace,
        bounds: PartitionBounds::default(),
        control: None,
        outputs: Outputs { scored: Some(Box::new(MemoryWriter::default())), ..Outputs::default() },
        state: None,
        terms: Default::default(),
        peer_timeout: Duration::from_secs(10),
        stop: stop.clone(),
        metrics: metrics.clone(),
    };
    let total = metrics.clone();
    let begin = ProcessTime::now();
    let cluster = Config { communication: CommunicationConfig::Thread, worker: WorkerConfig::default() };
    let running = thread::spawn(move || job.run(cluster).map_err(|error| error.to_string()));
    // A run has caught up once nothing comes any more.
    let mut before = 0;
    while pace == Pace::Live && (total.events.get() == 0 || total.events.get() > before) {
        before = total.events.get();
        thread::sleep(Duration::from_millis(500));
    }
    stop.store(pace == Pace::Live, Ordering::Relaxed);
    running.join().expect("no panic").expect("it runs");
    let (cpu, events) = (begin.elapsed(), metrics.events.get() as f64);
    Cost {
        us_per_event: cpu.as_secs_f64() * 1e6 / events,
        read_again: metrics.rescored.get() as f64 / metrics.scored.get().max(1) as f64,
        epochs: metrics.epochs.get(),
    }
}

/// Partitions that come in lumps, in turns.
struct Lumpy(MemorySource);

impl Source for Lumpy {
    fn open(&self, worker: usize, workers: usize, start: &StartOffsets) -> Result<Box<dyn Reader>, SourceError> {
        let mut inner = self.0.open(worker, workers, start)?;
        let (mut records, mut lanes) = (Vec::new(), vec![Vec::new(); PARTITIONS]);
        while inner.poll(10_000, &mut records)? == Ready::More {}
        records.into_iter().for_each(|record| lanes[record.partition as usize].push(record));
        let lanes = lanes.into_iter().map(Vec::into_iter).collect();
        Ok(Box::new(LumpyReader { inner, lanes, turn: 0, held: Vec::new() }))
    }

    fn describe(&self) -> String {
        self.0.describe()
    }

    fn identity(&self) -> String {
        self.0.identity()
    }

    fn bounded(&self) -> bool {
        false
    }
}

struct LumpyReader {
    inner: Box<dyn Reader>,
    lanes: Vec<std::vec::IntoIter<Record>>,
    turn: usize,
    held: Vec<Partition>,
}

impl Reader for LumpyReader {
    fn poll(&mut self, _: usize, into: &mut Vec<Record>) -> Result<Ready, SourceError> {
        let before = into.len();
        for _ in 0..PARTITIONS {
            let partition = self.turn % PARTITIONS;
            self.turn += 1;
            if !self.held.contains(&(partition as Partition)) {
                into.extend(self.lanes[partition].by_ref().take(if partition == 1 { LUMP / 4 } else { LUMP }));
            }
            if into.len() > before {
                return Ok(Ready::More);
            }
        }
        Ok(if self.lanes.iter().all(|lane| lane.len() == 0) { Ready::CaughtUp } else { Ready::Waiting })
    }

    fn partitions(&self) -> Vec<Partition> {
        self.inner.partitions()
    }

    fn ends(&self, into: &mut Vec<(Partition, u64)>) {
        self.inner.ends(into);
    }

    fn hold(&mut self, partitions: &[Partition]) {
        self.held = partitions.to_vec();
    }
}
