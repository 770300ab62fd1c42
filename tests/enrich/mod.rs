//! Joins: look-ups as of arrival, live joins, network files, outside services.

mod dataflow;
mod image;
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

use deltawatch::dataflow::{Dataflow, Setup};
use deltawatch::feature::FeatureSet;
use deltawatch::source::tables::Reference;
use deltawatch::views::lookup::Enrich;

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

/// Says that a log is refused by name if a digit of it was changed, a line is missing, or two are swapped.
fn assert_sealed(log: &std::path::Path, mut fails: impl FnMut() -> String) {
    let text = std::fs::read_to_string(log).expect("a log");
    let lines: Vec<&str> = text.lines().collect();
    let last = lines.len() - 1;
    assert!(last > 1, "{text}");
    let at = lines[1].rfind(|c: char| c.is_ascii_digit()).expect("a digit");
    let digit = if &lines[1][at..=at] == "7" { "8" } else { "7" };
    let changed = format!("{}{digit}{}", &lines[1][..at], &lines[1][at + 1..]);
    let mut swapped = lines.clone();
    swapped.swap(last - 1, last);
    for lines in [[&lines[..1], &[&*changed], &lines[2..]].concat(), lines[1..].to_vec(), swapped] {
        std::fs::write(log, lines.join("\n") + "\n").expect("a file");
        let says = fails();
        let name = log.file_name().expect("a name").to_string_lossy();
        assert!(says.contains(&*name) && says.contains("is damaged"), "{says}");
    }
    std::fs::write(log, text).expect("a file");
}
