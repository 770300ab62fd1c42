//! The state directory: one run at a time, under the terms that it was written under, over the records that it was written
//! over, and unchanged.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::cluster::hosts;
use super::live::{Run, health};
use super::{deltawatch, done, output, path, read};

/// The longest that a refusal may take: what is missing may still come, for some seconds.
const IN_TIME: Duration = Duration::from_secs(20);

/// Runs it; it must fail with one line that has these words.
fn fails(arguments: &[&str], words: &[&str]) {
    let begin = Instant::now();
    let output = output(arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(begin.elapsed() < IN_TIME, "{arguments:?} took {:?}", begin.elapsed());
    assert!(matches!(output.status.code(), Some(1 | 2)), "{arguments:?}: {:?} {error}", output.status);
    let line = error.lines().find(|line| line.starts_with("error: ")).unwrap_or_else(|| panic!("no error in {error}"));
    words.iter().for_each(|word| assert!(line.contains(word), "{arguments:?} does not say '{word}': {line}"));
}

/// The segments of a journal, in order.
fn segments(state: &str) -> Vec<PathBuf> {
    let folder = fs::read_dir(format!("{state}/journal")).expect("a journal");
    let mut segments: Vec<PathBuf> = folder.map(|entry| entry.expect("an entry").path()).collect();
    segments.sort();
    segments
}

/// Events in a file, scored once with a state directory.
struct Scored {
    folder: tempfile::TempDir,
    events: String,
    state: String,
}

impl Scored {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (events, state) = (path(&folder, "events.jsonl"), path(&folder, "state"));
        done(&["generate", "--events", "3000", "--output", &events]);
        let scored = Scored { folder, events, state };
        done(&scored.run(&[]));
        scored
    }

    fn run<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        // Without cuts all that was recorded is read again.
        let run =
            ["run", "--input", &self.events, "--state", &self.state, "--output", "/dev/null", "--cut-every", "0s"];
        [&run[..], more].concat()
    }

    /// The segments of the journal, in order.
    fn segments(&self) -> Vec<PathBuf> {
        segments(&self.state)
    }
}

#[test]
fn a_second_run_is_refused_and_destroys_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let (state, out) = (path(&folder, "state"), path(&folder, "out.jsonl"));
    let flags = ["run", "--metrics", "0", "--state", &state, "--output", &out, "--overwrite"];
    let (first, address) = Run::start(&flags).with_page();
    let deadline = Instant::now() + IN_TIME;
    while health(&address, "/health").1["acknowledged"].as_u64().is_none_or(|lines| lines == 0) {
        assert!(Instant::now() < deadline, "nothing is scored");
    }
    fails(&flags, &["--state", "another run uses it"]);
    assert!(!read(&out).is_empty(), "the refused run emptied the output of the first");
    first.signal("-TERM");
    assert_eq!(first.end().0.code(), Some(0));
    // It is free again.
    done(&["run", "--events", "5", "--state", &state, "--output", "/dev/null"]);
}

