//! What a dataflow builds with: collections, shared arrangements, features, scores, outputs.

use std::cell::Cell;
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;

use differential_dataflow::{AsCollection, ExchangeData, VecCollection};
use serde::Serialize;
use timely::dataflow::operators::vec::Map;
use timely::dataflow::operators::{Concatenate, Probe, probe};
use timely::dataflow::{Scope, Stream};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::arrangements::Asked;
use super::{BuildError, Setup};
use crate::dataflow::EngineSettings;
use crate::event::{Event, Schema};
use crate::feature::FeatureSet;
use crate::feature::rows::Layout;
use crate::feature::rows::Rows;
use crate::flow::Changes;
use crate::flow::{Beyond, Block, Change, Epoch, EpochFacts, Horizons, Owed, ReferenceRecord, Touched, Verb};
use crate::metrics::Metrics;
use crate::operators::ask;
use crate::operators::{Images, OwnerInputs, own};
use crate::retain::SharedRecords;
use crate::score::assessment::ScoredDiff;
use crate::score::judge::{JudgeInputs, Judged, Said, Wanted, judge};
use crate::sink::port::{CollectionUpdate, Ports, deliver};
use crate::views::identity::IdentityAsker;
use crate::views::identity::Publishes;
use crate::views::identity::columns::Bare;
use crate::views::identity::propagate::{Entity, Propagated, ROUNDS_MAX, every, propagate};
use crate::views::identity::{Identity, identity};
use crate::views::pattern::{Match, Matches};
use crate::views::velocity::{KeyPlan, VelocitySettings, VelocityView};
use crate::views::velocity::{Profile, WantedProfiles};
use crate::views::{FamilyInputs, Timing};

/// The assembled rows of a dataflow's features.
#[derive(Clone)]
pub struct Features<'scope> {
    rows: Stream<'scope, Epoch, Vec<Rows>>,
    scores: Stream<'scope, Epoch, Vec<ScoredDiff>>,
    wanted: Wanted,
    /// Names, in order.
    pub columns: Vec<String>,
}

impl<'scope> Features<'scope> {
    /// One [`Rows`] per epoch and worker.
    pub fn rows(&self) -> Stream<'scope, Epoch, Vec<Rows>> {
        self.wanted.rows.set(true);
        self.rows.clone()
    }

    /// Scored diffs, in order per transaction; none without a model.
    pub fn scores(&self) -> Stream<'scope, Epoch, Vec<ScoredDiff>> {
        self.wanted.scores.set(true);
        self.scores.clone()
    }
}

/// The index of the owner of links that [`Context::live_links`] builds: none of a feature's.
const LIVE_LINKS: u16 = u16::MAX;

/// Handed to [`super::Dataflow::build`].
pub struct Context<'scope> {
    pub(super) given: Parts<'scope>,
    touched: Vec<Stream<'scope, Epoch, Vec<Touched>>>,
    beyond: Vec<Stream<'scope, Epoch, Vec<Beyond>>>,
    matches: Vec<Matches<'scope>>,
    velocity: Option<Stream<'scope, Epoch, Vec<Block>>>,
    pub(super) profiles: Option<ProfileUpdates<'scope>>,
    pub(super) asked: Asked<'scope>,
}

/// Updates of the profiles of all key kinds that someone takes.
type ProfileUpdates<'scope> = Stream<'scope, Epoch, Vec<(Profile, Epoch, isize)>>;

