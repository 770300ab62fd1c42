//! What a reader sees in the end, beside what it should see.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use deltawatch::event::Payload;
use deltawatch::flow::Epoch;
use deltawatch::source::StartOffsets;
use deltawatch::source::kafka::KafkaConfig;
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
    // What was on its way to the broker when its sender was killed.
    std::thread::sleep(Duration::from_millis(300));
    let mut topics = vec![flags.output.clone()];
    if flags.delivery == "exactly-once" {
        topics.push(format!("{}-progress-0", flags.output));
    }
    let of_record = |line: String| serde_json::from_str::<Value>(&line).unwrap()["epoch"].as_u64();
    // The progress topic is made by the first run that comes so far.
    let there = topics.into_iter().filter(|topic| exists(config, topic));
    let in_topics = there.flat_map(|topic| lines(config, &topic).into_keys()).filter_map(of_record).max();
    let noted = fs::read_to_string(flags.state.join("outputs-0.json")).unwrap_or_default();
    let noted: Value = serde_json::from_str(&noted).unwrap_or_default();
    in_topics.max(noted["outputs"]["--output"]["acknowledged"]["epoch"].as_u64())
}

fn exists(config: &KafkaConfig, topic: &str) -> bool {
    use rdkafka::consumer::{BaseConsumer, Consumer};
    let consumer: BaseConsumer = config.consumer().create().unwrap();
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).unwrap();
    metadata.topics().iter().any(|found| found.name() == topic && !found.partitions().is_empty())
}

/// Replays what a run has read; the lines that it gives.
fn replay(flags: &Flags, state: bool, out: &Path) -> Vec<String> {
    let own = ["replay".to_owned(), "--output".to_owned(), out.display().to_string()];
    let mut arguments = [own.to_vec(), flags.common()].concat();
    if state {
        arguments.extend(["--state".to_owned(), flags.state.display().to_string()]);
    }
    let replayed = deltawatch(&arguments).output().unwrap();
    assert!(replayed.status.success(), "{}", String::from_utf8_lossy(&replayed.stderr));
    fs::read_to_string(out).unwrap().lines().map(str::to_owned).collect()
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
    let wanted: Vec<String> = replay(flags, true, &folder.join("repeated.jsonl")).into_iter().map(shown).collect();
    let undisturbed = replay(flags, false, &folder.join("undisturbed.jsonl"));
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
    let (live, still) = (consolidated(said.keys()), consolidated(undisturbed.iter()));
    let ids: BTreeSet<&String> = live.keys().chain(still.keys()).collect();
    let differ = ids.into_iter().filter(|id| live.get(*id) != still.get(*id));
    let differ = differ.map(|id| format!("{id}: {:?} and not {:?}", still.get(id), live.get(id))).collect();
    Compared {
        lines: wanted.len(),
        lost,
        doubled: counts.into_iter().filter(|(_, times)| *times > 1).map(|(key, _)| key).collect(),
        more: lacking.into_keys().collect(),
        differ,
    }
}
