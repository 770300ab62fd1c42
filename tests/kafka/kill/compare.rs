//! What a reader sees in the end, beside what it should see.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use deltawatch::event::Payload;
use deltawatch::flow::Epoch;
use deltawatch::source::StartOffsets;
use deltawatch::source::kafka::KafkaConfig;
use rdkafka::producer::{BaseProducer, Producer};
use serde_json::Value;

use super::engine::{Flags, deltawatch};
use super::{PATIENCE, everything, read_all};

/// What was found.
#[derive(Debug, Default)]
pub struct Compared {
    /// Lines that should be there.
    pub lines: usize,
    /// Those that are not.
    pub lost: Vec<String>,
    /// Those that are there more than once, by (id, revision, diff).
    pub doubled: Vec<String>,
    /// Lines that should not be there.
    pub more: Vec<String>,
    /// Transactions that end otherwise than without any kill.
    pub differ: Vec<String>,
    /// Those for which other clusters were there when they came: that depends on the epochs that records were bound to.
    pub elsewhen: usize,
}

/// How often each line is in a topic. What ends an id is a record without content there.
fn lines(config: &KafkaConfig, topic: &str) -> BTreeMap<String, usize> {
    let mut lines = BTreeMap::new();
    for record in read_all(&everything(config, topic), 1, &StartOffsets::new()) {
        let line = match record.payload {
            Payload::Json(bytes) => String::from_utf8(bytes).unwrap(),
            Payload::Tombstone { key } => ended(&String::from_utf8(key).unwrap()),
            other => panic!("{other:?}"),
        };
        *lines.entry(line).or_default() += 1;
    }
    lines
}

/// How the end of an id is shown.
fn ended(id: &str) -> String {
    format!("{{\"id\":\"{id}\",\"diff\":0}}")
}

/// The last epoch that anything has come of: a record, or a word that says so.
pub fn reached(config: &KafkaConfig, flags: &Flags) -> Option<Epoch> {
    settle(config, flags);
    let mut topics = vec![flags.output.clone()];
    if flags.delivery == "exactly-once" {
        topics.push(format!("{}-progress-0", flags.output));
    }
    let of_record = |line: String| serde_json::from_str::<Value>(&line).unwrap()["epoch"].as_u64();
    // The progress topic is made by the first run that comes so far.
    let there = topics.into_iter().filter(|topic| exists(config, topic));
    let in_topics = there.flat_map(|topic| lines(config, &topic).into_keys()).filter_map(of_record).max();
    in_topics.max(noted(&flags.state))
}

/// The epoch that a run has noted as acknowledged.
fn noted(state: &Path) -> Option<Epoch> {
    let noted = parse(&fs::read_to_string(state.join("outputs-0.json")).ok()?);
    let outputs = noted["entry"]["outputs"].as_object().unwrap_or_else(|| panic!("says nothing of outputs: {noted}"));
    outputs.get("--output")?["acknowledged"]["epoch"].as_u64()
}

/// Waits until what was on its way to the broker when its sender was killed is there, or never will be.
fn settle(config: &KafkaConfig, flags: &Flags) {
    if flags.delivery == "exactly-once" {
        // Whoever takes over the id waits for a transaction that is being committed, and takes back one that is not.
        let mut settings = config.producer();
        settings.set("transactional.id", format!("deltawatch-{}-0", flags.output));
        settings.set("transaction.timeout.ms", "300000");
        let producer: BaseProducer = settings.create().unwrap();
        return producer.init_transactions(PATIENCE).unwrap();
    }
    let count = || lines(config, &flags.output).values().sum::<usize>();
    let (mut before, mut quiet) = (count(), 0);
    while quiet < 3 {
        std::thread::sleep(Duration::from_millis(200));
        let now = count();
        quiet = if now == before { quiet + 1 } else { 0 };
        before = now;
    }
}

fn exists(config: &KafkaConfig, topic: &str) -> bool {
    use rdkafka::consumer::{BaseConsumer, Consumer};
    let consumer: BaseConsumer = config.consumer().create().unwrap();
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).unwrap();
    metadata.topics().iter().any(|found| found.name() == topic && !found.partitions().is_empty())
}

/// What a replay says, and the rows that it ends with.
struct Replayed {
    lines: Vec<String>,
    columns: Vec<String>,
    rows: BTreeMap<String, String>,
}

