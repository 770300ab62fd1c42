//! A run that catches up from several partitions, read at whatever speeds, decides as a replay of the same records does.
//!
//! `DELTAWATCH_FULL=1` takes 200,000 events, else 40,000.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use deltawatch::dataflow::{Dataflow, EngineSettings, Setup};
use deltawatch::epoch::{Pace, PartitionBounds};
use deltawatch::event::{Event, EventBuilder, Id, Op, Partition, Record, Schema};
use deltawatch::feature::FeatureSet;
use deltawatch::metrics::Metrics;
use deltawatch::runtime::job::{Job, Outputs};
use deltawatch::runtime::state::{State, StateSettings};
use deltawatch::source::tables::ReferenceSource;
use deltawatch::source::{Reader, Ready, Source, SourceError, StartOffsets};
use deltawatch::testkit::TestModel;
use deltawatch::testkit::memory::{MemorySource, MemoryWriter};
use deltawatch::views::velocity::{Velocity, Window};
use serde_json::Value;
use timely::{CommunicationConfig, Config, WorkerConfig};

use crate::flows;

const PARTITIONS: usize = 4;
const START: i64 = 1_711_929_600_000;
const MINUTE: i64 = 60_000;

const SCHEMA: &str = r#"
name = "test"
[[field]]
name = "id"
type = "int"
role = "id"
[[field]]
name = "time"
type = "time"
role = "time"
[[field]]
name = "op"
type = "text"
role = "op"
[[field]]
name = "card"
type = "int"
role = "entity"
[[field]]
name = "merchant"
type = "int"
role = "entity"
[[field]]
name = "amount"
type = "int"
role = "amount"
"#;

/// Hot merchants and cool cards, each over a short and a long window.
fn flow() -> (Arc<dyn Dataflow>, Setup) {
    let windows = [Window::minutes(10), Window::hours(1)];
    let of = |name: &'static str| Velocity::of(name, &[name]).over(&windows).count().sum("amount").mean("amount");
    flows::of("catch_up", SCHEMA, FeatureSet::new().velocities([of("card"), of("merchant")]))
}

/// Numbers that look like chance.
fn chance(seed: u64, n: u64) -> u64 {
    let mixed = (n ^ seed << 48).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 11
}

fn event(schema: &Schema, n: u64, time: i64, op: Op, amount: i64) -> Event {
    let mut builder = EventBuilder::new(schema);
    builder.set_int(schema.id_slot(), n as i64);
    builder.set_int(schema.time_slot(), time);
    for (entity, count) in [("card", 3_000), ("merchant", 40)] {
        let value = chance(count, n) % count;
        builder.set_int(schema.slot(entity).expect("an entity"), value as i64);
    }
    builder.set_int(schema.slot("amount").expect("an amount"), amount);
    builder.finish(Id::from_int(n), time, schema.default_kind(), op, schema)
}

/// Four partitions of some hours: one event in twenty comes up to five minutes late, one in a hundred is corrected and one in
/// two hundred withdrawn, up to three minutes later. All records of a card stand in one partition.
fn partitions(schema: &Schema, count: u64) -> Vec<Vec<Event>> {
    let mut records = Vec::new();
    for n in 0..count {
        let time = START + n as i64 * 60;
        let late = chance(1, n).is_multiple_of(20);
        let at = time + if late { (chance(2, n) % (5 * MINUTE as u64)) as i64 } else { 0 };
        let amount = 100 + (chance(3, n) % 10_000) as i64;
        records.push((at, n, event(schema, n, time, Op::Insert, amount)));
        let after = at + (chance(4, n) % (3 * MINUTE as u64)) as i64;
        match chance(5, n) % 200 {
            0 | 1 => records.push((after, n, event(schema, n, time, Op::Correct, amount + 1_000))),
            2 => records.push((after, n, event(schema, n, time, Op::Withdraw, amount))),
            _ => {}
        }
    }
    records.sort_by_key(|(at, n, event)| (*at, *n, event.op));
    let mut dealt = vec![Vec::new(); PARTITIONS];
    let card = schema.slot("card").expect("a card");
    records.into_iter().for_each(|(_, _, event)| {
        dealt[event.int(card).expect("a card") as usize % PARTITIONS].push(event);
    });
    dealt
}

/// A source whose partitions are handed out at speeds of their own, records per millisecond.
struct Throttled {
    source: MemorySource,
    speeds: [f64; PARTITIONS],
}

impl Source for Throttled {
    fn open(&self, worker: usize, workers: usize, start: &StartOffsets) -> Result<Box<dyn Reader>, SourceError> {
        let inner = self.source.open(worker, workers, start)?;
        let waiting = inner.partitions().into_iter().map(|partition| (partition, (VecDeque::new(), 0.0))).collect();
        let (held, at) = (Vec::new(), Instant::now());
        Ok(Box::new(ThrottledReader { inner, waiting, held, at, speeds: self.speeds }))
    }

