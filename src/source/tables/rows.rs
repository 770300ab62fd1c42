//! Rows of a reference collection out of records.

use std::sync::Arc;

use crate::decode::Decoder;
use crate::event::{FieldType, Key, Lane, Limits, Op, Payload, Raw, Record, Stand};
use crate::flow::reference::{Body, Cells, NO_TIME};
use crate::flow::{ReferenceRecord, Reject, RejectReason};
use crate::source::tables::Reference;

/// Decodes the rows of one reference by its declaration, with the decoder of events.
pub struct RowDecoder {
    reference: Arc<Reference>,
    decoder: Result<Decoder, String>,
}

/// A decoded row, and from when on it is visible within its epoch.
pub type TableRow = (Body, i64);

impl RowDecoder {
    /// A decoder of a reference's rows. A default that does not fit its field is the error of every row.
    pub fn new(reference: Arc<Reference>, limits: Limits) -> Self {
        let decoder = Decoder::new(reference.schema().clone(), limits).map_err(|error| error.to_string());
        RowDecoder { reference, decoder }
    }

    /// The reference whose rows are decoded.
    pub fn reference(&self) -> &Arc<Reference> {
        &self.reference
    }

    /// The row of a record; a tombstone deletes the row of the message's key.
    pub fn decode(&mut self, record: &Record) -> Result<TableRow, Reject> {
        let refuse = |reason, message: String| Reject {
            lane: Lane::of_events(record.partition),
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            reason,
            message,
            id: String::new(),
            raw: record.clone().into_raw(),
        };
        let decoder = self.decoder.as_mut().map_err(|error| refuse(RejectReason::BadValue, error.clone()))?;
        if let Payload::Tombstone { key } = &record.payload {
            let key = message_key(&self.reference, key).map_err(|message| refuse(RejectReason::Empty, message))?;
            let time = if self.reference.timed() { record.timestamp_ms } else { NO_TIME };
            return Ok((Body::Gone(key), time));
        }
        let row = decoder.decode(record)?;
        // The decoder demands the first field of the key; a withdrawal may lack the second.
        let key = self
            .reference
            .key_of(&row)
            .ok_or_else(|| refuse(RejectReason::MissingField, "the row lacks a field of its key".to_owned()))?;
        let time = if self.reference.timed() { row.time } else { NO_TIME };
        match row.op {
            Op::Withdraw => Ok((Body::Gone(key), time)),
            Op::Insert | Op::Correct => Ok((Body::Row(key, self.reference.cells_of(&row)), time)),
        }
    }

    /// The values of a record that has no key: an answer of a service.
    pub fn cells(&mut self, record: &Record) -> Result<Cells, Reject> {
        let decoder = self.decoder.as_mut().map_err(|error| Reject {
            lane: Lane::of_events(record.partition),
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            reason: RejectReason::BadValue,
            message: error.clone(),
            id: String::new(),
            raw: Raw::default(),
        })?;
        decoder.decode(record).map(|row| self.reference.cells_of(&row))
    }

    /// The record of one JSON object, for tests: a row, or the key of a deleted one.
    pub fn row(&mut self, tag: u64, json: &str, gone: bool) -> Result<ReferenceRecord, String> {
        let payload = Payload::Json(json.as_bytes().to_vec());
        let record =
            Record { partition: 0, offset: 0, timestamp_ms: 0, arrived_ns: 0, stand: Stand::default(), payload };
        let (body, time) = self.decode(&record).map_err(|reject| reject.message)?;
        let body = match body {
            Body::Row(key, _) if gone => Body::Gone(key),
            body => body,
        };
        Ok(ReferenceRecord { to: 0, tag, time, lane: Lane::of_table(0, 0), offset: 0, body })
    }
}

/// The key that a message's key stands for: the text of a single key field.
fn message_key(reference: &Reference, key: &[u8]) -> Result<Key, String> {
    let mut fields = reference.key_fields();
    let (Some(field), None) = (fields.next(), fields.next()) else {
        return Err(format!("a tombstone cannot delete from '{}', whose key is a pair", reference.name()));
    };
    let text = str::from_utf8(key).ok().filter(|text| !text.is_empty());
    let text = text.ok_or("a tombstone without a message key deletes nothing")?;
    match field.kind {
        FieldType::Int => {
            text.trim().parse().map(Key::from_int).map_err(|_| format!("message key '{text}' is no integer"))
        }
        _ => Ok(Key::from_text(text)),
    }
}
