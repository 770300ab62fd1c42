//! Exactly once to Kafka: groups of closed epochs in transactions, each with the epoch that it brings the topic to.
//!
//! ```text
//!  records of closed epochs ─► begin ─► TOPIC ─► {"epoch":E,...} to TOPIC-progress-P ─► commit: both are there, or neither
//! ```
//!
//! Every output of every process writes under a transactional id of its own, which stays the same: whoever opens it fences the one
//! that had it before. On start the last committed epoch is read from the process's own progress topic, which nobody else writes, and what
//! belongs to it or came before it is not written again. Readers with `read_committed` see each record once, whatever was killed when. The transactions are not tied
//! to cuts, so records are visible some milliseconds after their epoch is closed.

use std::pin::pin;
use std::task::{Context as TaskContext, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use serde::{Deserialize, Serialize};

use super::kafka::KafkaWriter;
use super::{Acknowledged, Headers, OnAcknowledged, OutputRecord, Refused, SinkError, Writer};
use crate::event::Payload;
use crate::flow::Epoch;
use crate::source::kafka::{KafkaConfig, KafkaSource, Position};
use crate::source::{Ready, Source, StartOffsets};

/// A transaction is committed when it is this old, so that many short epochs share one.
const GROUP: Duration = Duration::from_millis(10);

/// One without records, which only says how far the run has come, is this rare.
const EMPTY_GROUP: Duration = Duration::from_secs(1);

/// How long brokers may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long one request may take of that: one that a broker took with it when it went must not use it all up.
const ATTEMPT: Duration = Duration::from_secs(5);

/// How long is waited before a topic is asked for again.
const RETRY: Duration = Duration::from_millis(200);

/// How long a commit is tried before it is taken back.
const COMMIT_PATIENCE: Duration = Duration::from_secs(120);

/// Attempts to write a group before the run ends with an error.
const ATTEMPTS_MAX: usize = 20;

/// Who writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriterIdentity {
    /// The state directory's own number: epochs of another one say nothing.
    pub state: String,
    /// The process.
    pub process: usize,
    /// How many there are.
    pub processes: usize,
}

/// What a progress topic says of its writer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Progress {
    state: String,
    process: usize,
    processes: usize,
    epoch: Epoch,
    /// What had been committed when this number of processes began.
    base: Option<Epoch>,
}

/// Writes records to a topic in transactions.
pub struct TransactionalWriter {
    inner: KafkaWriter,
    progress_topic: String,
    id: String,
    base: Option<Epoch>,
    identity: WriterIdentity,
    /// Records that are not committed yet.
    pending: Vec<OutputRecord>,
    /// The last epoch that they belong to.
    closed: Option<Epoch>,
    committed: Option<Epoch>,
    /// What an earlier run had committed.
    before: Option<Epoch>,
    last: Instant,
}

impl TransactionalWriter {
    /// Connects, fences earlier writers, and finds out what they have committed. Blocks until brokers answer, at most for the
    /// broker timeout each time.
    ///
    /// # Errors
    /// If brokers do not answer, or do not allow it, or the writers of a cluster of another size were not at one epoch.
    pub fn open(
        config: &KafkaConfig,
        topic: &str,
        identity: WriterIdentity,
        on_acknowledged: Option<OnAcknowledged>,
    ) -> Result<Self, SinkError> {
        let id = id(topic, identity.process);
        let inner = KafkaWriter::transactional(config, topic, on_acknowledged, &id)?;
        init(&inner, &id)?;
        let read = |process| read(config, &progress_of(topic, process), &identity.state);
        let (own, first) = (read(identity.process)?, read(0)?);
        let base = match &first {
            None => None,
            Some(first) if first.processes == identity.processes => first.base,
            Some(first) => {
                for other in 1..first.processes {
                    if other >= identity.processes && identity.process == 0 {
                        // Nobody opens it any more: it is fenced for good.
                        let gone = self::id(topic, other);
                        init(&KafkaWriter::transactional(config, topic, None, &gone)?, &gone)?;
                    }
                    let reached = read(other)?.map(|other| other.epoch.max(other.base.unwrap_or(0)));
                    if reached != Some(first.epoch) && identity.process == 0 {
                        return Err(SinkError::User(format!(
                            "topic {topic} was written by {} processes that were not at one epoch when they ended; start and stop them \
                             once as they were, then with another number",
                            first.processes
                        )));
                    }
                }
                Some(first.epoch)
            }
        };
        let before = own.map(|own| own.epoch).max(base);
        let progress_topic = progress_of(topic, identity.process);
        Ok(TransactionalWriter {
            inner,
            progress_topic,
            id,
            base,
            identity,
            pending: Vec::new(),
            closed: None,
            committed: before,
            before,
            last: Instant::now(),
        })
    }

