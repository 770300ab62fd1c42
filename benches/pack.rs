//! The shipped pack as users run it: JSON in, all features at full windows, the shipped model, encoded scored diffs out; and
//! decoding alone.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use cpu_time::ProcessTime;
use deltawatch::dataflow::Setup;
use deltawatch::decode::{Decoder, JsonParser};
use deltawatch::event::Schema;
use deltawatch::score::model::{Model, ModelDir};
use deltawatch::score::scorer::{Scorer, Thresholds};
use deltawatch::sink::ScoredEncoder;
use deltawatch::sink::port::Port;

use crate::drive::{
    Cause, EngineSettings, Event, Feed, Generator, GeneratorConfig, Input, JsonEncoder, Limits, Metrics, Payload,
    Record, Rows, ScoredDiff, Stand, engine, setup, unread,
};

const EVENTS: f64 = 300_000.0;
/// Rows whose scores are attributed.
const ROWS: f64 = 5_000.0;

/// Records per second of event time: a customer pays, logs in, or is heard of otherwise, about once a day.
const RECORDS_PER_S: f64 = 0.2;
const CUSTOMERS: u32 = 20_000;
/// What comes before the measured part: more than the longest windows, 30 days.
const DAYS_BEFORE: f64 = 32.0;
/// Records of the measured part.
const MEASURED: f64 = 200_000.0;

/// Generated events in order of arrival, some hours of them.
pub fn events(schema: &Arc<Schema>, share: f64) -> Vec<Event> {
    let generator = Generator::new(GeneratorConfig::default(), schema.clone()).expect("a valid configuration");
    generator.take((EVENTS * share) as usize).map(|record| record.event).collect()
}

/// Inputs of `payments` in order of arrival, with late, repeated, corrected and withdrawn ones among them: first those that fill
/// its windows, then those to measure.
pub struct Payments {
    setup: Setup,
    columns: Vec<String>,
    generator: Rc<RefCell<Generator>>,
    before: usize,
    measured: usize,
    /// Event times: of the first record, of the last one before the measured part.
    first_ms: Rc<Cell<i64>>,
    filled_ms: Rc<Cell<i64>>,
}

impl Payments {
    /// With so large a share of the input.
    pub fn new(share: f64) -> Self {
        let dataflow = crate::dataflow("payments");
        let setup = setup(dataflow);
        let columns = dataflow.features(&setup).expect("a shipped dataflow has features").columns();
        let config = GeneratorConfig { rate_per_s: RECORDS_PER_S, customers: CUSTOMERS, ..GeneratorConfig::default() };
        let before = (DAYS_BEFORE * 86_400.0 * RECORDS_PER_S * share) as usize;
        let generator = Generator::new(config, setup.schema.clone()).expect("a valid configuration");
        Payments {
            setup,
            columns,
            generator: Rc::new(RefCell::new(generator)),
            before,
            measured: (MEASURED * share) as usize,
            first_ms: Rc::new(Cell::new(i64::MAX)),
            filled_ms: Rc::default(),
        }
    }

