//! What `deltawatch state compact` does: drops what neither a restart nor later features need.

use std::path::Path;

use super::cut::{CutManifest, load, sweep};
use super::state::{StateError, lock_all};
use crate::disk::Disk;
use crate::epoch::journal::{Compacted, Covered, compact as compact_journal};

/// Drops segments of the journal that the older of the two cuts covers and that are further behind the watermark than `kept_ms`, and
/// cuts that were never finished. Returns what was dropped of the journal.
///
/// # Errors
/// If a run uses the directory, or something in it is damaged; then nothing behind that is dropped.
pub fn compact(directory: &Path, kept_ms: i64) -> Result<Compacted, StateError> {
    let disk = Disk::real();
    let _locks = lock_all(&disk, directory)?;
    let manifest = CutManifest::read(&disk, directory)?;
    sweep(&disk, directory, &manifest, |_| true)?;
    // What the older of the two covers, neither needs; and both must be there, whole, before anything is dropped.
    let mut covered = None;
    for &cut in &manifest.cuts {
        let loaded = load(&disk, directory, cut, None)?;
        let facts = loaded.image.facts();
        let events = loaded.ends.iter().filter(|(lane, _)| lane.is_events());
        let uppers = events.map(|(lane, end)| (lane.partition, end.upper)).collect();
        let kept_from_ms = facts.watermark_ms.saturating_sub(kept_ms);
        covered = Some(Covered { epoch: facts.epoch, uppers, kept_from_ms });
    }
    let covered = covered.ok_or_else(|| {
        let shown = directory.display();
        StateError::Lock(format!("--state {shown}: has no cut, so all of its journal is needed; a run writes one every --cut-every, and when it ends"))
    })?;
    Ok(compact_journal(&disk, directory, &covered)?)
}