#[test]
fn a_log_goes_on_under_its_own_terms_only() {
    let scored = Scored::new();
    let schema = path(&scored.folder, "schema.toml");
    let shipped = read(concat!(env!("CARGO_MANIFEST_DIR"), "/dataflows/payments.toml"));
    let changed = format!("{shipped}\n[[field]]\nname = \"extra\"\ntype = \"text\"\n");
    fs::write(&schema, changed).expect("a file");
    let out = path(&scored.folder, "kept.jsonl");
    fs::write(&out, "kept\n").expect("a file");
    let kept = ["--output", &out, "--overwrite"];
    let table: &[(&[&str], &[&str])] = &[
        (&["--epoch-records", "512"], &["--epoch-records is `512`", "`1024`"]),
        (&["--dataflow", "hello"], &["--dataflow is `hello`", "`payments`"]),
        (&["--schema", &schema], &["the schema"]),
        (&["--model", "none"], &["--model is `none`", "payments@"]),
        (&["--horizon", "2h"], &["--horizon"]),
    ];
    for (flags, words) in table {
        let run = ["run", "--input", &scored.events, "--state", &scored.state];
        fails(&[&run[..], &kept, flags].concat(), &[words, &["/journal/", "--state"][..]].concat());
    }
    fails(&["run", "--events", "5", "--state", &scored.state, "--output", "/dev/null"], &["--input is `generator"]);
    assert_eq!(read(&out), "kept\n", "a refused run emptied an output");
    done(&scored.run(&["--schema", "dataflows/payments.toml"]));
    // The same version of the model, but other thresholds in it.
    let models = path(&scored.folder, "models");
    let copy = ["-r", concat!(env!("CARGO_MANIFEST_DIR"), "/models"), &models];
    assert!(std::process::Command::new("cp").args(copy).status().expect("cp").success());
    done(&scored.run(&["--models", &models]));
    let manifest = format!("{models}/payments/2/model.toml");
    let text = read(&manifest);
    let review = text.lines().find(|line| line.trim_start().starts_with("review")).expect("a threshold");
    fs::write(&manifest, text.replace(review, "review = 0.015625")).expect("a file");
    fails(&scored.run(&["--models", &models]), &["the files of the model"]);
    // A replay repeats the journal of a run, and adds nothing to it.
    let before = scored.segments();
    done(&["replay", "--input", &scored.events, "--state", &scored.state, "--output", "/dev/null"]);
    assert_eq!(scored.segments(), before);
}

/// Two partitions that overlap in time, a reference, a state directory.
struct Parts {
    folder: TempDir,
    inputs: [String; 2],
    reference: String,
    /// The reference as a flag has it.
    named: String,
    state: String,
}

impl Parts {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (all, state) = (path(&folder, "all.jsonl"), path(&folder, "state"));
        done(&["generate", "--events", "3000", "--output", &all]);
        let (mut inputs, mut merchants) = ([String::new(), String::new()], std::collections::BTreeSet::new());
        for (number, line) in read(all).lines().enumerate() {
            inputs[number % 2] += &format!("{line}\n");
            let event: serde_json::Value = serde_json::from_str(line).expect("an object");
            merchants.extend(event["merchant"].as_str().map(str::to_owned));
        }
        let row =
            |(number, merchant)| format!("{{\"merchant\":\"{merchant}\",\"risk\":0.{},\"tier\":\"b\"}}\n", number % 10);
        let rows: Vec<String> = (0..).zip(&merchants).map(row).collect();
        let reference = path(&folder, "merchants.jsonl");
        fs::write(&reference, rows.concat()).expect("a file");
        let inputs = [0, 1].map(|part| {
            let file = path(&folder, &format!("part-{part}.jsonl"));
            fs::write(&file, &inputs[part]).expect("a file");
            file
        });
        Parts { folder, inputs, named: format!("merchants={reference}"), reference, state }
    }

    fn flags<'a>(&'a self, command: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        let [one, other] = &self.inputs;
        let flags = [command, "--input", one, "--input", other, "--reference", &self.named, "--overwrite"];
        [&flags[..], more].concat()
    }

    /// Scores on so many workers; the lines, sorted, as workers write them in any order.
    fn lines(&self, command: &str, workers: &str, state: bool) -> Vec<String> {
        let out = path(&self.folder, "out.jsonl");
        let state = if state { vec!["--state", &self.state] } else { Vec::new() };
        done(&self.flags(command, &[&["--workers", workers, "--output", &out][..], &state].concat()));
        sorted(&out)
    }

    /// The same as a cluster of two processes that share the directory.
    fn lines_of_two(&self) -> Vec<String> {
        let (hosts, out) = (hosts().join(","), path(&self.folder, "of.jsonl"));
        let start = |process| {
            let cluster = ["-n", "2", "-p", process, "--host", &hosts, "--output", &out, "--state", &self.state];
            let mut command = deltawatch(&self.flags("replay", &cluster));
            command
                .stdout(std::process::Stdio::piped())
                .stderr(std::process::Stdio::piped())
                .spawn()
                .expect("it starts")
        };
        for process in [start("0"), start("1")] {
            let ended = process.wait_with_output().expect("an end");
            assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        }
        sorted_all(&[0, 1].map(|process| path(&self.folder, &format!("of-{process}.jsonl"))))
    }

    /// What is in the state directory; locks are empty.
    fn logs(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let folders = [self.state.clone(), format!("{}/journal", self.state)];
        let entries = folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten();
        let files = entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_file());
        let logs = files.map(|file| (file.clone(), fs::read(&file).expect("a file")));
        let own = ["outputs-0.json", "identity", "MANIFEST"];
        logs.filter(|(path, content)| !content.is_empty() && !own.iter().any(|name| path.ends_with(name))).collect()
    }
}

