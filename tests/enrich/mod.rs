//! Joins: look-ups as of arrival, live joins, network files, outside services.

mod dataflow;
mod job;
mod lookup;
mod networks;
mod oracle;
mod service;
mod sources;
#[cfg(any(feature = "lookup-redis", feature = "lookup-postgres"))]
mod stores;
mod topic;

use std::sync::Arc;

use deltawatch::arrange::enrich::{Enrich, Reference};
use deltawatch::dataflow::{BuildError, Dataflow, Parameters, Setup};
use deltawatch::event::Schema;
use deltawatch::feature::FeatureSet;

use crate::cases::TINY;

/// What the tests look at.
pub const REFERENCES: &str = r#"
[[reference]]
name = "shops"
key = "shop"
field = [
    { name = "shop", type = "text" },
    { name = "risk", type = "float" },
    { name = "fee", type = "decimal", scale = 2, default = "0.25" },
    { name = "tier", type = "text" },
]

[[reference]]
name = "cards"
key = "card"
time = "since"
field = [ { name = "card", type = "text" }, { name = "limit", type = "int" }, { name = "since", type = "time" } ]

[[reference]]
name = "blocked"
key = "card"
field = [ { name = "card", type = "text" } ]

[[reference]]
name = "brands"
key = "brand"
field = [ { name = "brand", type = "text" }, { name = "owner", type = "text" } ]

[[reference]]
name = "pairs"
key = ["card", "shop"]
field = [ { name = "card", type = "text" }, { name = "shop", type = "text" }, { name = "seen", type = "bool" } ]

[[networks]]
name = "networks"
field = [
    { name = "country", path = "country.iso_code", type = "text" },
    { name = "asn", path = "autonomous_system_number", type = "int" },
    { name = "is_hosting", path = "traits.is_hosting_provider", type = "bool" },
]

[[service]]
name = "scores"
ask = "http://127.0.0.1:1/{key}"
field = [ { name = "score", type = "float" } ]
"#;

pub fn reference(name: &str) -> Arc<Reference> {
    Reference::named(REFERENCES, name).unwrap()
}

/// A dataflow of look-ups alone.
struct LookUps(Vec<Enrich>);

impl Dataflow for LookUps {
    fn name(&self) -> &'static str {
        "look_ups"
    }

    fn about(&self) -> &'static str {
        "a dataflow of the tests"
    }

    fn schema(&self) -> &'static str {
        TINY
    }

    fn features(&self, _setup: &Setup) -> Result<FeatureSet, BuildError> {
        Ok(self.0.iter().cloned().fold(FeatureSet::new(), FeatureSet::family))
    }
}

pub fn look_ups(all: Vec<Enrich>) -> (Arc<dyn Dataflow>, Setup) {
    let schema = Arc::new(Schema::parse("tiny", TINY).unwrap());
    (Arc::new(LookUps(all)), Setup { schema, parameters: Parameters::default() })
}
