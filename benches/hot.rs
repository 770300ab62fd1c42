//! A hot key with late events: does it hold up fresh rows, how long until its rows are repaired, and are they right?

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use deltawatch::event::{EventBuilder, Id, Op, Schema};
use hdrhistogram::Histogram;

use crate::drive::{Cause, EngineSettings, Event, Feed, Metrics, Rows, engine, setup, unread};
use crate::latency::open_loop;

const RATE_PER_S: f64 = 20_000.0;
const PHASE: Duration = Duration::from_secs(20);
/// One event in so many is of the hot terminal.
const HOT_NTH: u64 = 10;
/// One event of the hot terminal in so many is late.
const LATE_NTH: u64 = 100;
const LATE_MS_MAX: u64 = 600_000;
const CUSTOMERS: u64 = 5_000;
const TERMINALS: u64 = 10_000;

/// What a run left behind: the bits of each transaction's last row, folded.
type LastRows = HashMap<u64, u64>;

/// 20 k events/s on the 72 features of `spend_profile`, 10 % on one terminal, 1 % of those late.
pub fn hot(share: f64) {
    let phase = PHASE.mul_f64(share.max(0.1));
    let schema = setup(crate::dataflow("spend_profile")).schema;
    let events = events(&schema, (RATE_PER_S * phase.as_secs_f64()) as u64);
    let mut in_order = events.clone();
    in_order.sort_by_key(|event| (event.time, event.id));
    let repaired = run(events, phase, true);
    let wanted = run(in_order, Duration::ZERO, false);
    let differing = wanted.iter().filter(|(id, row)| repaired.get(id) != Some(row)).count();
    println!("    {} rows, {differing} differ from those of the same events in order", wanted.len());
}

fn events(schema: &Schema, count: u64) -> Vec<Event> {
    let mut random = 7u64;
    let mut random = move |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    let slot = |name| schema.slot(name).expect("the schema has the field");
    let (customer, terminal, amount) = (slot("customer"), slot("terminal"), slot("amount"));
    let mut builder = EventBuilder::new(schema);
    let event = |number: u64| {
        let hot = number.is_multiple_of(HOT_NTH);
        let late = if hot && (number / HOT_NTH).is_multiple_of(LATE_NTH) { random(LATE_MS_MAX) } else { 0 };
        let time = 1_700_000_000_000 + (number * 1000 / RATE_PER_S as u64) as i64 - late as i64;
        builder.set_int(schema.id_slot(), number as i64);
        builder.set_int(schema.time_slot(), time);
        builder.set_int(customer, random(CUSTOMERS) as i64);
        builder.set_int(terminal, if hot { 0 } else { 1 + random(TERMINALS) as i64 });
        builder.set_int(amount, 1 + random(20_000) as i64);
        builder.finish(Id::from_int(number), time, schema.default_kind(), Op::Insert, schema)
    };
    (0..count).map(event).collect()
}

/// Runs the events, by the clock or at full speed, and then until nothing waits to be repaired.
fn run(events: Vec<Event>, phase: Duration, report: bool) -> LastRows {
    let dataflow = crate::dataflow("spend_profile");
    timely::execute_directly(move |worker| {
        let start = Instant::now();
        let latencies =
            Rc::new(RefCell::new(Histogram::<u64>::new_with_max(60_000_000_000, 3).expect("a valid range")));
        let last = Rc::new(RefCell::new(LastRows::with_capacity(events.len())));
        let (measured, kept) = (latencies.clone(), last.clone());
        let measured_rows = Rc::new(Cell::new(0u64));
        let repaired = measured_rows.clone();
        let features = Box::new(move |batches: Option<(u64, Vec<Rows>)>| {
            let batches = batches.map_or_else(Vec::new, |(_, batches)| batches);
            let now_ns = start.elapsed().as_nanos() as u64;
            for (transaction, row) in batches.iter().flat_map(Rows::iter) {
                if transaction.cause == Cause::Arrival {
                    measured.borrow_mut().saturating_record(now_ns.saturating_sub(transaction.arrived_ns));
                } else {
                    repaired.set(repaired.get() + 1);
                }
                let bits = row.iter().fold(0u64, |bits, value| bits.rotate_left(7).wrapping_mul(31) ^ value.to_bits());
                kept.borrow_mut().insert(transaction.event.id.lo, bits);
            }
            true
        });
        let (settings, metrics) = (EngineSettings::default(), Arc::new(Metrics::default()));
        let engine = engine(worker, dataflow, &settings, &metrics, None, Some(features));
        let mut feed = Feed::new(engine, &settings, unread(events));
        let rate_per_s = if phase.is_zero() { 1e9 } else { RATE_PER_S };
        open_loop(&mut feed, worker, start, rate_per_s, phase.max(Duration::from_secs(1)));
        let (drain, waiting) = (Instant::now(), feed.owed());
        feed.drain(worker);
        let epochs = feed.epochs();
        feed.finish(worker);
        if report {
            let (histogram, drained) = (latencies.borrow(), drain.elapsed().as_secs_f64());
            let ms = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e6;
            let [p50, p99, p999] = [0.5, 0.99, 0.999].map(ms);
            println!("hot key at 20000 tx/s, 10 % on one terminal, 1 % of those late by up to 10 min");
            println!("    fresh rows p50 {p50:.3}   p99 {p99:.3}   p99.9 {p999:.3} ms (target p99.9 <= 20)");
            println!("    {epochs} epochs, {} rows read again", measured_rows.get());
            println!("    {waiting} keys waited at the end, repaired after {drained:.2} s (target <= 10)");
        }
        last.take()
    })
}
