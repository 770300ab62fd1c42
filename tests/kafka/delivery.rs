//! What is promised of records in a topic, whatever is killed: exactly once with transactions, at least once without.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};

use deltawatch::sink::SinkError;
use deltawatch::sink::transactions::{TransactionalWriter, WriterIdentity};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::*;

fn deltawatch(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_deltawatch"));
    command.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

fn start(arguments: &[&str]) -> Child {
    deltawatch(arguments).spawn().unwrap()
}

/// How often each line is in a topic.
fn lines(config: &KafkaConfig, topic: &str) -> BTreeMap<String, usize> {
    let mut lines = BTreeMap::new();
    for record in read_all(&everything(config, topic), 1, &StartOffsets::new()) {
        if let Payload::Json(bytes) = record.payload {
            *lines.entry(String::from_utf8(bytes).unwrap()).or_default() += 1;
        }
    }
    lines
}

/// Kills a run from topic to topic again and again, and compares with a replay of its journal.
fn killed(delivery: &str, seed: u64) {
    let Some(brokers) = brokers() else { return };
    let (config, input, output) = (config(&brokers), topic(&brokers, 2), topic(&brokers, 2));
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (state, replayed, from, to) = (at("state"), at("out"), format!("kafka:{input}"), format!("kafka:{output}"));
    assert!(
        deltawatch(&["generate", "--events", "9000", "--output", &from, "--brokers", &brokers])
            .status()
            .unwrap()
            .success()
    );
    let common = ["--input", &from, "--brokers", &brokers, "--state", &state];
    let run = |workers: &str| {
        let flags = ["run", "--output", &to, "--delivery", delivery, "--cut-every", "150ms", "--workers", workers];
        start(&[&flags[..], &common].concat())
    };
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    for _ in 0..5 {
        let mut child = run(["1", "2"][random.random_range(0..2)]);
        std::thread::sleep(Duration::from_millis(random.random_range(300..1000)));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let mut last = run("2");
    // Until nothing comes any more.
    let (mut before, mut quiet) = (0, 0);
    let begin = Instant::now();
    while quiet < 4 {
        std::thread::sleep(Duration::from_millis(400));
        let now = lines(&config, &output).values().sum();
        quiet = if now == before && now > 0 { quiet + 1 } else { 0 };
        before = now;
        if let Some(status) = last.try_wait().unwrap() {
            let error = last.wait_with_output().unwrap().stderr;
            panic!("seed {seed}: it ended, {status}: {}", String::from_utf8_lossy(&error));
        }
        assert!(begin.elapsed() < 3 * PATIENCE, "seed {seed}: {now} lines, and no end");
    }
    assert!(Command::new("kill").args(["-TERM", &last.id().to_string()]).status().unwrap().success());
    let ended = last.wait_with_output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let replay = deltawatch(&[&["replay", "--output", &replayed], &common[..]].concat()).output().unwrap();
    assert!(replay.status.success(), "{}", String::from_utf8_lossy(&replay.stderr));
    let wanted = std::fs::read_to_string(&replayed).unwrap();
    // What ends an id is a line in a file, and a record without content in a topic.
    let wanted: Vec<&str> = wanted.lines().filter(|line| !line.contains("\"diff\":0,")).collect();
    // A broker that is busy shows what was committed a little later.
    let (begin, mut said) = (Instant::now(), lines(&config, &output));
    while wanted.iter().any(|line| !said.contains_key(*line)) && begin.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(200));
        said = lines(&config, &output);
    }
    let lost: Vec<_> = wanted.iter().filter(|line| !said.contains_key(**line)).take(3).collect();
    let twice: Vec<_> = said.iter().filter(|(_, count)| **count > 1).take(3).collect();
    eprintln!(
        "{delivery}, seed {seed}: {} lines, 5 kills, {} lost, {} doubled",
        wanted.len(),
        wanted.iter().filter(|line| !said.contains_key(**line)).count(),
        said.values().filter(|count| **count > 1).count()
    );
    let ends = [0, 1].map(|partition| {
        let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", &brokers).create().unwrap();
        consumer.fetch_watermarks(&output, partition, PATIENCE).map(|(_, high)| high).ok()
    });
    let seen = read_all(&everything(&config, &output), 1, &StartOffsets::new());
    let seen = [0, 1].map(|of| seen.iter().filter(|one| one.partition == of).map(|one| one.offset).max());
    assert!(
        wanted.len() > 4000 && lost.is_empty(),
        "{delivery}, seed {seed}: lost {lost:#?}; partitions end at {ends:?}, the last that is seen is {seen:?}"
    );
    assert_eq!(said.len(), wanted.len(), "{delivery}, seed {seed}: lines that no run should have written");
    assert!(delivery == "at-least-once" || twice.is_empty(), "{delivery}, seed {seed}: twice {twice:#?}");
}

