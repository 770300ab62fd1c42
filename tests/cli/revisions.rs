//! What comes after the first record of an id: corrections, withdrawals, repeats, in scores, rejects and the feature log.

use std::fs;

use serde_json::Value;
use tempfile::TempDir;

use super::{done, output, path, read};

/// The handbook's transactions with operations; the id is an integer with a rank, or a text.
fn schema(folder: &TempDir, text_ids: bool) -> String {
    let handbook = read(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("dataflows/handbook.toml"));
    let more = "\n[[field]]\nname = \"op\"\ntype = \"text\"\nrole = \"op\"\n";
    let text = if text_ids {
        handbook.replacen("type = \"int\"", "type = \"text\"", 1) + more
    } else {
        handbook + more + "[[field]]\nname = \"seq\"\ntype = \"int\"\nrole = \"rank\"\n"
    };
    let file = path(folder, "schema.toml");
    fs::write(&file, text).expect("a file");
    file
}

/// Minutes after the start.
fn at(minute: i64) -> String {
    format!("2018-04-0{} {:02}:{:02}:00", 1 + minute / 1440, minute / 60 % 24, minute % 60)
}

struct Line {
    id: u64,
    minute: i64,
    customer: u64,
    cents: u64,
    more: &'static str,
}

fn line(id: u64, minute: i64, customer: u64, cents: u64, more: &'static str) -> Line {
    Line { id, minute, customer, cents, more }
}

struct Trial {
    folder: TempDir,
    text_ids: bool,
}

impl Trial {
    fn new(text_ids: bool, lines: &[Line]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        schema(&folder, text_ids);
        let written = |line: &Line| {
            let id = if text_ids { format!("\"t{}\"", line.id) } else { line.id.to_string() };
            let (time, amount) = (at(line.minute), format!("{}.{:02}", line.cents / 100, line.cents % 100));
            format!(
                "{{\"TRANSACTION_ID\":{id},\"TX_DATETIME\":\"{time}\",\"CUSTOMER_ID\":{},\"TERMINAL_ID\":1,\"TX_AMOUNT\":\
                 {amount},\"TX_FRAUD\":false{}}}\n",
                line.customer, line.more
            )
        };
        fs::write(path(&folder, "in.jsonl"), lines.iter().map(written).collect::<String>()).expect("a file");
        Trial { folder, text_ids }
    }

    /// Runs a command, an epoch per record; the summary.
    fn run(&self, command: &str, features: &str) -> Value {
        let file = |name: &str| path(&self.folder, name);
        let (input, schema, out) = (file("in.jsonl"), file("schema.toml"), file("out.jsonl"));
        let (rejects, features) = (file("rejects.jsonl"), file(features));
        for old in [&out, &rejects, &features] {
            // So that no other run's lines are read.
            let _ = fs::remove_file(old);
        }
        let flags = ["--input", &input, "--schema", &schema, "--output", &out, "--rejects", &rejects, "--json"];
        let more = ["--dataflow", "handbook", "--features", &features, "--epoch-records", "1"];
        let output = output(&[&[command], &flags[..], &more].concat());
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{error}");
        let summary = error.lines().rev().find(|line| line.starts_with('{')).expect("a summary");
        serde_json::from_str(summary).expect("the summary is JSON")
    }

    fn lines(&self, name: &str) -> Vec<Value> {
        let text = read(path(&self.folder, name));
        text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
    }

    /// (revision, diff, cause) of a transaction, in order.
    fn diffs(&self, id: u64) -> Vec<(i64, i64, String)> {
        let id = if self.text_ids { format!("t{id}") } else { id.to_string() };
        let mine = self.lines("out.jsonl").into_iter().filter(|line| line["id"] == id.as_str());
        let number = |line: &Value, name: &str| line[name].as_i64().expect("a number");
        let cause = |line: &Value| line["cause"].as_str().expect("a text").to_owned();
        mine.map(|line| (number(&line, "revision"), number(&line, "diff"), cause(&line))).collect()
    }
}

fn said(diffs: &[(i64, i64, &str)]) -> Vec<(i64, i64, String)> {
    diffs.iter().map(|&(revision, diff, cause)| (revision, diff, cause.to_owned())).collect()
}

