//! The writing end: a thread that packs, seals and syncs what has gathered (group commit).

use std::collections::{BTreeMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use super::JournalError;
use super::block::Chain;
use super::entry::{Batch, Block, Columns, Head, LastRecord, hash_of, pack};
use super::segment::{FOLDER, Segment, SegmentName};
use crate::event::{Partition, Record};
use crate::flow::{Binding, Epoch};

/// Messages on their way to the thread.
const QUEUE_MAX: usize = 256;

/// A segment that has grown to this is closed, bytes.
const SEGMENT_BYTES_MAX: u64 = 64 << 20;

/// A segment that has grown to this is closed once nobody needs its beginning any more, bytes: else what comes slowly would keep
/// what is old for as long as it takes to fill one.
const OUTGROWN_BYTES_MIN: u64 = 128 << 10;

/// Zstandard's fastest ordinary level.
const LEVEL: i32 = 1;

enum Message {
    Records(Gathered),
    /// Answered once it is durable.
    Binding(Binding),
    /// Written along.
    Heard(Binding),
    Release(Covered),
}

/// Records that were noted and not handed over yet.
#[derive(Default)]
struct Gathered {
    records: u64,
    last: BTreeMap<Partition, LastRecord>,
    bytes: Vec<u8>,
}

/// What is in a cut, and so needs the journal no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Covered {
    /// Everything up to (and with) this epoch.
    pub epoch: Epoch,
    /// The offset after the last record of each partition.
    pub uppers: BTreeMap<Partition, u64>,
    /// What is younger than this is kept all the same, for features that are added later; event time, milliseconds.
    pub kept_from_ms: i64,
}

/// A running journal.
#[derive(Debug)]
pub struct Journal {
    to_disk: Sender<Message>,
    durable: Receiver<Result<Binding, String>>,
    keeps_records: bool,
    last: BTreeMap<Partition, LastRecord>,
    thread: JoinHandle<()>,
}

/// How a journal is written on.
#[derive(Debug)]
pub(super) struct Continuation {
    pub directory: PathBuf,
    pub name: SegmentName,
    pub head: Head,
    /// This process's segments so far, in order: those that were not looked into, and those that were.
    pub older: Vec<SegmentName>,
    /// See above.
    pub segments: Vec<Segment>,
}

impl Journal {
    /// Begins a segment.
    pub(super) fn begin(continuation: Continuation) -> Result<Self, JournalError> {
        let Head { keeps_records, last, .. } = continuation.head.clone();
        let writing = Writing::begin(continuation)?;
        let (to_disk, queue) = bounded(QUEUE_MAX);
        let (done, durable) = bounded(QUEUE_MAX);
        let folder = writing.folder.clone();
        let spawned = thread::Builder::new().name("journal".into()).spawn(move || writing.run(&queue, &done));
        let thread = spawned.map_err(|error| JournalError::of(&folder, error.to_string()))?;
        Ok(Journal { to_disk, durable, keeps_records, last, thread })
    }

    /// A worker's end. What the journal holds already is not written again.
    pub fn inputs(&self) -> Inputs {
        Inputs {
            to_disk: self.to_disk.clone(),
            keeps_records: self.keeps_records,
            known: self.last.iter().map(|(&partition, last)| (partition, last.offset)).collect(),
            gathered: Gathered::default(),
            columns: Columns::new(),
        }
    }

    /// The end of the worker that hears or mints bindings for its process.
    pub fn bindings(&self) -> BindingLog {
        BindingLog { to_disk: self.to_disk.clone(), durable: self.durable.clone() }
    }

    /// Waits until everything is written. All ends must be gone.
    pub fn finish(self) {
        drop(self.to_disk);
        // It has no result; a panic there was reported when it happened.
        let _ = self.thread.join();
    }
}

/// Where one process's bindings are written.
#[derive(Clone, Debug)]
pub struct BindingLog {
    to_disk: Sender<Message>,
    durable: Receiver<Result<Binding, String>>,
}

impl BindingLog {
    /// Hands a binding over; gives it back if the queue is full.
    pub fn append(&self, binding: Binding) -> Result<(), Binding> {
        self.send(Message::Binding(binding))
    }

    /// Hands a binding over that another process has made durable; gives it back if the queue is full.
    pub fn hear(&self, binding: Binding) -> Result<(), Binding> {
        self.send(Message::Heard(binding))
    }

    /// The next binding that is on disk.
    pub fn durable(&self) -> Option<Result<Binding, String>> {
        self.durable.try_recv().ok()
    }

