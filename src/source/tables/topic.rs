//! A compacted topic of reference rows.

use std::collections::BTreeMap;
use std::time::Duration;

use super::TableInput;
use super::file::hand_out;
use super::log::ReferenceLog;
use super::reader::{BATCH_RECORDS_MAX, Gone, Handover, Share};
use super::rows::RowDecoder;
use crate::event::{Partition, Record};
use crate::flow::Decoded;
use crate::source::kafka::{KafkaSource, Position};
use crate::source::{Ready, Source, SourceError, StartOffsets};

/// How long the thread sleeps when the topic has nothing new; the client wakes it earlier.
const SLEEP: Duration = Duration::from_millis(5);

/// Reads a worker's partitions: from the log's end or the beginning, for ever, or to the end that they have now.
pub(super) fn run(share: &Share, outlet: &Handover) -> Result<Result<(), Gone>, SourceError> {
    let TableInput::Topic(config, topic) = &share.wanted.place else { return Ok(Ok(())) };
    let (mut logs, mut start, mut recorded) = (BTreeMap::new(), StartOffsets::new(), Vec::new());
    for partition in logged(share) {
        let log = ReferenceLog::open(share, partition, |offset, record| {
            start.insert(partition, offset + 1);
            recorded.push(record);
        })?;
        logs.insert(partition, log);
    }
    if outlet.send(recorded).is_err() {
        return Ok(Err(Gone));
    }
    let to = share.bounded.then_some(Position::Latest);
    let source = KafkaSource::new(config.clone(), topic, Position::Earliest, to);
    let mut reader = source.open(share.worker, share.workers, &start)?;
    let mut decoder = RowDecoder::new(share.wanted.reference.clone(), share.limits);
    let (mut records, mut loaded) = (Vec::new(), false);
    loop {
        let ready = reader.poll(BATCH_RECORDS_MAX, &mut records)?;
        let mut batches: BTreeMap<Partition, Vec<Decoded>> = BTreeMap::new();
        for record in records.drain(..) {
            let decoded = decode(share, &mut decoder, &record);
            batches.entry(record.partition).or_default().push(decoded);
        }
        for (partition, batch) in batches {
            let log = match logs.entry(partition) {
                std::collections::btree_map::Entry::Occupied(log) => log.into_mut(),
                std::collections::btree_map::Entry::Vacant(none) => {
                    none.insert(ReferenceLog::open(share, partition, |_, _| {})?)
                }
            };
            if hand_out(batch, log, outlet)?.is_err() {
                return Ok(Err(Gone));
            }
        }
        if !loaded && matches!(ready, Ready::CaughtUp | Ready::Done) {
            loaded = true;
            if outlet.loaded().is_err() {
                return Ok(Err(Gone));
            }
        }
        match ready {
            Ready::Done => return Ok(Ok(())),
            Ready::More => {}
            Ready::CaughtUp | Ready::Waiting => {
                if outlet.sleep(SLEEP).is_err() {
                    return Ok(Err(Gone));
                }
            }
        }
    }
}

fn decode(share: &Share, decoder: &mut RowDecoder, record: &Record) -> Decoded {
    match decoder.decode(record) {
        Ok((body, time)) => share.record(record.partition, record.offset, time, body),
        Err(reject) => share.reject(record.partition, reject),
    }
}

/// The partitions of this worker that have a log.
fn logged(share: &Share) -> Vec<Partition> {
    let Some(directory) = &share.state else { return Vec::new() };
    let prefix = format!("reference-{}-", share.wanted.reference.name());
    let names = std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let partitions =
        names.filter_map(|name| name.to_str()?.strip_prefix(&prefix)?.strip_suffix(".jsonl")?.parse().ok());
    partitions.filter(|partition: &Partition| *partition as usize % share.workers == share.worker).collect()
}
