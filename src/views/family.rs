//! Features that an operator of its own computes: identity clusters, look-ups, event patterns, or a researcher's own.
//!
//! Velocity is fused into one operator; everything else joins a dataflow's row as a family. A family takes the changes
//! of the retained events and answers each ticket with a slice: `[ticket, value, ...]`, addressed to the worker that
//! asked. A ticket without a slice gets the family's defaults.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use timely::dataflow::Stream;

use super::lookup::Enrich;
use super::pattern::Matches;
use super::velocity::Velocity;
use crate::event::{Id, Schema};
use crate::flow::{
    Asker, Beyond, Block, Changes, Epoch, EpochFacts, EpochInput, Horizons, Labelled, Owed, ReferenceRecord, Touched,
};
use crate::metrics::Metrics;
use crate::operators::{Images, Owned, OwnerInputs, View, own};

/// When a family's values are fixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timing {
    /// A function of the retained events at or before the transaction: late events revise it. Asks to read
    /// ([`crate::flow::Verb::Read`]) are answered like those of fresh rows.
    AsOfEvent,
    /// Looked up once, when the transaction is taken in, and never revised. The operator answers fresh rows alone; rows
    /// read again get the values that are kept with the transaction ([`crate::retain::kept`]).
    AsOfArrival,
}

/// What a family's operator is built from.
pub struct FamilyInputs<'scope> {
    /// What happened to the retained events, on the worker that owns their ids.
    pub changes: Stream<'scope, Epoch, Vec<Changes>>,
    /// What [`Family::askers`] ask, in their order.
    pub requests: Vec<Stream<'scope, Epoch, Vec<Block>>>,
    /// The velocity features of each ticket, as rows of `[ticket, feature, ...]` addressed to the worker that asked; the
    /// [`Block::plan`] is the place of the key among [`crate::feature::FeatureSet::keys`]. None where they are not built.
    pub velocity: Option<Stream<'scope, Epoch, Vec<Block>>>,
    /// The [`Block::plan`] of the family's slices.
    pub index: u16,
    /// Records of the reference collections, addressed to the worker they are for; every family gets all of them.
    pub references: Stream<'scope, Epoch, Vec<ReferenceRecord>>,
    /// A hash of all that decides what the family's views keep.
    pub fingerprint: u64,
    /// The schema.
    pub schema: Arc<Schema>,
    /// How long events are kept and rows revised.
    pub horizons: Horizons,
    /// The facts of each epoch: its watermark, how many touched rows it reads again.
    pub facts: EpochFacts,
    /// What waits to be read again.
    pub owed: Owed,
    /// Where what is kept is loaded from and dumped to.
    pub images: Images,
    /// Counters and gauges.
    pub metrics: Arc<Metrics>,
}

impl<'scope> FamilyInputs<'scope> {
    /// Has a view answer requests ([`own`]); also records of references, if it looks at them.
    pub fn own<V: View>(
        &self,
        name: String,
        view: V,
        requests: Stream<'scope, Epoch, Vec<Block>>,
        records: bool,
    ) -> Result<Owned<'scope, V::Update>, String> {
        let inputs = OwnerInputs {
            name,
            fingerprint: self.fingerprint,
            requests,
            records: records.then(|| self.references.clone()),
            read_ms: self.horizons.read_ms,
            facts: self.facts.clone(),
            owed: self.owed.clone(),
            images: self.images.clone(),
            metrics: self.metrics.clone(),
        };
        own(view, inputs)
    }

    /// This worker, and how many there are.
    pub fn worker(&self) -> (u32, usize) {
        let scope = self.changes.scope();
        (scope.worker().index() as u32, scope.worker().peers())
    }
}

/// What a family's operators give back.
pub struct FamilyOutputs<'scope> {
    /// Rows of `[ticket, value, ...]`, addressed to the worker that asked.
    pub slices: Vec<Stream<'scope, Epoch, Vec<Block>>>,
    /// Transactions to be read again one epoch later.
    pub touched: Vec<Stream<'scope, Epoch, Vec<Touched>>>,
    /// Changes that touched rows too old to be revised.
    pub beyond: Vec<Stream<'scope, Epoch, Vec<Beyond>>>,
    /// The matches of event patterns, as updates of a collection.
    pub matches: Vec<Matches<'scope>>,
}

