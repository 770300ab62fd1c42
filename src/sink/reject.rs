//! Rejects as output records.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::{Headers, OutputRecord};
use crate::event::{InputStream, Lane, Origin};
use crate::flow::{Reject, RejectReason};

#[derive(Serialize)]
struct Line<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a str>,
    #[serde(skip_serializing_if = "is_zero")]
    line: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    partition: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    timestamp_ms: i64,
    reason: RejectReason,
    message: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw_base64: Option<String>,
    /// There only if the bytes are cut off.
    #[serde(skip_serializing_if = "Option::is_none")]
    raw_bytes: Option<u64>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Raw bytes that a reject carries at most: in base64 they still fit a broker's default message limit of 1 MiB. The source
/// coordinates lead to the rest.
const RAW_BYTES_MAX: usize = 512 << 10;

/// Text with many escapes is written in base64 beyond this, bytes, for the same reason.
const LINE_BYTES_MAX: usize = 960 << 10;

/// A reject as one JSON object: coordinates (file and line, or topic; partition and offset), reason, message, id if it is
/// known, and the record as it was read: as `raw` if it is UTF-8, as `raw_base64` if not. Where that is cut off, `raw_bytes`
/// says how long the record was. A reject that is not about one record (`beyond_horizon`) has neither coordinates nor raw
/// bytes. The key is `partition:offset`, of a reference's row `table-N/partition:offset`, else the id.
pub fn encode_reject(reject: &Reject, origin: &Origin, epoch: u64, arrived_ns: u64) -> OutputRecord {
    let somewhere = reject.lane != Lane::NOWHERE;
    let mut cut = &reject.raw.bytes[..reject.raw.bytes.len().min(RAW_BYTES_MAX)];
    let raw = match str::from_utf8(cut) {
        Ok(text) => Some(text),
        // A character that the cut went through.
        Err(error) if error.error_len().is_none() && cut.len() < reject.raw.bytes.len() => {
            cut = &cut[..error.valid_up_to()];
            str::from_utf8(cut).ok()
        }
        Err(_) => None,
    };
    let (file, topic) = match origin {
        Origin::File(name) => (Some(name.as_str()), None),
        Origin::Topic(name) => (None, Some(name.as_str())),
        Origin::Elsewhere => (None, None),
    };
    let mut line = Line {
        file,
        line: reject.raw.stand.line,
        topic,
        partition: somewhere.then_some(reject.lane.partition),
        offset: somewhere.then_some(reject.offset),
        timestamp_ms: reject.timestamp_ms,
        reason: reject.reason,
        message: &reject.message,
        id: &reject.id,
        raw: raw.filter(|_| somewhere),
        raw_base64: raw.is_none().then(|| STANDARD.encode(cut)),
        raw_bytes: Some(reject.raw.true_bytes()).filter(|bytes| *bytes > cut.len() as u64),
    };
    // Numbers, texts and a unit variant: nothing here that serde_json refuses.
    let mut payload = serde_json::to_vec(&line).unwrap_or_default();
    if payload.len() > LINE_BYTES_MAX && line.raw.take().is_some() {
        line.raw_base64 = Some(STANDARD.encode(cut));
        payload = serde_json::to_vec(&line).unwrap_or_default();
    }
    let key = match reject.lane.stream {
        InputStream::Nowhere => reject.id.clone(),
        InputStream::Events => format!("{}:{}", reject.lane.partition, reject.offset),
        InputStream::Table(_) | InputStream::LateAnswers => format!("{}:{}", reject.lane, reject.offset),
    };
    OutputRecord {
        key: key.into_bytes(),
        payload: Some(payload),
        last_line: Vec::new(),
        headers: Headers { epoch, diff: 1, cause: "" },
        arrived_ns,
    }
}
