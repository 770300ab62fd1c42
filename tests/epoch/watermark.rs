//! How partitions move the watermark, seen by what a job rejects.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use deltawatch::dataflow::{EngineSettings, Setup};
use deltawatch::epoch::{Pace, PartitionBounds};
use deltawatch::event::{Event, EventBuilder, Id, Op, Schema};
use deltawatch::metrics::Metrics;
use deltawatch::runtime::job::{Job, Outputs};
use deltawatch::source::tables::ReferenceSource;
use deltawatch::testkit::memory::{MemorySource, MemoryWriter};
use timely::{CommunicationConfig, Config, WorkerConfig};

use crate::dataflows::folder;

const SECOND: i64 = 1_000;
const START: i64 = 1_711_929_600_000;
const YEAR: i64 = 365 * 86_400 * SECOND;

/// A job of `spend_profile` that keeps what it scores and refuses.
pub struct Trial {
    pub bounds: PartitionBounds,
    pub pace: Pace,
    pub workers: usize,
}

pub struct Kept {
    pub rejects: MemoryWriter,
    pub metrics: Arc<Metrics>,
    pub stop: Arc<AtomicBool>,
}

impl Kept {
    /// Rejects by reason: partition and offset.
    pub fn rejects(&self) -> BTreeMap<String, Vec<(u64, u64)>> {
        let mut by_reason = BTreeMap::<_, Vec<_>>::new();
        for record in self.rejects.records() {
            let reject: serde_json::Value = serde_json::from_slice(&record.payload.expect("a payload")).expect("JSON");
            let place = (reject["partition"].as_u64().expect("a number"), reject["offset"].as_u64().expect("a number"));
            by_reason.entry(reject["reason"].as_str().expect("a text").to_owned()).or_default().push(place);
        }
        by_reason.values_mut().for_each(|places| places.sort_unstable());
        by_reason
    }
}

pub fn setup() -> (Arc<dyn deltawatch::dataflow::Dataflow>, Setup) {
    let all = folder::all();
    let dataflow = all.iter().find(|dataflow| dataflow.name() == "spend_profile").expect("it ships").clone();
    let schema = Arc::new(Schema::parse(dataflow.name(), dataflow.schema()).expect("it is valid"));
    let parameters = deltawatch::dataflow::Parameters::resolve(dataflow.name(), &dataflow.parameters(), &[]);
    (dataflow, Setup { schema, parameters: parameters.expect("defaults are valid") })
}

pub fn event(schema: &Schema, number: u64, time: i64) -> Event {
    let mut builder = EventBuilder::new(schema);
    builder.set_int(schema.id_slot(), number as i64);
    builder.set_int(schema.time_slot(), time);
    builder.set_int(schema.slot("customer").expect("a customer"), (number % 50) as i64);
    builder.set_int(schema.slot("terminal").expect("a terminal"), (number % 20) as i64);
    builder.set_int(schema.slot("amount").expect("an amount"), 100);
    builder.finish(Id::from_int(number), time, schema.default_kind(), Op::Insert, schema)
}

impl Trial {
    pub fn job(&self, source: MemorySource) -> (Job, Kept) {
        let (dataflow, setup) = setup();
        let (rejects, metrics, stop) =
            (MemoryWriter::default(), Arc::new(Metrics::default()), Arc::new(AtomicBool::new(false)));
        let job = Job {
            dataflow,
            setup,
            settings: EngineSettings::default(),
            source: Arc::new(source),
            references: ReferenceSource::new(Vec::new(), None, false, Default::default()).expect("none"),
            services: Default::default(),
            limits: Default::default(),
            pace: self.pace,
            bounds: self.bounds,
            control: None,
            outputs: Outputs { rejects: Some(Box::new(rejects.clone())), ..Outputs::default() },
            state: None,
            terms: Default::default(),
            peer_timeout: Duration::from_secs(10),
            stop: stop.clone(),
            metrics: metrics.clone(),
        };
        (job, Kept { rejects, metrics, stop })
    }

    pub fn cluster(&self) -> Config {
        let communication = match self.workers {
            1 => CommunicationConfig::Thread,
            workers => CommunicationConfig::Process(workers),
        };
        Config { communication, worker: WorkerConfig::default() }
    }

    /// To the end of the source.
    pub fn run(&self, source: MemorySource) -> Kept {
        let (job, kept) = self.job(source);
        job.run(self.cluster()).expect("it runs");
        kept
    }
}

fn trial(pace: Pace) -> Trial {
    Trial { bounds: PartitionBounds { records_max: 64, ..Default::default() }, pace, workers: 1 }
}

/// Ten seconds apart, the one in the middle ahead by so much.
fn one_ahead(schema: &Schema, count: u64, ahead_ms: i64) -> Vec<Event> {
    let time = |n: u64| START + n as i64 * 10 * SECOND + if n == count / 2 { ahead_ms } else { 0 };
    (0..count).map(|n| event(schema, n, time(n))).collect()
}

#[test]
fn one_clock_ahead_costs_its_own_event_alone() {
    let schema = setup().1.schema;
    for ahead_ms in [7_200 * SECOND, 10 * YEAR, i64::MAX - START - 100_000 * SECOND] {
        for pace in [Pace::Bounded, Pace::Live] {
            let kept = trial(pace).run(MemorySource::new(vec![one_ahead(&schema, 1_000, ahead_ms)]));
            let wanted = BTreeMap::from([("from_the_future".to_owned(), vec![(0, 500)])]);
            assert_eq!(kept.rejects(), wanted, "{ahead_ms} ms ahead, {pace:?}");
            assert_eq!(kept.metrics.events.get(), 999);
        }
    }
}

