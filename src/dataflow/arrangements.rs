//! Arrangements on demand: what the engine keeps, as real differential arrangements.
//!
//! Each costs nothing unless it is asked for, and is shared by all who ask. It holds what is there at an epoch and follows the diffs
//! from then on; what retention passes is retracted, so that nothing is left when all is withdrawn or expired.

use std::collections::BTreeMap;
use std::sync::Arc;

use differential_dataflow::operators::arrange::{Arranged, TraceAgent};
use differential_dataflow::trace::implementations::ValSpine;
use differential_dataflow::{AsCollection, VecCollection};
use serde::{Deserialize, Serialize};
use timely::dataflow::operators::vec::Map;
use timely::dataflow::operators::{Concat, Probe, ToStream};

use super::context::Context;
use super::findings::{Findings, SampledRows};
use super::{BuildError, Features};
use crate::event::{Event, Key, MapKey};
use crate::flow::reference::Cells;
use crate::flow::{Action, Epoch};
use crate::operators::{Valued, ask, own, while_kept, within};
use crate::retain::Transaction;
use crate::score::assessment::ScoredDiff;
use crate::score::judge::Said;
use crate::views::identity::columns::Bare;
use crate::views::identity::propagate::Entity;
use crate::views::identity::{Identity, IdentityAsker, Publishes, identity};
use crate::views::lookup::ReferenceRows;
use crate::views::velocity::Profile;

/// Values arranged by a key.
pub type ArrangedBy<'scope, K, V> = Arranged<'scope, TraceAgent<ValSpine<K, V, Epoch, isize>>>;

/// Events arranged by a key.
pub type EventsBy<'scope> = ArrangedBy<'scope, Key, Arc<Event>>;

/// What is said of a transaction now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Standing {
    /// The action that the assessment comes to.
    pub action: Action,
    /// The champion's score, in 1/16384.
    pub score: u16,
}

/// What was asked for.
#[derive(Default)]
pub(super) struct Asked<'scope> {
    events: Option<VecCollection<'scope, Epoch, Arc<Event>>>,
    by_field: BTreeMap<String, EventsBy<'scope>>,
    profiles: BTreeMap<String, ArrangedBy<'scope, Key, Profile>>,
    clusters: BTreeMap<String, ArrangedBy<'scope, Entity, Entity>>,
    references: BTreeMap<String, ArrangedBy<'scope, Key, Cells>>,
    scores: Option<ArrangedBy<'scope, MapKey, Standing>>,
    pub findings: Option<Findings<'scope>>,
    /// Rows of every so manieth transaction.
    pub rows: BTreeMap<u64, SampledRows<'scope>>,
}

/// What was last said of a transaction.
fn standing(transaction: &Transaction<Said>) -> Option<Valued<MapKey, Standing>> {
    let Said { assessment, .. } = transaction.said.as_ref()?;
    Some((transaction.key, Standing { action: assessment.action, score: assessment.score }, 1))
}

/// The index of the owner of links that is built for clusters: none of a feature's, and none of another spec's.
const CLUSTERS: u16 = u16::MAX - 1;

