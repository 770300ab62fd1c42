//! Files as a source: CSV and JSON lines, plain, gzip or zstd by ending, or JSON lines from standard input.
//!
//! Every file is a partition. A reader's files are read by one thread, a buffer of each in turn, so that files which
//! cover the same time stay roughly abreast. An offset is the number of the record in its file, blank lines and the CSV
//! header not counted; starting at an offset reads over the records before it.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, Thread};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};
use input::{InputFile, Lines};

use super::{Reader, Ready, Source, SourceError, StartOffsets};
use crate::event::{Limits, Origin, Partition, Record, Schema};
use crate::source::clock;

mod input;

/// Batches that may wait between the reading thread and the worker.
const CHANNEL_BATCHES_MAX: usize = 8;

/// Records in one batch.
const BATCH_RECORDS_MAX: usize = 512;

/// A set of files, or standard input.
#[derive(Debug)]
pub struct FileSource {
    inputs: Vec<InputFile>,
    limits: Limits,
}

impl FileSource {
    /// A source of the named files (`-`: standard input), in this order as partitions 0, 1, and so on.
    ///
    /// Opens each once, so that a missing file, an unknown ending, a broken compression and a CSV header without id or
    /// time are errors here and now. Lines longer than the limit are cut just beyond it, for the decoder to reject.
    pub fn new(paths: &[String], schema: &Schema, limits: Limits) -> Result<Self, SourceError> {
        if paths.is_empty() {
            return Err(SourceError::User("no file is named; give one with --input".to_owned()));
        }
        if paths.len() > 1 && paths.iter().any(|path| path == "-") {
            return Err(SourceError::User("--input -: standard input cannot be read beside files".to_owned()));
        }
        let inputs = paths.iter().map(|path| InputFile::probe(path, schema)).collect::<Result<_, _>>()?;
        Ok(FileSource { inputs, limits })
    }
}

impl Source for FileSource {
    fn open(&self, worker: usize, workers: usize, start: &StartOffsets) -> Result<Box<dyn Reader>, SourceError> {
        let mut parts = Vec::new();
        for (partition, input) in self.inputs.iter().enumerate().skip(worker).step_by(workers.max(1)) {
            let partition = partition as Partition;
            let start = start.get(&partition).copied().unwrap_or(0);
            parts.push((partition, input.open(start, self.limits.record_bytes_max)?));
        }
        let partitions = parts.iter().map(|(partition, _)| *partition).collect();
        let live = self.inputs.iter().any(InputFile::is_stdin);
        let (sender, receiver) = bounded(CHANNEL_BATCHES_MAX);
        let held = Arc::new(Mutex::new(Vec::new()));
        let left_alone = held.clone();
        // The caller is the worker that will poll.
        let poller = thread::current();
        thread::Builder::new()
            .name(format!("file-source-{worker}"))
            .spawn(move || read(parts, &left_alone, &sender, &poller))
            .map_err(|error| SourceError::External(format!("cannot start a thread to read files: {error}")))?;
        let (batch, ends) = (Vec::new().into_iter(), Vec::new());
        Ok(Box::new(FileReader { receiver, partitions, live, batch, ends, held, end: None }))
    }

    fn describe(&self) -> String {
        self.inputs.iter().map(InputFile::name).collect::<Vec<_>>().join(", ")
    }

    fn identity(&self) -> String {
        // A file may have been moved: what counts is what is in it.
        let begins = self.inputs.iter().map(|input| format!("{:016x}", input.begins()));
        format!("{} files, whose first lines hash to {}", self.inputs.len(), begins.collect::<Vec<_>>().join(","))
    }

    fn bounded(&self) -> bool {
        true
    }

    fn origin(&self, partition: Partition) -> Origin {
        self.inputs.get(partition as usize).map_or(Origin::Elsewhere, |input| Origin::File(input.name().to_owned()))
    }
}

/// What the thread sends.
enum Message {
    Batch(Vec<Record>),
    /// A file is read to its end: so many records.
    EndOf(Partition, u64),
    /// Everything was read, or the reason why no more will come.
    End(Result<(), String>),
}