    /// Whether what is closed is to be committed now.
    fn is_due(&self) -> bool {
        let every = if self.pending.is_empty() { EMPTY_GROUP } else { GROUP };
        self.closed > self.committed && self.last.elapsed() >= every
    }

    /// Writes and commits what is closed.
    fn transact(&mut self) -> Result<(), SinkError> {
        let Some(epoch) = self.closed else { return Ok(()) };
        for attempt in 1.. {
            match self.attempt(epoch) {
                Ok(()) => break,
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Again(why)) if attempt >= ATTEMPTS_MAX => {
                    let topic = self.inner.topic();
                    return Err(SinkError::External(format!(
                        "kafka did not take a transaction for topic {topic} in {ATTEMPTS_MAX} attempts: {why}"
                    )));
                }
                Err(Failure::Again(why)) => {
                    tracing::warn!(why, attempt, "a transaction is written again");
                    thread::sleep(Duration::from_millis(50));
                }
            }
        }
        self.pending.clear();
        (self.committed, self.last) = (Some(epoch), Instant::now());
        Ok(())
    }

    fn attempt(&mut self, epoch: Epoch) -> Result<(), Failure> {
        self.inner.begin().map_err(|error| self.take_back(error.to_string(), Some(&error)))?;
        if let Err(error) = self.produce(epoch) {
            return Err(self.take_back(error.to_string(), None));
        }
        let begin = Instant::now();
        loop {
            match self.inner.commit_transaction(PATIENCE) {
                Ok(()) => return Ok(()),
                Err(KafkaError::Transaction(error)) if error.is_retriable() && begin.elapsed() < COMMIT_PATIENCE => {}
                Err(error) => return Err(self.take_back(error.to_string(), Some(&error))),
            }
        }
    }

    /// Writes the records and how far they bring the topic, and waits until they are delivered.
    fn produce(&mut self, epoch: Epoch) -> Result<(), SinkError> {
        for record in &self.pending {
            self.inner.write(record.clone())?;
        }
        let WriterIdentity { state, process, processes } = self.identity.clone();
        // Another state directory's progress must not be compacted away by this one's.
        let key = state.clone().into_bytes();
        let progress = Progress { state, process, processes, epoch, base: self.base };
        let payload = serde_json::to_vec(&progress).unwrap_or_default();
        let record = OutputRecord {
            key,
            payload: Some(payload),
            last_line: Vec::new(),
            headers: Headers { epoch, diff: 1, cause: "" },
            arrived_ns: 0,
        };
        self.inner.write_to(Some(&self.progress_topic), record)?;
        self.inner.flush()
    }

    /// Aborts a transaction, so that it can be written again; a writer that was fenced cannot.
    fn take_back(&mut self, why: String, error: Option<&KafkaError>) -> Failure {
        // What cannot be written is found again by the next attempt.
        drop(self.inner.refused());
        let (topic, id) = (self.inner.topic(), &self.id);
        let fenced_off = || {
            Failure::Final(SinkError::External(format!(
                "topic {topic} is written by another run with the transactional id {id}: this one was fenced; stop one of them"
            )))
        };
        if error.is_some_and(fenced) {
            return fenced_off();
        }
        match self.inner.abort(PATIENCE) {
            Ok(()) => Failure::Again(why),
            Err(error) if fenced(&error) => fenced_off(),
            Err(error) => Failure::Final(SinkError::External(format!(
                "cannot write to topic {topic} in transactions: {why}; nor take one back: {error}"
            ))),
        }
    }
}

impl Writer for TransactionalWriter {
    fn write(&mut self, record: OutputRecord) -> Result<(), SinkError> {
        self.pending.push(record);
        Ok(())
    }

    fn poll(&mut self) -> Result<(), SinkError> {
        if self.is_due() {
            self.transact()?;
        }
        self.inner.poll()
    }

    fn commit(&mut self, epoch: Epoch) -> Result<(), SinkError> {
        self.closed = Some(epoch);
        if self.is_due() { self.transact() } else { Ok(()) }
    }

    fn acknowledged(&self) -> Option<Acknowledged> {
        self.committed.map(|epoch| Acknowledged { epoch: Some(epoch), bytes: 0 })
    }

    fn committed_before(&self) -> Option<Epoch> {
        self.before
    }

    fn target(&self) -> String {
        self.inner.target()
    }

    fn refused(&mut self) -> Vec<Refused> {
        self.inner.refused()
    }

    fn trouble(&self) -> Option<String> {
        self.inner.trouble()
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        if self.closed > self.committed { self.transact() } else { Ok(()) }
    }
}

/// Why a transaction was not committed.
enum Failure {
    /// It was taken back, and is written again.
    Again(String),
    Final(SinkError),
}

