//! What is said on standard error about a run: a live line on a terminal, and the closing summary.

use std::io::{IsTerminal, Write, stderr};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::metrics::Metrics;

/// How often the line on a terminal is written again.
const ON_TERMINAL: Duration = Duration::from_millis(500);
/// How often a line is written to a file or a pipe.
const ELSEWHERE: Duration = Duration::from_secs(10);

/// Watches a run from its start to its end.
pub struct Progress {
    metrics: Arc<Metrics>,
    started: Instant,
    done: Sender<()>,
    thread: Option<JoinHandle<()>>,
}

impl Progress {
    /// Starts the live line.
    pub fn start(metrics: &Arc<Metrics>) -> Self {
        let (done, ended) = channel();
        let (started, terminal) = (Instant::now(), stderr().is_terminal());
        let every = if terminal { ON_TERMINAL } else { ELSEWHERE };
        let counted = metrics.clone();
        let show = move || {
            let (mut before, mut at) = (0, Instant::now());
            while ended.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                let events = counted.events.get();
                let rate = (events - before) as f64 / at.elapsed().as_secs_f64();
                (before, at) = (events, Instant::now());
                let line = line(&counted, rate);
                // The cursor goes back to the start, so that output on the same terminal writes over the line.
                let _ = match terminal {
                    true => write!(stderr(), "\r\x1b[K{line}\r"),
                    false => writeln!(stderr(), "{line}"),
                };
            }
            if terminal {
                let _ = write!(stderr(), "\r\x1b[K");
            }
        };
        // A run without a live line is still a run.
        let thread = thread::Builder::new().name("progress".into()).spawn(show).ok();
        Progress { metrics: metrics.clone(), started, done, thread }
    }

    /// Ends the live line and writes the summary; `files` are those that were written, by flag. The latencies of a run that
    /// is not `live` say how fast it read, not how long anyone waited: they are left out.
    pub fn finish(self, json: bool, files: &[(&str, String)], live: bool) {
        let Progress { metrics, started, done, thread } = self;
        drop(done);
        if let Some(thread) = thread {
            // It has no result.
            let _ = thread.join();
        }
        let mut summary = summary(&metrics, started.elapsed(), live);
        let files = files.iter().map(|(flag, path)| (flag.trim_start_matches('-').to_owned(), path.clone().into()));
        summary["files"] = serde_json::Value::Object(files.collect());
        let text = if json { summary.to_string() } else { told(&summary) };
        // Whoever does not read it has gone.
        let _ = writeln!(stderr(), "{text}");
    }
}

fn line(metrics: &Metrics, rate: f64) -> String {
    let ms = |share| metrics.latency.quantile_ns(share) as f64 / 1e6;
    format!(
        "events {} ({rate:.0}/s)  scored {}  revised {}  rejects {}  p50 {:.2} ms  p99 {:.2} ms  backlog {}  lag {}",
        metrics.events.get(),
        metrics.scored.get(),
        metrics.revised.get(),
        metrics.rejects.get(),
        ms(0.5),
        ms(0.99),
        metrics.backlog.get(),
        metrics.lag.get(),
    )
}

/// The closing summary. Latencies are from arrival to the acknowledged first assessment.
fn summary(metrics: &Metrics, elapsed: Duration, live: bool) -> serde_json::Value {
    let ms = |share| metrics.latency.quantile_ns(share) as f64 / 1e6;
    let events = metrics.events.get();
    let bytes = metrics.retained_bytes.get();
    let per = |count: u64| if count == 0 { 0.0 } else { (bytes as f64 / count as f64 * 10.0).round() / 10.0 };
    let rejects: serde_json::Map<_, _> = metrics
        .rejects
        .by_reason()
        .filter(|(_, count)| *count > 0)
        .map(|(reason, count)| (reason.to_owned(), count.into()))
        .collect();
    let decisions: serde_json::Map<_, _> =
        metrics.decisions.by_action().map(|(action, count)| (action.to_owned(), count.into())).collect();
    let rules: serde_json::Map<_, _> =
        metrics.rule_hits.by_rule().into_iter().map(|(rule, hits)| (rule, hits.into())).collect();
    let mut summary = json!({
        "seconds": (elapsed.as_secs_f64() * 1e3).round() / 1e3,
        "events": events,
        "events_per_s": (events as f64 / elapsed.as_secs_f64()).round(),
        "rejects": metrics.rejects.get(),
        "rejects_by_reason": rejects,
        "duplicates": metrics.duplicates.get(),
        "stale": metrics.stale.get(),
        "scored": metrics.scored.get(),
        "decisions": decisions,
        "rules": rules,
        "revised": metrics.revised.get(),
        "withdrawn": metrics.withdrawn.get(),
        "outputs": metrics.outputs.get(),
        "acknowledged": metrics.acknowledged.get(),
        "duplicates": metrics.duplicates.get(),
        "corrections": metrics.corrections.get(),
        "unknown_fields": metrics.unknown_fields.get(),
        "duplicate_keys": metrics.duplicate_keys.get(),
        "retained_events": metrics.retained_events.get(),
        "retained_entries": metrics.retained_entries.get(),
        "retained_bytes": bytes,
        "bytes_per_retained_entry": per(metrics.retained_entries.get()),
    });
    if live {
        for (name, share) in [("latency_p50_ms", 0.5), ("latency_p99_ms", 0.99), ("latency_p999_ms", 0.999)] {
            summary[name] = ms(share).into();
        }
    }
    summary
}

fn told(summary: &serde_json::Value) -> String {
    let number = |name: &str| summary[name].as_f64().unwrap_or(0.0);
    let count = |name: &str| grouped(number(name) as u64);
    let each = |name: &str| {
        let all = summary[name].as_object().into_iter().flatten();
        all.map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
    };
    let reasons = each("rejects_by_reason");
    let reasons = if reasons.is_empty() { String::new() } else { format!(" ({reasons})") };
    let mut lines = vec![
        format!("events    {} in {:.1} s, {} per second", count("events"), number("seconds"), count("events_per_s")),
        format!("rejects   {}{reasons}", count("rejects")),
        format!(
            "records   {} duplicates, {} corrections, {} overtaken by a stronger operation, {} unknown fields, {} repeated keys",
            count("duplicates"),
            count("corrections"),
            count("stale"),
            count("unknown_fields"),
            count("duplicate_keys")
        ),
        format!("scored    {}, revised {}, withdrawn {}", count("scored"), count("revised"), count("withdrawn")),
        format!("decisions {}", each("decisions")),
        format!(
            "rules     {}",
            if summary["rules"].as_object().is_none_or(|rules| rules.is_empty()) {
                "none".to_owned()
            } else {
                each("rules")
            }
        ),
        format!("outputs   {}, acknowledged {}", count("outputs"), count("acknowledged")),
    ];
    if summary.get("latency_p50_ms").is_some() {
        lines.push(format!(
            "latency   p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms from arrival to acknowledged output",
            number("latency_p50_ms"),
            number("latency_p99_ms"),
            number("latency_p999_ms")
        ));
    }
    lines.push(format!(
        "retained  {} events as {} entries by key, {:.0} bytes per retained event and key",
        count("retained_events"),
        count("retained_entries"),
        number("bytes_per_retained_entry")
    ));
    let files: Vec<&str> =
        summary["files"].as_object().into_iter().flatten().filter_map(|(_, path)| path.as_str()).collect();
    if !files.is_empty() {
        lines.push(format!("files     {}", files.join(", ")));
    }
    lines.join("\n")
}

/// A number with its thousands apart: `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
