//! A job: a dataflow with its source and outputs, run on a cluster to its end.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crossbeam_channel::Sender;
use timely::worker::Worker;

use crate::dataflow::{BuildError, Dataflow, Setup};
use crate::decode::{Decoder, Limits};
use crate::epoch::{Authority, Epoch, Pace, RemapError, RemapLog};
use crate::feature::assemble::Rows;
use crate::pipeline::{self, EngineSettings, Ports};
use crate::sink::features::{FeatureLog, FeatureRows};
use crate::sink::{OutputRecord, ScoredEncoder, SinkError, Writer, encode_reject, encode_update};
use crate::source::reference::{ReferenceReader, ReferenceSource};
use crate::source::{Partition, Reader, Ready, Record, Source, SourceError, StartOffsets};

use super::coordinate::Coordinator;
use super::metrics::{Metrics, set_worker};
use super::outlet::{Outlet, discard, port};
use super::service::Services;
use super::worker::{self, Feed, Mint};

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
    /// Records of a partition that an epoch takes at most.
    pub epoch_records_max: usize,
    /// Where outputs go.
    pub outputs: Outputs,
    /// Directory of the remap log.
    pub state: Option<PathBuf>,
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
    /// The remap log cannot be used.
    #[error(transparent)]
    Remap(#[from] RemapError),
    /// The schema cannot be decoded by.
    #[error(transparent)]
    Schema(#[from] crate::event::SchemaError),
    /// The cluster could not be formed, or fell apart.
    #[error("cluster: {0}")]
    Cluster(String),
}

/// The writing ends that every worker gets a copy of.
struct Senders {
    scored: Option<Sender<Vec<OutputRecord>>>,
    rejects: Option<Sender<Vec<OutputRecord>>>,
    features: Option<Sender<FeatureRows>>,
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
            epoch_records_max,
            outputs,
            state,
            stop,
            metrics,
        } = self;
        // Whatever is wrong with the dataflow is said here, once, before threads start.
        let features = dataflow.features(&setup)?;
        features.plans(&setup.schema).map_err(BuildError)?;
        let prepare = dataflow.prepare(&setup)?;
        Decoder::new(setup.schema.clone(), limits)?;
        let live = pace == Pace::Live;
        let services = Services::resolve(&features, &setup.schema, &services, state.clone(), live)?;
        let (log, recorded) = match &state {
            Some(directory) => RemapLog::open(directory).map(|(log, recorded)| (Some(log), recorded))?,
            None => (None, Vec::new()),
        };

        let outlet = |name, writer: Option<Box<dyn Writer>>| {
            writer.map(|writer| Outlet::spawn(name, writer, stop.clone())).transpose().map_err(spawn_failed)
        };
        let scored = outlet("scored", outputs.scored)?;
        let rejects = outlet("rejects", outputs.rejects)?;
        let feature_log = outputs.features.map(|log| Outlet::spawn("features", log, stop.clone()));
        let feature_log = feature_log.transpose().map_err(spawn_failed)?;
        let senders = Senders {
            scored: scored.as_ref().map(Outlet::sender),
            rejects: rejects.as_ref().map(Outlet::sender),
            features: feature_log.as_ref().map(Outlet::sender),
        };
        let models = settings.scorer.as_ref().map_or_else(Vec::new, |scorer| scorer.labels());
        let encoder = ScoredEncoder::new(setup.schema.clone(), models, features.columns());
        let mint = Mutex::new(Some((log, recorded)));

        let worker_metrics = metrics.clone();
        let guards = timely::execute(cluster, move |worker| {
            let metrics = &worker_metrics;
            set_worker(worker.index());
            let coordinator = Coordinator::new(worker);
            let ports = ports(&senders, &encoder, metrics, &setup);
            let engine = pipeline::build(worker, &*dataflow, &setup, &settings, ports, metrics)?;
            let mint = (worker.index() == 0).then(|| mint.lock().ok().and_then(|mut mint| mint.take())).flatten();
            let mint = mint.map(|(log, recorded)| Mint {
                recorded: recorded.last().map_or(0, |binding| binding.epoch + 1),
                authority: Authority::new(worker.peers(), pace, recorded).repairing(settings.repair_rows_max),
                log,
            });
            let (reader, references, failed) = open(&*source, &references, worker, &stop);
            let stage = services.open(&setup.schema, metrics)?;
            let decoder = Decoder::new(setup.schema.clone(), limits)?;
            let (prepare, stop, metrics) = (prepare.clone(), stop.clone(), metrics.clone());
            let feed = Feed { reader, references, stage, decoder, prepare, share: epoch_records_max, stop, metrics };
            worker::run(worker, engine, coordinator, mint, feed)?;
            failed.map_or(Ok(()), |error| Err(JobError::Source(error)))
        })
        .map_err(JobError::Cluster)?;

        let mut outcome = Ok(());
        for result in guards.join() {
            outcome = outcome.and(result.map_err(JobError::Cluster).and_then(|result| result));
        }
        let written = [scored.map(Outlet::join), rejects.map(Outlet::join), feature_log.map(Outlet::join)];
        for result in written.into_iter().flatten() {
            match result {
                Ok(()) | Err(SinkError::Closed) => {}
                Err(error) => outcome = outcome.and(Err(error.into())),
            }
        }
        outcome
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
    worker: &Worker,
    stop: &AtomicBool,
) -> (Box<dyn Reader>, ReferenceReader, Option<SourceError>) {
    let (index, peers) = (worker.index(), worker.peers());
    let reader = source.open(index, peers, &StartOffsets::new());
    match reader.and_then(|reader| Ok((reader, references.open(index, peers)?))) {
        Ok((reader, references)) => (reader, references, None),
        Err(error) => {
            stop.store(true, Ordering::Relaxed);
            (Box::new(NoReader), ReferenceReader::default(), Some(error))
        }
    }
}

