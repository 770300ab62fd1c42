//! Kafka as a sink: keyed records with epoch, diff and cause in headers, delivered in order per key.
//!
//! The producer is idempotent: a retry neither repeats a record nor reorders those of a key. A broker may be away for five
//! minutes (`message.timeout.ms`) before a record counts as lost; the first record that is lost ends the writer, because
//! going on would leave a gap that no one could see. A record that is larger than the topic takes is another matter: it is
//! refused, with the setting that would let it through ([`Writer::refused`]), and the others go on. Memory is bounded by 128 MiB or 100 000 records without
//! acknowledgement; a full queue makes [`Writer::write`] wait.
//!
//! Headers are text: `epoch` (decimal), `diff` (`1` or `-1`) and, where there is one, `cause`.

use std::collections::{BTreeMap, VecDeque};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::{Client, DefaultClientContext};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::statistics::Statistics;

use super::{Acknowledged, OnAcknowledged, OutputRecord, Refused, SinkError, Writer};
use crate::flow::Epoch;
use crate::source::kafka::{Health, HealthContext, KafkaConfig, is_refusal, partitions_of, topic_missing, unreachable};

/// How long one poll waits while the queue is full or is being flushed.
const POLL_WAIT: Duration = Duration::from_millis(1);

/// How long one attempt to take a transaction back may wait.
const ABORT_WAIT: Duration = Duration::from_millis(10);

/// The most delivery events that one call of [`Writer::poll`] serves.
const EVENTS_PER_POLL_MAX: usize = 64;

/// The largest batch unless the topic's limit is lower; librdkafka's own default.
const BATCH_BYTES_MAX: usize = 1_000_000;

/// What a record costs beside key and payload: headers, and the frames of record and batch.
const FRAME_BYTES: usize = 160;

/// How long a broker may take to say a topic's limit.
const LIMIT_WAIT: Duration = Duration::from_secs(5);

/// How long a topic that the broker creates by itself may take.
const TOPIC_WAIT: Duration = Duration::from_secs(2);

/// The longest single request while waiting for brokers.
const REQUEST_MAX: Duration = Duration::from_secs(1);

/// Writes records to one topic.
pub struct KafkaWriter {
    producer: BaseProducer<Deliveries>,
    topic: String,
    figures: Arc<DeliveryFigures>,
    written: u64,
    /// Epochs that are committed and not acknowledged yet, with the generation that their last records are of.
    closed: VecDeque<(Epoch, u64)>,
    generation: u64,
    acknowledged: Option<Epoch>,
    /// The largest batch that the topic takes, bytes, if the broker says so.
    limit: Option<usize>,
    /// Records that were too large to be sent.
    refused: Vec<Refused>,
}

/// How many records were delivered; readable from other threads.
#[derive(Debug, Default)]
pub struct DeliveryFigures {
    acknowledged: AtomicU64,
    failed: AtomicU64,
}

impl DeliveryFigures {
    /// Records that the broker acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Records that were given up.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }
}

impl KafkaWriter {
    /// Connects and makes sure that the topic is there. Blocks until a broker answers, at most for the broker timeout.
    pub fn open(
        config: &KafkaConfig,
        topic: &str,
        on_acknowledged: Option<OnAcknowledged>,
    ) -> Result<KafkaWriter, SinkError> {
        KafkaWriter::with(config, topic, on_acknowledged, None)
    }

    /// As [`KafkaWriter::open`], for transactions under an id.
    pub(super) fn transactional(
        config: &KafkaConfig,
        topic: &str,
        on_acknowledged: Option<OnAcknowledged>,
        id: &str,
    ) -> Result<KafkaWriter, SinkError> {
        KafkaWriter::with(config, topic, on_acknowledged, Some(id))
    }

