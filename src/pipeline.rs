//! START HERE: the path of an event, from arrival to scored diff.
//!
//! ```text
//!  ① source ─► ② decode ─► ③ epoch ─► input        (runtime::worker, outside the graph)
//!                                       │
//!   ┌───────────────── the graph, one copy per worker ─────────────────────────────────────┐
//!   │  arrivals ─► [upsert] ─ changes ─► [project] ─► [keyed] ─► [assemble] ─► [score] ─► ⑦ │
//!   │                 ▲                                  │                                 │
//!   │                 └────────── touched ids ───────────┘                                 │
//!   └──────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! The boxes: [`crate::arrange::upsert`], [`crate::arrange::project`], [`crate::arrange::keyed`],
//! [`crate::feature::assemble`], [`crate::score::revise`], [`crate::sink::port`]. Beside `keyed` stand the families of
//! features that have an operator of their own ([`crate::feature::Family`]). What a dataflow adds is its own `build` (see
//! [`crate::dataflow`]).

use std::rc::Rc;
use std::sync::Arc;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::operators::core::input::Handle;
use timely::dataflow::operators::{Concat, ConnectLoop, Feedback, Input, Inspect, Probe, probe};
use timely::worker::Worker;

use crate::arrange::beyond::publish;
use crate::arrange::enrich::ReferenceRecord;
use crate::arrange::upsert::{Arrival, Horizons, Upserted, upsert};
use crate::arrange::velocity::ALL_TIME_IDLE_MS;
use crate::dataflow::{BuildError, Context, Dataflow, Leftover, Setup};
use crate::decode::Reject;
use crate::epoch::{Epoch, EpochFacts, Facts};
use crate::feature::assemble::Rows;
use crate::runtime::metrics::Metrics;
use crate::score::assessment::ScoredDiff;
use crate::score::scorer::Scorer;
use crate::sink::port::{CollectionUpdate, Port, deliver};

/// How the engine runs a dataflow.
#[derive(Clone)]
pub struct EngineSettings {
    /// How far behind the watermark an event may be and still be taken in, milliseconds.
    pub late_ms: i64,
    /// How long after its event a label may come, milliseconds: events are kept by id for it if features look at labels.
    pub label_ms: i64,
    /// Touched rows read again per epoch, over all workers; as many as the epoch takes in records if those are more.
    pub repair_rows_max: usize,
    /// A key that was silent for longer begins anew in features over all time, milliseconds of event time.
    pub forget_ms: i64,
    /// The deployed models; none leaves rows unscored.
    pub scorer: Option<Scorer>,
}

impl Default for EngineSettings {
    fn default() -> Self {
        EngineSettings {
            late_ms: 3_600_000,
            label_ms: 30 * 86_400_000,
            repair_rows_max: 64,
            forget_ms: ALL_TIME_IDLE_MS,
            scorer: None,
        }
    }
}

/// Where the graph's outputs go, per worker.
pub struct Ports {
    /// Scored diffs.
    pub scored: Option<Port<ScoredDiff>>,
    /// Rejects of the decoder, events beyond the horizon.
    pub rejects: Option<Port<Reject>>,
    /// Assembled rows, if they are logged.
    pub features: Option<Port<Rows>>,
    /// Collections that the dataflow emits.
    pub collections: Option<Rc<dyn Fn() -> Port<CollectionUpdate>>>,
}

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
    /// Epochs behind this frontier have left the engine.
    pub probe: probe::Handle<Epoch>,
}

impl Engine {
    /// Closes an epoch: nothing more comes for it.
    pub fn close(&mut self, epoch: Epoch, facts: Facts) {
        self.facts.set(epoch, facts);
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
    metrics: &Arc<Metrics>,
) -> Result<Engine, BuildError> {
    let features = dataflow.features(setup)?;
    let plans: Arc<[_]> = features.plans(&setup.schema)?.into();
    let families = features.families();
    let revised = plans.iter().map(|plan| plan.revise_ms).chain(families.iter().map(|family| family.revise_ms()));
    let revise_ms = revised.max().unwrap_or(0);
    let uses_labels = plans.iter().any(|plan| plan.uses_labels) || families.iter().any(|family| family.uses_labels());
    let label_ms = if uses_labels { settings.label_ms } else { 0 };
    let read_ms = settings.late_ms.saturating_add(revise_ms);
    let horizons = Horizons { late_ms: settings.late_ms, by_id_ms: read_ms.max(label_ms), read_ms };
    let (facts, probe) = (EpochFacts::default(), probe::Handle::new());

    worker.dataflow_named::<Epoch, _, _>(dataflow.name(), |scope| {
        let (arrivals, arriving) = scope.new_input();
        let (rejects, rejected) = scope.new_input();
        let (references, of_references) = scope.new_input();
        let (touched, again) = scope.feedback(1);
        let Upserted { changes, rejects: refused } =
            upsert(arriving, again, setup.schema.clone(), horizons, facts.clone(), metrics.clone());
        let side_output = ports.rejects.take();
        let mut context = Context::new(crate::dataflow::Parts {
            scope,
            setup: setup.clone(),
            settings: settings.clone(),
            changes,
            references: of_references,
            features,
            plans,
            horizons,
            facts: facts.clone(),
            metrics: metrics.clone(),
            ports,
            probe: probe.clone(),
        });
        let built = dataflow.build(&mut context);
        let Leftover { again, beyond } = context.finish();
        // Also when the dataflow could not be built: timely panics over a feedback that is left open.
        again.connect_loop(touched);
        built?;
        // Whatever is refused, for whatever reason, leaves here and is counted here, whether or not someone takes it.
        let beyond = publish(beyond, setup.schema.id_type(), metrics.clone());
        let counted = metrics.clone();
        let rejects_leaving = rejected.concat(refused).concat(beyond);
        let rejects_leaving = rejects_leaving.inspect(move |reject| counted.rejects.count(reject.reason));
        let port = side_output.unwrap_or_else(|| Box::new(|_| true));
        deliver(rejects_leaving, "Rejects", port).probe_with(&probe);
        Ok(Engine { arrivals, rejects, references, facts, probe })
    })
}
