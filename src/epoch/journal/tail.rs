//! The reading end: what a journal holds from some point on, as a source in front of the live one.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};

use super::block::Chain;
use super::entry::{Block, Columns, LastRecord, hash_of, unpack};
use super::segment::SegmentName;
use crate::disk::Disk;
use crate::event::{Partition, Record};
use crate::flow::{Binding, Epoch};
use crate::source::clock::now_ns;
use crate::source::{Reader, Ready, SourceError};

/// Segments that were verified, with the bytes of their whole blocks.
pub(super) type Verified = (SegmentName, u64);

/// The blocks of some segments, one after the other.
#[derive(Debug)]
struct Blocks {
    disk: Disk,
    directory: PathBuf,
    segments: VecDeque<Verified>,
    open: Option<(PathBuf, Vec<u8>, Chain, usize)>,
}

impl Blocks {
    fn new(disk: &Disk, directory: &Path, segments: impl IntoIterator<Item = Verified>) -> Self {
        let segments = segments.into_iter().collect();
        Blocks { disk: disk.clone(), directory: directory.to_owned(), segments, open: None }
    }

    /// Gives the next block to `take`; `None` at the end.
    fn next<T>(&mut self, take: impl FnOnce(Block) -> T) -> Result<Option<T>, String> {
        loop {
            if self.open.is_none() {
                let Some((name, bytes)) = self.segments.pop_front() else { return Ok(None) };
                let path = name.path(&self.directory);
                let failed = |error| format!("{}: {error}; check --state", path.display());
                let mut content = self.disk.read(&path).map_err(failed)?;
                // What is behind them was being written when its writer died, or was written since.
                content.truncate(bytes as usize);
                let chain = Chain::first(&path);
                self.open = Some((path, content, chain, 0));
            }
            let Some((path, content, chain, at)) = &mut self.open else { continue };
            match chain.read::<Block>(content, *at) {
                None => self.open = None,
                Some(Ok((block, next))) => {
                    *at = next;
                    return Ok(Some(take(block)));
                }
                Some(Err(_)) => {
                    let path = path.display();
                    return Err(format!("{path}: is damaged at byte {at}, and was not a moment ago; check the disk"));
                }
            }
        }
    }
}

/// Bindings that a journal holds, in order.
#[derive(Debug)]
pub struct BindingReader {
    blocks: Blocks,
    waiting: VecDeque<Binding>,
    next: Epoch,
}

impl BindingReader {
    pub(super) fn new(
        disk: &Disk,
        directory: &Path,
        segments: impl IntoIterator<Item = Verified>,
        from: Epoch,
    ) -> Self {
        BindingReader { blocks: Blocks::new(disk, directory, segments), waiting: VecDeque::new(), next: from }
    }

    /// The next one; `None` at the end.
    ///
    /// # Errors
    /// If the journal cannot be read, or lacks one.
    pub fn next_binding(&mut self) -> Result<Option<Binding>, String> {
        loop {
            while let Some(binding) = self.waiting.pop_front() {
                if binding.epoch < self.next {
                    continue;
                }
                if binding.epoch > self.next {
                    let (missing, found) = (self.next, binding.epoch);
                    return Err(format!("the journal has no epoch {missing}, and goes on with {found}; check --state"));
                }
                self.next += 1;
                return Ok(Some(binding));
            }
            let bindings = self.blocks.next(|block| match block {
                Block::Bindings(bindings) => bindings,
                Block::Head(_) | Block::Records(_) => Vec::new(),
            })?;
            match bindings {
                Some(bindings) => self.waiting.extend(bindings),
                None => return Ok(None),
            }
        }
    }
}

/// Reads what a journal holds of one worker's partitions, then on from the source.
pub struct Resumed {
    blocks: Option<Blocks>,
    unpacked: (Vec<u8>, usize),
    columns: Columns,
    worker: usize,
    workers: usize,
    /// The next record that is wanted of each partition: what comes before it is in the cut, or came already.
    wanted: BTreeMap<Partition, u64>,
    /// Records that were there before: the source must still have them where it has anything at their place.
    marks: BTreeMap<Partition, LastRecord>,
    /// Partitions that were found in the journal.
    known: Vec<Partition>,
    /// Where it ends; what the journal has behind that is left out.
    until: Option<BTreeMap<Partition, u64>>,
    live: Box<dyn Reader>,
}

/// Where to go on.
#[derive(Clone, Debug, Default)]
pub struct Starts {
    /// The next record that is wanted of each partition, as far as anything of it was read.
    pub wanted: BTreeMap<Partition, u64>,
    /// Where the source is to begin: behind what the journal keeps.
    pub live: BTreeMap<Partition, u64>,
    /// The last record of each partition that was read.
    pub marks: BTreeMap<Partition, LastRecord>,
}

