//! `deltawatch verify` finds a run's output again, and any bit that was changed in it; `deltawatch state` says what is there.

use std::fs;

use super::{done, output, path, read};

struct Ran {
    folder: tempfile::TempDir,
    state: String,
    scores: String,
    rows: String,
}

impl Ran {
    /// A run on two workers, with late, corrected and withdrawn events.
    fn new(rows: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| path(&folder, name);
        let (state, scores, rows) = (at("state"), at("scores.jsonl"), at(rows));
        let events =
            ["--events", "4000", "--pace", "8000", "--workers", "2", "--late-share", "0.1", "--cut-every", "0s"];
        let out = ["--state", &state, "--output", &scores, "--features", &rows];
        done(&[&["run"], &events[..], &out].concat());
        Ran { folder, state, scores, rows }
    }

    fn verify<'a>(&'a self, rows: &'a str) -> Vec<&'a str> {
        let flags = ["verify", "--input", "generator", "--events", "4000", "--late-share", "0.1"];
        [&flags[..], &["--state", &self.state, "--output", &self.scores, "--features", rows]].concat()
    }
}

fn fails(arguments: &[&str], words: &[&str]) {
    let output = output(arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    let line = error.lines().find(|line| line.starts_with("error: ")).unwrap_or_else(|| panic!("no error in {error}"));
    words.iter().for_each(|word| assert!(line.contains(word), "no '{word}': {line}"));
}

#[test]
fn what_a_run_has_written_is_found_again_and_a_changed_bit_is_named() {
    for rows in ["rows.csv", "rows.jsonl"] {
        let ran = Ran::new(rows);
        let said = done(&ran.verify(&ran.rows));
        assert!(said.starts_with("equal") && said.contains("lines of --features"), "{said}");
        // One digit of one value of one row.
        let text = read(&ran.rows);
        let (before, rest) = text.split_at(text.len() / 2);
        let at = rest.find("0.").expect("a fraction") + 2;
        let digit = if &rest[at..=at] == "7" { "8" } else { "7" };
        let other = path(&ran.folder, &format!("other-{rows}"));
        fs::write(&other, format!("{before}{}{digit}{}", &rest[..at], &rest[at + 1..])).expect("a file");
        fails(&ran.verify(&other), &["--features: ", "revision", "but the journal gives"]);
        // One bit of a score.
        let text = read(&ran.scores);
        let at = text.len() / 2 + text[text.len() / 2..].find("\"score\":0.").expect("a score") + "\"score\":0.".len();
        let mut bytes = text.clone().into_bytes();
        bytes[at] ^= 1;
        fs::write(&ran.scores, bytes).expect("a file");
        fails(&ran.verify(&ran.rows), &["--output: ", "score is 0.", "but the journal gives 0."]);
        // A line that is missing, and one too many.
        let lines: Vec<&str> = text.lines().collect();
        let less = [&lines[..100], &lines[101..]].concat().join("\n") + "\n";
        fs::write(&ran.scores, less).expect("a file");
        fails(&ran.verify(&ran.rows), &["has not written what the journal gives"]);
        fs::write(&ran.scores, text.clone() + &lines[7].replace("\"id\":\"", "\"id\":\"never-")).expect("a file");
        done(&ran.verify(&ran.rows));
        fs::write(&ran.scores, text.clone() + &lines[7].replace("\"id\":\"", "\"id\":\"never-") + "\n")
            .expect("a file");
        fails(&ran.verify(&ran.rows), &["has written what the journal does not give", "never-"]);
    }
}

#[test]
fn a_state_says_what_it_holds_and_gives_its_records() {
    let ran = Ran::new("rows.csv");
    let shown = done(&["state", "show", &ran.state]);
    for word in ["journal", "segments", "epochs 0 to", "--dataflow `payments`"] {
        assert!(shown.contains(word), "no '{word}': {shown}");
    }
    let json: serde_json::Value = serde_json::from_str(&done(&["state", "check", "--json", &ran.state])).expect("JSON");
    assert_eq!(json["journal"][0]["records"].as_u64(), Some(4000));
    assert_eq!(done(&["state", "export", &ran.state]).lines().count(), 4000);
    fails(&["state", "export", "/nowhere"], &["has no journal"]);
    // Another dataflow over what the run has read.
    let input = format!("journal:{}", ran.state);
    let totals = done(&["replay", "--dataflow", "hello", "--input", &input, "--output", "-"]);
    let generated = ["replay", "--dataflow", "hello", "--events", "4000", "--late-share", "0.1", "--output", "-"];
    let mut wanted: Vec<String> =
        done(&[&generated[..], &["--input", "generator"]].concat()).lines().map(str::to_owned).collect();
    let mut totals: Vec<String> = totals.lines().map(str::to_owned).collect();
    totals.sort();
    wanted.sort();
    assert_eq!(totals, wanted);
}
