//! Many days of event time in one run: what is kept, on disk and in memory, is bounded by retention.
//!
//! Nine months, a few records an hour; `DELTAWATCH_FULL=1` for forty times as many records.

use std::fs;
use std::time::Duration;

use super::live::{Run, health};
use super::{deltawatch, path};

/// What an allocator may keep, and a cut that is on its way.
const MEMORY_SLACK_BYTES: u64 = 32 << 20;

/// How far behind the watermark the journal is kept.
const JOURNAL_KEEP_DAYS: i64 = 10;

/// What a run holds at some moment.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    events: u64,
    memory_bytes: u64,
    cuts_bytes: u64,
}

fn most(of: &[Held], what: fn(&Held) -> u64) -> u64 {
    of.iter().map(what).max().unwrap_or_default()
}

/// Bytes below a folder; files may go while it looks.
fn bytes(folder: &str) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(found) if found.is_dir() => bytes(&entry.path().to_string_lossy()),
        Ok(found) => found.len(),
        Err(_) => 0,
    };
    entries.map(size).sum()
}

/// Memory that is the process's own now.
fn memory(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or_default() << 10
}

#[test]
fn what_is_kept_over_many_days_is_bounded() {
    let folder = tempfile::tempdir().expect("a folder");
    let state = path(&folder, "state");
    let full = std::env::var_os("DELTAWATCH_FULL").is_some();
    let (events, rate, pace, customers) =
        if full { (1_000_000, "0.04", "3000", "30000") } else { (24_000, "0.001", "1600", "800") };
    // Links of identity are kept for 90 days, the longest windows and what is silent for 30.
    let flags = ["run", "--rate", rate, "--pace", pace, "--workers", "2"];
    let world =
        ["--customers", customers, "--merchants", "200", "--late-share", "0.05", "--late-max", "3h", "--horizon", "4h"];
    let mended = ["--correction-share", "0.02", "--withdrawal-share", "0.01", "--forget", "30d"];
    let journal_keep = format!("{JOURNAL_KEEP_DAYS}d");
    let kept = ["--state", &state, "--journal-keep", &journal_keep, "--cut-every", "200ms"];
    let out = ["--metrics", "0", "--output", "/dev/null", "--rejects", "/dev/null"];
    let (run, address) = Run::start(&[&flags[..], &world, &mended, &kept, &out].concat()).with_page();
    let mut held = vec![Held::default()];
    while held.last().is_some_and(|held| held.events < events) {
        let seen = health(&address, "/health").1["events"].as_u64().expect("a number");
        let cuts_bytes = bytes(&format!("{state}/cuts"));
        held.push(Held { events: seen, memory_bytes: memory(run.id()), cuts_bytes });
        std::thread::sleep(Duration::from_millis(50));
    }
    run.signal("-TERM");
    let (status, _, error) = run.end();
    assert!(status.success(), "{error}");
    let quarter = |number: u64| {
        let within = |held: &&Held| (events * (number - 1) / 4..=events * number / 4).contains(&held.events);
        held.iter().filter(within).copied().collect::<Vec<Held>>()
    };
    // From the third on all is kept that ever will be.
    let [second, third, last] = [2, 3, 4].map(quarter);
    assert!(second.len() > 5 && third.len() > 5 && last.len() > 5, "too few looks");
    let [memory, cuts] = [|held: &Held| held.memory_bytes, |held: &Held| held.cuts_bytes].map(|what| {
        let least = last.iter().map(what).min().unwrap_or_default();
        (most(&second, what), most(&third, what), least, most(&last, what))
    });
    eprintln!("bytes at most in the second quarter, in the third, at least and at most in the last");
    eprintln!("memory {memory:?}, cuts {cuts:?}");
    let (_, third, _, last) = memory;
    assert!(last <= third + third / 4 + MEMORY_SLACK_BYTES, "memory grows: {third} bytes, then {last}");
    // A disk holds more while a cut is written. But what only grew would never be less than it was.
    let (second, _, least, _) = cuts;
    assert!(
        least <= second,
        "cuts grow: {second} bytes at most in the second quarter, never less than {least} in the last"
    );
    the_journal_is_what_is_kept(&state);
}

/// However late cuts come: what the older of the two covers is dropped as soon as it is old enough.
fn the_journal_is_what_is_kept(state: &str) {
    let shown = deltawatch(&["state", "show", "--json", state]).output().expect("the binary starts");
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).expect("one object");
    let first = &shown["journal"][0];
    let watermark_ms = |of: &serde_json::Value| of["watermark_ms"].as_i64().expect("a number");
    let kept_from_ms = watermark_ms(&shown["cuts"][1]) - JOURNAL_KEEP_DAYS * 86_400_000;
    eprintln!("the journal begins with {first}; it is kept from {kept_from_ms}");
    assert!(first["first_epoch"].as_u64() > Some(0), "nothing was dropped");
    assert!(watermark_ms(first) >= kept_from_ms, "it ends before {kept_from_ms}, and nothing needs it: {first}");
}
