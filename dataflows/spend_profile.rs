//! What do customers, terminals and pairs of both spend, over an hour to a month?
//!
//! Emits 72 feature columns per transaction (`--features`) and no scores: it has no model unless `--model` names one.

use deltawatch::dataflow::prelude::*;

use super::spend_profile_pack::pack;

/// The dataflow.
pub struct SpendProfile;

impl Dataflow for SpendProfile {
    fn name(&self) -> &'static str {
        "spend_profile"
    }

    fn about(&self) -> &'static str {
        "What do customers, terminals and pairs of both spend, over an hour to a month? 72 features, no model."
    }

    fn schema(&self) -> &'static str {
        include_str!("spend_profile.toml")
    }

    fn features(&self, _setup: &Setup) -> Result<FeatureSet, BuildError> {
        Ok(FeatureSet::new().velocities(pack()))
    }
}
