//! Open loop: inputs are due by the clock, whatever the engine does; from due time to what would leave for the sink.
//!
//! One worker. Epochs close as `epoch::authority` closes them: as soon as the one before has left, at the latest after a
//! millisecond, with at most three on their way; in between the worker parks, as its loop does. The first part of the input
//! goes through at full speed, so that windows are full and the maximum is known.
//!
//! W1 and W2 have no model, so what leaves is the assembled row. `payments` has one: there an input is a line of JSON, decoded
//! when it is due, and what leaves is the encoded scored diff.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use deltawatch::dataflow::Dataflow;
use hdrhistogram::Histogram;
use timely::worker::Worker;

use crate::drive::{EngineSettings, Feed, IN_FLIGHT_MAX, Metrics, Rows, ScoredDiff, engine, setup, unread};
use crate::pack::{Payments, encoder, scorer};
use crate::workloads::transactions;

/// Share of the input that fills the windows.
const WARM_SHARE: f64 = 0.6;
/// How long each rate is kept up.
const PHASE: Duration = Duration::from_secs(8);
const WAIT_MAX: Duration = Duration::from_millis(1);
/// The longest that an idle worker sleeps.
const PARK_MAX: Duration = Duration::from_millis(1);

/// W1, W2 and `payments` at fixed rates and at half of the maximum.
pub fn latency(share: f64) {
    rows("W1 handbook", crate::dataflow("handbook"), share, "0.2 / 1 / 3 ms at 20 k/s");
    rows("W2 spend_profile", crate::dataflow("spend_profile"), share, "0.3 / 2 / 10 ms at 20 k/s");
    scored(share);
}

/// Nanoseconds from due time to leaving, while a rate is measured.
#[derive(Clone, Default)]
struct Latencies(Rc<RefCell<Option<Histogram<u64>>>>);

impl Latencies {
    fn left(&self, start: Instant, due_ns: impl Iterator<Item = u64>) {
        if let Some(histogram) = self.0.borrow_mut().as_mut() {
            let now_ns = start.elapsed().as_nanos() as u64;
            due_ns.for_each(|due_ns| histogram.saturating_record(now_ns.saturating_sub(due_ns)));
        }
    }

    /// Keeps up each rate for a while, and prints how long it took.
    fn measure(&self, feed: &mut Feed, worker: &mut Worker, start: Instant, rates: &[f64], share: f64) {
        for &rate_per_s in rates {
            *self.0.borrow_mut() = Some(Histogram::new_with_max(60_000_000_000, 3).expect("a valid range"));
            open_loop(feed, worker, start, rate_per_s, PHASE.mul_f64(share.max(0.05)));
            let Some(histogram) = self.0.borrow_mut().take() else { continue };
            let [p50, p99, p999, max] = [0.5, 0.99, 0.999, 1.0].map(|at| histogram.value_at_quantile(at) as f64 / 1e6);
            println!(
                "    {rate_per_s:>7.0} /s   p50 {p50:>7.3}   p99 {p99:>7.3}   p99.9 {p999:>7.3}   max {max:>8.3} ms   {} left",
                histogram.len()
            );
        }
    }
}

/// Feeds events at a rate for a while, however the engine keeps up.
pub fn open_loop(feed: &mut Feed, worker: &mut Worker, start: Instant, rate_per_s: f64, phase: Duration) {
    let from = Instant::now();
    let from_ns = (from - start).as_nanos() as u64;
    let (mut sent, mut closed) = (0, from);
    let total = (rate_per_s * phase.as_secs_f64()) as usize;
    let due_after = |number: usize| Duration::from_secs_f64(number as f64 / rate_per_s);
    while sent < total {
        let now = Instant::now();
        let due = (((now - from).as_secs_f64() * rate_per_s) as usize + 1).min(total) - sent;
        let in_flight = feed.in_flight();
        let close = due > 0 && (in_flight == 0 || in_flight < IN_FLIGHT_MAX && now - closed >= WAIT_MAX);
        if close {
            match feed.epoch(due, |nth| from_ns + due_after(sent + nth).as_nanos() as u64) {
                0 => break,
                some => sent += some,
            }
            closed = now;
        }
        // A reader wakes the worker when something comes.
        let idle = (from + due_after(sent)).saturating_duration_since(now).min(PARK_MAX);
        worker.step_or_park(Some(if close { Duration::ZERO } else { idle }));
    }
    feed.settle(worker);
}

fn rows(name: &'static str, dataflow: &'static dyn Dataflow, share: f64, target: &'static str) {
    let Some(events) = transactions(&setup(dataflow).schema, share) else { return };
    timely::execute_directly(move |worker| {
        let (start, latencies) = (Instant::now(), Latencies::default());
        let measured = latencies.clone();
        let features = Box::new(move |batches: Option<(u64, Vec<Rows>)>| {
            let batches = batches.map_or_else(Vec::new, |(_, batches)| batches);
            measured.left(start, batches.iter().flat_map(Rows::iter).map(|(head, _)| head.arrived_ns));
            true
        });
        let (settings, metrics) = (EngineSettings::default(), Arc::new(Metrics::default()));
        let engine = engine(worker, dataflow, &settings, &metrics, None, Some(features));
        let warm = (events.len() as f64 * WARM_SHARE) as usize;
        let mut feed = Feed::new(engine, &settings, unread(events));
        let max_per_s = feed.at_full_speed(worker, warm);
        println!("{name}, due to row: at most {max_per_s:.0} /s; target p50 / p99 / p99.9 {target}");
        latencies.measure(&mut feed, worker, start, &[5_000.0, 20_000.0, max_per_s / 2.0], share);
        feed.finish(worker);
    });
}

fn scored(share: f64) {
    timely::execute_directly(move |worker| {
        let dataflow = crate::dataflow("payments");
        let (start, latencies, mut payments) = (Instant::now(), Latencies::default(), Payments::new(share));
        let (measured, encoder) = (latencies.clone(), encoder(payments.columns()));
        let scored = Box::new(move |batches: Option<(u64, Vec<ScoredDiff>)>| {
            let batches = batches.map_or_else(Vec::new, |(_, batches)| batches);
            for diff in &batches {
                std::hint::black_box(encoder.encode(diff));
                let first = diff.revision == 0 && diff.diff > 0;
                measured.left(start, first.then_some(diff.arrived_ns).into_iter());
            }
            true
        });
        let deployments = Some(scorer("payments", payments.columns()).into());
        let (settings, metrics) = (EngineSettings { deployments, ..EngineSettings::default() }, Arc::default());
        let engine = engine(worker, dataflow, &settings, &metrics, Some(scored), None);
        let mut feed = Feed::new(engine, &settings, payments.before());
        feed.at_full_speed(worker, usize::MAX);
        let lines = payments.lines();
        let count = lines.len();
        feed.go_on(payments.decoded(lines));
        let max_per_s = feed.at_full_speed(worker, count / 5);
        println!(
            "payments with its model, windows full, due to JSON decoded and diff encoded: at most {max_per_s:.0} /s; target \
             p99 / p99.9 0.5 / 1 ms at 20 k/s"
        );
        latencies.measure(&mut feed, worker, start, &[2_000.0, 5_000.0, max_per_s / 2.0], share);
        feed.finish(worker);
    });
}
