//! The disk: everything that must survive is written through it.
//!
//! An ordinary run has the machine's own ([`Disk::real`]); a test may have one in memory that fails where it is told to and
//! forgets what was not synced (`testkit::disk`). What survives when, is the same for both:
//!
//! * The content of a file lasts once the file is synced ([`OpenFile::sync`]).
//! * Its name, a rename or a removal lasts once the folder is synced ([`Disk::sync_folder`]).
//! * What was not synced may be there after a failure of power, in part or not at all.

mod real;

use std::ffi::OsString;
use std::fmt::Debug;
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use std::sync::Arc;

/// What a disk does, one step at a time.
pub trait Medium: Debug + Send + Sync {
    /// Opens a file.
    fn open(&self, path: &Path, opening: Opening) -> io::Result<DiskFile>;
    /// Gives a file another name in its folder, and that name to no other.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives a file a second name, which must be free.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes a folder with all that is in it.
    fn remove_folder(&self, path: &Path) -> io::Result<()>;
    /// Creates one folder.
    fn create_folder(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a folder last.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
    /// The names in a folder, in any order.
    fn list(&self, path: &Path) -> io::Result<Vec<OsString>>;
    /// What a path leads to; `None` if to nothing.
    fn look(&self, path: &Path) -> Option<OnDisk>;
    /// Locks a file, which is created if it is missing; `None` if someone else has locked it. Free again when dropped.
    fn lock(&self, path: &Path) -> io::Result<Option<DiskLock>>;
    /// Nanoseconds on the clock that says when something is written that is written from time to time.
    fn now_ns(&self) -> u64;
    /// CPU time that this thread has used so far, nanoseconds; 0 where time is simulated.
    fn cpu_ns(&self) -> u64 {
        0
    }
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// To be read.
    Read,
    /// To be written; it must not be there.
    New,
    /// To be written from its beginning, whatever is there.
    Empty,
    /// To be written behind what is there; it must be there.
    Append,
}

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDisk {
    /// A file of so many bytes.
    File(u64),
    /// A folder.
    Folder,
    /// A device, a pipe.
    Other,
}

/// A file that is open.
pub trait OpenFile: Read + Write + Seek + Send + Sync {
    /// Makes its content last.
    fn sync(&self) -> io::Result<()>;
    /// Cuts it to so many bytes.
    fn cut(&self, bytes: u64) -> io::Result<()>;
    /// What it is now.
    fn look(&self) -> io::Result<OnDisk>;
    /// Another way to it.
    fn again(&self) -> io::Result<DiskFile>;
}

/// A file that is open.
pub type DiskFile = Box<dyn OpenFile>;

/// A lock that is held.
pub type DiskLock = Box<dyn Debug + Send + Sync>;

/// A disk; clones are the same one.
#[derive(Clone, Debug)]
pub struct Disk(Arc<dyn Medium>);

impl Default for Disk {
    fn default() -> Self {
        Disk::real()
    }
}

impl Disk {
    /// The machine's own.
    pub fn real() -> Self {
        Disk(Arc::new(real::Real))
    }

    /// Another one.
    pub fn of(medium: impl Medium + 'static) -> Self {
        Disk(Arc::new(medium))
    }

    /// Opens a file.
    pub fn open(&self, path: &Path, opening: Opening) -> io::Result<DiskFile> {
        self.0.open(path, opening)
    }

    /// The content of a file.
    pub fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut file = self.open(path, Opening::Read)?;
        // What the length promises is room for, no more: it may grow meanwhile.
        let mut content = match file.look()? {
            OnDisk::File(bytes) => Vec::with_capacity(bytes as usize),
            OnDisk::Folder | OnDisk::Other => Vec::new(),
        };
        file.read_to_end(&mut content)?;
        Ok(content)
    }

    /// The content of a file, if there is one.
    pub fn read_if_there(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        match self.read(path) {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Puts a file in the place of another one: whatever happens, the one or the other is there, whole. It is written `beside`
    /// first, in the same folder.
    pub fn replace(&self, path: &Path, beside: &Path, content: &[u8]) -> io::Result<()> {
        let mut file = self.open(beside, Opening::Empty)?;
        file.write_all(content)?;
        file.sync()?;
        self.rename(beside, path)?;
        self.sync_folder_of(path)
    }

    /// Gives a file another name in its folder, and that name to no other.
    pub fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }

    /// Gives a file a second name, which must be free.
    pub fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.link(from, to)
    }

    /// Removes a file.
    pub fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.remove(path)
    }

    /// Removes a folder with all that is in it.
    pub fn remove_folder(&self, path: &Path) -> io::Result<()> {
        self.0.remove_folder(path)
    }

    /// Creates a folder, and those that lead to it, as far as they are missing. Its name lasts, also if a run that was killed
    /// had created it.
    pub fn create_folder(&self, path: &Path) -> io::Result<()> {
        let missing = |folder: &&Path| !folder.as_os_str().is_empty() && self.look(folder) != Some(OnDisk::Folder);
        let missing: Vec<&Path> = path.ancestors().take_while(missing).collect();
        for folder in missing.iter().rev() {
            match self.0.create_folder(folder) {
                // Another process was faster.
                Err(error)
                    if error.kind() == io::ErrorKind::AlreadyExists && self.look(folder) == Some(OnDisk::Folder) => {}
                created => created?,
            }
            self.sync_folder_of(folder)?;
        }
        if missing.is_empty() { self.sync_folder_of(path) } else { Ok(()) }
    }

    /// Makes the names in a folder last.
    pub fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.0.sync_folder(path)
    }

    /// Makes the name of a file or folder last.
    pub fn sync_folder_of(&self, path: &Path) -> io::Result<()> {
        match path.parent() {
            Some(folder) if folder.as_os_str().is_empty() => self.sync_folder(Path::new(".")),
            Some(folder) => self.sync_folder(folder),
            None => Ok(()),
        }
    }

    /// The names in a folder, in order; none if there is no folder.
    pub fn list(&self, path: &Path) -> io::Result<Vec<OsString>> {
        let mut names = match self.0.list(path) {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        names.sort_unstable();
        Ok(names)
    }

    /// What a path leads to; `None` if to nothing.
    pub fn look(&self, path: &Path) -> Option<OnDisk> {
        self.0.look(path)
    }

    /// Locks a file, which is created if it is missing; `None` if someone else has locked it. Free again when dropped.
    pub fn lock(&self, path: &Path) -> io::Result<Option<DiskLock>> {
        self.0.lock(path)
    }

    /// Nanoseconds on the clock that says when something is written that is written from time to time.
    pub fn now_ns(&self) -> u64 {
        self.0.now_ns()
    }

    /// CPU time that this thread has used so far, nanoseconds; 0 where time is simulated.
    pub fn cpu_ns(&self) -> u64 {
        self.0.cpu_ns()
    }
}
