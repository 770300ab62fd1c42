//! The manifest: which cuts there are. One sealed line, written beside itself and renamed, so that it is whole or the one before.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::CutError;
use crate::disk::Disk;
use crate::flow::Epoch;
use crate::source::sealed::Seal;

const FILE: &str = "MANIFEST";

/// A cut that is whole: every process has written its part, and all outputs up to it were acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WholeCut {
    /// The epoch at whose end it was taken.
    pub epoch: Epoch,
    /// The epoch at whose end the first piece of it was: its folder is called so.
    pub begun: Epoch,
    /// Processes that have each written a part.
    pub processes: usize,
}

/// The cuts of a state directory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CutManifest {
    format: u32,
    /// The newest first.
    pub cuts: Vec<WholeCut>,
}

/// Cuts that are kept.
const CUTS_KEPT: usize = 2;

impl CutManifest {
    /// The manifest of a directory; one without a cut if there is none.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(disk: &Disk, directory: &Path) -> Result<Self, CutError> {
        let path = directory.join(FILE);
        let text = disk.read_if_there(&path).map_err(|error| CutError::of(&path, error))?;
        let Some(text) = text else { return Ok(CutManifest::default()) };
        let damaged = |what: String| {
            CutError::of(&path, format!("is damaged ({what}); remove it to go on from the journal alone"))
        };
        let entry = Seal::first(&path).open(&text).map_err(&damaged)?;
        let manifest: CutManifest = serde_json::from_str(entry).map_err(|error| damaged(error.to_string()))?;
        if manifest.format != super::FORMAT {
            let found = manifest.format;
            return Err(CutError::of(
                &path,
                format!("its format is {found}, this program's is {}; name another directory", super::FORMAT),
            ));
        }
        Ok(manifest)
    }

    /// Names one more cut, in the place of the oldest.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn add(&mut self, disk: &Disk, directory: &Path, cut: WholeCut) -> Result<(), CutError> {
        self.format = super::FORMAT;
        self.cuts.insert(0, cut);
        self.cuts.truncate(CUTS_KEPT);
        let (path, beside) = (directory.join(FILE), directory.join("MANIFEST.new"));
        let mut line = Vec::new();
        let sealed = Seal::first(&path).line(self, &mut line);
        sealed.and_then(|()| disk.replace(&path, &beside, &line)).map_err(|error| CutError::of(&path, error))
    }
}
