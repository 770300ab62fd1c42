//! The writing end: a thread that packs, seals and syncs what has gathered (group commit).

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use super::JournalError;
use super::block::Chain;
use super::entry::{Batch, Block, Columns, Head, LastRecord, hash_of, pack};
use super::segment::{FOLDER, Segment, SegmentName};
use crate::disk::{Disk, DiskFile, Opening};
use crate::event::{Partition, Record};
use crate::flow::{Binding, Epoch};

/// Messages on their way to the thread.
const QUEUE_MAX: usize = 256;

/// A segment that has grown to this is closed, bytes, by default.
pub const SEGMENT_BYTES_MAX: u64 = 64 << 20;

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
    /// There is something to release.
    Release,
}

/// What the newest cut covers, until segments were dropped for it.
type Released = Arc<Mutex<Option<Covered>>>;

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

impl Covered {
    /// Whether nothing in a segment is needed, event time having come to `watermark_ms` with it.
    pub(super) fn covers(&self, segment: &Segment, watermark_ms: i64) -> bool {
        let bound = segment.epochs.is_none_or(|(_, last)| last <= self.epoch);
        let upper = |partition| self.uppers.get(partition).copied().unwrap_or(0);
        let in_it = segment.last.iter().all(|(partition, last)| last.offset < upper(partition));
        bound && in_it && watermark_ms < self.kept_from_ms
    }
}

/// A running journal.
#[derive(Debug)]
pub struct Journal {
    to_disk: Sender<Message>,
    durable: Receiver<Result<Binding, String>>,
    released: Released,
    keeps_records: bool,
    last: BTreeMap<Partition, LastRecord>,
    /// Until it is started.
    writer: Option<JournalWriter>,
    /// From then on.
    thread: Option<JoinHandle<()>>,
}

/// How a journal is written on.
#[derive(Debug)]
pub(super) struct Continuation {
    pub disk: Disk,
    pub directory: PathBuf,
    pub name: SegmentName,
    pub head: Head,
    /// This process's segments so far, in order: those that were not looked into, and those that were.
    pub older: Vec<SegmentName>,
    /// See above.
    pub segments: Vec<Segment>,
    pub segment_bytes: u64,
}

impl Journal {
    /// Begins a segment.
    pub(super) fn prepare(continuation: Continuation) -> Result<Self, JournalError> {
        let Head { keeps_records, last, .. } = continuation.head.clone();
        let writing = Writing::begin(continuation)?;
        let (to_disk, queue) = bounded(QUEUE_MAX);
        let (done, durable) = bounded(QUEUE_MAX);
        let released = Released::default();
        let writer = Some(JournalWriter { writing, queue, done, released: released.clone(), failed: None });
        Ok(Journal { to_disk, durable, released, keeps_records, last, writer, thread: None })
    }

    /// Starts the thread.
    ///
    /// # Errors
    /// If the system has none.
    pub(crate) fn start(mut self) -> Result<Self, JournalError> {
        if let Some(writer) = self.writer.take() {
            let folder = writer.writing.folder.clone();
            let spawned = thread::Builder::new().name("journal".into()).spawn(move || writer.run());
            self.thread = Some(spawned.map_err(|error| JournalError::of(&folder, error.to_string()))?);
        }
        Ok(self)
    }

    /// What the thread would do, for whoever does it in its place.
    pub fn take_writer(&mut self) -> Option<JournalWriter> {
        self.writer.take()
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
        let Journal { to_disk, durable, released, .. } = self;
        BindingLog { to_disk: to_disk.clone(), durable: durable.clone(), released: released.clone() }
    }

    /// Waits until everything is written. All ends must be gone.
    pub fn finish(self) {
        drop(self.to_disk);
        // It has no result; a panic there was reported when it happened.
        let _ = self.thread.map(JoinHandle::join);
    }
}

/// Where one process's bindings are written.
#[derive(Clone, Debug)]
pub struct BindingLog {
    to_disk: Sender<Message>,
    durable: Receiver<Result<Binding, String>>,
    released: Released,
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

    /// Says what a cut covers: whole segments of it are dropped.
    pub fn release(&self, covered: Covered) {
        *self.released.lock().unwrap_or_else(PoisonError::into_inner) = Some(covered);
        // If the queue is full, the thread looks once it has written what waits in it.
        let _ = self.to_disk.try_send(Message::Release);
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

/// What the thread does.
pub struct JournalWriter {
    writing: Writing,
    queue: Receiver<Message>,
    done: Sender<Result<Binding, String>>,
    released: Released,
    failed: Option<String>,
}

impl std::fmt::Debug for JournalWriter {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("JournalWriter").field("failed", &self.failed).finish_non_exhaustive()
    }
}

impl JournalWriter {
    fn run(mut self) {
        while let Ok(first) = self.queue.recv() {
            if !self.take(first) {
                return;
            }
        }
    }

    /// Writes what has gathered, as one group. Says whether there was anything.
    pub fn turn(&mut self) -> bool {
        self.queue.try_recv().is_ok_and(|first| self.take(first))
    }