struct FileReader {
    receiver: Receiver<Message>,
    partitions: Vec<Partition>,
    /// Standard input may be quiet for long; a file that gives nothing is being fetched.
    live: bool,
    batch: std::vec::IntoIter<Record>,
    /// Files read to their ends, with the number of their records.
    ends: Vec<(Partition, u64)>,
    held: HeldPartitions,
    end: Option<Result<(), String>>,
}

impl Reader for FileReader {
    fn poll(&mut self, limit: usize, into: &mut Vec<Record>) -> Result<Ready, SourceError> {
        let full = into.len() + limit;
        while into.len() < full {
            if let Some(record) = self.batch.next() {
                into.push(record);
                continue;
            }
            if self.end.is_some() {
                break;
            }
            match self.receiver.try_recv() {
                Ok(Message::Batch(batch)) => self.batch = batch.into_iter(),
                Ok(Message::EndOf(partition, records)) => self.ends.push((partition, records)),
                Ok(Message::End(end)) => self.end = Some(end),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    self.end = Some(Err("the thread that reads files ended before the files did".to_owned()));
                }
            }
        }
        // Records before an error are handed out first.
        if into.len() == full || full - into.len() < limit {
            return Ok(Ready::More);
        }
        match &self.end {
            Some(Ok(())) => Ok(Ready::Done),
            Some(Err(message)) => Err(SourceError::External(message.clone())),
            None if self.live => Ok(Ready::CaughtUp),
            None => Ok(Ready::Waiting),
        }
    }

    fn partitions(&self) -> Vec<Partition> {
        self.partitions.clone()
    }

    fn ends(&self, into: &mut Vec<(Partition, u64)>) {
        into.extend(&self.ends);
    }

    fn hold(&mut self, partitions: &[Partition]) {
        partitions.clone_into(&mut self.held.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Files that are left alone for now: they are far ahead of the others.
type HeldPartitions = Arc<Mutex<Vec<Partition>>>;

/// How long the thread waits when all files that are left are held.
const HELD_WAIT: Duration = Duration::from_millis(1);

/// Reads all parts to their ends, a batch of each in turn. Ends early when the reader has been dropped.
///
/// The poller sleeps when it has nothing to do: every message wakes it.
fn read(mut parts: Vec<(Partition, Lines)>, held: &HeldPartitions, sender: &Sender<Message>, poller: &Thread) {
    let mut failed = None;
    while !parts.is_empty() && failed.is_none() {
        let mut gone = false;
        let held = held.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if parts.iter().all(|(partition, _)| held.contains(partition)) {
            thread::sleep(HELD_WAIT);
        }
        parts.retain_mut(|(partition, lines)| {
            if gone || failed.is_some() || held.contains(partition) {
                return true;
            }
            let mut batch = Vec::new();
            let ended = fill(*partition, lines, &mut batch);
            gone = !batch.is_empty() && sender.send(Message::Batch(batch)).is_err();
            if ended == Ok(false) {
                gone |= sender.send(Message::EndOf(*partition, lines.records())).is_err();
            }
            poller.unpark();
            ended.unwrap_or_else(|message| {
                failed = Some(message);
                true
            })
        });
        if gone {
            return;
        }
    }
    // A reader that was dropped needs no end.
    let _ = sender.send(Message::End(failed.map_or(Ok(()), Err)));
    poller.unpark();
}

/// Reads a batch: what one buffer holds. Whether there may be more.
fn fill(partition: Partition, lines: &mut Lines, batch: &mut Vec<Record>) -> Result<bool, String> {
    let mut arrived_ns = None;
    while batch.len() < BATCH_RECORDS_MAX && (batch.is_empty() || lines.has_line()) {
        let Some((offset, stand, payload)) = lines.next()? else { return Ok(false) };
        let arrived_ns = *arrived_ns.get_or_insert_with(clock::now_ns);
        batch.push(Record { partition, offset, timestamp_ms: 0, arrived_ns, stand, payload });
    }
    Ok(true)
}
