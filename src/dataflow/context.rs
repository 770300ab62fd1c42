//! What a dataflow builds with: collections, shared arrangements, features, scores, outputs.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use differential_dataflow::operators::arrange::{Arranged, TraceAgent};
use differential_dataflow::trace::implementations::ValSpine;
use differential_dataflow::{AsCollection, ExchangeData, VecCollection};
use serde::Serialize;
use timely::dataflow::operators::vec::Map;
use timely::dataflow::operators::{Concatenate, Probe, probe};
use timely::dataflow::{Scope, Stream};

use super::{BuildError, Setup};
use crate::dataflow::EngineSettings;
use crate::event::{Event, Key, Schema};
use crate::feature::FeatureSet;
use crate::feature::assemble::{Rows, assemble};
use crate::flow::{Beyond, Block, Change, Epoch, EpochFacts, Horizons, Owed, ReferenceRecord, Touched, Verb};
use crate::metrics::Metrics;
use crate::operators::{Images, Owned, OwnerInputs, own};
use crate::retain::keep::keep;
use crate::score::revise::revise;
use crate::sink::port::{CollectionUpdate, Ports, deliver};
use crate::views::identity::columns::Bare;
use crate::views::identity::propagate::{Entity, Propagated, ROUNDS_MAX, every, propagate};
use crate::views::identity::{Identity, identity};
use crate::views::pattern::{Match, Matches};
use crate::views::velocity::project::project;
use crate::views::velocity::{KeyPlan, VelocitySettings, VelocityView};
use crate::views::{FamilyInputs, Timing};

/// Events arranged by a key, shared by everyone who asks for the same key.
pub type EventsBy<'scope> = Arranged<'scope, TraceAgent<ValSpine<Key, Event, Epoch, isize>>>;

/// The assembled rows of a dataflow's features.
#[derive(Clone)]
pub struct Features<'scope> {
    /// One [`Rows`] per epoch and worker.
    pub rows: Stream<'scope, Epoch, Vec<Rows>>,
    /// Names, in order.
    pub columns: Vec<String>,
}

/// Handed to [`super::Dataflow::build`].
pub struct Context<'scope> {
    given: Parts<'scope>,
    touched: Vec<Stream<'scope, Epoch, Vec<Touched>>>,
    beyond: Vec<Stream<'scope, Epoch, Vec<Beyond>>>,
    matches: Vec<Matches<'scope>>,
    velocity: Option<Stream<'scope, Epoch, Vec<Block>>>,
    by_field: BTreeMap<String, EventsBy<'scope>>,
}

/// What the pipeline gives a context.
pub(crate) struct Parts<'scope> {
    pub scope: Scope<'scope, Epoch>,
    pub setup: Setup,
    pub settings: EngineSettings,
    pub changes: Stream<'scope, Epoch, Vec<Change>>,
    pub references: Stream<'scope, Epoch, Vec<ReferenceRecord>>,
    pub features: FeatureSet,
    pub plans: Arc<[Arc<KeyPlan>]>,
    pub horizons: Horizons,
    pub facts: EpochFacts,
    pub owed: Owed,
    pub images: Images,
    pub metrics: Arc<Metrics>,
    pub ports: Ports,
    pub probe: probe::Handle<Epoch>,
}

impl<'scope> Context<'scope> {
    pub(crate) fn new(given: Parts<'scope>) -> Self {
        let (touched, beyond, matches, by_field) = (Vec::new(), Vec::new(), Vec::new(), BTreeMap::new());
        Context { given, touched, beyond, matches, velocity: None, by_field }
    }

