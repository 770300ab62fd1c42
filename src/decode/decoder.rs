//! The decoder: one record in, one event or reject out.

use std::sync::Arc;

use super::csv::CsvReader;
use super::paths::Paths;
use super::row::{Fault, Row};
use super::{json, reference};
use crate::event::{CsvHeader, Event, Lane, Limits, Payload, Raw, Record, Schema, SchemaError};
use crate::flow::{Reject, RejectReason};

/// Which JSON parser drives the row decoder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum JsonParser {
    /// sonic-rs, the fast one.
    #[default]
    Sonic,
    /// serde_json, the reference for tests.
    SerdeJson,
}

/// What a decoder has seen so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Records that became events.
    pub events: u64,
    /// Records that became rejects.
    pub rejects: u64,
    /// Fields of records that the schema does not name.
    pub unknown_fields: u64,
    /// Keys of fields that a JSON record has more than once; the last value counts.
    pub duplicate_keys: u64,
    /// Bytes of payload.
    pub payload_bytes: u64,
}

/// Turns records into events by a schema. One per worker; its buffers serve one record after the other.
#[derive(Debug)]
pub struct Decoder {
    schema: Arc<Schema>,
    limits: Limits,
    parser: JsonParser,
    paths: Paths,
    row: Row,
    csv: CsvReader,
    counters: Counters,
}

impl Decoder {
    /// A decoder for a schema. A default in the schema that does not fit its field is an error.
    pub fn new(schema: Arc<Schema>, limits: Limits) -> Result<Self, SchemaError> {
        Self::with_parser(schema, limits, JsonParser::default())
    }

    /// A decoder with a chosen JSON parser.
    pub fn with_parser(schema: Arc<Schema>, limits: Limits, parser: JsonParser) -> Result<Self, SchemaError> {
        Ok(Decoder {
            limits,
            parser,
            paths: Paths::new(&schema),
            row: Row::new(schema.clone())?,
            csv: CsvReader::default(),
            counters: Counters::default(),
            schema,
        })
    }

    /// The event of a record, or the reject that says why it is none. Never panics, whatever the bytes.
    pub fn decode(&mut self, record: &Record) -> Result<Event, Reject> {
        let (raw, result) = match &record.payload {
            Payload::Event(event) => (&[][..], Ok(Event::clone(event))),
            Payload::Tombstone { .. } => {
                (&[][..], Err(Fault::new(RejectReason::Empty, "a tombstone (no content); sources need none")))
            }
            Payload::Json(bytes) => (bytes.as_slice(), self.json(bytes, record)),
            Payload::Csv { header, line } => (line.as_slice(), self.csv(header, line, record)),
        };
        self.counters.payload_bytes += raw.len() as u64;
        match result {
            Ok(event) => {
                self.counters.events += 1;
                Ok(event)
            }
            Err(Fault { reason, message }) => {
                self.counters.rejects += 1;
                Err(Reject {
                    lane: Lane::of_events(record.partition),
                    offset: record.offset,
                    timestamp_ms: record.timestamp_ms,
                    reason,
                    message,
                    id: String::new(),
                    raw: Raw { bytes: raw.into(), stand: record.stand },
                })
            }
        }
    }

    /// The schema that it decodes by.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// What was seen so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Fields of records that the schema does not name, so far.
    pub fn unknown_fields(&self) -> u64 {
        self.counters.unknown_fields
    }

    fn json(&mut self, bytes: &[u8], record: &Record) -> Result<Event, Fault> {
        self.check_length(bytes)?;
        self.row.clear();
        let read = match self.parser {
            JsonParser::Sonic => json::read,
            JsonParser::SerdeJson => reference::read,
        };
        read(unframed(bytes), &mut self.paths, &mut self.row, &mut self.counters)?;
        self.row.put_record(record.partition, record.offset, record.timestamp_ms);
        self.row.finish()
    }

    fn csv(&mut self, header: &Arc<CsvHeader>, line: &[u8], record: &Record) -> Result<Event, Fault> {
        self.check_length(line)?;
        self.row.clear();
        self.csv.read(header, line, &self.schema, &mut self.row, &mut self.counters.unknown_fields)?;
        self.row.put_record(record.partition, record.offset, record.timestamp_ms);
        self.row.finish()
    }

    fn check_length(&self, bytes: &[u8]) -> Result<(), Fault> {
        let limit = self.limits.record_bytes_max;
        if bytes.len() > limit {
            return Err(Fault::new(RejectReason::Oversized, format!("longer than the limit of {limit} bytes")));
        }
        Ok(())
    }
}

/// The JSON of a message that a schema registry's serializer has framed: a zero byte and the four bytes of a schema's number before it.
fn unframed(bytes: &[u8]) -> &[u8] {
    match bytes {
        [0, _, _, _, _, json @ ..] if json.trim_ascii_start().first() == Some(&b'{') => json,
        json => json,
    }
}
