//! Cuts: what every operator keeps at the end of one epoch, on disk while the engine goes on.
//!
//! ```text
//!  authority: dump from the end of F on ─► operators: images of their shards, one by one, and what is asked meanwhile ─► thread
//!  authority: end with epoch E ─► operators: what is left ─► thread: DIR/cuts/F/PROCESS, synced
//!  all processes have theirs, and all outputs have acknowledged E ─► DIR/MANIFEST names E ─► older cuts and segments go
//! ```
//!
//! A restart loads the newest cut that the manifest names, and goes on with the journal behind it. Two are kept: should the
//! newest be damaged, the one before it is loaded, and the journal behind that. What was written and never named is not
//! trusted, and removed. Images are of shards, so another number of workers loads them as well. A run that is stopped takes a last
//! cut, so that the next one has nothing to repeat (of a single process; a cluster repeats what came since its last one).
//!
//! Shards are dumped one by one, a millisecond's work at a time ([`crate::operators::Dumper`]): scoring waits for no more than that.
//! Only a run that ends dumps all at once. Compressing and writing is done by the thread. Cuts are taken so seldom that they cost
//! a tenth of what the engine itself uses, whatever `--cut-every` says.

mod manifest;
mod read;
mod write;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::epoch::LaneEnd;
use crate::event::Lane;
use crate::flow::{Epoch, Facts};
use crate::operators::EnginePlan;
use crate::score::control::ControlHistory;
use crate::source::sealed::Terms;

pub use manifest::CutManifest;
pub use read::{Loaded, load};
pub use write::sweep;
pub use write::{CutWriter, Cutter, CutterEnd, Cutting};

/// The format of a cut.
const FORMAT: u32 = 4;

/// The name of the folder in the state directory.
const FOLDER: &str = "cuts";

/// The first block of a process's part of a cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    format: u32,
    /// What decided the outcome of the run that wrote it, beside the records.
    terms: Terms,
    /// What its images are of.
    plan: EnginePlan,
}

/// A block of a part.
#[derive(Debug, Serialize, Deserialize)]
enum Block<'a> {
    Head(Head),
    /// What a view kept of a shard, or was asked later.
    #[serde(borrow)]
    Image(Packed<'a>),
    /// What has made the deployments; the last block but one.
    Control(ControlHistory),
    /// The last block: the facts of the cut's epoch, where the lanes of the process's workers are, and how many images come
    /// before it.
    End(Facts, BTreeMap<Lane, LaneEnd>, u64),
}

/// An image as it stands in a part.
#[derive(Debug, Serialize, Deserialize)]
struct Packed<'a> {
    view: &'a str,
    shard: u32,
    epoch: Epoch,
    asked: bool,
    /// Bytes before they were compressed.
    bytes: u64,
    packed: &'a [u8],
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

/// The folder of a cut that has begun at the end of this epoch.
fn folder(directory: &Path, begun: Epoch) -> PathBuf {
    directory.join(FOLDER).join(format!("{begun:020}"))
}

/// A process's part of a cut.
fn part(directory: &Path, begun: Epoch, process: usize) -> PathBuf {
    folder(directory, begun).join(format!("{process:04}"))
}
