//! A disk in memory that fails where it is told to, and forgets what was not synced.
//!
//! ```text
//!  write ─► in the file as all see it, and among what is not synced ─ sync ─► lasts
//!  create, rename, remove ─► a name as all see it, and among what is not synced ─ sync of the folder ─► lasts
//! ```
//!
//! A process that is killed loses nothing; a failure of power keeps of every file what was synced and, by chance, some of what
//! was written since, in its order; and of the names that were changed since their folder was synced, by chance, any. Reads and
//! writes give and take fewer bytes than they could, by chance. Everything by chance comes from one seed.

mod content;
mod faults;
mod medium;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::disk::Disk;
use content::{Content, Entry, NameChange, Names};
pub use faults::{DiskArea, DiskDefect, DiskFault, DiskStep, Outage, PlannedFault, StepKind};

/// A disk in memory; clones are the same one.
#[derive(Clone, Debug)]
pub struct SimulatedDisk(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    random: StdRng,
    now_ns: u64,
    /// Handles of a run before this one are dead.
    run: u64,
    down: Option<Outage>,
    contents: BTreeMap<u64, Content>,
    /// As all see them, and as they last.
    names: Names,
    lasting: Names,
    /// What was changed since the folder was synced.
    changes: Vec<NameChange>,
    planned: Option<PlannedFault>,
    /// What was planned and has come about.
    fired: Vec<PlannedFault>,
    defect: Option<DiskDefect>,
    /// The longest that a sync takes, nanoseconds.
    slow_ns: u64,
    steps: BTreeMap<DiskStep, u64>,
    digest: u64,
}

impl SimulatedDisk {
    /// An empty one.
    pub fn new(seed: u64) -> Self {
        SimulatedDisk(Arc::new(Mutex::new(Inner {
            random: StdRng::seed_from_u64(seed),
            now_ns: 1_000_000_000,
            run: 0,
            down: None,
            contents: BTreeMap::new(),
            names: BTreeMap::from([(PathBuf::from("/"), Entry::Folder)]),
            lasting: BTreeMap::from([(PathBuf::from("/"), Entry::Folder)]),
            changes: Vec::new(),
            planned: None,
            fired: Vec::new(),
            defect: None,
            slow_ns: 0,
            steps: BTreeMap::new(),
            digest: 0,
        })))
    }

    /// As what everything is written through.
    pub fn disk(&self) -> Disk {
        Disk::of(self.clone())
    }

    /// Has a fault come about; it takes the place of one that has not.
    pub fn plan(&self, fault: Option<PlannedFault>) {
        self.lock().planned = fault;
    }

    /// Makes it a worse disk than it promises to be.
    pub fn spoil(&self, defect: DiskDefect) {
        self.lock().defect = Some(defect);
    }

    /// Has syncs take up to so long, nanoseconds.
    pub fn slow(&self, slow_ns: u64) {
        self.lock().slow_ns = slow_ns;
    }

    /// Lets time pass.
    pub fn pass(&self, ns: u64) {
        self.lock().now_ns += ns;
    }

    /// What time it is, nanoseconds.
    pub fn now_ns(&self) -> u64 {
        self.lock().now_ns
    }

    /// Nothing works any more: the process was killed, or there is no power.
    pub fn go_down(&self, outage: Outage) {
        self.lock().down = Some(outage);
    }

    /// Whether nothing works.
    pub fn is_down(&self) -> bool {
        self.lock().down.is_some()
    }

    /// Everything works again, for a new process: what survived is there.
    pub fn come_up(&self) {
        let mut inner = self.lock();
        inner.run += 1;
        inner.planned = None;
        if inner.down.take() == Some(Outage::Power) {
            inner.lose_power();
        }
    }

    /// Flips one bit of a file that `may` be damaged, as it is and as it lasts. Says of which, and where.
    pub fn flip(&self, may: impl Fn(&Path) -> bool) -> Option<(PathBuf, usize, u8)> {
        let mut inner = self.lock();
        let file = |(path, entry): (&PathBuf, &Entry)| match entry {
            Entry::File(number) if may(path) => Some((path.clone(), *number)),
            Entry::File(_) | Entry::Folder => None,
        };
        let files: Vec<_> = inner.names.iter().filter_map(file).collect();
        let files: Vec<_> = files.into_iter().filter(|(_, number)| inner.contents[number].len() > 0).collect();
        if files.is_empty() {
            return None;
        }
        let (path, number) = files[inner.random.random_range(0..files.len())].clone();
        let bytes = inner.contents[&number].len();
        let at = inner.random.random_range(0..bytes);
        let mask = 1 << inner.random.random_range(0..8);
        inner.contents.get_mut(&number)?.flip(at, mask);
        Some((path, at, mask))
    }

    /// Flips it back, if the file is still there.
    pub fn mend(&self, (path, at, mask): &(PathBuf, usize, u8)) {
        let mut inner = self.lock();
        if let Some(&Entry::File(number)) = inner.names.get(path)
            && let Some(content) = inner.contents.get_mut(&number)
        {
            content.flip(*at, *mask);
        }
    }

    /// A file, as it is.
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let inner = self.lock();
        match inner.names.get(path)? {
            Entry::File(number) => Some(inner.contents[number].as_it_is().to_vec()),
            Entry::Folder => None,
        }
    }

    /// Planned faults that have come about.
    pub fn fired(&self) -> Vec<PlannedFault> {
        self.lock().fired.clone()
    }

    /// How often each step was taken.
    pub fn steps(&self) -> BTreeMap<DiskStep, u64> {
        self.lock().steps.clone()
    }

    /// A hash of all that was ever done.
    pub fn digest(&self) -> u64 {
        self.lock().digest
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn lose_power(&mut self) {
        let Inner { random, contents, names, lasting, changes, .. } = self;
        // Any of the changes may have come as far as the disk.
        for change in changes.drain(..) {
            if random.random_bool(0.5) {
                change.apply(lasting);
            }
        }
        // What has no folder any more cannot be found.
        let found: Vec<PathBuf> = lasting.keys().cloned().collect();
        for path in found {
            if path.parent().is_some_and(|folder| !lasting.contains_key(folder)) {
                lasting.remove(&path);
            }
        }
        names.clone_from(lasting);
        for content in contents.values_mut() {
            content.lose_power(random);
        }
    }

    /// Takes note of a step that is about to be taken.
    fn note(&mut self, step: DiskStep, path: &Path, size: usize) {
        *self.steps.entry(step).or_default() += 1;
        self.digest = xxh3_64_with_seed(path.as_os_str().as_encoded_bytes(), self.digest ^ step.kind as u64);
        self.digest = xxh3_64_with_seed(&(size as u64 ^ self.now_ns).to_le_bytes(), self.digest);
    }
}
