//! A run that was down for longer than anything is kept: what has expired meanwhile goes in slices, and scores do not wait for it.
//!
//! History is scored and stopped; event time jumps while the run is down; then records come at a pace. Every line must be what a replay of
//! the whole journal says, the first of them soon, and none of them late.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use deltawatch::dataflow::{EngineSettings, Parameters, Setup};
use deltawatch::epoch::{Pace, PartitionBounds};
use deltawatch::event::{JsonEncoder, Limits, Partition, Payload, Record, Schema, Stand};
use deltawatch::flow::Epoch;
use deltawatch::generator::{Generator, GeneratorConfig};
use deltawatch::metrics::Metrics;
use deltawatch::runtime::job::{Job, Outputs};
use deltawatch::runtime::state::{State, StateSettings};
use deltawatch::sink::{Acknowledged, OutputRecord, SinkError, Writer};
use deltawatch::source::clock::now_ns;
use deltawatch::source::sealed::Terms;
use deltawatch::source::tables::ReferenceSource;
use deltawatch::source::{Reader, Ready, Source, SourceError, StartOffsets};
use deltawatch::testkit::TestModel;
use timely::{CommunicationConfig, Config, WorkerConfig};

use crate::dataflows::folder;

/// Records before the pause, and after it.
const BEFORE: usize = 30_000;
const AFTER: usize = 6_000;

/// Records per second after the pause.
const PACE: u64 = 2_000;

const HOUR_MS: i64 = 3_600_000;

/// Nothing is kept for so long: links of identity are for 90 days.
const ALL_GONE_MS: i64 = 100 * 24 * HOUR_MS;

/// The longest that a restart may take until its first score, and a record until its own; generous, as other tests run beside.
const FIRST_WITHIN: Duration = Duration::from_secs(20);
const EACH_WITHIN: Duration = Duration::from_secs(3);

/// Of what is kept, an epoch lets go of no more than one in so many.
const SLICES_MIN: u64 = 8;

/// Lines, dealt in turn to two partitions; those from a place on come at a pace.
#[derive(Clone)]
struct Lines {
    lines: Arc<Vec<Vec<u8>>>,
    until: usize,
    paced_from: usize,
    began_ns: Arc<OnceLock<u64>>,
}

impl Lines {
    fn of(lines: &Arc<Vec<Vec<u8>>>, until: usize, paced_from: usize) -> Self {
        Lines { lines: lines.clone(), until, paced_from, began_ns: Arc::default() }
    }
}

impl Source for Lines {
    fn open(&self, worker: usize, workers: usize, start: &StartOffsets) -> Result<Box<dyn Reader>, SourceError> {
        let mine = (0..2).filter(|&partition: &Partition| partition as usize % workers == worker);
        let next = mine.map(|partition| (partition, start.get(&partition).copied().unwrap_or(0))).collect();
        Ok(Box::new(LineReader { lines: self.clone(), next }))
    }

    fn describe(&self) -> String {
        "lines of a test".to_owned()
    }

    fn bounded(&self) -> bool {
        true
    }
}

struct LineReader {
    lines: Lines,
    next: BTreeMap<Partition, u64>,
}

impl Reader for LineReader {
    fn poll(&mut self, limit: usize, into: &mut Vec<Record>) -> Result<Ready, SourceError> {
        let (now, lines, mut ready) = (now_ns(), &self.lines, Ready::Done);
        for (&partition, offset) in &mut self.next {
            loop {
                let place = *offset as usize * 2 + partition as usize;
                let Some(line) = lines.lines.get(place).filter(|_| place < lines.until) else { break };
                let mut arrived_ns = now;
                if let Some(number) = place.checked_sub(lines.paced_from) {
                    arrived_ns = lines.began_ns.get_or_init(|| now) + number as u64 * 1_000_000_000 / PACE;
                }
                if into.len() >= limit || arrived_ns > now {
                    ready = if into.len() >= limit { Ready::More } else { ready.min_of(Ready::CaughtUp) };
                    break;
                }
                let (stand, payload) = (Stand::default(), Payload::Json(line.clone()));
                into.push(Record { partition, offset: *offset, timestamp_ms: 0, arrived_ns, stand, payload });
                *offset += 1;
            }
        }
        Ok(ready)
    }

