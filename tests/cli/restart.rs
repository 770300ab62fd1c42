//! A run that is killed at any moment, and started again, says what it would have said.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::live::Run;
use super::{done, path, read};

/// Lines without repetition: at least once is what is promised.
fn lines(file: &str) -> BTreeSet<String> {
    read(file).lines().map(str::to_owned).collect()
}

/// Kills a run of a dataflow again and again, on other numbers of workers each time, then compares with a replay of its journal,
/// which knows nothing of cuts.
fn killed(dataflow: &str, seed: u64) {
    let folder = tempfile::tempdir().expect("a folder");
    let (state, out, replayed) = (path(&folder, "state"), path(&folder, "out.jsonl"), path(&folder, "replayed.jsonl"));
    let input = ["--dataflow", dataflow, "--input", "generator", "--events", "9000", "--state", &state];
    let run = |workers: &str, every: &str| {
        let flags = ["run", "--pace", "6000", "--append", "--output", &out, "--workers", workers, "--cut-every", every];
        [&flags[..], &input].concat().into_iter().map(str::to_owned).collect::<Vec<_>>()
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
        // The last line may be torn: nobody was told that it is there.
        let whole = read(&out).rfind('\n').map_or(0, |end| end + 1);
        fs::OpenOptions::new().write(true).open(&out).and_then(|file| file.set_len(whole as u64)).expect("it is cut");
        cuts += fs::read_to_string(format!("{state}/MANIFEST")).map_or(0, |text| text.matches("epoch").count());
    }
    assert!(cuts > 0, "{dataflow}, seed {seed}: no cut was taken");
    done(&run("2", "0s").iter().map(String::as_str).collect::<Vec<_>>());
    done(&[&["replay", "--output", &replayed], &input[..]].concat());
    let (said, would_have_said) = (lines(&out), lines(&replayed));
    assert!(said.len() > 3000, "{dataflow}, seed {seed}: {} lines", said.len());
    let lost: Vec<_> = would_have_said.difference(&said).take(3).collect();
    let more: Vec<_> = said.difference(&would_have_said).take(3).collect();
    assert!(
        lost.is_empty() && more.is_empty(),
        "{dataflow}, seed {seed}, {} lines against {}: lost {lost:#?}, more {more:#?}",
        said.len(),
        would_have_said.len()
    );
}

#[test]
fn payments_go_on_wherever_they_are_killed() {
    let seeds = if std::env::var_os("DELTAWATCH_FULL").is_some() { 30 } else { 2 };
    (1..=seeds).for_each(|seed| killed("payments", seed));
}
