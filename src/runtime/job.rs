//! A job: a dataflow with its source and outputs, run on a cluster to its end.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cpu_time::ProcessTime;
use timely::CommunicationConfig;
use timely::communication::allocator::AllocatorBuilder;
use timely::execute::execute_from;
use timely::worker::Worker;
use xxhash_rust::xxh3::xxh3_64;

use super::control::{ControlDesk, ControlStream};
use super::coordinate::Coordinator;
use super::cut::Cutter;
use super::intake::Feed;
use super::outlet::{Outlet, Reporting};
use super::peers::{self, Cluster, PeerError};
use super::ports::{Done, Senders, ports, refusal};
use super::state::{State, StateError};
use super::worker::{self, Mint};
use crate::dataflow::{BuildError, Dataflow, EngineSettings, Setup};
use crate::decode::Decoder;
use crate::epoch::{Authority, ControlNext, Pace, PartitionBounds, Recorded};
use crate::event::{InputStream, Lane, Limits, Origin};
use crate::flow::Epoch;
use crate::metrics::{Metrics, set_worker};
use crate::operators::{GivenImage, Images};
use crate::pipeline;
use crate::sink::features::FeatureLog;
use crate::sink::{Acknowledgements, Refused, ScoredEncoder, SinkError, Writer};
use crate::source::clock::now_ns;
use crate::source::sealed::Terms;
use crate::source::services::Services;
use crate::source::tables::{ReferenceReader, ReferenceSource};
use crate::source::{NoReader, Reader, Source, SourceError, StartOffsets};