    /// The timely scope, for operators of your own.
    pub fn scope(&self) -> Scope<'scope, Epoch> {
        self.given.scope
    }

    /// The schema.
    pub fn schema(&self) -> &Arc<Schema> {
        &self.given.setup.schema
    }

    /// Schema and parameters.
    pub fn setup(&self) -> &Setup {
        &self.given.setup
    }

    /// Every retained event as a collection: a correction is a removal and an insertion, a withdrawal a removal. Events
    /// that the retention has passed are not removed from it.
    pub fn events(&self) -> VecCollection<'scope, Epoch, Event> {
        let updates = self.given.changes.clone().flat_map(|change: Change| {
            let diff = match change.verb {
                Verb::Insert => 1,
                Verb::Remove => -1,
                Verb::Label | Verb::Relabel | Verb::Read => 0,
            };
            (diff != 0).then(|| ((*change.event).clone(), diff))
        });
        timestamped(updates).as_collection()
    }

    /// Events arranged by a field. Asking twice gives the same arrangement. Events without the field are left out.
    pub fn events_by(&mut self, field: &str) -> Result<EventsBy<'scope>, BuildError> {
        if let Some(arranged) = self.by_field.get(field) {
            return Ok(arranged.clone());
        }
        let schema = self.given.setup.schema.clone();
        let slot = schema.slot(field).ok_or_else(|| {
            BuildError(format!("events_by(\"{field}\"): the schema '{}' has no such field", schema.name()))
        })?;
        let keyed = self.events().flat_map(move |event| event.key(slot, &schema).map(|key| (key, event)));
        let arranged: EventsBy<'scope> = keyed.arrange_by_key_named(&format!("events by {field}"));
        self.by_field.insert(field.to_owned(), arranged.clone());
        Ok(arranged)
    }

    /// The links that carry, account first: what clusters are made of, as a collection. It follows events in the order of
    /// their arrival, takes withdrawn and expired links back, and has an owner of its own beside that of the features.
    /// [`Context::clusters`] turns it into (entity, cluster).
    pub fn live_links(&self, spec: &Identity) -> Result<VecCollection<'scope, Epoch, (Entity, Entity)>, BuildError> {
        let plan = Arc::new(spec.resolve(&self.given.setup.schema)?);
        let outputs = identity::<Bare>(self.inputs(0), plan, true);
        outputs.slices.probe_with(&self.given.probe);
        Ok(outputs.links)
    }

    /// Clusters as a collection to join on: (entity, smallest entity of its cluster), brought up to date every so many
    /// epochs; in between it is the version before. Clusters with paths longer than [`ROUNDS_MAX`] links are not whole: they
    /// are counted and logged.
    pub fn clusters(
        &self,
        spec: &Identity,
        every_epochs: u64,
    ) -> Result<VecCollection<'scope, Epoch, (Entity, Entity)>, BuildError> {
        let Propagated { clusters, unfinished } = propagate(every(self.live_links(spec)?, every_epochs), ROUNDS_MAX);
        let metrics = self.given.metrics.clone();
        let counted = unfinished.inspect(move |(entity, epoch, diff)| {
            if *diff > 0 {
                metrics.identity_unfinished.add(1);
                tracing::error!(
                    "epoch {epoch}: the cluster of {entity:?} has paths of more than {ROUNDS_MAX} links and is not whole; \
                     lower the caps of its links"
                );
            }
        });
        counted.inner.probe_with(&self.given.probe);
        Ok(clusters)
    }

    /// Builds the operators of the dataflow's features and returns the assembled rows.
    pub fn features(&mut self) -> Result<Features<'scope>, BuildError> {
        let requests = project(self.given.changes.clone(), self.given.plans.clone(), self.given.setup.schema.clone());
        let Owned { slices, touched, beyond, .. } = own(self.velocity_view(), self.owner("Velocity", requests))?;
        self.touched.push(touched);
        self.beyond.push(beyond);
        self.velocity = Some(slices.clone());
        let mut slices = vec![slices];
        self.families(&mut slices)?;
        let slices = self.given.scope.concatenate(slices);
        let rows = assemble(self.given.changes.clone(), slices, self.given.features.clone(), self.given.plans.clone());
        let columns = self.given.features.columns();
        if let Some(port) = self.given.ports.features.take() {
            deliver(rows.clone(), "Feature log", port).probe_with(&self.given.probe);
        }
        Ok(Features { rows, columns })
    }

    fn velocity_view(&self) -> VelocityView {
        let settings =
            VelocitySettings { kept_ms: self.given.horizons.read_ms, forget_ms: self.given.settings.forget_ms };
        let worker = self.given.scope.worker();
        let (here, peers) = (worker.index() as u32, worker.peers());
        VelocityView::new(&self.given.plans, settings, self.given.metrics.clone(), here, peers)
    }

    /// What an owner of a view is built from.
    fn owner(&self, name: &str, requests: Stream<'scope, Epoch, Vec<Block>>) -> OwnerInputs<'scope> {
        OwnerInputs {
            name: name.to_owned(),
            requests,
            records: None,
            read_ms: self.given.horizons.read_ms,
            facts: self.given.facts.clone(),
            owed: self.given.owed.clone(),
            images: self.given.images.clone(),
            metrics: self.given.metrics.clone(),
        }
    }

    /// The matches of the dataflow's event patterns as a collection: a match that a late or withdrawn event undoes leaves it
    /// again. Call [`Context::features`] first, which builds their operators.
    pub fn matches(&self) -> VecCollection<'scope, Epoch, Match> {
        self.given.scope.concatenate(self.matches.clone()).as_collection()
    }

    /// What an operator beside velocity is built from.
    fn inputs(&self, index: u16) -> FamilyInputs<'scope> {
        FamilyInputs {
            changes: self.given.changes.clone(),
            references: self.given.references.clone(),
            velocity: self.velocity.clone(),
            index,
            schema: self.given.setup.schema.clone(),
            horizons: self.given.horizons,
            facts: self.given.facts.clone(),
            metrics: self.given.metrics.clone(),
        }
    }

    /// Builds the operators beside velocity.
    fn families(&mut self, slices: &mut Vec<Stream<'scope, Epoch, Vec<Block>>>) -> Result<(), BuildError> {
        let (mut looked_up, mut widths) = (Vec::new(), HashMap::new());
        let mut next_index = self.given.plans.len() as u16;
        for family in self.given.features.families() {
            let index = next_index;
            next_index += family.slices().len() as u16;
            let outputs = family.build(self.inputs(index))?;
            self.matches.extend(outputs.matches);
            self.touched.extend(outputs.touched);
            self.beyond.extend(outputs.beyond);
            match family.timing() {
                Timing::AsOfEvent => slices.push(outputs.slices),
                Timing::AsOfArrival => {
                    widths.insert(index, family.columns().len());
                    looked_up.push(outputs.slices);
                }
            }
        }
        if !looked_up.is_empty() {
            let looked_up = self.given.scope.concatenate(looked_up);
            let (ids, facts) = (self.given.setup.schema.id_type(), self.given.facts.clone());
            let kept_ms = self.given.horizons.read_ms;
            let metrics = self.given.metrics.clone();
            slices.push(keep(self.given.changes.clone(), looked_up, widths, kept_ms, ids, facts, metrics));
        }
        Ok(())
    }

    /// Scores the rows with the deployed models and emits the scored diffs. Without a model nothing is scored: the
    /// feature rows are the output.
    pub fn score(&mut self, features: &Features<'scope>) -> Result<(), BuildError> {
        let Some(scorer) = self.given.settings.scorer.clone() else {
            features.rows.clone().probe_with(&self.given.probe);
            return Ok(());
        };
        let (facts, metrics) = (self.given.facts.clone(), self.given.metrics.clone());
        let (kept_ms, ids) = (self.given.horizons.by_id_ms, self.given.setup.schema.id_type());
        let diffs = revise(features.rows.clone(), scorer, kept_ms, ids, facts, metrics);
        match self.given.ports.scored.take() {
            Some(port) => deliver(diffs, "Scored diffs", port).probe_with(&self.given.probe),
            None => return Err(BuildError("score() may be called once".into())),
        };
        Ok(())
    }

    /// Emits a collection: each update leaves as one record with key, value (as JSON), diff and epoch.
    pub fn output<D>(&mut self, name: &'static str, collection: VecCollection<'scope, Epoch, (String, D)>)
    where
        D: ExchangeData + Serialize + std::hash::Hash,
    {
        let Some(port) = self.given.ports.collections.clone() else { return };
        let updates = collection.consolidate().inner.map(move |((key, value), epoch, diff)| {
            let value = serde_json::to_string(&value).unwrap_or_else(|error| format!("\"{error}\""));
            CollectionUpdate { name, key, value, epoch, diff }
        });
        deliver(updates, name, port()).probe_with(&self.given.probe);
    }

    /// What all features leave to the pipeline.
    pub(crate) fn finish(self) -> Leftover<'scope> {
        let (again, beyond) = (self.given.scope.concatenate(self.touched), self.given.scope.concatenate(self.beyond));
        Leftover { again, beyond }
    }
}

/// What the features of a dataflow leave to the pipeline.
pub(crate) struct Leftover<'scope> {
    /// Requests to read transactions again.
    pub again: Stream<'scope, Epoch, Vec<Touched>>,
    /// Changes that touched rows beyond the revise horizon.
    pub beyond: Stream<'scope, Epoch, Vec<Beyond>>,
}

/// Gives updates the time of the message that carries them.
fn timestamped<'scope, D: 'static>(
    updates: Stream<'scope, Epoch, Vec<(D, isize)>>,
) -> Stream<'scope, Epoch, Vec<(D, Epoch, isize)>> {
    use timely::container::CapacityContainerBuilder;
    use timely::dataflow::channels::pact::Pipeline;
    use timely::dataflow::operators::generic::Operator;
    updates.unary::<CapacityContainerBuilder<Vec<_>>, _, _, _>(Pipeline, "Timestamp", |_, _| {
        |input, output| {
            input.for_each(|capability, data| {
                let Some(&epoch) = capability.least() else { return };
                output.session(&capability).give_iterator(data.drain(..).map(|(item, diff)| (item, epoch, diff)));
            });
        }
    })
}
