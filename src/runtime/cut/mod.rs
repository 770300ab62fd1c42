//! Cuts: what every operator keeps at the end of one epoch, on disk while the engine goes on.
//!
//! ```text
//!  authority: dump at the end of epoch E ─► operators: images of their shards ─► thread: DIR/cuts/E/PROCESS, synced
//!  all processes have theirs, and all outputs have acknowledged E ─► DIR/MANIFEST names E ─► older cuts and segments go
//! ```
//!
//! A restart loads the newest cut that the manifest names, and goes on with the journal behind it. Two are kept: should the
//! newest be damaged, the one before it is loaded, and the journal behind that. What was written and never named is not
//! trusted, and removed. Images are of shards, so another number of workers loads them as well. A run that is stopped takes a last
//! cut, so that the next one has nothing to repeat (of a single process; a cluster repeats what came since its last one).
//!
//! All shards are dumped at the end of one epoch, by the operators themselves: scoring waits for that long (see `state` in
//! `benches/README.md`). Compressing and writing is done by the thread.

mod manifest;
mod read;
mod write;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::epoch::LaneEnd;
use crate::event::Lane;
use crate::flow::{Epoch, Facts};
use crate::source::sealed::Terms;

pub use manifest::CutManifest;
pub use read::{Loaded, load};
pub use write::{Cutter, CutterEnd, Cutting};

/// The format of a cut.
const FORMAT: u32 = 2;

/// The name of the folder in the state directory.
const FOLDER: &str = "cuts";

/// The first block of a process's part of a cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    format: u32,
    /// What decided the outcome of the run that wrote it, beside the records.
    terms: Terms,
    facts: Facts,
}

/// A block of a part.
#[derive(Debug, Serialize, Deserialize)]
enum Block<'a> {
    Head(Head),
    /// A view's image of a shard: its name, the shard, bytes before they were compressed, the compressed ones.
    Image(&'a str, u32, u64, &'a [u8]),
    /// The last block: where the lanes of the process's workers are, and how many images come before it.
    End(BTreeMap<Lane, LaneEnd>, u64),
}

/// Why a cut cannot be used or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {reason}; check --state")]
pub struct CutError {
    path: String,
    reason: String,
}

impl CutError {
    fn of(path: &Path, reason: impl ToString) -> Self {
        CutError { path: path.display().to_string(), reason: reason.to_string() }
    }
}

/// The folder of a cut.
fn folder(directory: &Path, epoch: Epoch) -> PathBuf {
    directory.join(FOLDER).join(format!("{epoch:020}"))
}

/// A process's part of a cut.
fn part(directory: &Path, epoch: Epoch, process: usize) -> PathBuf {
    folder(directory, epoch).join(format!("{process:04}"))
}
