//! Processes of a cluster: who fits, who does not, strangers, those who do not come and those who go.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::{deltawatch, path};

/// Two addresses that were free a moment ago.
pub fn hosts() -> [String; 2] {
    [(), ()].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").to_string())
}

struct Process(Child);

impl Process {
    fn start(number: usize, hosts: &[String; 2], flags: &[&str]) -> Self {
        let (number, hosts) = (number.to_string(), hosts.join(","));
        let cluster = ["-n", "2", "-p", &number, "--host", &hosts, "--output", "/dev/null"];
        let mut command = deltawatch(&[&flags[..1], &cluster, &flags[1..]].concat());
        Process(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts"))
    }

    fn signal(&self, name: &str) {
        let kill = std::process::Command::new("kill").args([name, &self.0.id().to_string()]).status();
        assert!(kill.expect("kill starts").success());
    }

    /// Waits, at most so long; status, standard output and standard error.
    fn end(mut self, within: Duration) -> (ExitStatus, String, String) {
        let begin = Instant::now();
        let status = loop {
            if let Some(status) = self.0.try_wait().expect("a child") {
                break status;
            }
            assert!(begin.elapsed() < within, "it does not end within {within:?}");
            std::thread::sleep(Duration::from_millis(10));
        };
        let (mut out, mut error) = (String::new(), String::new());
        self.0.stdout.take().expect("piped").read_to_string(&mut out).expect("text");
        self.0.stderr.take().expect("piped").read_to_string(&mut error).expect("text");
        (status, out, error)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has usually ended by then.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const SOON: Duration = Duration::from_secs(20);

#[test]
fn processes_that_differ_refuse_each_other_and_say_in_what() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, id: &str| {
        let path = path(&folder, name);
        let line = format!("{{\"id\":\"{id}\",\"kind\":\"payment\",\"time\":1700000000000,\"card\":\"c\"}}\n");
        std::fs::write(&path, line).expect("a file");
        path
    };
    let (one, other) = (file("a.jsonl", "a"), file("b.jsonl", "b"));
    let table: &[(&[&str], &[&str], &str)] = &[
        (&["--model", "payments@1"], &["--model", "payments@2"], "--model is `payments@2`"),
        (&["--dataflow", "hello"], &[], "--dataflow is `payments`"),
        (&["--epoch-records", "7"], &[], "--epoch-records"),
        (&["--input", &one], &["--input", &other], "--input"),
        (&["-w", "2"], &[], "--workers"),
        (&["--seed", "9"], &[], "--input"),
    ];
    for (first, second, word) in table {
        let hosts = hosts();
        let more = ["replay", "--events", "500", "--peer-timeout", "3s"];
        let waits = Process::start(0, &hosts, &[&more[..], first].concat());
        let comes = Process::start(1, &hosts, &[&more[..], second].concat());
        let (status, _, error) = comes.end(SOON);
        assert_eq!(status.code(), Some(1), "{error}");
        let line = error.lines().find(|line| line.starts_with("error: ")).expect("an error");
        assert!(line.contains(word) && line.contains("process 0") && line.contains("process 1"), "{line}");
        // The one that waited says the same, and gives up in time.
        let (status, out, error) = waits.end(SOON);
        assert_eq!(status.code(), Some(1), "{error}");
        let line = error.lines().find(|line| line.starts_with("error: ")).expect("an error");
        let flag = word.split(' ').next().expect("a word");
        assert!(line.contains("did not come within 3 s") && line.contains(flag), "{line}");
        assert!(out.is_empty(), "{out}");
    }
}

#[test]
fn strangers_on_the_port_are_ignored() {
    let hosts = hosts();
    let flags = ["replay", "--events", "2000"];
    let first = Process::start(0, &hosts, &flags);
    let begin = Instant::now();
    let connect = || loop {
        if let Ok(stream) = TcpStream::connect(&hosts[0]) {
            return stream;
        }
        assert!(begin.elapsed() < SOON, "nobody listens");
        std::thread::sleep(Duration::from_millis(10));
    };
    let hello = |text: &str| {
        let length = (text.len() as u32).to_be_bytes();
        [&deltawatch::runtime::peers::MAGIC[..], &length, text.as_bytes()].concat()
    };
    let other = "{\"process\":1,\"processes\":2,\"terms\":[[\"--dataflow\",\"evil\"]]}";
    let hostile: Vec<Vec<u8>> = vec![
        Vec::new(),
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        // What timely's own protocol would begin with: a process number; one that is not there, and one that is.
        u64::MAX.to_be_bytes().to_vec(),
        1u64.to_be_bytes().to_vec(),
        (0..100_000u32).flat_map(u32::to_le_bytes).collect(),
        deltawatch::runtime::peers::MAGIC[..5].to_vec(),
        [&deltawatch::runtime::peers::MAGIC[..], &u32::MAX.to_be_bytes(), b"{"].concat(),
        [&deltawatch::runtime::peers::MAGIC[..], &1000u32.to_be_bytes(), b"{\"process\":"].concat(),
        hello("{}"),
        hello("[1,2,3]"),
        hello("{\"process\":99999999999,\"processes\":2,\"terms\":[]}"),
        hello("{\"process\":0,\"processes\":2,\"terms\":[]}"),
        hello("{\"process\":1,\"processes\":9,\"terms\":[]}"),
        hello(other),
    ];
    let mut kept: Vec<TcpStream> = Vec::new();
    for bytes in &hostile {
        let mut stream = connect();
        // It may be closed before it has all.
        let _ = stream.write_all(bytes);
        kept.push(stream);
    }
    // Some say nothing and stay.
    kept.extend((0..100).map(|_| connect()));
    let second = Process::start(1, &hosts, &flags);
    for process in [first, second] {
        let (status, _, error) = process.end(Duration::from_secs(60));
        assert!(status.success(), "{error}");
        assert!(!error.contains("bug"), "{error}");
    }
}

#[test]
fn a_peer_that_does_not_come_is_one_line() {
    // A server of another kind in the place of process 0; nobody in the place of process 1.
    let other = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut places = hosts();
    for number in [0, 1] {
        let flags = ["run", "--peer-timeout", "2s"];
        let process = Process::start(number, &places, &flags);
        let (status, out, error) = process.end(SOON);
        assert_eq!(status.code(), Some(1), "{error}");
        let line = error.lines().find(|line| line.starts_with("error: ")).expect("an error");
        let peer = format!("process {} at {}", 1 - number, places[1 - number]);
        assert!(line.contains(&peer) && line.contains("--peer-timeout"), "{line}");
        assert!(out.is_empty(), "waiting is said on standard output: {out}");
    }
    places[0] = other.local_addr().expect("an address").to_string();
    std::thread::spawn(move || other.incoming().flatten().for_each(|mut s| drop(s.write_all(b"220 smtp ready\r\n"))));
    let (status, _, error) = Process::start(1, &places, &["run", "--peer-timeout", "2s"]).end(SOON);
    assert_eq!(status.code(), Some(1), "{error}");
    assert!(error.contains("is no process of this cluster"), "{error}");
}

#[test]
fn a_stop_while_peers_are_awaited_ends_at_once_and_says_so() {
    let hosts = hosts();
    for number in [0, 1] {
        let process = Process::start(number, &hosts, &["run"]);
        std::thread::sleep(Duration::from_secs(1));
        process.signal("-TERM");
        let (status, _, error) = process.end(Duration::from_secs(5));
        assert_eq!(status.code(), Some(3), "{error}");
        assert!(error.contains(&format!("stopped while it waited for process {}", 1 - number)), "{error}");
    }
}

#[test]
fn a_lost_peer_is_one_line_and_no_bug() {
    let hosts = hosts();
    let [survivor, victim] = [0, 1].map(|number| Process::start(number, &hosts, &["run", "--pace", "500"]));
    std::thread::sleep(Duration::from_secs(4));
    victim.signal("-KILL");
    let (status, _, error) = survivor.end(SOON);
    assert_eq!(status.code(), Some(1), "{error}");
    let said: Vec<&str> = error.lines().filter(|line| line.contains("lost") || line.contains("panic")).collect();
    assert_eq!(said.len(), 1, "{error}");
    assert!(said[0].starts_with("error: process 1 of the cluster was lost"), "{error}");
    assert!(!error.contains("bug"), "{error}");
}