/// What the pipeline gives a context.
pub(crate) struct Parts<'scope> {
    pub scope: Scope<'scope, Epoch>,
    pub setup: Setup,
    pub settings: EngineSettings,
    pub changes: Stream<'scope, Epoch, Vec<Changes>>,
    pub requests: Vec<Vec<Stream<'scope, Epoch, Vec<Block>>>>,
    pub events: Stream<'scope, Epoch, Vec<(Arc<Event>, Epoch, isize)>>,
    pub wanted: Rc<Cell<bool>>,
    /// Whether the graph takes events that retention may have passed: no cut has all that it needs.
    pub whole_history: Rc<Cell<bool>>,
    pub wanted_profiles: WantedProfiles,
    pub records: SharedRecords<Said>,
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
        let (touched, beyond, matches) = Default::default();
        Context { given, touched, beyond, matches, velocity: None, profiles: None, asked: Asked::default() }
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
        self.given.whole_history.set(true);
        let updates = self.given.changes.clone().flat_map(|changes: Changes| {
            let update = |change: &Change| match change.verb {
                Verb::Insert => Some(((*change.event).clone(), 1)),
                Verb::Remove => Some(((*change.event).clone(), -1)),
                Verb::Label | Verb::Relabel | Verb::Read => None,
            };
            changes.iter().filter_map(update).collect::<Vec<_>>()
        });
        timestamped(updates).as_collection()
    }

    /// The links that carry, account first: what clusters are made of, as a collection. It follows events in the order of
    /// their arrival, takes withdrawn and expired links back, and has an owner of its own beside that of the features.
    /// [`Context::propagated_clusters`] turns it into (entity, cluster).
    pub fn live_links(&self, spec: &Identity) -> Result<VecCollection<'scope, Epoch, (Entity, Entity)>, BuildError> {
        let schema = &self.given.setup.schema;
        let plan = Arc::new(spec.resolve(schema)?);
        let asker = IdentityAsker::new(plan.clone(), schema.clone());
        let requests = ask("Ask for links", self.given.changes.clone(), asker);
        let owned = identity::<Bare>(
            &self.inputs(LIVE_LINKS, &format!("{spec:?}"), Vec::new()),
            requests,
            plan,
            Publishes::Links,
        )?;
        owned.slices.probe_with(&self.given.probe);
        Ok(owned.updates.as_collection().consolidate())
    }

    /// Clusters by iteration: (entity, smallest entity of its cluster), brought up to date every so many epochs; in between it is the
    /// version before. [`Context::clusters`] gives the same, exact at every epoch and cheaper where one worker can own all links. Clusters with paths longer than [`ROUNDS_MAX`] links are not whole: they
    /// are counted and logged.
    pub fn propagated_clusters(
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

    /// Builds the views of the dataflow's features, and the operator that assembles their rows. May be called once.
    pub fn features(&mut self) -> Result<Features<'scope>, BuildError> {
        let mut requests = std::mem::take(&mut self.given.requests).into_iter();
        let of_velocity = requests.next().ok_or_else(|| BuildError("features() may be called once".into()))?;
        let mut slices = Vec::new();
        for requests in of_velocity {
            let owned = own(self.velocity_view(), self.owner("Velocity", requests))?;
            self.touched.push(owned.touched);
            self.beyond.push(owned.beyond);
            self.velocity = Some(owned.slices.clone());
            self.profiles = Some(owned.updates);
            slices.push(owned.slices);
        }
        let looked_up = self.families(requests, &mut slices)?;
        let wanted = Wanted::default();
        let columns = self.given.features.columns();
        let Judged { rows, scores } = judge(JudgeInputs {
            changes: self.given.changes.clone(),
            slices,
            records: self.given.records.clone(),
            layout: Layout::new(self.given.features.clone(), &self.given.plans),
            looked_up,
            deployments: self.given.settings.deployments.clone(),
            wanted: wanted.clone(),
            facts: self.given.facts.clone(),
            images: self.given.images.clone(),
            metrics: self.given.metrics.clone(),
        })?;
        rows.clone().probe_with(&self.given.probe);
        let features = Features { rows, scores, wanted, columns };
        if let Some(port) = self.given.ports.features.take() {
            deliver(features.rows(), "Feature log", port).probe_with(&self.given.probe);
        }
        Ok(features)
    }

    fn velocity_view(&self) -> VelocityView {
        let settings =
            VelocitySettings { kept_ms: self.given.horizons.read_ms, forget_ms: self.given.settings.forget_ms };
        let (worker, metrics) = (self.given.scope.worker(), self.given.metrics.clone());
        let place = (worker.index() as u32, worker.peers());
        VelocityView::new(&self.given.plans, settings, self.given.wanted_profiles.clone(), metrics, place)
    }

    /// A hash of how long things are kept.
    fn fingerprint(&self) -> u64 {
        xxh3_64(format!("{:?} {}", self.given.horizons, self.given.settings.forget_ms).as_bytes())
    }

    /// What an owner of a view is built from.
    pub(super) fn owner(&self, name: &str, requests: Stream<'scope, Epoch, Vec<Block>>) -> OwnerInputs<'scope> {
        OwnerInputs {
            name: name.to_owned(),
            fingerprint: self.fingerprint(),
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

    /// What the views of a family are built from.
    pub(super) fn inputs(
        &self,
        index: u16,
        said: &str,
        requests: Vec<Stream<'scope, Epoch, Vec<Block>>>,
    ) -> FamilyInputs<'scope> {
        FamilyInputs {
            changes: self.given.changes.clone(),
            requests,
            references: self.given.references.clone(),
            velocity: self.velocity.clone(),
            index,
            fingerprint: xxh3_64_with_seed(said.as_bytes(), self.fingerprint()),
            schema: self.given.setup.schema.clone(),
            horizons: self.given.horizons,
            facts: self.given.facts.clone(),
            owed: self.given.owed.clone(),
            images: self.given.images.clone(),
            metrics: self.given.metrics.clone(),
        }
    }

    /// Builds the views beside velocity. Returns the plans of the slices that are looked up on arrival.
    fn families(
        &mut self,
        mut requests: impl Iterator<Item = Vec<Stream<'scope, Epoch, Vec<Block>>>>,
        slices: &mut Vec<Stream<'scope, Epoch, Vec<Block>>>,
    ) -> Result<HashSet<u16>, BuildError> {
        let mut looked_up = HashSet::new();
        let mut index = self.given.plans.len() as u16;
        for family in self.given.features.families() {
            let of_family = index..index + family.slices().len() as u16;
            let said = format!("{family:?} {}", family.version());
            let outputs = family.build(self.inputs(index, &said, requests.next().unwrap_or_default()))?;
            index = of_family.end;
            self.matches.extend(outputs.matches);
            self.touched.extend(outputs.touched);
            self.beyond.extend(outputs.beyond);
            slices.extend(outputs.slices);
            if family.timing() == Timing::AsOfArrival {
                looked_up.extend(of_family);
            }
        }
        Ok(looked_up)
    }

    /// Scores the rows with the deployed models and emits the scored diffs. Without a model nothing is scored: the
    /// feature rows are the output.
    pub fn score(&mut self, features: &Features<'scope>) -> Result<(), BuildError> {
        if self.given.settings.deployments.is_none() {
            return Ok(());
        }
        match self.given.ports.scored.take() {
            Some(port) => deliver(features.scores(), "Scored diffs", port).probe_with(&self.given.probe),
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
