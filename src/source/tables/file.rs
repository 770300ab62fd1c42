//! A reference file: read whole, compared with the version before.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use super::log::ReferenceLog;
use super::reader::{BATCH_RECORDS_MAX, Gone, Handover, Share};
use super::rows::RowDecoder;
use super::{TableInput, WantedTable};
use crate::event::{Key, Limits, Partition, Payload, Record};
use crate::flow::Decoded;
use crate::flow::reference::{Body, Cells, NO_TIME};
use crate::source::tables::{Reference, ReferenceKind};
use crate::source::{FileSource, Ready, Source, SourceError, StartOffsets};
use crate::views::lookup::Networks;

/// The partition of a file: there is one.
const PARTITION: Partition = 0;

/// Rows that a reference file may have.
pub const ROWS_MAX: usize = 50_000_000;

/// Records taken from the file's reader at once.
const POLL_RECORDS_MAX: usize = 4_096;

/// Says what is wrong with a file before anything starts: it is missing, has an unknown ending, lacks a column.
pub(super) fn probe(reference: &Arc<Reference>, path: &str, limits: Limits) -> Result<(), SourceError> {
    if *reference.kind() == ReferenceKind::Networks {
        return networks(reference, path).map(drop);
    }
    let mut first = true;
    // The rows after the first are read when the job has started.
    each_record(reference, path, limits, |record| {
        check_columns(reference, path, &record.payload)?;
        first = false;
        Ok(false)
    })
}

/// Reads a file, and again whenever it changes.
pub(super) fn run(share: &Share, outlet: &Handover) -> Result<Result<(), Gone>, SourceError> {
    let Share { wanted: WantedTable { reference, place, .. }, .. } = share;
    let TableInput::File(path) = place else { return Ok(Ok(())) };
    let mut version = Version::default();
    let (mut recorded, mut next) = (Vec::new(), 0);
    let mut log = ReferenceLog::open(share, PARTITION, |offset, record| {
        version.note(&record);
        recorded.push(record);
        next = offset + 1;
    })?;
    if outlet.send(recorded).is_err() {
        return Ok(Err(Gone));
    }
    let (mut taken, mut refused) = (None, None);
    let mut first = true;
    loop {
        let seen = stamp(path);
        if first || (seen.is_some() && seen != taken && seen != refused) {
            match read(share, path, &mut version) {
                Ok(bodies) => {
                    taken = seen;
                    let records = bodies.into_iter().map(|(body, time)| {
                        next += 1;
                        share.record(PARTITION, next - 1, time, body)
                    });
                    let records: Vec<Decoded> = records.collect();
                    tracing::info!(reference = reference.name(), changes = records.len(), "reference file read");
                    if hand_out(records, &mut log, outlet)?.is_err() {
                        return Ok(Err(Gone));
                    }
                }
                Err(error) if first => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, "a new version of a reference file is refused; the one before stays");
                    refused = seen;
                    if outlet.send(vec![refusal(share, next, &error)]).is_err() {
                        return Ok(Err(Gone));
                    }
                }
            }
        }
        if first && outlet.loaded().is_err() {
            return Ok(Err(Gone));
        }
        first = false;
        let Some(poll_ms) = reference.poll_ms().filter(|_| !share.bounded) else { return Ok(Ok(())) };
        if outlet.sleep(Duration::from_millis(poll_ms.max(1))).is_err() {
            return Ok(Err(Gone));
        }
    }
}

/// Logs and sends records in batches.
pub(super) fn hand_out(
    records: Vec<Decoded>,
    log: &mut ReferenceLog,
    outlet: &Handover,
) -> Result<Result<(), Gone>, SourceError> {
    log.append(&records)?;
    let mut records = records.into_iter().peekable();
    while records.peek().is_some() {
        if outlet.send(records.by_ref().take(BATCH_RECORDS_MAX).collect()).is_err() {
            return Ok(Err(Gone));
        }
    }
    Ok(Ok(()))
}

/// The rows that the last version had.
#[derive(Default)]
struct Version(HashMap<Key, (Cells, i64)>);

impl Version {
    fn note(&mut self, record: &Decoded) {
        let Decoded::Reference(record) = record else { return };
        match &record.body {
            Body::Row(key, cells) => drop(self.0.insert(*key, (cells.clone(), record.time))),
            Body::Gone(key) => drop(self.0.remove(key)),
            Body::Networks(_) => {}
        }
    }
}

