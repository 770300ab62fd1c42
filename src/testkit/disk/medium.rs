//! The simulated disk as a disk.

use std::ffi::OsString;
use std::io::{self, Error, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rand::Rng;

use super::content::{Content, Entry, NameChange, Naming};
use super::{DiskArea, DiskDefect, DiskFault, DiskStep, Inner, SimulatedDisk, StepKind};
use crate::disk::{DiskFile, DiskLock, Medium, OnDisk, OpenFile, Opening};

/// How often a read or a write is a short one.
const SHORT: f64 = 0.1;

fn down() -> Error {
    Error::other("nothing works any more")
}

impl Inner {
    /// Takes a step, unless something goes wrong. `part` does some of it, where that is possible.
    fn step<T>(
        &mut self,
        kind: StepKind,
        path: &Path,
        size: usize,
        part: impl FnOnce(&mut Self),
        whole: impl FnOnce(&mut Self) -> io::Result<T>,
    ) -> io::Result<T> {
        if self.down.is_some() {
            return Err(down());
        }
        let step = DiskStep { kind, area: DiskArea::of(path) };
        self.note(step, path, size);
        let fault = match &mut self.planned {
            Some(planned) if planned.step == step && planned.nth == 0 => {
                let planned = *planned;
                self.fired.push(planned);
                self.planned = None;
                Some(planned.fault)
            }
            Some(planned) if planned.step == step => {
                planned.nth -= 1;
                None
            }
            _ => None,
        };
        match fault {
            None => whole(self),
            Some(DiskFault::Before(outage)) => {
                part(self);
                self.down = Some(outage);
                Err(down())
            }
            Some(DiskFault::After(outage)) => {
                whole(self)?;
                self.down = Some(outage);
                Err(down())
            }
            Some(DiskFault::Full) => {
                part(self);
                Err(ErrorKind::StorageFull.into())
            }
            Some(DiskFault::Fails) => Err(Error::other("the disk has failed")),
        }
    }

    /// Changes a name in the folder of a path.
    fn name(&mut self, what: Naming, path: &Path) {
        let folder = path.parent().unwrap_or(Path::new("/")).to_owned();
        let change = NameChange { folder, what };
        change.apply(&mut self.names);
        self.changes.push(change);
    }

    fn find(&self, path: &Path) -> io::Result<Entry> {
        self.names.get(path).copied().ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn look(&self, path: &Path) -> Option<OnDisk> {
        match self.names.get(path)? {
            Entry::Folder => Some(OnDisk::Folder),
            Entry::File(number) => Some(OnDisk::File(self.contents[number].len() as u64)),
        }
    }

    /// Creates a file in a folder that is there.
    fn create(&mut self, path: &Path) -> io::Result<u64> {
        self.find(path.parent().unwrap_or(Path::new("/")))?;
        let number = self.contents.len() as u64;
        self.contents.insert(number, Content::default());
        self.name(Naming::Put(path.to_owned(), Entry::File(number)), path);
        Ok(number)
    }
}

fn nothing(_: &mut Inner) {}

impl Medium for SimulatedDisk {
    fn open(&self, path: &Path, opening: Opening) -> io::Result<DiskFile> {
        let mut inner = self.lock();
        if inner.down.is_some() {
            return Err(down());
        }
        let there = match inner.find(path) {
            Ok(Entry::File(number)) => Some(number),
            Ok(Entry::Folder) => return Err(ErrorKind::IsADirectory.into()),
            Err(_) => None,
        };
        let number = match (opening, there) {
            (Opening::New, Some(_)) => return Err(ErrorKind::AlreadyExists.into()),
            (Opening::Read | Opening::Append, None) => return Err(ErrorKind::NotFound.into()),
            (Opening::Read | Opening::Append, Some(number)) => number,
            (Opening::New | Opening::Empty, None) => {
                inner.step(StepKind::Create, path, 0, nothing, |inner| inner.create(path))?
            }
            (Opening::Empty, Some(number)) => inner.step(StepKind::Create, path, 0, nothing, |inner| {
                inner.contents.entry(number).or_default().cut(0);
                Ok(number)
            })?,
        };
        let (run, append) = (inner.run, opening == Opening::Append);
        Ok(Box::new(SimulatedFile {
            disk: self.clone(),
            run,
            number,
            path: path.to_owned(),
            at: Arc::default(),
            append,
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.lock().step(StepKind::Rename, to, 0, nothing, |inner| {
            let entry = inner.find(from)?;
            inner.name(Naming::Move(from.to_owned(), to.to_owned(), entry), to);
            Ok(())
        })
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.lock().step(StepKind::Rename, to, 0, nothing, |inner| {
            if inner.names.contains_key(to) {
                return Err(ErrorKind::AlreadyExists.into());
            }
            let entry = inner.find(from)?;
            inner.name(Naming::Put(to.to_owned(), entry), to);
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.lock().step(StepKind::Remove, path, 0, nothing, |inner| {
            inner.find(path)?;
            inner.name(Naming::Drop(path.to_owned()), path);
            Ok(())
        })
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        let below = |inner: &Inner| -> Vec<PathBuf> {
            inner.names.keys().filter(|other| other.starts_with(path)).cloned().collect()
        };
        // One name after the other: it may end in the middle.
        let some = |inner: &mut Inner| {
            let mut names = below(inner);
            names.truncate(names.len() / 2);
            names.iter().rev().for_each(|name| inner.name(Naming::Drop(name.clone()), name));
        };
        self.lock().step(StepKind::Remove, path, 0, some, |inner| {
            inner.find(path)?;
            below(inner).iter().rev().for_each(|name| inner.name(Naming::Drop(name.clone()), name));
            Ok(())
        })
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.lock().step(StepKind::Create, path, 0, nothing, |inner| {
            if inner.names.contains_key(path) {
                return Err(ErrorKind::AlreadyExists.into());
            }
            inner.find(path.parent().unwrap_or(Path::new("/")))?;
            inner.name(Naming::Put(path.to_owned(), Entry::Folder), path);
            Ok(())
        })
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.lock().step(StepKind::SyncFolder, path, 0, nothing, |inner| {
            inner.find(path)?;
            inner.take_time();
            if inner.defect == Some(DiskDefect::NoFolderSync(DiskArea::of(path))) {
                return Ok(());
            }
            let (synced, rest) = inner.changes.drain(..).partition(|change| change.folder == path);
            inner.changes = rest;
            let synced: Vec<NameChange> = synced;
            synced.iter().for_each(|change| change.apply(&mut inner.lasting));
            Ok(())
        })
    }

    fn list(&self, path: &Path) -> io::Result<Vec<OsString>> {
        let inner = self.lock();
        if inner.down.is_some() {
            return Err(down());
        }
        inner.find(path)?;
        let here = inner.names.keys().filter(|other| other.parent() == Some(path));
        Ok(here.filter_map(|other| other.file_name().map(OsString::from)).collect())
    }

    fn look(&self, path: &Path) -> Option<OnDisk> {
        self.lock().look(path)
    }

    fn lock(&self, _path: &Path) -> io::Result<Option<DiskLock>> {
        // There is one process at a time.
        Ok(Some(Box::new(())))
    }

    fn now_ns(&self) -> u64 {
        SimulatedDisk::now_ns(self)
    }
}

impl Inner {
    /// A sync takes its time.
    fn take_time(&mut self) {
        if self.slow_ns > 0 {
            self.now_ns += self.random.random_range(0..self.slow_ns);
        }
    }

    /// So many of these bytes are read or written at once.
    fn share(&mut self, bytes: usize) -> usize {
        let short = bytes > 1 && self.random.random_bool(SHORT);
        if short { self.random.random_range(1..bytes) } else { bytes }
    }
}

/// A file that is open.
#[derive(Debug)]
struct SimulatedFile {
    disk: SimulatedDisk,
    run: u64,
    number: u64,
    path: PathBuf,
    /// Where it reads and writes; ways to one file that was opened once share it.
    at: Arc<AtomicUsize>,
    append: bool,
}

impl SimulatedFile {
    fn step<T>(
        &self,
        kind: StepKind,
        size: usize,
        part: impl FnOnce(&mut Inner),
        whole: impl FnOnce(&mut Inner) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut inner = self.disk.lock();
        // Whoever had it was killed.
        if inner.run != self.run {
            return Err(down());
        }
        inner.step(kind, &self.path, size, part, whole)
    }
}

impl Read for SimulatedFile {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut inner = self.disk.lock();
        if inner.run != self.run || inner.down.is_some() {
            return Err(down());
        }
        let at = self.at.load(Ordering::Relaxed);
        let wanted = into.len().min(inner.contents[&self.number].len().saturating_sub(at));
        let bytes = inner.share(wanted);
        into[..bytes].copy_from_slice(&inner.contents[&self.number].as_it_is()[at..at + bytes]);
        self.at.store(at + bytes, Ordering::Relaxed);
        Ok(bytes)
    }
}

impl Write for SimulatedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (number, place) = (self.number, (!self.append).then(|| self.at.load(Ordering::Relaxed)));
        let write = |inner: &mut Inner, bytes: &[u8]| {
            let content = inner.contents.entry(number).or_default();
            content.write(place.unwrap_or(content.len()), bytes);
        };
        let part = |inner: &mut Inner| {
            let some = inner.random.random_range(0..=bytes.len());
            if some > 0 {
                write(inner, &bytes[..some]);
                self.at.fetch_add(some, Ordering::Relaxed);
            }
        };
        let written = self.step(StepKind::Write, bytes.len(), part, |inner| {
            let share = inner.share(bytes.len());
            write(inner, &bytes[..share]);
            Ok(share)
        })?;
        self.at.fetch_add(written, Ordering::Relaxed);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for SimulatedFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let length = self.disk.lock().contents[&self.number].len() as i64;
        let place = match to {
            SeekFrom::Start(at) => at as i64,
            SeekFrom::End(by) => length + by,
            SeekFrom::Current(by) => self.at.load(Ordering::Relaxed) as i64 + by,
        };
        let at = usize::try_from(place).map_err(|_| Error::from(ErrorKind::InvalidInput))?;
        self.at.store(at, Ordering::Relaxed);
        Ok(place as u64)
    }
}

impl OpenFile for SimulatedFile {
    fn sync(&self) -> io::Result<()> {
        let (number, area) = (self.number, DiskArea::of(&self.path));
        self.step(StepKind::Sync, 0, nothing, |inner| {
            inner.take_time();
            if inner.defect != Some(DiskDefect::NoSync(area)) {
                inner.contents.entry(number).or_default().sync();
            }
            Ok(())
        })
    }

    fn cut(&self, bytes: u64) -> io::Result<()> {
        let (number, area) = (self.number, DiskArea::of(&self.path));
        self.step(StepKind::Cut, bytes as usize, nothing, |inner| {
            if inner.defect != Some(DiskDefect::NoCut(area)) {
                inner.contents.entry(number).or_default().cut(bytes as usize);
            }
            Ok(())
        })
    }

    fn look(&self) -> io::Result<OnDisk> {
        Ok(OnDisk::File(self.disk.lock().contents[&self.number].len() as u64))
    }

    fn again(&self) -> io::Result<DiskFile> {
        let SimulatedFile { disk, run, number, path, at, append } = self;
        let (disk, path, at) = (disk.clone(), path.clone(), at.clone());
        Ok(Box::new(SimulatedFile { disk, run: *run, number: *number, path, at, append: *append }))
    }
}
