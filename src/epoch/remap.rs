//! The remap log: every binding, on disk before its epoch's output leaves.
//!
//! Sealed lines (see [`crate::source::sealed`]), appended by a thread that writes what has gathered and syncs once (group
//! commit). The first line is a header: the format and the [`Terms`] of the run that wrote it. Then come bindings, and
//! between them, once per lane, a hash of the lane's first record. A log replayed from its beginning gives the same
//! epochs, hence the same output; so what does not begin with the same terms and the same records is refused.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};
use serde::{Deserialize, Serialize};

use crate::event::Lane;
use crate::flow::Binding;
use crate::source::sealed::{Seal, Terms, read_lines};

/// Entries on their way to the disk.
const QUEUE_MAX: usize = 64;

/// The file's name in the state directory.
const FILE: &str = "remap.jsonl";

/// The format of the log.
const FORMAT: u32 = 3;

/// Hashes of first records, by lane.
pub type Firsts = BTreeMap<Lane, u64>;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum LogEntry {
    Header { format: u32, terms: Terms },
    Firsts(Firsts),
    Binding(Binding),
}

/// Appends bindings and returns them once they are durable.
#[derive(Debug)]
pub struct RemapLog {
    to_disk: Sender<Queued>,
    durable: Receiver<Result<Binding, String>>,
}

#[derive(Debug)]
enum Queued {
    Firsts(Firsts),
    Binding(Binding),
}

/// What a log held when it was opened.
#[derive(Debug, Default)]
pub struct Recorded {
    /// Its bindings, in order.
    pub bindings: Vec<Binding>,
    /// The first record of each lane that was read.
    pub firsts: Firsts,
}

/// Why the log cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("remap log {path}: {reason}; check --state")]
pub struct RemapError {
    path: String,
    reason: String,
}

impl RemapLog {
    /// What the log in a directory holds, if there is one; it is left as it is. `terms` are those of this run: a log that was
    /// written under others is an error that names what differs.
    pub fn read(directory: &Path, terms: &Terms) -> Result<Recorded, RemapError> {
        read(&directory.join(FILE), terms).map(|(recorded, ..)| recorded)
    }

    /// Opens the log in a directory, creating both if they are missing, and returns what it holds, as [`RemapLog::read`] does.
    pub fn open(directory: &Path, terms: &Terms) -> Result<(Self, Recorded), RemapError> {
        let path = directory.join(FILE);
        let io = |error: std::io::Error| RemapError::of(&path, error.to_string());
        std::fs::create_dir_all(directory).map_err(io)?;
        let (recorded, mut seal, valid_bytes) = read(&path, terms)?;
        let mut file = OpenOptions::new().create(true).append(true).open(&path).map_err(io)?;
        file.set_len(valid_bytes).map_err(io)?;
        if valid_bytes == 0 {
            let mut header = Vec::new();
            let written = seal.line(&LogEntry::Header { format: FORMAT, terms: terms.clone() }, &mut header);
            written.and_then(|()| file.write_all(&header)).and_then(|()| file.sync_data()).map_err(io)?;
        }
        let (to_disk, queue) = bounded(QUEUE_MAX);
        let (done, durable) = bounded(QUEUE_MAX);
        let spawned = thread::Builder::new().name("remap".into()).spawn(move || append(file, seal, &queue, &done));
        spawned.map_err(io)?;
        Ok((RemapLog { to_disk, durable }, recorded))
    }

    /// Hands a binding over; gives it back if the queue is full.
    pub fn append(&mut self, binding: Binding) -> Result<(), Binding> {
        self.to_disk.try_send(Queued::Binding(binding.clone())).map_err(|_| binding)
    }

    /// Hands over the first records of lanes; false if the queue is full. They are durable before any binding that is
    /// appended later.
    pub fn note(&mut self, firsts: &Firsts) -> bool {
        self.to_disk.try_send(Queued::Firsts(firsts.clone())).is_ok()
    }

    /// The next binding that is on disk.
    pub fn durable(&mut self) -> Option<Result<Binding, String>> {
        self.durable.try_recv().ok()
    }
}

impl RemapError {
    fn of(path: &Path, reason: String) -> Self {
        RemapError { path: path.display().to_string(), reason }
    }
}

/// What a log holds, the seal to go on from, and the length of its whole lines, bytes.
fn read(path: &Path, terms: &Terms) -> Result<(Recorded, Seal, u64), RemapError> {
    let mut recorded = Recorded::default();
    let each = |number, entry: &str| take(number, entry, terms, &mut recorded);
    let (seal, bytes) = read_lines(path, each).map_err(|reason| RemapError::of(path, reason))?;
    Ok((recorded, seal, bytes))
}

fn append(mut file: File, mut seal: Seal, queue: &Receiver<Queued>, done: &Sender<Result<Binding, String>>) {
    while let Ok(first) = queue.recv() {
        let entry = |queued| match queued {
            Queued::Firsts(firsts) => LogEntry::Firsts(firsts),
            Queued::Binding(binding) => LogEntry::Binding(binding),
        };
        let group: Vec<LogEntry> = std::iter::once(first).chain(queue.try_iter()).map(entry).collect();
        let mut lines = Vec::new();
        let written = group.iter().try_for_each(|entry| seal.line(entry, &mut lines));
        let synced = written.and_then(|()| file.write_all(&lines)).and_then(|()| file.sync_data());
        for entry in group {
            let LogEntry::Binding(binding) = entry else { continue };
            let result =
                synced.as_ref().map(|()| binding).map_err(|error| format!("cannot write the remap log: {error}"));
            if done.send(result).is_err() {
                return;
            }
        }
    }
}

/// Takes a line of a log.
fn take(number: u64, entry: &str, terms: &Terms, recorded: &mut Recorded) -> Result<(), String> {
    let entry: LogEntry =
        serde_json::from_str(entry).map_err(|error| format!("line {number} is of another format: {error}"))?;
    match entry {
        LogEntry::Header { format, .. } if format != FORMAT => {
            return Err(format!("its format is {format}, this binary's is {FORMAT}; name another directory"));
        }
        LogEntry::Header { terms: written, .. } => {
            if let Some((name, here, there)) = terms.difference(&written) {
                return Err(format!(
                    "{name} is `{here}`, but the log was written with `{there}`; run it as it was, or name another directory"
                ));
            }
        }
        _ if number == 1 => return Err("it does not begin with a header; name another directory".to_owned()),
        LogEntry::Firsts(firsts) => recorded.firsts.extend(firsts),
        LogEntry::Binding(binding) => recorded.bindings.push(binding),
    }
    Ok(())
}
