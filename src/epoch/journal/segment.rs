//! Segments: the files of a journal.
//!
//! `journal/EPOCH-NUMBER-PROCESS`: the first epoch that can begin in it, a number that rises with every file, and the process
//! that wrote it. In the order of their names they hold the records of a partition in the order of its offsets, whichever
//! processes have read it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::JournalError;
use super::block::{Chain, Damage};
use super::entry::{Block, FORMAT, Head, LastRecord};
use crate::disk::{Disk, Opening};
use crate::event::{Lane, Partition};
use crate::flow::{Binding, Epoch};
use crate::source::sealed::Terms;

/// The name of the folder in the state directory.
pub(super) const FOLDER: &str = "journal";

/// One file of a journal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SegmentName {
    pub begins: Epoch,
    pub number: u64,
    pub process: usize,
}

impl SegmentName {
    pub fn path(&self, directory: &Path) -> PathBuf {
        let SegmentName { begins, number, process } = self;
        directory.join(FOLDER).join(format!("{begins:020}-{number:08}-{process:04}"))
    }

    fn parse(name: &str) -> Option<Self> {
        let mut parts = name.split('-');
        let (begins, number, process) = (parts.next()?, parts.next()?, parts.next()?);
        let name =
            SegmentName { begins: begins.parse().ok()?, number: number.parse().ok()?, process: process.parse().ok()? };
        parts.next().is_none().then_some(name)
    }
}

/// The segments of a journal, in order. None if there is no journal.
pub(super) fn list(disk: &Disk, directory: &Path) -> Result<Vec<SegmentName>, JournalError> {
    let folder = directory.join(FOLDER);
    let names = disk.list(&folder).map_err(|error| JournalError::of(&folder, error.to_string()))?;
    let segment = |name: std::ffi::OsString| {
        let name = name.to_string_lossy();
        let unknown = || JournalError::of(&folder, format!("{name} is no segment; move it elsewhere"));
        SegmentName::parse(&name).ok_or_else(unknown)
    };
    let mut segments = names.into_iter().map(segment).collect::<Result<Vec<_>, _>>()?;
    segments.sort();
    Ok(segments)
}

/// What stands in a segment, without its records.
#[derive(Clone, Debug)]
pub struct Segment {
    pub(super) name: SegmentName,
    /// Its first block; `None` if its writer died before that was written.
    pub(super) head: Option<Head>,
    /// Bytes of its whole blocks.
    pub(super) bytes: u64,
    /// Bytes behind them that were being written when its writer died.
    pub(super) torn_bytes: u64,
    /// Records, and the bytes they had.
    pub(super) records: u64,
    /// See above.
    pub(super) record_bytes: u64,
    /// The last record of each partition.
    pub(super) last: BTreeMap<Partition, LastRecord>,
    /// Its first and its last binding.
    pub(super) epochs: Option<(Epoch, Epoch)>,
    /// Where its bindings have brought each lane: the offset after the last record.
    pub(super) uppers: BTreeMap<Lane, u64>,
    /// The watermark of its first binding, milliseconds.
    pub(super) begins_ms: Option<i64>,
    /// The watermark of its last binding, milliseconds.
    pub(super) watermark_ms: i64,
}

/// What a segment holds, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentFigures {
    /// Its name.
    pub name: String,
    /// Bytes of its whole blocks.
    pub bytes: u64,
    /// Bytes behind them, which a writer that died has left.
    pub torn_bytes: u64,
    /// Records.
    pub records: u64,
    /// The bytes that they had before they were compressed.
    pub record_bytes: u64,
    /// The first and the last epoch that it binds.
    pub epochs: Option<(Epoch, Epoch)>,
    /// The watermark at its end, milliseconds; `i64::MIN` before there is one.
    pub watermark_ms: i64,
    /// What the run that wrote it was, beside its records.
    pub terms: Option<Terms>,
}

impl Segment {
    /// What it holds.
    pub fn figures(&self) -> SegmentFigures {
        let name = self.name.path(Path::new("")).file_name().map(|name| name.to_string_lossy().into_owned());
        SegmentFigures {
            name: name.unwrap_or_default(),
            bytes: self.bytes,
            torn_bytes: self.torn_bytes,
            records: self.records,
            record_bytes: self.record_bytes,
            epochs: self.epochs,
            watermark_ms: self.watermark_ms,
            terms: self.head.as_ref().map(|head| head.terms.clone()),
        }
    }

    pub(super) fn new(name: SegmentName) -> Self {
        Segment {
            name,
            head: None,
            bytes: 0,
            torn_bytes: 0,
            records: 0,
            record_bytes: 0,
            last: BTreeMap::new(),
            epochs: None,
            uppers: BTreeMap::new(),
            begins_ms: None,
            watermark_ms: i64::MIN,
        }
    }

