//! START HERE: the path of an event, from arrival to scored diff.
//!
//! ```text
//!  ① source ─► ② decode ─► ③ epoch ─► input        (runtime::worker, outside the graph)
//!                                       │
//!   ┌───────────────── the graph, one copy per worker ─────────────────────────────────────┐
//!   │                 ┌────────────── changes ──────────────┐                              │
//!   │  arrivals ─► ④ [retain] ─ requests ─► ⑤ views ─ slices ─► ⑥ [judge] ─ scored diffs ─► ⑦ │
//!   │                 ▲                         │                                          │
//!   │                 └────── touched ids ──────┘                                          │
//!   └──────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! The boxes: [`crate::retain`], [`crate::views`] (one operator for the velocity of all keys, one or more for each
//! [`crate::views::Family`] beside it; [`crate::operators::own`] runs them all), [`crate::score::judge`] and
//! [`crate::sink::port`]. What a dataflow adds is its own `build` (see [`crate::dataflow`]).

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use timely::WorkerConfig;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::operators::core::input::Handle;
use timely::dataflow::operators::generic::operator::empty;
use timely::dataflow::operators::{Concat, ConnectLoop, Feedback, Input, Inspect, Probe, probe};
use timely::worker::Worker;

use crate::dataflow::{BuildError, Context, Dataflow, EngineSettings, Leftover, Setup};
use crate::feature::FeatureSet;
use crate::flow::{Arrival, DeploymentNumber, Epoch, EpochFacts, Horizons, ReferenceRecord, Reject};
use crate::flow::{Dump, Owed, Repair};
use crate::metrics::Metrics;
use crate::operators::Images;
use crate::retain::beyond::publish;
use crate::retain::{RetainInputs, Retained, SharedRecords, retain};
use crate::sink::port::{Ports, deliver};
use crate::views::velocity::KeyPlan;
use crate::views::velocity::WantedProfiles;

/// The handles of a built graph.
pub struct Engine {
    /// Arrivals go in here.
    pub arrivals: Handle<Epoch, CapacityContainerBuilder<Vec<Arrival>>>,
    /// Rejects of the decoder go in here.
    pub rejects: Handle<Epoch, CapacityContainerBuilder<Vec<Reject>>>,
    /// Reference records go in here, addressed to workers.
    pub references: Handle<Epoch, CapacityContainerBuilder<Vec<ReferenceRecord>>>,
    /// The facts of an epoch are set here before it is closed.
    pub facts: EpochFacts,
    /// What waits to be read again on this worker.
    pub owed: Owed,
    /// Where what is kept is dumped to.
    pub images: Images,
    /// How long after its event a transaction may be retained, milliseconds of event time.
    pub retained_ms: i64,
    /// Whether the dataflow's own graph needs all events that ever were, so that no cut has what it keeps.
    pub whole_history: bool,
    /// Epochs behind this frontier have left the engine.
    pub probe: probe::Handle<Epoch>,
}

impl Engine {
    /// Closes an epoch: nothing more comes for it. Says how far event time has come with it, how much it repairs, which shards are
    /// dumped at its end, and which deployment is in force from it on, if that changes.
    pub fn close(
        &mut self,
        epoch: Epoch,
        watermark_ms: i64,
        repair: Repair,
        dump: Option<Dump>,
        deployment: Option<DeploymentNumber>,
    ) {
        self.facts.set(epoch, watermark_ms, repair, dump, deployment);
        self.arrivals.advance_to(epoch + 1);
        self.rejects.advance_to(epoch + 1);
        self.references.advance_to(epoch + 1);
    }

    /// Closes the inputs for good: what is on its way leaves, then the probe is done.
    pub fn finish(self) -> probe::Handle<Epoch> {
        self.probe
    }
}

