//! The thread behind a reader: polls the consumer, forms batches, pauses, discovers, ends.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{SendTimeoutError, Sender};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};

use super::KafkaSource;
use super::health::{Health, HealthContext};
use super::range::{OffsetSpan, is_refusal, partitions_of, topic_missing, unreachable};
use crate::event::{Partition, Payload, Record, Stand};
use crate::source::{SourceError, clock};

/// The most records of a batch.
pub const BATCH_RECORDS: usize = 512;

/// A batch is sent once its payloads are larger than this.
pub const BATCH_BYTES: usize = 1 << 20;

/// The most batches between the thread and the worker.
pub const CHANNEL_BATCHES: usize = 8;

/// How long one poll waits; bounds how late a request to stop is seen.
const POLL_WAIT: Duration = Duration::from_millis(50);

/// How long the channel may be full before the partitions are paused. Pausing throws away what the client has fetched
/// ahead, so it is for workers that stand still, not for those that are merely behind.
const PAUSE_AFTER: Duration = Duration::from_secs(1);

/// How often lag, outages and discovery are looked at.
const CHORE_INTERVAL: Duration = Duration::from_millis(200);

/// The longest that looking for new partitions may hold up reading.
const DISCOVERY_MAX: Duration = Duration::from_millis(500);

pub(super) type FetchedBatch = Result<Vec<Record>, SourceError>;

/// What thread and reader tell each other beside the records.
pub(super) struct Shared {
    stop: AtomicBool,
    /// All partitions are read to their end and brokers answer.
    at_end: AtomicBool,
    /// Records sent and not yet taken.
    queued: AtomicU64,
    /// Records at the brokers that are not yet fetched.
    behind: AtomicU64,
    partitions: Mutex<Vec<Partition>>,
    /// Partitions at their end, with the offset after the last record sent of each.
    ends: Mutex<BTreeMap<Partition, u64>>,
    /// Partitions that the worker does not want now, and whether that has changed.
    held: Mutex<BTreeSet<Partition>>,
    held_changed: AtomicBool,
}

impl Shared {
    pub(super) fn new(partitions: Vec<Partition>) -> Self {
        Shared {
            stop: AtomicBool::new(false),
            at_end: AtomicBool::new(false),
            queued: AtomicU64::new(0),
            behind: AtomicU64::new(0),
            partitions: Mutex::new(partitions),
            ends: Mutex::default(),
            held: Mutex::default(),
            held_changed: AtomicBool::new(false),
        }
    }

