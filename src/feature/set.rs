//! The columns of a feature row: the event's own, then those of each key, then those of other families.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::event::{Event, Schema};
use crate::flow::Asker;
use crate::views::velocity::{KeyPlan, Velocity, VelocityAsker};
use crate::views::{Family, Timing};

type OwnFeature = Arc<dyn Fn(&Event) -> f64 + Send + Sync>;

/// What a dataflow's feature rows consist of.
#[derive(Clone, Default)]
pub struct FeatureSet {
    own: Vec<(String, OwnFeature)>,
    velocities: Vec<Velocity>,
    families: Vec<Arc<dyn Family>>,
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
        self.introduced()
    }

    /// The velocity features of several keys.
    pub fn velocities(mut self, velocities: impl IntoIterator<Item = Velocity>) -> Self {
        self.velocities.extend(velocities);
        self.introduced()
    }

    /// Features that an operator of its own computes.
    pub fn family(mut self, family: impl Family + 'static) -> Self {
        self.families.push(Arc::new(family));
        self.introduced()
    }

    /// Tells the families of the velocity features beside them.
    fn introduced(mut self) -> Self {
        for family in &mut self.families {
            if let Some(beside) = family.beside(&self.velocities) {
                *family = beside;
            }
        }
        self
    }

    /// The names of all columns, in order.
    pub fn columns(&self) -> Vec<String> {
        let own = self.own.iter().map(|(name, _)| name.clone());
        let velocities = self.velocities.iter().flat_map(|v| v.features().iter().map(|f| f.name.clone()));
        let families = self.families.iter().flat_map(|family| family.columns().into_iter().map(|(name, _)| name));
        own.chain(velocities).chain(families).collect()
    }

    /// The velocity specs, by key.
    pub fn keys(&self) -> &[Velocity] {
        &self.velocities
    }

    /// The families beside velocity.
    pub fn families(&self) -> &[Arc<dyn Family>] {
        &self.families
    }

    /// The same set without the families whose values are fixed on arrival: what remains is the same for every order of
    /// arrival.
    pub fn as_of_event(mut self) -> Self {
        self.families.retain(|family| family.timing() == Timing::AsOfEvent);
        self
    }

    /// The features of the event alone: name and function.
    pub fn own_features(&self) -> impl Iterator<Item = (&str, &(dyn Fn(&Event) -> f64 + Send + Sync))> {
        self.own.iter().map(|(name, value)| (name.as_str(), &**value))
    }

    /// Who asks the views of all features on behalf of changes: velocity's, if there is any, then those of each family.
    pub fn askers(&self, plans: &[Arc<KeyPlan>], schema: &Arc<Schema>) -> Result<Vec<Vec<Box<dyn Asker>>>, String> {
        let velocity = (!plans.is_empty()).then(|| VelocityAsker::new(plans, schema.clone()));
        let mut askers = vec![velocity.into_iter().map(|asker| Box::new(asker) as Box<dyn Asker>).collect()];
        let mut index = plans.len() as u16;
        for family in &self.families {
            askers.push(family.askers(schema, index)?);
            index += family.slices().len() as u16;
        }
        Ok(askers)
    }

    /// What is looked up on arrival and kept: columns by the number of the look-up.
    pub fn looked_up(&self) -> BTreeMap<u16, Vec<String>> {
        let (mut looked_up, mut index) = (BTreeMap::new(), self.velocities.len() as u16);
        for family in &self.families {
            if family.timing() == Timing::AsOfArrival {
                looked_up.insert(index, family.columns().into_iter().map(|(name, _)| name).collect());
            }
            index += family.slices().len() as u16;
        }
        looked_up
    }

    /// Resolves the set against a schema. The error names the feature and what to do.
    pub fn plans(&self, schema: &Schema) -> Result<Vec<Arc<KeyPlan>>, String> {
        let mut names = self.columns();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("feature '{}' is defined twice; rename one", twice[0]));
        }
        self.families.iter().try_for_each(|family| family.check(schema))?;
        let plans = self.velocities.iter().map(|velocity| KeyPlan::resolve(velocity, schema).map(Arc::new));
        plans.collect()
    }
}
