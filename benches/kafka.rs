//! Kafka to Kafka through the binary: JSON in, the shipped pack and model, scored diffs out. Needs a broker in
//! `DELTAWATCH_TEST_BROKERS` that makes topics of any name by `scripts/kafka.sh topic`.

use std::process::Command;

const EVENTS: f64 = 200_000.0;

/// Replays generated payments from a topic of four partitions to another, and counts the CPU time of the process.
pub fn kafka(share: f64) {
    let Ok(brokers) = std::env::var("DELTAWATCH_TEST_BROKERS") else {
        println!("SKIPPED: Kafka to Kafka: set DELTAWATCH_TEST_BROKERS, for example after scripts/kafka.sh start");
        return;
    };
    let events = (EVENTS * share) as u64;
    let since = std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_millis());
    let (input, output) = (format!("bench-in-{since}"), format!("bench-out-{since}"));
    let bash = |script: &str| {
        let output = Command::new("bash").args(["-c", script]).current_dir(env!("CARGO_MANIFEST_DIR")).output();
        let output = output.expect("bash runs");
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let binary = env!("CARGO_BIN_EXE_deltawatch");
    let port = brokers.rsplit(':').next().unwrap_or("19092").to_owned();
    for topic in [&input, &output] {
        bash(&format!("DELTAWATCH_KAFKA_PORT={port} scripts/kafka.sh topic {topic} 4 retention.ms=-1"));
    }
    bash(&format!("{binary} generate --events {events} --output kafka:{input} --brokers {brokers}"));
    let timed = bash(&format!(
        "time -p {binary} replay --dataflow payments --input kafka:{input} --output kafka:{output} --brokers {brokers}"
    ));
    let seconds = |name: &str| {
        let line = timed.lines().rev().find_map(|line| line.strip_prefix(name));
        line.and_then(|seconds| seconds.trim().parse::<f64>().ok()).unwrap_or(f64::NAN)
    };
    let us = (seconds("user") + seconds("sys")) * 1e6 / events as f64;
    let per_s = events as f64 / seconds("real");
    println!(
        "Kafka to Kafka, payments     {us:>7.2} us/event CPU, {per_s:.0} events/s wall   target 25 us, 40000/s per core"
    );
}
