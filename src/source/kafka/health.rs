//! What a client knows about its brokers: outages, told once each, and how far the partitions reach.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::statistics::Statistics;

use crate::event::Partition;

/// Shared between a client's callbacks and its owner.
#[derive(Debug)]
pub(crate) struct Health {
    brokers: String,
    state: Mutex<BrokerState>,
}

#[derive(Debug, Default)]
struct BrokerState {
    down_since: Option<Instant>,
    fatal: Option<String>,
    /// Last stable offset per partition: where committed records end.
    stable: BTreeMap<Partition, u64>,
}

impl Health {
    pub(crate) fn new(brokers: &str) -> Arc<Self> {
        Arc::new(Health { brokers: brokers.to_owned(), state: Mutex::default() })
    }

    /// Takes note of an error; an outage is logged when it begins, not at each of the errors that flood in after that.
    pub(crate) fn note(&self, code: RDKafkaErrorCode, reason: &str) {
        let mut state = self.state();
        match code {
            RDKafkaErrorCode::AllBrokersDown if state.down_since.is_none() => {
                state.down_since = Some(Instant::now());
                tracing::warn!(brokers = %self.brokers, reason, "kafka does not answer; retrying");
            }
            RDKafkaErrorCode::Fatal => state.fatal = Some(reason.to_owned()),
            _ => tracing::debug!(brokers = %self.brokers, %code, reason, "kafka error"),
        }
    }

    /// Takes note that a broker answered.
    pub(crate) fn answered(&self) {
        if let Some(since) = self.state().down_since.take() {
            tracing::info!(brokers = %self.brokers, down_ms = since.elapsed().as_millis() as u64, "kafka answers again");
        }
    }

    /// How long no broker has answered.
    pub(crate) fn down(&self) -> Option<Duration> {
        self.state().down_since.map(|since| since.elapsed())
    }

    /// What is to be said while no broker answers.
    pub(crate) fn trouble(&self) -> Option<String> {
        let down = self.down()?;
        Some(format!("kafka at {} has not answered for {} s", self.brokers, down.as_secs()))
    }

    /// The error after which the client is of no use any more.
    pub(crate) fn fatal(&self) -> Option<String> {
        self.state().fatal.clone()
    }

    /// Where the committed records of a partition end, as far as known.
    pub(crate) fn stable(&self, partition: Partition) -> Option<u64> {
        self.state().stable.get(&partition).copied()
    }

    fn state(&self) -> MutexGuard<'_, BrokerState> {
        // No holder of the lock can panic half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hands librdkafka's logs, errors and statistics to a [`Health`].
pub(crate) struct HealthContext(pub(crate) Arc<Health>);

impl ClientContext for HealthContext {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        // What matters comes as an error or a delivery report too; these lines repeat by the hundred.
        tracing::debug!(target: "librdkafka", facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if let Some(code) = error.rdkafka_error_code() {
            self.0.note(code, reason);
        }
    }

    fn stats(&self, statistics: Statistics) {
        if statistics.brokers.values().any(|broker| broker.state == "UP") {
            self.0.answered();
        }
        let mut state = self.0.state();
        for partition in statistics.topics.values().flat_map(|topic| topic.partitions.values()) {
            if let (Ok(number), Ok(end)) = (u32::try_from(partition.partition), u64::try_from(partition.ls_offset)) {
                state.stable.insert(number, end);
            }
        }
    }
}

impl ConsumerContext for HealthContext {}