fn sorted(file: &str) -> Vec<String> {
    sorted_all(&[file.to_owned()])
}

fn sorted_all(files: &[String]) -> Vec<String> {
    let mut lines: Vec<String> =
        files.iter().flat_map(|file| read(file).lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    lines.sort();
    lines
}

#[test]
fn a_replay_of_several_partitions_is_the_same_every_time_and_adds_nothing_to_a_state() {
    let parts = Parts::new();
    let wanted = parts.lines("replay", "1", false);
    assert!(wanted.len() > 1000, "{} lines", wanted.len());
    // No run has written here, so there is nothing to repeat, and nothing to hold a later run to.
    for workers in ["1", "1", "2"] {
        assert_eq!(parts.lines("replay", workers, true), wanted, "{workers} workers");
    }
    assert_eq!(parts.lines_of_two(), wanted);
    assert_eq!(parts.lines_of_two(), wanted);
    assert_eq!(parts.logs(), BTreeMap::new());
    done(&parts.flags("replay", &["--state", &parts.state, "--epoch-records", "512", "--output", "/dev/null"]));

    let ran = parts.lines("run", "2", true);
    let logs = parts.logs();
    assert_eq!(logs.len(), 2, "bindings and rows: {:?}", logs.keys());
    for workers in ["1", "2"] {
        assert_eq!(parts.lines("replay", workers, true), ran, "{workers} workers");
    }
    assert_eq!(parts.lines_of_two(), ran);
    // Rows that are new since are not what the run had.
    let rows = read(&parts.reference);
    fs::write(&parts.reference, rows.replace("\"risk\":0.", "\"risk\":0.9")).expect("a file");
    parts.lines("replay", "1", true);
    assert_eq!(parts.logs(), logs, "a replay wrote into the state of a run");
}

/// Epochs of a run that was up to date follow the clock; a replay of its log takes them as they were.
#[test]
fn a_replay_repeats_the_epochs_of_a_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let (state, ran, replayed) = (path(&folder, "state"), path(&folder, "ran.jsonl"), path(&folder, "replayed.jsonl"));
    done(&["run", "--events", "2500", "--pace", "2500", "--state", &state, "--output", &ran]);
    for workers in ["1", "2"] {
        let flags = ["replay", "--input", "generator", "--events", "2500", "--workers", workers, "--overwrite"];
        done(&[&flags[..], &["--state", &state, "--output", &replayed]].concat());
        assert_eq!(sorted(&replayed), sorted(&ran));
    }
    let revised = read(&ran).lines().filter(|line| line.contains("\"revision\":1,")).count();
    let epoch = |line: &str| serde_json::from_str::<serde_json::Value>(line).expect("an object")["epoch"].as_u64();
    let epochs: std::collections::BTreeSet<_> = read(&ran).lines().map(epoch).collect();
    assert!(revised > 20 && epochs.len() > 50, "{revised} revisions in {} epochs", epochs.len());
}

