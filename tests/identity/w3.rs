//! Workload W3 through the shipped dataflow, every row against a walk over the live links.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;

use deltawatch::dataflow::{Dataflow, Parameters, Setup};
use deltawatch::event::{Event, EventBuilder, Id, Op, Schema};
use deltawatch::testkit::{Batching, Harness, Plan};

#[path = "../../dataflows/identity_clusters.rs"]
mod identity_clusters;

const LIFE_S: i64 = 30 * 86_400;
const CAP: usize = 50;
/// tx_id, ts, account, device, ip, card.
type Row = [i64; 6];

fn rows(count: usize) -> Option<Vec<Row>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/workloads/ident.csv.gz");
    let Ok(file) = std::fs::File::open(&path) else {
        eprintln!("SKIPPED: {} is not there", path.display());
        return None;
    };
    let lines = BufReader::new(flate2::read::GzDecoder::new(file)).lines().take(count);
    let row = |line: std::io::Result<String>| {
        let line = line.expect("the file is whole");
        let mut numbers = line.split(',').map(|number| number.trim().parse().expect("a number"));
        std::array::from_fn(|_| numbers.next().expect("six columns"))
    };
    Some(lines.map(row).collect())
}

/// A value: column and number.
type Value = (usize, i64);

/// Accounts in the component of each row's account, by a walk over the links that are live and carry.
fn by_walking(rows: &[Row]) -> Vec<f64> {
    let mut last_seen: HashMap<(i64, Value), i64> = HashMap::new();
    let mut ends: HashMap<Value, HashSet<Value>> = HashMap::new();
    let mut due: VecDeque<(i64, (i64, Value))> = VecDeque::new();
    let mut sizes = Vec::new();
    for &[_, ts, account, device, ip, card] in rows {
        while let Some((seen, link)) = due.front().copied().filter(|(seen, _)| *seen <= ts - LIFE_S) {
            due.pop_front();
            if last_seen.get(&link) == Some(&seen) {
                last_seen.remove(&link);
                for (from, to) in [((2, link.0), link.1), (link.1, (2, link.0))] {
                    ends.get_mut(&from).expect("a live link").remove(&to);
                }
            }
        }
        for value in [(3, device), (4, ip), (5, card)] {
            last_seen.insert((account, value), ts);
            due.push_back((ts, (account, value)));
            ends.entry((2, account)).or_default().insert(value);
            ends.entry(value).or_default().insert((2, account));
        }
        let start = (2, account);
        let (mut seen, mut todo, mut accounts) = (HashSet::from([start]), vec![start], 0);
        while let Some(value) = todo.pop() {
            accounts += usize::from(value.0 == 2);
            let open = value.0 == 2 || ends[&value].len() <= CAP;
            todo.extend(ends[&value].iter().filter(|_| open).copied().filter(|next| seen.insert(*next)));
        }
        sizes.push(accounts as f64);
    }
    sizes
}

fn event(row: &Row, builder: &mut EventBuilder, schema: &Schema) -> Event {
    for (name, value) in ["tx_id", "ts", "account", "device", "ip", "card"].iter().zip(row) {
        let value = if *name == "ts" { value * 1000 } else { *value };
        builder.set_int(schema.slot(name).expect("a field"), value);
    }
    builder.finish(Id::from_int(row[0] as u64), row[1] * 1000, schema.default_kind(), Op::Insert, schema)
}

#[test]
fn every_row_of_the_workload() {
    let full = std::env::var_os("DELTAWATCH_FULL").is_some();
    let Some(rows) = rows(if full { usize::MAX } else { 50_000 }) else { return };
    let dataflow = Arc::new(identity_clusters::IdentityClusters);
    let schema = Arc::new(Schema::parse("identity_clusters", dataflow.schema()).expect("a valid schema"));
    let parameters = Parameters::resolve("identity_clusters", &dataflow.parameters(), &[]).expect("valid defaults");
    let mut builder = EventBuilder::new(&schema);
    let events: Vec<Event> = rows.iter().map(|row| event(row, &mut builder, &schema)).collect();
    let setup = Setup { schema, parameters };
    let expected = by_walking(&rows);
    for (workers, batching) in [(1, Batching::Fixed(128)), (2, Batching::Random(3))] {
        let harness = Harness::new(dataflow.clone(), setup.clone()).workers(workers).unscored();
        let outcome = harness.run(&Plan::of(&events, batching)).expect("it runs").final_rows();
        assert_eq!(outcome.len(), rows.len());
        for (row, expected) in rows.iter().zip(&expected) {
            assert_eq!(outcome[&Id::from_int(row[0] as u64)], [*expected], "{row:?}");
        }
    }
}
