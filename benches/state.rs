//! What `--state` costs, and how long a restart takes: through the binary, which generates its input.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

const EVENTS: f64 = 400_000.0;

/// CPU and wall seconds of a run to its end.
fn timed(arguments: &[&str]) -> (f64, f64) {
    let quoted: Vec<String> = arguments.iter().map(|argument| format!("'{argument}'")).collect();
    let script = format!("time -p {} {}", env!("CARGO_BIN_EXE_deltawatch"), quoted.join(" "));
    let start = Instant::now();
    let output = Command::new("bash").args(["-c", &script]).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    let (output, wall) = (output.expect("bash runs"), start.elapsed().as_secs_f64());
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {text}");
    let seconds = |name: &str| {
        let line = text.lines().rev().find_map(|line| line.strip_prefix(name));
        line.and_then(|seconds| seconds.trim().parse::<f64>().ok()).unwrap_or(f64::NAN)
    };
    (seconds("user") + seconds("sys"), wall)
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

/// `payments` with its model, on one worker: without state, with the journal, with cuts; then what a restart takes.
pub fn state(share: f64) {
    let events = ((EVENTS * share) as u64).max(2_000).to_string();
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let input = ["run", "--input", "generator", "--events", &events, "--pace", "max", "--output", "/dev/null"];
    // Some days of events, so that there is something to be written.
    let input = [&input[..], &["--rate", "0.5"]].concat();
    let count: f64 = events.parse().expect("a number");
    let (mut without, mut first) = (f64::NAN, 0.0);
    for (what, name, every) in
        [("without state", "", ""), ("journal alone", "journal", "0s"), ("journal, a cut every 5 s", "cuts", "5s")]
    {
        let directory = at(name).display().to_string();
        let state: &[&str] = if name.is_empty() { &[] } else { &["--state", &directory, "--cut-every", every] };
        let (cpu, wall) = timed(&[&input[..], state].concat());
        let us = cpu * 1e6 / count;
        without = if name.is_empty() { us } else { without };
        let (journal, cuts) = (bytes(&at(name).join("journal")), bytes(&at(name).join("cuts")));
        let written = if name.is_empty() { 0.0 } else { journal as f64 / count };
        println!(
            "payments, {what:<26} {us:>7.2} us/event CPU   {:.2} x   target 1.1 x   {wall:.1} s wall, journal {written:.0} bytes/event, cuts {:.1} MB",
            us / without,
            cuts as f64 / 1e6
        );
        if !name.is_empty() {
            first = if first == 0.0 { wall } else { first };
            let (cpu, wall) = timed(&[&input[..], state].concat());
            println!(
                "    restart to the end of what was recorded {wall:>6.2} s wall, {cpu:.2} s CPU; {:.2} s per million events",
                wall * 1e6 / count
            );
        }
    }
}
