use deltawatch::dataflow::prelude::*;
#[path = "../dataflows/handbook_pack.rs"]
mod handbook_pack;
#[path = "../dataflows/spend_profile_pack.rs"]
mod spend_profile_pack;
pub struct H;
pub struct S;
pub static HANDBOOK: H = H;
pub static SPEND_PROFILE: S = S;
impl Dataflow for H {
    fn name(&self) -> &'static str {
        "handbook"
    }
    fn about(&self) -> &'static str {
        ""
    }
    fn schema(&self) -> &'static str {
        include_str!("../dataflows/handbook.toml")
    }
    fn features(&self, _: &Setup) -> Result<FeatureSet, BuildError> {
        Ok(FeatureSet::new().velocities(handbook_pack::pack()))
    }
}
impl Dataflow for S {
    fn name(&self) -> &'static str {
        "spend_profile"
    }
    fn about(&self) -> &'static str {
        ""
    }
    fn schema(&self) -> &'static str {
        include_str!("../dataflows/spend_profile.toml")
    }
    fn features(&self, _: &Setup) -> Result<FeatureSet, BuildError> {
        Ok(FeatureSet::new().velocities(spend_profile_pack::pack()))
    }
}
