//! Velocity: windows over the events of a key.
//!
//! ```text
//!  changes ──► [VelocityAsker] ── requests, by key ──► [VelocityView] ── slices, by origin
//! ```
//!
//! A [`Velocity`] spec says what is counted of a key; a [`KeyPlan`] is the spec resolved against a schema. [`VelocityAsker`] cuts an
//! event into one narrow row per key (key, time, id, mask, columns) and sends it to the key's worker. [`VelocityView`] holds one
//! [`store::Store`] per key kind: it applies the rows of an epoch and reads features as of the event. `twin` computes the same
//! from scratch.
//!
//! Cost: eight words per event and key through one exchange, one look-up and a few cache lines per key.

mod asker;
mod plan;
mod profiles;
mod spec;
pub mod store;
pub mod twin;
mod view;

pub use asker::VelocityAsker;
pub use plan::{CONDITIONS_MAX, KeyPlan, PlannedFeature, PlannedFilter, PlannedMeasure};
pub use profiles::{Profile, WantedProfiles};
pub use spec::{FeatureSpec, Filter, Measure, REVISE_MS_DEFAULT, REVISE_MS_HOT, Velocity, Window};
pub use store::ALL_TIME_IDLE_MS;
pub use view::{VelocitySettings, VelocityView};
