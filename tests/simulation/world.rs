//! What a seed decides before anything runs: the records, how the engine is set up, and what comes of it on paper.

use std::collections::BTreeMap;
use std::sync::Arc;

use deltawatch::event::{Partition, Payload, Record, Stand};
use deltawatch::source::{Reader, Ready, Source, SourceError, StartOffsets};
use deltawatch::testkit::disk::SimulatedDisk;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

/// A record of the source.
#[derive(Clone, Debug)]
pub struct Sent {
    /// When the source has it, nanoseconds.
    pub at_ns: u64,
    /// Event time, milliseconds.
    pub time_ms: i64,
    pub key: u32,
    pub amount: u64,
}

/// What a seed decides.
#[derive(Debug)]
pub struct World {
    pub partitions: Vec<Vec<Sent>>,
    pub keeps_records: bool,
    pub segment_bytes: u64,
    pub kept_ms: i64,
    pub cut_every_ms: u64,
    pub slow_ns: u64,
    /// Outputs are replaced where nothing is known of them.
    pub overwrites: bool,
    /// Paths of the scores and the rejects.
    pub outputs: [String; 2],
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed ^ 0x0057_4f52_4c44);
        let compressed = random.random_bool(0.2);
        let span_ns = if compressed { 15_000_000_000 } else { 2_000_000_000 };
        let partitions = random.random_range(1..=3);
        let partitions = (0..partitions).map(|_| {
            let count = random.random_range(40..200);
            let mut at: Vec<u64> = (0..count).map(|_| random.random_range(0..span_ns)).collect();
            at.sort_unstable();
            let sent = |at_ns: u64| {
                let time_ms = 1_700_000_000_000 + (at_ns / 1_000_000) as i64 + random.random_range(-200..200);
                // One clock in thirty is an hour ahead.
                let time_ms = time_ms + if random.random_bool(1.0 / 30.0) { 3_600_000 } else { 0 };
                Sent { at_ns, time_ms, key: random.random_range(0..12), amount: random.random_range(1..100) }
            };
            at.into_iter().map(sent).collect()
        });
        let partitions = partitions.collect();
        let ending = if compressed { [".gz", ".zst"][random.random_range(0..2)] } else { "" };
        World {
            partitions,
            keeps_records: random.random_bool(0.8),
            segment_bytes: random.random_range(500..6_000),
            kept_ms: random.random_range(0..1_500),
            cut_every_ms: random.random_range(30..600),
            slow_ns: if random.random_bool(0.3) { 40_000_000 } else { 0 },
            overwrites: compressed,
            outputs: ["scores", "rejects"].map(|name| format!("/run/outputs/{name}.jsonl{ending}")),
        }
    }

    /// The offset after the last record of each partition.
    pub fn ends(&self) -> BTreeMap<Partition, u64> {
        (0..).zip(&self.partitions).map(|(partition, sent)| (partition, sent.len() as u64)).collect()
    }

    pub fn bytes(&self, partition: Partition, offset: u64) -> Vec<u8> {
        let Sent { time_ms, key, amount, .. } = &self.partitions[partition as usize][offset as usize];
        format!("{key} {amount} {time_ms} {}", "x".repeat(offset as usize % 40)).into_bytes()
    }
}

/// Hands out records once their time has come.
#[derive(Clone)]
pub struct TimedSource {
    pub world: Arc<World>,
    pub clock: SimulatedDisk,
}

impl Source for TimedSource {
    fn open(&self, worker: usize, workers: usize, start: &StartOffsets) -> Result<Box<dyn Reader>, SourceError> {
        let mine = self.world.ends().into_keys().filter(|&partition| partition as usize % workers == worker);
        let next = mine.map(|partition| (partition, start.get(&partition).copied().unwrap_or(0))).collect();
        Ok(Box::new(TimedReader { source: self.clone(), next }))
    }

    fn describe(&self) -> String {
        "records in memory".into()
    }

    fn bounded(&self) -> bool {
        true
    }
}

struct TimedReader {
    source: TimedSource,
    next: BTreeMap<Partition, u64>,
}

impl Reader for TimedReader {
    fn poll(&mut self, limit: usize, into: &mut Vec<Record>) -> Result<Ready, SourceError> {
        let (world, now_ns) = (&self.source.world, self.source.clock.now_ns());
        let (mut more, mut done) = (false, true);
        for (&partition, next) in &mut self.next {
            let sent = &world.partitions[partition as usize];
            while let Some(due) = sent.get(*next as usize).filter(|sent| sent.at_ns <= now_ns) {
                if into.len() >= limit {
                    more = true;
                    break;
                }
                let payload = Payload::Json(world.bytes(partition, *next));
                let (timestamp_ms, stand) = (due.time_ms, Stand::default());
                into.push(Record { partition, offset: *next, timestamp_ms, arrived_ns: now_ns, stand, payload });
                *next += 1;
            }
            done &= *next == sent.len() as u64;
        }
        Ok(match (more, done) {
            (true, _) => Ready::More,
            (false, true) => Ready::Done,
            (false, false) => Ready::CaughtUp,
        })
    }

    fn partitions(&self) -> Vec<Partition> {
        self.next.keys().copied().collect()
    }

    fn ends(&self, into: &mut Vec<(Partition, u64)>) {
        let ends = self.source.world.ends();
        let ended = self.next.iter().filter(|(partition, next)| ends[partition] == **next);
        into.extend(ended.map(|(&partition, &next)| (partition, next)));
    }

    fn is_log(&self) -> bool {
        true
    }
}

/// A record of an epoch.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Item {
    pub partition: Partition,
    pub offset: u64,
    pub refused: bool,
    pub bytes: Vec<u8>,
}

/// In the place of the graph: sums per key, and a count over all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sums {
    pub by_key: BTreeMap<u32, u64>,
    pub count: u64,
}

impl Sums {
    /// The lines of an epoch: scores and rejects.
    pub fn take(&mut self, epoch: u64, watermark_ms: i64, mut items: Vec<Item>) -> [Vec<String>; 2] {
        items.sort_unstable();
        let (mut scores, mut rejects) = (Vec::new(), Vec::new());
        for Item { partition, offset, refused, bytes } in items {
            let text = String::from_utf8(bytes).expect("what was sent is text");
            let mut words = text.split(' ').map(|word| word.parse::<u64>().unwrap_or(0));
            let (key, amount) = (words.next().expect("a key") as u32, words.next().expect("an amount"));
            self.count += 1;
            let count = self.count;
            if refused || offset % 4 == 0 {
                rejects.push(format!("{partition}-{offset} epoch {epoch} count {count} refused {refused}"));
            }
            if !refused {
                let sum = self.by_key.entry(key).or_default();
                *sum += amount;
                scores.push(format!("{partition}-{offset} epoch {epoch} sum {sum} count {count} at {watermark_ms}"));
            }
        }
        [scores, rejects]
    }
}
