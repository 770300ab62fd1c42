//! The whole path on a real broker, through the binary: generate -> topic -> run -> topic.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::outage::Broker;
use super::*;

/// The longest that a run may take to score everything.
pub const SCORED_WITHIN: Duration = Duration::from_secs(300);

pub fn deltawatch(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_deltawatch"));
    command.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null());
    command
}

/// Runs a command to its end; its standard error, if it succeeded.
pub fn finish(arguments: &[&str]) -> String {
    let output = deltawatch(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {errors}");
    errors
}

/// Ends a run in good order, as Ctrl-C does.
pub fn interrupt(run: Child) -> std::process::Output {
    let killed = Command::new("kill").args(["-INT", &run.id().to_string()]).status().unwrap();
    assert!(killed.success());
    run.wait_with_output().unwrap()
}

/// Scored diffs by transaction, in the order of the topic.
fn scored(records: &[Record]) -> BTreeMap<String, Vec<serde_json::Value>> {
    let mut scored: BTreeMap<String, Vec<serde_json::Value>> = BTreeMap::new();
    for record in records {
        if matches!(record.payload, Payload::Json(_)) {
            let diff: serde_json::Value = serde_json::from_str(text(record)).unwrap();
            scored.entry(diff["id"].as_str().unwrap().to_owned()).or_default().push(diff);
        }
    }
    scored
}

#[test]
fn every_transaction_is_scored_once_though_the_broker_is_killed() {
    let Some(shared) = brokers() else { return };
    let port: u16 = shared.rsplit(':').next().unwrap().parse().unwrap();
    let broker = Broker(port + 20);
    broker.run("start --fresh");
    let address = broker.address();
    let (input, output) = (topic(&address, 4), topic(&address, 4));
    let directory = tempfile::tempdir().unwrap();
    let truth = directory.path().join("truth.jsonl").display().to_string();
    let events = if std::env::var_os("DELTAWATCH_FULL").is_some() { "200000" } else { "20000" };
    let (from, to) = (format!("kafka:{input}"), format!("kafka:{output}"));
    let generate = [
        "generate",
        "--seed",
        "5",
        "--events",
        events,
        "--truth",
        &truth,
        "--output",
        &from,
        "--withdrawal-share",
        "0",
    ];
    finish(&[&generate[..], &["--brokers", &address]].concat());
    let expected: BTreeSet<String> = std::fs::read_to_string(&truth)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["id"].as_str().unwrap().to_owned())
        .filter(|id| id.starts_with("t-"))
        .collect();
    assert!(expected.len() > 1000, "{} payments", expected.len());

    let run = ["run", "--dataflow", "payments", "--input", &from, "--from", "earliest", "--output", &to];
    let run =
        deltawatch(&[&run[..], &["--brokers", &address, "--horizon", "1000d", "--rejects", "/dev/null"]].concat());
    let run = { run }.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();

    let config = config(&address);
    let source = KafkaSource::new(config, &output, Position::Earliest, None);
    let mut reader = source.open(0, 1, &StartOffsets::new()).unwrap();
    let (mut records, mut arrivals, mut killed, begin) = (Vec::new(), BTreeSet::new(), false, Instant::now());
    while arrivals.len() < expected.len() {
        let before = records.len();
        reader.poll(10_000, &mut records).unwrap();
        for (id, diffs) in scored(&records[before..]) {
            if diffs.iter().any(|diff| diff["revision"] == 0) {
                arrivals.insert(id);
            }
        }
        if !killed && arrivals.len() > expected.len() / 10 {
            broker.run("kill");
            broker.run("start");
            killed = true;
        }
        assert!(begin.elapsed() < SCORED_WITHIN, "{} of {} scored", arrivals.len(), expected.len());
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(killed, "the broker was killed while scores were on their way");
    let ended = interrupt(run);
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));

    // Everything that was written, up to the end.
    let records = read_all(
        &KafkaSource::new(source_config(&address), &output, Position::Earliest, Some(Position::Latest)),
        1,
        &StartOffsets::new(),
    );
    let scored = scored(&records);
    for (id, diffs) in &scored {
        let first: Vec<_> = diffs.iter().filter(|diff| diff["revision"] == 0 && diff["diff"] == 1).collect();
        assert_eq!(first.len(), 1, "{id} has one arrival");
        let sum: i64 = diffs.iter().map(|diff| diff["diff"].as_i64().unwrap()).sum();
        assert!(sum == 0 || sum == 1, "{id}: diffs add up to {sum}");
    }
    let ids: BTreeSet<String> = scored.into_keys().collect();
    assert_eq!(ids, expected);
}

fn source_config(address: &str) -> KafkaConfig {
    config(address)
}

