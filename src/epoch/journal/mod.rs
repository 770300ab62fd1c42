//! The journal: what the engine was told, on disk before anything comes of it.
//!
//! ```text
//!  records as they are read ─┐                      ┌─ 64 MiB ─┐┌─ 64 MiB ─┐┌── ...
//!                            ├─► thread, one sync ─► │ segment  ││ segment  ││
//!  bindings as they are minted ┘   per group         └──────────┘└──────────┘└──
//! ```
//!
//! A binding says which records an epoch has; it is durable before the epoch's output leaves, and the records that were read
//! before it with it. So a journal that is replayed gives the same epochs, hence the same output, whatever has become of the
//! topic meanwhile. Every process writes what its own workers read, and all bindings.
//!
//! * **Segments** (`segment`) are sequences of sealed blocks (`block`). A torn last block is the normal end of a run that
//!   was killed; any other damage is an error that names segment and offset.
//! * **Recovery** (`tail`) is a source in front of the live one: it hands out the journal's records, then those that follow.
//!   Records that the journal lacks (another process's machine failed before it was written) are read from the source again.
//! * **Length.** Once a cut covers a segment, and no feature that is added later would want it, it is dropped whole.
//! * **Offsets alone** may be kept instead of records: then the topic must still have what a restart needs, and it is refused
//!   if it has not.

mod block;
mod compact;
mod entry;
mod segment;
mod source;
mod tail;
mod write;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use block::{Chain, Damage};
pub use compact::{Compacted, compact};
use entry::Head;
pub use entry::LastRecord;
use segment::SegmentName;
pub use segment::{Segment, SegmentFigures};
pub use source::JournalSource;
pub use tail::{BindingReader, Resumed, Starts};
pub use write::{BindingLog, Covered, Inputs, Journal, JournalWriter, SEGMENT_BYTES_MAX};

use crate::disk::Disk;
use crate::event::Partition;
use crate::flow::Epoch;
use crate::source::Reader;
use crate::source::sealed::Terms;

/// Why a journal cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {reason}; check --state")]
pub struct JournalError {
    path: String,
    reason: String,
}

impl JournalError {
    pub(crate) fn of(path: &Path, reason: String) -> Self {
        JournalError { path: path.display().to_string(), reason }
    }
}

/// What a journal holds from an epoch on.
#[derive(Clone, Debug)]
pub struct JournalPast {
    disk: Disk,
    directory: PathBuf,
    /// The first epoch that is wanted.
    from: Epoch,
    /// The epoch after the last one that is bound.
    next: Epoch,
    /// Segments that hold something of it, in order.
    segments: Vec<Segment>,
    /// Segments before them, in order.
    older: Vec<SegmentName>,
    /// Where the cut ends that it goes on from.
    base: BTreeMap<Partition, u64>,
    number: u64,
}

impl JournalPast {
    /// Reads and verifies what a directory's journal holds from an epoch on, `base` being the offset after the last record of
    /// each partition before that epoch. A journal that is not there holds nothing.
    ///
    /// # Errors
    /// If a segment is damaged, or was written under terms that these do not go on from.
    pub fn open(
        disk: &Disk,
        directory: &Path,
        terms: Option<&Terms>,
        from: Epoch,
        base: BTreeMap<Partition, u64>,
    ) -> Result<Self, JournalError> {
        let names = segment::list(disk, directory)?;
        let number = names.iter().map(|name| name.number + 1).max().unwrap_or(0);
        let mut segments: Vec<Segment> = Vec::new();
        // From the last one back, per process, until everything before is in the cut.
        let mut whole: BTreeMap<usize, bool> = BTreeMap::new();
        let last_number = |process| names.iter().filter(|name| name.process == process).map(|name| name.number).max();
        for name in names.iter().rev() {
            let enough = whole.entry(name.process).or_default();
            if *enough {
                continue;
            }
            let segment = Segment::scan(disk, directory, name, |_| Ok(()))?;
            if segment.torn_bytes > 0 && last_number(name.process) != Some(name.number) {
                let (at, path) = (segment.bytes, name.path(directory));
                let reason = format!(
                    "is damaged at byte {at}: it ends there, but segments follow; restore the file, or name another directory"
                );
                return Err(JournalError::of(&path, reason));
            }
            if let Some(head) = &segment.head {
                let failed = |reason| JournalError::of(&name.path(directory), reason);
                let repeated = segment.epochs.is_some_and(|(_, last)| last >= from);
                terms.map_or(Ok(()), |terms| check_terms(terms, &head.terms, repeated)).map_err(failed)?;
                let before = |(partition, last): (&Partition, &LastRecord)| {
                    base.get(partition).is_some_and(|upper| last.offset < *upper)
                };
                *enough = name.begins <= from && head.last.iter().all(before);
            }
            segments.push(segment);
        }
        segments.reverse();
        let older = names.into_iter().filter(|name| segments.iter().all(|segment| segment.name != *name)).collect();
        let bound = segments.iter().filter(|segment| segment.name.process == 0).filter_map(|segment| segment.epochs);
        let next = bound.map(|(_, last)| last + 1).max().unwrap_or(from).max(from);
        Ok(JournalPast {
            disk: disk.clone(),
            directory: directory.to_owned(),
            from,
            next,
            segments,
            older,
            base,
            number,
        })
    }

