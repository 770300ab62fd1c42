//! The health page: hostile clients, and what it says.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::live::{Run, get, health};

/// How soon the page answers, whatever others do.
const SOON: Duration = Duration::from_secs(2);

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).expect("someone listens");
    stream.set_read_timeout(Some(Duration::from_secs(15))).expect("a time-out");
    stream
}

fn assert_alive(address: &str, after: &str) {
    let begin = Instant::now();
    let (code, body) = health(address, "/health");
    assert_eq!((code, body["status"].as_str()), (200, Some("ok")), "after {after}: {body}");
    assert!(begin.elapsed() < SOON, "after {after} it took {:?}", begin.elapsed());
}

/// Requests that no honest client sends, and the codes that may answer them; 0: the connection is closed without one.
fn hostile() -> Vec<(&'static str, Vec<u8>, &'static [u16])> {
    let head = |text: &str| text.as_bytes().to_vec();
    let many = (0..500).map(|n| format!("X-{n}: y\r\n")).collect::<String>();
    let pipelined = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1_000);
    vec![
        (
            "a body without end",
            head("GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999\r\n\r\n"),
            &[200],
        ),
        ("a length beyond 64 bits", head("GET / HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n"), &[400]),
        ("a negative length", head("GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n"), &[400]),
        ("two lengths", head("GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"), &[400]),
        (
            "chunks without end",
            head("POST /metrics HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffff\r\n"),
            &[405],
        ),
        (
            "both lengths",
            head("GET / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"),
            &[400, 404],
        ),
        ("another method", head("DELETE /health HTTP/1.1\r\nHost: x\r\n\r\n"), &[405]),
        ("a long path", format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(100_000)).into_bytes(), &[414, 431, 0]),
        ("a long header", format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(1 << 20)).into_bytes(), &[431, 0]),
        ("many headers", format!("GET / HTTP/1.1\r\n{many}\r\n").into_bytes(), &[431, 0]),
        ("a header without end", format!("GET / HTTP/1.1\r\n{}", "X: y\r\n".repeat(200_000)).into_bytes(), &[431, 0]),
        ("line ends alone", vec![b'\n'; 100_000], &[400, 431, 0]),
        ("zeros", vec![0; 100_000], &[400, 0]),
        ("a TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), &[400, 0]),
        ("a preface of HTTP/2", head("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), &[400, 404, 505, 0]),
        ("another version", head("GET / HTTP/9.9\r\n\r\n"), &[400, 505, 0]),
        ("no version", head("GET /metrics\r\n\r\n"), &[400, 0]),
        ("a path outside", head("GET /../../etc/passwd HTTP/1.1\r\n\r\n"), &[404]),
        ("a thousand at once", pipelined.into_bytes(), &[200]),
        ("half a request", head("GET /metr"), &[408, 0]),
        ("nothing", Vec::new(), &[408, 0]),
    ]
}

#[test]
fn hostile_clients_are_answered_or_closed_and_the_page_stays() {
    let run = Run::start(&["run", "--metrics", "0", "--output", "/dev/null"]);
    let (run, address) = run.with_page();
    run.wait_until(&address, "/health", "ok");
    for (what, request, codes) in hostile() {
        let mut stream = connect(&address);
        let begin = Instant::now();
        // The page may close the connection before it has read all.
        let _ = stream.write_all(&request);
        let mut answer = Vec::new();
        let mut chunk = [0; 4096];
        loop {
            match stream.read(&mut chunk) {
                Ok(0) => break,
                Ok(read) => answer.extend_from_slice(&chunk[..read]),
                Err(error) => {
                    assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "{what}: the connection stays open");
                    break;
                }
            }
        }
        assert!(begin.elapsed() < Duration::from_secs(12), "{what}: it took {:?}", begin.elapsed());
        let text = String::from_utf8_lossy(&answer);
        let code = text.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        assert!(codes.contains(&code), "{what}: answered with {code}, not one of {codes:?}: {text:.200}");
        assert_alive(&address, what);
    }
    // 200 that send their head byte by byte, and 60 that ask and never read.
    let mut slow: Vec<TcpStream> = (0..200).map(|_| connect(&address)).collect();
    slow.iter_mut().for_each(|stream| drop(stream.write_all(b"G")));
    assert_alive(&address, "200 slow clients");
    let mut deaf: Vec<TcpStream> = (0..60).map(|_| connect(&address)).collect();
    for stream in &mut deaf {
        let _ = stream.write_all("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(50).as_bytes());
    }
    for _ in 0..5 {
        slow.iter_mut().for_each(|stream| drop(stream.write_all(b"E")));
        assert_alive(&address, "60 clients that never read");
    }
    assert!(get(&address, "/metrics").contains("deltawatch_events_total"));
    run.signal("-TERM");
    let (status, _, error) = run.end();
    assert_eq!(status.code(), Some(0), "{error}");
}

#[test]
fn an_output_that_no_one_takes_is_said_and_a_stop_does_not_wait_for_it() {
    // No one reads what it prints.
    let run = Run::start(&["run", "--metrics", "0", "--pace", "20000", "--drain", "1s"]);
    let (run, address) = run.with_page();
    let body = run.wait_until(&address, "/health", "failing");
    assert!(body["reasons"].to_string().contains("no epoch has closed"), "{body}");
    // What waits for an epoch lags too: the generator itself has nothing that it has not handed out.
    assert!(body["lag_records"].as_u64().is_some_and(|lag| lag > 1_000), "{body}");
    assert_eq!(health(&address, "/ready").0, 503);
    run.signal("-TERM");
    let begin = Instant::now();
    let (status, error) = run.end_unread();
    assert_eq!(status.code(), Some(3), "{error}");
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    let line = error.lines().find(|line| line.starts_with("error: ")).expect("a reason");
    for word in ["--drain", "records are read and not scored", "outputs are not acknowledged"] {
        assert!(line.contains(word), "{line}");
    }
}

#[test]
fn a_run_that_repeats_its_log_says_so_and_stops_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let state = super::path(&folder, "state");
    // With a cut it would repeat what came after it, and be too quick to be seen.
    let flags =
        ["run", "--metrics", "0", "--output", "/dev/null", "--pace", "40000", "--state", &state, "--cut-every", "0s"];
    let (first, address) = Run::start(&flags).with_page();
    let deadline = Instant::now() + Duration::from_secs(60);
    while health(&address, "/health").1["events"].as_u64().is_none_or(|events| events < 60_000) {
        assert!(Instant::now() < deadline, "too slow");
        std::thread::sleep(Duration::from_millis(50));
    }
    first.signal("-TERM");
    let (status, _, error) = first.end();
    assert_eq!(status.code(), Some(0), "{error}");

    let (again, address) = Run::start(&flags).with_page();
    let body = again.wait_until(&address, "/health", "recovering");
    assert!(body["reasons"][0].as_str().is_some_and(|reason| reason.contains("repeats its log")), "{body}");
    assert_eq!(health(&address, "/ready").0, 503);
    again.signal("-TERM");
    let begin = Instant::now();
    let (status, _, error) = again.end();
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    assert_eq!(status.code(), Some(3), "{error}");
    assert!(error.contains("stopped while it repeated its log"), "{error}");

    // Nothing is lost by that: the next start repeats all of it, and goes on.
    let (last, address) = Run::start(&flags).with_page();
    last.wait_until(&address, "/ready", "ok");
    assert!(health(&address, "/health").1["events"].as_u64().is_some_and(|events| events >= 60_000));
    last.signal("-HUP");
    let (status, _, error) = last.end();
    assert_eq!(status.code(), Some(0), "{error}");
}

#[test]
fn a_stop_does_not_wait_for_brokers_that_are_not_there() {
    let dead = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let brokers = dead.to_string();
    for (flag, place) in [("--input", "kafka:in"), ("--output", "kafka:out")] {
        let run = Run::start(&["run", flag, place, "--brokers", &brokers]);
        std::thread::sleep(Duration::from_millis(1_500));
        run.signal("-TERM");
        let begin = Instant::now();
        let (status, _, error) = run.end();
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
        assert_eq!(status.code(), Some(3), "{error}");
        assert!(error.contains("error: stopped while it") && error.contains("kafka"), "{error}");
    }
}
