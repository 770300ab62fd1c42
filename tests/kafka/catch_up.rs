//! A run that catches up with a topic of four partitions says what a replay of the topic says, through the binary.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;
use std::time::Instant;

use serde_json::Value;

use super::pipeline::{SCORED_WITHIN, deltawatch, finish, interrupt};
use super::*;

/// What was said of each transaction when it came, and what holds of it in the end.
#[derive(Default)]
struct Said {
    decisions: BTreeMap<String, Value>,
    assessments: BTreeMap<String, Value>,
}

fn said(lines: &str) -> Said {
    let mut said = Said::default();
    // A line that is still being written is cut off.
    for line in lines.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
        let mut diff: Value = serde_json::from_str(line).unwrap();
        let id = diff["id"].as_str().unwrap().to_owned();
        if diff["revision"] == 0 {
            said.decisions.insert(id.clone(), diff["decision"].take());
        }
        match diff["diff"] == 1 {
            true => said.assessments.insert(id, diff["assessment"].take()),
            false => said.assessments.remove(&id),
        };
    }
    said
}

#[test]
fn a_run_from_the_earliest_offset_says_what_a_replay_says() {
    let Some(address) = brokers() else { return };
    let events = if std::env::var_os("DELTAWATCH_FULL").is_some() { "200000" } else { "8000" };
    let input = format!("kafka:{}", topic(&address, 4));
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let truth = path("truth.jsonl");
    finish(&[
        "generate",
        "--seed",
        "9",
        "--events",
        events,
        "--truth",
        &truth,
        "--output",
        &input,
        "--brokers",
        &address,
    ]);

    let common = ["--dataflow", "payments", "--input", &input, "--brokers", &address, "--rejects", "/dev/null"];
    finish(&[&["replay", "--output", &path("replay.jsonl")][..], &common].concat());
    let replay = said(&std::fs::read_to_string(path("replay.jsonl")).unwrap());
    assert!(replay.decisions.len() > 2_000, "{} transactions", replay.decisions.len());

    for workers in ["1", "2"] {
        let output = path(&format!("run-{workers}.jsonl"));
        let run = ["run", "--from", "earliest", "--output", &output, "--workers", workers];
        let mut run = deltawatch(&[&run[..], &common].concat());
        let mut run = run.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let begin = Instant::now();
        let read = || std::fs::read_to_string(&output).map(|lines| said(&lines)).unwrap_or_default();
        while read().decisions.len() < replay.decisions.len() {
            assert!(run.try_wait().unwrap().is_none(), "it goes on until it is stopped");
            assert!(begin.elapsed() < SCORED_WITHIN, "{} of {}", read().decisions.len(), replay.decisions.len());
            std::thread::sleep(Duration::from_millis(200));
        }
        let ended = interrupt(run);
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        let live = read();
        let differ = |a: &BTreeMap<String, Value>, b: &BTreeMap<String, Value>| -> BTreeSet<String> {
            a.keys().chain(b.keys()).filter(|id| a.get(*id) != b.get(*id)).cloned().collect()
        };
        let decisions = differ(&live.decisions, &replay.decisions);
        assert!(decisions.is_empty(), "{workers} workers: decisions of {decisions:?} differ");
        let assessments = differ(&live.assessments, &replay.assessments);
        assert!(assessments.is_empty(), "{workers} workers: assessments of {assessments:?} differ");
    }
}
