//! What is said on standard error about a run: a live line on a terminal, and the closing summary.

use std::io::{IsTerminal, Write, stderr};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::runtime::metrics::Metrics;

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

    /// Ends the live line and writes the summary; `files` are those that were written, by flag.
    pub fn finish(self, json: bool, files: &[(&str, String)]) {
        let Progress { metrics, started, done, thread } = self;
        drop(done);
        if let Some(thread) = thread {
            // It has no result.
            let _ = thread.join();
        }
        let mut summary = summary(&metrics, started.elapsed());
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
fn summary(metrics: &Metrics, elapsed: Duration) -> serde_json::Value {
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
    json!({
        "seconds": (elapsed.as_secs_f64() * 1e3).round() / 1e3,
        "events": events,
        "events_per_s": (events as f64 / elapsed.as_secs_f64()).round(),
        "rejects": metrics.rejects.get(),
        "rejects_by_reason": rejects,
        "duplicates": metrics.duplicates.get(),
        "stale": metrics.stale.get(),
        "scored": metrics.scored.get(),
        "revised": metrics.revised.get(),
        "withdrawn": metrics.withdrawn.get(),
        "outputs": metrics.outputs.get(),
        "acknowledged": metrics.acknowledged.get(),
        "latency_p50_ms": ms(0.5),
        "latency_p99_ms": ms(0.99),
        "latency_p999_ms": ms(0.999),
        "retained_events": metrics.retained_events.get(),
        "retained_entries": metrics.retained_entries.get(),
        "retained_bytes": bytes,
        "bytes_per_retained_entry": per(metrics.retained_entries.get()),
    })
}

fn told(summary: &serde_json::Value) -> String {
    let number = |name: &str| summary[name].as_f64().unwrap_or(0.0);
    let count = |name: &str| grouped(number(name) as u64);
    let reasons: Vec<String> = summary["rejects_by_reason"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(reason, count)| format!("{reason} {count}"))
        .collect();
    let files: Vec<&str> =
        summary["files"].as_object().into_iter().flatten().filter_map(|(_, path)| path.as_str()).collect();
    let files = if files.is_empty() { String::new() } else { format!("\nfiles     {}", files.join(", ")) };
    let reasons = if reasons.is_empty() { String::new() } else { format!(" ({})", reasons.join(", ")) };
    format!(
        "events    {} in {:.1} s, {} per second\n\
         rejects   {}{reasons}\n\
         repeated  {} duplicates, {} overtaken by a stronger operation\n\
         scored    {}, revised {}, withdrawn {}\n\
         outputs   {}, acknowledged {}\n\
         latency   p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms from arrival to acknowledged output\n\
         retained  {} events as {} entries by key, {:.0} bytes per retained event and key{files}",
        count("events"),
        number("seconds"),
        count("events_per_s"),
        count("rejects"),
        count("duplicates"),
        count("stale"),
        count("scored"),
        count("revised"),
        count("withdrawn"),
        count("outputs"),
        count("acknowledged"),
        number("latency_p50_ms"),
        number("latency_p99_ms"),
        number("latency_p999_ms"),
        count("retained_events"),
        count("retained_entries"),
        number("bytes_per_retained_entry"),
    )
}

/// `1,234,567`.
fn grouped(number: u64) -> String {
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