impl<'scope> FamilyOutputs<'scope> {
    /// Slices, and nothing else.
    pub fn of(slices: Stream<'scope, Epoch, Vec<Block>>) -> Self {
        FamilyOutputs { slices: vec![slices], touched: Vec::new(), beyond: Vec::new(), matches: Vec::new() }
    }

    /// Adds what the owner of a view gives, without its updates.
    pub fn with<U>(mut self, owned: Owned<'scope, U>) -> Self {
        self.slices.push(owned.slices);
        self.touched.push(owned.touched);
        self.beyond.push(owned.beyond);
        self
    }

    /// Nothing.
    pub fn none() -> Self {
        FamilyOutputs { slices: Vec::new(), touched: Vec::new(), beyond: Vec::new(), matches: Vec::new() }
    }
}

/// Features with an operator of their own.
pub trait Family: fmt::Debug + Send + Sync {
    /// What it looks at, in a few words: the heading in `dataflow describe`.
    fn about(&self) -> String;

    /// The same family where it looks at these velocity features of its dataflow; None if it looks at none. Called again
    /// as features are added.
    fn beside(&self, velocities: &[Velocity]) -> Option<Arc<dyn Family>> {
        let _ = velocities;
        None
    }

    /// Names and defaults of its columns, in the order of the slices.
    fn columns(&self) -> Vec<(String, f64)>;

    /// How its columns are dealt to slices, in order: a slice of `n` columns for each `n`. The first has the plan
    /// [`FamilyInputs::index`], the next the one after it. One slice with all columns unless it says otherwise; a family as
    /// of arrival has one.
    fn slices(&self) -> Vec<usize> {
        vec![self.columns().len()]
    }

    /// When its values are fixed.
    fn timing(&self) -> Timing;

    /// Rows younger than this are revised, milliseconds; 0 for a family that is never revised.
    fn revise_ms(&self) -> i64 {
        0
    }

    /// Whether it looks at labels, so that events must be kept until theirs may have come.
    fn uses_labels(&self) -> bool {
        false
    }

    /// To be raised when code of its own changes what it keeps: what an earlier run has kept is then built anew. What its
    /// `Debug` shows is found out without.
    fn version(&self) -> u32 {
        0
    }

    /// Whether it fits the schema. The error names the feature or field and says what to do.
    fn check(&self, schema: &Schema) -> Result<(), String>;

    /// The look-up that it is, if it is one: whose reference the job opens.
    fn enrich(&self) -> Option<&Enrich> {
        None
    }

    /// Who asks its views on behalf of changes, one per view. `index` is [`FamilyInputs::index`].
    fn askers(&self, schema: &Arc<Schema>, index: u16) -> Result<Vec<Box<dyn Asker>>, String> {
        let _ = (schema, index);
        Ok(Vec::new())
    }

    /// Builds its operators. Called once per worker, after [`Family::check`].
    fn build<'scope>(&self, inputs: FamilyInputs<'scope>) -> Result<FamilyOutputs<'scope>, String>;

    /// Its columns by definition, for the scored ones among `events`, which are all retained events in (time, id) order:
    /// what the test kit compares with. A family as of arrival gives what input in that order, with no event corrected or
    /// withdrawn, leads to. A scored event that is left out has the defaults.
    fn expected(&self, schema: &Schema, events: &[Labelled]) -> BTreeMap<Id, Vec<f64>>;

    /// The same where what is seen depends on the epochs in which events and reference records came: `events` are what
    /// `epochs` lead to. As [`Family::expected`] unless it says otherwise.
    fn expected_of(&self, schema: &Schema, events: &[Labelled], epochs: &[EpochInput]) -> BTreeMap<Id, Vec<f64>> {
        let _ = epochs;
        self.expected(schema, events)
    }
}