    fn describe(&self) -> String {
        "throttled partitions in memory".to_owned()
    }

    fn identity(&self) -> String {
        self.describe()
    }

    fn bounded(&self) -> bool {
        false
    }
}

struct ThrottledReader {
    inner: Box<dyn Reader>,
    /// Records of each partition, and how many of them may go.
    waiting: BTreeMap<Partition, (VecDeque<Record>, f64)>,
    held: Vec<Partition>,
    at: Instant,
    speeds: [f64; PARTITIONS],
}

impl Reader for ThrottledReader {
    fn poll(&mut self, limit: usize, into: &mut Vec<Record>) -> Result<Ready, SourceError> {
        let mut records = Vec::new();
        let ready = self.inner.poll(limit, &mut records)?;
        for record in records {
            self.waiting.get_mut(&record.partition).expect("its own partition").0.push_back(record);
        }
        let elapsed_ms = self.at.elapsed().as_secs_f64() * 1e3;
        self.at = Instant::now();
        let before = into.len();
        for (partition, (waiting, credit)) in &mut self.waiting {
            *credit = (*credit + elapsed_ms * self.speeds[*partition as usize]).min(limit as f64);
            while *credit >= 1.0 && !self.held.contains(partition) {
                let Some(record) = waiting.pop_front() else { break };
                into.push(record);
                *credit -= 1.0;
            }
        }
        let left = self.waiting.values().any(|(waiting, _)| !waiting.is_empty());
        Ok(match ready {
            _ if into.len() > before => Ready::More,
            ready if left && ready != Ready::More => Ready::Waiting,
            ready => ready,
        })
    }

    fn partitions(&self) -> Vec<Partition> {
        self.inner.partitions()
    }

    fn ends(&self, into: &mut Vec<(Partition, u64)>) {
        self.inner.ends(into);
    }

    fn hold(&mut self, partitions: &[Partition]) {
        self.held = partitions.to_vec();
    }
}

/// What was said of a transaction when it came, and what holds in the end; none if it was withdrawn.
#[derive(Clone, Debug, Default, PartialEq)]
struct Said {
    decision: Value,
    assessment: Option<Value>,
}

struct Outcome {
    said: BTreeMap<u64, Said>,
    events: u64,
    read_again_per_score: f64,
}

/// Runs until so many events are in; a replay ends by itself.
fn run(pace: Pace, workers: usize, source: Arc<dyn Source>, until: u64, state: Option<&Path>) -> Outcome {
    let (dataflow, setup) = flow();
    let columns = dataflow.features(&setup).expect("features").columns();
    let (scored, metrics, stop) =
        (MemoryWriter::default(), Arc::new(Metrics::default()), Arc::new(AtomicBool::new(false)));
    // As the command line has it.
    let repair_rows_max = if pace == Pace::Live { 64 } else { 65_536 };
    let job = Job {
        dataflow,
        setup,
        settings: EngineSettings {
            deployments: Some(TestModel::scorer(columns).into()),
            repair_rows_max,
            ..Default::default()
        },
        source,
        references: ReferenceSource::new(Vec::new(), None, false, Default::default()).expect("none"),
        services: Default::default(),
        limits: Default::default(),
        pace,
        bounds: PartitionBounds { records_max: 256, ..Default::default() },
        control: None,
        outputs: Outputs { scored: Some(Box::new(scored.clone())), ..Outputs::default() },
        state: state.map(|state| {
            State::open(state, StateSettings::of(pace), &Default::default(), Default::default())
                .expect("a directory of its own")
        }),
        terms: Default::default(),
        peer_timeout: Duration::from_secs(10),
        stop: stop.clone(),
        metrics: metrics.clone(),
    };
    let communication = match workers {
        1 => CommunicationConfig::Thread,
        workers => CommunicationConfig::Process(workers),
    };
    let cluster = Config { communication, worker: WorkerConfig::default() };
    let running = thread::spawn(move || job.run(cluster).map_err(|error| error.to_string()));
    while pace == Pace::Live && !running.is_finished() && metrics.events.get() < until {
        thread::sleep(Duration::from_millis(5));
    }
    // The backlog is worked off after the stop.
    stop.store(pace == Pace::Live, Ordering::Relaxed);
    assert_eq!(running.join().expect("no panic"), Ok(()));
    assert!(metrics.events.get() >= until);
    assert_eq!(metrics.too_late.get(), 0);
    let mut said = BTreeMap::<u64, Said>::new();
    for record in scored.records() {
        let id: u64 = String::from_utf8_lossy(&record.key).parse().expect("a number");
        let of = said.entry(id).or_default();
        let Some(payload) = &record.payload else {
            of.assessment = None;
            continue;
        };
        let mut value: Value = serde_json::from_slice(payload).expect("JSON");
        if value["revision"] == 0 {
            of.decision = value["decision"].take();
        }
        of.assessment = (value["diff"] == 1).then(|| value["assessment"].take());
    }
    let events = metrics.events.get();
    Outcome { said, events, read_again_per_score: metrics.rescored.get() as f64 / metrics.scored.get() as f64 }
}