/// Of each promise; `DELTAWATCH_FULL=1` for the long run.
fn seeds() -> u64 {
    if std::env::var_os("DELTAWATCH_FULL").is_some() { 150 } else { 5 }
}

#[test]
fn exactly_once_is_once_whatever_is_killed() {
    (1..=seeds()).for_each(|seed| killed("exactly-once", seed));
}

#[test]
fn at_least_once_loses_nothing_whatever_is_killed() {
    (101..=100 + seeds()).for_each(|seed| killed("at-least-once", seed));
}

fn identity(process: usize, processes: usize) -> WriterIdentity {
    WriterIdentity { state: "one".into(), process, processes }
}

#[test]
fn a_zombie_is_fenced_and_what_it_had_is_not_seen() {
    let Some(brokers) = brokers() else { return };
    let (config, topic) = (config(&brokers), topic(&brokers, 1));
    let open = |process, processes| TransactionalWriter::open(&config, &topic, identity(process, processes), None);
    let mut first = open(0, 1).unwrap();
    assert_eq!(first.committed_before(), None);
    first.write(output(0)).unwrap();
    first.commit(7).unwrap();
    first.flush().unwrap();
    assert_eq!(first.acknowledged().and_then(|acknowledged| acknowledged.epoch), Some(7));
    first.write(output(1)).unwrap();
    let mut second = open(0, 1).unwrap();
    assert_eq!(second.committed_before(), Some(7));
    let fenced = first.commit(8).and_then(|()| first.flush()).expect_err("it is fenced");
    assert!(matches!(&fenced, SinkError::External(why) if why.contains("fenced")), "{fenced}");
    second.write(output(2)).unwrap();
    second.commit(8).unwrap();
    second.flush().unwrap();
    assert_eq!(lines(&config, &topic).into_keys().collect::<Vec<_>>(), ["{\"id\":\"t-0\"}", "{\"id\":\"t-2\"}"]);
    drop((first, second));

    // A transaction that its writer did not live to commit.
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", &brokers).set("transactional.id", format!("deltawatch-{topic}-0"));
    let dead: BaseProducer = client.create().unwrap();
    dead.init_transactions(PATIENCE).unwrap();
    dead.begin_transaction().unwrap();
    dead.send(BaseRecord::<[u8], [u8]>::to(&topic).payload(b"{\"id\":\"never\"}")).ok().unwrap();
    dead.flush(PATIENCE).unwrap();
    let mut third = open(0, 1).unwrap();
    assert_eq!(third.committed_before(), Some(8));
    third.write(output(3)).unwrap();
    third.commit(9).and_then(|()| third.flush()).unwrap();
    let seen: Vec<String> = lines(&config, &topic).into_keys().collect();
    assert!(seen.iter().all(|line| !line.contains("never")), "{seen:?}");
    drop((dead, third));

    // Two processes that were at one epoch may become one, and not otherwise.
    let mut two: Vec<_> = [0, 1].map(|process| open(process, 2)).into_iter().map(|opened| opened.err()).collect();
    assert!(two.iter().all(Option::is_none), "{:?}", two.pop());
    for (epochs, one) in [([10, 10], Some(10)), ([12, 11], None)] {
        for (process, epoch) in epochs.into_iter().enumerate() {
            let mut writer = open(process, 2).unwrap();
            if (process, epoch) == (1, 10) {
                // Though the first process has gone on meanwhile.
                assert_eq!(writer.committed_before(), Some(9), "what one process had written");
            }
            writer.write(output(epoch as usize)).unwrap();
            writer.commit(epoch).unwrap();
            writer.flush().unwrap();
        }
        match (open(0, 1), one) {
            (Ok(writer), Some(epoch)) => assert_eq!(writer.committed_before(), Some(epoch)),
            (Err(error), None) => assert!(error.to_string().contains("not at one epoch"), "{error}"),
            (opened, _) => panic!("{epochs:?}: {:?}", opened.err()),
        }
    }
    // Another state directory knows nothing of these epochs.
    let other = WriterIdentity { state: "other".into(), ..identity(0, 1) };
    assert_eq!(TransactionalWriter::open(&config, &topic, other, None).unwrap().committed_before(), None);
}