fn fenced(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    let code = match error {
        KafkaError::Transaction(inner) => Some(inner.code()),
        other => other.rdkafka_error_code(),
    };
    matches!(code, Some(Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch))
}

/// The transactional id of a process's writer.
fn id(topic: &str, process: usize) -> String {
    format!("deltawatch-{topic}-{process}")
}

/// Fences whoever had the id before.
fn init(writer: &KafkaWriter, id: &str) -> Result<(), SinkError> {
    let begin = Instant::now();
    loop {
        match writer.init_transactions(ATTEMPT) {
            Ok(()) => return Ok(()),
            Err(KafkaError::Transaction(error)) if error.is_retriable() && begin.elapsed() < PATIENCE => {
                thread::sleep(Duration::from_millis(100));
            }
            Err(error) => {
                let topic = writer.topic();
                return Err(SinkError::External(format!(
                    "kafka gives no transactions for topic {topic} as {id}: {error}; check the access rights, or leave out --delivery"
                )));
            }
        }
    }
}

/// The topic that says how far a process has come.
fn progress_of(topic: &str, process: usize) -> String {
    format!("{topic}-progress-{process}")
}

/// The last record of a progress topic that is of a state directory.
fn read(config: &KafkaConfig, topic: &str, state: &str) -> Result<Option<Progress>, SinkError> {
    create_compacted(config, topic)?;
    let failed = |error: crate::source::SourceError| SinkError::External(error.to_string());
    let source = KafkaSource::new(config.clone(), topic, Position::Earliest, Some(Position::Latest));
    let mut reader = source.open(0, 1, &StartOffsets::new()).map_err(failed)?;
    let (mut records, mut found) = (Vec::new(), None);
    loop {
        let ready = reader.poll(1024, &mut records).map_err(failed)?;
        for record in records.drain(..) {
            if let Payload::Json(bytes) = record.payload
                && let Ok(progress) = serde_json::from_slice::<Progress>(&bytes)
                && progress.state == state
            {
                found = Some(progress);
            }
        }
        match ready {
            Ready::Done => return Ok(found),
            Ready::More => {}
            Ready::CaughtUp | Ready::Waiting => thread::park_timeout(Duration::from_millis(1)),
        }
    }
}

/// Makes sure that a progress topic is there. A broker that is away meanwhile is waited for.
fn create_compacted(config: &KafkaConfig, topic: &str) -> Result<(), SinkError> {
    let admin: AdminClient<DefaultClientContext> = config.producer().create().map_err(|error| config.explain(error))?;
    let begin = Instant::now();
    let why = loop {
        match create_once(&admin, topic) {
            Ok(()) => return Ok(()),
            Err((why, Some(code))) if begin.elapsed() < PATIENCE && passes(code) => {
                tracing::debug!(why, topic, "a topic cannot be made yet");
                thread::sleep(RETRY);
            }
            Err((why, _)) => break why,
        }
    };
    Err(SinkError::External(format!(
        "topic {topic}, which says what was committed, cannot be made: {why}; create it with one partition and cleanup.policy=compact"
    )))
}

/// Asks for a topic once. The error is what the client or the broker says, with its code.
fn create_once(
    admin: &AdminClient<DefaultClientContext>,
    topic: &str,
) -> Result<(), (String, Option<RDKafkaErrorCode>)> {
    let begin = Instant::now();
    let wanted = [NewTopic::new(topic, 1, TopicReplication::Fixed(-1)).set("cleanup.policy", "compact")];
    let options = AdminOptions::new().request_timeout(Some(ATTEMPT));
    let mut answer = pin!(admin.create_topics(&wanted, &options));
    loop {
        match answer.as_mut().poll(&mut TaskContext::from_waker(Waker::noop())) {
            Poll::Pending if begin.elapsed() < 2 * ATTEMPT => thread::sleep(Duration::from_millis(1)),
            Poll::Pending => return Err(("no answer in time".to_owned(), Some(RDKafkaErrorCode::OperationTimedOut))),
            Poll::Ready(Err(error)) => {
                // The client keeps the code of these for itself.
                let code =
                    if let KafkaError::AdminOp(code) = &error { Some(*code) } else { error.rdkafka_error_code() };
                return Err((error.to_string(), code));
            }
            Poll::Ready(Ok(made)) => match made.into_iter().next() {
                None | Some(Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => return Ok(()),
                Some(Err((_, code))) => return Err((code.to_string(), Some(code))),
            },
        }
    }
}

/// Whether what a broker or the way to it says now may be otherwise in a moment.
fn passes(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::OperationTimedOut
            | Code::RequestTimedOut
            | Code::NetworkException
            | Code::NotController
            | Code::BrokerNotAvailable
            | Code::LeaderNotAvailable
            | Code::InvalidReplicationFactor
    )
}
