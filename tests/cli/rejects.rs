//! Rejects: what they carry, and that they can be sent again.

use std::fs;

use serde_json::Value;

use super::{done, output, path, read};

fn lines(file: &str) -> Vec<Value> {
    read(file).lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

fn payment(id: &str, time: i64) -> String {
    format!(r#"{{ "id": "{id}", "kind":"payment",  "time":{time},"card":"c1","amount":"1.50"}}"#)
}

const NOW: i64 = 1_700_000_000_000;

/// A file with rejects of many kinds, at known lines, and what they are.
fn bad_file(folder: &tempfile::TempDir) -> (String, Vec<(u64, &'static str, String)>) {
    let late = payment("late", NOW - 7_200_000);
    let label = format!(r#"{{"id":"l-1","kind":"label","time":{NOW},"target":"nobody","fraud":true}}"#);
    let all = [
        payment("a", NOW),
        String::new(),
        "no json at all".to_owned(),
        payment("b", NOW + 1_000),
        late.clone(),
        label.clone(),
        r#"{"kind":"payment","time":1700000000000}"#.to_owned(),
        // Event time goes on far enough that the label is given up, and the late one is late.
        payment("c", NOW + 100 * 86_400_000),
        payment("d", NOW + 200 * 86_400_000),
        late.replace("late", "later"),
    ];
    let file = path(folder, "events.jsonl");
    fs::write(&file, all.join("\n") + "\n").expect("a file");
    let expected = vec![
        (3, "malformed", "no json at all".to_owned()),
        (5, "too_late", late.clone()),
        (6, "orphan_label", label),
        (7, "missing_field", all[6].clone()),
        (10, "too_late", all[9].clone()),
    ];
    (file, expected)
}

#[test]
fn every_reject_carries_its_record_as_it_was_and_where_it_stood() {
    let folder = tempfile::tempdir().expect("a folder");
    let (file, expected) = bad_file(&folder);
    for command in ["replay", "run"] {
        let rejects = path(&folder, &format!("{command}.jsonl"));
        let flags = [command, "--input", &file, "--output", "/dev/null", "--rejects", &rejects, "--epoch-records", "1"];
        let summary = output(&[&flags[..], &["--json"]].concat());
        let summary: Value = serde_json::from_slice(&summary.stderr).expect("a summary");
        let mut found: Vec<(u64, String, String)> = lines(&rejects)
            .iter()
            .map(|reject| {
                assert_eq!(reject["file"], file.as_str(), "{reject}");
                let text =
                    |name: &str| reject[name].as_str().unwrap_or_else(|| panic!("no {name}: {reject}")).to_owned();
                (reject["line"].as_u64().expect("a line"), text("reason"), text("raw"))
            })
            .collect();
        found.sort();
        let expected = expected.iter().map(|(line, reason, raw)| (*line, (*reason).to_owned(), raw.clone()));
        let expected: Vec<_> = if command == "replay" {
            expected.collect()
        } else {
            // Whether the first late one is late depends on how a run cuts epochs.
            found.retain(|(line, ..)| *line != 5);
            expected.filter(|(line, ..)| *line != 5).collect()
        };
        assert_eq!(found, expected, "{command}");
        let counted = summary["rejects"].as_u64().expect("a number");
        assert_eq!(counted, lines(&rejects).len() as u64, "{summary}");
    }
}

#[test]
fn csv_rejects_have_the_line_of_the_file_and_a_cut_one_its_true_length() {
    let folder = tempfile::tempdir().expect("a folder");
    let (file, rejects) = (path(&folder, "events.csv"), path(&folder, "rejects.jsonl"));
    let long = "x".repeat(5_000);
    let text = format!(
        "id,kind,time,card,amount\na,payment,{NOW},c,1.5\n\n\"q\nr\",payment,{NOW},c,oops\nb,payment,soon,c,1\nc,payment,{NOW},{long},1\n"
    );
    fs::write(&file, text).expect("a file");
    let flags = ["replay", "--input", &file, "--output", "/dev/null", "--rejects", &rejects, "--record-bytes", "1000"];
    done(&flags);
    let lines = lines(&rejects);
    let shown: Vec<_> = lines.iter().map(|reject| (reject["line"].as_u64(), reject["raw"].as_str())).collect();
    let quoted = format!("\"q\nr\",payment,{NOW},c,oops");
    assert_eq!(shown[0], (Some(4), Some(&*quoted)));
    assert_eq!(shown[1], (Some(6), Some("b,payment,soon,c,1")));
    assert_eq!(shown[2].0, Some(7));
    let whole = format!("c,payment,{NOW},{long},1").len() as u64;
    assert_eq!((&lines[2]["reason"], lines[2]["raw_bytes"].as_u64()), (&"oversized".into(), Some(whole)));

    // Sent again under the file's own header; the one that was cut off is left out, and that is said.
    let again = path(&folder, "again.csv");
    let sent = output(&["rejects", "replay", "--input", &rejects, "--output", &again]);
    let said = String::from_utf8_lossy(&sent.stderr);
    assert!(sent.status.success() && said.contains("2 written") && said.contains("1 are cut off"), "{said}");
    assert_eq!(read(&again), format!("id,kind,time,card,amount\n{quoted}\nb,payment,soon,c,1\n"));
    done(&["rejects", "replay", "--input", &rejects, "--output", &again, "--append"]);
    assert_eq!(read(&again).matches("id,kind").count(), 1);
    fs::remove_file(&file).expect("it was there");
    let flags = ["rejects", "replay", "--input", &rejects, "--overwrite", "--output", &again];
    let refused = output(&flags);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--header"));
    done(&[&flags[..], &["--header", "id,kind,time,card,amount"]].concat());
}

#[test]
fn rejects_are_replayed_by_reason_byte_for_byte() {
    let folder = tempfile::tempdir().expect("a folder");
    let (file, expected) = bad_file(&folder);
    let rejects = path(&folder, "rejects.jsonl");
    let flags = ["replay", "--input", &file, "--output", "/dev/null", "--rejects", &rejects, "--epoch-records", "1"];
    done(&flags);
    let replay = |more: &[&str]| done(&[&["rejects", "replay", "--input", &rejects][..], more].concat());
    let of = |reasons: &[&str]| {
        let wanted = expected.iter().filter(|(_, reason, _)| reasons.contains(reason));
        let mut wanted: Vec<&str> = wanted.map(|(.., raw)| raw.as_str()).collect();
        wanted.sort_unstable();
        wanted.join("\n")
    };
    let sorted = |text: String| {
        let mut lines: Vec<&str> = text.lines().collect();
        lines.sort_unstable();
        lines.join("\n")
    };
    assert_eq!(sorted(replay(&[])), of(&["malformed", "too_late", "orphan_label", "missing_field"]));
    assert_eq!(sorted(replay(&["--reason", "too_late"])), of(&["too_late"]));
    assert_eq!(sorted(replay(&["--reason", "too_late,orphan_label"])), of(&["too_late", "orphan_label"]));
    // With the cause mended, what was too late is scored.
    let (again, scored) = (path(&folder, "again.jsonl"), path(&folder, "scored.jsonl"));
    replay(&["--reason", "too_late", "--output", &again]);
    done(&["replay", "--input", &again, "--output", &scored, "--horizon", "1000d"]);
    let ids: Vec<String> = lines(&scored).iter().map(|line| line["id"].as_str().expect("an id").to_owned()).collect();
    assert_eq!(ids, ["late", "later"]);

    for (flags, word) in [
        (&["--reason", "no_such"][..], "no such reason; there are malformed"),
        (&["--output", "x.csv"], "the records are JSON"),
    ] {
        let refused = output(&[&["rejects", "replay", "--input", &rejects][..], flags].concat());
        assert_eq!(refused.status.code(), Some(2));
        let error = String::from_utf8_lossy(&refused.stderr);
        assert!(error.contains(word), "{error}");
    }
    let none = output(&["rejects", "replay", "--input", &file, "--output", "-"]);
    assert_eq!(none.status.code(), Some(1), "{}", String::from_utf8_lossy(&none.stderr));
}

#[test]
fn generated_events_that_are_refused_are_written_as_records() {
    let folder = tempfile::tempdir().expect("a folder");
    let rejects = path(&folder, "rejects.jsonl");
    let flags = [
        "replay",
        "--events",
        "4000",
        "--epoch-records",
        "16",
        "--late-share",
        "0.3",
        "--late-max",
        "1d",
        "--horizon",
        "1s",
    ];
    done(&[&flags[..], &["--output", "/dev/null", "--rejects", &rejects]].concat());
    let late: Vec<Value> = lines(&rejects).into_iter().filter(|reject| reject["reason"] == "too_late").collect();
    assert!(late.len() > 50, "{} late", late.len());
    for reject in late {
        let record: Value = serde_json::from_str(reject["raw"].as_str().expect("a record")).expect("JSON");
        assert_eq!(record["id"], reject["id"]);
    }
}

#[test]
fn nothing_but_rejects_is_a_failure_that_says_why() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = path(&folder, "events.jsonl");
    let lines = ["no json", "nor this", r#"{"kind":"payment","time":1}"#, r#"{"id":"a","kind":"what","time":1}"#];
    fs::write(&file, lines.join("\n") + "\n").expect("a file");
    for command in ["replay", "run"] {
        let failed = output(&[command, "--input", &file, "--output", "-"]);
        let error = String::from_utf8_lossy(&failed.stderr);
        assert_eq!(failed.status.code(), Some(1), "{error}");
        let line = error.lines().find(|line| line.starts_with("error: ")).expect("an error");
        for word in ["all 4 records", "malformed (2): not a JSON object", "missing_field (1): ", "unknown_kind (1): "] {
            assert!(line.contains(word), "no '{word}': {line}");
        }
    }
    // One that is taken in makes it a run with rejects; nothing at all is no failure.
    fs::write(&file, format!("no json\n{}\n", payment("a", NOW))).expect("a file");
    done(&["replay", "--input", &file, "--output", "-"]);
    fs::write(&file, "").expect("a file");
    done(&["replay", "--input", &file, "--output", "-"]);
}

#[test]
fn the_summary_counts_what_records_were() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = path(&folder, "events.jsonl");
    let first = payment("a", NOW);
    let lines = [
        first.clone(),
        first.clone(),
        first.replace("1.50", "2.50"),
        payment("b", NOW + 1).replace(r#""card":"c1""#, r#""card":"c1","card":"c2","colour":"red","shape":"round""#),
        payment("c", NOW + 2),
    ];
    fs::write(&file, lines.join("\n") + "\n").expect("a file");
    let summary = |command: &str| {
        let ended = output(&[command, "--input", &file, "--output", "/dev/null", "--json"]);
        serde_json::from_slice::<Value>(&ended.stderr).expect("a summary")
    };
    let replay = summary("replay");
    for (name, count) in [("duplicates", 1), ("corrections", 1), ("unknown_fields", 2), ("duplicate_keys", 1)] {
        assert_eq!(replay[name], count, "{name} of {replay}");
    }
    let decisions = replay["decisions"].as_object().expect("decisions");
    assert_eq!(decisions.keys().map(String::as_str).collect::<Vec<_>>(), ["allow", "block", "challenge", "review"]);
    assert_eq!(decisions.values().filter_map(Value::as_u64).sum::<u64>(), replay["scored"].as_u64().expect("a number"));
    // How long a replay takes says nothing of how long anyone waits.
    assert!(replay.get("latency_p99_ms").is_none(), "{replay}");
    assert!(summary("run")["latency_p99_ms"].is_number());
}
