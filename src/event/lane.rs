//! Lanes: the sequences that records come in by, each named by its stream and its partition there.

use std::fmt;
use std::str::FromStr;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Partition;

/// What a lane is a partition of. The order is the one in which an epoch takes its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum InputStream {
    /// The input.
    Events,
    /// A reference table, by its number among those of the job, from 0.
    Table(u32),
    /// Answers of services that came after their event had left; the partitions are the events'.
    LateAnswers,
    /// No stream at all: what is said of no one record.
    Nowhere,
}

/// One partition of one stream: records with rising offsets.
///
/// Logs and messages have it as a text, `events/3`, so that it can be the key of a JSON object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane {
    /// The stream.
    pub stream: InputStream,
    /// The partition, as the stream counts them.
    pub partition: Partition,
}

impl Lane {
    /// Of what is not about one record.
    pub const NOWHERE: Lane = Lane { stream: InputStream::Nowhere, partition: 0 };

    /// A partition of the input.
    pub fn of_events(partition: Partition) -> Self {
        Lane { stream: InputStream::Events, partition }
    }

    /// A partition of a reference table.
    pub fn of_table(table: u32, partition: Partition) -> Self {
        Lane { stream: InputStream::Table(table), partition }
    }

    /// The late answers to events of a partition.
    pub fn of_late_answers(partition: Partition) -> Self {
        Lane { stream: InputStream::LateAnswers, partition }
    }

    /// Whether its records are events. All others neither move event time nor hold it back.
    pub fn is_events(self) -> bool {
        self.stream == InputStream::Events
    }

    /// As users know it.
    pub fn in_words(self) -> String {
        let partition = self.partition;
        match self.stream {
            InputStream::Events => format!("partition {partition} of the input"),
            InputStream::Table(table) => format!("partition {partition} of reference {}", table + 1),
            InputStream::LateAnswers => format!("the log of late answers to partition {partition}"),
            InputStream::Nowhere => self.to_string(),
        }
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let partition = self.partition;
        match self.stream {
            InputStream::Events => write!(formatter, "events/{partition}"),
            InputStream::Table(table) => write!(formatter, "table-{table}/{partition}"),
            InputStream::LateAnswers => write!(formatter, "late-answers/{partition}"),
            InputStream::Nowhere => formatter.write_str("nowhere"),
        }
    }
}

/// A text that names no lane.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no lane; lanes are written like events/0, table-1/0, late-answers/0")]
pub struct LaneError(String);

impl FromStr for Lane {
    type Err = LaneError;

    fn from_str(text: &str) -> Result<Self, LaneError> {
        let named = |text: &str| {
            let (stream, partition) = text.split_once('/')?;
            let stream = match stream {
                "events" => InputStream::Events,
                "late-answers" => InputStream::LateAnswers,
                table => InputStream::Table(table.strip_prefix("table-")?.parse().ok()?),
            };
            Some(Lane { stream, partition: partition.parse().ok()? })
        };
        if text == "nowhere" {
            return Ok(Lane::NOWHERE);
        }
        named(text).ok_or_else(|| LaneError(text.to_owned()))
    }
}

impl Serialize for Lane {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Between workers, where nobody reads it, it stays two words.
        match serializer.is_human_readable() {
            true => serializer.collect_str(self),
            false => (self.stream, self.partition).serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Lane {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            return String::deserialize(deserializer)?.parse().map_err(D::Error::custom);
        }
        <(InputStream, Partition)>::deserialize(deserializer).map(|(stream, partition)| Lane { stream, partition })
    }
}
