//! Outside services: answers, fallbacks, late answers; slow, dead and silent ones; restarts.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use deltawatch::epoch::Pace;
use deltawatch::source::tables::Reference;
use deltawatch::views::lookup::Enrich;

use super::job::Trial;

/// How long a slow answer takes: far beyond every budget, so that a busy machine does not matter.
const SLOW: Duration = Duration::from_millis(1_500);

/// A service that scores keys: `slow...` takes its time, `none...` is unknown, `bad...` is answered with nonsense.
struct Scores {
    address: String,
    asked: Arc<AtomicU64>,
}

impl Scores {
    /// It serves for the rest of the process.
    fn start() -> Scores {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/score/{{key}}", listener.local_addr().unwrap());
        let asked = Arc::new(AtomicU64::new(0));
        let counted = asked.clone();
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let counted = counted.clone();
                thread::spawn(move || serve(connection, &counted));
            }
        });
        Scores { address, asked }
    }

    fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }
}

/// Answers the requests of a connection until it is closed.
fn serve(connection: TcpStream, asked: &AtomicU64) -> Option<()> {
    let mut writer = connection.try_clone().ok()?;
    let mut lines = BufReader::new(connection).lines();
    loop {
        let request = lines.next()?.ok()?;
        while !lines.next()?.ok()?.is_empty() {}
        asked.fetch_add(1, Ordering::Relaxed);
        let key = request.split(' ').nth(1)?.rsplit('/').next()?;
        if key.starts_with("slow") {
            thread::sleep(SLOW);
        }
        let (body, status) = match key {
            key if key.starts_with("none") => ("", "404 Not Found"),
            key if key.starts_with("bad") => (r#"{"score":"x"}"#, "200 OK"),
            key if key.starts_with("a%2Fb%20c") => (r#"{"score":0.125}"#, "200 OK"),
            _ => (r#"{"score":0.75,"other":1}"#, "200 OK"),
        };
        write!(writer, "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).ok()?;
    }
}

fn look_up(address: &str, rest: &str) -> [Enrich; 1] {
    let declared = format!(
        "[[service]]\nname = \"scores\"\nask = \"{address}\"\nfield = [ {{ name = \"score\", type = \"float\" }} ]\n{rest}"
    );
    [Enrich::of("shop", &["shop"], Reference::named(&declared, "scores").unwrap()).number("score").or(0.5).known()]
}

fn event(id: &str, shop: &str) -> String {
    let time: i64 = id.bytes().map(i64::from).sum();
    format!(r#"{{"id":"{id}","time":{time},"shop":"{shop}"}}"#)
}

const ANSWERED: [Option<f64>; 2] = [Some(0.75), Some(1.0)];
const FALLBACK: [Option<f64>; 2] = [Some(0.5), Some(0.0)];

/// A budget that no test waits for in vain.
const PATIENT: &str = "budget_ms = 10000\n";

fn start(all: &[Enrich], pace: Pace, state: Option<&Path>, workers: usize) -> Trial {
    Trial::start(all, Vec::new(), pace, state, workers)
}

#[test]
fn answers_are_features_and_are_used_again() {
    let scores = Scores::start();
    let trial = start(&look_up(&scores.address, PATIENT), Pace::Live, None, 2);
    trial.feed(&event("a", "x"));
    assert_eq!(trial.row("a"), ANSWERED);
    trial.feed(&event("b", "x"));
    assert_eq!(trial.row("b"), ANSWERED);
    assert_eq!(scores.asked(), 1);
    trial.feed(&event("c", "none"));
    trial.feed(&event("d", "a/b c"));
    trial.feed(r#"{"id":"e","time":7}"#);
    trial.feed(&event("f", "bad"));
    assert_eq!(trial.row("c"), FALLBACK);
    assert_eq!(trial.row("d"), [Some(0.125), Some(1.0)]);
    assert_eq!(trial.row("e"), FALLBACK);
    assert_eq!(trial.row("f"), FALLBACK);
    let metrics = trial.metrics.clone();
    assert_eq!((metrics.service_requests.get(), metrics.service_hits.get()), (4, 1));
    assert_eq!((metrics.service_errors.get(), metrics.service_fallbacks.get()), (1, 1));
    assert!(metrics.service_latency.count() == 4 && trial.stop().len() == 6);
}

/// A slow answer: the transaction is scored with the fallback after its budget, and revised when the answer is there.
/// What is behind it is held no longer, other partitions not at all.
#[test]
fn a_slow_service_costs_its_budget_and_revises() {
    let scores = Scores::start();
    let trial = start(&look_up(&scores.address, "budget_ms = 100\ntimeout_ms = 10000\n"), Pace::Live, None, 1);
    trial.feed(&event("warm", "x"));
    trial.row("warm");
    let begun = Instant::now();
    trial.feed(&event("a", "slow"));
    trial.feed(&event("b", "x"));
    trial.feed_to(1, &event("c", "x"));
    assert_eq!(trial.row("c"), ANSWERED);
    let other = trial.rows();
    assert_eq!(trial.row("a"), FALLBACK);
    let waited = begun.elapsed();
    assert_eq!(trial.row("b"), ANSWERED);
    assert!(!other.contains_key("a") && !other.contains_key("b"), "the other partition waited");
    assert!(waited >= Duration::from_millis(90) && begun.elapsed() < SLOW, "{waited:?}");
    trial.until("the late answer", |trial| trial.rows()["a"].len() == 2);
    assert_eq!(trial.row("a"), ANSWERED);
    assert_eq!((trial.metrics.service_late.get(), trial.metrics.service_fallbacks.get()), (1, 1));
    trial.stop();
}

/// Nothing answers: refused connections, and one that is accepted and never answered.
#[test]
fn a_dead_service_stalls_nothing() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let refusing = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (address, is_silent) in [(refusing, false), (silent.local_addr().unwrap(), true)] {
        let address = format!("http://{address}/{{key}}");
        let settings = "budget_ms = 50\ntimeout_ms = 200\nfailures_max = 3\npause_ms = 60000\n";
        let trial = start(&look_up(&address, settings), Pace::Live, None, 1);
        let begun = Instant::now();
        for n in 0..200 {
            let id = format!("e{n:03}");
            trial.feed(&event(&id, &format!("shop{n}")));
            assert_eq!(trial.row(&id), FALLBACK);
        }
        // Waits end when the breaker opens: after 200 ms in which at most four budgets fit, not after 200 budgets.
        assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
        let metrics = trial.metrics.clone();
        assert_eq!(metrics.service_fallbacks.get(), 200);
        assert!((3..40).contains(&metrics.service_requests.get()), "{}", metrics.service_requests.get());
        let failed = (metrics.service_errors.get(), metrics.service_timeouts.get());
        assert!(if is_silent { failed.0 == 0 && failed.1 >= 3 } else { failed.0 >= 3 }, "{failed:?}");
        assert_eq!(trial.stop().len(), 200);
    }
}

/// After the pause one request tries, and if it succeeds all do.
#[test]
fn a_service_that_recovers_is_asked_again() {
    let scores = Scores::start();
    let settings = format!("{PATIENT}failures_max = 1\npause_ms = 100\ncache_ms = 0\n");
    let trial = start(&look_up(&scores.address, &settings), Pace::Live, None, 1);
    trial.feed(&event("a", "bad"));
    assert_eq!(trial.row("a"), FALLBACK);
    trial.until("an answer", |trial| {
        let id = format!("n{}", trial.rows().len());
        trial.feed(&event(&id, "x"));
        trial.row(&id) == ANSWERED
    });
    trial.feed(&event("z", "x"));
    assert_eq!(trial.row("z"), ANSWERED);
    trial.stop();
}

/// What was answered is an input: a restart takes it from the log, late answers too, and calls no one.
#[test]
fn a_restart_uses_the_same_answers() {
    let state = tempfile::tempdir().unwrap();
    let settings = "budget_ms = 200\ntimeout_ms = 10000\n";
    let lines = [event("a", "x"), event("b", "slow"), event("c", "none"), event("d", "x")];
    let (before, address) = {
        let scores = Scores::start();
        let trial = start(&look_up(&scores.address, settings), Pace::Live, Some(state.path()), 1);
        lines[..3].iter().for_each(|line| trial.feed(line));
        trial.row("c");
        trial.until("the late answer", |trial| trial.rows().get("b").is_some_and(|rows| rows.len() == 2));
        (trial.stop(), scores.address.clone())
    };
    assert_eq!((before["a"].as_slice(), before["c"].as_slice()), (&[ANSWERED.to_vec()][..], &[FALLBACK.to_vec()][..]));
    for workers in [1, 2] {
        let trial = start(&look_up(&address, settings), Pace::Live, Some(state.path()), workers);
        lines[..3].iter().for_each(|line| trial.feed(line));
        trial.until("the late answer", |trial| trial.rows().get("b").is_some_and(|rows| rows.len() == 2));
        assert_eq!(trial.metrics.service_requests.get(), 0);
        let after = trial.stop();
        assert_eq!(after, before);
    }
}

/// A log that was changed is an error that names it, not other scores.
#[test]
fn a_log_of_answers_that_was_changed_is_refused() {
    let state = tempfile::tempdir().unwrap();
    let scores = Scores::start();
    let trial = start(&look_up(&scores.address, PATIENT), Pace::Live, Some(state.path()), 1);
    ["a", "b", "c"].iter().for_each(|id| trial.feed(&event(id, id)));
    trial.row("c");
    trial.stop();
    super::assert_sealed(&state.path().join("answers-0.jsonl"), || {
        let trial = start(&look_up(&scores.address, PATIENT), Pace::Live, Some(state.path()), 1);
        ["a", "b", "c"].iter().for_each(|id| trial.feed(&event(id, id)));
        trial.end().unwrap_err()
    });
}

/// A replay calls no one: it has the fallback where no log says otherwise.
#[test]
fn a_replay_calls_no_service() {
    let scores = Scores::start();
    let trial = start(&look_up(&scores.address, PATIENT), Pace::Bounded, None, 1);
    (0..20).for_each(|n| trial.feed(&event(&format!("e{n:02}"), "x")));
    let metrics = trial.metrics.clone();
    let rows = trial.end().unwrap();
    assert!(rows.len() == 20 && rows.values().all(|rows| rows[0] == FALLBACK));
    assert_eq!((scores.asked(), metrics.service_fallbacks.get()), (0, 20));
}

/// Nor does it answer for one: what it had the fallback for is asked by a run that comes later, and what that was answered is
/// what the next replay has.
#[test]
fn a_replay_with_a_state_has_the_answers_of_a_run_and_adds_none() {
    let (state, scores) = (tempfile::tempdir().unwrap(), Scores::start());
    let files = || {
        let files = std::fs::read_dir(state.path()).unwrap().map(|entry| entry.unwrap().path());
        let files = files.filter(|path| path.is_file());
        files.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect::<std::collections::BTreeMap<_, _>>()
    };
    let trial = |pace| {
        let trial = start(&look_up(&scores.address, PATIENT), pace, Some(state.path()), 2);
        (0..4).for_each(|n| trial.feed_to(n % 2, &event(&format!("e{n}"), "x")));
        trial
    };
    let replayed = |wanted: &[Option<f64>]| {
        let before = files();
        let rows = trial(Pace::Bounded).end().unwrap();
        assert!(rows.len() == 4 && rows.values().all(|rows| rows[0] == wanted), "{rows:?}");
        let mut after = files();
        after.retain(|path, bytes| before.contains_key(path) || !bytes.is_empty());
        assert_eq!(after, before, "the replay wrote something");
    };
    replayed(&FALLBACK);
    let run = trial(Pace::Live);
    (0..4).for_each(|n| assert_eq!(run.row(&format!("e{n}")), ANSWERED));
    run.stop();
    assert!(files().keys().any(|path| path.ends_with("answers-1.jsonl")));
    replayed(&ANSWERED);
}

/// HTTPS is a choice of the build: without it the error says which.
#[cfg(not(feature = "lookup-https"))]
#[test]
fn https_says_how_to_get_it() {
    let trial = start(&look_up("https://127.0.0.1:1/{key}", ""), Pace::Live, None, 1);
    let says = trial.end().unwrap_err();
    assert!(says.contains("cargo build --release --features lookup-https"), "{says}");
}

/// A server of one answer, with a certificate of its own. Whom to trust is said by the environment, so the test runs itself
/// again with and without it.
#[cfg(feature = "lookup-https")]
mod https {
    use std::net::TcpStream;
    use std::process::{Child, Command, Stdio};

    use super::*;

    const PORT: &str = "DELTAWATCH_TEST_HTTPS";

    struct Server(Child);

    impl Drop for Server {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    #[ignore = "run by `asked_if_it_is_trusted`"]
    fn ask() {
        let address = format!("https://localhost:{}/{{key}}", std::env::var(PORT).unwrap());
        let trial = start(&look_up(&address, PATIENT), Pace::Live, None, 1);
        trial.feed(&event("a", "x"));
        println!("answer {:?}, errors {}", trial.row("a"), trial.metrics.service_errors.get());
        trial.stop();
    }

    #[test]
    fn asked_if_it_is_trusted() {
        let directory = tempfile::tempdir().unwrap();
        let openssl = |arguments: &str| {
            let mut command = Command::new("openssl");
            command.args(arguments.split(' ')).current_dir(directory.path());
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command
        };
        let made = openssl(
            "req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=localhost \
             -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE",
        )
        .status();
        if !made.is_ok_and(|status| status.success()) {
            return eprintln!("SKIPPED: openssl cannot make a certificate here");
        }
        let answer = r#"{"score":0.75}"#;
        let answer =
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{answer}", answer.len());
        std::fs::write(directory.path().join("x"), answer).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let serve = format!("s_server -accept 127.0.0.1:{port} -cert cert.pem -key key.pem -HTTP -quiet");
        let _server = Server(openssl(&serve).spawn().unwrap());
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(20), "the server does not start");
            thread::sleep(Duration::from_millis(10));
        }
        for (trusted, wanted) in [(true, ANSWERED), (false, FALLBACK)] {
            let mut again = Command::new(std::env::current_exe().unwrap());
            again.args(["enrich::service::https::ask", "--exact", "--ignored", "--nocapture"]);
            again.env(PORT, port.to_string()).env_remove("SSL_CERT_FILE").env_remove("SSL_CERT_DIR");
            if trusted {
                again.env("SSL_CERT_FILE", directory.path().join("cert.pem"));
            }
            let output = again.output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            let said = format!("answer {wanted:?}, errors {}", u8::from(!trusted));
            assert!(
                output.status.success() && text.contains(&said),
                "{text}{}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
    }
}