    /// Says what a cut covers: whole segments of it are dropped. Not said if the queue is full: the next cut covers more.
    pub fn release(&self, covered: Covered) {
        let _ = self.to_disk.try_send(Message::Release(covered));
    }

    fn send(&self, message: Message) -> Result<(), Binding> {
        match self.to_disk.try_send(message).map_err(TrySendError::into_inner) {
            Err(Message::Binding(binding) | Message::Heard(binding)) => Err(binding),
            _ => Ok(()),
        }
    }
}

/// One worker's records on their way to the journal.
#[derive(Debug)]
pub struct Inputs {
    to_disk: Sender<Message>,
    keeps_records: bool,
    /// The last record of each partition that was written.
    known: BTreeMap<Partition, u64>,
    gathered: Gathered,
    columns: Columns,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Message")
    }
}

impl std::fmt::Debug for Gathered {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Gathered").field("records", &self.records).finish_non_exhaustive()
    }
}

impl Inputs {
    /// Notes a record that was read.
    ///
    /// # Errors
    /// If it cannot be written down.
    pub fn note(&mut self, record: &Record) -> Result<(), String> {
        if self.known.get(&record.partition).is_some_and(|&known| record.offset <= known) {
            return Ok(());
        }
        self.known.insert(record.partition, record.offset);
        self.gathered.records += 1;
        let last = LastRecord { offset: record.offset, hash: hash_of(record) };
        self.gathered.last.insert(record.partition, last);
        if self.keeps_records {
            pack(record, &mut self.columns, &mut self.gathered.bytes)
                .map_err(|error| format!("a record cannot be written to the journal: {error}"))?;
        }
        Ok(())
    }

    /// Hands over what was noted. Says whether there is room for more.
    pub fn hand_over(&mut self) -> bool {
        if self.gathered.records == 0 {
            return true;
        }
        match self.to_disk.try_send(Message::Records(std::mem::take(&mut self.gathered))) {
            // Each batch names its columns.
            Ok(()) => self.columns.clear(),
            Err(TrySendError::Full(Message::Records(gathered))) => {
                self.gathered = gathered;
                return false;
            }
            // The thread has said why it is gone, to the one that waits for its answers.
            Err(_) => {}
        }
        true
    }
}

/// The thread's own.
struct Writing {
    directory: PathBuf,
    folder: PathBuf,
    file: File,
    chain: Chain,
    head: Head,
    segment: Segment,
    /// Segments before the closed ones, in order, that nobody has looked into yet.
    older: VecDeque<SegmentName>,
    closed: VecDeque<Segment>,
    /// The oldest of all, once it was looked into.
    oldest: Option<Segment>,
}

impl Writing {
    fn begin(continuation: Continuation) -> Result<Self, JournalError> {
        let Continuation { directory, name, head, older, segments } = continuation;
        let folder = directory.join(FOLDER);
        let path = name.path(&directory);
        let io = |error: std::io::Error| JournalError::of(&path, error.to_string());
        std::fs::create_dir_all(&folder).map_err(io)?;
        for torn in segments.iter().filter(|segment| segment.torn_bytes > 0) {
            let file = OpenOptions::new().write(true).open(torn.name.path(&directory)).map_err(io)?;
            file.set_len(torn.bytes).and_then(|()| file.sync_data()).map_err(io)?;
        }
        let (file, chain) = create(&path).map_err(io)?;
        let segment = Segment::new(name);
        let (older, closed) = (older.into(), segments.into());
        let mut writing = Writing { directory, folder, file, chain, head, segment, older, closed, oldest: None };
        writing.write(&[Block::Head(writing.head.clone())], true).map_err(io)?;
        Ok(writing)
    }

    fn run(mut self, queue: &Receiver<Message>, done: &Sender<Result<Binding, String>>) {
        let mut failed = None;
        while let Ok(first) = queue.recv() {
            let (mut gathered, mut bindings, mut answers) = (Gathered::default(), Vec::new(), Vec::new());
            let mut covered = None;
            for message in std::iter::once(first).chain(queue.try_iter()) {
                match message {
                    Message::Records(more) => gathered.append(more),
                    Message::Binding(binding) => {
                        answers.push(binding.clone());
                        bindings.push(binding);
                    }
                    Message::Heard(binding) => bindings.push(binding),
                    Message::Release(more) => covered = Some(more),
                }
            }
            if failed.is_none() {
                let written = self.write_group(gathered, bindings).and_then(|()| match covered {
                    Some(covered) => self.release(&covered),
                    None => Ok(()),
                });
                failed =
                    written.err().map(|error| format!("cannot write the journal {}: {error}", self.folder.display()));
            }
            for binding in answers {
                let result = failed.clone().map_or(Ok(binding), Err);
                if done.send(result).is_err() {
                    return;
                }
            }
        }
    }