    /// The columns of its rows.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Inputs that fill the windows, made as they are taken.
    pub fn before(&self) -> impl Iterator<Item = Input> + 'static {
        let (generator, first_ms, filled_ms) = (self.generator.clone(), self.first_ms.clone(), self.filled_ms.clone());
        let events = (0..self.before).map_while(move |_| generator.borrow_mut().next()).map(|record| record.event);
        unread(events.inspect(move |event| {
            first_ms.set(first_ms.get().min(event.time));
            filled_ms.set(filled_ms.get().max(event.time));
        }))
    }

    /// Days of event time that came before.
    pub fn days_before(&self) -> f64 {
        (self.filled_ms.get() - self.first_ms.get()) as f64 / 86_400_000.0
    }

    /// What comes after them, as lines of JSON.
    pub fn lines(&mut self) -> Vec<Record> {
        let (schema, mut generator) = (&self.setup.schema, self.generator.borrow_mut());
        json(schema, generator.by_ref().take(self.measured).map(|record| record.event))
    }

    /// Lines, each decoded when it is taken.
    pub fn decoded(&self, lines: Vec<Record>) -> impl Iterator<Item = Input> + 'static {
        let decoder = Decoder::new(self.setup.schema.clone(), Limits::default());
        let mut decoder = decoder.expect("a shipped schema decodes");
        lines.into_iter().map(move |record| (decoder.decode(&record).expect("it was an event"), record.into_raw()))
    }

    /// Says what lines hold; returns how many of them ask for a score.
    fn describe(&self, lines: &[Record]) -> usize {
        let schema = &self.setup.schema;
        let mut kinds = vec![0; schema.kinds().len()];
        let kind_of = |(event, _): Input| usize::from(event.kind);
        self.decoded(lines.to_vec()).map(kind_of).for_each(|kind| kinds[kind] += 1);
        let scored = (0..).zip(&kinds).filter(|(kind, _)| schema.is_scored(*kind)).map(|(_, count)| count).sum();
        let percent = |count: usize| 100.0 * count as f64 / lines.len().max(1) as f64;
        let mut shares: Vec<_> = schema.kinds().iter().zip(kinds).filter(|(_, count)| percent(*count) >= 0.1).collect();
        shares.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let shares: Vec<_> = shares.iter().map(|(kind, count)| format!("{kind} {:.1} %", percent(*count))).collect();
        println!(
            "    {} events over {:.1} days came before; measured are {}: {}, others; {:.1} % are scored",
            self.before,
            self.days_before(),
            lines.len(),
            shares.join(", "),
            percent(scored)
        );
        scored
    }
}

fn json(schema: &Arc<Schema>, events: impl Iterator<Item = Event>) -> Vec<Record> {
    let encoder = JsonEncoder::new(schema);
    let json = |event: Event| {
        let mut line = Vec::new();
        encoder.write(&event, schema, &mut line);
        let (stand, payload) = (Stand::default(), Payload::Json(line));
        Record { partition: 0, offset: 0, timestamp_ms: 0, arrived_ns: 0, stand, payload }
    };
    events.map(json).collect()
}

/// Decoding of generated payments from JSON, beside the reference parser.
pub fn ingest(share: f64) {
    let schema = setup(crate::dataflow("payments")).schema;
    let records = json(&schema, events(&schema, share).into_iter());
    let (sonic, reference) =
        (decoding_us(&schema, &records, JsonParser::Sonic), decoding_us(&schema, &records, JsonParser::SerdeJson));
    println!("ingest from JSON             {sonic:>7.3} us/record   serde_json {reference:>6.3}");
}

fn decoding_us(schema: &Arc<Schema>, records: &[Record], parser: JsonParser) -> f64 {
    let decoder = Decoder::with_parser(schema.clone(), Limits::default(), parser);
    let mut decoder = decoder.expect("a shipped schema decodes");
    let start = ProcessTime::now();
    let decoded = records.iter().filter(|record| decoder.decode(record).is_ok()).count();
    assert_eq!(decoded, records.len(), "generated payments decode");
    start.elapsed().as_secs_f64() * 1e6 / records.len() as f64
}

/// All features of `payments` at full windows, without and with its model: CPU from a line of JSON to the encoded scored diff.
pub fn pack(share: f64) {
    for model in [false, true] {
        timely::execute_directly(move |worker| measure(worker, model, share));
    }
    attribution(share);
}

/// What leaves.
#[derive(Default)]
struct Left {
    /// Rows or diffs.
    count: u64,
    /// Of them, those of an arrival.
    fresh: u64,
    bytes: u64,
}