/// Builds the graph of a dataflow on this worker. Every worker must build the same.
pub fn build(
    worker: &mut Worker,
    dataflow: &dyn Dataflow,
    setup: &Setup,
    settings: &EngineSettings,
    mut ports: Ports,
    images: Images,
    metrics: &Arc<Metrics>,
) -> Result<Engine, BuildError> {
    let features = dataflow.features(setup)?;
    let plans: Arc<[_]> = features.plans(&setup.schema)?.into();
    let askers = features.askers(&plans, &setup.schema)?;
    let horizons = horizons(&features, &plans, settings, dataflow.retention_ms());
    let (facts, owed, probe) = (EpochFacts::default(), Owed::default(), probe::Handle::new());

    worker.dataflow_named::<Epoch, _, _>(dataflow.name(), |scope| {
        let (mut arrivals, arriving) = scope.new_input();
        let (mut rejects, rejected) = scope.new_input();
        let (mut references, of_references) = scope.new_input();
        if let Some(loaded) = images.facts() {
            facts.resume(loaded);
            arrivals.advance_to(images.start());
            rejects.advance_to(images.start());
            references.advance_to(images.start());
        }
        let (touched, again) = scope.feedback(1);
        let (records, wanted) = (SharedRecords::default(), Rc::new(Cell::new(false)));
        let whole_history = Rc::new(Cell::new(false));
        let retained = retain(RetainInputs {
            arrivals: arriving,
            touched: again,
            askers,
            records: records.clone(),
            schema: setup.schema.clone(),
            horizons,
            wanted: wanted.clone(),
            facts: facts.clone(),
            images: images.clone(),
            metrics: metrics.clone(),
        });
        let Retained { changes, requests, events, rejects: refused } = match retained {
            Ok(retained) => retained,
            Err(error) => {
                // Timely panics over a feedback that is left open.
                empty(scope).connect_loop(touched);
                return Err(BuildError(error));
            }
        };
        let side_output = ports.rejects.take();
        let mut context = Context::new(crate::dataflow::Parts {
            scope,
            setup: setup.clone(),
            settings: settings.clone(),
            changes,
            requests,
            events,
            wanted,
            whole_history: whole_history.clone(),
            wanted_profiles: WantedProfiles::default(),
            records,
            references: of_references,
            features,
            plans,
            horizons,
            facts: facts.clone(),
            owed: owed.clone(),
            images: images.clone(),
            metrics: metrics.clone(),
            ports,
            probe: probe.clone(),
        });
        let built = dataflow.build(&mut context);
        let Leftover { again, beyond } = context.finish();
        // Also when the dataflow could not be built.
        again.connect_loop(touched);
        built?;
        // Whatever is refused, for whatever reason, leaves here and is counted here, whether or not someone takes it.
        let beyond = publish(beyond, setup.schema.id_type(), metrics.clone());
        let counted = metrics.clone();
        let rejects_leaving = rejected.concat(refused).concat(beyond);
        let rejects_leaving = rejects_leaving.inspect(move |reject| counted.rejects.count(reject.reason));
        let port = side_output.unwrap_or_else(|| Box::new(|_| true));
        deliver(rejects_leaving, "Rejects", port).probe_with(&probe);
        images.release();
        let whole_history = whole_history.get();
        let retained_ms = horizons.by_id_ms.max(horizons.read_ms);
        Ok(Engine { arrivals, rejects, references, facts, owed, images, retained_ms, whole_history, probe })
    })
}

/// Updates that an arrangement merges in one go while nothing else comes: what has cancelled out does not stay.
const IDLE_MERGE_EFFORT: isize = 1_000;

/// How workers are to run the graph.
pub fn worker_config() -> WorkerConfig {
    let mut config = WorkerConfig::default();
    let options = differential_dataflow::Config::default().idle_merge_effort(Some(IDLE_MERGE_EFFORT));
    differential_dataflow::configure(&mut config, &options);
    config
}

/// How long events are kept and rows revised, for these features and what the dataflow wants beside.
fn horizons(features: &FeatureSet, plans: &[Arc<KeyPlan>], settings: &EngineSettings, retention_ms: i64) -> Horizons {
    let families = features.families();
    let revised = plans.iter().map(|plan| plan.revise_ms).chain(families.iter().map(|family| family.revise_ms()));
    let revise_ms = revised.max().unwrap_or(0);
    let uses_labels = plans.iter().any(|plan| plan.uses_labels) || families.iter().any(|family| family.uses_labels());
    let label_ms = if uses_labels { settings.label_ms } else { 0 };
    let read_ms = settings.late_ms.saturating_add(revise_ms);
    Horizons { late_ms: settings.late_ms, by_id_ms: read_ms.max(label_ms).max(retention_ms), read_ms }
}
