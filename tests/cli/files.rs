//! Files in, files out: generate, replay, dataflow.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::{done, output, path, read};

const EVENTS: &str = "3000";

#[test]
fn the_same_seed_generates_the_same_bytes() {
    let folder = tempfile::tempdir().expect("a folder");
    let generate = |seed: &str, name: &str| {
        let (labels, truth) = (path(&folder, &format!("{name}.labels")), path(&folder, &format!("{name}.truth")));
        let flags = ["generate", "--seed", seed, "--events", EVENTS, "--labels", &labels, "--truth", &truth];
        (done(&flags), read(&labels), read(&truth))
    };
    let (first, again, other) = (generate("5", "a"), generate("5", "b"), generate("6", "c"));
    assert!(first == again, "the same seed gave other bytes");
    assert!(first.0 != other.0 && first.2 != other.2, "another seed gave the same");
    assert_eq!(first.0.lines().count(), 3000);
    let ids: BTreeSet<String> = first.0.lines().map(|line| text(line, "id")).collect();
    for line in first.2.lines() {
        assert!(ids.contains(&text(line, "id")), "truth of an event that is not there: {line}");
    }
    assert!(first.1.lines().all(|line| text(line, "target").starts_with("t-")) && !first.1.is_empty());
}

fn text(line: &str, field: &str) -> String {
    let value: Value = serde_json::from_str(line).expect("a line is JSON");
    value[field].as_str().unwrap_or_else(|| panic!("no {field} in {line}")).to_owned()
}

#[test]
fn a_replay_scores_each_payment_once_and_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str| path(&folder, name);
    let (events, scored, rejects, features) =
        (file("events.jsonl.gz"), file("scored.jsonl.zst"), file("rejects.jsonl"), file("features.csv"));
    done(&["generate", "--events", EVENTS, "--output", &events]);
    let extra = file("poison.jsonl");
    fs::write(&extra, "no json\n{\"id\":\"p-1\"}\n").expect("a file");
    let flags = ["--output", &scored, "--rejects", &rejects, "--features", &features, "--json"];
    let output = output(&[&["replay", "--input", &events, "--input", &extra][..], &flags].concat());
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    let summary: Value = serde_json::from_str(error.trim()).expect("the summary is one JSON object");

    let lines = zstd::decode_all(fs::File::open(&scored).expect("an output")).expect("zstd");
    let lines = String::from_utf8(lines).expect("text");
    let mut held: BTreeMap<String, i64> = BTreeMap::new();
    let (mut first, mut revised) = (0, 0);
    for line in lines.lines() {
        let value: Value = serde_json::from_str(line).expect("a line is JSON");
        if value["diff"] == 0 {
            continue;
        }
        *held.entry(text(line, "id")).or_default() += value["diff"].as_i64().expect("a diff");
        first += usize::from(value["diff"] == 1 && value["revision"] == 0);
        revised += usize::from(value["diff"] == 1 && value["revision"] != 0);
        assert!(value["assessment"]["score"].as_f64().is_some_and(|score| (0.0..=1.0).contains(&score)), "{line}");
    }
    assert!(held.values().all(|count| *count == 0 || *count == 1), "a transaction holds two assessments");
    let stand: BTreeSet<&String> = held.iter().filter(|(_, count)| **count == 1).map(|(id, _)| id).collect();
    let rows: Vec<String> =
        read(&features).lines().skip(1).map(|row| row[..row.find(',').unwrap_or(0)].into()).collect();
    assert_eq!(rows.iter().collect::<BTreeSet<_>>(), stand, "feature rows are of other transactions than scores");
    assert_eq!(rows.len(), stand.len(), "a transaction has two feature rows");
    assert_eq!(read(&rejects).lines().count(), 2);
    assert_eq!(summary["rejects"], 2);
    assert_eq!(summary["rejects_by_reason"]["malformed"], 1);
    assert_eq!((summary["scored"].as_u64(), summary["revised"].as_u64()), (Some(first as u64), Some(revised as u64)));
    assert_eq!(summary["outputs"], summary["acknowledged"]);
    assert!(summary["retained_bytes"].as_u64().is_some_and(|bytes| bytes > 0));
}

#[test]
fn a_replay_of_the_generator_is_a_replay_of_its_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let (events, totals) = (path(&folder, "events.jsonl"), path(&folder, "totals.jsonl"));
    done(&["generate", "--events", EVENTS, "--output", &events]);
    let hello = ["replay", "--dataflow", "hello", "--output", &totals, "--overwrite"];
    let held = |input: &[&str]| {
        done(&[&hello[..], input].concat());
        let mut held: BTreeMap<(String, String), i64> = BTreeMap::new();
        for line in read(&totals).lines() {
            let value: Value = serde_json::from_str(line).expect("a line is JSON");
            *held.entry((text(line, "key"), value["value"].to_string())).or_default() +=
                value["diff"].as_i64().expect("a diff");
        }
        held.retain(|_, count| *count != 0);
        held
    };
    let of_file = held(&["--input", &events]);
    assert!(of_file.len() > 100 && of_file.values().all(|count| *count == 1));
    assert_eq!(of_file, held(&["--input", "generator", "--events", EVENTS, "--workers", "2"]));
}