    fn write_group(&mut self, gathered: Gathered, bindings: Vec<Binding>) -> std::io::Result<()> {
        let packed = match gathered.bytes.as_slice() {
            [] => Vec::new(),
            bytes => zstd::bulk::compress(bytes, LEVEL)?,
        };
        let mut blocks = Vec::new();
        let sync = !bindings.is_empty();
        if gathered.records > 0 {
            let Gathered { records, last, bytes } = gathered;
            self.head.last.extend(last.iter().map(|(&partition, &last)| (partition, last)));
            blocks.push(Block::Records(Batch { records, last, unpacked_bytes: bytes.len() as u64, packed: &packed }));
        }
        if sync {
            blocks.push(Block::Bindings(bindings));
        }
        self.write(&blocks, sync)?;
        if self.segment.bytes >= SEGMENT_BYTES_MAX { self.rotate() } else { Ok(()) }
    }

    fn write(&mut self, blocks: &[Block], sync: bool) -> std::io::Result<()> {
        let mut bytes = Vec::new();
        for block in blocks {
            self.chain.write(block, &mut bytes)?;
            self.segment.note(block);
        }
        self.file.write_all(&bytes)?;
        self.segment.bytes += bytes.len() as u64;
        if sync { self.file.sync_data() } else { Ok(()) }
    }

    /// Closes the segment and begins the next one.
    fn rotate(&mut self) -> std::io::Result<()> {
        self.file.sync_data()?;
        let SegmentName { begins, number, process } = self.segment.name;
        let begins = self.segment.epochs.map_or(begins, |(_, last)| last + 1);
        let name = SegmentName { begins, number: number + 1, process };
        (self.file, self.chain) = create(&name.path(&self.directory))?;
        self.closed.push_back(std::mem::replace(&mut self.segment, Segment::new(name)));
        self.write(&[Block::Head(self.head.clone())], true)
    }

    /// How far event time has come with the oldest segment. One of a run that was killed before it bound anything may have records that
    /// the next one binds: it goes with that one.
    fn watermark_of(&self, oldest: &Segment) -> i64 {
        if oldest.epochs.is_some() {
            return oldest.watermark_ms;
        }
        let older = self.older.iter().filter_map(|name| Segment::scan(&self.directory, name, |_| Ok(())).ok());
        let later = older.chain(self.closed.iter().cloned()).find(|segment| segment.epochs.is_some());
        later.map_or(self.segment.watermark_ms, |later| later.watermark_ms)
    }

    /// Drops the oldest segments, as far as all that they hold is covered.
    fn release(&mut self, covered: &Covered) -> std::io::Result<()> {
        let outgrown = self.segment.begins_ms.is_some_and(|begins_ms| begins_ms < covered.kept_from_ms);
        if outgrown && self.segment.bytes >= OUTGROWN_BYTES_MIN {
            self.rotate()?;
        }
        loop {
            if self.oldest.is_none() {
                self.oldest = match self.older.pop_front() {
                    None => self.closed.pop_front(),
                    Some(name) => match Segment::scan(&self.directory, &name, |_| Ok(())) {
                        Ok(segment) => Some(segment),
                        Err(error) => {
                            tracing::error!(%error, "a segment that a cut covers is damaged; it is left where it is");
                            continue;
                        }
                    },
                };
            }
            let Some(oldest) = &self.oldest else { break };
            let bound = oldest.epochs.is_none_or(|(_, last)| last <= covered.epoch);
            let upper = |partition| covered.uppers.get(partition).copied().unwrap_or(0);
            let in_it = oldest.last.iter().all(|(partition, last)| last.offset < upper(partition));
            if !(bound && in_it && self.watermark_of(oldest) < covered.kept_from_ms) {
                break;
            }
            std::fs::remove_file(oldest.name.path(&self.directory))?;
            self.oldest = None;
        }
        Ok(())
    }
}

impl Gathered {
    fn append(&mut self, mut more: Gathered) {
        self.records += more.records;
        self.last.append(&mut more.last);
        if self.bytes.is_empty() {
            self.bytes = more.bytes;
        } else {
            self.bytes.append(&mut more.bytes);
        }
    }
}

/// Creates a file whose name lasts.
fn create(path: &Path) -> std::io::Result<(File, Chain)> {
    let file = OpenOptions::new().write(true).create_new(true).open(path)?;
    if let Some(folder) = path.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok((file, Chain::first(path)))
}
