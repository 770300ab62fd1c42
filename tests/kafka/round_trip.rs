//! What is written is read: partitions, ranges, ends, odd records.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use deltawatch::event::Payload;
use deltawatch::sink::kafka::KafkaWriter;
use deltawatch::sink::{OutputRecord, Writer};
use deltawatch::source::kafka::{KafkaSource, Position};
use deltawatch::source::{Ready, Source, SourceError, StartOffsets};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::*;

#[test]
fn written_records_are_read_once_by_any_number_of_workers() {
    let Some(brokers) = brokers() else { return };
    let (config, topic) = (config(&brokers), topic(&brokers, 4));
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&acknowledged);
    let mut writer =
        KafkaWriter::open(&config, &topic, Some(Box::new(move |arrived| seen.lock().unwrap().push(arrived)))).unwrap();
    let figures = writer.figures();
    for number in 0..3000 {
        writer.write(output(number)).unwrap();
        writer.poll().unwrap();
    }
    writer.flush().unwrap();
    assert_eq!((figures.acknowledged(), figures.failed(), writer.unacknowledged()), (3000, 0, 0));
    acknowledged.lock().unwrap().sort_unstable();
    assert_eq!(*acknowledged.lock().unwrap(), (0..3000).collect::<Vec<u64>>());

    let source = everything(&config, &topic);
    let expected: BTreeSet<String> = (0..3000).map(|number| format!("{{\"id\":\"t-{number}\"}}")).collect();
    for workers in [1, 3] {
        let records = read_all(&source, workers, &StartOffsets::new());
        assert_eq!(records.len(), 3000);
        assert_offsets_rise(&records);
        assert_eq!(records.iter().map(|record| text(record).to_owned()).collect::<BTreeSet<_>>(), expected);
        assert_eq!(records.iter().map(|record| record.partition).collect::<BTreeSet<_>>().len(), 4);
        assert!(records.iter().all(|record| record.arrived_ns > 0 && record.timestamp_ms > 1_700_000_000_000));
    }
    // Two workers without a partition are done at once.
    assert_eq!(read_all(&source, 6, &StartOffsets::new()).len(), 3000);
}

#[test]
fn flush_takes_milliseconds_and_headers_tell_epoch_diff_and_cause() {
    let Some(brokers) = brokers() else { return };
    let (config, topic) = (config(&brokers), topic(&brokers, 1));
    let mut writer = KafkaWriter::open(&config, &topic, None).unwrap();
    let mut quickest = Duration::MAX;
    for number in 0..10 {
        let begin = Instant::now();
        let mut record = output(number);
        record.headers.diff = if number == 0 { -1 } else { 1 };
        record.headers.cause = if number == 1 { "" } else { "late_event" };
        writer.write(record).unwrap();
        writer.flush().unwrap();
        quickest = quickest.min(begin.elapsed());
    }
    assert!(quickest < Duration::from_millis(60), "a flush takes {quickest:?}");

    let consumer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", &brokers).set("group.id", "test").create().unwrap();
    let mut list = rdkafka::TopicPartitionList::new();
    list.add_partition_offset(&topic, 0, rdkafka::Offset::Beginning).unwrap();
    consumer.assign(&list).unwrap();
    for expected in [
        vec![("epoch", "0"), ("diff", "-1"), ("cause", "late_event")],
        vec![("epoch", "1"), ("diff", "1")],
        vec![("epoch", "2"), ("diff", "1"), ("cause", "late_event")],
    ] {
        let message = consumer.poll(PATIENCE).unwrap().unwrap();
        let text = |bytes| std::str::from_utf8(bytes).unwrap();
        let headers: Vec<_> =
            message.headers().unwrap().iter().map(|header| (header.key, text(header.value.unwrap()))).collect();
        assert_eq!(headers, expected);
        assert_eq!(text(message.key().unwrap()), format!("t-{}", expected[0].1));
    }
}

#[test]
fn odd_records_are_delivered_for_the_decoder_to_judge() {
    let Some(brokers) = brokers() else { return };
    let (config, topic) = (config(&brokers), topic(&brokers, 1));
    let large = vec![b'x'; 900_000];
    let payloads = [None, Some(Vec::new()), Some(large.clone()), Some(vec![0xff, 0x00])];
    let records = payloads.map(|payload| OutputRecord { payload, ..output(7) });
    write_all(&config, &topic, records);
    let read = read_all(&everything(&config, &topic), 1, &StartOffsets::new());
    let payloads: Vec<_> = read.iter().map(|record| &record.payload).collect();
    assert!(
        matches!(
            payloads[..],
            [Payload::Tombstone { .. }, Payload::Json(empty), Payload::Json(big), Payload::Json(binary)]
                if empty.is_empty() && *big == large && *binary == [0xff, 0x00]
        ),
        "{} records",
        payloads.len()
    );
    assert_eq!(read.iter().map(|record| record.offset).collect::<Vec<_>>(), [0, 1, 2, 3]);
}

