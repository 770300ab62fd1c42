//! The researcher's interface: one file is one dataflow.
//!
//! A dataflow says what its events look like ([`Dataflow::schema`]), which features it computes ([`Dataflow::features`])
//! and, if it does more than score them, builds the rest of its graph on real differential collections
//! ([`Dataflow::build`]). `dataflows/README.md` walks through one in ten minutes.

mod arrangements;
mod context;
mod findings;
mod hindsight;
mod parameters;
mod settings;

use std::sync::Arc;

use crate::event::{Event, Schema, Slot};
use crate::feature::FeatureSet;

pub use arrangements::{ArrangedBy, EventsBy, Standing};
pub use context::{Context, Features};
pub(crate) use context::{Leftover, Parts};
pub use findings::{Finding, Findings, Opinion, RowBits, SampledRows, is_sampled};
pub use hindsight::Hindsight;
pub use parameters::{Parameter, Parameters};
pub use settings::EngineSettings;

/// What a dataflow is built for: the schema it reads and the parameters it was given.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The resolved schema.
    pub schema: Arc<Schema>,
    /// Values of the dataflow's parameters.
    pub parameters: Parameters,
}

impl Setup {
    /// The slot of a field that the dataflow cannot do without.
    pub fn slot(&self, field: &str) -> Result<Slot, BuildError> {
        let schema = &self.schema;
        schema.slot(field).ok_or_else(|| {
            BuildError(format!("schema {} has no field '{field}', which this dataflow needs; add it", schema.name()))
        })
    }

    /// Minor units in one unit of a decimal field: 100 at scale 2.
    pub fn unit(&self, slot: Slot) -> f64 {
        10f64.powi(i32::from(self.schema.field(slot).scale))
    }
}

/// Changes an event before it enters the engine; must depend on the event alone.
pub type Prepare = Arc<dyn Fn(&mut Event) + Send + Sync>;

/// A dataflow: from events to scores, or to any other collection.
pub trait Dataflow: Send + Sync {
    /// The name on the command line; the file is called the same.
    fn name(&self) -> &'static str;

    /// The question it answers, in one line.
    fn about(&self) -> &'static str;

    /// To be raised when its code changes what events or features are, where no spec shows it: a change to [`Dataflow::prepare`] or
    /// to a closure. What an earlier run has kept is then built anew.
    fn version(&self) -> u32 {
        0
    }

    /// The default schema, as TOML (see `event::schema`).
    fn schema(&self) -> &'static str;

    /// What `--set name.key=value` may set.
    fn parameters(&self) -> Vec<Parameter> {
        Vec::new()
    }

    /// The model that scores the rows unless `--model` names another: `name` or `name@version`.
    fn model(&self) -> Option<&'static str> {
        None
    }

    /// The features of each scored event.
    fn features(&self, _setup: &Setup) -> Result<FeatureSet, BuildError> {
        Ok(FeatureSet::new())
    }

    /// A change to every event before it enters the engine.
    fn prepare(&self, _setup: &Setup) -> Result<Option<Prepare>, BuildError> {
        Ok(None)
    }

    /// Events are kept at least so long behind the watermark, milliseconds, whatever the features need: for dataflows that look at
    /// what is retained ([`Context::retained`]).
    fn retention_ms(&self) -> i64 {
        0
    }

    /// Builds the graph. The default assembles the features and scores them.
    fn build(&self, context: &mut Context<'_>) -> Result<(), BuildError> {
        let features = context.features()?;
        context.score(&features)
    }

    /// What [`Context::output`] must have emitted after these events, from scratch: (key, value as JSON), sorted. Features
    /// need no oracle of their own: the test kit computes them by their definition.
    fn oracle(&self, _setup: &Setup, _events: &[Event]) -> Vec<(String, String)> {
        Vec::new()
    }

    /// The same for a dataflow that looks at more than the events: at what is said of them, their labels, their rows.
    fn oracle_with(&self, setup: &Setup, hindsight: &Hindsight) -> Vec<(String, String)> {
        self.oracle(setup, &hindsight.events)
    }
}

/// Why a dataflow could not be built. One line that says what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BuildError(pub String);

impl From<String> for BuildError {
    fn from(reason: String) -> Self {
        BuildError(reason)
    }
}

/// What a dataflow file needs: `use deltawatch::dataflow::prelude::*;`.
pub mod prelude {
    pub use super::{BuildError, Context, Dataflow, Parameter, Parameters, Prepare, Setup};
    pub use crate::event::{Event, Id, Key, Schema, Slot};
    pub use crate::feature::FeatureSet;
    pub use crate::flow::Epoch;
    pub use crate::source::tables::Reference;
    pub use crate::views::identity::{ClusterMeasure, Flag, Identity};
    pub use crate::views::lookup::Enrich;
    pub use crate::views::pattern::Patterns;
    pub use crate::views::velocity::{Filter, Measure, Velocity, Window};
    pub use differential_dataflow::VecCollection;
}
