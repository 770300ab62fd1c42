//! Kafka as a source: one topic, partitions assigned to workers by number, offsets kept by the caller.
//!
//! Each reader owns a consumer on a thread of its own and a bounded channel in front of it. Nothing is subscribed and
//! nothing is committed: partition `p` belongs to worker `p mod workers`, and where to start is given by offsets, else
//! by a [`Position`]. Only committed records are read (`read_committed`).
//!
//! * **Unbounded** (`to` is absent): partitions that appear later are discovered and read from their beginning. Brokers
//!   that are away are waited for without end; the outage is logged once.
//! * **Bounded**: the stop offsets are taken once, when the reader opens. A stop offset may never be delivered, because
//!   control records and aborted data occupy offsets, so a partition ends at its stop *or* when it is read to its end.
//!   A range by time is half open, `from <= timestamp < to`, also where timestamps are out of order (see
//!   [`DISORDER_MS_MAX`]). Brokers that stay away longer than the broker timeout end the replay with an error.
//!
//! **Back-pressure.** A full channel stops the thread; one that stays full pauses the partitions. A partition that is far
//! ahead of the others in event time is paused alone ([`Reader::hold`]). Memory per reader is
//! bounded: [`CHANNEL_BATCHES`] batches of at most [`BATCH_RECORDS`] records or [`BATCH_BYTES`] bytes (more only where one
//! record is larger), and 16 MiB in the client.
//!
//! **Starting at [`Position::Latest`]**: call [`KafkaSource::resolve`] once, log what it returns as the first binding, and
//! open with it; else a restart would begin behind records that came in between.

mod config;
mod fetch;
mod health;
mod range;

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::TryRecvError;
use rdkafka::consumer::BaseConsumer;

pub use config::{BROKER_TIMEOUT, KafkaConfig, KafkaConfigError};
pub use fetch::{BATCH_BYTES, BATCH_RECORDS, CHANNEL_BATCHES};
pub(crate) use health::{Health, HealthContext};
pub use range::{DISORDER_MS_MAX, Position};
pub(crate) use range::{is_refusal, partitions_of, topic_missing, unreachable};

use super::{Reader, Ready, Source, SourceError, StartOffsets};
use crate::event::{Origin, Partition, Record};
use fetch::{Fetch, FetchedBatch, Shared};
use range::Inquiry;

/// How often an unbounded reader looks for new partitions.
pub const DISCOVERY_INTERVAL: Duration = Duration::from_secs(10);

/// A topic to read.
#[derive(Clone, Debug)]
pub struct KafkaSource {
    config: KafkaConfig,
    topic: String,
    from: Position,
    to: Option<Position>,
    discovery: Duration,
}

impl KafkaSource {
    /// Reads `topic` from a position on; up to another one if it is bounded.
    pub fn new(config: KafkaConfig, topic: &str, from: Position, to: Option<Position>) -> Self {
        KafkaSource { config, topic: topic.to_owned(), from, to, discovery: DISCOVERY_INTERVAL }
    }

    /// Looks for new partitions at another interval than [`DISCOVERY_INTERVAL`].
    pub fn with_discovery_interval(mut self, interval: Duration) -> Self {
        self.discovery = interval;
        self
    }

    /// The offsets at which all partitions of the topic would start now. Blocks for a few round trips, or until the
    /// broker timeout is over.
    pub fn resolve(&self) -> Result<StartOffsets, SourceError> {
        let consumer = self.consumer(&Health::new(self.config.brokers()))?;
        let inquiry = self.inquiry(&consumer);
        let spans = inquiry.spans(&inquiry.partitions()?, &StartOffsets::new(), self.from, None)?;
        Ok(spans.into_iter().map(|(partition, span)| (partition, span.start)).collect())
    }

    fn consumer(&self, health: &Arc<Health>) -> Result<BaseConsumer<HealthContext>, SourceError> {
        let created = self.config.consumer().create_with_context(HealthContext(Arc::clone(health)));
        Ok(created.map_err(|error| self.config.explain(error))?)
    }

    fn inquiry<'a>(&'a self, consumer: &'a BaseConsumer<HealthContext>) -> Inquiry<'a> {
        Inquiry { consumer, config: &self.config, topic: &self.topic }
    }

