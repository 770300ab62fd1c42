//! The state directory: who may use it, what an earlier run has left in it, and how this one goes on.
//!
//! ```text
//!  DIR/lock-P        held by process P of the cluster that uses it
//!  DIR/journal/      bindings and records ([`crate::epoch::journal`])
//! ```
//!
//! A process locks `lock-P`, P being its number in the cluster; a second run is refused.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::epoch::journal::{BindingLog, Inputs, Journal, JournalError, Past};
use crate::epoch::{LaneEnd, Pace, Recorded};
use crate::event::Lane;
use crate::flow::Epoch;
use crate::source::sealed::Terms;
use crate::source::{Reader, Source, SourceError};

/// How a state directory is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateSettings {
    /// The process's number in its cluster.
    pub process: usize,
    /// A replay repeats what a run has written, and adds nothing to it.
    pub pace: Pace,
    /// Whether the journal keeps the records, or offsets alone.
    pub keeps_records: bool,
}

impl StateSettings {
    /// Of a single process, with records kept.
    pub fn of(pace: Pace) -> Self {
        StateSettings { process: 0, pace, keeps_records: true }
    }
}

/// A state directory, locked.
#[derive(Debug)]
pub struct State {
    directory: PathBuf,
    _lock: Lock,
    process: usize,
    past: Past,
    /// Where a run writes on.
    journal: Option<Journal>,
    ends: Arc<BTreeMap<Lane, LaneEnd>>,
}

/// Why a state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another run has it, or it cannot be written.
    #[error("{0}")]
    Lock(String),
    /// Its journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl State {
    /// Locks a directory and reads what is in it, which must have been written under the same terms.
    ///
    /// # Errors
    /// If it is in use, damaged, or was written under other terms.
    pub fn open(directory: &Path, settings: StateSettings, terms: &Terms) -> Result<Self, StateError> {
        let StateSettings { process, pace, keeps_records } = settings;
        let lock = Lock::take(directory, process).map_err(StateError::Lock)?;
        if let Some(old) = ["remap.jsonl"].into_iter().find(|name| directory.join(name).exists()) {
            let shown = directory.display();
            return Err(StateError::Lock(format!(
                "--state {shown}: {old} was written by a version before journals; name another directory"
            )));
        }
        let past = Past::open(directory, terms, 0, BTreeMap::new())?;
        let journal = match pace {
            Pace::Live => Some(past.begin(process, terms.clone(), keeps_records)?),
            Pace::Bounded => None,
        };
        let ends = Arc::default();
        Ok(State { directory: directory.to_owned(), _lock: lock, process, past, journal, ends })
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// What is bound already; process 0 repeats it.
    pub fn recorded(&self) -> Recorded {
        Recorded::in_journal(self.past.bindings(), None, self.past.next())
    }

    /// Where a cut has left the lanes.
    pub fn ends(&self) -> Arc<BTreeMap<Lane, LaneEnd>> {
        self.ends.clone()
    }

    /// The reader of one worker: what the journal keeps, then the source from there on.
    ///
    /// # Errors
    /// If the source cannot be read, or lacks what is needed.
    pub fn reader(&self, source: &dyn Source, worker: usize, workers: usize) -> Result<Box<dyn Reader>, SourceError> {
        let live = source.open(worker, workers, &self.past.starts().live)?;
        Ok(Box::new(self.past.resume(worker, workers, live)))
    }

    /// Where a worker's records are written down.
    pub fn inputs(&self) -> Option<Inputs> {
        self.journal.as_ref().map(Journal::inputs)
    }

    /// Where bindings are written down.
    pub fn bindings(&self) -> Option<BindingLog> {
        self.journal.as_ref().map(Journal::bindings)
    }

    /// Where the first worker of a process without the authority writes down what it hears, from which epoch on.
    pub fn heard(&self) -> Option<(BindingLog, Epoch)> {
        self.bindings().filter(|_| self.process > 0).map(|log| (log, self.past.next()))
    }

    /// Waits until everything is written.
    pub fn finish(self) {
        if let Some(journal) = self.journal {
            journal.finish();
        }
    }
}

/// A locked directory; free again when this is dropped, or the process ends however it does.
#[derive(Debug)]
struct Lock {
    _file: File,
}

impl Lock {
    /// Creates the directory if it is missing, and locks it for a process of a cluster. The error says why not.
    fn take(directory: &Path, process: usize) -> Result<Self, String> {
        let shown = directory.display();
        let failed = |error: io::Error| format!("--state {shown}: {error}");
        std::fs::create_dir_all(directory).map_err(failed)?;
        let path = directory.join(format!("lock-{process}"));
        let file = OpenOptions::new().create(true).write(true).truncate(false).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Lock { _file: file }),
            Err(TryLockError::WouldBlock) => {
                Err(format!("--state {shown}: another run uses it; stop that one, or name another directory"))
            }
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }
}