    fn with(
        config: &KafkaConfig,
        topic: &str,
        on_acknowledged: Option<OnAcknowledged>,
        transactional_id: Option<&str>,
    ) -> Result<KafkaWriter, SinkError> {
        let mut client = config.producer();
        let admin: AdminClient<_> = client.create().map_err(|error| config.explain(error))?;
        check_topic(admin.inner(), config, topic)?;
        let limit = topic_limit(&admin, topic);
        if let Some(limit) = limit
            && client.get("batch.size").is_none_or(|size| size.parse().is_ok_and(|size: usize| size > limit))
        {
            // A topic's limit is for whole batches: small records must not be refused for the company they are in.
            client.set("batch.size", limit.min(BATCH_BYTES_MAX).to_string());
        }
        if let Some(id) = transactional_id {
            // No record is given up later than its transaction.
            client.set("transactional.id", id).set("transaction.timeout.ms", "300000");
        }
        let figures = Arc::new(DeliveryFigures::default());
        let deliveries = Deliveries {
            context: HealthContext(Health::new(config.brokers())),
            figures: Arc::clone(&figures),
            on_acknowledged: Mutex::new(on_acknowledged),
            lost: Mutex::new(None),
            refused: Mutex::default(),
            on_their_way: Mutex::default(),
        };
        let producer: BaseProducer<Deliveries> =
            client.create_with_context(deliveries).map_err(|error| config.explain(error))?;
        let (closed, refused) = Default::default();
        Ok(KafkaWriter {
            producer,
            topic: topic.to_owned(),
            figures,
            written: 0,
            closed,
            generation: 0,
            acknowledged: None,
            limit,
            refused,
        })
    }

    /// The topic.
    pub(super) fn topic(&self) -> &str {
        &self.topic
    }

    /// Fences whoever had the transactional id before.
    pub(super) fn init_transactions(&self, timeout: Duration) -> KafkaResult<()> {
        self.producer.init_transactions(timeout)
    }

    /// Begins a transaction.
    pub(super) fn begin(&self) -> KafkaResult<()> {
        self.producer.begin_transaction()
    }

    /// Commits it; everything must have been delivered.
    pub(super) fn commit_transaction(&self, timeout: Duration) -> KafkaResult<()> {
        self.producer.commit_transaction(timeout)
    }

    /// Takes it back. What was on its way does not count as lost.
    pub(super) fn abort(&self, timeout: Duration) -> KafkaResult<()> {
        // The client waits for delivery reports that only a poll brings: short waits, and polls between them.
        let begin = Instant::now();
        let aborted = loop {
            match self.producer.abort_transaction(ABORT_WAIT) {
                Err(KafkaError::Transaction(error)) if error.is_retriable() && begin.elapsed() < timeout => {
                    self.producer.poll(POLL_WAIT);
                }
                done => break done,
            }
        };
        self.producer.context().lost.lock().unwrap_or_else(PoisonError::into_inner).take();
        aborted
    }

    /// Counts of delivered records.
    pub fn figures(&self) -> Arc<DeliveryFigures> {
        Arc::clone(&self.figures)
    }

    /// Records written and not yet acknowledged.
    pub fn unacknowledged(&self) -> u64 {
        self.written - self.figures.acknowledged() - self.figures.failed()
    }

    /// Serves delivery reports that are there.
    fn serve(&self) {
        for _ in 0..EVENTS_PER_POLL_MAX {
            let before = self.producer.in_flight_count();
            self.producer.poll(Duration::ZERO);
            if self.producer.in_flight_count() == before {
                break;
            }
        }
    }

    /// Writes a record, to another topic if one is named.
    pub(super) fn write_to(&mut self, other: Option<&str>, record: OutputRecord) -> Result<(), SinkError> {
        let bytes = record.key.len() + record.payload.as_ref().map_or(0, Vec::len);
        if let Some(limit) = self.limit.filter(|limit| bytes + FRAME_BYTES > *limit) {
            let why = format!(
                "a record of {bytes} bytes is larger than topic {} takes; raise the topic's max.message.bytes, which is {limit}",
                self.topic
            );
            self.refused.push(Refused { key: record.key, why });
            return Ok(());
        }
        let headers = headers(&record);
        let sent = Box::new(Sent { arrived_ns: record.arrived_ns, generation: self.generation });
        let mut message = BaseRecord::with_opaque_to(other.unwrap_or(&self.topic), sent).headers(headers);
        // A record without a key (some rejects) goes to any partition.
        if !record.key.is_empty() {
            message = message.key(record.key.as_slice());
        }
        if let Some(payload) = &record.payload {
            message = message.payload(payload.as_slice());
        }
        loop {
            let (error, back) = match self.producer.send(message) {
                Ok(()) => break,
                Err(refused) => refused,
            };
            match error.rdkafka_error_code() {
                // Back-pressure: deliveries make room, or fail and end the loop.
                Some(RDKafkaErrorCode::QueueFull) => {
                    message = back;
                    self.producer.poll(POLL_WAIT);
                    self.check()?;
                }
                Some(RDKafkaErrorCode::MessageSizeTooLarge) => {
                    let why = format!(
                        "a record of {bytes} bytes is larger than this client sends to topic {}; raise \
                         -X producer.message.max.bytes and the topic's max.message.bytes",
                        self.topic
                    );
                    self.refused.push(Refused { key: record.key, why });
                    return Ok(());
                }
                _ => {
                    self.check()?;
                    return Err(SinkError::External(format!("cannot write to topic {}: {error}", self.topic)));
                }
            }
        }
        self.written += 1;
        *self.on_their_way().entry(self.generation).or_default() += 1;
        Ok(())
    }