    /// Whether a directory's journal goes back to the first epoch of all, and was written under these terms throughout.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn is_whole(disk: &Disk, directory: &Path, terms: &Terms) -> Result<bool, JournalError> {
        let names = segment::list(disk, directory)?;
        for (place, name) in names.iter().enumerate() {
            let head = segment::head(disk, directory, name)?;
            // One that was killed before its beginning was written is gone, and nothing with it.
            let follows = name.begins > 0 || name.number > 0 && head.as_ref().is_none_or(|head| !head.last.is_empty());
            if place == 0 && follows {
                return Ok(false);
            }
            if head.is_some_and(|head| terms.difference(&head.terms).is_some()) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// All that a directory's journal has, whoever has written it.
    ///
    /// # Errors
    /// If a segment is damaged.
    pub fn of(disk: &Disk, directory: &Path) -> Result<Self, JournalError> {
        let mut past = Self::open(disk, directory, None, 0, BTreeMap::new())?;
        let first = past.segments.iter().find(|segment| segment.name.process == 0 && segment.epochs.is_some());
        past.from = first.and_then(|segment| segment.epochs).map_or(0, |(first, _)| first);
        Ok(past)
    }

    /// The first epoch that is wanted of it.
    pub fn from(&self) -> Epoch {
        self.from
    }

    /// The epoch after the last one that is bound.
    pub fn next(&self) -> Epoch {
        self.next
    }

    /// The first epoch that it has anything of.
    pub fn first(&self) -> Epoch {
        self.segments.first().map_or(0, |segment| segment.name.begins)
    }

    /// What stands in its segments.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The offset after the last record of each partition that was bound.
    fn uppers(&self) -> BTreeMap<Partition, u64> {
        let mut uppers = self.base.clone();
        for (lane, upper) in self.segments.iter().flat_map(|segment| &segment.uppers) {
            if lane.is_events() {
                uppers.insert(lane.partition, *upper);
            }
        }
        uppers
    }

    /// The bindings from the first epoch on.
    pub fn bindings(&self) -> BindingReader {
        let segments = self.segments.iter().filter(|segment| segment.name.process == 0);
        BindingReader::new(&self.disk, &self.directory, segments.map(verified), self.from)
    }

    /// Where sources and queues go on.
    pub fn starts(&self) -> Starts {
        let mut marks: BTreeMap<Partition, LastRecord> = BTreeMap::new();
        for segment in &self.segments {
            let head = segment.head.iter().flat_map(|head| &head.last);
            marks.extend(head.chain(&segment.last).map(|(&partition, &last)| (partition, last)));
        }
        let mut live = self.base.clone();
        if self.keeps_records() {
            for (&partition, last) in &marks {
                let next = live.entry(partition).or_default();
                *next = (*next).max(last.offset + 1);
            }
        }
        // One record is read twice, and compared.
        for (partition, next) in &mut live {
            if marks.get(partition).is_some_and(|last| last.offset + 1 == *next) {
                *next -= 1;
            }
        }
        Starts { wanted: self.base.clone(), live, marks }
    }

    /// Whether the records are there; else they are read from the source again.
    fn keeps_records(&self) -> bool {
        self.segments.iter().filter_map(|segment| segment.head.as_ref()).all(|head| head.keeps_records)
    }

    /// A reader that hands out what is kept of one worker's partitions, then what `live`, begun at [`Starts::live`], reads.
    pub fn resume(&self, worker: usize, workers: usize, live: Box<dyn Reader>) -> Resumed {
        let segments = self.segments.iter().filter(|_| self.keeps_records());
        Resumed::new((&self.disk, &self.directory), segments.map(verified), self.starts(), (worker, workers), live)
    }

    /// Begins to write behind what is there. `keeps_records`: records are kept, too, and not offsets alone.
    ///
    /// # Errors
    /// If nothing can be written there.
    pub fn begin(&self, process: usize, terms: Terms, keeps_records: bool) -> Result<Journal, JournalError> {
        self.prepare(process, terms, keeps_records, SEGMENT_BYTES_MAX)?.start()
    }

    /// The same, in segments of so many bytes. Nothing but the beginning is written before it is started.
    ///
    /// # Errors
    /// If nothing can be written there.
    pub fn prepare(
        &self,
        process: usize,
        terms: Terms,
        keeps_records: bool,
        segment_bytes: u64,
    ) -> Result<Journal, JournalError> {
        let name = SegmentName { begins: self.next, number: self.number, process };
        let head = Head { format: entry::FORMAT, terms, keeps_records, last: self.starts().marks };
        let mine = self.segments.iter().filter(|segment| segment.name.process == process);
        let (disk, directory) = (self.disk.clone(), self.directory.clone());
        let segments = mine.cloned().collect();
        let older = self.older.iter().filter(|name| name.process == process).cloned().collect();
        Journal::prepare(write::Continuation { disk, directory, name, head, older, segments, segment_bytes })
    }
}

/// Whether a run of these terms may go on behind what was written under those, and, if it is `repeated`, repeat it.
fn check_terms(terms: &Terms, written: &Terms, repeated: bool) -> Result<(), String> {
    if let Some((what, here, there)) = terms.lasting_difference(written) {
        return Err(format!(
            "{what} is `{here}`, but it was written with `{there}`; run it as it was, or name another directory"
        ));
    }
    match terms.difference(written).filter(|_| repeated) {
        None => Ok(()),
        Some((what, here, there)) => Err(format!(
            "{what} is `{here}`, but epochs that no cut covers were written with `{there}`; run it as it was, in one process, until it is stopped \
             (with --cut-every), then with what is new, or name another directory"
        )),
    }
}

fn verified(segment: &Segment) -> (SegmentName, u64) {
    (segment.name.clone(), segment.bytes)
}