#[test]
fn bad_records_end_as_rejects_and_the_rest_is_scored() {
    let Some(brokers) = brokers() else { return };
    let input = topic(&brokers, 1);
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let payment = |id: &str, second: u32| {
        let time = 1_700_000_000_000_u64 + u64::from(second) * 1000;
        format!(r#"{{"id":"{id}","kind":"payment","time":{time},"card":"c1","amount":"12.50"}}"#)
    };
    let huge = format!(r#"{{"id":"huge","kind":"payment","time":1700000000000,"note":"{}"}}"#, "x".repeat(600_000));
    let payloads = [
        Some(payment("a", 1)),
        Some("not json".to_owned()),
        Some(String::new()),
        None,
        Some(r#"{"kind":"payment"}"#.to_owned()),
        Some(r#"{"id":"b","kind":"nonsense","time":1700000000000}"#.to_owned()),
        Some(huge),
        Some(payment("z", 2)),
    ];
    let record = |(number, payload): (usize, Option<String>)| OutputRecord {
        payload: payload.map(String::into_bytes),
        ..output(number)
    };
    write_all(&config(&brokers), &input, payloads.into_iter().enumerate().map(record));
    let (from, scores, rejects) = (format!("kafka:{input}"), path("scores.jsonl"), path("rejects.jsonl"));
    let replay = ["replay", "--dataflow", "payments", "--input", &from, "--output", &scores, "--rejects", &rejects];
    finish(&[&replay[..], &["--brokers", &brokers, "--record-bytes", "500000"]].concat());
    let lines = |path: &str| -> Vec<serde_json::Value> {
        std::fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let ids: Vec<_> = lines(&scores).iter().map(|diff| diff["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids, ["a", "z"]);
    let mut reasons: Vec<_> = lines(&rejects)
        .iter()
        .map(|r| (r["offset"].as_u64().unwrap(), r["reason"].as_str().unwrap().to_owned()))
        .collect();
    reasons.sort();
    let reasons: Vec<_> = reasons.iter().map(|(offset, reason)| (*offset, reason.as_str())).collect();
    let expected =
        [(1, "malformed"), (2, "empty"), (3, "empty"), (4, "missing_field"), (5, "unknown_kind"), (6, "oversized")];
    assert_eq!(reasons, expected);
    for reject in lines(&rejects) {
        assert_eq!((reject["topic"].as_str(), reject["partition"].as_u64()), (Some(&*input), Some(0)), "{reject}");
    }

    // To a topic, and from there sent again, as they were. Tombstones and empty records have nothing to send.
    let (refused, again) = (topic(&brokers, 1), topic(&brokers, 1));
    let (to_refused, to_again) = (format!("kafka:{refused}"), format!("kafka:{again}"));
    let replay = ["replay", "--input", &from, "--output", "/dev/null", "--rejects", &to_refused];
    finish(&[&replay[..], &["--brokers", &brokers, "--record-bytes", "500000"]].concat());
    let replay = ["rejects", "replay", "--input", &to_refused, "--output", &to_again, "--brokers", &brokers];
    let said = finish(&replay);
    assert!(
        said.contains("3 written") && said.contains("1 are cut off") && said.contains("2 are about no record"),
        "{said}"
    );
    let mut sent: Vec<String> = read_all(&everything(&config(&brokers), &again), 1, &StartOffsets::new())
        .iter()
        .map(|r| text(r).into())
        .collect();
    sent.sort();
    let unkind = r#"{"id":"b","kind":"nonsense","time":1700000000000}"#;
    assert_eq!(sent, ["not json", unkind, r#"{"kind":"payment"}"#]);
}

#[test]
fn a_score_too_large_for_its_topic_is_a_reject_and_the_run_goes_on() {
    let Some(brokers) = brokers() else { return };
    let name = format!("{}-limited", topic(&brokers, 1));
    let limited = NewTopic::new(&name, 1, TopicReplication::Fixed(1));
    let limited = limited.set("max.message.bytes", "2000").set("retention.ms", "-1");
    block_on(admin(&brokers).create_topics([&limited], &AdminOptions::new())).unwrap()[0].as_ref().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let (events, rejects) = (path("events.jsonl"), path("rejects.jsonl"));
    let payment = |number: usize| {
        let id = if number == 7 { "x".repeat(3_000) } else { format!("p{number}") };
        format!(
            r#"{{"id":"{id}","kind":"payment","time":{},"card":"c1","amount":"12.50"}}"#,
            1_700_000_000_000 + number
        )
    };
    std::fs::write(&events, (0..20).map(|number| payment(number) + "\n").collect::<String>()).unwrap();
    let to = format!("kafka:{name}");
    let errors = finish(&["replay", "--input", &events, "--output", &to, "--rejects", &rejects, "--brokers", &brokers]);
    assert!(errors.contains("output_too_large 1"), "{errors}");
    let rejects = std::fs::read_to_string(&rejects).unwrap();
    let line: serde_json::Value = serde_json::from_str(rejects.trim()).unwrap();
    assert_eq!((&line["reason"], line["id"].as_str().map(str::len)), (&"output_too_large".into(), Some(3_000)));
    assert!(line["message"].as_str().is_some_and(|says| says.contains("max.message.bytes")), "{line}");
    let source = KafkaSource::new(config(&brokers), &name, Position::Earliest, Some(Position::Latest));
    assert_eq!(read_all(&source, 1, &StartOffsets::new()).len(), 19);
}
