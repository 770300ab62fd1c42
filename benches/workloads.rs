//! W1 and W2 (the shipped dataflows `handbook` and `spend_profile`), in order and with late events.

use std::path::Path;
use std::sync::Arc;

use cpu_time::ProcessTime;
use deltawatch::dataflow::{Dataflow, EngineSettings};
use deltawatch::decode::Decoder;
use deltawatch::event::{Event, Limits, Schema};
use deltawatch::source::{FileSource, Ready, Source, StartOffsets};

use crate::drive::{Cost, run, setup};
use crate::reference::{self, Payment};

/// Events per epoch: what a busy engine forms by itself. `DELTAWATCH_BENCH_BATCH` sets another number.
const BATCH: usize = 128;

fn batch() -> usize {
    std::env::var("DELTAWATCH_BENCH_BATCH").ok().and_then(|text| text.parse().ok()).unwrap_or(BATCH)
}

/// The handbook transactions, decoded by a dataflow's schema; `None`, with a word, if the data are not there.
pub fn transactions(schema: &Arc<Schema>, share: f64) -> Option<Vec<Event>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/handbook/transactions.csv.gz");
    if !path.exists() {
        println!("SKIPPED: the handbook transactions are not at ../shared/data/handbook");
        return None;
    }
    let source = FileSource::new(&[path.display().to_string()], schema, Limits::default()).expect("the file opens");
    let mut reader = source.open(0, 1, &StartOffsets::new()).expect("the file opens");
    let mut decoder = Decoder::new(schema.clone(), Limits::default()).expect("a shipped schema decodes");
    let (mut records, mut events) = (Vec::new(), Vec::new());
    let limit = (1_754_155.0 * share) as usize;
    while events.len() < limit {
        match reader.poll(4096, &mut records).expect("the file is whole") {
            Ready::Done if records.is_empty() => break,
            _ if records.is_empty() => std::thread::yield_now(),
            _ => {}
        }
        events.extend(records.drain(..).map(|record| decoder.decode(&record).expect("every row is an event")));
    }
    events.truncate(limit);
    Some(events)
}

/// The same events with 5 % of them arriving up to an hour late.
fn five_percent_late(events: &[Event]) -> Vec<Event> {
    let mut seed = 1u64;
    let mut random = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        seed >> 33
    };
    let mut by_arrival: Vec<(i64, Event)> = events
        .iter()
        .map(|event| {
            let late = if random() % 20 == 0 { (random() % 3_600_000) as i64 } else { 0 };
            (event.time + late, event.clone())
        })
        .collect();
    by_arrival.sort_by_key(|(arrival, _)| *arrival);
    by_arrival.into_iter().map(|(_, event)| event).collect()
}

fn payments(events: &[Event], schema: &Schema, customer: &str, terminal: &str, amount: &str) -> Vec<Payment> {
    let slot = |name| schema.slot(name).expect("the schema has the field");
    let (customer, terminal, amount, fraud) = (slot(customer), slot(terminal), slot(amount), schema.slot("TX_FRAUD"));
    let int = |event: &Event, slot| event.int(slot).unwrap_or(0);
    let payment = |event: &Event| Payment {
        time: event.time,
        customer: int(event, customer) as u64,
        terminal: int(event, terminal) as u64,
        cents: int(event, amount),
        fraud: fraud.is_some_and(|slot| int(event, slot) != 0),
    };
    events.iter().map(payment).collect()
}

fn report(name: &str, cost: &Cost, reference_us: f64, target_us: f64) {
    let (us, rows) = (cost.us_per_event(), cost.rows);
    println!("{name:<28} {us:>7.3} us/tx   own loop {reference_us:>6.3}   target {target_us:.2}   {rows} rows");
    if cost.checksum != 0 {
        println!("    checksum {:016x}", cost.checksum);
    }
    if std::env::var_os("DELTAWATCH_BENCH_METRICS").is_some() {
        for (name, _, _, value) in cost.metrics.all().into_iter().filter(|metric| metric.3 > 0) {
            println!("    {name} {value}");
        }
    }
}

fn workload(
    name: &str,
    dataflow: &'static dyn Dataflow,
    fields: [&str; 3],
    own: fn(&[Payment]) -> f64,
    share: f64,
    target_us: f64,
) {
    let schema = setup(dataflow).schema;
    let Some(events) = transactions(&schema, share) else { return };
    let input = payments(&events, &schema, fields[0], fields[1], fields[2]);
    let start = ProcessTime::now();
    std::hint::black_box(own(&input));
    let reference_us = start.elapsed().as_secs_f64() * 1e6 / input.len() as f64;
    let settings = || EngineSettings { repair_rows_max: 4096, ..EngineSettings::default() };
    let late = five_percent_late(&events);
    let in_order = run(dataflow, settings(), events, batch());
    report(name, &in_order, reference_us, target_us);
    let late = run(dataflow, settings(), late, batch());
    report(&format!("{name}, 5 % late"), &late, reference_us, 1.3 * in_order.us_per_event());
}

/// W1: 12 features over two keys.
pub fn w1(share: f64) {
    let fields = ["CUSTOMER_ID", "TERMINAL_ID", "TX_AMOUNT"];
    workload("W1 handbook", crate::dataflow("handbook"), fields, reference::w1, share, 1.0);
}

/// W2: 72 features over three keys.
pub fn w2(share: f64) {
    let fields = ["customer", "terminal", "amount"];
    workload("W2 spend_profile", crate::dataflow("spend_profile"), fields, reference::w2, share, 2.5);
}