impl Resumed {
    pub(super) fn new(
        (disk, directory): (&Disk, &Path),
        segments: impl IntoIterator<Item = Verified>,
        starts: Starts,
        (worker, workers): (usize, usize),
        live: Box<dyn Reader>,
    ) -> Self {
        let blocks = Some(Blocks::new(disk, directory, segments));
        let Starts { wanted, marks, .. } = starts;
        let known = wanted.keys().chain(marks.keys()).copied().collect();
        let (unpacked, columns) = Default::default();
        Resumed { blocks, unpacked, columns, worker, workers, wanted, marks, known, until: None, live }
    }

    /// Leaves out what is before these offsets.
    pub(super) fn from(mut self, starts: &BTreeMap<Partition, u64>) -> Self {
        self.wanted.extend(starts);
        self
    }

    /// Leaves out what is not before these offsets.
    pub(super) fn until(mut self, uppers: BTreeMap<Partition, u64>) -> Self {
        self.until = Some(uppers);
        self
    }

    /// Takes records of the journal. Says whether it has more.
    fn recall(&mut self, limit: usize, into: &mut Vec<Record>) -> Result<bool, String> {
        let Some(blocks) = &mut self.blocks else { return Ok(false) };
        let now = now_ns();
        loop {
            let (bytes, at) = &mut self.unpacked;
            let mut rest = &bytes[*at..];
            while !rest.is_empty() {
                let record = unpack(&mut rest, &mut self.columns, now)
                    .map_err(|error| format!("the journal holds what is no record: {error}; check --state"))?;
                *at = bytes.len() - rest.len();
                let mine = record.partition as usize % self.workers == self.worker;
                let wanted = self.wanted.entry(record.partition).or_default();
                let upper = self.until.as_ref().map(|until| until.get(&record.partition).copied().unwrap_or(0));
                if mine && record.offset >= *wanted && upper.is_none_or(|upper| record.offset < upper) {
                    *wanted = record.offset + 1;
                    into.push(record);
                    if into.len() >= limit {
                        return Ok(true);
                    }
                }
            }
            let next = blocks.next(|block| match block {
                Block::Records(batch) if !batch.packed.is_empty() => {
                    zstd::bulk::decompress(batch.packed, batch.unpacked_bytes as usize)
                }
                Block::Records(_) | Block::Head(_) | Block::Bindings(_) => Ok(Vec::new()),
            })?;
            match next {
                Some(unpacked) => {
                    let unpacked = unpacked.map_err(|error| format!("the journal cannot be unpacked: {error}"))?;
                    self.unpacked = (unpacked, 0);
                    self.columns.clear();
                }
                None => {
                    self.blocks = None;
                    return Ok(false);
                }
            }
        }
    }

    /// Drops what was read before, and compares it.
    fn sift(&mut self, taken: &mut Vec<Record>) -> Result<(), SourceError> {
        let (marks, wanted, mut changed) = (&mut self.marks, &mut self.wanted, None);
        taken.retain(|record| {
            let Record { partition, offset, .. } = record;
            if let Some(mark) = marks.get(partition).filter(|mark| mark.offset <= *offset) {
                if mark.offset == *offset && mark.hash != hash_of(record) {
                    changed = Some((*partition, *offset));
                }
                marks.remove(partition);
            }
            let fresh = wanted.get(partition).is_none_or(|wanted| offset >= wanted);
            if fresh {
                wanted.remove(partition);
            }
            fresh
        });
        match changed {
            None => Ok(()),
            Some((partition, offset)) => Err(SourceError::External(format!(
                "record {offset} of partition {partition} of the input is another one than when --state was written: \
                 the topic or file was made anew; name another --state"
            ))),
        }
    }
}

impl Reader for Resumed {
    fn poll(&mut self, limit: usize, into: &mut Vec<Record>) -> Result<Ready, SourceError> {
        if self.recall(limit, into).map_err(SourceError::External)? || !into.is_empty() {
            return Ok(Ready::More);
        }
        let ready = self.live.poll(limit, into)?;
        if !self.marks.is_empty() || !self.wanted.is_empty() {
            self.sift(into)?;
        }
        Ok(ready)
    }

    fn partitions(&self) -> Vec<Partition> {
        let mut partitions = self.live.partitions();
        let (worker, workers) = (self.worker, self.workers);
        let mine = |partition: &&Partition| **partition as usize % workers == worker;
        partitions.extend(self.known.iter().filter(mine));
        partitions.sort_unstable();
        partitions.dedup();
        partitions
    }

    fn ends(&self, into: &mut Vec<(Partition, u64)>) {
        if self.blocks.is_none() {
            self.live.ends(into);
        }
    }

    fn hold(&mut self, partitions: &[Partition]) {
        self.live.hold(partitions);
    }

    fn is_log(&self) -> bool {
        self.blocks.is_none() && self.live.is_log()
    }

    fn trouble(&self) -> Option<String> {
        self.live.trouble()
    }

    fn lag(&self) -> Option<u64> {
        self.live.lag()
    }
}
