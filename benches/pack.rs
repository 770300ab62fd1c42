//! The shipped pack as users run it: JSON in, 285 features, the shipped model; and decoding alone.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cpu_time::ProcessTime;
use deltawatch::dataflow::EngineSettings;
use deltawatch::decode::{Decoder, JsonParser};
use deltawatch::event::{Event, JsonEncoder, Limits, Payload, Record, Schema, Stand};
use deltawatch::generator::{Generator, GeneratorConfig};
use deltawatch::score::model::{Model, ModelDir};
use deltawatch::score::scorer::{Scorer, Thresholds};

use crate::drive::{run, setup};

const EVENTS: f64 = 300_000.0;
/// Events per epoch.
const BATCH: usize = 128;
/// Rows whose scores are attributed.
const ROWS: f64 = 5_000.0;

/// Generated events, in order of arrival.
pub fn events(schema: &Arc<Schema>, share: f64) -> Vec<Event> {
    let generator = Generator::new(GeneratorConfig::default(), schema.clone()).expect("a valid configuration");
    generator.take((EVENTS * share) as usize).map(|record| record.event).collect()
}

/// Decoding of generated payments from JSON, beside the reference parser.
pub fn ingest(share: f64) {
    let schema = setup(crate::dataflow("payments")).schema;
    let encoder = JsonEncoder::new(&schema);
    let json = |event: &Event| {
        let mut line = Vec::new();
        encoder.write(event, &schema, &mut line);
        let (stand, payload) = (Stand::default(), Payload::Json(line));
        Record { partition: 0, offset: 0, timestamp_ms: 0, arrived_ns: 0, stand, payload }
    };
    let records: Vec<Record> = events(&schema, share).iter().map(json).collect();
    let us_per_record = |parser| {
        let decoder = Decoder::with_parser(schema.clone(), Limits::default(), parser);
        let mut decoder = decoder.expect("a shipped schema decodes");
        let start = ProcessTime::now();
        let decoded = records.iter().filter(|record| decoder.decode(record).is_ok()).count();
        assert_eq!(decoded, records.len(), "generated payments decode");
        start.elapsed().as_secs_f64() * 1e6 / records.len() as f64
    };
    let (sonic, reference) = (us_per_record(JsonParser::Sonic), us_per_record(JsonParser::SerdeJson));
    println!("ingest from JSON             {sonic:>7.3} us/record   serde_json {reference:>6.3}");
}

/// All features of `payments`, without and with its model, late, corrected and withdrawn events among them.
pub fn pack(share: f64) {
    let dataflow = crate::dataflow("payments");
    let setup = setup(dataflow);
    let columns = dataflow.features(&setup).expect("a shipped dataflow has features").columns();
    for (name, scorer) in [("features", None), ("features and model", Some(scorer("payments", &columns)))] {
        let settings = EngineSettings { scorer, repair_rows_max: 4096, ..EngineSettings::default() };
        let cost = run(dataflow, settings, events(&setup.schema, share), BATCH);
        let us = cost.cpu.as_secs_f64() * 1e6 / cost.rows.max(1) as f64;
        println!(
            "payments, {} columns, {name:<19} {us:>7.2} us/tx of {} rows, {:.2} us/event   target 25 with JSON and Kafka",
            columns.len(),
            cost.rows,
            cost.us_per_event()
        );
    }
    attribution(share);
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
    let thresholds = Thresholds { review: thresholds.review, block: thresholds.block };
    let model: Arc<dyn Model> = Arc::new(loaded.bind(columns).expect("the shipped model fits"));
    Scorer::new(vec![model], thresholds)
}
