//! Dropping segments from outside of a run: also those of processes that there are no more.

use std::collections::BTreeMap;
use std::path::Path;

use super::segment::{self, Segment};
use super::{Covered, JournalError};
use crate::disk::Disk;

/// What was dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Segments.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Drops segments of a journal that no run is writing: from the oldest of each process on, as far as all that they hold is covered. The
/// last one of process 0 stays: it says under which terms the journal goes on.
///
/// # Errors
/// If a segment is damaged, or cannot be removed.
pub fn compact(disk: &Disk, directory: &Path, covered: &Covered) -> Result<Compacted, JournalError> {
    let mut by_process: BTreeMap<usize, Vec<Segment>> = BTreeMap::new();
    for name in segment::list(disk, directory)? {
        let segment = Segment::scan(disk, directory, &name, |_| Ok(()))?;
        by_process.entry(segment.name.process).or_default().push(segment);
    }
    let mut compacted = Compacted::default();
    for (process, segments) in by_process {
        let droppable = segments.len() - usize::from(process == 0);
        for (number, segment) in segments.iter().take(droppable).enumerate() {
            // One whose time is not known goes with the next: its records may be bound there.
            let later = segments[number..].iter().find_map(Segment::known_ms);
            let watermark_ms = later.unwrap_or(segment.unknown_ms());
            if !covered.covers(segment, watermark_ms) {
                break;
            }
            let path = segment.name.path(directory);
            let removed = disk.remove(&path).and_then(|()| disk.sync_folder_of(&path));
            removed.map_err(|error| JournalError::of(&path, error.to_string()))?;
            compacted.segments += 1;
            compacted.bytes += segment.bytes + segment.torn_bytes;
        }
    }
    Ok(compacted)
}
