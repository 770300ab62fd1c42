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

const DAY_MS: i64 = 86_400_000;
/// When generated events begin.
const START_MS: i64 = 1_711_929_600_000;
/// From then on all is kept that ever will be: links of identity are for 90 days.
const FULL_DAYS: i64 = 100;

/// What a run holds at some moment.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    events: u64,
    memory_bytes: u64,
}

fn most(of: &[Held]) -> u64 {
    of.iter().map(|held| held.memory_bytes).max().unwrap_or_default()
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
    let (mut held, mut full_cut) = (vec![Held::default()], None);
    while held.last().is_some_and(|held| held.events < events) {
        let seen = health(&address, "/health").1["events"].as_u64().expect("a number");
        held.push(Held { events: seen, memory_bytes: memory(run.id()) });
        if full_cut.is_none() && seen > events / 3 {
            full_cut = newest_cut(&state).filter(|cut| cut.days >= FULL_DAYS);
        }
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
    let [second, third, last] = [second, third, last].map(|quarter| most(&quarter));
    eprintln!("memory: at most {second} bytes in the second quarter, {third} in the third, {last} in the last");
    assert!(last <= third + third / 4 + MEMORY_SLACK_BYTES, "memory grows: {third} bytes, then {last}");
    let (full, end) = (full_cut.expect("a cut while it ran"), newest_cut(&state).expect("a cut at the end"));
    eprintln!("cuts: {full:?}, {end:?}");
    assert!(end.days >= full.days + 30, "too few cuts to tell: {full:?}, {end:?}");
    assert!(end.bytes <= full.bytes + full.bytes / 4, "cuts grow: {full:?}, {end:?}");
    the_journal_is_what_is_kept(&state);
}

/// What a cut holds, and of which day of the run it is.
#[derive(Clone, Copy, Debug)]
struct Cut {
    days: i64,
    bytes: u64,
}

/// The newest cut; none if files go while it is looked at, or there is none yet.
fn newest_cut(state: &str) -> Option<Cut> {
    let shown = deltawatch(&["state", "show", "--json", state]).output().expect("the binary starts");
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).ok()?;
    let cut = shown["cuts"].get(0)?;
    let views = cut["bytes"].as_object().expect("bytes by view");
    let bytes = views.values().filter_map(serde_json::Value::as_u64).sum();
    Some(Cut { days: (cut["watermark_ms"].as_i64().expect("a number") - START_MS) / DAY_MS, bytes })
}

/// However late cuts come: what the older of the two covers is dropped as soon as it is old enough.
fn the_journal_is_what_is_kept(state: &str) {
    let shown = deltawatch(&["state", "show", "--json", state]).output().expect("the binary starts");
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).expect("one object");
    let first = &shown["journal"][0];
    let watermark_ms = |of: &serde_json::Value| of["watermark_ms"].as_i64().expect("a number");
    let kept_from_ms = watermark_ms(&shown["cuts"][1]) - JOURNAL_KEEP_DAYS * DAY_MS;
    eprintln!("the journal begins with {first}; it is kept from {kept_from_ms}");
    assert!(first["first_epoch"].as_u64() > Some(0), "nothing was dropped");
    assert!(watermark_ms(first) >= kept_from_ms, "it ends before {kept_from_ms}, and nothing needs it: {first}");
}
