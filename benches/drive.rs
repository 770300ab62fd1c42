//! Drives a dataflow in memory, as the worker loop does, without sources and sinks.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use cpu_time::ProcessTime;
use deltawatch::dataflow::{Dataflow, EngineSettings, Parameters, Setup};
use deltawatch::event::{Event, Raw, Schema};
use deltawatch::feature::rows::Rows;
use deltawatch::flow::{Arrival, Repair};
use deltawatch::metrics::Metrics;
use deltawatch::operators::Images;
use deltawatch::pipeline;
use deltawatch::pipeline::Engine;
use deltawatch::sink::port::{Port, Ports};
use timely::worker::Worker;

/// What a run cost.
pub struct Cost {
    /// Process CPU time.
    pub cpu: Duration,
    /// Events taken in.
    pub events: usize,
    /// Rows assembled, revisions included.
    pub rows: usize,
    /// Sum over all values' bits, to compare runs with (0 unless asked for with `DELTAWATCH_BENCH_CHECKSUM`).
    pub checksum: u64,
    /// The engine's counters.
    pub metrics: Arc<Metrics>,
}

impl Cost {
    /// CPU microseconds per event.
    pub fn us_per_event(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.events as f64
    }
}

/// Schema and default parameters of a dataflow.
pub fn setup(dataflow: &dyn Dataflow) -> Setup {
    let schema = Schema::parse(dataflow.name(), dataflow.schema()).expect("a shipped schema is valid");
    let parameters = Parameters::resolve(dataflow.name(), &dataflow.parameters(), &[]).expect("defaults are valid");
    Setup { schema: Arc::new(schema), parameters }
}

/// Builds a shipped dataflow whose rows go to `features` and whose other outputs go nowhere.
pub fn engine(
    worker: &mut Worker,
    dataflow: &dyn Dataflow,
    settings: &EngineSettings,
    metrics: &Arc<Metrics>,
    features: Port<Rows>,
) -> Engine {
    let ports = Ports {
        scored: Some(Box::new(|_| true)),
        rejects: Some(Box::new(|_| true)),
        features: Some(features),
        collections: None,
    };
    pipeline::build(worker, dataflow, &setup(dataflow), settings, ports, Images::none(worker), metrics)
        .expect("a shipped dataflow builds")
}

/// Runs events through a dataflow on one worker, `batch` per epoch, to the end.
pub fn run(dataflow: &'static dyn Dataflow, settings: EngineSettings, events: Vec<Event>, batch: usize) -> Cost {
    let metrics = Arc::new(Metrics::default());
    let (count, shared) = (events.len(), metrics.clone());
    let wanted = std::env::var_os("DELTAWATCH_BENCH_CHECKSUM").is_some();
    let (cpu, (rows, checksum)) = timely::execute_directly(move |worker| {
        let rows = Rc::new(RefCell::new((0, 0u64)));
        let counted = rows.clone();
        let features = Box::new(move |batches: Vec<Rows>| {
            let mut sofar = counted.borrow_mut();
            sofar.0 += batches.iter().map(|rows| rows.heads.len()).sum::<usize>();
            if wanted {
                let values = batches.iter().flat_map(|rows| &rows.values);
                sofar.1 = values.fold(sofar.1, |sum, value| sum.wrapping_mul(31).wrapping_add(value.to_bits()));
            }
            true
        });
        let mut engine = engine(worker, dataflow, &settings, &shared, features);
        let mut arrivals = events.into_iter().enumerate().map(|(offset, event)| Arrival {
            event,
            partition: 0,
            offset: offset as u64,
            arrived_ns: 0,
            raw: Raw::default(),
        });
        let start = ProcessTime::now();
        let (mut epoch, mut watermark) = (0, i64::MIN);
        loop {
            let mut share: Vec<Arrival> = arrivals.by_ref().take(batch).collect();
            if share.is_empty() {
                break;
            }
            watermark = share.iter().map(|arrival| arrival.event.time).fold(watermark, i64::max);
            let taken = share.len();
            engine.arrivals.send_batch(&mut share);
            let repair = Repair::of(settings.repair_rows_max, taken as u64, 0);
            engine.close(epoch, watermark, repair, None);
            while engine.probe.less_equal(&epoch) {
                worker.step();
            }
            epoch += 1;
        }
        let probe = engine.finish();
        while !probe.done() {
            worker.step();
        }
        let cpu = start.elapsed();
        let rows = *rows.borrow();
        (cpu, rows)
    });
    Cost { cpu, events: count, rows, checksum, metrics }
}
