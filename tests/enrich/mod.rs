//! Joins: look-ups as of arrival, live joins, network files, outside services.

mod dataflow;
mod job;
mod lookup;
pub mod networks;
pub mod oracle;
mod service;
mod sources;
#[cfg(any(feature = "lookup-redis", feature = "lookup-postgres"))]
mod stores;
mod topic;

use std::sync::Arc;

use deltawatch::arrange::enrich::{Enrich, Reference};
use deltawatch::dataflow::{Dataflow, Setup};
use deltawatch::feature::FeatureSet;

use crate::cases::TINY;
use crate::flows;

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
pub fn look_ups(all: Vec<Enrich>) -> (Arc<dyn Dataflow>, Setup) {
    flows::of("look_ups", TINY, all.into_iter().fold(FeatureSet::new(), FeatureSet::family))
}