    /// The first watermark of its bindings, milliseconds, if it has any.
    pub fn begins_ms(&self) -> Option<i64> {
        self.begins_ms
    }

    /// How far event time has come with it, if it is known.
    pub(super) fn known_ms(&self) -> Option<i64> {
        (self.watermark_ms > i64::MIN).then_some(self.watermark_ms)
    }

    /// What is taken for that if no segment knows it: epochs are bound by the first process alone, so others drop what is covered.
    pub(super) fn unknown_ms(&self) -> i64 {
        if self.name.process == 0 { i64::MAX } else { i64::MIN }
    }

    /// Takes note of a block.
    pub(super) fn note(&mut self, block: &Block) {
        match block {
            Block::Head(head) => self.head = Some(head.clone()),
            Block::Records(batch) => {
                self.records += batch.records;
                self.record_bytes += batch.unpacked_bytes;
                self.last.extend(batch.last.iter().map(|(&partition, &last)| (partition, last)));
            }
            Block::Bindings(bindings) => bindings.iter().for_each(|binding| self.bind(binding)),
        }
    }

    fn bind(&mut self, binding: &Binding) {
        if binding.watermark_ms > i64::MIN {
            self.begins_ms.get_or_insert(binding.watermark_ms);
        }
        let first = self.epochs.map_or(binding.epoch, |(first, _)| first);
        self.epochs = Some((first, binding.epoch));
        self.uppers.extend(binding.uppers.iter().map(|(&lane, &upper)| (lane, upper)));
        self.watermark_ms = self.watermark_ms.max(binding.watermark_ms);
    }

    /// Reads a segment from its beginning and verifies every block. A torn end is taken for what it is.
    ///
    /// # Errors
    /// If a block within it is damaged, or it is no segment that this program can read; named with its offset.
    pub(super) fn scan(
        disk: &Disk,
        directory: &Path,
        name: &SegmentName,
        mut each: impl FnMut(Block) -> Result<(), String>,
    ) -> Result<Segment, JournalError> {
        let path = name.path(directory);
        let failed = |reason: String| JournalError::of(&path, reason);
        let content = disk.read(&path).map_err(|error| failed(error.to_string()))?;
        let (mut segment, mut chain, mut at) = (Segment::new(name.clone()), Chain::first(&path), 0);
        loop {
            match chain.read::<Block>(&content, at) {
                None => break,
                Some(Ok((block, next))) => {
                    check(&block, at).map_err(&failed)?;
                    segment.note(&block);
                    each(block).map_err(|reason| failed(format!("at byte {at}: {reason}")))?;
                    at = next;
                }
                Some(Err(Damage::Torn)) => break,
                Some(Err(Damage::Changed)) => {
                    return Err(failed(format!(
                        "is damaged at byte {at}: it is not what was written; restore the file, or name another directory"
                    )));
                }
            }
        }
        (segment.bytes, segment.torn_bytes) = (at as u64, (content.len() - at) as u64);
        Ok(segment)
    }
}

/// What the first block of a segment says; `None` if its writer died before that was written.
pub(super) fn head(disk: &Disk, directory: &Path, name: &SegmentName) -> Result<Option<Head>, JournalError> {
    let path = name.path(directory);
    let failed = |reason: String| JournalError::of(&path, reason);
    let mut content = Vec::new();
    let file = disk.open(&path, Opening::Read).map_err(|error| failed(error.to_string()))?;
    std::io::Read::read_to_end(&mut std::io::Read::take(file, HEAD_BYTES_MAX), &mut content)
        .map_err(|error| failed(error.to_string()))?;
    match Chain::first(&path).read::<Block>(&content, 0) {
        Some(Ok((Block::Head(head), _))) => Ok(Some(head)),
        Some(Ok(_)) => Err(failed("is damaged at byte 0: its head is not where it belongs".to_owned())),
        Some(Err(Damage::Changed)) => Err(failed("is damaged at byte 0: it is not what was written".to_owned())),
        Some(Err(Damage::Torn)) | None => Ok(None),
    }
}

/// More than a head takes.
const HEAD_BYTES_MAX: u64 = 1 << 20;

/// The first block, and no other, says what the segment is.
fn check(block: &Block, at: usize) -> Result<(), String> {
    match (block, at) {
        (Block::Head(head), 0) if head.format == FORMAT => Ok(()),
        (Block::Head(head), 0) => {
            Err(format!("its format is {}, this program's is {FORMAT}; name another directory", head.format))
        }
        (Block::Head(_), _) | (_, 0) => Err(format!("is damaged at byte {at}: its head is not where it belongs")),
        _ => Ok(()),
    }
}