    /// The record timestamps to keep: a half-open range.
    fn timestamps(&self) -> std::ops::Range<i64> {
        let start = match self.from {
            Position::Timestamp(ms) => ms,
            _ => i64::MIN,
        };
        let end = match self.to {
            Some(Position::Timestamp(ms)) => ms,
            _ => i64::MAX,
        };
        start..end
    }
}

impl Source for KafkaSource {
    fn open(&self, worker: usize, workers: usize, start: &StartOffsets) -> Result<Box<dyn Reader>, SourceError> {
        let health = Health::new(self.config.brokers());
        let consumer = self.consumer(&health)?;
        let inquiry = self.inquiry(&consumer);
        let mut mine = inquiry.partitions()?;
        mine.retain(|partition| *partition as usize % workers == worker);
        let spans = inquiry.spans(&mine, start, self.from, self.to)?;
        let shared = Arc::new(Shared::new(mine));
        let (sender, receiver) = crossbeam_channel::bounded(CHANNEL_BATCHES);
        let poller = std::thread::current();
        let brokers = Arc::clone(&health);
        let fetch = Fetch::new(self, (worker, workers), spans, Arc::clone(&shared), health, (sender, poller));
        let thread = std::thread::Builder::new()
            .name(format!("kafka-{worker}"))
            .spawn(move || fetch.run(&consumer))
            .map_err(|error| SourceError::External(format!("cannot start a thread for kafka: {error}")))?;
        Ok(Box::new(KafkaReader {
            brokers,
            shared,
            receiver: Some(receiver),
            taken: Vec::new().into_iter(),
            thread: Some(thread),
        }))
    }

    fn describe(&self) -> String {
        match self.to {
            None => format!("kafka topic {} at {} from {:?}", self.topic, self.config.brokers(), self.from),
            Some(to) => {
                format!("kafka topic {} at {} from {:?} to {to:?}", self.topic, self.config.brokers(), self.from)
            }
        }
    }

    fn identity(&self) -> String {
        format!("kafka topic {} from {:?}", self.topic, self.from)
    }

    fn bounded(&self) -> bool {
        self.to.is_some()
    }

    fn origin(&self, _partition: Partition) -> Origin {
        Origin::Topic(self.topic.clone())
    }
}

/// The worker's end of the channel.
struct KafkaReader {
    brokers: Arc<Health>,
    shared: Arc<Shared>,
    /// Absent once the fetching thread has ended.
    receiver: Option<crossbeam_channel::Receiver<FetchedBatch>>,
    /// What is left of the batch received last.
    taken: std::vec::IntoIter<Record>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Reader for KafkaReader {
    fn poll(&mut self, limit: usize, into: &mut Vec<Record>) -> Result<Ready, SourceError> {
        let goal = into.len() + limit;
        // Asked before the channel is: a record that comes after the answer belongs to the next poll.
        let caught_up = self.shared.is_caught_up();
        let full = into.len();
        loop {
            into.extend(self.taken.by_ref().take(goal - into.len()));
            if into.len() == goal {
                break;
            }
            let Some(receiver) = &self.receiver else { break };
            match receiver.try_recv() {
                Ok(batch) => self.taken = batch?.into_iter(),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => self.receiver = None,
            }
        }
        self.shared.took(into.len() - full);
        if into.len() > full {
            return Ok(Ready::More);
        }
        Ok(match (&self.receiver, caught_up) {
            (None, _) => Ready::Done,
            (Some(_), true) => Ready::CaughtUp,
            (Some(_), false) => Ready::Waiting,
        })
    }

    fn partitions(&self) -> Vec<Partition> {
        self.shared.partitions()
    }

    fn ends(&self, into: &mut Vec<(Partition, u64)>) {
        into.extend(self.shared.ends().iter().map(|(&partition, &end)| (partition, end)));
    }

    fn hold(&mut self, partitions: &[Partition]) {
        self.shared.hold(partitions);
    }

    fn is_log(&self) -> bool {
        true
    }

    fn trouble(&self) -> Option<String> {
        self.brokers.trouble()
    }

    fn lag(&self) -> Option<u64> {
        Some(self.shared.lag())
    }
}

impl Drop for KafkaReader {
    fn drop(&mut self) {
        self.shared.stop();
        self.receiver = None;
        if let Some(thread) = self.thread.take() {
            // It has no result; a panic there was reported when it happened.
            let _ = thread.join();
        }
    }
}
