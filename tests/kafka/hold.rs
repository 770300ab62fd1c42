//! Partitions that are held, and what a source says of their ends.

use super::*;

/// Records of each partition.
const COUNT: u64 = 30_000;

fn by_partition(records: &[Record]) -> [u64; 2] {
    [0, 1].map(|partition| records.iter().filter(|record| record.partition == partition).count() as u64)
}

#[test]
fn a_partition_that_is_held_waits_and_loses_nothing() {
    let Some(brokers) = brokers() else { return };
    let (config, topic) = (config(&brokers), topic(&brokers, 2));
    // Keys spread over both; what matters is that each has more than the queues between broker and worker hold.
    write_all(&config, &topic, (0..2 * COUNT as usize).map(output));
    let source = KafkaSource::new(config, &topic, Position::Earliest, None);
    let mut reader = source.open(0, 1, &StartOffsets::new()).unwrap();
    reader.hold(&[0]);

    let (mut records, begin) = (Vec::new(), Instant::now());
    let ends = |reader: &dyn Reader| {
        let mut ends = Vec::new();
        reader.ends(&mut ends);
        ends
    };
    // The other one is read to its end meanwhile, and says so.
    while !ends(&*reader).iter().any(|(partition, _)| *partition == 1) {
        reader.poll(1_000, &mut records).unwrap();
        assert!(begin.elapsed() < PATIENCE, "{:?}", by_partition(&records));
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(Duration::from_millis(300));
    while reader.poll(1_000, &mut records).unwrap() == Ready::More {}
    let [held, other] = by_partition(&records);
    assert!(other > COUNT / 2, "the keys fall into one partition: {held} and {other}");
    assert_eq!(ends(&*reader), [(1, other)]);
    // What was on its way when the hold came may come.
    assert!(held < 6_000, "{held} records of the partition that is held");

    reader.hold(&[]);
    records.extend(read_some(&mut *reader, (2 * COUNT) as usize - records.len()));
    assert_offsets_rise(&records);
    assert_eq!(by_partition(&records).iter().sum::<u64>(), 2 * COUNT);
    let begin = Instant::now();
    while ends(&*reader).len() < 2 {
        assert!(begin.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(1));
    }
}
