//! Open loop: events are due by the clock, whatever the engine does; from due time to assembled feature row.
//!
//! One worker. Epochs close as `epoch::authority` closes them: as soon as the one before has left, at the latest after a
//! millisecond, with at most three on their way. The first part of the input goes through at full speed, so that windows
//! are full and the maximum is known.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use deltawatch::dataflow::{Dataflow, EngineSettings};
use deltawatch::event::{Event, Raw};
use deltawatch::feature::rows::Rows;
use deltawatch::flow::{Arrival, Repair};
use deltawatch::metrics::Metrics;
use deltawatch::pipeline::Engine;
use hdrhistogram::Histogram;
use timely::worker::Worker;

use crate::drive::{engine, setup};
use crate::workloads::transactions;

/// Share of the input that fills the windows.
const WARM_SHARE: f64 = 0.6;
/// Events per epoch while they are filled.
const WARM_BATCH: usize = 128;
/// How long each rate is kept up.
const PHASE: Duration = Duration::from_secs(8);
const WAIT_MAX: Duration = Duration::from_millis(1);
const IN_FLIGHT_MAX: u64 = 3;

/// W1 and W2 at 5 k/s, 20 k/s and half of the maximum.
pub fn latency(share: f64) {
    workload("W1 handbook", crate::dataflow("handbook"), share, "0.2 / 1 / 3 ms at 20 k/s");
    workload("W2 spend_profile", crate::dataflow("spend_profile"), share, "0.3 / 2 / 10 ms at 20 k/s");
}

/// Nanoseconds from due time to row.
type Latencies = Rc<RefCell<Option<Histogram<u64>>>>;

pub struct Feed {
    pub engine: Engine,
    pub events: std::vec::IntoIter<Event>,
    /// Start of the process's clock.
    pub start: Instant,
    offset: u64,
    /// The epoch that the next batch gets.
    next: u64,
    watermark_ms: i64,
    metrics: Arc<Metrics>,
}

impl Feed {
    /// A feed of events into an engine.
    pub fn new(engine: Engine, metrics: Arc<Metrics>, events: Vec<Event>, start: Instant) -> Self {
        Feed { engine, events: events.into_iter(), start, offset: 0, next: 0, watermark_ms: i64::MIN, metrics }
    }

    /// Epochs closed so far.
    pub fn epochs(&self) -> u64 {
        self.next
    }

    /// Closes an epoch without events: time for repairs.
    pub fn tick(&mut self, worker: &mut Worker) {
        self.epoch(0, |_| 0);
        while self.in_flight() > 0 {
            worker.step();
        }
    }

    /// Sends an epoch of so many events; the nth was due at `due_ns(n)`. Returns how many there were.
    fn epoch(&mut self, count: usize, due_ns: impl Fn(usize) -> u64) -> usize {
        let mut batch = Vec::with_capacity(count);
        for event in self.events.by_ref().take(count) {
            self.watermark_ms = self.watermark_ms.max(event.time);
            let (arrived_ns, raw) = (due_ns(batch.len()), Raw::default());
            batch.push(Arrival { event, partition: 0, offset: self.offset, arrived_ns, raw });
            self.offset += 1;
        }
        let sent = batch.len();
        self.engine.arrivals.send_batch(&mut batch);
        let repair = Repair::of(EngineSettings::default().repair_rows_max, sent as u64, self.metrics.backlog.get());
        self.engine.close(self.next, self.watermark_ms, repair, None);
        self.next += 1;
        sent
    }

    /// Epochs that have not left the engine yet.
    fn in_flight(&self) -> u64 {
        self.engine.probe.with_frontier(|frontier| self.next - frontier.first().map_or(self.next, |&left| left))
    }

    /// Sends so many events at full speed; returns events per second.
    pub fn warm_up(&mut self, worker: &mut Worker, count: usize) -> f64 {
        let (from, mut sent) = (Instant::now(), 0);
        while sent < count {
            sent += match self.epoch(WARM_BATCH, |_| 0) {
                0 => break,
                some => some,
            };
            while self.in_flight() > 0 {
                worker.step();
            }
        }
        sent as f64 / from.elapsed().as_secs_f64()
    }

    /// Sends events at a rate for a while, however the engine keeps up.
    pub fn open_loop(&mut self, worker: &mut Worker, rate_per_s: f64, phase: Duration) {
        let from = Instant::now();
        let from_ns = (from - self.start).as_nanos() as u64;
        let (mut sent, mut closed) = (0, from);
        let total = (rate_per_s * phase.as_secs_f64()) as usize;
        while sent < total {
            let now = Instant::now();
            let due = (((now - from).as_secs_f64() * rate_per_s) as usize + 1).min(total) - sent;
            let in_flight = self.in_flight();
            if due > 0 && (in_flight == 0 || in_flight < IN_FLIGHT_MAX && now - closed >= WAIT_MAX) {
                let due_ns = |nth: usize| from_ns + ((sent + nth) as f64 / rate_per_s * 1e9) as u64;
                match self.epoch(due, due_ns) {
                    0 => break,
                    some => sent += some,
                }
                closed = now;
            }
            worker.step();
        }
        while self.in_flight() > 0 {
            worker.step();
        }
    }
}

fn workload(name: &'static str, dataflow: &'static dyn Dataflow, share: f64, target: &'static str) {
    let setup = setup(dataflow);
    let Some(events) = transactions(&setup.schema, share) else { return };
    let phase = PHASE.mul_f64(share.max(0.05));
    timely::execute_directly(move |worker| {
        let (start, latencies) = (Instant::now(), Latencies::default());
        let measured = latencies.clone();
        let features = Box::new(move |batches: Vec<Rows>| {
            if let Some(histogram) = measured.borrow_mut().as_mut() {
                let now_ns = start.elapsed().as_nanos() as u64;
                for transaction in batches.iter().flat_map(|rows| &rows.heads) {
                    histogram.saturating_record(now_ns.saturating_sub(transaction.arrived_ns));
                }
            }
            true
        });
        let (settings, metrics) = (EngineSettings::default(), Arc::new(Metrics::default()));
        let engine = engine(worker, dataflow, &settings, &metrics, features);
        let warm = (events.len() as f64 * WARM_SHARE) as usize;
        let mut feed = Feed::new(engine, metrics.clone(), events, start);
        let max_per_s = feed.warm_up(worker, warm);
        println!("{name}: at most {max_per_s:.0} tx/s; target p50 / p99 / p99.9 {target}");
        for rate_per_s in [5_000.0, 20_000.0, max_per_s / 2.0] {
            let histogram = Histogram::new_with_max(60_000_000_000, 3).expect("a valid range");
            *latencies.borrow_mut() = Some(histogram);
            feed.open_loop(worker, rate_per_s, phase);
            if let Some(histogram) = latencies.borrow_mut().take() {
                let ms = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e6;
                let (rows, worst) = (histogram.len(), histogram.max() as f64 / 1e6);
                println!(
                    "    {rate_per_s:>7.0} tx/s   p50 {:>7.3}   p99 {:>7.3}   p99.9 {:>7.3}   max {worst:>8.3} ms   {rows} rows",
                    ms(0.5),
                    ms(0.99),
                    ms(0.999)
                );
            }
        }
        let Feed { engine, .. } = feed;
        let probe = engine.finish();
        while !probe.done() {
            worker.step();
        }
    });
}
