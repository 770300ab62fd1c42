//! Contents of files and names, as they are and as they last.

use std::collections::BTreeMap;
use std::path::PathBuf;

use rand::Rng;
use rand::rngs::StdRng;

/// What a name leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Folder,
    /// A file, by its number.
    File(u64),
}

pub(super) type Names = BTreeMap<PathBuf, Entry>;

/// A change of names in a folder.
#[derive(Clone, Debug)]
pub(super) struct NameChange {
    pub folder: PathBuf,
    pub what: Naming,
}

#[derive(Clone, Debug)]
pub(super) enum Naming {
    Put(PathBuf, Entry),
    /// With all that is below it.
    Drop(PathBuf),
    Move(PathBuf, PathBuf, Entry),
}

impl NameChange {
    pub fn apply(&self, names: &mut Names) {
        match &self.what {
            Naming::Put(path, entry) => drop(names.insert(path.clone(), *entry)),
            Naming::Drop(path) => names.retain(|other, _| !other.starts_with(path)),
            Naming::Move(from, to, entry) => {
                if names.get(from) == Some(entry) {
                    names.remove(from);
                }
                names.insert(to.clone(), *entry);
            }
        }
    }
}

/// One file.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    is: Vec<u8>,
    lasts: Vec<u8>,
    /// What was done since it was synced.
    changes: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Write(usize, Vec<u8>),
    Cut(usize),
}

impl Change {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Change::Write(at, bytes) => {
                to.resize(to.len().max(at + bytes.len()), 0);
                to[*at..at + bytes.len()].copy_from_slice(bytes);
            }
            Change::Cut(bytes) => to.resize(*bytes, 0),
        }
    }
}

impl Content {
    pub fn len(&self) -> usize {
        self.is.len()
    }

    pub fn as_it_is(&self) -> &[u8] {
        &self.is
    }

    pub fn write(&mut self, at: usize, bytes: &[u8]) {
        self.change(Change::Write(at, bytes.to_vec()));
    }

    pub fn cut(&mut self, bytes: usize) {
        self.change(Change::Cut(bytes));
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.is);
        self.changes.push(change);
    }

    pub fn sync(&mut self) {
        for change in self.changes.drain(..) {
            change.apply(&mut self.lasts);
        }
    }

    pub fn flip(&mut self, at: usize, mask: u8) {
        for bytes in [&mut self.is, &mut self.lasts] {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= mask;
            }
        }
    }

    /// Some of the changes have come as far as the disk, in their order; of the one behind them a part, or its length alone.
    pub fn lose_power(&mut self, random: &mut StdRng) {
        let changes = std::mem::take(&mut self.changes);
        let whole = random.random_range(0..=changes.len());
        changes[..whole].iter().for_each(|change| change.apply(&mut self.lasts));
        if let Some(Change::Write(at, bytes)) = changes.get(whole) {
            let mut part = bytes[..random.random_range(0..=bytes.len())].to_vec();
            if random.random_bool(0.25) {
                part.resize(bytes.len(), 0);
            }
            if !part.is_empty() {
                Change::Write(*at, part).apply(&mut self.lasts);
            }
        }
        self.is.clone_from(&self.lasts);
    }
}