impl<'scope> Context<'scope> {
    /// The retained events as a collection: what retention passes goes.
    pub fn retained(&mut self) -> VecCollection<'scope, Epoch, Arc<Event>> {
        self.given.wanted.set(true);
        let events = self.given.events.clone();
        self.asked.events.get_or_insert_with(|| events.as_collection()).clone()
    }

    /// Retained events arranged by a field. Events without the field are left out.
    ///
    /// # Errors
    /// If the schema has no such field.
    pub fn events_by(&mut self, field: &str) -> Result<EventsBy<'scope>, BuildError> {
        if let Some(arranged) = self.asked.by_field.get(field) {
            return Ok(arranged.clone());
        }
        let schema = self.schema().clone();
        let slot = schema.slot(field).ok_or_else(|| {
            BuildError(format!("events_by(\"{field}\"): the schema '{}' has no such field", schema.name()))
        })?;
        let keyed = self.retained().flat_map(move |event| event.key(slot, &schema).map(|key| (key, event)));
        let arranged: EventsBy<'scope> = keyed.arrange_by_key_named(&format!("Events by {field}"));
        self.asked.by_field.insert(field.to_owned(), arranged.clone());
        Ok(arranged)
    }

    /// The current features of each key of a key kind of this dataflow's features: as of right after its last event. To be called
    /// after [`Context::features`].
    ///
    /// # Errors
    /// If there is no such key kind.
    pub fn profiles(&mut self, key: &str) -> Result<ArrangedBy<'scope, Key, Profile>, BuildError> {
        if let Some(arranged) = self.asked.profiles.get(key) {
            return Ok(arranged.clone());
        }
        let plan = self.given.plans.iter().position(|plan| plan.name == key);
        let (Some(plan), Some(profiles)) = (plan, self.profiles.clone()) else {
            let known: Vec<&str> = self.given.plans.iter().map(|plan| &*plan.name).collect();
            let known = known.join(", ");
            return Err(BuildError(format!(
                "profiles(\"{key}\"): call features() before, and use one of its keys: {known}"
            )));
        };
        let plan = plan as u16;
        self.given.wanted_profiles.borrow_mut().insert(plan);
        let of_plan = profiles.as_collection().filter(move |profile| profile.plan == plan);
        let arranged =
            of_plan.map(|profile| (profile.key, profile)).arrange_by_key_named(&format!("Profiles of {key}"));
        self.asked.profiles.insert(key.to_owned(), arranged.clone());
        Ok(arranged)
    }

    /// Clusters: each entity that has links, with the smallest entity of its cluster, as of the end of every epoch. They come from an
    /// owner of links of their own; [`crate::views::identity::propagate`] finds the same by iteration.
    ///
    /// # Errors
    /// If the spec does not fit the schema.
    pub fn clusters(&mut self, spec: &Identity) -> Result<ArrangedBy<'scope, Entity, Entity>, BuildError> {
        let asked = format!("{spec:?}");
        if let Some(arranged) = self.asked.clusters.get(&asked) {
            return Ok(arranged.clone());
        }
        let (schema, index) = (self.schema().clone(), CLUSTERS - self.asked.clusters.len() as u16);
        let plan = Arc::new(spec.resolve(&schema)?);
        let asker = IdentityAsker::new(plan.clone(), schema);
        let requests = ask("Ask for clusters", self.given.changes.clone(), asker);
        let owned = identity::<Bare>(&self.inputs(index, &asked, Vec::new()), requests, plan, Publishes::Clusters)?;
        owned.slices.probe_with(&self.given.probe);
        let arranged = owned.updates.as_collection().arrange_by_key_named("Clusters");
        self.asked.clusters.insert(asked, arranged.clone());
        Ok(arranged)
    }

    /// The rows of a reference by key, as they are at the end of every epoch. The reference must be one that the features look at,
    /// which is what opens it.
    ///
    /// # Errors
    /// If no look-up of the features has this reference.
    pub fn references(&mut self, name: &str) -> Result<ArrangedBy<'scope, Key, Cells>, BuildError> {
        if let Some(arranged) = self.asked.references.get(name) {
            return Ok(arranged.clone());
        }
        let look_ups = self.given.features.families().iter().filter_map(|family| family.enrich());
        let look_up = look_ups.filter(|look_up| look_up.reference().name() == name).map(|look_up| look_up.tag()).next();
        let tag = look_up.ok_or_else(|| {
            BuildError(format!("references(\"{name}\"): no feature looks at it; add a look-up of it to the features"))
        })?;
        let nothing = timely::dataflow::operators::generic::operator::empty(self.given.scope);
        let mut inputs = self.owner(&format!("Rows of {name}"), nothing);
        inputs.records = Some(self.given.references.clone());
        let owned = own(ReferenceRows::new(tag), inputs)?;
        owned.slices.probe_with(&self.given.probe);
        let arranged = owned.updates.as_collection().arrange_by_key_named(&format!("Rows of {name} by key"));
        self.asked.references.insert(name.to_owned(), arranged.clone());
        Ok(arranged)
    }

    /// What is said of each transaction now, by id ([`crate::event::Id::map_key`]). Without a model there is nothing.
    pub fn scores(&mut self, features: &Features<'scope>) -> ArrangedBy<'scope, MapKey, Standing> {
        if let Some(arranged) = &self.asked.scores {
            return arranged.clone();
        }
        let ids = self.schema().id_type();
        let diffs = features.scores();
        let said = diffs.flat_map(move |diff: ScoredDiff| {
            let assessment = diff.assessment?;
            let standing = Standing { action: assessment.action, score: assessment.score };
            Some::<Valued<MapKey, Standing>>((diff.event.id.map_key(ids), standing, isize::from(diff.diff)))
        });
        // Those that were loaded were said before.
        let loaded: Vec<Valued<MapKey, Standing>> = match self.given.images.facts() {
            Some(_) => self.given.records.borrow().all().filter_map(standing).collect(),
            None => Vec::new(),
        };
        let said = said.concat(loaded.to_stream(self.given.scope));
        let kept = self.retained().inner.map(move |(event, epoch, diff)| (event.id.map_key(ids), epoch, diff));
        let arranged = while_kept("Standings", said, kept).arrange_by_key_named("Scores by id");
        self.asked.scores = Some(arranged.clone());
        arranged
    }

    /// The records of a collection of the last span of event time, as of the watermark at the end of every epoch.
    pub fn within<D: Ord + Clone + 'static>(
        &self,
        name: &str,
        records: VecCollection<'scope, Epoch, D>,
        time_ms: impl Fn(&D) -> i64 + 'static,
        span_ms: i64,
    ) -> VecCollection<'scope, Epoch, D> {
        within(name, records, time_ms, span_ms, self.given.facts.clone())
    }
}
