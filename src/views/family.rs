//! Features that an operator of its own computes: identity clusters, look-ups, event patterns, or a researcher's own.
//!
//! Velocity is fused into one operator; everything else joins a dataflow's row as a family. A family takes the changes
//! of the retained events and answers each ticket with a slice: `[ticket, value, ...]`, addressed to the worker that
//! asked. A ticket without a slice gets the family's defaults.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use timely::dataflow::Stream;

use super::velocity::Velocity;
use crate::event::{Id, Schema};
use crate::flow::{Beyond, Block, Change, Epoch, EpochFacts, EpochInput, Horizons, Labelled, ReferenceRecord, Touched};
use crate::metrics::Metrics;
use crate::views::lookup::Enrich;
use crate::views::pattern::Matches;

/// When a family's values are fixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timing {
    /// A function of the retained events at or before the transaction: late events revise it. Asks to read
    /// ([`crate::flow::Verb::Read`]) are answered like those of fresh rows.
    AsOfEvent,
    /// Looked up once, when the transaction is taken in, and never revised. The operator answers fresh rows alone; rows
    /// read again get the values that [`crate::retain::keep`] holds.
    AsOfArrival,
}

/// What a family's operator is built from.
pub struct FamilyInputs<'scope> {
    /// What happened to the retained events, on the worker that owns their ids.
    pub changes: Stream<'scope, Epoch, Vec<Change>>,
    /// The velocity features of each ticket, as rows of `[ticket, feature, ...]` addressed to the worker that asked; the
    /// [`Block::plan`] is the place of the key among [`crate::feature::FeatureSet::keys`]. None where they are not built.
    pub velocity: Option<Stream<'scope, Epoch, Vec<Block>>>,
    /// The [`Block::plan`] of the family's slices.
    pub index: u16,
    /// Records of the reference collections, addressed to the worker they are for; every family gets all of them.
    pub references: Stream<'scope, Epoch, Vec<ReferenceRecord>>,
    /// The schema.
    pub schema: Arc<Schema>,
    /// How long events are kept and rows revised.
    pub horizons: Horizons,
    /// The facts of each epoch: its watermark, how many touched rows it reads again.
    pub facts: EpochFacts,
    /// Counters and gauges.
    pub metrics: Arc<Metrics>,
}

/// What a family's operator gives back.
pub struct FamilyOutputs<'scope> {
    /// Rows of `[ticket, value, ...]`, addressed to the worker that asked.
    pub slices: Stream<'scope, Epoch, Vec<Block>>,
    /// Transactions to be read again one epoch later.
    pub touched: Option<Stream<'scope, Epoch, Vec<Touched>>>,
    /// Changes that touched rows too old to be revised.
    pub beyond: Option<Stream<'scope, Epoch, Vec<Beyond>>>,
    /// The matches of event patterns, as updates of a collection.
    pub matches: Option<Matches<'scope>>,
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

    /// Whether it fits the schema. The error names the feature or field and says what to do.
    fn check(&self, schema: &Schema) -> Result<(), String>;

    /// The look-up that it is, if it is one: whose reference the job opens.
    fn enrich(&self) -> Option<&Enrich> {
        None
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
