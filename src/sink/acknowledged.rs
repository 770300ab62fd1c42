//! How far outputs have come: the epochs whose records are all acknowledged.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::disk::{Disk, OnDisk};
use crate::flow::Epoch;
use crate::source::sealed::Seal;

/// How often it is written down, nanoseconds.
const WRITE_EVERY_NS: u64 = 100_000_000;

/// What an output has acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledged {
    /// All records of this epoch, and of those before it; `None`: nothing yet.
    pub epoch: Option<Epoch>,
    /// How long its file was then, bytes; 0 for what is no file.
    pub bytes: u64,
}

/// Where an output of an earlier run was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputMark {
    /// The file or topic.
    pub target: String,
    /// What it had acknowledged.
    pub acknowledged: Acknowledged,
}

/// What `outputs-P.json` in a state directory says, of process P.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Written {
    processes: usize,
    outputs: BTreeMap<String, OutputMark>,
    /// What all outputs had acknowledged when this number of processes began, by flag.
    #[serde(default)]
    bases: BTreeMap<String, Epoch>,
}

impl OutputMark {
    /// Where a file goes on that an earlier run has written, bytes; `None` if it is another one, or was moved away.
    pub fn goes_on(&self, disk: &Disk, path: &str) -> Option<u64> {
        let there = matches!(disk.look(Path::new(path)), Some(OnDisk::File(_)));
        (self.target == path && there).then_some(self.acknowledged.bytes)
    }
}

/// Where the outputs of an earlier run were, by flag.
pub type OutputMarks = BTreeMap<String, OutputMark>;

/// As one sealed line: a bit that is flipped in a length or an epoch would make wrong output.
fn seal(path: &Path, written: &Written) -> std::io::Result<Vec<u8>> {
    let mut line = Vec::new();
    Seal::first(path).line(written, &mut line)?;
    Ok(line)
}

fn unseal(path: &Path, text: &[u8]) -> Result<Written, String> {
    let damaged = |what: String| format!("is damaged ({what}); restore it");
    let entry = Seal::first(path).open(text).map_err(damaged)?;
    serde_json::from_str(entry).map_err(|error| damaged(error.to_string()))
}

/// The file of a process.
fn file(directory: &Path, process: usize) -> PathBuf {
    directory.join(format!("outputs-{process}.json"))
}

/// Where the outputs of an earlier run were, for one process of so many, and what had been acknowledged when this number began. If
/// there were another number of processes then, what all of them had acknowledged counts, and no file goes on.
///
/// # Errors
/// If what was written down cannot be read.
pub fn marks(
    disk: &Disk,
    directory: &Path,
    process: usize,
    processes: usize,
) -> Result<(OutputMarks, BTreeMap<String, Epoch>), String> {
    let read = |process: usize| -> Result<Option<Written>, String> {
        let path = file(directory, process);
        let failed = |error: &dyn std::fmt::Display| format!("{}: {error}; check --state", path.display());
        let text = disk.read_if_there(&path).map_err(|error| failed(&error))?;
        text.map(|text| unseal(&path, &text).map_err(|error| failed(&error))).transpose()
    };
    let Some(first) = read(0)? else { return Ok(Default::default()) };
    let (mut marks, bases) = if first.processes == processes {
        // One that was written by another number of processes is out of date.
        let own = read(process)?.filter(|own| own.processes == processes && own.bases == first.bases);
        (own.unwrap_or_default().outputs, first.bases)
    } else {
        let mut bases = BTreeMap::new();
        for (flag, mark) in &first.outputs {
            let mut reached = mark.acknowledged.epoch;
            for other in 1..first.processes {
                let other = read(other)?.filter(|other| other.processes == first.processes).unwrap_or_default();
                let of_other = other.outputs.get(flag).and_then(|other| other.acknowledged.epoch);
                reached = reached.min(of_other.max(first.bases.get(flag).copied()));
            }
            bases.extend(reached.map(|epoch| (flag.clone(), epoch)));
        }
        (OutputMarks::new(), bases)
    };
    for (flag, &base) in &bases {
        let none = || OutputMark { target: String::new(), acknowledged: Acknowledged { epoch: None, bytes: 0 } };
        let mark = marks.entry(flag.clone()).or_insert_with(none);
        mark.acknowledged.epoch = mark.acknowledged.epoch.max(Some(base));
    }
    Ok((marks, bases))
}

