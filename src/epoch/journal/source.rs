//! A journal as an input: what some run has read, whatever has become of its source since.

use std::collections::BTreeMap;
use std::path::Path;

use super::{JournalError, JournalPast};
use crate::disk::Disk;
use crate::event::Partition;
use crate::source::{NoReader, Reader, Source, SourceError, StartOffsets};

/// The records that a journal keeps, up to what was bound.
#[derive(Clone, Debug)]
pub struct JournalSource {
    past: JournalPast,
    uppers: BTreeMap<Partition, u64>,
}

impl JournalSource {
    /// Of a state directory; the journal is left as it is, and may be one that a run is writing.
    ///
    /// # Errors
    /// If there is none, it is damaged, or it keeps offsets alone.
    pub fn open(directory: &Path) -> Result<Self, JournalError> {
        let past = JournalPast::open(&Disk::real(), directory, None, 0, BTreeMap::new())?;
        let none = |reason: &str| Err(JournalError::of(directory, reason.to_owned()));
        if past.segments.is_empty() {
            return none("has no journal; name the directory that a run had as --state");
        }
        if !past.keeps_records() {
            return none("has a journal of offsets alone; replay the source of that run");
        }
        let uppers = past.uppers();
        Ok(JournalSource { past, uppers })
    }
}

impl JournalSource {
    /// The same, up to these offsets of each partition.
    #[must_use]
    pub fn up_to(mut self, uppers: BTreeMap<Partition, u64>) -> Self {
        self.uppers = uppers;
        self
    }
}

impl Source for JournalSource {
    fn open(&self, worker: usize, workers: usize, start: &StartOffsets) -> Result<Box<dyn Reader>, SourceError> {
        let resumed = self.past.resume(worker, workers, Box::new(NoReader));
        Ok(Box::new(resumed.from(start).until(self.uppers.clone())))
    }

    fn describe(&self) -> String {
        let (from, until) = (self.past.first(), self.past.next());
        format!("the journal in {}, epochs {from} to {}", self.past.directory.display(), until.saturating_sub(1))
    }

    fn bounded(&self) -> bool {
        true
    }
}