#[test]
fn catching_up_decides_as_a_replay_at_any_speeds() {
    let full = std::env::var_os("DELTAWATCH_FULL").is_some();
    let schema = flow().1.schema;
    let dealt = partitions(&schema, if full { 200_000 } else { 40_000 });
    let total = dealt.iter().map(Vec::len).sum::<usize>() as u64;
    // What shares its epoch with its own correction or withdrawal may be decided by either.
    let changed: Vec<u64> =
        dealt.iter().flatten().filter(|event| event.op != Op::Insert).map(|event| event.id.lo).collect();
    let source = MemorySource::new(dealt);
    for workers in [1, 2] {
        let replay = run(Pace::Bounded, workers, Arc::new(source.clone()), total, None);
        for speeds in [[400.0, 10.0, 60.0, 25.0], [8.0, 500.0, 12.0, 300.0]] {
            let throttled = Throttled { source: source.clone().pausing_at(i64::MAX), speeds };
            let live = run(Pace::Live, workers, Arc::new(throttled), total, None);
            let differ =
                |id: &&u64, what: fn(&Said) -> Value| live.said.get(id).map(what) != replay.said.get(id).map(what);
            let ids: std::collections::BTreeSet<&u64> = live.said.keys().chain(replay.said.keys()).collect();
            let assessments: Vec<_> =
                ids.iter().filter(|id| differ(id, |said| said.assessment.clone().unwrap_or_default())).collect();
            assert!(assessments.is_empty(), "{workers} workers, {speeds:?}: assessments of {assessments:?} differ");
            let decisions: Vec<_> = ids.iter().filter(|id| differ(id, |said| said.decision.clone())).collect();
            let unexplained: Vec<_> = decisions.iter().filter(|id| !changed.contains(id)).collect();
            assert!(unexplained.is_empty(), "{workers} workers, {speeds:?}: decisions of {unexplained:?} differ");
            eprintln!(
                "{workers} workers, {speeds:?}: {} transactions, {} decisions differ as their correction or withdrawal \
                 came in the same epoch: {decisions:?}; rows read again per score {:.3}, in the replay {:.3}",
                ids.len(),
                decisions.len(),
                live.read_again_per_score,
                replay.read_again_per_score
            );
            assert!(live.read_again_per_score <= 1.2 * replay.read_again_per_score);
        }
    }
}

#[test]
fn a_run_that_is_stopped_while_it_catches_up_goes_on_as_if_it_had_not_been() {
    let schema = flow().1.schema;
    let dealt = partitions(&schema, 30_000);
    let total = dealt.iter().map(Vec::len).sum::<usize>() as u64;
    let source = MemorySource::new(dealt);
    let replay = run(Pace::Bounded, 1, Arc::new(source.clone()), total, None);
    let state = tempfile::tempdir().expect("a directory");
    let throttled = |speeds| Arc::new(Throttled { source: source.clone().pausing_at(i64::MAX), speeds });
    let mut events = 0;
    for (workers, speeds, until) in [
        (1, [60.0, 9.0, 30.0, 15.0], total / 4),
        (2, [8.0, 90.0, 12.0, 50.0], total / 2),
        (1, [90.0, 20.0, 80.0, 30.0], total),
    ] {
        // On a busy machine the run before may have come further than it was to: this one is to come further still.
        let until = until.max(events + total / 8).min(total);
        let live = run(Pace::Live, workers, throttled(speeds), until, Some(state.path()));
        // What was read beyond the last epoch is in the journal, and not throttled any more.
        assert!(live.events > events || live.events == total, "{} of {total}", live.events);
        assert!(events > 0 || live.events < total, "the first run was not stopped");
        events = live.events;
        let decided = |(id, said): (&u64, &Said)| (said.decision != replay.said[id].decision).then_some(*id);
        let differ: Vec<_> = live.said.iter().filter_map(decided).collect();
        assert!(differ.is_empty(), "until {until}: decisions of {differ:?} differ");
        if until == total {
            assert!(live.said == replay.said, "what holds in the end differs");
        }
    }
}
