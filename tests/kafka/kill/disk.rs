//! A small disk that can be full, and a journal that ends within a block.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use deltawatch::epoch::journal::JournalPast;
use deltawatch::flow::Epoch;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::engine::Engine;

/// What the disk takes: enough for a journal and some cuts.
const BYTES: usize = 160 << 20;

/// Bytes of a block before its content: its length, and its seal.
const HEAD_BYTES: usize = 12;

/// A folder in memory with a limit, where that is allowed; else one in which the engine's files cannot grow any more once it is full.
pub struct SmallDisk {
    path: PathBuf,
    mounted: bool,
}

impl SmallDisk {
    pub fn new(path: &Path) -> Self {
        fs::create_dir(path).unwrap();
        let size = format!("size={BYTES}");
        let mut mount = Command::new("mount");
        let mount = mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(path).stderr(Stdio::null());
        SmallDisk { path: path.to_owned(), mounted: mount.status().is_ok_and(|status| status.success()) }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes all that is left.
    pub fn fill(&self, engine: &Engine) {
        if !self.mounted {
            let limit = ["--fsize=1", "--pid", &engine.id().to_string()];
            let status = Command::new("prlimit").args(limit).status().expect("prlimit, of util-linux");
            assert!(status.success(), "its files are not limited");
            return;
        }
        let (mut file, piece) = (File::create(self.ballast()).unwrap(), vec![1; 64 << 10]);
        while file.write_all(&piece).is_ok() {}
        // What is left of a page.
        while file.write_all(&[1]).is_ok() {}
    }

    /// Gives it back.
    pub fn free(&self) {
        if self.mounted {
            fs::remove_file(self.ballast()).unwrap();
        }
    }

    fn ballast(&self) -> PathBuf {
        self.path.join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if self.mounted {
            // A test that has failed may still have files open.
            let _ = Command::new("umount").arg("--lazy").arg(&self.path).status();
        }
    }
}

/// Leaves the journal as a machine does that dies while its last block is being written. If something has come of that block already it
/// was whole, so a further one is begun behind it. Says whether the last one itself was cut off.
pub fn tear(state: &Path, reached: Option<Epoch>, random: &mut ChaCha8Rng) -> bool {
    // It may have been killed before it had begun to write.
    let Ok(folder) = fs::read_dir(state.join("journal")) else { return false };
    let Some(last) = folder.map(|entry| entry.unwrap().path()).max() else { return false };
    let content = fs::read(&last).unwrap();
    let (mut begin, mut end) = (0, 0);
    while let Some(head) = content.get(end..end + HEAD_BYTES) {
        let length = u32::from_le_bytes(head[..4].try_into().unwrap()) as usize;
        if content.len() < end + HEAD_BYTES + length {
            break;
        }
        (begin, end) = (end, end + HEAD_BYTES + length);
    }
    if end < content.len() || end == 0 {
        // The kill itself has done it.
        return true;
    }
    let file = OpenOptions::new().append(true).open(&last).unwrap();
    file.set_len(random.random_range(begin + 1..end) as u64).unwrap();
    let next = JournalPast::open(&deltawatch::disk::Disk::real(), state, None, 0, BTreeMap::new()).unwrap().next();
    if reached.is_none_or(|reached| reached < next) {
        return true;
    }
    fs::write(&last, &content).unwrap();
    let more = random.random_range(1..end - begin);
    OpenOptions::new().append(true).open(&last).unwrap().write_all(&content[begin..begin + more]).unwrap();
    false
}
