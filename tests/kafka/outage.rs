//! Brokers that are down, and a broker that is killed in the middle.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use deltawatch::sink::Writer;
use deltawatch::sink::kafka::KafkaWriter;
use deltawatch::source::kafka::{KafkaSource, Position};
use deltawatch::source::{Source, SourceError, StartOffsets};

use super::*;

#[test]
fn brokers_that_are_down_are_given_up_in_time_with_one_clear_line() {
    // A port that was free a moment ago: connections are refused.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    let config = config(&address).with_broker_timeout(Duration::from_millis(1500));
    let begin = Instant::now();
    let error = everything(&config, "t").open(0, 1, &StartOffsets::new()).err().unwrap();
    assert!(matches!(error, SourceError::External(_)));
    let sink = KafkaWriter::open(&config, "t", None).err().unwrap();
    assert!((Duration::from_secs(3)..Duration::from_secs(8)).contains(&begin.elapsed()), "{:?}", begin.elapsed());
    for error in [error.to_string(), sink.to_string()] {
        assert!(error.contains(&address) && error.contains("check --brokers") && !error.contains('\n'), "{error}");
    }
}

/// A broker of this test's own, so that no other test sees it die.
pub struct Broker(pub u16);

impl Broker {
    pub fn run(&self, command: &str) {
        let status = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/kafka.sh"))
            .args(command.split(' '))
            .env("DELTAWATCH_KAFKA_PORT", self.0.to_string())
            .env_remove("DELTAWATCH_KAFKA_DATA")
            .stdout(std::process::Stdio::null())
            .status()
            .unwrap();
        assert!(status.success(), "scripts/kafka.sh {command}");
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.0)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.run("clean");
    }
}

#[test]
fn a_broker_killed_in_the_middle_loses_and_repeats_nothing() {
    let Some(shared) = brokers() else { return };
    // Next to the port of the shared broker, which uses two.
    let port: u16 = shared.rsplit(':').next().unwrap().parse().unwrap();
    let broker = Broker(port + 10);
    broker.run("start --fresh");
    // Small batches: acknowledgements come in many steps, and no fetch holds much of the topic.
    let settings = ["producer.batch.num.messages=200", "consumer.queued.max.messages.kbytes=64"].map(str::to_owned);
    let config = KafkaConfig::resolve(Some(&broker.address()), None, &settings).unwrap();
    let topic = topic(&broker.address(), 4);
    const COUNT: usize = 50_000;

    let source = KafkaSource::new(config.clone(), &topic, Position::Earliest, None);
    let mut reader = source.open(0, 1, &StartOffsets::new()).unwrap();
    let mut live = Vec::new();
    let mut writer = KafkaWriter::open(&config, &topic, None).unwrap();
    let figures = writer.figures();
    for number in 0..COUNT {
        if number == COUNT / 2 {
            // Acknowledged records must survive the crash, and those on their way must arrive after it.
            let begin = Instant::now();
            while figures.acknowledged() < COUNT as u64 / 20 {
                writer.poll().unwrap();
                assert!(begin.elapsed() < PATIENCE, "nothing is acknowledged");
            }
            broker.run("kill");
        }
        if number == COUNT * 3 / 5 {
            let before = figures.acknowledged();
            assert!(before < number as u64, "everything is acknowledged though the broker is dead");
            broker.run("start");
        }
        writer.write(output(number)).unwrap();
        if number % 64 == 0 {
            writer.poll().unwrap();
            reader.poll(1000, &mut live).unwrap();
        }
    }
    writer.flush().unwrap();
    assert_eq!((figures.acknowledged(), figures.failed()), (COUNT as u64, 0));

    let expected: BTreeSet<String> = (0..COUNT).map(|number| format!("{{\"id\":\"t-{number}\"}}")).collect();
    let again = read_all(&everything(&config, &topic), 2, &StartOffsets::new());
    live.extend(read_some(reader.as_mut(), COUNT - live.len()));
    for (name, records) in [("read afterwards", again), ("read live across the crash", live)] {
        assert_eq!(records.len(), COUNT, "{name}");
        assert_offsets_rise(&records);
        assert!(records.iter().map(|record| text(record).to_owned()).collect::<BTreeSet<_>>() == expected, "{name}");
    }

    // While the broker is away, a bounded replay gives up in time; an unbounded reader waits.
    let impatient = config.with_broker_timeout(Duration::from_secs(2));
    let mut replay = everything(&impatient, &topic).open(0, 1, &StartOffsets::new()).unwrap();
    broker.run("kill");
    let (begin, mut records) = (Instant::now(), Vec::new());
    let error = loop {
        match replay.poll(4000, &mut records) {
            Ok(Ready::Done) => panic!("done without a broker"),
            Ok(_) => std::thread::sleep(Duration::from_millis(1)),
            Err(error) => break error.to_string(),
        }
        assert!(begin.elapsed() < PATIENCE, "not given up after {} records", records.len());
    };
    assert!(error.contains("check --brokers"), "{error}");
    assert_offsets_rise(&records);
    assert_eq!(reader.poll(1000, &mut records).unwrap(), Ready::Waiting);
}
