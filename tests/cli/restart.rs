//! A run that is killed at any moment, and started again, says what it would have said.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::cluster::hosts;
use super::live::Run;
use super::{done, path, read};

/// Lines, in an order of their own: workers write theirs as they come. Each is there once.
fn lines(file: &str) -> Vec<String> {
    let mut lines: Vec<String> = read(file).lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// Kills a run of a dataflow again and again, on other numbers of workers each time, then compares with a replay of its journal,
/// which knows nothing of cuts.
fn killed(dataflow: &str, seed: u64) {
    let folder = tempfile::tempdir().expect("a folder");
    let (state, out, replayed) = (path(&folder, "state"), path(&folder, "out.jsonl"), path(&folder, "replayed.jsonl"));
    let rows = path(&folder, "rows.csv");
    let input = ["--dataflow", dataflow, "--input", "generator", "--events", "9000", "--state", &state];
    let run = |workers: &str, every: &str| {
        let flags = ["run", "--pace", "6000", "--output", &out, "--features", &rows];
        let more = ["--workers", workers, "--cut-every", every];
        [&flags[..], &more, &input].concat().into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut cuts = 0;
    for _ in 0..5 {
        let workers = ["1", "2", "4"][random.random_range(0..3)];
        let flags = run(workers, "100ms");
        let run = Run::start(&flags.iter().map(String::as_str).collect::<Vec<_>>());
        std::thread::sleep(Duration::from_millis(random.random_range(150..900)));
        run.signal("-KILL");
        drop(run.end());
        cuts += fs::read_to_string(format!("{state}/MANIFEST")).map_or(0, |text| text.matches("epoch").count());
    }
    assert!(cuts > 0, "{dataflow}, seed {seed}: no cut was taken");
    done(&run("2", "0s").iter().map(String::as_str).collect::<Vec<_>>());
    done(&[&["replay", "--output", &replayed], &input[..]].concat());
    let (said, would_have_said) = (lines(&out), lines(&replayed));
    assert!(said.len() > 3000, "{dataflow}, seed {seed}: {} lines", said.len());
    let lacks = |one: &[String], other: &[String]| {
        one.iter().filter(|line| other.binary_search(line).is_err()).take(3).cloned().collect::<Vec<_>>()
    };
    let (lost, more) = (lacks(&would_have_said, &said), lacks(&said, &would_have_said));
    let twice: Vec<&String> = said.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| &pair[0]).take(3).collect();
    assert!(
        said == would_have_said,
        "{dataflow}, seed {seed}, {} lines against {}: lost {lost:#?}, more {more:#?}, twice {twice:#?}",
        said.len(),
        would_have_said.len()
    );
    let verified = ["verify", "--output", &out, "--features", &rows];
    assert!(done(&[&verified[..], &input].concat()).starts_with("equal"));
}

#[test]
fn payments_go_on_wherever_they_are_killed() {
    let seeds = if std::env::var_os("DELTAWATCH_FULL").is_some() { 30 } else { 2 };
    (1..=seeds).for_each(|seed| killed("payments", seed));
}

/// From one process to two and back, each killed; what is said twice must be the same.
#[test]
fn a_stream_goes_on_with_another_number_of_processes() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| path(&folder, name);
    let (state, out) = (at("state"), at("out.jsonl"));
    let input = ["--input", "generator", "--events", "9000", "--state", &state];
    let run = ["run", "--pace", "5000", "--output", &out, "--append", "--cut-every", "100ms"];
    let kill = |runs: Vec<Run>| {
        std::thread::sleep(Duration::from_millis(900));
        runs.iter().for_each(|run| run.signal("-KILL"));
        runs.into_iter().for_each(|run| drop(run.end()));
    };
    kill(vec![Run::start(&[&run[..], &input, &["--workers", "2"]].concat())]);
    for _ in 0..2 {
        let hosts = hosts().join(",");
        let start = |process| Run::start(&[&run[..], &input, &["-n", "2", "-p", process, "--host", &hosts]].concat());
        kill(vec![start("0"), start("1")]);
    }
    kill(vec![Run::start(&[&run[..], &input, &["--workers", "4"]].concat())]);
    done(&[&run[..], &input].concat());
    done(&[&["replay", "--output", &at("replayed.jsonl")], &input[..]].concat());
    let mut said: Vec<String> = Vec::new();
    for name in ["out.jsonl", "out-0.jsonl", "out-1.jsonl"] {
        // A line that a kill cut off was written again, elsewhere.
        said.extend(lines(&at(name)).into_iter().filter(|line| line.ends_with('}')));
    }
    said.sort();
    said.dedup();
    let would_have_said = lines(&at("replayed.jsonl"));
    assert!(would_have_said.len() > 4000);
    let more: Vec<_> = said.iter().filter(|line| would_have_said.binary_search(line).is_err()).take(3).collect();
    let lost: Vec<_> = would_have_said.iter().filter(|line| said.binary_search(line).is_err()).take(3).collect();
    assert!(lost.is_empty() && more.is_empty(), "lost {lost:#?}, more {more:#?}");
}

