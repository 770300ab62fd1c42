//! The state directory: who may use it, and lines in it that cannot change unseen.
//!
//! * **One run at a time.** A process locks `lock-N`, N being its number in the cluster; a second run is refused.
//! * **Sealed lines.** Every log is one JSON object per line, `{"seal":SEAL,"entry":ENTRY}`. The seal is a hash of the entry
//!   and of the seal before it, the first one of the file's name: a line that was changed, lost, added, or moved, also from
//!   another file, breaks the chain there, and the log is refused. A last line without its end was cut off by a crash and
//!   is dropped: nothing can have come of it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;

/// A locked directory; free again when this is dropped, or the process ends however it does.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Creates the directory if it is missing, and locks it for a process of a cluster. The error says why not.
    pub fn take(directory: &Path, process: usize) -> Result<Self, String> {
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