#[test]
fn a_quiet_night_is_no_wrong_clock() {
    let schema = setup().1.schema;
    // Three nights of eight hours, and a partition with an event every twenty minutes.
    let dense = (0..900).map(|n| event(&schema, n, START + (n as i64 * 10 + n as i64 / 300 * 28_800) * SECOND));
    let sparse = (0..60).map(|n| event(&schema, 1_000 + n, START + n as i64 * 1_200 * SECOND));
    for pace in [Pace::Bounded, Pace::Live] {
        let kept = trial(pace).run(MemorySource::new(vec![dense.clone().collect(), sparse.clone().collect()]));
        assert_eq!(kept.rejects(), BTreeMap::new(), "{pace:?}");
        assert_eq!(kept.metrics.events.get(), 960);
    }
}

#[test]
fn a_run_takes_no_event_of_tomorrow() {
    let schema = setup().1.schema;
    let now = deltawatch::source::clock::wall_ms();
    // Too few records to tell by the others.
    let events = |ahead_ms| vec![event(&schema, 0, now), event(&schema, 1, now + ahead_ms), event(&schema, 2, now)];
    let refused = |pace, ahead_ms| trial(pace).run(MemorySource::new(vec![events(ahead_ms)])).rejects();
    assert_eq!(refused(Pace::Live, 3_600 * SECOND), BTreeMap::from([("from_the_future".to_owned(), vec![(0, 1)])]));
    assert_eq!(refused(Pace::Live, 240 * SECOND), BTreeMap::new());
    assert_eq!(refused(Pace::Bounded, 3_600 * SECOND), BTreeMap::new(), "a replay has no wall clock");
}

/// Runs live until so many events are in, then waits for the watermark that a silent partition must not hold.
fn watermark_with_a_silent_partition(workers: usize) -> i64 {
    let schema = setup().1.schema;
    let busy = |p: u64| (0..500).map(|n| event(&schema, p * 1_000 + n, START + n as i64 * SECOND)).collect();
    let later: Vec<Event> = vec![event(&schema, 9_999, START + YEAR)];
    let source = MemorySource::new(vec![busy(0), busy(1), later, busy(2)]).pausing_at(START + 600 * SECOND);
    let mut trial = trial(Pace::Live);
    trial.workers = workers;
    trial.bounds.idle_ms = 100;
    let (job, kept) = trial.job(source);
    let cluster = trial.cluster();
    let running = thread::spawn(move || job.run(cluster).map_err(|error| error.to_string()));
    let begin = Instant::now();
    let reached = loop {
        match kept.metrics.watermark_ms.get() as i64 {
            reached if reached >= START + 499 * SECOND => break reached,
            reached if begin.elapsed() > Duration::from_secs(10) => break reached,
            _ => thread::sleep(Duration::from_millis(5)),
        }
    };
    kept.stop.store(true, Ordering::Relaxed);
    assert_eq!(running.join().expect("no panic"), Ok(()));
    reached
}

#[test]
fn a_silent_partition_holds_nobody_back() {
    for workers in [1, 2] {
        let reached = watermark_with_a_silent_partition(workers);
        assert_eq!(reached, START + 499 * SECOND, "{workers} workers");
    }
}

/// One record in a hundred has a wrong clock: hours ahead, years ahead or back, or at the edges of 64 bits (of these the
/// decoder keeps away what is no time at all). One partition of several is silent.
#[test]
fn only_wrong_clocks_are_refused() {
    let schema = setup().1.schema;
    let full = std::env::var_os("DELTAWATCH_FULL").is_some();
    let count: u64 = if full { 1_000_000 } else { 100_000 };
    for partitions in [1, 4] {
        let mut events = vec![Vec::new(); partitions + usize::from(partitions > 1)];
        let (mut ahead, mut back) = (Vec::new(), Vec::new());
        for n in 0..count {
            let (partition, time) = ((n % partitions as u64) as usize, START + n as i64 * 200);
            // Spread without a period; never among the last, which nobody could tell.
            let wrong = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32 & 0x7f == 0 && n + 200 < count && n > 50_000;
            let time = match (wrong, n / 7 % 5) {
                (false, _) => time,
                (true, 0) => time + 7_200 * SECOND,
                (true, 1) => time + 10 * YEAR,
                (true, 2) => i64::MAX,
                (true, 3) => time - 10 * YEAR,
                (true, _) => i64::MIN,
            };
            let place = (partition as u64, events[partition].len() as u64);
            if wrong {
                if n / 7 % 5 < 3 { &mut ahead } else { &mut back }.push(place);
            }
            events[partition].push(event(&schema, n, time));
        }
        ahead.sort_unstable();
        back.sort_unstable();
        assert!(ahead.len() > count as usize / 700 && back.len() > count as usize / 1_000);
        let wanted = BTreeMap::from([("from_the_future".to_owned(), ahead), ("too_late".to_owned(), back)]);
        for (pace, workers) in [(Pace::Bounded, 1), (Pace::Live, 1), (Pace::Live, 2)] {
            let mut trial = trial(pace);
            (trial.workers, trial.bounds.records_max) = (workers, 1_024);
            let kept = trial.run(MemorySource::new(events.clone()));
            assert!(kept.rejects() == wanted, "{partitions} partitions, {pace:?}, {workers} workers");
            assert_eq!(kept.metrics.events.get(), count - wanted["from_the_future"].len() as u64);
        }
    }
}