/// Small records of a batch are not refused because of a large one, nor because together they are too large.
#[test]
fn a_record_too_large_is_refused_and_says_what_to_raise() {
    let Some(brokers) = brokers() else { return };
    let (config, plain, client) = (config(&brokers), topic(&brokers, 1), topic(&brokers, 1));
    let name = format!("{plain}-limited");
    let limited = NewTopic::new(&name, 1, TopicReplication::Fixed(1));
    let limited = limited.set("max.message.bytes", "5000").set("retention.ms", "-1");
    block_on(admin(&brokers).create_topics([&limited], &AdminOptions::new())).unwrap()[0].as_ref().unwrap();
    for (topic, setting, bytes) in [
        (&plain, "topic's max.message.bytes, which is", 2_000_000),
        (&client, "producer.message.max.bytes", 1_010_000),
        (&name, "topic's max.message.bytes, which is 5000", 6_000),
    ] {
        let mut writer = KafkaWriter::open(&config, topic, None).unwrap();
        for number in 0..100 {
            let large = number == 50;
            let payload = if large { vec![b'x'; bytes] } else { vec![b'y'; 300] };
            writer.write(OutputRecord { payload: Some(payload), ..output(number) }).unwrap();
        }
        writer.flush().unwrap();
        let refused = writer.refused();
        assert_eq!(refused.len(), 1, "{refused:?}");
        assert_eq!(refused[0].key, b"t-50");
        assert!(refused[0].why.contains(setting) && refused[0].why.contains(topic.as_str()), "{refused:?}");
        assert_eq!(read_all(&everything(&config, topic), 1, &StartOffsets::new()).len(), 99, "{topic}");
    }
}

#[test]
fn a_range_by_time_is_half_open_and_survives_disorder() {
    let Some(brokers) = brokers() else { return };
    let (config, topic) = (config(&brokers), topic(&brokers, 2));
    let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", &brokers).create().unwrap();
    let base = 1_700_000_000_000;
    // Minutes out of order: 40 stands behind 55, 20 before the start of the range behind 30, 90 ends it for good.
    for (partition, minutes) in [(0, vec![10, 29, 30, 20, 55, 60, 40, 59, 61]), (1, vec![5, 31])] {
        for minute in minutes {
            let payload = minute.to_string();
            let record: BaseRecord<'_, str, str> = BaseRecord::to(&topic).payload(&payload);
            producer.send(record.partition(partition).timestamp(base + minute * 60_000)).unwrap();
        }
    }
    producer.flush(PATIENCE).unwrap();
    let at = |minute: i64| Position::Timestamp(base + minute * 60_000);
    let minutes = |from, to| {
        let records = read_all(&KafkaSource::new(config.clone(), &topic, from, Some(to)), 1, &StartOffsets::new());
        let mut minutes: Vec<i64> = records.iter().map(|record| text(record).parse().unwrap()).collect();
        minutes.sort_unstable();
        minutes
    };
    assert_eq!(minutes(at(30), at(60)), [30, 31, 40, 55, 59]);
    assert_eq!(minutes(at(60), Position::Latest), [60, 61]);
    assert_eq!(minutes(Position::Earliest, at(21)), [5, 10, 20]);
    assert_eq!(minutes(at(1000), at(2000)), [] as [i64; 0]);
}

