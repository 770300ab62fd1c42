//! Drives a dataflow in memory, as the worker loop does, without sources and sinks.
//!
//! Live benches name the engine's inside through this file only, so that one of them can be built beside an engine of another
//! layout and both be run in turns.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cpu_time::ProcessTime;
use deltawatch::dataflow::{Dataflow, Parameters, Setup};
use deltawatch::event::Schema;
use deltawatch::flow::{Arrival, Repair};
use deltawatch::operators::Images;
use deltawatch::pipeline::{self, Engine};
use deltawatch::sink::port::{Port, Ports};
use timely::worker::Worker;

pub use deltawatch::dataflow::EngineSettings;
pub use deltawatch::event::{Event, JsonEncoder, Limits, Payload, Raw, Record, Stand};
pub use deltawatch::feature::rows::Rows;
pub use deltawatch::flow::Cause;
pub use deltawatch::generator::{Generator, GeneratorConfig};
pub use deltawatch::metrics::Metrics;
pub use deltawatch::score::assessment::ScoredDiff;
pub use deltawatch::source::tables::ReferenceSource;

/// Events per epoch at full speed: what a busy engine forms by itself.
pub const BATCH: usize = 128;
/// Epochs that may be on their way, as the authority has it.
pub const IN_FLIGHT_MAX: u64 = 3;

/// Schema and default parameters of a dataflow.
pub fn setup(dataflow: &dyn Dataflow) -> Setup {
    let schema = Schema::parse(dataflow.name(), dataflow.schema()).expect("a shipped schema is valid");
    let parameters = Parameters::resolve(dataflow.name(), &dataflow.parameters(), &[]).expect("defaults are valid");
    Setup { schema: Arc::new(schema), parameters }
}

/// Builds a dataflow whose scored diffs and rows go to these ports, and whose other outputs go nowhere.
pub fn engine(
    worker: &mut Worker,
    dataflow: &dyn Dataflow,
    settings: &EngineSettings,
    metrics: &Arc<Metrics>,
    scored: Option<Port<ScoredDiff>>,
    features: Option<Port<Rows>>,
) -> Engine {
    let scored = scored.unwrap_or_else(|| Box::new(|_| true));
    let ports = Ports { scored: Some(scored), rejects: Some(Box::new(|_| true)), features, collections: None };
    pipeline::build(worker, dataflow, &setup(dataflow), settings, ports, Images::none(worker), metrics)
        .expect("a shipped dataflow builds")
}

/// An event and the bytes that it was decoded from.
pub type Input = (Event, Raw);

/// Events that were never bytes.
pub fn unread(events: impl IntoIterator<Item = Event>) -> impl Iterator<Item = Input> {
    events.into_iter().map(|event| (event, Raw::default()))
}

/// Feeds an engine on one worker. Epochs are closed as the authority of a live run closes them: with its repair budget, and
/// with what is owed.
pub struct Feed {
    engine: Engine,
    inputs: Box<dyn Iterator<Item = Input>>,
    repair_rows_max: usize,
    offset: u64,
    /// The epoch that the next batch gets.
    next: u64,
    watermark_ms: i64,
}

impl Feed {
    /// A feed of these inputs, which are taken as they are wanted.
    pub fn new(engine: Engine, settings: &EngineSettings, inputs: impl Iterator<Item = Input> + 'static) -> Self {
        let repair_rows_max = settings.repair_rows_max;
        Feed { engine, inputs: Box::new(inputs), repair_rows_max, offset: 0, next: 0, watermark_ms: i64::MIN }
    }

    /// Goes on with other inputs.
    pub fn go_on(&mut self, inputs: impl Iterator<Item = Input> + 'static) {
        self.inputs = Box::new(inputs);
    }