    /// Takes note of the epochs whose records are all acknowledged.
    fn settle(&mut self) {
        // A report may come before the record is counted as on its way, on this thread only between two calls.
        self.on_their_way().retain(|_, records| *records != 0);
        let first = self.on_their_way().keys().next().copied().unwrap_or(u64::MAX);
        while let Some(&(epoch, generation)) = self.closed.front()
            && generation < first
        {
            self.acknowledged = Some(epoch);
            self.closed.pop_front();
        }
    }

    fn on_their_way(&self) -> MutexGuard<'_, BTreeMap<u64, i64>> {
        self.producer.context().on_their_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self) -> Result<(), SinkError> {
        let deliveries = self.producer.context();
        if let Some(reason) = deliveries.lost.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            return Err(SinkError::External(format!("kafka did not take a record for topic {}: {reason}", self.topic)));
        }
        match deliveries.context.0.fatal() {
            Some(reason) => Err(SinkError::External(format!("kafka producer failed for good: {reason}"))),
            None => Ok(()),
        }
    }
}

impl Writer for KafkaWriter {
    fn write(&mut self, record: OutputRecord) -> Result<(), SinkError> {
        self.write_to(None, record)
    }

    fn commit(&mut self, epoch: Epoch) -> Result<(), SinkError> {
        self.closed.push_back((epoch, self.generation));
        self.generation += 1;
        self.settle();
        Ok(())
    }

    fn acknowledged(&self) -> Option<Acknowledged> {
        self.acknowledged.map(|epoch| Acknowledged { epoch: Some(epoch), bytes: 0 })
    }

    fn target(&self) -> String {
        format!("kafka:{}", self.topic)
    }

    fn poll(&mut self) -> Result<(), SinkError> {
        self.serve();
        self.settle();
        self.check()
    }

    fn refused(&mut self) -> Vec<Refused> {
        let mut refused = std::mem::take(&mut self.refused);
        let of_broker = &self.producer.context().refused;
        refused.append(&mut of_broker.lock().unwrap_or_else(PoisonError::into_inner));
        refused
    }

    fn trouble(&self) -> Option<String> {
        self.producer.context().context.0.trouble()
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        // Ends the lingering of what is queued. The flush of the client itself polls in steps of 100 ms, so we wait here.
        let _ = self.producer.flush(Duration::ZERO);
        while self.producer.in_flight_count() > 0 {
            self.producer.poll(POLL_WAIT);
            self.check()?;
        }
        self.settle();
        self.check()
    }
}

impl Drop for KafkaWriter {
    fn drop(&mut self) {
        let left = self.unacknowledged();
        if left > 0 {
            tracing::warn!(
                topic = self.topic,
                records = left,
                "kafka writer closed before all records were acknowledged"
            );
        }
    }
}

fn headers(record: &OutputRecord) -> OwnedHeaders {
    let epoch = record.headers.epoch.to_string();
    let diff = if record.headers.diff < 0 { "-1" } else { "1" };
    let headers = OwnedHeaders::new_with_capacity(3)
        .insert(Header { key: "epoch", value: Some(&epoch) })
        .insert(Header { key: "diff", value: Some(diff) });
    match record.headers.cause {
        "" => headers,
        cause => headers.insert(Header { key: "cause", value: Some(cause) }),
    }
}