/// How far the outputs of a process have come; readable from all threads, and written down in the state directory.
#[derive(Debug)]
pub struct Acknowledgements {
    process: usize,
    disk: Disk,
    directory: Option<PathBuf>,
    state: Mutex<Noted>,
    /// The epoch after the last one that all outputs have acknowledged and a restart would know of: workers ask for it, and must not
    /// wait for the disk.
    reached: AtomicU64,
}

#[derive(Debug)]
struct Noted {
    /// What is known now.
    written: Written,
    /// The epochs that a restart would know of, by flag.
    lasting: BTreeMap<String, Option<Epoch>>,
    written_ns: u64,
}

impl Acknowledgements {
    /// Of a process of so many; written down if there is a directory.
    pub fn new(
        disk: Disk,
        directory: Option<PathBuf>,
        process: usize,
        processes: usize,
        bases: BTreeMap<String, Epoch>,
    ) -> Self {
        let written = Written { processes, outputs: BTreeMap::new(), bases };
        let noted = Noted { written, lasting: BTreeMap::new(), written_ns: disk.now_ns() };
        Acknowledgements { process, disk, directory, state: Mutex::new(noted), reached: AtomicU64::new(u64::MAX) }
    }

    /// An output begins here: it is waited for, and a restart will know that what follows is its own.
    pub fn begin(&self, flag: &str, target: &str, acknowledged: Acknowledged) {
        let mut noted = self.lock();
        noted.written.outputs.insert(flag.to_owned(), OutputMark { target: target.to_owned(), acknowledged });
        noted.lasting.insert(flag.to_owned(), None);
        self.reached.store(0, Ordering::Release);
    }

    /// An output has come so far.
    ///
    /// # Errors
    /// If that cannot be written down.
    pub fn note(&self, flag: &str, target: &str, acknowledged: Acknowledged) -> std::io::Result<()> {
        let mut noted = self.lock();
        noted.written.outputs.insert(flag.to_owned(), OutputMark { target: target.to_owned(), acknowledged });
        let fresh = self.disk.now_ns().saturating_sub(noted.written_ns) < WRITE_EVERY_NS;
        if fresh { Ok(()) } else { self.write(&mut noted) }
    }

    /// Writes down where all are.
    ///
    /// # Errors
    /// If that fails.
    pub fn settle(&self) -> std::io::Result<()> {
        self.write(&mut self.lock())
    }

    /// The last epoch that all outputs have acknowledged, as a restart would know it: `None` before the first.
    pub fn reached(&self) -> Option<Epoch> {
        self.reached.load(Ordering::Acquire).checked_sub(1)
    }

    fn write(&self, noted: &mut Noted) -> std::io::Result<()> {
        noted.written_ns = self.disk.now_ns();
        if let Some(directory) = &self.directory {
            let (path, beside) =
                (file(directory, self.process), directory.join(format!("outputs-{}.new", self.process)));
            let replaced = seal(&path, &noted.written).and_then(|sealed| self.disk.replace(&path, &beside, &sealed));
            replaced.map_err(|error| std::io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
        }
        for (flag, mark) in &noted.written.outputs {
            noted.lasting.insert(flag.clone(), mark.acknowledged.epoch);
        }
        let reached = noted.lasting.values().map(|epoch| epoch.map_or(0, |epoch| epoch.saturating_add(1))).min();
        self.reached.store(reached.unwrap_or(u64::MAX), Ordering::Release);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Noted> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
