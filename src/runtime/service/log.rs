//! What events were answered, on disk before they are bound.
//!
//! One file per partition, one JSON object per line: the outcome of an event (`null`: the fallback), or a late answer. A
//! thread writes what has gathered and syncs once per file (group commit). A last line that a crash cut off is dropped.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::thread::{self, Thread};

use crossbeam_channel::{Receiver, Sender, bounded};
use serde::{Deserialize, Serialize};

use crate::arrange::enrich::{Cells, ReferenceRecord};
use crate::source::{Partition, SourceError};

/// Lines on their way to the disk.
const QUEUE_MAX: usize = 16_384;

/// What one event was answered, by look-up.
pub(super) type Outcome = Vec<(u64, Option<Cells>)>;

/// A line of the log.
#[derive(Clone, Serialize, Deserialize)]
pub(super) enum Line {
    /// The event at an offset, and its outcome.
    Event(u64, Outcome),
    /// A late answer; its offset counts the partition's late answers.
    Late(ReferenceRecord),
}

/// What an earlier run wrote of a partition.
#[derive(Default)]
pub(super) struct Recorded {
    pub outcomes: HashMap<u64, Outcome>,
    pub late: VecDeque<ReferenceRecord>,
}

/// Appends lines and says how many are durable.
pub(super) struct AnswerLog {
    directory: PathBuf,
    to_disk: Sender<(Partition, Line)>,
    durable: Receiver<Result<usize, String>>,
}

impl AnswerLog {
    /// Starts the log's thread. The caller is the worker that polls.
    pub fn open(directory: &Path) -> Result<Self, SourceError> {
        let failed =
            |error: std::io::Error| SourceError::External(format!("{}: {error}; check --state", directory.display()));
        std::fs::create_dir_all(directory).map_err(failed)?;
        let (to_disk, queue) = bounded(QUEUE_MAX);
        let (done, durable) = bounded(QUEUE_MAX);
        let (worker, here) = (thread::current(), directory.to_owned());
        let thread = thread::Builder::new().name("answers".into());
        thread.spawn(move || append(&here, &queue, &done, &worker)).map_err(failed)?;
        Ok(AnswerLog { directory: directory.to_owned(), to_disk, durable })
    }

    /// Hands a line over; gives it back if the queue is full.
    pub fn append(&self, partition: Partition, line: Line) -> Result<(), Line> {
        self.to_disk.try_send((partition, line)).map_err(|error| error.into_inner().1)
    }

    /// How many more lines have become durable since the last call.
    pub fn durable(&self) -> Result<usize, SourceError> {
        self.durable.try_iter().try_fold(0, |sum, lines| lines.map(|lines| sum + lines)).map_err(SourceError::External)
    }

    /// What was written of a partition before; the cut line at the end is dropped.
    pub fn recorded(&self, partition: Partition) -> Result<Recorded, SourceError> {
        let path = path(&self.directory, partition);
        let failed = |reason: String| SourceError::External(format!("{}: {reason}; check --state", path.display()));
        let mut recorded = Recorded::default();
        let file = match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(recorded),
            Err(error) => return Err(failed(error.to_string())),
        };
        let (mut reader, mut text, mut bytes, mut number) = (BufReader::new(&file), String::new(), 0, 0);
        loop {
            text.clear();
            let read = reader.read_line(&mut text).map_err(|error| failed(error.to_string()))?;
            if read == 0 || !text.ends_with('\n') {
                break;
            }
            number += 1;
            let line =
                serde_json::from_str(&text).map_err(|error| failed(format!("line {number} is damaged: {error}")))?;
            match line {
                Line::Event(offset, outcome) => drop(recorded.outcomes.insert(offset, outcome)),
                Line::Late(record) => recorded.late.push_back(record),
            }
            bytes += read as u64;
        }
        file.set_len(bytes).map_err(|error| failed(error.to_string()))?;
        Ok(recorded)
    }
}

fn path(directory: &Path, partition: Partition) -> PathBuf {
    directory.join(format!("answers-{partition}.jsonl"))
}

fn append(
    directory: &Path,
    queue: &Receiver<(Partition, Line)>,
    done: &Sender<Result<usize, String>>,
    worker: &Thread,
) {
    let mut files: BTreeMap<Partition, File> = BTreeMap::new();
    while let Ok(first) = queue.recv() {
        let group: Vec<(Partition, Line)> = std::iter::once(first).chain(queue.try_iter()).collect();
        let lines = group.len();
        let written = write(directory, &mut files, group).map(|()| lines);
        let result =
            written.map_err(|error| format!("cannot write the log of answers in {}: {error}", directory.display()));
        if done.send(result).is_err() {
            return;
        }
        worker.unpark();
    }
}

fn write(
    directory: &Path,
    files: &mut BTreeMap<Partition, File>,
    group: Vec<(Partition, Line)>,
) -> std::io::Result<()> {
    let mut lines: BTreeMap<Partition, Vec<u8>> = BTreeMap::new();
    for (partition, line) in group {
        let lines = lines.entry(partition).or_default();
        serde_json::to_writer(&mut *lines, &line)?;
        lines.push(b'\n');
    }
    for (partition, lines) in lines {
        let file = match files.entry(partition) {
            std::collections::btree_map::Entry::Occupied(file) => file.into_mut(),
            std::collections::btree_map::Entry::Vacant(none) => {
                none.insert(OpenOptions::new().create(true).append(true).open(path(directory, partition))?)
            }
        };
        file.write_all(&lines)?;
        file.sync_data()?;
    }
    Ok(())
}
