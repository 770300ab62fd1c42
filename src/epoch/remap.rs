//! The remap log: every binding, on disk before its epoch's output leaves.
//!
//! One JSON object per line, appended by a thread that writes what has gathered and syncs once (group commit). A last
//! line that was cut off by a crash is ignored: its epoch cannot have produced output. A log replayed from its beginning
//! gives the same epochs, hence the same output.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::Binding;

/// Bindings on their way to the disk.
const QUEUE_MAX: usize = 64;

/// Appends bindings and returns them once they are durable.
#[derive(Debug)]
pub struct RemapLog {
    to_disk: Sender<Binding>,
    durable: Receiver<Result<Binding, String>>,
    waiting: usize,
}

/// Why the log cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("remap log {path}: {reason}; check --state")]
pub struct RemapError {
    path: String,
    reason: String,
}

impl RemapLog {
    /// Opens the log in a directory, creating both if they are missing, and returns the bindings it holds.
    pub fn open(directory: &Path) -> Result<(Self, Vec<Binding>), RemapError> {
        let path = directory.join("remap.jsonl");
        let failed = |path: &PathBuf, reason: String| RemapError { path: path.display().to_string(), reason };
        std::fs::create_dir_all(directory).map_err(|error| failed(&path, error.to_string()))?;
        let (recorded, valid_bytes) = read(&path).map_err(|reason| failed(&path, reason))?;
        let options = OpenOptions::new().create(true).append(true).open(&path);
        let file = options.map_err(|error| failed(&path, error.to_string()))?;
        file.set_len(valid_bytes).map_err(|error| failed(&path, error.to_string()))?;
        let (to_disk, queue) = bounded(QUEUE_MAX);
        let (done, durable) = bounded(QUEUE_MAX);
        let spawned = thread::Builder::new().name("remap".into()).spawn(move || append(file, &queue, &done));
        spawned.map_err(|error| failed(&path, error.to_string()))?;
        Ok((RemapLog { to_disk, durable, waiting: 0 }, recorded))
    }

    /// Hands a binding over; gives it back if the queue is full.
    pub fn append(&mut self, binding: Binding) -> Result<(), Binding> {
        match self.to_disk.try_send(binding) {
            Ok(()) => {
                self.waiting += 1;
                Ok(())
            }
            Err(error) => Err(error.into_inner()),
        }
    }

    /// The next binding that is on disk.
    pub fn durable(&mut self) -> Option<Result<Binding, String>> {
        let binding = self.durable.try_recv().ok()?;
        self.waiting -= 1;
        Some(binding)
    }
}

fn append(mut file: File, queue: &Receiver<Binding>, done: &Sender<Result<Binding, String>>) {
    while let Ok(first) = queue.recv() {
        let group: Vec<Binding> = std::iter::once(first).chain(queue.try_iter()).collect();
        let mut lines = Vec::new();
        let written = group.iter().try_for_each(|binding| {
            serde_json::to_writer(&mut lines, binding)?;
            lines.push(b'\n');
            Ok::<_, std::io::Error>(())
        });
        let synced = written.and_then(|()| file.write_all(&lines)).and_then(|()| file.sync_data());
        for binding in group {
            let result =
                synced.as_ref().map(|()| binding).map_err(|error| format!("cannot write the remap log: {error}"));
            if done.send(result).is_err() {
                return;
            }
        }
    }
}

/// The bindings of a log and the length of its whole lines, bytes.
fn read(path: &Path) -> Result<(Vec<Binding>, u64), String> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok((Vec::new(), 0)),
        Err(error) => return Err(error.to_string()),
    };
    let (mut reader, mut line, mut bytes, mut bindings) = (BufReader::new(file), String::new(), 0, Vec::new());
    loop {
        line.clear();
        let read = reader.read_line(&mut line).map_err(|error| error.to_string())?;
        if read == 0 || !line.ends_with('\n') {
            return Ok((bindings, bytes));
        }
        let binding: Binding =
            serde_json::from_str(&line).map_err(|error| format!("line {} is damaged: {error}", bindings.len() + 1))?;
        bytes += read as u64;
        bindings.push(binding);
    }
}