/// A run that stands by goes on within seconds when the other one is killed: nothing is lost, nothing said twice.
#[test]
fn a_standby_takes_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| path(&folder, name);
    let (state, out) = (at("state"), at("out.jsonl"));
    let input = ["--input", "generator", "--events", "9000", "--state", &state];
    let flags = ["run", "--pace", "4000", "--cut-every", "200ms", "--output", &out, "--standby"];
    let first = Run::start(&[&flags[..], &input].concat());
    std::thread::sleep(Duration::from_millis(400));
    let second = Run::start(&[&flags[..], &input].concat());
    let third = Run::start(&[&flags[..], &input].concat());
    std::thread::sleep(Duration::from_millis(800));
    assert!(!lines(&out).is_empty(), "the first run has said nothing");
    third.signal("-TERM");
    assert_eq!(third.end().0.code(), Some(0), "one that stands by is stopped at once");
    first.signal("-KILL");
    drop(first.end());
    let (status, _, said) = second.end();
    assert_eq!(status.code(), Some(0), "{said}");
    done(&[&["replay", "--output", &at("replayed.jsonl")], &input[..]].concat());
    assert_eq!(lines(&out), lines(&at("replayed.jsonl")));
}

/// From copies of what one kill has left, on other numbers of workers; and each once more, killed right after its start.
#[test]
fn restarts_from_one_cut_all_say_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| path(&folder, name);
    let (state, out) = (at("state"), at("out.jsonl"));
    let input = ["run", "--input", "generator", "--events", "6000"];
    let first = [&input[..], &["--pace", "4000", "--state", &state, "--output", &out, "--cut-every", "200ms"]].concat();
    let run = Run::start(&first);
    std::thread::sleep(Duration::from_millis(1_200));
    run.signal("-KILL");
    drop(run.end());
    assert!(fs::exists(format!("{state}/MANIFEST")).expect("a folder"), "no cut was taken");
    let copy = |from: &str, to: &str| {
        drop(fs::remove_dir_all(to));
        assert!(std::process::Command::new("cp").args(["-r", from, to]).status().expect("cp").success());
    };
    let (kept_state, kept_out) = (at("kept"), at("kept.jsonl"));
    copy(&state, &kept_state);
    fs::copy(&out, &kept_out).expect("a copy");
    // All but one that the kill may have cut off.
    let kept_text = read(&kept_out);
    let kept_lines: Vec<&str> = kept_text.rsplit_once('\n').map_or("", |(whole, _)| whole).lines().collect();
    assert!(kept_lines.len() > 500, "{} lines before the kill", kept_lines.len());
    let restarts = if std::env::var_os("DELTAWATCH_FULL").is_some() { 30 } else { 5 };
    for number in 0..restarts {
        copy(&kept_state, &state);
        fs::copy(&kept_out, &out).expect("a copy");
        let workers = ["1", "2", "4"][number % 3];
        let again = ["--state", &state, "--output", &out, "--cut-every", "100ms", "--workers", workers];
        if number % 2 == 1 {
            let run = Run::start(&[&input[..], &again].concat());
            std::thread::sleep(Duration::from_millis(100 + 37 * number as u64 % 800));
            run.signal("-KILL");
            drop(run.end());
        }
        done(&[&input[..], &again].concat());
        // What comes behind what was recorded is cut into epochs of its own, and what is looked up on arrival sees them: compared are
        // the lines that were there, and the whole with what the journal says.
        let now = lines(&out);
        let lost = kept_lines.iter().find(|line| now.binary_search(&(**line).to_owned()).is_err());
        assert!(lost.is_none(), "restart {number}: {lost:?}");
        let verified = ["verify", "--state", &state, "--output", &out];
        let said = done(&[&verified[..], &input[1..]].concat());
        assert!(said.starts_with("equal"), "restart {number}: {said}");
        let keys = |line: &String| {
            let value: serde_json::Value = serde_json::from_str(line).expect("JSON");
            (value["id"].to_string(), value["revision"].as_i64(), value["diff"].as_i64())
        };
        assert_eq!(
            now.iter().map(keys).collect::<BTreeSet<_>>().len(),
            now.len(),
            "restart {number}: a diff is there twice"
        );
    }
}
