//! Loading a cut.

use std::collections::BTreeMap;
use std::path::Path;

use super::manifest::WholeCut;
use super::{Block, CutError, FORMAT, Head, Packed, part};
use crate::disk::Disk;
use crate::epoch::LaneEnd;
use crate::epoch::journal::Chain;
use crate::event::Lane;
use crate::flow::Facts;
use crate::operators::{EnginePlan, Image, ShardImage};
use crate::score::control::ControlHistory;
use crate::source::sealed::Terms;

/// A cut that was read.
#[derive(Debug)]
pub struct Loaded {
    /// What the operators kept.
    pub image: Image,
    /// Where the lanes were.
    pub ends: BTreeMap<Lane, LaneEnd>,
    /// What the engine was that wrote it.
    pub plan: EnginePlan,
    /// Under which terms.
    pub terms: Terms,
    /// What has made the deployments.
    pub control: ControlHistory,
}

/// Reads and verifies all parts of a cut, which must have been written under these terms, if any are given.
///
/// # Errors
/// If a part is missing or damaged, or was written under other terms.
pub fn load(disk: &Disk, directory: &Path, cut: WholeCut, terms: Option<&Terms>) -> Result<Loaded, CutError> {
    let (mut shards, mut ends, mut first, mut facts) = (Vec::new(), BTreeMap::new(), None, None);
    let mut control = ControlHistory::default();
    for process in 0..cut.processes {
        let path = part(directory, cut.begun, process);
        let failed = |reason: String| CutError::of(&path, reason);
        let content = disk.read(&path).map_err(|error| failed(error.to_string()))?;
        let (mut chain, mut at, mut images, mut end) = (Chain::first(&path), 0, 0, None);
        while let Some(block) = chain.read::<Block>(&content, at) {
            let damaged = || failed(format!("is damaged at byte {at}: it is not what was written"));
            let (block, next) = block.map_err(|_| damaged())?;
            match block {
                Block::Head(head) if at == 0 => first = Some(check(head, terms).map_err(failed)?),
                Block::Head(_) => return Err(damaged()),
                Block::Image(Packed { view, shard, epoch, asked, bytes, packed }) => {
                    let bytes = zstd::bulk::decompress(packed, bytes as usize).map_err(|_| damaged())?;
                    shards.push(ShardImage { view: view.to_owned(), shard, epoch, bytes, asked });
                    images += 1;
                }
                // Each process has the same.
                Block::Control(history) => control = history,
                Block::End(of, lanes, count) if count == images && of.epoch == cut.epoch => {
                    (end, facts) = (Some(lanes), Some(of));
                }
                Block::End(..) => return Err(damaged()),
            }
            at = next;
        }
        ends.append(&mut end.ok_or_else(|| failed("is not whole: its end is missing".to_owned()))?);
    }
    let first: Option<Head> = first;
    let no_process = || CutError::of(directory, "a cut of no process");
    let Head { plan, terms, .. } = first.ok_or_else(no_process)?;
    let facts: Facts = facts.ok_or_else(no_process)?;
    Ok(Loaded { image: Image::of(facts, shards), ends, plan, terms, control })
}

fn check(head: Head, terms: Option<&Terms>) -> Result<Head, String> {
    if head.format != FORMAT {
        return Err(format!("its format is {}, this program's is {FORMAT}; name another directory", head.format));
    }
    if let Some((what, here, there)) = terms.and_then(|terms| terms.lasting_difference(&head.terms)) {
        return Err(format!(
            "{what} is `{here}`, but it was written with `{there}`; run it as it was, or name another directory"
        ));
    }
    Ok(head)
}
