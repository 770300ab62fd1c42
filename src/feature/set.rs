//! The columns of a feature row: the event's own, then those of each key.

use std::fmt;
use std::sync::Arc;

use crate::event::{Event, Schema};

use super::{KeyPlan, Velocity};

type OwnFeature = Arc<dyn Fn(&Event) -> f64 + Send + Sync>;

/// What a dataflow's feature rows consist of.
#[derive(Clone, Default)]
pub struct FeatureSet {
    own: Vec<(String, OwnFeature)>,
    velocities: Vec<Velocity>,
}

impl fmt::Debug for FeatureSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FeatureSet").field("columns", &self.columns()).finish()
    }
}

impl FeatureSet {
    /// No features yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A feature computed from the event alone; NaN is missing.
    pub fn own(mut self, name: &str, value: impl Fn(&Event) -> f64 + Send + Sync + 'static) -> Self {
        self.own.push((name.to_owned(), Arc::new(value)));
        self
    }

    /// The velocity features of a key.
    pub fn velocity(mut self, velocity: Velocity) -> Self {
        self.velocities.push(velocity);
        self
    }

    /// The velocity features of several keys.
    pub fn velocities(mut self, velocities: impl IntoIterator<Item = Velocity>) -> Self {
        self.velocities.extend(velocities);
        self
    }

    /// The names of all columns, in order.
    pub fn columns(&self) -> Vec<String> {
        let own = self.own.iter().map(|(name, _)| name.clone());
        own.chain(self.velocities.iter().flat_map(|v| v.features().iter().map(|f| f.name.clone()))).collect()
    }

    /// The velocity specs, by key.
    pub fn keys(&self) -> &[Velocity] {
        &self.velocities
    }

    /// The features of the event alone: name and function.
    pub fn own_features(&self) -> impl Iterator<Item = (&str, &(dyn Fn(&Event) -> f64 + Send + Sync))> {
        self.own.iter().map(|(name, value)| (name.as_str(), &**value))
    }

    /// Resolves the set against a schema. The error names the feature and what to do.
    pub fn plans(&self, schema: &Schema) -> Result<Vec<Arc<KeyPlan>>, String> {
        let mut names = self.columns();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("feature '{}' is defined twice; rename one with named(..)", twice[0]));
        }
        let plans = self.velocities.iter().map(|velocity| KeyPlan::resolve(velocity, schema).map(Arc::new));
        plans.collect()
    }
}