#[test]
fn a_tail_of_aborted_data_and_control_records_ends_the_replay() {
    let Some(brokers) = brokers() else { return };
    let (config, topic) = (config(&brokers), topic(&brokers, 2));
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", &brokers).set("transactional.id", &topic).create().unwrap();
    producer.init_transactions(PATIENCE).unwrap();
    let send = |partition, payload: &str| {
        let record: BaseRecord<'_, str, str> = BaseRecord::to(&topic).payload(payload);
        producer.send(record.partition(partition)).unwrap();
    };
    for (committed, payload) in [(true, "a"), (false, "x"), (true, "b"), (false, "y")] {
        producer.begin_transaction().unwrap();
        for _ in 0..5 {
            send(0, payload);
        }
        // Partition 1 holds aborted data and control records only.
        if !committed {
            send(1, payload);
        }
        producer.flush(PATIENCE).unwrap();
        match committed {
            true => producer.commit_transaction(PATIENCE).unwrap(),
            false => producer.abort_transaction(PATIENCE).unwrap(),
        }
    }
    let read = || read_all(&everything(&config, &topic), 2, &StartOffsets::new());
    let texts: Vec<String> = read().iter().map(|record| text(record).to_owned()).collect();
    assert_eq!(texts, ["a", "a", "a", "a", "a", "b", "b", "b", "b", "b"]);

    // An open transaction holds the end back; a replay does not wait for it.
    producer.begin_transaction().unwrap();
    send(0, "open");
    producer.flush(PATIENCE).unwrap();
    assert_eq!(read().len(), 10);

    // An unbounded reader catches up with the same records, and control records do not count as lag.
    let live = KafkaSource::new(config.clone(), &topic, Position::Earliest, None);
    let mut reader = live.open(0, 1, &StartOffsets::new()).unwrap();
    assert_eq!(read_some(reader.as_mut(), 10).len(), 10);
    let begin = Instant::now();
    while reader.poll(10, &mut Vec::new()).unwrap() != Ready::CaughtUp {
        assert!(begin.elapsed() < PATIENCE, "never caught up");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(reader.lag(), Some(0));
    producer.abort_transaction(PATIENCE).unwrap();
}

#[test]
fn reading_resumes_where_the_offsets_say() {
    let Some(brokers) = brokers() else { return };
    let (config, topic) = (config(&brokers), topic(&brokers, 2));
    write_all(&config, &topic, (0..400).map(output));
    let source = everything(&config, &topic);
    let all = read_all(&source, 1, &StartOffsets::new());
    let (first, rest): (Vec<_>, Vec<_>) = all.iter().partition(|record| record.offset < 57 + record.partition as u64);
    assert!(!first.is_empty() && !rest.is_empty());
    let again = read_all(&source, 2, &StartOffsets::from([(0, 57), (1, 58)]));
    let coordinates = |record: &Record| (record.partition, record.offset);
    assert_eq!(
        again.iter().map(coordinates).collect::<BTreeSet<_>>(),
        rest.into_iter().map(coordinates).collect::<BTreeSet<_>>()
    );
    // Offsets that no longer exist are lost data, not a reason to jump.
    let live = KafkaSource::new(config, &topic, Position::Earliest, None);
    let opened = live.open(0, 1, &StartOffsets::from([(0, 1_000_000), (1, 0)]));
    let error = opened.err().expect("it is refused").to_string();
    assert!(error.contains("ends at 200"), "{error}");
}

#[test]
fn latest_is_bound_once() {
    let Some(brokers) = brokers() else { return };
    let (config, topic) = (config(&brokers), topic(&brokers, 2));
    write_all(&config, &topic, (0..50).map(output));
    let source = KafkaSource::new(config.clone(), &topic, Position::Latest, None);
    let start = source.resolve().unwrap();
    assert_eq!(start.len(), 2);
    assert_eq!(start.values().sum::<u64>(), 50);
    write_all(&config, &topic, (50..60).map(output));
    let records = read_some(source.open(0, 1, &start).unwrap().as_mut(), 10);
    let texts: BTreeSet<String> = records.iter().map(|record| text(record).to_owned()).collect();
    assert_eq!(texts, (50..60).map(|number| format!("{{\"id\":\"t-{number}\"}}")).collect());
}

#[test]
fn new_partitions_are_discovered_and_read_from_their_beginning() {
    let Some(brokers) = brokers() else { return };
    let (config, topic) = (config(&brokers), topic(&brokers, 1));
    let source = KafkaSource::new(config.clone(), &topic, Position::Latest, None)
        .with_discovery_interval(Duration::from_millis(200));
    let mut readers = [0, 1].map(|worker| source.open(worker, 2, &StartOffsets::new()).unwrap());
    assert_eq!(readers.each_ref().map(|reader| reader.partitions()), [vec![0], vec![]]);
    add_partitions(&brokers, &topic, 3);
    write_all(&config, &topic, (0..300).map(output));
    let (mut records, begin) = (Vec::new(), Instant::now());
    while records.len() < 300 {
        for reader in &mut readers {
            reader.poll(1000, &mut records).unwrap();
        }
        assert!(begin.elapsed() < PATIENCE, "{} of 300 records", records.len());
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(readers.each_ref().map(|reader| reader.partitions()), [vec![0, 2], vec![1]]);
    assert_eq!(records.iter().map(|record| record.partition).collect::<BTreeSet<_>>().len(), 3);
    assert_offsets_rise(&records);
}

#[test]
fn a_slow_worker_loses_nothing() {
    let Some(brokers) = brokers() else { return };
    let (config, topic) = (config(&brokers), topic(&brokers, 2));
    write_all(&config, &topic, (0..20_000).map(output));
    let mut reader = everything(&config, &topic).open(0, 1, &StartOffsets::new()).unwrap();
    // Long enough for the channel to fill up and the partitions to be paused.
    std::thread::sleep(Duration::from_millis(2500));
    assert_eq!(reader.lag(), Some(20_000));
    let records = read_some(reader.as_mut(), 20_000);
    assert_offsets_rise(&records);
    assert_eq!(records.iter().map(text).collect::<BTreeSet<_>>().len(), 20_000);
}

#[test]
fn a_topic_that_is_not_there_is_named() {
    let Some(brokers) = brokers() else { return };
    let config = config(&brokers);
    let source = everything(&config, "no-such-topic");
    let error = source.open(0, 1, &StartOffsets::new()).err().unwrap();
    assert!(matches!(error, SourceError::User(_)));
    let sink = KafkaWriter::open(&config, "no-such-topic", None).err().unwrap();
    for error in [error.to_string(), sink.to_string()] {
        assert!(error.contains("no-such-topic does not exist") && error.contains("--create"), "{error}");
    }
}