    fn partitions(&self) -> Vec<Partition> {
        self.next.keys().copied().collect()
    }
}

trait MinOf {
    fn min_of(self, other: Ready) -> Ready;
}

impl MinOf for Ready {
    /// More is there if anything says so, and it is not done before all are.
    fn min_of(self, other: Ready) -> Ready {
        if self == Ready::More { self } else { other }
    }
}

/// A line as it was written.
struct Noted {
    written_ns: u64,
    arrived_ns: u64,
    epoch: u64,
    /// Events that the engine kept then.
    retained: u64,
    line: String,
}

struct Noting {
    written: Arc<Mutex<Vec<Noted>>>,
    metrics: Arc<Metrics>,
    acknowledged: Acknowledged,
}

impl Writer for Noting {
    fn write(&mut self, record: OutputRecord) -> Result<(), SinkError> {
        let line = String::from_utf8(record.payload.unwrap_or(record.last_line)).unwrap();
        let (written_ns, arrived_ns, epoch) = (now_ns(), record.arrived_ns, record.headers.epoch);
        let retained = self.metrics.retained_events.get();
        self.written.lock().unwrap().push(Noted { written_ns, arrived_ns, epoch, retained, line });
        Ok(())
    }

    fn poll(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    fn commit(&mut self, epoch: Epoch) -> Result<(), SinkError> {
        self.acknowledged.epoch = Some(epoch);
        Ok(())
    }

    fn acknowledged(&self) -> Option<Acknowledged> {
        Some(self.acknowledged)
    }

    fn target(&self) -> String {
        "what the test notes".to_owned()
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
}

/// Runs `payments` on two workers to the end of some lines; what was written, and when it was started.
fn run(source: Lines, state: &Path, pace: Pace) -> (u64, Vec<Noted>) {
    let dataflow = folder::all().into_iter().find(|dataflow| dataflow.name() == "payments").unwrap();
    let schema = Arc::new(Schema::parse("payments", dataflow.schema()).unwrap());
    let setup = Setup { schema, parameters: Parameters::default() };
    // A model that looks at every column.
    let scorer = TestModel::scorer(dataflow.features(&setup).unwrap().columns());
    let (metrics, written) = (Arc::new(Metrics::default()), Arc::default());
    let scored: Box<dyn Writer> = Box::new(Noting {
        written: Arc::clone(&written),
        metrics: metrics.clone(),
        acknowledged: Acknowledged { epoch: None, bytes: 0 },
    });
    let settings = StateSettings { cut_every: Some(Duration::from_secs(3600)), ..StateSettings::of(pace) };
    let started_ns = now_ns();
    let job = Job {
        dataflow,
        setup,
        settings: EngineSettings { deployments: Some(scorer.into()), ..EngineSettings::default() },
        source: Arc::new(source),
        references: ReferenceSource::new(Vec::new(), None, pace == Pace::Bounded, Limits::default()).unwrap(),
        services: BTreeMap::new(),
        limits: Limits::default(),
        pace,
        bounds: PartitionBounds::default(),
        control: None,
        outputs: Outputs { scored: Some(scored), ..Outputs::default() },
        state: Some(State::open(state, settings, &Terms::default(), Default::default()).unwrap()),
        terms: Terms::default(),
        peer_timeout: Duration::from_secs(60),
        stop: Arc::new(AtomicBool::new(false)),
        metrics,
    };
    job.run(Config { communication: CommunicationConfig::Process(2), worker: WorkerConfig::default() }).unwrap();
    let written = std::mem::take(&mut *written.lock().unwrap());
    (started_ns, written)
}

/// Generated records; event time jumps behind the first ones.
fn lines(jump_ms: i64) -> Arc<Vec<Vec<u8>>> {
    let schema = Arc::new(Schema::parse("payments", include_str!("../dataflows/payments.toml")).unwrap());
    let config = GeneratorConfig { rate_per_s: 1.0, customers: 5_000, ..GeneratorConfig::default() };
    let (generator, encoder) = (Generator::new(config, schema.clone()).unwrap(), JsonEncoder::new(&schema));
    let line = |(number, generated): (usize, deltawatch::generator::Generated)| {
        let mut line = Vec::new();
        encoder.write(&generated.event, &schema, &mut line);
        if number >= BEFORE {
            let mut event: serde_json::Value = serde_json::from_slice(&line).unwrap();
            for field in ["time", "available_at"] {
                if let Some(time) = event[field].as_i64() {
                    event[field] = (time + jump_ms).into();
                }
            }
            line = serde_json::to_vec(&event).unwrap();
        }
        line
    };
    Arc::new(generator.take(BEFORE + AFTER).enumerate().map(line).collect())
}

fn sorted(noted: &[Noted]) -> Vec<&str> {
    let mut lines: Vec<&str> = noted.iter().map(|noted| &*noted.line).collect();
    lines.sort_unstable();
    lines
}

fn resumed_after(jump_ms: i64) {
    let folder = tempfile::tempdir().unwrap();
    let lines = lines(jump_ms);
    let (_, mut before) = run(Lines::of(&lines, BEFORE, usize::MAX), folder.path(), Pace::Live);
    let kept = before.last().unwrap().retained;
    assert!(kept > BEFORE as u64 / 2, "{kept} events are kept");

    let (started_ns, after) = run(Lines::of(&lines, usize::MAX, BEFORE), folder.path(), Pace::Live);
    let fresh = || after.iter().filter(|noted| noted.line.contains("\"cause\":\"arrival\""));
    let first = Duration::from_nanos(fresh().map(|noted| noted.written_ns).min().unwrap() - started_ns);
    let mut latencies: Vec<u64> = fresh().map(|noted| noted.written_ns.saturating_sub(noted.arrived_ns)).collect();
    latencies.sort_unstable();
    let [half, most] = [latencies.len() / 2, latencies.len() - 1].map(|at| Duration::from_nanos(latencies[at]));
    let by_epoch: BTreeMap<u64, u64> = after.iter().map(|noted| (noted.epoch, noted.retained)).collect();
    let left = *by_epoch.last_key_value().unwrap().1;
    let counts: Vec<u64> = std::iter::once(kept).chain(by_epoch.into_values()).collect();
    let drop = counts.windows(2).map(|pair| pair[0].saturating_sub(pair[1])).max().unwrap();
    eprintln!(
        "after {} h: first score {first:?} from the start, then {} with {half:?} in the middle and {most:?} at most; {kept} events kept \
         before, {left} after, at most {drop} less from one epoch to the next",
        jump_ms / HOUR_MS,
        latencies.len(),
    );
    assert!(latencies.len() > AFTER / 2 && first < FIRST_WITHIN && most < EACH_WITHIN);
    if jump_ms >= ALL_GONE_MS {
        assert!(left < AFTER as u64 + 2 * AFTER as u64 / 10, "{left} events are left");
        assert!(drop <= kept / SLICES_MIN, "{drop} of {kept} events expire at once");
    }
    before.extend(after);
    let (_, replayed) = run(Lines::of(&lines, usize::MAX, usize::MAX), folder.path(), Pace::Bounded);
    let (said, wanted) = (sorted(&before), sorted(&replayed));
    let lost: Vec<_> = wanted.iter().filter(|line| said.binary_search(line).is_err()).take(2).collect();
    let more: Vec<_> = said.iter().filter(|line| wanted.binary_search(line).is_err()).take(2).collect();
    assert!(said == wanted, "{} lines of {}; lost {lost:#?}, more {more:#?}", said.len(), wanted.len());
}

#[test]
fn a_day_s_pause_is_made_up_for() {
    resumed_after(24 * HOUR_MS);
}

#[test]
fn after_a_pause_longer_than_all_retention_expiry_goes_in_slices() {
    resumed_after(ALL_GONE_MS);
}
