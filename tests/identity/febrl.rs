//! People with duplicates (febrl 1 and 2): known recall, precision and number of clusters.

use std::collections::BTreeMap;
use std::path::Path;

use deltawatch::event::{Event, EventBuilder, Id, Op, Schema};
use deltawatch::feature::FeatureSet;
use deltawatch::testkit::{Batching, Harness, Plan};
use deltawatch::views::identity::links::Links;
use deltawatch::views::identity::{ClusterMeasure, Identity};

use crate::flows;

const SCHEMA: &str = r#"
name = "febrl"
field = [
  { name = "id", type = "int", role = "id" },
  { name = "time", type = "time", role = "time" },
  { name = "rec_id", type = "text", role = "entity" },
  { name = "given_name", type = "text" },
  { name = "surname", type = "text" },
  { name = "postcode", type = "text" },
  { name = "date_of_birth", type = "text" },
  { name = "soc_sec_id", type = "text" },
]
"#;

fn identity() -> Identity {
    Identity::of("rec_id")
        .strong("soc_sec_id", u32::MAX)
        .link("born_surname", &["date_of_birth", "surname"], u32::MAX, true)
        .link("born_given", &["date_of_birth", "given_name"], u32::MAX, true)
        .link("name_place", &["given_name", "surname", "postcode"], u32::MAX, true)
        .column(ClusterMeasure::Accounts)
}

/// Each record as an event, and each a second time when all are there.
fn events(name: &str, schema: &Schema) -> Option<Vec<Event>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/febrl").join(name);
    let Ok(mut reader) = csv::ReaderBuilder::new().trim(csv::Trim::All).from_path(&path) else {
        eprintln!("SKIPPED: {} is not there", path.display());
        return None;
    };
    let header = reader.headers().expect("a header").clone();
    let records: Vec<csv::StringRecord> = reader.records().collect::<Result<_, _>>().expect("records");
    let mut builder = EventBuilder::new(schema);
    let event = |(number, record): (usize, &csv::StringRecord)| {
        builder.set_int(schema.id_slot(), number as i64);
        builder.set_int(schema.time_slot(), number as i64);
        for (column, value) in header.iter().zip(record) {
            if let Some(slot) = schema.slot(column) {
                builder.set_text(slot, value);
            }
        }
        builder.finish(Id::from_int(number as u64), number as i64, schema.default_kind(), Op::Insert, schema)
    };
    Some(records.iter().chain(&records).enumerate().map(event).collect())
}

fn check(name: &str, recall: f64, precision: f64, clusters: f64) {
    let (dataflow, setup) = flows::of("febrl", SCHEMA, FeatureSet::new().family(identity()));
    let schema = setup.schema.clone();
    let Some(events) = events(name, &schema) else { return };
    let (first, second) = events.split_at(events.len() / 2);

    // Sizes through the engine: the clusters of all records, counted by what each contributes to its own.
    let harness = Harness::new(dataflow, setup).workers(2).unscored();
    let rows = harness.run(&Plan::of(&events, Batching::Random(1))).expect("it runs").final_rows();
    let counted: f64 = second.iter().map(|event| 1.0 / rows[&event.id][0]).sum();
    assert!((counted - clusters).abs() < 1e-6, "{name}: {counted} clusters");

    // Which records are together, from the same links.
    let plan = identity().resolve(&schema).expect("it fits the schema");
    let mut links: Links = Links::new(plan.rules.clone());
    links.advance(0, &mut usize::MAX.clone());
    let keys = first.iter().map(|event| plan.account_of(event, &schema).expect("a record id")).collect::<Vec<_>>();
    for (event, &account) in first.iter().zip(&keys) {
        let values = (0..plan.links.len()).filter_map(|at| Some((at as u8 + 1, plan.value_of(at, event, &schema)?)));
        links.see(account, &values.collect::<Vec<_>>(), event.time);
    }
    let slot = schema.slot("rec_id").expect("a field");
    let person =
        |event: &Event| event.text(slot).expect("a record id").split('-').nth(1).expect("rec-N-...").to_owned();
    let mut of_cluster: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    let mut of_person: BTreeMap<String, u64> = BTreeMap::new();
    let mut smallest: Vec<u32> = Vec::new();
    for (event, &account) in first.iter().zip(&keys) {
        let number = links.find_value(0, account);
        let cluster =
            number.and_then(|number| smallest.iter().copied().find(|&other| links.wide().connected(number, other)));
        let cluster = cluster.or(number).unwrap_or(u32::MAX - event.time as u32);
        if number == Some(cluster) {
            smallest.push(cluster);
        }
        of_cluster.entry(cluster).or_default().push(person(event));
        *of_person.entry(person(event)).or_default() += 1;
    }
    assert_eq!(of_cluster.len() as f64, clusters, "{name}");
    let pairs = |count: u64| count * (count - 1) / 2;
    let together: u64 = of_cluster.values().map(|members| pairs(members.len() as u64)).sum();
    let right: u64 = of_cluster
        .values()
        .map(|members| {
            let mut people: BTreeMap<&String, u64> = BTreeMap::new();
            members.iter().for_each(|person| *people.entry(person).or_default() += 1);
            people.into_values().map(pairs).sum::<u64>()
        })
        .sum();
    let wanted: u64 = of_person.into_values().map(pairs).sum();
    let round = |part: u64, whole: u64| (part as f64 / whole as f64 * 1000.0).round() / 1000.0;
    assert_eq!((round(right, wanted), round(right, together)), (recall, precision), "{name}");
}

#[test]
fn dataset_1() {
    check("dataset1.csv", 0.972, 1.0, 514.0);
}

#[test]
fn dataset_2() {
    check("dataset2.csv", 0.988, 0.999, 4_007.0);
}