    /// Sends an epoch of so many events; the nth was due at `due_ns(n)`. Returns how many there were.
    pub fn epoch(&mut self, count: usize, due_ns: impl Fn(usize) -> u64) -> usize {
        let mut batch = Vec::with_capacity(count);
        for (event, raw) in self.inputs.by_ref().take(count) {
            self.watermark_ms = self.watermark_ms.max(event.time);
            let arrived_ns = due_ns(batch.len());
            batch.push(Arrival { event, partition: 0, offset: self.offset, arrived_ns, raw });
            self.offset += 1;
        }
        let sent = batch.len();
        self.engine.arrivals.send_batch(&mut batch);
        let repair = Repair::of(self.repair_rows_max, sent as u64, self.owed());
        self.engine.close(self.next, self.watermark_ms, repair, None, None);
        self.next += 1;
        sent
    }

    /// Sends so many events at full speed, [`BATCH`] to an epoch; returns events per second.
    pub fn at_full_speed(&mut self, worker: &mut Worker, count: usize) -> f64 {
        self.in_batches(worker, count, BATCH)
    }

    /// The same with so many to an epoch.
    pub fn in_batches(&mut self, worker: &mut Worker, count: usize, batch: usize) -> f64 {
        let (from, mut sent) = (Instant::now(), 0);
        while sent < count {
            sent += match self.epoch(batch.min(count - sent), |_| 0) {
                0 => break,
                some => some,
            };
            self.settle(worker);
        }
        sent as f64 / from.elapsed().as_secs_f64()
    }

    /// Closes epochs without events until no row waits to be read again.
    pub fn drain(&mut self, worker: &mut Worker) {
        while self.owed() > 0 {
            self.epoch(0, |_| 0);
            self.settle(worker);
        }
    }

    /// Waits until every epoch has left.
    pub fn settle(&self, worker: &mut Worker) {
        while self.in_flight() > 0 {
            worker.step();
        }
    }

    /// Epochs that have not left the engine yet.
    pub fn in_flight(&self) -> u64 {
        self.engine.probe.with_frontier(|frontier| self.next - frontier.first().map_or(self.next, |&left| left))
    }

    /// Keys with rows that wait to be read again.
    pub fn owed(&self) -> u64 {
        self.engine.owed.keys()
    }

    /// Epochs closed so far.
    pub fn epochs(&self) -> u64 {
        self.next
    }

    /// Ends the engine.
    pub fn finish(self, worker: &mut Worker) {
        let probe = self.engine.finish();
        while !probe.done() {
            worker.step();
        }
        // The operators go, too, and say what they had.
        worker.step();
    }
}

/// What a run cost.
pub struct Cost {
    /// Process CPU time.
    pub cpu: Duration,
    /// Events taken in.
    pub events: usize,
    /// Rows assembled, revisions included.
    pub rows: usize,
    /// The engine's counters.
    pub metrics: Arc<Metrics>,
}

impl Cost {
    /// CPU microseconds per event.
    pub fn us_per_event(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.events as f64
    }
}

/// Runs events through a dataflow on one worker, `batch` per epoch, until nothing waits to be read again.
pub fn run(dataflow: &'static dyn Dataflow, settings: EngineSettings, events: Vec<Event>, batch: usize) -> Cost {
    run_with(dataflow, settings, events, batch, |_| {})
}

/// The same; `each` gets the rows.
pub fn run_with(
    dataflow: &'static dyn Dataflow,
    settings: EngineSettings,
    events: Vec<Event>,
    batch: usize,
    mut each: impl FnMut(&Rows) + Send + Sync + 'static,
) -> Cost {
    let metrics = Arc::new(Metrics::default());
    let (count, shared) = (events.len(), metrics.clone());
    let (cpu, rows) = timely::execute_directly(move |worker| {
        let rows = Rc::new(Cell::new(0));
        let counted = rows.clone();
        let features: Port<Rows> = Box::new(move |batches| {
            for rows in batches.iter().flat_map(|(_, batches)| batches) {
                counted.set(counted.get() + rows.iter().count());
                each(rows);
            }
            true
        });
        let engine = engine(worker, dataflow, &settings, &shared, None, Some(features));
        let mut feed = Feed::new(engine, &settings, unread(events));
        let start = ProcessTime::now();
        feed.in_batches(worker, count, batch);
        feed.drain(worker);
        feed.finish(worker);
        (start.elapsed(), rows.get())
    });
    Cost { cpu, events: count, rows, metrics }
}
