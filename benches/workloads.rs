//! W1 and W2 (the shipped dataflows `handbook` and `spend_profile`), in order and with late events, with the repair budget of a
//! live run and until nothing waits to be read again.

use std::path::Path;
use std::sync::{Arc, Mutex};

use cpu_time::ProcessTime;
use deltawatch::dataflow::Dataflow;
use deltawatch::decode::Decoder;
use deltawatch::event::Schema;
use deltawatch::source::{FileSource, Reader, Ready, Source, StartOffsets};
use hashbrown::HashMap;

use crate::drive::{BATCH, Cost, EngineSettings, Event, Limits, Record, run, run_with, setup};
use crate::reference::{self, Payment};

/// Runs of each input, in turns.
const ROUNDS: usize = 2;
/// What late events may cost: so many times the events in order.
const LATE_TARGET: f64 = 1.15;

/// Events per epoch; `DELTAWATCH_BENCH_BATCH` sets another number.
fn batch() -> usize {
    std::env::var("DELTAWATCH_BENCH_BATCH").ok().and_then(|text| text.parse().ok()).unwrap_or(BATCH)
}

/// Transactions of the handbook.
const TRANSACTIONS: f64 = 1_754_155.0;

/// The handbook transactions, decoded by a dataflow's schema; `None`, with a word, if the data are not there.
pub fn transactions(schema: &Arc<Schema>, share: f64) -> Option<Vec<Event>> {
    Some(one_by_one(schema, share)?.collect())
}

/// The same, each decoded when it is taken.
pub fn one_by_one(schema: &Arc<Schema>, share: f64) -> Option<impl Iterator<Item = Event> + 'static> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/handbook/transactions.csv.gz");
    if !path.exists() {
        println!("SKIPPED: the handbook transactions are not at ../shared/data/handbook");
        return None;
    }
    let source = FileSource::new(&[path.display().to_string()], schema, Limits::default()).expect("the file opens");
    let mut reader = source.open(0, 1, &StartOffsets::new()).expect("the file opens");
    let mut decoder = Decoder::new(schema.clone(), Limits::default()).expect("a shipped schema decodes");
    let records = std::iter::from_fn(move || some(&mut *reader)).flatten();
    let events = records.map(move |record| decoder.decode(&record).expect("every row is an event"));
    Some(events.take((TRANSACTIONS * share) as usize))
}

/// What a reader has next; `None` at its end.
fn some(reader: &mut dyn Reader) -> Option<Vec<Record>> {
    let mut records = Vec::new();
    loop {
        let ready = reader.poll(4096, &mut records).expect("the file is whole");
        if !records.is_empty() {
            return Some(records);
        }
        if ready == Ready::Done {
            return None;
        }
        std::thread::yield_now();
    }
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

fn report(name: &str, costs: &[Cost], own_us: f64, target: &str) -> f64 {
    let mut all: Vec<f64> = costs.iter().map(Cost::us_per_event).collect();
    all.sort_by(f64::total_cmp);
    let us = all.iter().sum::<f64>() / all.len() as f64;
    let (least, most, rows) = (all[0], all[all.len() - 1], costs[0].rows);
    println!("{name:<28} {us:>7.3} us/tx ({least:.3}-{most:.3})   own loop {own_us:>6.3}   {target}   {rows} rows");
    if std::env::var_os("DELTAWATCH_BENCH_METRICS").is_some() {
        for (name, _, _, value) in costs[0].metrics.all().into_iter().filter(|metric| metric.3 > 0) {
            println!("    {name} {value}");
        }
    }
    us
}

/// The bits of each transaction's last row, folded.
type LastRows = HashMap<u64, u64>;

/// Runs events and gives back the last row of each transaction.
fn last_rows(dataflow: &'static dyn Dataflow, events: Vec<Event>) -> LastRows {
    let last = Arc::new(Mutex::new(LastRows::with_capacity(events.len())));
    let kept = last.clone();
    run_with(dataflow, EngineSettings::default(), events, batch(), move |rows| {
        let mut last = kept.lock().expect("one thread");
        for (head, row) in rows.iter() {
            let bits = row.iter().fold(0u64, |bits, value| bits.rotate_left(7).wrapping_mul(31) ^ value.to_bits());
            last.insert(head.event.id.lo, bits);
        }
    });
    std::mem::take(&mut *last.lock().expect("one thread"))
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
    let own_us = || {
        let start = ProcessTime::now();
        std::hint::black_box(own(&input));
        start.elapsed().as_secs_f64() * 1e6 / input.len() as f64
    };
    let late = five_percent_late(&events);
    // What is not measured compares the rows, and leaves memory behind that all measured runs use again.
    let (wanted, repaired) = (last_rows(dataflow, events.clone()), last_rows(dataflow, late.clone()));
    let differing = wanted.iter().filter(|&(id, row)| repaired.get(id) != Some(row)).count();
    let count = wanted.len();
    drop((wanted, repaired));
    let (mut own, mut in_order, mut mixed) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        own.push(own_us());
        in_order.push(run(dataflow, EngineSettings::default(), events.clone(), batch()));
        mixed.push(run(dataflow, EngineSettings::default(), late.clone(), batch()));
    }
    let own_us = own.iter().sum::<f64>() / own.len() as f64;
    let us = report(name, &in_order, own_us, &format!("target {target_us:.2}"));
    let late_us = report(&format!("{name}, 5 % late"), &mixed, own_us, &format!("target {:.2}", LATE_TARGET * us));
    println!(
        "    {:.2} own loops; late {:.3} x in order (target {LATE_TARGET}); {differing} of {count} rows differ from those in order",
        us / own_us,
        late_us / us
    );
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
