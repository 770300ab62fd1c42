//! What was taken in of one partition of a reference, on disk before it is handed on.
//!
//! One JSON object per line: the first names the layout of rows, the others hold one record each. A network file is kept
//! beside the log. A last line that a crash cut off is dropped: it cannot have been bound.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::reader::Share;
use crate::arrange::enrich::{Body, Reference};
use crate::decode::Reject;
use crate::epoch::Decoded;
use crate::source::{Partition, SourceError};

#[derive(Serialize, Deserialize)]
struct Head {
    reference: String,
    /// A hash of key and fields.
    layout: u64,
}

#[derive(Serialize, Deserialize)]
struct Line {
    offset: u64,
    #[serde(default)]
    time: i64,
    what: What,
}

#[derive(Serialize, Deserialize)]
enum What {
    Row(Body),
    /// The name of the file that holds the networks.
    Networks(String),
    Reject(Reject),
}

/// The log of one partition; without a state directory it keeps nothing.
pub(super) struct ReferenceLog {
    file: Option<(File, PathBuf)>,
    partition: Partition,
}

impl ReferenceLog {
    /// Opens the log of a partition, counted from the reference's first, and gives what it holds to `each`.
    pub fn open(share: &Share, partition: Partition, mut each: impl FnMut(u64, Decoded)) -> Result<Self, SourceError> {
        let Some(directory) = &share.state else { return Ok(ReferenceLog { file: None, partition }) };
        let path =
            directory.join(format!("reference-{}-{}.jsonl", share.wanted.reference.name(), partition - share.base));
        let failed = |reason: String| SourceError::External(format!("{}: {reason}; check --state", path.display()));
        let io = |error: std::io::Error| failed(error.to_string());
        std::fs::create_dir_all(directory).map_err(io)?;
        let mut file = OpenOptions::new().create(true).read(true).append(true).open(&path).map_err(io)?;
        let (mut reader, mut line, mut valid_bytes, mut number) = (BufReader::new(&file), String::new(), 0, 0);
        loop {
            line.clear();
            let read = reader.read_line(&mut line).map_err(io)? as u64;
            if read == 0 || !line.ends_with('\n') {
                break;
            }
            number += 1;
            let damaged = |error: serde_json::Error| failed(format!("line {number} is damaged: {error}"));
            if number == 1 {
                let head: Head = serde_json::from_str(&line).map_err(damaged)?;
                if head.layout != layout(&share.wanted.reference) {
                    return Err(failed(
                        "was written with other fields or another key; name another directory".to_owned(),
                    ));
                }
            } else {
                let Line { offset, time, what } = serde_json::from_str(&line).map_err(damaged)?;
                let body = match what {
                    What::Row(body) => Ok(body),
                    What::Networks(name) => std::fs::read(directory.join(name))
                        .map(|content| Ok(Body::Networks(content.into())))
                        .map_err(io)?,
                    What::Reject(reject) => Err(reject),
                };
                each(
                    offset,
                    match body {
                        Ok(body) => share.record(partition, offset, time, body),
                        Err(reject) => Decoded::Reject(reject),
                    },
                );
            }
            valid_bytes += read;
        }
        file.set_len(valid_bytes).map_err(io)?;
        if number == 0 {
            let head =
                Head { reference: share.wanted.reference.name().to_owned(), layout: layout(&share.wanted.reference) };
            let mut line = serde_json::to_vec(&head).map_err(|error| failed(error.to_string()))?;
            line.push(b'\n');
            file.write_all(&line).map_err(io)?;
        }
        Ok(ReferenceLog { file: Some((file, path)), partition })
    }

    /// Writes records and syncs once.
    pub fn append(&mut self, records: &[Decoded]) -> Result<(), SourceError> {
        let Some((file, path)) = &mut self.file else { return Ok(()) };
        let mut lines = Vec::new();
        let mine = |record: &&Decoded| match record {
            Decoded::Reference(record) => record.partition == self.partition,
            Decoded::Reject(reject) => reject.partition == self.partition,
            Decoded::Event(_) | Decoded::Answered(_) => false,
        };
        let written = records.iter().filter(mine).try_for_each(|record| {
            if let Some(line) = line(record, path)? {
                serde_json::to_writer(&mut lines, &line)?;
                lines.push(b'\n');
            }
            Ok::<_, std::io::Error>(())
        });
        let synced = written.and_then(|()| file.write_all(&lines)).and_then(|()| file.sync_data());
        synced
            .map_err(|error| SourceError::External(format!("cannot write {}: {error}; check --state", path.display())))
    }
}

fn line(record: &Decoded, log: &Path) -> std::io::Result<Option<Line>> {
    Ok(match record {
        Decoded::Event(_) | Decoded::Answered(_) => None,
        Decoded::Reject(reject) => Some(Line { offset: reject.offset, time: 0, what: What::Reject(reject.clone()) }),
        Decoded::Reference(record) => {
            let what = match &record.body {
                Body::Networks(content) => {
                    let name = beside(log, record.offset);
                    let file = File::create(log.with_file_name(&name))?;
                    (&file).write_all(content)?;
                    file.sync_data()?;
                    What::Networks(name)
                }
                body => What::Row(body.clone()),
            };
            Some(Line { offset: record.offset, time: record.time, what })
        }
    })
}

/// The name of a network file of the log.
fn beside(log: &Path, offset: u64) -> String {
    let stem = log.file_stem().unwrap_or_default().to_string_lossy();
    format!("{stem}-{offset}.mmdb")
}

/// Rows of one layout can be read by another declaration of it.
fn layout(reference: &Arc<Reference>) -> u64 {
    let fields = reference.key_fields().chain(reference.kept_fields());
    let text: String = fields.map(|field| format!("{} {:?} {};", field.name, field.kind, field.scale)).collect();
    xxh3_64(text.as_bytes())
}