/// Replays what a run has read: its journal, or the topic as if there had been no run.
fn replay(flags: &Flags, journal: bool, folder: &Path) -> Replayed {
    let name = if journal { "journal" } else { "topic" };
    let [lines, rows] = ["jsonl", "csv"].map(|ending| folder.join(format!("{name}.{ending}")));
    let own =
        ["replay", "--output", &lines.to_string_lossy(), "--features", &rows.to_string_lossy()].map(str::to_owned);
    let mut arguments = [own.to_vec(), flags.common()].concat();
    if journal {
        arguments.extend(["--state".to_owned(), flags.state.display().to_string()]);
    }
    let replayed = deltawatch(&arguments).output().unwrap();
    assert!(replayed.status.success(), "{}", String::from_utf8_lossy(&replayed.stderr));
    let (lines, rows) = (fs::read_to_string(lines).unwrap(), fs::read_to_string(rows).unwrap());
    let mut rows = rows.lines().map(|row| row.split_once(',').unwrap());
    let columns = rows.next().unwrap().1.split(',').map(str::to_owned).collect();
    let rows = rows.map(|(id, values)| (id.to_owned(), values.to_owned())).collect();
    Replayed { lines: lines.lines().map(str::to_owned).collect(), columns, rows }
}

/// Columns of clusters, which are as they were when a transaction came, and are never revised.
fn as_of_arrival(column: &str) -> bool {
    let degrees = ["device_accounts", "card_accounts", "ip_accounts", "account_devices", "account_cards"];
    column.starts_with("cluster_") || degrees.contains(&column)
}

fn parse(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))
}

/// What holds of each transaction in the end.
fn consolidated<'a>(lines: impl Iterator<Item = &'a String>) -> BTreeMap<String, BTreeMap<String, i64>> {
    let mut sums: BTreeMap<String, BTreeMap<String, i64>> = BTreeMap::new();
    for line in lines {
        let line = parse(line);
        let (id, diff) = (line["id"].as_str().unwrap(), line["diff"].as_i64().unwrap());
        let of_id = sums.entry(id.to_owned()).or_default();
        let sum = of_id.entry(line["assessment"].to_string()).or_default();
        *sum += diff;
        of_id.retain(|_, sum| *sum != 0);
    }
    sums.retain(|_, assessments| !assessments.is_empty());
    sums
}

/// Compares what is in the topic with a replay of the journal, line by line, and with a replay of the input as it ends.
pub fn with_undisturbed(config: &KafkaConfig, flags: &Flags, folder: &Path) -> Compared {
    let shown = |line: String| {
        let diff = parse(&line);
        if diff["diff"] == 0 { ended(diff["id"].as_str().unwrap()) } else { line }
    };
    let (repeated, undisturbed) = (replay(flags, true, folder), replay(flags, false, folder));
    let wanted: Vec<String> = repeated.lines.iter().cloned().map(shown).collect();
    // A broker that is busy shows what was committed a little later.
    let (begin, mut said) = (Instant::now(), lines(config, &flags.output));
    while wanted.iter().any(|line| !said.contains_key(line)) && begin.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(200));
        said = lines(config, &flags.output);
    }
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for (line, times) in &said {
        let line = parse(line);
        *counts.entry(format!("{} {} {}", line["id"], line["revision"], line["diff"])).or_default() += times;
    }
    let mut lacking = said.clone();
    let lost = wanted.iter().filter(|line| lacking.remove(*line).is_none()).cloned().collect();
    let (differ, elsewhen) = differences(said.keys(), &repeated, &undisturbed);
    Compared {
        lines: wanted.len(),
        lost,
        doubled: counts.into_iter().filter(|(_, times)| *times > 1).map(|(key, _)| key).collect(),
        more: lacking.into_keys().collect(),
        differ,
        elsewhen,
    }
}

/// Transactions that end otherwise than without any kill, and how many of those have a reason: other clusters when they came.
fn differences<'a>(
    said: impl Iterator<Item = &'a String>,
    repeated: &Replayed,
    undisturbed: &Replayed,
) -> (Vec<String>, usize) {
    let (live, still) = (consolidated(said), consolidated(undisturbed.lines.iter()));
    let ids: BTreeSet<&String> = live.keys().chain(still.keys()).collect();
    let (mut differ, mut elsewhen) = (Vec::new(), 0);
    for id in ids {
        let [row, other] = [repeated, undisturbed].map(|replayed| replayed.rows.get(id).map_or("", String::as_str));
        let values = repeated.columns.iter().zip(row.split(',').zip(other.split(',')));
        let unequal: Vec<&String> = values.filter(|(_, (one, other))| one != other).map(|(column, _)| column).collect();
        elsewhen += usize::from(!unequal.is_empty());
        let explained = !unequal.is_empty() && unequal.iter().all(|column| as_of_arrival(column));
        if !explained && (!unequal.is_empty() || row.is_empty() != other.is_empty() || live.get(id) != still.get(id)) {
            differ.push(format!("{id} in {unequal:?}: {:?} and not {:?}", still.get(id), live.get(id)));
        }
    }
    (differ, elsewhen)
}
