//! A restart over a topic that is not the one any more that it was.

use std::time::Instant;

use rdkafka::TopicPartitionList;

use super::*;

/// A run over a topic with a state directory; ended once so many events were scored, if that is said.
fn run(brokers: &str, input: &str, state: &str, until: Option<u64>) -> std::process::Output {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_deltawatch"));
    let from = format!("kafka:{input}");
    // Whom nobody reads must not be waited for.
    let output = if until.is_some() { "-" } else { "/dev/null" };
    let flags = ["run", "--input", &from, "--brokers", brokers, "--state", state, "--output", output];
    command.args(flags).current_dir(env!("CARGO_MANIFEST_DIR")).stdin(std::process::Stdio::null());
    let mut child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    if let Some(count) = until {
        use std::io::BufRead;
        let mut lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
        (0..count).for_each(|_| drop(lines.next().unwrap().unwrap()));
        let stopped = std::process::Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
        assert!(stopped.success());
        lines.for_each(drop);
        return child.wait_with_output().unwrap();
    }
    let begin = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begin.elapsed() > PATIENCE {
            child.kill().unwrap();
            let error = child.wait_with_output().unwrap().stderr;
            panic!("the run neither fails nor ends: {}", String::from_utf8_lossy(&error));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.wait_with_output().unwrap()
}

fn payments(count: usize, from: usize) -> impl Iterator<Item = OutputRecord> {
    (from..from + count).map(|number| {
        let time = 1_700_000_000_000_u64 + number as u64 * 1000;
        let payload = format!(r#"{{"id":"p{number}","kind":"payment","time":{time},"card":"c1","amount":"12.50"}}"#);
        OutputRecord { payload: Some(payload.into_bytes()), ..output(number) }
    })
}

fn refused(ended: &std::process::Output, words: &[&str]) {
    let error = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{error}");
    let line = error.lines().find(|line| line.starts_with("error: ")).expect("an error");
    words.iter().for_each(|word| assert!(line.contains(word), "no '{word}': {line}"));
}

#[test]
fn a_topic_made_anew_or_cut_by_retention_is_refused() {
    let Some(brokers) = brokers() else { return };
    let (config, input) = (config(&brokers), topic(&brokers, 1));
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state").display().to_string();
    write_all(&config, &input, payments(300, 0));
    let first = run(&brokers, &input, &state, Some(300));
    assert!(first.status.success(), "{}", String::from_utf8_lossy(&first.stderr));
    // It goes on as it was.
    write_all(&config, &input, payments(10, 300));
    let again = run(&brokers, &input, &state, Some(10));
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));

    // Retention has removed the first hundred: the journal has them.
    let mut before = TopicPartitionList::new();
    before.add_partition_offset(&input, 0, rdkafka::Offset::Offset(100)).unwrap();
    block_on(admin(&brokers).delete_records(&before, &AdminOptions::new())).unwrap();
    write_all(&config, &input, payments(10, 310));
    let again = run(&brokers, &input, &state, Some(10));
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));

    // Made anew, with more records and with fewer.
    for (count, words) in [(500, "record 319 of partition 0"), (10, "ends at 10")] {
        block_on(admin(&brokers).delete_topics(&[&input], &AdminOptions::new())).unwrap();
        let begin = Instant::now();
        loop {
            let anew = NewTopic::new(&input, 1, TopicReplication::Fixed(1)).set("retention.ms", "-1");
            let made = block_on(admin(&brokers).create_topics([&anew], &AdminOptions::new())).unwrap();
            if made[0].is_ok() {
                break;
            }
            assert!(begin.elapsed() < PATIENCE, "{made:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
        write_all(&config, &input, payments(count, 7));
        refused(&run(&brokers, &input, &state, None), &[words, "--state"]);
    }
    // The same first record, but fewer behind it.
    let directory = tempfile::tempdir().unwrap();
    let (state, input) = (directory.path().join("state").display().to_string(), topic(&brokers, 1));
    write_all(&config, &input, payments(50, 0));
    assert!(run(&brokers, &input, &state, Some(50)).status.success());
    block_on(admin(&brokers).delete_topics(&[&input], &AdminOptions::new())).unwrap();
    std::thread::sleep(Duration::from_secs(1));
    let anew = NewTopic::new(&input, 1, TopicReplication::Fixed(1)).set("retention.ms", "-1");
    block_on(admin(&brokers).create_topics([&anew], &AdminOptions::new())).unwrap();
    write_all(&config, &input, payments(10, 0));
    refused(&run(&brokers, &input, &state, None), &["ends at 10", "up to 49", "--state"]);
}

/// Replays of a topic of several partitions, before a run has written a state and after it.
#[test]
fn replays_repeat_a_run_and_write_nothing() {
    let Some(brokers) = brokers() else { return };
    let (config, input) = (config(&brokers), topic(&brokers, 3));
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state").display().to_string();
    write_all(&config, &input, payments(600, 0));
    let replay = |workers: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_deltawatch"));
        let from = format!("kafka:{input}");
        let flags = ["replay", "--input", &from, "--brokers", &brokers, "--state", &state, "--output", "-"];
        command.args(flags).args(["--workers", workers]).current_dir(env!("CARGO_MANIFEST_DIR"));
        let output = command.stdin(std::process::Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let mut lines: Vec<String> = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
        lines.sort();
        assert_eq!(lines.len(), 600);
        lines
    };
    let log = || std::fs::read_dir(format!("{state}/journal")).ok().map(|folder| folder.count());
    let first = replay("1");
    assert_eq!(replay("2"), first);
    assert_eq!(log(), None, "a replay began a log");
    let ran = run(&brokers, &input, &state, Some(600));
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let written = log();
    let again = replay("1");
    assert_eq!(replay("2"), again);
    assert_eq!(log(), written, "a replay went on with the log of a run");
}