#[test]
fn a_journal_that_was_changed_is_refused() {
    let scored = Scored::new();
    done(&scored.run(&[]));
    let [first, last] = &scored.segments()[..] else { panic!("two runs, two segments") };
    let whole = fs::read(first).expect("a segment");
    let name = first.file_name().expect("a name").to_string_lossy().into_owned();
    for at in [0, 20, whole.len() / 2, whole.len() - 1] {
        let mut changed = whole.clone();
        changed[at] ^= 4;
        fs::write(first, changed).expect("it is changed");
        fails(&scored.run(&[]), &[&name, "is damaged at byte", "--state"]);
    }
    fs::write(first, &whole).expect("it is mended");
    // The end of the last one is gone, and something was written that came of it: nothing is made up for it.
    let end = fs::read(last).expect("a segment");
    fs::write(last, &end[..end.len() - 5]).expect("it is cut");
    fails(&scored.run(&[]), &["the journal ends before", "restore it"]);
    // Cut off by a crash before anything came of it, it is as if it had not been there.
    fs::remove_file(format!("{}/outputs-0.json", scored.state)).expect("it is there");
    done(&scored.run(&[]));
    done(&scored.run(&[]));
}

#[test]
fn of_a_damaged_cut_the_one_before_is_taken_and_without_one_it_is_refused() {
    let scored = Scored::new();
    let more = |number: usize| {
        let line = read(&scored.events)
            .lines()
            .next()
            .expect("a line")
            .replace("\"id\":\"", &format!("\"id\":\"new-{number}-"));
        fs::write(&scored.events, format!("{}{line}\n", read(&scored.events))).expect("a file");
        done(&["run", "--input", &scored.events, "--state", &scored.state, "--output", "/dev/null"]);
    };
    let run = ["run", "--input", &scored.events, "--state", &scored.state, "--output", "/dev/null"];
    let cuts = || {
        let cuts = fs::read_dir(format!("{}/cuts", scored.state)).expect("cuts");
        let mut cuts: Vec<PathBuf> = cuts.map(|entry| entry.expect("an entry").path().join("0000")).collect();
        cuts.sort();
        cuts
    };
    let damage = |path: &PathBuf| {
        let mut bytes = fs::read(path).expect("a cut");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 16;
        fs::write(path, bytes).expect("it is changed");
    };
    (0..3).for_each(more);
    assert_eq!(cuts().len(), 2, "the two newest are kept: {:?}", cuts());
    damage(&cuts()[1]);
    done(&run);
    // What was never finished is not trusted, and removed; one that is cut off or empty is as bad as a damaged one.
    let unfinished = PathBuf::from(&scored.state).join("cuts/00000000000000999999");
    fs::create_dir_all(&unfinished).expect("a folder");
    fs::write(unfinished.join("0000"), "half").expect("a file");
    done(&run);
    assert!(!unfinished.exists());
    for path in cuts() {
        let bytes = fs::read(&path).expect("a cut");
        fs::write(&path, &bytes[..bytes.len() - 1]).expect("it is cut");
    }
    fails(&run, &["/cuts/", "--state"]);
}

#[test]
fn a_file_that_is_another_one_is_refused() {
    let scored = Scored::new();
    let text = read(&scored.events);
    // Cut off: some of what was read is not there any more.
    let half: String = text.lines().take(1000).map(|line| format!("{line}\n")).collect();
    fs::write(&scored.events, half).expect("a file");
    fails(&scored.run(&[]), &["has 1000 records", "were read of it before"]);
    // The first record is gone.
    let rest: String = text.lines().skip(1).map(|line| format!("{line}\n")).collect();
    fs::write(&scored.events, rest).expect("a file");
    fails(&scored.run(&[]), &["--input is", "--state"]);
    // Longer than it was: it is read on.
    let more = text.lines().next().expect("a line").replace("\"id\":\"", "\"id\":\"new-");
    fs::write(&scored.events, format!("{text}{more}\n")).expect("a file");
    done(&scored.run(&[]));
}

