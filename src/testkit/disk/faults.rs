//! What can go wrong with a simulated disk, and at which steps.

use std::fmt;
use std::path::Path;

/// What is done to a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StepKind {
    /// A file or folder is created, or opened to be emptied.
    Create,
    /// Bytes are written.
    Write,
    /// A file is synced.
    Sync,
    /// A file is cut.
    Cut,
    /// A file is renamed.
    Rename,
    /// A file or folder is removed.
    Remove,
    /// A folder is synced.
    SyncFolder,
}

/// What it is done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DiskArea {
    /// Segments of the journal, and their folder.
    Journal,
    /// Parts of cuts, and their folders.
    Cuts,
    /// The list of cuts.
    Manifest,
    /// How far outputs have come.
    Marks,
    /// Output files.
    Outputs,
    /// The state directory itself, and what tells it from others.
    Directory,
}

impl DiskArea {
    /// Of a path.
    pub fn of(path: &Path) -> Self {
        let named = |name: &str| path.components().any(|part| part.as_os_str() == name);
        let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        match () {
            () if named("journal") => DiskArea::Journal,
            () if named("cuts") => DiskArea::Cuts,
            () if named("outputs") => DiskArea::Outputs,
            () if name.starts_with("MANIFEST") => DiskArea::Manifest,
            () if name.starts_with("outputs-") => DiskArea::Marks,
            () => DiskArea::Directory,
        }
    }
}

/// A named step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DiskStep {
    /// What is done.
    pub kind: StepKind,
    /// To what.
    pub area: DiskArea,
}

impl fmt::Display for DiskStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?}", self.kind, self.area)
    }
}

/// What ends everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outage {
    /// The process is killed: what it has written is there.
    Kill,
    /// The machine has no power: what was not synced may be lost.
    Power,
}

/// What goes wrong at a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFault {
    /// It ends before the step, or in the middle of what is written.
    Before(Outage),
    /// It ends after the step.
    After(Outage),
    /// There is no room; of what is written a part is.
    Full,
    /// The step fails, and nothing is done.
    Fails,
}

/// A fault at a step, the `nth` time that it is taken from now on (from 0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedFault {
    /// The step.
    pub step: DiskStep,
    /// How often it goes well before.
    pub nth: u64,
    /// What goes wrong.
    pub fault: DiskFault,
}

/// How a disk breaks its promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskDefect {
    /// Syncs of these files do nothing.
    NoSync(DiskArea),
    /// Syncs of these folders do nothing.
    NoFolderSync(DiskArea),
    /// These files are not cut.
    NoCut(DiskArea),
}