#[test]
fn dataflows_are_listed_described_and_drawn() {
    let list: Value = serde_json::from_str(&done(&["dataflow", "list", "--json"])).expect("JSON");
    let names: Vec<&str> = list.as_array().into_iter().flatten().filter_map(|one| one["name"].as_str()).collect();
    let shipped = [
        "card_testing",
        "drained_cards",
        "handbook",
        "hello",
        "identity_clusters",
        "merchant_risk",
        "payments",
        "payments_quality",
        "ring_exposure",
        "spend_profile",
    ];
    assert_eq!(names, shipped);
    let payments: Value = serde_json::from_str(&done(&["dataflow", "describe", "payments", "--json"])).expect("JSON");
    assert!(payments["columns"].as_array().is_some_and(|columns| columns.len() >= 240));
    assert!(payments["keys"].as_array().is_some_and(|keys| keys.len() == 15));
    let handbook = done(&["dataflow", "describe", "handbook"]);
    assert!(handbook.contains("TERMINAL_ID_RISK_30DAY_WINDOW"));
    let payments_text = done(&["dataflow", "describe", "payments"]);
    let spend_text = done(&["dataflow", "describe", "spend_profile"]);
    for word in [
        "to base 2 (bits)",
        "below this event's, strictly",
        "divided by the number of counted events that have one",
        "minor units)",
        "is a positive multiple of 10.00 (1000 minor units)",
        "an event without a field of the key has no features of it",
        "which ends the run and does not count",
        "labels count whenever they come, also those that become known after the event",
        "--forget (400d unless set)",
    ] {
        let said = [&payments_text, &spend_text, &handbook].iter().any(|text| text.contains(word));
        assert!(said, "no '{word}' in any description");
        let json = ["payments", "spend_profile"].map(|name| done(&["dataflow", "describe", name, "--json"]));
        assert!(json.iter().any(|text| text.contains(word)), "no '{word}' in the JSON");
    }
    let graph = done(&["dataflow", "graph", "payments"]);
    for operator in ["Retain", "Velocity", "Judge", "->"] {
        assert!(graph.contains(operator), "no {operator} in\n{graph}");
    }
    assert!(done(&["dataflow", "graph", "hello"]).contains("CountTotal"));
}

/// The list of dataflows is the folder's, sorted.
#[test]
fn the_list_of_dataflows_is_complete() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("dataflows");
    let mut files: Vec<String> = fs::read_dir(&folder)
        .expect("the folder")
        .filter_map(|entry| entry.expect("an entry").file_name().into_string().ok())
        .filter_map(|name| name.strip_suffix(".rs").map(str::to_owned))
        .filter(|name| name != "mod")
        .collect();
    files.sort();
    let list = read(folder.join("mod.rs"));
    let modules: Vec<&str> = list
        .lines()
        .filter_map(|line| line.trim_start_matches("pub ").strip_prefix("mod ")?.strip_suffix(';'))
        .collect();
    assert_eq!(modules, files);
    let listed = done(&["dataflow", "list"]);
    for file in files.iter().filter(|file| !file.ends_with("_pack")) {
        assert!(listed.lines().any(|line| line.split_whitespace().next() == Some(file)), "{file} is not listed");
    }
}

#[test]
fn a_new_dataflow_is_a_file_and_an_entry() {
    let folder = tempfile::tempdir().expect("a folder");
    let of_repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("dataflows/mod.rs");
    fs::copy(of_repository, folder.path().join("mod.rs")).expect("a copy");
    let dir = folder.path().to_str().expect("a path that is text");
    let said = done(&["dataflow", "new", "merchant_refunds", "--dir", dir]);
    assert!(said.contains("cargo run") && said.contains("merchant_refunds"), "{said}");
    let list = read(folder.path().join("mod.rs"));
    let lines: Vec<&str> = list.lines().map(str::trim).collect();
    let place =
        |line: &str| lines.iter().position(|one| *one == line).unwrap_or_else(|| panic!("no {line} in\n{list}"));
    assert_eq!(place("mod merchant_refunds;"), place("mod identity_clusters;") + 1);
    let entry = place("Arc::new(merchant_refunds::MerchantRefunds),");
    assert_eq!(entry, place("Arc::new(identity_clusters::IdentityClusters),") + 1);
    let file = read(folder.path().join("merchant_refunds.rs"));
    assert!(file.contains("pub struct MerchantRefunds;") && file.contains("\"merchant_refunds\""));
    assert!(!file.contains("Hello") && !file.contains("hello"), "the tutorial's name is left");

    for (name, word) in [("merchant_refunds", "already there"), ("match", "taken"), ("9lives", "lower case")] {
        let output = output(&["dataflow", "new", name, "--dir", dir]);
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&output.stderr).contains(word), "{name}");
    }
    assert_eq!(read(folder.path().join("mod.rs")), list, "a refused name changed the list");
}
