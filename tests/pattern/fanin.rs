//! Fan-in laundering of a public simulation (AMLSim): many accounts pay into one.
//!
//! The set says which accounts take part and at which step a sender first did; that gives the groups. Its groups send small
//! amounts and the collector forwards nothing, so the mule of `patterns.toml`, who takes in 1000.00 and passes it on, is not
//! in it: its first step is, fitted to these amounts. Groups with one sender are no fan-in, and are counted apart.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};

use deltawatch::arrange::pattern::Patterns;
use deltawatch::event::{Event, EventBuilder, Id, Key, Op, Schema};
use deltawatch::testkit::{Batching, Harness, Plan};
use flate2::read::GzDecoder;

use super::flow::{emitted, flow};

const SCHEMA: &str = r#"
name = "transfers"
kinds = ["payment"]
scored = ["payment"]
default_kind = "payment"
field = [
  { name = "id", type = "int", role = "id", required = true },
  { name = "time", type = "time", role = "time", required = true },
  { name = "account", type = "text", role = "entity" },
  { name = "payee", type = "text", role = "entity" },
  { name = "amount", type = "decimal", scale = 2, role = "amount" },
]
"#;

/// A step of the simulation is taken for an hour. `fan_in` is the mule's first step for small amounts; `mule` has both steps
/// and the amounts of the shipped one.
const PATTERNS: &str = r#"
[[pattern]]
name = "fan_in"
key = "payee"
within = "96h"
events = { incoming = { kind = "payment", where = ["amount <= 10.00"] } }
step = [{ event = "incoming", at_least = 2, having = ["distinct(account) >= 2"] }]
[[pattern]]
name = "fan_in_any_amount"
key = "payee"
within = "96h"
events = { incoming = { kind = "payment" } }
step = [{ event = "incoming", at_least = 5, having = ["distinct(account) >= 4"] }]
[[pattern]]
name = "mule"
key = "account"
within = "24h"
events = { incoming = { kind = "payment", key = "payee" }, outgoing = { kind = "payment" } }
step = [
  { event = "incoming", at_least = 5, having = ["distinct(account) >= 4", "sum(amount) >= 1000.00"] },
  { event = "outgoing", having = ["sum(amount) >= 0.8 * incoming.sum(amount)", "distinct(payee) <= 3"] },
]
"#;

const START_MS: i64 = 1_700_000_000_000;
const STEP_MS: i64 = 3_600_000;

fn rows(path: &Path) -> Vec<csv::StringRecord> {
    let file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    csv::Reader::from_reader(GzDecoder::new(file)).records().map(|row| row.expect("a row")).collect()
}

#[test]
fn fan_in_groups_of_the_simulation_are_found() {
    let folder: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/amlsim/fanin");
    if !folder.is_dir() {
        return eprintln!("SKIPPED: {} is not there", folder.display());
    }
    // Who takes part, and from which step as a sender.
    let nodes = rows(&folder.join("nodes.csv.gz"));
    let fraud: BTreeMap<&str, &str> =
        nodes.iter().filter(|node| &node[1] == "1").map(|node| (&node[0], &node[3])).collect();
    let transfers = rows(&folder.join("transactions.csv.gz"));
    let mut senders: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for row in &transfers {
        if fraud.contains_key(&row[1]) && fraud.get(&row[0]) == Some(&&row[3]) {
            senders.entry(&row[1]).or_default().insert(&row[0]);
        }
    }
    let schema = Schema::parse("transfers", SCHEMA).expect("the schema is valid");
    let slot = |name: &str| schema.slot(name).expect("a field");
    let mut builder = EventBuilder::new(&schema);
    let mut events: Vec<Event> = Vec::with_capacity(transfers.len());
    for (number, row) in transfers.iter().enumerate() {
        let time = START_MS + STEP_MS * row[3].parse::<i64>().expect("a step");
        let cents = (row[2].parse::<f64>().expect("an amount") * 100.0).round() as i64;
        let id = number as u64 + 1;
        builder.set_int(slot("id"), id as i64);
        builder.set_int(slot("time"), time);
        builder.set_text(slot("account"), &row[0]);
        builder.set_text(slot("payee"), &row[1]);
        builder.set_int(slot("amount"), cents);
        events.push(builder.finish(Id::from_int(id), time, 0, Op::Insert, &schema));
    }
    events.sort_by_key(|event| (event.time, event.id));
    let patterns = Patterns::parse(PATTERNS).expect("patterns");
    let (dataflow, setup) = flow(SCHEMA, &patterns);
    let outcome = Harness::new(dataflow, setup).workers(2).run(&Plan::of(&events, Batching::Fixed(500)));
    let found: BTreeSet<(String, String)> = emitted(&outcome.expect("it builds"))
        .into_iter()
        .map(|(name, one)| (name, one.split(' ').next().unwrap_or_default().to_owned()))
        .collect();
    let by = |sender: usize| senders.iter().filter(move |(_, of)| of.len() >= sender).map(|(collector, _)| *collector);
    let hits =
        |name: &str, collector: &str| found.contains(&(name.to_owned(), format!("{:x}", Key::from_text(collector).lo)));
    for name in ["fan_in", "fan_in_any_amount", "mule"] {
        let hit = found.iter().filter(|(of, _)| of == name).count();
        let all = by(1).filter(|collector| hits(name, collector)).count();
        let many = by(2).filter(|collector| hits(name, collector)).count();
        eprintln!(
            "amlsim fan-in, {name}: {many} of {} groups with two senders or more, {all} of {} groups; {hit} accounts hit, \
             recall {:.3}, precision {:.3}",
            by(2).count(),
            by(1).count(),
            many as f64 / by(2).count() as f64,
            all as f64 / hit.max(1) as f64,
        );
    }
    assert!(by(2).count() > 100, "{} groups", by(2).count());
    assert_eq!(by(2).filter(|collector| !hits("fan_in", collector)).collect::<Vec<_>>(), Vec::<&str>::new());
    let planted: BTreeSet<String> = by(1).map(|collector| format!("{:x}", Key::from_text(collector).lo)).collect();
    let wrong = found.iter().filter(|(name, key)| name == "fan_in" && !planted.contains(key)).count();
    assert_eq!(wrong, 0, "accounts that collect nothing are hit");
}
