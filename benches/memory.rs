//! Memory of the whole engine with full windows: what the process holds, beside what the engine says of itself.
//!
//! Each workload runs in a process of its own, or memory that an earlier one has freed would hide what it takes. Inputs are made
//! as they are taken, so that the process grows by the engine alone; at the end the allocator gives back what is free.

// The allocator is asked through its C interface.
#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::process::Command;
use std::sync::Arc;

use timely::worker::Worker;

use crate::drive::{EngineSettings, Feed, Input, Metrics, engine, setup, unread};
use crate::pack::{Payments, encoder, scorer};
use crate::workloads::one_by_one;

/// What DESIGN.md allows per retained event and key kind, bytes.
const TARGET_BYTES: f64 = 200.0;
/// The longest windows of all three.
const WINDOW_MS: i64 = 30 * 86_400_000;
/// Events that may be in the longest window and the horizon at once.
const RETAINED_MAX: usize = 1 << 20;

/// Starts a process for each workload, which prints its lines.
pub fn memory(share: f64) {
    let this = std::env::current_exe().expect("this program has a path");
    for name in ["handbook", "spend_profile", "payments"] {
        let ended = Command::new(&this).args(["--memory-of", name, &share.to_string()]).status();
        assert!(ended.expect("it starts").success(), "memory of {name} was not measured");
    }
}

/// Measures a workload, in a process of its own.
pub fn of(name: &str, share: f64) {
    let dataflow = crate::dataflow(name);
    let key_kinds = {
        let setup = setup(dataflow);
        let features = dataflow.features(&setup).expect("a shipped dataflow has features");
        features.plans(&setup.schema).expect("a shipped pack fits its schema").len()
    };
    let name = name.to_owned();
    timely::execute_directly(move |worker| {
        if name == "payments" {
            let payments = Payments::new(share);
            let deployments = Some(scorer("payments", payments.columns()).into());
            let settings = EngineSettings { deployments, ..EngineSettings::default() };
            return measure(worker, &name, key_kinds, settings, payments.before());
        }
        let schema = setup(crate::dataflow(&name)).schema;
        let Some(events) = one_by_one(&schema, share) else { return };
        measure(worker, &name, key_kinds, EngineSettings::default(), unread(events));
    });
}

fn measure(
    worker: &mut Worker,
    name: &str,
    key_kinds: usize,
    settings: EngineSettings,
    inputs: impl Iterator<Item = Input> + 'static,
) {
    let (dataflow, metrics) = (crate::dataflow(name), Arc::<Metrics>::default());
    let columns = dataflow.features(&setup(dataflow)).expect("a shipped dataflow has features").columns();
    let with_model = settings.deployments.is_some();
    let encoder = with_model.then(|| encoder(&columns));
    let scored = Box::new(move |diffs: Option<(u64, Vec<_>)>| {
        for diff in diffs.iter().flat_map(|(_, diffs)| diffs) {
            std::hint::black_box(encoder.as_ref().map(|encoder| encoder.encode(diff)));
        }
        true
    });
    let features = (!with_model).then(|| Box::new(|_: Option<(u64, Vec<_>)>| true) as _);
    let engine = engine(worker, dataflow, &settings, &metrics, Some(scored), features);
    // Times of the events that are retained; touched here, so that the process does not grow by them.
    let mut times = VecDeque::from(vec![1; RETAINED_MAX]);
    times.clear();
    let times = std::rc::Rc::new(std::cell::RefCell::new(times));
    let (noted, late_ms) = (times.clone(), settings.late_ms);
    let inputs = inputs.inspect(move |(event, _)| {
        let mut times = noted.borrow_mut();
        times.push_back(event.time);
        while times.front().is_some_and(|&time| time <= event.time - WINDOW_MS - late_ms) {
            times.pop_front();
        }
    });
    let mut feed = Feed::new(engine, &settings, inputs);
    let before = resident_bytes();
    feed.at_full_speed(worker, usize::MAX);
    feed.drain(worker);
    let peak = resident_bytes();
    // SAFETY: it may be called at any time.
    unsafe { libmimalloc_sys::mi_collect(true) };
    let held = resident_bytes();
    // At its end it says once more what it has.
    feed.finish(worker);
    let (events, entries) = (times.borrow().len(), metrics.retained_entries.get());
    let grown = held.saturating_sub(before) as f64;
    let per = |bytes: f64, count: f64| bytes / count.max(1.0);
    println!(
        "memory, {name:<14} {:>8.1} MB ({:.1} before free memory went back): {:.0} bytes per retained event ({events}), {:.0} per \
         event and key kind ({entries} by {key_kinds} kinds of keys)   target {TARGET_BYTES}",
        grown / 1e6,
        peak.saturating_sub(before) as f64 / 1e6,
        per(grown, events as f64),
        per(grown, entries as f64)
    );
    let gauges = [
        ("velocity", metrics.retained_bytes.get()),
        ("events by id (their places alone)", metrics.event_table_bytes.get()),
        ("assessments", metrics.assessment_table_bytes.get()),
        ("look-ups kept", metrics.kept_bytes.get()),
        ("identity", metrics.identity_bytes.get()),
        ("patterns", metrics.pattern_bytes.get()),
    ];
    let sum: u64 = gauges.iter().map(|(_, bytes)| bytes).sum();
    let parts = gauges.iter().filter(|(_, bytes)| *bytes > 0);
    let parts: Vec<String> = parts.map(|(what, bytes)| format!("{what} {:.1} MB", *bytes as f64 / 1e6)).collect();
    println!(
        "    its own gauges {:>8.1} MB, {:.0} per event and key kind: {}; {} events by id",
        sum as f64 / 1e6,
        per(sum as f64, entries as f64),
        parts.join(", "),
        metrics.retained_events.get()
    );
}

/// Memory of this process that is in place, as Linux counts it.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("this needs Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line of resident memory");
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().expect("a number");
    kib << 10
}