/// What is to be run.
pub struct Job {
    /// The dataflow.
    pub dataflow: Arc<dyn Dataflow>,
    /// Its schema and parameters.
    pub setup: Setup,
    /// How the engine runs it.
    pub settings: EngineSettings,
    /// Where records come from.
    pub source: Arc<dyn Source>,
    /// The reference collections that it looks at.
    pub references: ReferenceSource,
    /// Addresses of outside services, by name, instead of the declared ones.
    pub services: BTreeMap<String, String>,
    /// What the decoder refuses.
    pub limits: Limits,
    /// When epochs close.
    pub pace: Pace,
    /// What keeps the partitions together, and how many of their records an epoch takes.
    pub bounds: PartitionBounds,
    /// Messages that change what decides.
    pub control: Option<ControlStream>,
    /// Where outputs go.
    pub outputs: Outputs,
    /// The state directory.
    pub state: Option<State>,
    /// What decides the outcome beside the records: the processes of a cluster must agree in it.
    pub terms: Terms,
    /// How long to wait for the other processes of a cluster.
    pub peer_timeout: Duration,
    /// Set from outside to stop: what has been read is completed.
    pub stop: Arc<AtomicBool>,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

/// Outputs; absent ones are discarded.
#[derive(Default)]
pub struct Outputs {
    /// Scored diffs and the collections that the dataflow emits.
    pub scored: Option<Box<dyn Writer>>,
    /// Rejects, events beyond the horizon.
    pub rejects: Option<Box<dyn Writer>>,
    /// Assembled rows.
    pub features: Option<FeatureLog>,
}

/// Why a job failed.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The dataflow could not be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// Reading failed.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Writing failed.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// The state directory cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The schema cannot be decoded by.
    #[error(transparent)]
    Schema(#[from] crate::event::SchemaError),
    /// The cluster could not be formed.
    #[error(transparent)]
    Peers(#[from] PeerError),
    /// What is new was not built.
    #[error("what is new was not built from the journal up to epoch {0}; start it again")]
    NotBuilt(Epoch),
    /// A worker did not come to its end.
    #[error("cluster: {0}")]
    Cluster(String),
}

/// What decides the outcome of a job beside its records.
pub fn terms(
    dataflow: &dyn Dataflow,
    setup: &Setup,
    settings: &EngineSettings,
    source: &dyn Source,
    limits: Limits,
    bounds: &PartitionBounds,
) -> Result<Terms, BuildError> {
    let hash = |text: String| format!("{:016x}", xxh3_64(text.as_bytes()));
    let features = dataflow.features(setup)?;
    let models = settings.deployments.as_ref().map_or_else(Vec::new, |deployments| deployments.of(0).labels());
    let models = if models.is_empty() { "none".to_owned() } else { models.join(",") };
    let mut terms = Terms::default();
    terms.add_evolving("the version", env!("CARGO_PKG_VERSION"));
    terms.add("--dataflow", dataflow.name());
    terms.add_evolving("--set", setup.parameters.all());
    let schema = &setup.schema;
    let scored: Vec<bool> = (0..schema.kinds().len()).map(|kind| schema.is_scored(kind as u16)).collect();
    let schema = format!("{:?} {:?} {scored:?} {}", schema.fields(), schema.kinds(), schema.default_kind());
    if source.is_decoded() {
        terms.add("the schema (--schema)", hash(schema));
    } else {
        terms.add_evolving("the schema (--schema)", hash(schema));
    }
    let families = features.families().iter().map(|family| format!("{family:?} {}", family.version()));
    let families = families.collect::<Vec<_>>().join(" ");
    let (columns, version) = (features.columns().join(","), dataflow.version());
    let described = format!("{columns} {:?} {families} {version}", features.keys());
    terms.add_evolving("the list of features", hash(described));
    terms.add("--model", models);
    terms.add("--input", source.identity());
    terms.add_evolving("--horizon", format_args!("{} ms", settings.late_ms));
    terms.add_evolving("--label-horizon", format_args!("{} ms", settings.label_ms));
    terms.add_evolving("--forget", format_args!("{} ms", settings.forget_ms));
    terms.add("--record-bytes", limits.record_bytes_max);
    terms.add("--epoch-records", bounds.records_max);
    for (flag, ms) in [("--skew", bounds.skew_ms), ("--future", bounds.future_ms), ("--idle", bounds.idle_ms)] {
        terms.add(flag, format_args!("{ms} ms"));
    }
    Ok(terms)
}

impl Job {
    /// Runs to the end of the source, or until stopped. `cluster` says with how many workers and processes.
    pub fn run(self, cluster: timely::Config) -> Result<(), JobError> {
        let Job {
            dataflow,
            setup,
            settings,
            source,
            references,
            services,
            limits,
            pace,
            bounds,
            control,
            outputs,
            state,
            terms,
            peer_timeout,
            stop,
            metrics,
        } = self;
        // Whatever is wrong with the dataflow is said here, once, before threads start.
        let features = dataflow.features(&setup)?;
        features.plans(&setup.schema).map_err(BuildError)?;
        let prepare = dataflow.prepare(&setup)?;
        Decoder::new(setup.schema.clone(), limits)?;
        let live = pace == Pace::Live;
        // The lock is held until the end.
        let directory = state.as_ref().map(|state| state.directory().to_owned());
        let look_ups = features.families().iter().filter_map(|family| family.enrich());
        let services = Services::resolve(look_ups, &setup.schema, &services, directory.clone(), live)?;

        let threads = threads_of(&cluster.communication);
        let processes = processes_of(&cluster.communication);
        let marks = state.as_ref().filter(|_| live).map(|state| state.marks().clone()).unwrap_or_default();
        let bases = state.as_ref().map(|state| state.bases().clone()).unwrap_or_default();
        let done = |flag: &str, writer: Option<&dyn Writer>| {
            // What is marked was acknowledged; what the sink itself knows may be newer.
            let marked = || marks.get(flag).and_then(|mark| mark.acknowledged.epoch);
            writer.and_then(Writer::committed_before).max(marked())
        };
        let done = Done {
            scored: done("--output", outputs.scored.as_deref()),
            rejects: done("--rejects", outputs.rejects.as_deref()),
            features: done("--features", None),
        };
        if let Some(state) = state.as_ref().filter(|_| live) {
            let furthest = [done.scored, done.rejects, done.features].into_iter().flatten().max();
            state.check_reaches(furthest)?;
        }
        let keeps = state.as_ref().filter(|_| live).map(State::process);
        let disk = state.as_ref().map(|state| state.disk().clone()).unwrap_or_default();
        let kept_in = directory.filter(|_| keeps.is_some());
        let acknowledgements = Acknowledgements::new(disk, kept_in, keeps.unwrap_or(0), processes, bases);
        let acknowledgements = Arc::new(acknowledgements);
        let reporting = |flag, done| keeps.map(|_| Reporting { flag, done, to: acknowledgements.clone() });
        let spawn = |name, reporting, writer: Option<Box<dyn Writer>>, refuse: Box<dyn FnMut(Refused) + Send>| {
            let spawn = |writer| Outlet::spawn(name, writer, stop.clone(), metrics.clone(), refuse, reporting);
            writer.map(spawn).transpose().map_err(spawn_failed)
        };
        let counted = metrics.clone();
        let lose = move |refused: Refused| {
            counted.outputs_refused.add(1);
            tracing::error!("a reject cannot be written: {}", refused.why);
        };
        let rejects = spawn("rejects", reporting("--rejects", done.rejects), outputs.rejects, Box::new(lose))?;
        let refuse = refusal(&metrics, rejects.as_ref().map(Outlet::sender));
        let scored = spawn("scored", reporting("--output", done.scored), outputs.scored, Box::new(refuse))?;
        let feature_log = outputs
            .features
            .map(|log| {
                Outlet::spawn(
                    "features",
                    log,
                    stop.clone(),
                    metrics.clone(),
                    |_| {},
                    reporting("--features", done.features),
                )
            })
            .transpose()
            .map_err(spawn_failed)?;
        acknowledgements.settle().map_err(|error| {
            SinkError::External(format!("cannot write down in --state how far the outputs have come: {error}"))
        })?;
        let senders = Senders {
            scored: scored.as_ref().map(Outlet::sender),
            rejects: rejects.as_ref().map(Outlet::sender),
            features: feature_log.as_ref().map(Outlet::sender),
            done,
        };
        let deployments = settings.deployments.clone();
        metrics.rule_hits.name(|known| deployments.as_ref().map_or_else(Vec::new, |all| all.rules_from(known)));
        let mut columns = features.columns();
        // Behind them those that what was said still names.
        let named = state.as_ref().map(|state| state.columns().iter().skip(columns.len()).cloned().collect::<Vec<_>>());
        columns.extend(named.into_iter().flatten());
        let encoder = ScoredEncoder::new(setup.schema.clone(), deployments.clone(), columns);
        let state = state.map(Arc::new);
        let mint = Mutex::new(Some(state.as_ref().map_or_else(Recorded::default, |state| state.recorded())));
        let of_workers = state.clone();
        let start = |state: &Arc<State>| state.start_cutter(threads, processes, deployments.clone(), &metrics);
        let cutter = state.as_ref().map(start).transpose();
        let cutter = cutter.map_err(|error| JobError::Cluster(format!("cannot start a thread: {error}")))?.flatten();
        let cutter_end = cutter.as_ref().map(Cutter::end);
        let controlled = control.is_some();
        let desk =
            deployments.map(|deployments| ControlDesk::start(deployments, control, metrics.clone())).transpose()?;
        let control_end = desk.as_ref().map(ControlDesk::end);
        let (built, of_outlets) = (AtomicUsize::new(0), acknowledgements.clone());

        let worker_metrics = metrics.clone();
        let (builders, others) = builders(cluster.communication, &terms, peer_timeout, &stop, &metrics)?;
        metrics.vitals.starting(format!("opened {}", source.describe()));
        let guards = execute_from(builders, others, cluster.worker, move |worker| {
            let metrics = &worker_metrics;
            set_worker(worker.index());
            let coordinator = Coordinator::new(worker);
            let (events, rows) = (source.clone(), references.clone());
            let origin = move |lane: Lane| match lane.stream {
                InputStream::Events => events.origin(lane.partition),
                InputStream::Table(table) => rows.origin(table),
                InputStream::LateAnswers | InputStream::Nowhere => Origin::Elsewhere,
            };
            let ports = ports(&senders, &encoder, metrics, &setup, origin);
            let state = of_workers.as_deref();
            let (cutter, control) = (cutter_end.clone(), control_end.clone());
            let (to, dumps) = (cutter.clone(), state.and_then(State::dumps).cloned());
            let give = move |image: GivenImage| match (&to, &dumps) {
                (Some(to), _) => to.image(image),
                (None, Some(dumps)) => dumps.take(image.made()),
                (None, None) => {}
            };
            let images = Images::new(state.and_then(State::image), give, worker.index(), worker.peers());
            let engine = pipeline::build(worker, &*dataflow, &setup, &settings, ports, images, metrics)?;
            if let Some(state) = state
                && built.fetch_add(1, Ordering::Relaxed) + 1 == threads
            {
                state.release_image();
            }
            let mint = (worker.index() == 0).then(|| mint.lock().ok().and_then(|mut mint| mint.take())).flatten();
            let mint = mint.map(|recorded| {
                let until = recorded.until;
                metrics.vitals.set_repeating(until.saturating_sub(recorded.from));
                let log = state.and_then(State::bindings);
                let every = state.and_then(State::cut_every).filter(|_| !engine.whole_history);
                let authority = Authority::new(worker.peers(), pace, &bounds, recorded).cutting_last(every.is_some());
                let first = if controlled { ControlNext::Unknown } else { ControlNext::Nothing };
                let authority = authority.controlled(first);
                Mint {
                    recorded: until,
                    authority: authority.repairing(settings.repair_rows_max),
                    log,
                    held: None,
                    cut_every_ns: every.map(|every| every.as_nanos() as u64),
                    cut_ns: now_ns(),
                    cut_cpu: ProcessTime::now(),
                    cutter: cutter.clone(),
                    control: control.clone(),
                }
            });
            let (reader, references, failed) = open(&*source, &references, state, worker, &stop);
            let stage = services.open(&setup.schema, metrics)?;
            let decoder = Decoder::new(setup.schema.clone(), limits)?;
            let (prepare, stop, metrics) = (prepare.clone(), stop.clone(), metrics.clone());
            let feed_metrics = metrics.clone();
            let bounded = source.bounded();
            let inputs = state.and_then(State::inputs);
            let heard = state.filter(|_| worker.index() % threads == 0).and_then(State::heard);
            let ends = state.map(State::ends).unwrap_or_default();
            let first_of_process = worker.index() % threads == 0;
            let closing = state.filter(|_| live && first_of_process).map(|_| senders.closing());
            let acknowledgements = of_outlets.clone();
            let feed = Feed {
                closing,
                acknowledgements,
                reader,
                references,
                stage,
                decoder,
                prepare,
                inputs,
                heard,
                ends,
                cutter,
                control,
                first_of_process,
                bounds,
                live,
                bounded,
                stop,
                metrics,
            };
            feed_metrics.vitals.running();
            let images = engine.images.clone();
            worker::run(worker, engine, coordinator, mint, feed)?;
            if let Some(error) = failed {
                return Err(JobError::Source(error));
            }
            match state.and_then(State::dumps).filter(|dumps| !images.is_whole(dumps.epoch)) {
                // Stopped, or slower than a worker waits at its end.
                Some(dumps) => Err(JobError::NotBuilt(dumps.epoch)),
                None => Ok(()),
            }
        })
        .map_err(JobError::Cluster)?;

        let mut outcome = Ok(());
        for result in guards.join() {
            outcome = outcome.and(result.map_err(JobError::Cluster).and_then(|result| result));
        }
        let written = [scored.map(Outlet::join), rejects.map(Outlet::join), feature_log.map(Outlet::join)];
        for result in written.into_iter().flatten() {
            match result {
                Ok(()) => {}
                Err(error) => outcome = outcome.and(Err(error.into())),
            }
        }
        if let Some(end) = cutter.as_ref().map(Cutter::end)
            && let Some(last) = end.ended().filter(|_| outcome.is_ok() && processes == 1)
            && acknowledgements.reached() >= Some(last)
        {
            end.publish(last);
        }
        if let Some(desk) = desk {
            outcome = outcome.and(desk.finish().map_err(JobError::Source));
        }
        if let Some(cutter) = cutter
            && let Err(error) = cutter.finish()
        {
            tracing::error!(%error, "the last cut was not written");
        }
        if let Some(state) = state.and_then(Arc::into_inner) {
            state.finish();
        }
        outcome
    }
}

/// What timely builds workers from. The processes of a cluster are connected here.
fn builders(
    communication: CommunicationConfig,
    terms: &Terms,
    timeout: Duration,
    stop: &AtomicBool,
    metrics: &Metrics,
) -> Result<(Vec<AllocatorBuilder>, Box<dyn Any + Send>), JobError> {
    match communication {
        CommunicationConfig::Cluster { threads, process, addresses, .. } => {
            let cluster = Cluster { process, workers: threads, addresses, timeout };
            let (builders, guard) = peers::connect(&cluster, terms, stop, metrics)?;
            Ok((builders, Box::new(guard)))
        }
        alone => alone.try_build().map_err(JobError::Cluster),
    }
}

/// Processes of the cluster.
fn processes_of(communication: &CommunicationConfig) -> usize {
    match communication {
        CommunicationConfig::Cluster { addresses, .. } => addresses.len(),
        _ => 1,
    }
}

/// Workers of each process.
fn threads_of(communication: &CommunicationConfig) -> usize {
    match communication {
        CommunicationConfig::Thread => 1,
        CommunicationConfig::Process(threads) | CommunicationConfig::ProcessBinary(threads) => *threads,
        CommunicationConfig::Cluster { threads, .. } => *threads,
    }
}

fn spawn_failed(error: std::io::Error) -> SinkError {
    SinkError::External(format!("cannot start an output thread: {error}"))
}

/// Opens this worker's reader. If that fails, the worker goes on without one, so that the others are not left waiting, and
/// everyone is asked to stop.
fn open(
    source: &dyn Source,
    references: &ReferenceSource,
    state: Option<&State>,
    worker: &Worker,
    stop: &AtomicBool,
) -> (Box<dyn Reader>, ReferenceReader, Option<SourceError>) {
    let (index, peers) = (worker.index(), worker.peers());
    let reader = match state {
        Some(state) => state.reader(source, index, peers),
        None => source.open(index, peers, &StartOffsets::new()),
    };
    match reader.and_then(|reader| Ok((reader, references.open(index, peers)?))) {
        Ok((reader, references)) => (reader, references, None),
        Err(error) => {
            stop.store(true, Ordering::Relaxed);
            (Box::new(NoReader), ReferenceReader::default(), Some(error))
        }
    }
}