/// Reads a version and returns what it changes: rows that are new or others, in the file's order, then deletions.
fn read(share: &Share, path: &str, version: &mut Version) -> Result<Vec<(Body, i64)>, SourceError> {
    let reference = &share.wanted.reference;
    if *reference.kind() == ReferenceKind::Networks {
        return Ok(vec![(Body::Networks(networks(reference, path)?), NO_TIME)]);
    }
    let mut decoder = RowDecoder::new(reference.clone(), share.limits);
    let mut rows: HashMap<Key, (Cells, i64)> = HashMap::new();
    let (mut place_of, mut changes) = (HashMap::new(), Vec::new());
    each_record(reference, path, share.limits, |record| {
        let number = record.offset + 1;
        check_columns(reference, path, &record.payload)?;
        let says = |what: String| user(reference, path, &format!("row {number}: {what}"));
        let (body, time) = decoder.decode(&record).map_err(|reject| says(reject.message))?;
        let Body::Row(key, cells) = body else { return Ok(true) };
        if let Some(first) = place_of.insert(key, number) {
            return Err(says(format!("has the key of row {first}; keep one of them")));
        }
        if place_of.len() > ROWS_MAX {
            return Err(says(format!("more than {ROWS_MAX} rows; use a topic, or cut the file")));
        }
        if version.0.remove(&key).as_ref() != Some(&(cells.clone(), time)) {
            changes.push((Body::Row(key, cells.clone()), time));
        }
        rows.insert(key, (cells, time));
        Ok(true)
    })?;
    let mut gone: Vec<Key> = version.0.keys().copied().collect();
    gone.sort_unstable();
    changes.extend(gone.into_iter().map(|key| (Body::Gone(key), NO_TIME)));
    version.0 = rows;
    Ok(changes)
}

/// A refused version as a reject, for the side output; it has no offset of its own.
fn refusal(share: &Share, next: u64, error: &SourceError) -> Decoded {
    use crate::flow::{Reject, RejectReason};
    let offset = next.saturating_sub(1);
    let (reason, message) = (RejectReason::BadValue, error.to_string());
    let (id, raw) = Default::default();
    let lane = share.lane(PARTITION);
    share.reject(PARTITION, Reject { lane, offset, timestamp_ms: 0, reason, message, id, raw })
}

/// Gives every record of a file to `take`, until it says false.
fn each_record(
    reference: &Reference,
    path: &str,
    limits: Limits,
    mut take: impl FnMut(Record) -> Result<bool, SourceError>,
) -> Result<(), SourceError> {
    if path == "-" {
        return Err(user(reference, path, "a reference cannot come from standard input; give a path"));
    }
    let renamed = |error: SourceError| {
        let from = format!("--input {path}");
        let message = error.to_string().replacen(&from, &format!("--reference {}={path}", reference.name()), 1);
        SourceError::User(message)
    };
    let source = FileSource::new(&[path.to_owned()], reference.schema(), limits).map_err(renamed)?;
    let mut reader = source.open(0, 1, &StartOffsets::new()).map_err(renamed)?;
    let mut records = Vec::new();
    loop {
        let ready = reader.poll(POLL_RECORDS_MAX, &mut records).map_err(renamed)?;
        for record in records.drain(..) {
            if !take(record)? {
                return Ok(());
            }
        }
        match ready {
            Ready::Done => return Ok(()),
            Ready::More => {}
            Ready::Waiting | Ready::CaughtUp => thread::park_timeout(Duration::from_millis(1)),
        }
    }
}

/// A column that no file has is a typing error, unless its field has a default.
fn check_columns(reference: &Reference, path: &str, payload: &Payload) -> Result<(), SourceError> {
    let Payload::Csv { header, .. } = payload else { return Ok(()) };
    let there = |path: &String| header.columns().contains(path);
    for field in reference.key_fields().chain(reference.kept_fields()).filter(|field| field.default.is_none()) {
        if !there(&field.path) && !field.aliases.iter().any(there) {
            let has = header.columns().join(", ");
            let message = format!("no column '{}' for the field '{}'; the file has {has}", field.path, field.name);
            return Err(user(reference, path, &message));
        }
    }
    Ok(())
}

fn networks(reference: &Reference, path: &str) -> Result<Arc<[u8]>, SourceError> {
    let says = |message: String| user(reference, path, &message);
    let content = std::fs::read(path).map_err(|error| says(format!("cannot read it: {error}")))?;
    let content: Arc<[u8]> = content.into();
    Networks::new(content.clone()).map_err(says)?;
    Ok(content)
}

fn user(reference: &Reference, path: &str, message: &str) -> SourceError {
    SourceError::User(format!("--reference {}={path}: {message}", reference.name()))
}

/// What tells one version of a file from another; `None` while there is none.
fn stamp(path: &str) -> Option<(SystemTime, u64)> {
    let metadata = Path::new(path).metadata().ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}