#[test]
fn a_correction_may_change_the_rank() {
    for text_ids in [false, true] {
        // The corrected one leaves its place among those of its minute, and its amount changes the score.
        let (first, corrected) =
            if text_ids { ("", ",\"op\":\"correct\"") } else { (",\"seq\":5", ",\"seq\":9,\"op\":\"correct\"") };
        let gone = if text_ids { ",\"op\":\"withdraw\"" } else { ",\"seq\":2,\"op\":\"withdraw\"" };
        let trial = Trial::new(
            text_ids,
            &[
                line(1, 0, 1, 1_000, first),
                line(2, 0, 1, 2_000, ""),
                line(1, 0, 1, 95_000, corrected),
                line(1, 0, 1, 0, gone),
            ],
        );
        let wanted = said(&[
            (0, 1, "arrival"),
            (1, -1, "correction"),
            (1, 1, "correction"),
            (2, -1, "withdrawal"),
            (2, 0, "withdrawal"),
        ]);
        for command in ["replay", "run"] {
            let summary = trial.run(command, "features.jsonl");
            assert_eq!(trial.diffs(1), wanted, "{command}, text ids: {text_ids}");
            assert_eq!(summary["withdrawn"], 1);
        }
        // A tombstone in a file says what the other lines say, and that nothing holds any more.
        let lines = trial.lines("out.jsonl");
        let (first, last) = (&lines[0], lines.iter().find(|line| line["diff"] == 0).expect("a tombstone"));
        assert_eq!((&last["id"], &last["decision"]), (&first["id"], &first["decision"]));
        assert!(last["assessment"].is_null() && last["epoch"].is_u64() && last["event_time"].is_i64());
        assert!(first["decision"]["model"].as_str().is_some_and(|model| model.starts_with("handbook@")));
    }
}

#[test]
fn the_feature_log_of_a_run_marks_what_was_withdrawn() {
    for text_ids in [false, true] {
        let corrected = if text_ids { ",\"op\":\"correct\"" } else { ",\"seq\":9,\"op\":\"correct\"" };
        // The last one is withdrawn before it came: it never had a row.
        let lines = [
            line(1, 0, 1, 1_000, ""),
            line(2, 1, 2, 2_000, ""),
            line(1, 0, 1, 95_000, corrected),
            line(1, 0, 1, 0, ",\"op\":\"withdraw\""),
            line(3, 2, 1, 0, ",\"op\":\"withdraw\""),
        ];
        let trial = Trial::new(text_ids, &lines);
        let (one, two) = if text_ids { ("t1", "t2") } else { ("1", "2") };
        trial.run("run", "features.jsonl");
        let log = trial.lines("features.jsonl");
        let row = |line: &Value| {
            (line["id"].as_str().expect("an id").to_owned(), line["revision"].as_i64(), line["withdrawn"] == true)
        };
        let rows: Vec<_> = log.iter().map(row).collect();
        let wanted = |id: &str, revision, gone| (id.to_owned(), Some(revision), gone);
        assert_eq!(rows, [wanted(one, 0, false), wanted(two, 0, false), wanted(one, 1, false), wanted(one, 2, true)]);
        assert!(log[3].get("features").is_none() && log[2]["features"].is_object());

        trial.run("run", "features.csv");
        let text = read(path(&trial.folder, "features.csv"));
        let header: Vec<&str> = text.lines().next().expect("a header").split(',').take(3).collect();
        assert_eq!(header, ["TRANSACTION_ID", "revision", "withdrawn"]);
        let starts: Vec<String> =
            text.lines().skip(1).map(|line| line.split(',').take(3).collect::<Vec<_>>().join(",")).collect();
        assert_eq!(starts, [format!("{one},0,0"), format!("{two},0,0"), format!("{one},1,0"), format!("{one},2,1")]);
        assert!(
            text.lines().last().is_some_and(|line| line[format!("{one},2,1").len()..].chars().all(|one| one == ','))
        );

        // A replay writes what holds: the corrected transaction once, and not if it is withdrawn.
        trial.run("replay", "features.csv");
        let text = read(path(&trial.folder, "features.csv"));
        assert_eq!(text.lines().skip(1).map(|line| line.split(',').next()).collect::<Vec<_>>(), [Some(two)]);
        let trial = Trial::new(text_ids, &lines[..3]);
        trial.run("replay", "features.csv");
        let text = read(path(&trial.folder, "features.csv"));
        assert_eq!(text.lines().skip(1).map(|line| line.split(',').next()).collect::<Vec<_>>(), [Some(one), Some(two)]);
    }
}

#[test]
fn what_comes_after_a_withdrawal_is_a_reject_and_every_reject_is_counted() {
    let trial = Trial::new(
        true,
        &[
            line(1, 0, 1, 1_000, ""),
            line(1, 0, 1, 1_000, ",\"op\":\"withdraw\""),
            // What was withdrawn comes once more, then other content, as an insert and as a correction.
            line(1, 0, 1, 1_000, ""),
            line(1, 0, 1, 2_000, ""),
            line(1, 0, 1, 3_000, ",\"op\":\"correct\""),
            // A withdrawal that comes first keeps its event out; a repeat of that is a duplicate.
            line(2, 1, 1, 0, ",\"op\":\"withdraw\""),
            line(2, 1, 1, 1_000, ""),
            line(2, 1, 1, 1_000, ""),
            // An insert that its correction has overtaken.
            line(3, 2, 1, 1_000, ",\"op\":\"correct\""),
            line(3, 2, 1, 2_000, ""),
            // So far that the first ones are too late.
            line(4, 600, 1, 1_000, ""),
            line(5, 3, 1, 1_000, ""),
        ],
    );
    let summary = trial.run("replay", "features.csv");
    let rejects = trial.lines("rejects.jsonl");
    let of = |reason: &str| rejects.iter().filter(|reject| reject["reason"] == reason).count();
    assert_eq!((of("withdrawn"), of("too_late"), rejects.len()), (3, 1, 4), "{rejects:?}");
    assert!(rejects[0]["message"].as_str().is_some_and(|message| message.contains("withdrawn")), "{rejects:?}");
    assert_eq!(summary["rejects"], 4);
    assert_eq!(summary["rejects_by_reason"], serde_json::json!({"withdrawn": 3, "too_late": 1}));
    assert_eq!(summary["duplicates"], 2);
    assert_eq!(summary["stale"], 1);
    assert_eq!(trial.diffs(2), [], "an event whose withdrawal came first is not scored");
    assert_eq!(trial.diffs(3), said(&[(0, 1, "arrival")]));
}

