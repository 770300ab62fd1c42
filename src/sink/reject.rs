//! Rejects as output records.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::{Headers, OutputRecord};
use crate::decode::{Reject, RejectReason};

#[derive(Serialize)]
struct Line<'a> {
    partition: u32,
    offset: u64,
    timestamp_ms: i64,
    reason: RejectReason,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw_bytes: Option<usize>,
}

/// Raw bytes that a reject carries at most: in base64 they still fit a broker's default message limit of 1 MiB. The source
/// coordinates lead to the rest.
const RAW_BYTES_MAX: usize = 512 << 10;

/// A reject as one JSON object: coordinates, reason, message and the record as it was read, as `raw` if it is UTF-8 and
/// as `raw_base64` if not. The key is `partition:offset`.
pub fn encode_reject(reject: &Reject, epoch: u64, arrived_ns: u64) -> OutputRecord {
    let cut = &reject.raw[..reject.raw.len().min(RAW_BYTES_MAX)];
    let raw = str::from_utf8(cut).ok();
    let line = Line {
        partition: reject.partition,
        offset: reject.offset,
        timestamp_ms: reject.timestamp_ms,
        reason: reject.reason,
        message: &reject.message,
        raw,
        raw_base64: raw.is_none().then(|| STANDARD.encode(cut)),
        raw_bytes: (cut.len() < reject.raw.len()).then_some(reject.raw.len()),
    };
    OutputRecord {
        key: format!("{}:{}", reject.partition, reject.offset).into_bytes(),
        // Numbers, texts and a unit variant: nothing here that serde_json refuses.
        payload: Some(serde_json::to_vec(&line).unwrap_or_default()),
        last_line: Vec::new(),
        headers: Headers { epoch, diff: 1, cause: "" },
        arrived_ns,
    }
}
