//! What was taken in of one partition of a reference, on disk before it is handed on.
//!
//! Sealed lines (see [`crate::source::sealed`]): the first names the layout of rows, the others hold one record each. A network
//! file is kept beside the log, its hash in the log. A last line that a crash cut off is dropped: it cannot have been bound.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::reader::Share;
use crate::event::{Lane, Partition};
use crate::flow::reference::Body;
use crate::flow::{Decoded, Reject};
use crate::source::SourceError;
use crate::source::sealed::{Seal, read_lines};
use crate::source::tables::Reference;

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
    /// The name of the file that holds the networks, and the hash of what is in it.
    Networks(String, u64),
    Reject(Reject),
}

/// The log of one partition; without a state directory, and in a replay, it keeps nothing.
pub(super) struct ReferenceLog {
    file: Option<(File, PathBuf, Seal)>,
    lane: Lane,
}

impl ReferenceLog {
    /// Opens the log of a partition of a reference and gives what it holds to `each`. A replay repeats what a run has written and
    /// adds nothing to it.
    pub fn open(share: &Share, partition: Partition, mut each: impl FnMut(u64, Decoded)) -> Result<Self, SourceError> {
        let lane = share.lane(partition);
        let Some(directory) = &share.state else { return Ok(ReferenceLog { file: None, lane }) };
        let path = directory.join(format!("reference-{}-{partition}.jsonl", share.wanted.reference.name()));
        let failed = |reason: String| SourceError::External(format!("{}: {reason}; check --state", path.display()));
        let io = |error: std::io::Error| failed(error.to_string());
        let mut lines = 0;
        let (mut seal, valid_bytes) = read_lines(&path, |number, entry| {
            lines = number;
            let other = |error: serde_json::Error| format!("line {number} is of another format: {error}");
            if number == 1 {
                let head: Head = serde_json::from_str(entry).map_err(other)?;
                return match head.layout == layout(&share.wanted.reference) {
                    true => Ok(()),
                    false => Err("was written with other fields or another key; name another directory".to_owned()),
                };
            }
            let Line { offset, time, what } = serde_json::from_str(entry).map_err(other)?;
            let record = match what {
                What::Row(body) => share.record(partition, offset, time, body),
                What::Networks(name, hash) => {
                    let content = std::fs::read(directory.join(&name)).map_err(|error| format!("{name}: {error}"))?;
                    if xxh3_64(&content) != hash {
                        return Err(format!("{name} is damaged: it is not what was written"));
                    }
                    share.record(partition, offset, time, Body::Networks(content.into()))
                }
                // Its number among the references of the job may have been another one.
                What::Reject(reject) => Decoded::Reject(Reject { lane, ..reject }),
            };
            each(offset, record);
            Ok(())
        })
        .map_err(failed)?;
        if share.bounded {
            return Ok(ReferenceLog { file: None, lane });
        }
        std::fs::create_dir_all(directory).map_err(io)?;
        let mut file = OpenOptions::new().create(true).append(true).open(&path).map_err(io)?;
        file.set_len(valid_bytes).map_err(io)?;
        if lines == 0 {
            let head =
                Head { reference: share.wanted.reference.name().to_owned(), layout: layout(&share.wanted.reference) };
            let mut line = Vec::new();
            seal.line(&head, &mut line).and_then(|()| file.write_all(&line)).map_err(io)?;
        }
        Ok(ReferenceLog { file: Some((file, path, seal)), lane })
    }

    /// Writes records and syncs once.
    pub fn append(&mut self, records: &[Decoded]) -> Result<(), SourceError> {
        let Some((file, path, seal)) = &mut self.file else { return Ok(()) };
        let mut lines = Vec::new();
        let mine = |record: &&Decoded| match record {
            Decoded::Reference(record) => record.lane == self.lane,
            Decoded::Reject(reject) => reject.lane == self.lane,
            Decoded::Event(_) | Decoded::Answered(_) => false,
        };
        let written = records.iter().filter(mine).try_for_each(|record| match line(record, path)? {
            Some(line) => seal.line(&line, &mut lines),
            None => Ok(()),
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
                    What::Networks(name, xxh3_64(content))
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
