//! What a run says of a broker that goes away, and how it stops without it.

use std::time::{Duration, Instant};

use super::outage::Broker;
use super::*;
use crate::cli::live::{Run, health};

#[test]
fn a_broker_that_goes_is_said_and_a_stop_does_not_wait_for_it() {
    let Some(shared) = brokers() else { return };
    let port: u16 = shared.rsplit(':').next().unwrap().parse().unwrap();
    let broker = Broker(port + 30);
    broker.run("start --fresh");
    let (input, output) = (topic(&broker.address(), 2), topic(&broker.address(), 2));
    let (from, to, brokers) = (format!("kafka:{input}"), format!("kafka:{output}"), broker.address());
    let records = (0..200).map(|number| {
        let time = 1_700_000_000_000_u64 + number as u64 * 1000;
        let payload = format!(r#"{{"id":"p{number}","kind":"payment","time":{time},"card":"c1","amount":"1.50"}}"#);
        OutputRecord { payload: Some(payload.into_bytes()), ..super::output(number) }
    });
    write_all(&config(&brokers), &input, records);
    let flags = ["run", "--metrics", "0", "--input", &from, "--output", &to, "--brokers", &brokers];
    // A line of the log may come before the one that says where the page is.
    let (run, address) = Run::start(&[&flags[..], &["--log", "error"]].concat()).with_page();
    run.wait_until(&address, "/ready", "ok");
    let begin = Instant::now();
    while health(&address, "/health").1["acknowledged"].as_u64().is_none_or(|count| count < 200) {
        assert!(begin.elapsed() < PATIENCE, "not scored");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(health(&address, "/health").1["lag_records"], 0);

    broker.run("kill");
    let body = run.wait_until(&address, "/health", "failing");
    assert!(body["reasons"].to_string().contains(&format!("kafka at {brokers} has not answered")), "{body}");
    assert_eq!((health(&address, "/health").0, health(&address, "/ready").0), (503, 503));
    // It recovers by itself when the broker does.
    broker.run("start");
    run.wait_until(&address, "/health", "ok");

    run.signal("-TERM");
    let (status, _, error) = run.end();
    assert_eq!(status.code(), Some(0), "{error}");

    // With scores on their way to a broker that is gone, a stop says what is left and does not wait for it.
    let flags = ["run", "--metrics", "0", "--pace", "500", "--output", &to, "--brokers", &brokers, "--log", "error"];
    let (run, address) = Run::start(&flags).with_page();
    run.wait_until(&address, "/ready", "ok");
    broker.run("kill");
    let body = run.wait_until(&address, "/health", "failing");
    assert!(body["reasons"].to_string().contains("has not answered"), "{body}");
    run.signal("-TERM");
    let begin = Instant::now();
    let (status, _, error) = run.end();
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    assert_eq!(status.code(), Some(3), "{error}");
    let line = error.lines().find(|line| line.starts_with("error: ")).unwrap();
    for word in ["stopped although kafka at", "has not answered", "outputs are not acknowledged"] {
        assert!(line.contains(word), "no '{word}': {line}");
    }
}