#[test]
fn a_change_beyond_the_horizon_is_one_record_per_key_kind_and_counted() {
    // The first two rows of customer 1, and those of customer 2, are too old to be revised when the first is corrected: to
    // another amount, then to another customer.
    let lines = |corrected| {
        [
            line(1, 0, 1, 1_000, ""),
            line(2, 10, 1, 2_000, ""),
            line(3, 11, 2, 2_000, ""),
            line(4, 110, 3, 1_000, ""),
            corrected,
        ]
    };
    for workers in ["1", "2"] {
        for customer in [1, 2] {
            let trial = Trial::new(false, &lines(line(1, 0, customer, 5_000, ",\"seq\":3,\"op\":\"correct\"")));
            let file = |name: &str| path(&trial.folder, name);
            let (input, schema, out, rejects) =
                (file("in.jsonl"), file("schema.toml"), file("o.jsonl"), file("rejects.jsonl"));
            let flags = ["--dataflow", "handbook", "--epoch-records", "1", "--workers", workers, "--json"];
            let files = ["--input", &input, "--schema", &schema, "--output", &out, "--rejects", &rejects];
            let output = output(&[&["replay"], &flags[..], &files].concat());
            let error = String::from_utf8_lossy(&output.stderr);
            let summary: Value = serde_json::from_str(error.trim()).expect("a summary");
            let records = trial.lines("rejects.jsonl");
            assert_eq!(records.len(), 1, "customer {customer}, {workers} workers: {records:?}");
            assert_eq!(records[0]["reason"], "beyond_horizon");
            assert_eq!(summary["rejects_by_reason"], serde_json::json!({"beyond_horizon": 1}));
        }
    }
}

#[test]
fn what_a_dataflow_does_not_ask_for_is_counted_too() {
    // Nobody takes the rejects: they are counted all the same.
    let trial =
        Trial::new(true, &[line(1, 0, 1, 1, ""), line(1, 0, 1, 0, ",\"op\":\"withdraw\""), line(1, 0, 1, 5, "")]);
    let (input, schema) = (path(&trial.folder, "in.jsonl"), path(&trial.folder, "schema.toml"));
    let flags = ["--dataflow", "handbook", "--epoch-records", "1", "--json"];
    let output = output(&[&["replay", "--input", &input, "--schema", &schema], &flags[..]].concat());
    let summary: Value = serde_json::from_str(String::from_utf8_lossy(&output.stderr).trim()).expect("a summary");
    assert_eq!(summary["rejects_by_reason"], serde_json::json!({"withdrawn": 1}));
    assert!(done(&["replay", "--help"]).contains("--rejects"));
}

#[test]
fn a_restart_with_more_workers_repeats_every_revision() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str| path(&folder, name);
    // Few merchants and customers: late events touch more rows than an epoch corrects.
    let busy = ["--merchants", "8", "--customers", "100", "--late-share", "0.1", "--events", "2000", "--rate", "20"];
    done(&[&["generate", "--output", &file("in.jsonl")], &busy[..]].concat());
    // What a restart gives again it does not write again: the same epochs are seen in a replay of them.
    let run = |command: &str, workers: &str, out: &str| {
        let flags = ["--input", &file("in.jsonl"), "--state", &file("state"), "--output", &file(out)];
        let more = ["--repair-rows", "8", "--epoch-records", "4", "--workers", workers];
        done(&[&[command], &flags[..], &more].concat());
        let text = read(file(out));
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let first = run("run", "1", "first.jsonl");
    let revised = first.iter().filter(|line| !line.contains("\"revision\":0")).count();
    assert!(revised > 50, "{revised} lines are revisions");
    let again = run("replay", "2", "again.jsonl");
    let differs = first.iter().zip(&again).find(|(a, b)| a != b);
    assert!(differs.is_none() && first.len() == again.len(), "{} and {} lines: {differs:?}", first.len(), again.len());
}