fn check_topic<C: ClientContext>(client: &Client<C>, config: &KafkaConfig, topic: &str) -> Result<(), SinkError> {
    let begin = Instant::now();
    let mut told = false;
    loop {
        let left = config.broker_timeout().saturating_sub(begin.elapsed());
        let found = client
            .fetch_metadata(Some(topic), left.clamp(Duration::from_millis(10), REQUEST_MAX))
            .and_then(|metadata| partitions_of(&metadata, topic));
        match found {
            Ok(Some(_)) => return Ok(()),
            Ok(None) if begin.elapsed() >= TOPIC_WAIT => {
                return Err(SinkError::User(topic_missing(topic, config.brokers())));
            }
            Ok(None) => {}
            Err(reason) if is_refusal(&reason) => {
                return Err(SinkError::User(format!(
                    "kafka at {} refuses topic {topic}: {reason}; check credentials and access rights",
                    config.brokers()
                )));
            }
            Err(reason) if begin.elapsed() >= config.broker_timeout() => {
                return Err(SinkError::External(unreachable(config, &reason)));
            }
            Err(reason) if !told => {
                tracing::warn!(brokers = config.brokers(), %reason, "kafka does not answer; retrying");
                told = true;
            }
            Err(_) => {}
        }
        std::thread::sleep(Duration::from_millis(100).min(config.broker_timeout()));
    }
}

/// The largest batch that a topic takes, bytes; `None` if the broker does not say so, then it is seen at delivery.
fn topic_limit(admin: &AdminClient<DefaultClientContext>, topic: &str) -> Option<usize> {
    let (wanted, options) = ([ResourceSpecifier::Topic(topic)], AdminOptions::new().request_timeout(Some(LIMIT_WAIT)));
    let mut answer = pin!(admin.describe_configs(&wanted, &options));
    let begin = Instant::now();
    while begin.elapsed() < LIMIT_WAIT {
        match answer.as_mut().poll(&mut TaskContext::from_waker(Waker::noop())) {
            Poll::Ready(answer) => {
                let configs = answer.ok()?.pop()?.ok()?;
                return configs.get("max.message.bytes")?.value.as_ref()?.parse().ok();
            }
            Poll::Pending => std::thread::sleep(POLL_WAIT),
        }
    }
    None
}

/// Takes delivery reports; called on the thread that polls the producer.
struct Deliveries {
    context: HealthContext,
    figures: Arc<DeliveryFigures>,
    on_acknowledged: Mutex<Option<OnAcknowledged>>,
    /// Why the first record was given up.
    lost: Mutex<Option<String>>,
    /// Records that the broker found too large.
    refused: Mutex<Vec<Refused>>,
    /// Records without a delivery report, by generation.
    on_their_way: Mutex<BTreeMap<u64, i64>>,
}

/// What is known of a record on its way.
struct Sent {
    /// [`OutputRecord::arrived_ns`].
    arrived_ns: u64,
    /// How many commits came before it.
    generation: u64,
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.context.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.context.error(error, reason);
    }

    fn stats(&self, statistics: Statistics) {
        self.context.stats(statistics);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<Sent>;

    fn delivery(&self, result: &DeliveryResult<'_>, sent: Box<Sent>) {
        let Sent { arrived_ns, generation } = *sent;
        if !matches!(result, Err((error, _)) if error.rdkafka_error_code() != Some(RDKafkaErrorCode::MessageSizeTooLarge))
        {
            *self.on_their_way.lock().unwrap_or_else(PoisonError::into_inner).entry(generation).or_default() -= 1;
        }
        match result {
            Ok(_) => {
                self.figures.acknowledged.fetch_add(1, Ordering::Relaxed);
                let mut callback = self.on_acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(callback) = callback.as_mut() {
                    callback(arrived_ns);
                }
            }
            Err((error, message)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::MessageSizeTooLarge) => {
                self.figures.failed.fetch_add(1, Ordering::Relaxed);
                let (bytes, key) = (message.payload_len(), message.key().unwrap_or_default().to_vec());
                let why = format!(
                    "a record of {bytes} bytes is larger than the broker takes for topic {}; raise the topic's \
                     max.message.bytes and the broker's message.max.bytes",
                    message.topic()
                );
                let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
                refused.push(Refused { key, why });
            }
            // librdkafka has retried whatever can be retried: this one is final.
            Err((error, message)) => {
                self.figures.failed.fetch_add(1, Ordering::Relaxed);
                let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
                lost.get_or_insert_with(|| format!("{error} ({} bytes)", message.payload_len()));
            }
        }
    }
}