    /// Partitions at their end. Their last records may still be on their way: the offsets tell.
    pub(super) fn ends(&self) -> MutexGuard<'_, BTreeMap<Partition, u64>> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn hold(&self, partitions: &[Partition]) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = partitions.iter().copied().collect();
        self.held_changed.store(true, Ordering::Release);
    }

    fn held(&self) -> BTreeSet<Partition> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Orders with the thread: it clears the flag before it sends, and sets it after all it had is sent.
    pub(super) fn is_caught_up(&self) -> bool {
        self.at_end.load(Ordering::Acquire)
    }

    pub(super) fn took(&self, records: usize) {
        self.queued.fetch_sub(records as u64, Ordering::Relaxed);
    }

    pub(super) fn lag(&self) -> u64 {
        self.queued.load(Ordering::Relaxed) + self.behind.load(Ordering::Relaxed)
    }

    pub(super) fn partitions(&self) -> Vec<Partition> {
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Where a partition stands.
struct PartitionProgress {
    next: u64,
    /// The offset after the last record sent: offsets behind it may hold nothing that is wanted.
    sent: u64,
    stop: Option<u64>,
    /// Read to its end, as far as it went when last looked at.
    at_end: bool,
    /// Read to its stop.
    done: bool,
}

impl PartitionProgress {
    fn new(span: OffsetSpan) -> Self {
        let done = span.stop.is_some_and(|stop| span.start >= stop);
        PartitionProgress { next: span.start, sent: 0, stop: span.stop, at_end: false, done }
    }
}

pub(super) struct Fetch {
    source: KafkaSource,
    worker: (usize, usize),
    progress: BTreeMap<Partition, PartitionProgress>,
    timestamps: Range<i64>,
    shared: Arc<Shared>,
    health: Arc<Health>,
    sender: Sender<FetchedBatch>,
    /// The worker that polls, which sleeps when it has nothing to do.
    poller: Thread,
    batch: Vec<Record>,
    batch_bytes: usize,
    /// Partitions paused because the worker does not want them now.
    paused: BTreeSet<Partition>,
}

impl Fetch {
    pub(super) fn new(
        source: &KafkaSource,
        worker: (usize, usize),
        spans: BTreeMap<Partition, OffsetSpan>,
        shared: Arc<Shared>,
        health: Arc<Health>,
        (sender, poller): (Sender<FetchedBatch>, Thread),
    ) -> Self {
        Fetch {
            source: source.clone(),
            worker,
            progress: spans.into_iter().map(|(partition, span)| (partition, PartitionProgress::new(span))).collect(),
            timestamps: source.timestamps(),
            shared,
            health,
            sender,
            poller,
            batch: Vec::with_capacity(BATCH_RECORDS),
            batch_bytes: 0,
            paused: BTreeSet::new(),
        }
    }

    /// Reads until the range is done, the reader is gone or something fails for good.
    pub(super) fn run(mut self, consumer: &BaseConsumer<HealthContext>) {
        if let Err(error) = self.read(consumer) {
            // Records read before the error are sound and go first. If the reader is gone, no one needs the error.
            let _ = self.send(consumer);
            let _ = self.sender.send(Err(error));
            self.poller.unpark();
        }
    }

    fn read(&mut self, consumer: &BaseConsumer<HealthContext>) -> Result<(), SourceError> {
        let starts = self.progress.iter().filter(|(_, progress)| !progress.done);
        let starts = starts.map(|(partition, progress)| (*partition, Offset::Offset(progress.next as i64)));
        self.assign(consumer, starts.collect())?;
        let (mut chores_due, mut discovery_due) = (Instant::now(), Instant::now() + self.source.discovery);
        let bounded = self.source.to.is_some();
        while !(self.shared.stop.load(Ordering::Relaxed) || bounded && self.progress.values().all(|p| p.done)) {
            if self.shared.held_changed.swap(false, Ordering::Acquire) {
                self.pause(consumer)?;
            }
            let wait = if self.batch.is_empty() { POLL_WAIT } else { Duration::ZERO };
            let idle = !self.serve(consumer, wait)?;
            let full = self.batch.len() >= BATCH_RECORDS || self.batch_bytes >= BATCH_BYTES;
            if (idle || full) && !self.send(consumer)? {
                return Ok(());
            }
            if idle || Instant::now() >= chores_due {
                self.chores()?;
                chores_due = Instant::now() + CHORE_INTERVAL;
                if !bounded && Instant::now() >= discovery_due {
                    self.discover(consumer)?;
                    discovery_due = Instant::now() + self.source.discovery;
                }
            }
        }
        self.send(consumer).map(|_| ())
    }

    /// Serves one event of the consumer; says whether there was one.
    fn serve(&mut self, consumer: &BaseConsumer<HealthContext>, wait: Duration) -> Result<bool, SourceError> {
        let done = match consumer.poll(wait) {
            Some(Ok(message)) => self.take(&message),
            Some(Err(KafkaError::PartitionEOF(partition))) => self.end_of(partition as Partition),
            Some(Err(error)) => {
                self.note(error)?;
                None
            }
            None => return Ok(false),
        };
        if let Some(partition) = done {
            self.publish_end(partition);
            // What stands behind the stop need not be fetched.
            let mut list = TopicPartitionList::new();
            list.add_partition(&self.source.topic, partition as i32);
            if let Err(error) = consumer.incremental_unassign(&list) {
                tracing::debug!(%error, partition, "a partition read to its stop stays assigned");
            }
        }
        Ok(true)
    }

    /// Takes a record in; names the partition if that brings it to its stop.
    fn take(&mut self, message: &BorrowedMessage<'_>) -> Option<Partition> {
        let (partition, offset) = (message.partition() as Partition, message.offset() as u64);
        let progress = self.progress.get_mut(&partition).filter(|progress| !progress.done)?;
        if std::mem::take(&mut progress.at_end) {
            self.shared.ends().remove(&partition);
        }
        progress.done = progress.stop.is_some_and(|stop| offset + 1 >= stop);
        let done = progress.done.then_some(partition);
        let timestamp_ms = message.timestamp().to_millis().unwrap_or(0);
        if progress.stop.is_none_or(|stop| offset < stop) {
            progress.next = offset + 1;
            if self.timestamps.contains(&timestamp_ms) {
                let payload = match message.payload() {
                    Some(bytes) => Payload::Json(bytes.to_vec()),
                    None => Payload::Tombstone { key: message.key().unwrap_or_default().to_vec() },
                };
                progress.sent = offset + 1;
                self.batch_bytes += message.payload_len();
                let (arrived_ns, stand) = (clock::now_ns(), Stand::default());
                self.batch.push(Record { partition, offset, timestamp_ms, arrived_ns, stand, payload });
            }
        }
        done
    }

    /// Takes note that a partition is read to its end; names it if that brings it to its stop.
    fn end_of(&mut self, partition: Partition) -> Option<Partition> {
        self.health.answered();
        let progress = self.progress.get_mut(&partition)?;
        progress.at_end = true;
        self.publish_end(partition);
        let progress = self.progress.get_mut(&partition)?;
        // The stop was the end at the time of opening or before it, and ends only move on.
        let done = progress.stop.is_some() && !progress.done;
        progress.done |= done;
        done.then_some(partition)
    }

    /// Tells the worker at once: a partition that is at its end holds nobody back.
    fn publish_end(&self, partition: Partition) {
        if let Some(progress) = self.progress.get(&partition) {
            self.shared.ends().insert(partition, progress.sent);
            self.poller.unpark();
        }
    }

    fn note(&self, error: KafkaError) -> Result<(), SourceError> {
        let (topic, brokers) = (&self.source.topic, self.source.config.brokers());
        let code = match &error {
            KafkaError::MessageConsumptionFatal(code) => {
                return Err(SourceError::External(format!("kafka at {brokers} failed for good: {code}")));
            }
            other => other.rdkafka_error_code(),
        };
        match code {
            Some(RDKafkaErrorCode::AutoOffsetReset) => Err(SourceError::External(format!(
                "topic {topic} no longer has the offsets to read on from: retention removed them, or the topic was made \
                 anew; start without the old state, or from another offset"
            ))),
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                Err(SourceError::External(topic_missing(topic, brokers)))
            }
            _ if is_refusal(&error) => {
                Err(SourceError::External(format!("kafka at {brokers} refuses topic {topic}: {error}")))
            }
            Some(code) => {
                self.health.note(code, &error.to_string());
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Hands the batch over, waiting for the worker as long as it takes; pauses the partitions if that is long. Says
    /// whether there is a reader still.
    fn send(&mut self, consumer: &BaseConsumer<HealthContext>) -> Result<bool, SourceError> {
        if self.batch.is_empty() {
            return Ok(true);
        }
        self.health.answered();
        self.shared.at_end.store(false, Ordering::Release);
        self.shared.queued.fetch_add(self.batch.len() as u64, Ordering::Relaxed);
        self.measure();
        self.batch_bytes = 0;
        let mut batch = Ok(std::mem::replace(&mut self.batch, Vec::with_capacity(BATCH_RECORDS)));
        let mut paused = None;
        loop {
            match self.sender.send_timeout(batch, PAUSE_AFTER) {
                Ok(()) => {
                    self.poller.unpark();
                    break;
                }
                Err(SendTimeoutError::Disconnected(_)) => return Ok(false),
                Err(SendTimeoutError::Timeout(back)) => batch = back,
            }
            if paused.is_none()
                && let Ok(assigned) = consumer.assignment()
                && consumer.pause(&assigned).is_ok()
            {
                paused = Some(assigned);
            }
            // While paused, errors and statistics are served; a record that slipped through goes into the next batch.
            while paused.is_some() && self.serve(consumer, Duration::ZERO)? {}
            self.measure();
        }
        if paused.is_some() {
            let all: Vec<_> =
                self.progress.keys().copied().filter(|partition| !self.paused.contains(partition)).collect();
            consumer.resume(&self.list(&all)).map_err(not_paused)?;
        }
        Ok(true)
    }

    /// Pauses the partitions that the worker does not want now, and resumes those that it wants again.
    fn pause(&mut self, consumer: &BaseConsumer<HealthContext>) -> Result<(), SourceError> {
        let (open, mut held) = (|p: &PartitionProgress| !p.done, self.shared.held());
        held.retain(|partition| self.progress.get(partition).is_some_and(open));
        let wanted =
            |partition: &&Partition| !held.contains(partition) && self.progress.get(partition).is_some_and(open);
        let again: Vec<_> = self.paused.iter().filter(wanted).copied().collect();
        let now: Vec<_> = held.difference(&self.paused).copied().collect();
        for (partitions, pause) in [(now, true), (again, false)] {
            if !partitions.is_empty() {
                let list = self.list(&partitions);
                if pause { consumer.pause(&list) } else { consumer.resume(&list) }.map_err(not_paused)?;
            }
        }
        self.paused = held;
        Ok(())
    }

    fn list(&self, partitions: &[Partition]) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition(&self.source.topic, *partition as i32);
        }
        list
    }

    fn chores(&mut self) -> Result<(), SourceError> {
        let down = self.health.down();
        if let Some(down) = down
            && self.source.to.is_some()
            && down >= self.source.config.broker_timeout()
        {
            return Err(SourceError::External(unreachable(&self.source.config, &"the connection was lost")));
        }
        self.measure();
        let at_end = down.is_none() && self.batch.is_empty() && self.progress.values().all(|progress| progress.at_end);
        self.shared.at_end.store(at_end, Ordering::Release);
        // While brokers are away nobody knows what a partition has.
        let at_end = |progress: &PartitionProgress| progress.done || progress.at_end && down.is_none();
        let ended = self.progress.iter().filter(|(_, progress)| at_end(progress));
        *self.shared.ends() = ended.map(|(&partition, progress)| (partition, progress.sent)).collect();
        Ok(())
    }

    /// Counts the records at the brokers that are not yet fetched.
    fn measure(&self) {
        let behind = |(partition, progress): (&Partition, &PartitionProgress)| match self.health.stable(*partition) {
            // Control records at the end count as offsets but are never delivered.
            _ if progress.at_end || progress.done => 0,
            stable => progress.stop.or(stable).unwrap_or(0).saturating_sub(progress.next),
        };
        self.shared.behind.store(self.progress.iter().map(behind).sum(), Ordering::Relaxed);
    }

    /// Partitions that came to be since the last look are read from their beginning.
    fn discover(&mut self, consumer: &BaseConsumer<HealthContext>) -> Result<(), SourceError> {
        let topic = self.source.topic.clone();
        // While brokers are away there is nothing to discover; the next look comes soon enough.
        let Ok(metadata) = consumer.fetch_metadata(Some(&topic), DISCOVERY_MAX) else { return Ok(()) };
        let Ok(Some(partitions)) = partitions_of(&metadata, &topic) else { return Ok(()) };
        let (worker, workers) = self.worker;
        let new =
            |partition: &Partition| *partition as usize % workers == worker && !self.progress.contains_key(partition);
        let found: Vec<Partition> = partitions.into_iter().filter(new).collect();
        if found.is_empty() {
            return Ok(());
        }
        tracing::info!(topic, partitions = ?found, "new kafka partitions");
        for partition in &found {
            self.progress.insert(*partition, PartitionProgress::new(OffsetSpan { start: 0, stop: None }));
        }
        self.shared.at_end.store(false, Ordering::Release);
        let mine = self.progress.keys().copied().collect();
        *self.shared.partitions.lock().unwrap_or_else(PoisonError::into_inner) = mine;
        self.assign(consumer, found.into_iter().map(|partition| (partition, Offset::Beginning)).collect())
    }

    fn assign(
        &self,
        consumer: &BaseConsumer<HealthContext>,
        starts: Vec<(Partition, Offset)>,
    ) -> Result<(), SourceError> {
        let mut list = TopicPartitionList::new();
        let added = starts.into_iter().try_for_each(|(partition, offset)| {
            list.add_partition_offset(&self.source.topic, partition as i32, offset)
        });
        added
            .and_then(|()| consumer.incremental_assign(&list))
            .map_err(|error| SourceError::External(format!("cannot read topic {}: {error}", self.source.topic)))
    }
}

fn not_paused(error: KafkaError) -> SourceError {
    SourceError::External(format!("kafka partitions cannot be paused or resumed: {error}"))
}
