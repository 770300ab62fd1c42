//! Which offsets to read: where each partition starts, and where it stops if the range is bounded.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};

use super::config::KafkaConfig;
use super::health::HealthContext;
use crate::event::Partition;
use crate::source::{SourceError, StartOffsets};

/// How far timestamps may be out of order in a topic: a range by time reads on this far beyond its end, because records
/// that belong to it may stand there, and drops by timestamp what does not.
pub const DISORDER_MS_MAX: i64 = 3_600_000;

/// How long a topic that is not there may still be on its way to the brokers' metadata.
const TOPIC_WAIT: Duration = Duration::from_secs(1);

/// How long what a broker says of its ends may lag behind what was read.
const SHORT_WAIT: Duration = Duration::from_secs(5);

/// The longest single request while waiting for brokers.
const REQUEST_MAX: Duration = Duration::from_secs(1);

/// A place in every partition of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// The oldest record.
    Earliest,
    /// Behind the newest committed record, at the time of opening.
    Latest,
    /// The first record with this timestamp (milliseconds UTC) or a later one.
    Timestamp(i64),
}

/// The offsets `start..stop` of a partition; without a stop it has no end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OffsetSpan {
    pub(crate) start: u64,
    pub(crate) stop: Option<u64>,
}

/// Asks brokers, patiently, while they do not answer.
pub(crate) struct Inquiry<'a> {
    pub(crate) consumer: &'a BaseConsumer<HealthContext>,
    pub(crate) config: &'a KafkaConfig,
    pub(crate) topic: &'a str,
}