    /// Writes a message and all that wait behind it. Says whether anybody wants to hear of it.
    fn take(&mut self, first: Message) -> bool {
        let (mut gathered, mut bindings, mut answers) = (Gathered::default(), Vec::new(), Vec::new());
        for message in std::iter::once(first).chain(self.queue.try_iter()) {
            match message {
                Message::Records(more) => gathered.append(more),
                Message::Binding(binding) => {
                    answers.push(binding.clone());
                    bindings.push(binding);
                }
                Message::Heard(binding) => bindings.push(binding),
                Message::Release => {}
            }
        }
        let covered = self.released.lock().unwrap_or_else(PoisonError::into_inner).take();
        if self.failed.is_none() {
            let writing = &mut self.writing;
            let written = writing.write_group(gathered, bindings).and_then(|()| match covered {
                Some(covered) => writing.release(&covered),
                None => Ok(()),
            });
            let folder = writing.folder.display();
            self.failed = written.err().map(|error| format!("cannot write the journal {folder}: {error}"));
        }
        answers.into_iter().all(|binding| self.done.send(self.failed.clone().map_or(Ok(binding), Err)).is_ok())
    }
}

/// The journal as it is on disk.
struct Writing {
    disk: Disk,
    segment_bytes: u64,
    directory: PathBuf,
    folder: PathBuf,
    file: DiskFile,
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
        let Continuation { disk, directory, name, head, older, segments, segment_bytes } = continuation;
        let folder = directory.join(FOLDER);
        let path = name.path(&directory);
        let io = |error: std::io::Error| JournalError::of(&path, error.to_string());
        disk.create_folder(&folder).map_err(io)?;
        for segment in &segments {
            let file = disk.open(&segment.name.path(&directory), Opening::Append).map_err(io)?;
            if segment.torn_bytes > 0 {
                file.cut(segment.bytes).map_err(io)?;
            }
            // A run that was killed may have written what it did not sync. It was read, so it is repeated: it must last.
            file.sync().map_err(io)?;
        }
        let (file, chain) = create(&disk, &path).map_err(io)?;
        let segment = Segment::new(name);
        let (older, closed) = (older.into(), segments.into());
        let mut writing =
            Writing { disk, segment_bytes, directory, folder, file, chain, head, segment, older, closed, oldest: None };
        writing.write(&[Block::Head(writing.head.clone())], true).map_err(io)?;
        Ok(writing)
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
        if self.segment.bytes >= self.segment_bytes { self.rotate() } else { Ok(()) }
    }

    fn write(&mut self, blocks: &[Block], sync: bool) -> std::io::Result<()> {
        let mut bytes = Vec::new();
        for block in blocks {
            self.chain.write(block, &mut bytes)?;
            self.segment.note(block);
        }
        self.file.write_all(&bytes)?;
        self.segment.bytes += bytes.len() as u64;
        if sync { self.file.sync() } else { Ok(()) }
    }

    /// Closes the segment and begins the next one.
    fn rotate(&mut self) -> std::io::Result<()> {
        self.file.sync()?;
        let SegmentName { begins, number, process } = self.segment.name;
        let begins = self.segment.epochs.map_or(begins, |(_, last)| last + 1);
        let name = SegmentName { begins, number: number + 1, process };
        (self.file, self.chain) = create(&self.disk, &name.path(&self.directory))?;
        self.closed.push_back(std::mem::replace(&mut self.segment, Segment::new(name)));
        self.write(&[Block::Head(self.head.clone())], true)
    }

    /// How far event time has come with the oldest segment. One of a run that was killed before it bound anything may have records that
    /// the next one binds, and before all partitions have said something the time is not known: then it goes with the next one.
    fn watermark_of(&self, oldest: &Segment) -> i64 {
        let known = |segment: Segment| segment.known_ms();
        let older =
            self.older.iter().filter_map(|name| Segment::scan(&self.disk, &self.directory, name, |_| Ok(())).ok());
        let later = older.chain(self.closed.iter().cloned()).chain([self.segment.clone()]);
        oldest.known_ms().or_else(|| later.filter_map(known).next()).unwrap_or(oldest.unknown_ms())
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
                    Some(name) => match Segment::scan(&self.disk, &self.directory, &name, |_| Ok(())) {
                        Ok(segment) => Some(segment),
                        Err(error) => {
                            tracing::error!(%error, "a segment that a cut covers is damaged; it is left where it is");
                            continue;
                        }
                    },
                };
            }
            let Some(oldest) = &self.oldest else { break };
            if !covered.covers(oldest, self.watermark_of(oldest)) {
                break;
            }
            // One after the other, whatever happens: a journal has no gaps.
            self.disk.remove(&oldest.name.path(&self.directory))?;
            self.disk.sync_folder(&self.folder)?;
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
fn create(disk: &Disk, path: &Path) -> std::io::Result<(DiskFile, Chain)> {
    let file = disk.open(path, Opening::New)?;
    disk.sync_folder_of(path)?;
    Ok((file, Chain::first(path)))
}
