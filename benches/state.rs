//! What `--state` costs, and how long a restart takes: through the binary, which generates its input.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

const EVENTS: f64 = 400_000.0;

/// What a run to its end took, and what it said.
struct Ran {
    cpu_s: f64,
    wall_s: f64,
    said: String,
}

impl Ran {
    /// A number behind a word in the last line that has it.
    fn after(&self, word: &str) -> f64 {
        let line = self.said.lines().rev().find_map(|line| line.split_once(word).map(|(_, rest)| rest));
        let number = line.and_then(|rest| rest.split([' ', ',']).find_map(|word| word.parse().ok()));
        number.unwrap_or(f64::NAN)
    }

    /// What the cuts cost that were taken while it went on, CPU seconds, how many they were, and what the one at its end cost.
    fn cuts(&self) -> (f64, usize, f64) {
        let of_line = |line: &str| line.split_once("cpu_ms=").and_then(|(_, rest)| rest.trim().parse::<f64>().ok());
        let mut cuts: Vec<f64> = self.said.lines().filter_map(of_line).map(|ms| ms / 1e3).collect();
        let last = cuts.pop().unwrap_or(0.0);
        (cuts.iter().sum(), cuts.len(), last)
    }
}

fn timed(arguments: &[&str]) -> Ran {
    let quoted: Vec<String> = arguments.iter().map(|argument| format!("'{argument}'")).collect();
    let script = format!("time -p {} {} --log info", env!("CARGO_BIN_EXE_deltawatch"), quoted.join(" "));
    let start = Instant::now();
    let output = Command::new("bash").args(["-c", &script]).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    let (output, wall_s) = (output.expect("bash runs"), start.elapsed().as_secs_f64());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{script}: {said}");
    let seconds = |name: &str| {
        let line = said.lines().rev().find_map(|line| line.strip_prefix(name));
        line.and_then(|seconds| seconds.trim().parse::<f64>().ok()).unwrap_or(f64::NAN)
    };
    Ran { cpu_s: seconds("user") + seconds("sys"), wall_s, said }
}

/// Bytes of the files below a folder.
fn bytes(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(
            |entry| {
                if entry.path().is_dir() { bytes(&entry.path()) } else { entry.metadata().map_or(0, |file| file.len()) }
            },
        )
        .sum()
}

/// `payments` with its model, on one worker: without state, with the journal, with cuts; what a restart takes; and what scores wait
/// while cuts are taken.
pub fn state(share: f64) {
    let events = ((EVENTS * share) as u64).max(2_000).to_string();
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    // Some days of events, so that there is something to be written.
    let input = ["run", "--input", "generator", "--rate", "0.5", "--output", "/dev/null"];
    let whole = [&input[..], &["--events", &events, "--pace", "max"]].concat();
    let count: f64 = events.parse().expect("a number");
    let (mut without, mut kept) = (f64::NAN, String::new());
    for (what, name, every) in
        [("without state", "", ""), ("journal alone", "journal", "0s"), ("journal, cuts every 5 s", "cuts", "5s")]
    {
        let directory = at(name).display().to_string();
        let state: &[&str] = if name.is_empty() { &[] } else { &["--state", &directory, "--cut-every", every] };
        let ran = timed(&[&whole[..], state].concat());
        let (cuts_s, cuts, last_s) = ran.cuts();
        // The cut at the end of a run is taken once, whatever the run was.
        let us = (ran.cpu_s - last_s) * 1e6 / count;
        without = if name.is_empty() { us } else { without };
        let (journal, on_disk) = (bytes(&at(name).join("journal")), bytes(&at(name).join("cuts")));
        let written = if name.is_empty() { 0.0 } else { journal as f64 / count };
        println!(
            "payments, {what:<24} {us:>7.2} us/event CPU   {:.2} x   target 1.1 x   {:.1} s wall, journal {written:.0} bytes/event; {cuts} cuts \
             in it took {cuts_s:.2} s CPU, the one at its end {last_s:.2} s; {:.1} MB of cuts",
            us / without,
            ran.wall_s,
            on_disk as f64 / 1e6
        );
        if !name.is_empty() {
            let again = timed(&[&whole[..], state].concat());
            println!(
                "    restart to the end of what was recorded {:>6.2} s wall, {:.2} s CPU; {:.2} s per million events",
                again.wall_s,
                again.cpu_s,
                again.wall_s * 1e6 / count
            );
        }
        kept = directory;
    }
    // The same run goes on from its cut, 3,000 events per second.
    let more = (count as u64 + ((60_000.0 * share) as u64).max(500)).to_string();
    let mut alone = f64::NAN;
    for (what, every) in [("without cuts", "0s"), ("cuts as often as may be", "1s")] {
        let copy = at(&format!("paced-{every}")).display().to_string();
        assert!(Command::new("cp").args(["-r", &kept, &copy]).status().expect("cp").success());
        let state = ["--events", &more, "--pace", "3000", "--state", &copy, "--cut-every", every];
        let ran = timed(&[&input[..], &state].concat());
        let (p99, p999) = (ran.after("p99 "), ran.after("p99.9 "));
        alone = if every == "0s" { p999 } else { alone };
        println!(
            "    scores at 3,000 events per second, {what:<24} p99 {p99:.2} ms, p99.9 {p999:.2} ms   {:.1} x   target 2 x, {} cuts",
            p999 / alone,
            ran.cuts().1
        );
    }
}

/// Rows of cuts: five million of five words, as this build writes them, and plain.
pub fn codec(share: f64) {
    #[derive(serde::Serialize, serde::Deserialize)]
    struct Rows(#[serde(with = "deltawatch::operators::words")] Vec<u64>);
    let count = ((5e6 * share) as u64).max(1_000);
    let words: Vec<u64> = (0..5 * count).map(|word| word.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
    let timed = |what: &str, write: &dyn Fn() -> Vec<u8>, read: &dyn Fn(&[u8]) -> usize| {
        let (start, bytes) = (Instant::now(), write());
        let (written, start) = (start.elapsed(), Instant::now());
        assert_eq!(read(&bytes), words.len());
        let read = start.elapsed();
        let ns = |took: std::time::Duration| took.as_nanos() as f64 / count as f64;
        println!(
            "{what:<44} {:>6.1} ns per row written, {:>6.1} ns read; {:.0} MB",
            ns(written),
            ns(read),
            bytes.len() as f64 / 1e6
        );
    };
    let plain = |bytes: &[u8]| bincode::deserialize::<Vec<u64>>(bytes).expect("it is read").len();
    timed("rows of five words, bincode (reference)", &|| bincode::serialize(&words).expect("it is written"), &plain);
    let rows = Rows(words.clone());
    let name = if cfg!(feature = "abomonation") { "abomonation, verified" } else { "bincode with its tag" };
    timed(&format!("the same, {name}"), &|| bincode::serialize(&rows).expect("it is written"), &|bytes| {
        bincode::deserialize::<Rows>(bytes).expect("it is read").0.len()
    });
}