impl Inquiry<'_> {
    /// The partitions of the topic.
    pub(crate) fn partitions(&self) -> Result<Vec<Partition>, SourceError> {
        let begin = Instant::now();
        loop {
            let found = self.ask(|timeout| {
                let metadata = self.consumer.fetch_metadata(Some(self.topic), timeout)?;
                partitions_of(&metadata, self.topic)
            })?;
            match found {
                Some(partitions) => return Ok(partitions),
                None if begin.elapsed() < TOPIC_WAIT => std::thread::sleep(Duration::from_millis(100)),
                None => return Err(SourceError::User(topic_missing(self.topic, self.config.brokers()))),
            }
        }
    }

    /// The spans of some partitions: given starts first, else `from`; up to `to` as it is now.
    pub(crate) fn spans(
        &self,
        partitions: &[Partition],
        given: &StartOffsets,
        from: Position,
        to: Option<Position>,
    ) -> Result<BTreeMap<Partition, OffsetSpan>, SourceError> {
        // A partition that a non-empty log of an unbounded source does not know is new since then: read it whole.
        let from = if given.is_empty() || to.is_some() { from } else { Position::Earliest };
        let to = match to {
            Some(Position::Timestamp(ms)) => Some(Position::Timestamp(ms.saturating_add(DISORDER_MS_MAX))),
            other => other,
        };
        let starts = self.offsets(partitions, from)?;
        let stops = to.map(|to| self.offsets(partitions, to)).transpose()?;
        let mut spans = BTreeMap::new();
        for partition in partitions {
            let start = match given.get(partition) {
                Some(&from) => self.going_on(*partition, from)?,
                None => starts.get(partition).copied().unwrap_or(0),
            };
            let stop = stops.as_ref().map(|stops| stops.get(partition).copied().unwrap_or(0));
            spans.insert(*partition, OffsetSpan { start, stop });
        }
        Ok(spans)
    }

    /// Where to begin a partition that is read on from an offset. The record there may be gone if it was the one that was read last,
    /// and is wanted for a comparison only.
    fn going_on(&self, partition: Partition, from: u64) -> Result<u64, SourceError> {
        let begin = Instant::now();
        loop {
            let ask = |timeout| self.consumer.fetch_watermarks(self.topic, partition as i32, timeout);
            let (low, high) = self.ask(ask)?;
            let (low, high) = (low.max(0) as u64, high.max(0) as u64);
            let said = |why: String| {
                let topic = self.topic;
                Err(SourceError::External(format!(
                    "partition {partition} of topic {topic} {why}; name another --state"
                )))
            };
            if from + 1 < low {
                return said(format!(
                    "begins at {low}, but is wanted from {from} on: retention removed it, or it was made anew"
                ));
            }
            if from <= high {
                return Ok(from.max(low));
            }
            // What a broker says of its ends may lag.
            if begin.elapsed() >= SHORT_WAIT {
                return said(format!("ends at {high}, but was read up to {from}: it was cut off or made anew"));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn offsets(&self, partitions: &[Partition], at: Position) -> Result<BTreeMap<Partition, u64>, SourceError> {
        let mut offsets = BTreeMap::new();
        if let Position::Timestamp(ms) = at {
            let mut times = TopicPartitionList::new();
            for partition in partitions {
                // A partition came from the broker as an i32.
                let _ = times.add_partition_offset(self.topic, *partition as i32, Offset::Offset(ms.max(0)));
            }
            let found = self.ask(|timeout| self.consumer.offsets_for_times(times.clone(), timeout))?;
            for element in found.elements() {
                if let Offset::Offset(offset) = element.offset() {
                    offsets.insert(element.partition() as Partition, offset.max(0) as u64);
                }
            }
        }
        for partition in partitions {
            // Also for a time behind the last record, which brokers answer with "end".
            if !offsets.contains_key(partition) {
                let ask = |timeout| self.consumer.fetch_watermarks(self.topic, *partition as i32, timeout);
                let (low, high) = self.ask(ask)?;
                let offset = if at == Position::Earliest { low } else { high };
                offsets.insert(*partition, offset.max(0) as u64);
            }
        }
        Ok(offsets)
    }

    /// Repeats a request until it is answered, refused for good, or the patience is over.
    fn ask<T>(&self, request: impl Fn(Duration) -> KafkaResult<T>) -> Result<T, SourceError> {
        let begin = Instant::now();
        let patience = self.config.broker_timeout();
        let mut told = false;
        loop {
            let left = patience.saturating_sub(begin.elapsed());
            let error = match request(left.clamp(Duration::from_millis(10), REQUEST_MAX)) {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            // Nothing is assigned yet: a poll can only bring the reason why no connection comes about.
            let reason = match self.consumer.poll(Duration::ZERO) {
                Some(Err(reason)) if is_refusal(&reason) => reason,
                _ => error,
            };
            if is_refusal(&reason) {
                return Err(SourceError::User(format!(
                    "kafka at {} refuses topic {}: {reason}; check credentials and access rights",
                    self.config.brokers(),
                    self.topic
                )));
            }
            if begin.elapsed() >= patience {
                return Err(SourceError::External(unreachable(self.config, &reason)));
            }
            if !told {
                tracing::warn!(brokers = self.config.brokers(), %reason, "kafka does not answer; retrying");
                told = true;
            }
            std::thread::sleep(Duration::from_millis(100).min(patience));
        }
    }
}

/// The partitions of a topic, or none if the topic does not exist (yet).
pub(crate) fn partitions_of(
    metadata: &rdkafka::metadata::Metadata,
    topic: &str,
) -> KafkaResult<Option<Vec<Partition>>> {
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else { return Ok(None) };
    match found.error().map(RDKafkaErrorCode::from) {
        None if found.partitions().is_empty() => Ok(None),
        None => Ok(Some(found.partitions().iter().map(|partition| partition.id() as Partition).collect())),
        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::LeaderNotAvailable) => Ok(None),
        Some(code) => Err(KafkaError::MetadataFetch(code)),
    }
}

/// The line for a topic that does not exist.
pub(crate) fn topic_missing(topic: &str, brokers: &str) -> String {
    format!(
        "topic {topic} does not exist at {brokers}; create it first, for example with \
         kafka-topics.sh --bootstrap-server {brokers} --create --topic {topic} --partitions 4"
    )
}

/// The line for brokers that do not answer.
pub(crate) fn unreachable(config: &KafkaConfig, reason: &dyn std::fmt::Display) -> String {
    format!(
        "kafka at {} did not answer within {:?} ({reason}); check --brokers, that the broker runs, and that the \
         address it advertises can be reached from here",
        config.brokers(),
        config.broker_timeout()
    )
}

/// Errors that no patience mends.
pub(crate) fn is_refusal(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::Authentication
                | Code::SaslAuthenticationFailed
                | Code::SSL
                | Code::TopicAuthorizationFailed
                | Code::ClusterAuthorizationFailed
                | Code::InvalidTopic
        )
    )
}
