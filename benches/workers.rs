//! Two workers over one: W1, W2 and `payments` with its model, from memory, through the whole job.
//!
//! Events are decoded already and lie in four partitions; epochs are those of a replay, so both runs do the same work. Scored
//! diffs are encoded, rows are not.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use cpu_time::ProcessTime;
use deltawatch::epoch::{Pace, PartitionBounds};
use deltawatch::runtime::job::{Job, Outputs};
use deltawatch::testkit::memory::{MemorySource, MemoryWriter};
use timely::{CommunicationConfig, Config, WorkerConfig};

use crate::drive::{EngineSettings, Event, Metrics, ReferenceSource, setup};
use crate::pack::{Payments, scorer};
use crate::workloads::transactions;

const PARTITIONS: usize = 4;
/// Pairs that are measured, after one that finds the memory that they use.
const ROUNDS: usize = 2;
/// The share of the inputs of `pack` that is taken.
const PAYMENTS_SHARE: f64 = 0.4;
/// Rows read again per epoch, as in a replay.
const REPAIR_ROWS: usize = 65_536;
/// Wall time of one worker over that of two.
const TARGET: f64 = 1.8;

/// Prints wall and CPU time per event with one worker and with two.
pub fn workers(share: f64) {
    for name in ["handbook", "spend_profile"] {
        if let Some(events) = transactions(&setup(crate::dataflow(name)).schema, share) {
            compare(name, &events);
        }
    }
    let payments = Payments::new(PAYMENTS_SHARE * share);
    let events: Vec<Event> = payments.before().map(|(event, _)| event).collect();
    compare("payments", &events);
}

/// Wall and CPU microseconds per event.
struct Cost {
    wall_us: f64,
    cpu_us: f64,
}

fn compare(name: &str, events: &[Event]) {
    let mut dealt = vec![Vec::new(); PARTITIONS];
    // In turns, so that partitions go forward together; what is said of one event stays together.
    for event in events {
        dealt[(event.id.lo % PARTITIONS as u64) as usize].push(event.clone());
    }
    let source = MemorySource::new(dealt);
    run(name, &source, events.len(), 2);
    let pairs: Vec<[Cost; 2]> =
        (0..ROUNDS).map(|_| [1, 2].map(|workers| run(name, &source, events.len(), workers))).collect();
    let mean = |of: &dyn Fn(&[Cost; 2]) -> f64| pairs.iter().map(of).sum::<f64>() / pairs.len() as f64;
    let [one, two] =
        [0, 1].map(|at| Cost { wall_us: mean(&|pair| pair[at].wall_us), cpu_us: mean(&|pair| pair[at].cpu_us) });
    println!(
        "two workers over one, {name:<14} wall {:.2} x (target {TARGET}): {:.2} -> {:.2} us/event   CPU {:.2} -> {:.2} us/event ({:.2} x)",
        one.wall_us / two.wall_us,
        one.wall_us,
        two.wall_us,
        one.cpu_us,
        two.cpu_us,
        two.cpu_us / one.cpu_us
    );
}

fn run(name: &str, source: &MemorySource, events: usize, workers: usize) -> Cost {
    let dataflow = crate::dataflows::all().into_iter().find(|one| one.name() == name).expect("it ships");
    let setup = setup(&*dataflow);
    let columns = dataflow.features(&setup).expect("its features are valid").columns();
    let deployments = dataflow.model().map(|model| scorer(model, &columns).into());
    let job = Job {
        dataflow,
        setup,
        settings: EngineSettings { deployments, repair_rows_max: REPAIR_ROWS, ..EngineSettings::default() },
        source: Arc::new(source.clone()),
        references: ReferenceSource::new(Vec::new(), None, false, Default::default()).expect("none"),
        services: Default::default(),
        limits: Default::default(),
        pace: Pace::Bounded,
        bounds: PartitionBounds::default(),
        control: None,
        outputs: Outputs { scored: Some(Box::new(MemoryWriter::default())), ..Outputs::default() },
        state: None,
        terms: Default::default(),
        peer_timeout: Duration::from_secs(10),
        stop: Arc::new(AtomicBool::new(false)),
        metrics: Arc::<Metrics>::default(),
    };
    let communication = if workers == 1 { CommunicationConfig::Thread } else { CommunicationConfig::Process(workers) };
    let (wall, cpu) = (Instant::now(), ProcessTime::now());
    job.run(Config { communication, worker: WorkerConfig::default() }).expect("it runs");
    let us = |time: Duration| time.as_secs_f64() * 1e6 / events as f64;
    Cost { wall_us: us(wall.elapsed()), cpu_us: us(cpu.elapsed()) }
}