/// Reads nothing.
struct NoReader;

impl Reader for NoReader {
    fn poll(&mut self, _limit: usize, _into: &mut Vec<Record>) -> Result<Ready, SourceError> {
        Ok(Ready::Done)
    }

    fn partitions(&self) -> Vec<Partition> {
        Vec::new()
    }
}

fn ports(senders: &Senders, encoder: &ScoredEncoder, metrics: &Arc<Metrics>, setup: &Setup) -> Ports {
    let counted = |metrics: &Arc<Metrics>, records: Vec<OutputRecord>| {
        metrics.outputs.add(records.len() as u64);
        records
    };
    let scored = senders.scored.clone().map_or_else(discard, |sender| {
        let (encoder, metrics) = (encoder.clone(), metrics.clone());
        port(sender, move |diffs: Vec<_>| counted(&metrics, diffs.iter().map(|diff| encoder.encode(diff)).collect()))
    });
    let rejects = senders.rejects.clone().map_or_else(discard, |sender| {
        port(sender, move |rejects: Vec<_>| rejects.iter().map(|reject| encode_reject(reject, Epoch::MIN, 0)).collect())
    });
    let features = senders.features.clone().map(|sender| {
        let schema = setup.schema.clone();
        port(sender, move |rows: Vec<Rows>| {
            let mut all = FeatureRows::default();
            rows.into_iter().for_each(|rows| all.append(FeatureRows::of(rows, &schema)));
            all
        })
    });
    let (sender, metrics) = (senders.scored.clone(), metrics.clone());
    let collections = Rc::new(move || {
        let metrics = metrics.clone();
        sender.clone().map_or_else(discard, |sender| {
            port(sender, move |updates: Vec<_>| counted(&metrics, updates.iter().map(encode_update).collect()))
        })
    });
    Ports { scored: Some(scored), rejects: Some(rejects), features, collections: Some(collections) }
}
