//! A live run: first output, metrics, interrupts.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::deltawatch;

/// A run in the background; ended with the test.
struct Run {
    child: Child,
    stdout: Option<BufReader<ChildStdout>>,
}

impl Run {
    fn start(arguments: &[&str]) -> Self {
        let mut command = deltawatch(arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts");
        let stdout = child.stdout.take().map(BufReader::new);
        Run { child, stdout }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.as_mut().expect("open").read_line(&mut line).expect("a line");
        line
    }

    fn signal(&self, name: &str) {
        let kill = Command::new("kill").args([name, &self.child.id().to_string()]).status();
        assert!(kill.expect("kill starts").success());
    }

    /// Reads what is left of standard output, and waits; the status and standard error.
    fn end(mut self) -> (ExitStatus, String, String) {
        let (mut rest, mut error) = (String::new(), String::new());
        if let Some(mut stdout) = self.stdout.take() {
            stdout.read_to_string(&mut rest).expect("output");
        }
        self.child.stderr.take().expect("piped").read_to_string(&mut error).expect("text");
        (self.child.wait().expect("an end"), rest, error)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // It has usually ended by then.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn an_interrupt_drains_and_sums_up() {
    for signal in ["-INT", "-TERM"] {
        let mut run = Run::start(&["run"]);
        let first = run.line();
        assert!(first.starts_with("{\"id\":\"t-") && first.contains("\"cause\":\"arrival\""), "{first}");
        run.signal(signal);
        let (status, rest, error) = run.end();
        assert_eq!(status.code(), Some(0), "{error}");
        assert!(rest.is_empty() || rest.ends_with('\n'), "the last record is cut off");
        for word in ["events ", "rejects ", "scored ", "latency   p50", "p99.9", "bytes per retained event"] {
            assert!(error.contains(word), "no '{word}' in the summary:\n{error}");
        }
    }
}

#[test]
fn a_reader_that_goes_away_ends_the_run_quietly() {
    let mut run = Run::start(&["run", "--pace", "20000"]);
    run.line();
    run.stdout = None;
    let (status, _, error) = run.end();
    assert_eq!(status.code(), Some(0), "{error}");
    assert!(!error.contains("error"), "{error}");
}

#[test]
fn metrics_and_health_are_served() {
    let mut run = Run::start(&["run", "--metrics", "0"]);
    run.line();
    let mut said = String::new();
    let mut stderr = BufReader::new(run.child.stderr.take().expect("piped"));
    stderr.read_line(&mut said).expect("a line");
    let address = said.split("http://").nth(1).and_then(|rest| rest.split('/').next()).expect("an address");
    assert!(address.starts_with("127.0.0.1:"), "metrics are open to others by default: {said}");
    // Acknowledged output shows a moment after it was written, bytes after some epochs.
    let deadline = Instant::now() + Duration::from_secs(10);
    let page = loop {
        let page = get(address, "/metrics");
        let complete = value(&page, "deltawatch_latency_seconds_count") > 0.0 && page.contains("bytes_by_key{");
        if complete || Instant::now() > deadline {
            break page;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(value(&page, "deltawatch_events_total") > 0.0, "{page}");
    assert!(value(&page, "deltawatch_latency_seconds_count") > 0.0, "{page}");
    assert_eq!(value(&page, "deltawatch_rejects_total{reason=\"malformed\"}"), 0.0);
    assert!(value(&page, "deltawatch_retained_bytes") >= 0.0);
    assert!(value(&page, "deltawatch_retained_bytes_by_key{key=\"card\"}") >= 0.0);
    assert!(page.trim_end().ends_with("# EOF"), "not the OpenMetrics format:\n{page}");
    let bucket = value(&page, "deltawatch_latency_seconds_bucket{le=\"+Inf\"}");
    assert_eq!(bucket, value(&page, "deltawatch_latency_seconds_count"));
    let health = get(address, "/health");
    let body = health.split("\r\n\r\n").nth(1).expect("a body");
    let health: serde_json::Value = serde_json::from_str(body).expect("JSON");
    assert_eq!(health["status"], "ok");
    assert!(get(address, "/else").starts_with("HTTP/1.1 404"));
}

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("someone listens");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

/// The value of a metric; panics if it is not there.
fn value(page: &str, metric: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(metric)?.strip_prefix(' '));
    line.and_then(|value| value.trim().parse().ok()).unwrap_or_else(|| panic!("no {metric} in\n{page}"))
}