#[test]
fn what_nothing_needs_is_dropped_on_demand_and_the_run_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let (state, out) = (path(&folder, "state"), path(&folder, "out.jsonl"));
    let run = |events: &str| {
        done(&["run", "--input", "generator", "--events", events, "--pace", "max", "--state", &state, "--output", &out])
    };
    for events in ["1000", "2000", "3000"] {
        run(events);
    }
    fs::create_dir(format!("{state}/cuts/{:020}", 77_777)).expect("a cut that was never finished");
    assert_eq!(segments(&state).len(), 3);
    // The journal is kept for features that are added later, unless one says otherwise.
    assert!(done(&["state", "compact", &state]).contains("dropped   0 segments"));
    assert!(done(&["state", "compact", &state, "--journal-keep", "0s"]).contains("dropped   1 segments"));
    // What the older of the two cuts ends with stays: a segment is dropped once event time has gone on behind it.
    assert_eq!(segments(&state).len(), 2);
    assert_eq!(fs::read_dir(format!("{state}/cuts")).expect("cuts").count(), 2);
    run("4000");
    let whole = path(&folder, "whole.jsonl");
    done(&["run", "--input", "generator", "--events", "4000", "--pace", "max", "--output", &whole]);
    let ids = |file: &str| {
        let id = |line: &str| serde_json::from_str::<serde_json::Value>(line).expect("JSON")["id"].to_string();
        read(file).lines().map(id).collect::<std::collections::BTreeSet<String>>()
    };
    assert_eq!(ids(&out), ids(&whole));
    let (busy, address) =
        Run::start(&["run", "--metrics", "0", "--state", &state, "--output", &out, "--input", "generator"]).with_page();
    fails(&["state", "compact", &state], &["another run uses it"]);
    // One that is stopped while it still repeats its journal has not done everything, and says so.
    let deadline = Instant::now() + IN_TIME;
    while health(&address, "/health").1["status"] != "ok" {
        assert!(Instant::now() < deadline, "it does not run");
        std::thread::sleep(Duration::from_millis(10));
    }
    busy.signal("-TERM");
    assert_eq!(busy.end().0.code(), Some(0));
}

#[test]
fn a_journal_is_whole_though_a_first_segment_was_never_begun() {
    let folder = tempfile::tempdir().expect("a folder");
    let (state, out) = (path(&folder, "state"), path(&folder, "out.jsonl"));
    let flags = |command, out, more: &[&str]| {
        let all = [command, "--input", "generator", "--events", "2000", "--state", &state, "--output", out];
        done(&[&all[..], more].concat())
    };
    // What a run leaves that is killed while it writes the beginning of its first segment.
    fs::create_dir_all(format!("{state}/journal")).expect("a journal");
    fs::write(format!("{state}/journal/{:020}-{:08}-{:04}", 0, 0, 0), [7, 0, 0]).expect("a segment");
    flags("run", &out, &["--pace", "max", "--cut-every", "0s"]);
    fails(&["state", "compact", &state], &["has no cut, so all of its journal is needed"]);
    assert_eq!(segments(&state).len(), 2);
    // It is empty now, and may go first.
    fs::remove_file(&segments(&state)[0]).expect("it goes");
    flags("run", &out, &["--pace", "max"]);
    let replayed = path(&folder, "replayed.jsonl");
    flags("replay", &replayed, &[]);
    assert!(read(&replayed) == read(&out) && !read(&out).is_empty());
    // Without the segment that has the beginning there is not all of it: the cut is what a replay goes on from.
    fs::remove_file(&segments(&state)[0]).expect("it goes");
    let rest = path(&folder, "rest.jsonl");
    flags("replay", &rest, &[]);
    assert!(read(&rest).lines().count() < read(&out).lines().count());
}
