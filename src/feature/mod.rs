//! ⑤ Features: their names and definitions, the plan that a key keeps for them, and the assembled row.

pub mod assemble;
mod family;
mod plan;
mod set;
mod spec;

pub use family::{Family, FamilyInputs, FamilyOutputs, Timing};
pub use plan::{CONDITIONS_MAX, Condition, KeyPlan, PlannedFeature, PlannedMeasure};
pub use set::FeatureSet;
pub use spec::{FeatureSpec, Filter, Measure, REVISE_MS_DEFAULT, REVISE_MS_HOT, Velocity, Window};