fn measure(worker: &mut timely::worker::Worker, model: bool, share: f64) {
    let mut payments = Payments::new(share);
    let deployments = model.then(|| scorer("payments", payments.columns()).into());
    let (left, counted) = (Rc::<RefCell<Left>>::default(), Rc::<RefCell<Left>>::default());
    let (of_diffs, of_rows, encoder) = (left.clone(), counted.clone(), encoder(payments.columns()));
    let scored = Box::new(move |batches: Option<(u64, Vec<ScoredDiff>)>| {
        let batches = batches.map_or_else(Vec::new, |(_, batches)| batches);
        let mut left = of_diffs.borrow_mut();
        for diff in &batches {
            let record = std::hint::black_box(encoder.encode(diff));
            left.count += 1;
            left.fresh += u64::from(diff.cause == Cause::Arrival);
            left.bytes += record.payload.as_ref().map_or(0, Vec::len) as u64;
        }
        true
    });
    // With a model rows stay inside, as they do in a run.
    let features = (!model).then(|| -> Port<Rows> {
        Box::new(move |batches| {
            let mut rows = of_rows.borrow_mut();
            for (head, _) in batches.iter().flat_map(|(_, batches)| batches).flat_map(Rows::iter) {
                rows.count += 1;
                rows.fresh += u64::from(head.cause == Cause::Arrival);
            }
            true
        })
    });
    let (settings, metrics) = (EngineSettings { deployments, ..EngineSettings::default() }, Arc::<Metrics>::default());
    let engine = engine(worker, crate::dataflow("payments"), &settings, &metrics, Some(scored), features);
    let mut feed = Feed::new(engine, &settings, payments.before());
    feed.at_full_speed(worker, usize::MAX);
    feed.drain(worker);
    let lines = payments.lines();
    if !model {
        println!("payments, {} columns, live repair budget, one worker", payments.columns().len());
        payments.describe(&lines);
    }
    let (count, decoding_us) = (lines.len() as f64, decoding_us(&payments.setup.schema, &lines, JsonParser::Sonic));
    feed.go_on(payments.decoded(lines));
    (*left.borrow_mut(), *counted.borrow_mut()) = Default::default();
    let (rescored, start) = (metrics.rescored.get(), ProcessTime::now());
    feed.at_full_speed(worker, usize::MAX);
    feed.drain(worker);
    let cpu: Duration = start.elapsed();
    let out = if model { left.borrow() } else { counted.borrow() };
    let again = if model { metrics.rescored.get() - rescored } else { out.count - out.fresh };
    let us_per = |count: f64| cpu.as_secs_f64() * 1e6 / count.max(1.0);
    let (what, target) = if model { ("JSON to encoded diffs", "target 25 with Kafka") } else { ("JSON to rows", "") };
    println!(
        "    {what:<22} {:>7.2} us/event   {:>7.2} us/score   decoding alone {decoding_us:.2}   {target}",
        us_per(count),
        us_per(out.fresh as f64)
    );
    println!(
        "        {} left, {} of them for arrivals; {again} rows read again; {} bytes",
        out.count, out.fresh, out.bytes
    );
    drop(out);
    feed.finish(worker);
}

/// What a flagged score adds: the reasons of rows by the shipped model, beside the scores of the same rows.
fn attribution(share: f64) {
    let loaded = ModelDir::find(&models(), "payments").and_then(|path| ModelDir::load(&path));
    let model = loaded.expect("the shipped model");
    let features = model.width();
    // Rows that go many ways; their values mean nothing.
    let mut seed = 7u64;
    let mut value = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 40) as f64 / f64::from(1 << 16)
    };
    let rows: Vec<Vec<f64>> =
        (0..(ROWS * share) as usize + 1).map(|_| (0..features).map(|_| value()).collect()).collect();
    let us_per_row = |work: &dyn Fn(&[f64])| {
        let start = ProcessTime::now();
        rows.iter().for_each(|row| work(row));
        start.elapsed().as_secs_f64() * 1e6 / rows.len() as f64
    };
    let reasons = us_per_row(&|row| _ = std::hint::black_box(model.reasons(row, 5)));
    let score = us_per_row(&|row| _ = std::hint::black_box(model.probability(row)));
    println!("attribution of a flagged score {reasons:>6.1} us/row   its score alone {score:.1}");
}

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models")
}

/// A shipped model (`name` or `name@version`) as a scorer of rows with these columns.
pub fn scorer(name: &str, columns: &[String]) -> Scorer {
    let loaded = ModelDir::find(&models(), name).and_then(|path| ModelDir::load(&path)).expect("the shipped model");
    let thresholds = loaded.manifest().thresholds;
    let thresholds = Thresholds { review: thresholds.review, challenge: f64::INFINITY, block: thresholds.block };
    let model: Arc<dyn Model> = Arc::new(loaded.bind(columns).expect("the shipped model fits"));
    Scorer::new(vec![model], thresholds)
}

/// Encodes the scored diffs of `payments` with its shipped model.
pub fn encoder(columns: &[String]) -> ScoredEncoder {
    let deployments = scorer("payments", columns).into();
    ScoredEncoder::new(setup(crate::dataflow("payments")).schema, Some(deployments), columns.to_vec())
}
