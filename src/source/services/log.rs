//! What events were answered, on disk before they are bound.
//!
//! One file per partition, one sealed line (see [`crate::source::sealed`]) per outcome of an event (`null`: the fallback), or
//! late answer. A thread writes what has gathered and syncs once per file (group commit).

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::thread::{self, Thread};

use crossbeam_channel::{Receiver, Sender, bounded};
use serde::{Deserialize, Serialize};

use crate::event::Partition;
use crate::flow::ReferenceRecord;
use crate::flow::reference::Cells;
use crate::source::SourceError;
use crate::source::sealed::{Seal, read_lines};

/// Lines on their way to the disk.
const QUEUE_MAX: usize = 16_384;

/// What the thread is told.
enum Message {
    /// A partition's file has been read: it goes on behind this seal.
    Begin(Partition, Seal),
    Line(Partition, Line),
}

/// What one event was answered, by look-up.
pub(super) type Answers = Vec<(u64, Option<Cells>)>;

/// A line of the log.
#[derive(Clone, Serialize, Deserialize)]
pub(super) enum Line {
    /// The event at an offset, and its outcome.
    Event(u64, Answers),
    /// A late answer; its offset counts the partition's late answers.
    Late(ReferenceRecord),
}

/// What an earlier run wrote of a partition.
#[derive(Default)]
pub(super) struct RecordedAnswers {
    pub outcomes: HashMap<u64, Answers>,
    pub late: VecDeque<ReferenceRecord>,
}

/// Appends lines and says how many are durable.
pub(super) struct AnswerLog {
    directory: PathBuf,
    to_disk: Sender<Message>,
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
        match self.to_disk.try_send(Message::Line(partition, line)).map_err(|error| error.into_inner()) {
            Err(Message::Line(_, line)) => Err(line),
            Ok(()) | Err(Message::Begin(..)) => Ok(()),
        }
    }

    /// How many more lines have become durable since the last call.
    pub fn durable(&self) -> Result<usize, SourceError> {
        self.durable.try_iter().try_fold(0, |sum, lines| lines.map(|lines| sum + lines)).map_err(SourceError::External)
    }

    /// What was written of a partition before; to be asked before anything of it is appended. The cut line at the end is
    /// dropped.
    pub fn begin(&self, partition: Partition) -> Result<RecordedAnswers, SourceError> {
        let path = path(&self.directory, partition);
        let (recorded, seal, bytes) = read(&path)?;
        let failed = |reason| failed(&path, reason);
        if bytes > 0 {
            let file = OpenOptions::new().write(true).open(&path);
            file.and_then(|file| file.set_len(bytes)).map_err(|error| failed(error.to_string()))?;
        }
        let begun = self.to_disk.try_send(Message::Begin(partition, seal));
        begun.map_err(|_| failed("the log's queue is full".to_owned()))?;
        Ok(recorded)
    }
}

impl RecordedAnswers {
    /// What was written of a partition; its log is left as it is.
    pub fn read(directory: &Path, partition: Partition) -> Result<Self, SourceError> {
        read(&path(directory, partition)).map(|(recorded, ..)| recorded)
    }
}

/// What a log holds, the seal to go on from, and the length of its whole lines, bytes.
fn read(path: &Path) -> Result<(RecordedAnswers, Seal, u64), SourceError> {
    let mut recorded = RecordedAnswers::default();
    let (seal, bytes) = read_lines(path, |number, entry| {
        let line = serde_json::from_str(entry);
        match line.map_err(|error| format!("line {number} is of another format: {error}"))? {
            Line::Event(offset, outcome) => drop(recorded.outcomes.insert(offset, outcome)),
            Line::Late(record) => recorded.late.push_back(record),
        }
        Ok(())
    })
    .map_err(|reason| failed(path, reason))?;
    Ok((recorded, seal, bytes))
}

fn failed(path: &Path, reason: String) -> SourceError {
    SourceError::External(format!("{}: {reason}; check --state", path.display()))
}

fn path(directory: &Path, partition: Partition) -> PathBuf {
    directory.join(format!("answers-{partition}.jsonl"))
}

fn append(directory: &Path, queue: &Receiver<Message>, done: &Sender<Result<usize, String>>, worker: &Thread) {
    let mut files = Files::default();
    while let Ok(first) = queue.recv() {
        let mut group = Vec::new();
        for message in std::iter::once(first).chain(queue.try_iter()) {
            match message {
                Message::Begin(partition, seal) => drop(files.seals.insert(partition, seal)),
                Message::Line(partition, line) => group.push((partition, line)),
            }
        }
        if group.is_empty() {
            continue;
        }
        let lines = group.len();
        let written = files.write(directory, group).map(|()| lines);
        let result =
            written.map_err(|error| format!("cannot write the log of answers in {}: {error}", directory.display()));
        if done.send(result).is_err() {
            return;
        }
        worker.unpark();
    }
}

/// The files that the thread writes, and where their chains of seals are.
#[derive(Default)]
struct Files {
    open: BTreeMap<Partition, File>,
    seals: BTreeMap<Partition, Seal>,
}

impl Files {
    fn write(&mut self, directory: &Path, group: Vec<(Partition, Line)>) -> std::io::Result<()> {
        let mut lines: BTreeMap<Partition, Vec<u8>> = BTreeMap::new();
        for (partition, line) in group {
            let first = || Seal::first(&path(directory, partition));
            let seal = self.seals.entry(partition).or_insert_with(first);
            seal.line(&line, lines.entry(partition).or_default())?;
        }
        for (partition, lines) in lines {
            let file = match self.open.entry(partition) {
                Entry::Occupied(file) => file.into_mut(),
                Entry::Vacant(none) => {
                    none.insert(OpenOptions::new().create(true).append(true).open(path(directory, partition))?)
                }
            };
            file.write_all(&lines)?;
            file.sync_data()?;
        }
        Ok(())
    }
}
