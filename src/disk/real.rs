//! The machine's own disk.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::LazyLock;
use std::time::Instant;

use cpu_time::ThreadTime;

use super::{DiskFile, DiskLock, Medium, OnDisk, OpenFile, Opening};

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The machine's own disk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Real;

impl Medium for Real {
    fn open(&self, path: &Path, opening: Opening) -> io::Result<DiskFile> {
        let mut options = OpenOptions::new();
        match opening {
            Opening::Read => options.read(true),
            Opening::New => options.write(true).create_new(true),
            Opening::Empty => options.write(true).create(true).truncate(true),
            Opening::Append => options.append(true),
        };
        Ok(Box::new(options.open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::hard_link(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_dir_all(path)
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        std::fs::create_dir(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        let folder = match File::open(path) {
            // A folder that may be written in and not listed cannot be synced by this user.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => return Ok(()),
            opened => opened?,
        };
        match folder.sync_all() {
            // Some file systems have no such thing.
            Err(error) if error.kind() == ErrorKind::InvalidInput => Ok(()),
            synced => synced,
        }
    }

    fn list(&self, path: &Path) -> io::Result<Vec<OsString>> {
        std::fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.file_name())).collect()
    }

    fn look(&self, path: &Path) -> Option<OnDisk> {
        path.metadata().ok().map(|metadata| found(&metadata))
    }

    fn lock(&self, path: &Path) -> io::Result<Option<DiskLock>> {
        let file = OpenOptions::new().create(true).write(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn now_ns(&self) -> u64 {
        START.elapsed().as_nanos() as u64
    }

    fn cpu_ns(&self) -> u64 {
        ThreadTime::now().as_duration().as_nanos() as u64
    }
}

fn found(metadata: &std::fs::Metadata) -> OnDisk {
    match (metadata.is_file(), metadata.is_dir()) {
        (true, _) => OnDisk::File(metadata.len()),
        (_, true) => OnDisk::Folder,
        _ => OnDisk::Other,
    }
}

impl OpenFile for File {
    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn cut(&self, bytes: u64) -> io::Result<()> {
        self.set_len(bytes)
    }

    fn look(&self) -> io::Result<OnDisk> {
        Ok(found(&self.metadata()?))
    }

    fn again(&self) -> io::Result<DiskFile> {
        Ok(Box::new(self.try_clone()?))
    }
}
