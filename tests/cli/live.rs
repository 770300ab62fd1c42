//! A live run: first output, metrics, interrupts.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::deltawatch;

/// A run in the background; ended with the test.
pub struct Run {
    child: Child,
    stdout: Option<BufReader<ChildStdout>>,
    stderr: Option<BufReader<ChildStderr>>,
}

impl Run {
    pub fn start(arguments: &[&str]) -> Self {
        let mut command = deltawatch(arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts");
        let stdout = child.stdout.take().map(BufReader::new);
        Run { child, stdout, stderr: None }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Reads where its page is, from standard error.
    pub fn with_page(mut self) -> (Self, String) {
        let mut stderr = BufReader::new(self.child.stderr.take().expect("piped"));
        let mut said = String::new();
        stderr.read_line(&mut said).expect("a line");
        let address = said.split("http://").nth(1).and_then(|rest| rest.split('/').next()).expect("an address");
        assert!(address.starts_with("127.0.0.1:"), "metrics are open to others by default: {said}");
        let address = address.to_owned();
        self.stderr = Some(stderr);
        (self, address)
    }

    /// Waits until the page has this status; what it says then.
    pub fn wait_until(&self, address: &str, path: &str, status: &str) -> serde_json::Value {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let (_, body) = health(address, path);
            if body["status"] == status {
                return body;
            }
            assert!(Instant::now() < deadline, "not {status}: {body}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits without reading standard output; the status and standard error.
    pub fn end_unread(mut self) -> (ExitStatus, String) {
        let status = self.child.wait().expect("an end");
        (status, self.error())
    }

    fn error(&mut self) -> String {
        let mut error = String::new();
        match (&mut self.stderr, self.child.stderr.take()) {
            (Some(stderr), _) => drop(stderr.read_to_string(&mut error).expect("text")),
            (None, stderr) => drop(stderr.expect("piped").read_to_string(&mut error).expect("text")),
        }
        error
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.as_mut().expect("open").read_line(&mut line).expect("a line");
        line
    }

    pub fn signal(&self, name: &str) {
        let kill = Command::new("kill").args([name, &self.child.id().to_string()]).status();
        assert!(kill.expect("kill starts").success());
    }

    /// Reads what is left of standard output, and waits; the status and standard error.
    pub fn end(mut self) -> (ExitStatus, String, String) {
        let mut rest = String::new();
        if let Some(mut stdout) = self.stdout.take() {
            stdout.read_to_string(&mut rest).expect("output");
        }
        let error = self.error();
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
    for signal in ["-INT", "-TERM", "-HUP"] {
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
fn a_reader_that_goes_away_ends_the_run_with_one_line() {
    let mut run = Run::start(&["run", "--pace", "20000"]);
    run.line();
    run.stdout = None;
    let (status, _, error) = run.end();
    assert_eq!(status.code(), Some(1), "{error}");
    let said: Vec<&str> = error.lines().filter(|line| line.contains("error") || line.contains("bug")).collect();
    assert_eq!(said, ["error: the reader of the output has gone before its end"], "{error}");
    // Whatever prints: a replay, the generator, a list.
    for arguments in
        [&["generate", "--events", "100000"][..], &["replay", "--events", "5000"], &["dataflow", "describe"]]
    {
        let arguments =
            if arguments[0] == "dataflow" { [arguments, &["payments"]].concat() } else { arguments.to_vec() };
        let mut command = deltawatch(&arguments);
        // A pipe whose reader has gone already.
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let ended = command.stdout(writer).output().expect("it starts");
        let error = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(1), "{arguments:?}: {error}");
        assert!(error.contains("error: the reader of the output has gone") && !error.contains("bug"), "{error}");
    }
}

#[test]
fn metrics_and_health_are_served() {
    // Output that no one reads would fill the pipe and hold the run back.
    let (_run, address) = Run::start(&["run", "--metrics", "0", "--output", "/dev/null"]).with_page();
    let address = &*address;
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
    assert!(value(&page, "deltawatch_event_age_seconds_count") > 0.0);
    // Generated events are of April 2024, which is more than a day ago.
    assert_eq!(value(&page, "deltawatch_event_age_seconds_bucket{le=\"86400.0\"}"), 0.0);
    assert!(value(&page, "deltawatch_watermark_ms") >= 1_711_929_600_000.0);
    let decisions =
        ["allow", "review", "block"].map(|action| format!("deltawatch_decisions_total{{action=\"{action}\"}}"));
    assert!(decisions.iter().map(|name| value(&page, name)).sum::<f64>() > 0.0);
    assert!(page.trim_end().ends_with("# EOF"), "not the OpenMetrics format:\n{page}");
    let bucket = value(&page, "deltawatch_latency_seconds_bucket{le=\"+Inf\"}");
    assert_eq!(bucket, value(&page, "deltawatch_latency_seconds_count"));
    let (code, health) = health(address, "/health");
    assert_eq!((code, &health["status"]), (200, &"ok".into()));
    assert_eq!(self::health(address, "/ready").0, 200);
    assert!(get(address, "/else").starts_with("HTTP/1.1 404"));
}

/// The code and the object that the page answers with.
pub fn health(address: &str, path: &str) -> (u16, serde_json::Value) {
    let answer = get(address, path);
    let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a code");
    let body = answer.split("\r\n\r\n").nth(1).expect("a body");
    (code, serde_json::from_str(body).expect("JSON"))
}

pub fn get(address: &str, path: &str) -> String {
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
