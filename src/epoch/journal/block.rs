//! Blocks: the pieces that journals and cuts are written in.
//!
//! ```text
//!  [length u32][seal u64][content, bincode]   [length][seal][content]   ...
//! ```
//!
//! The seal is a hash of the content and of the seal before it, the first one of the file's name: a block that was changed,
//! lost, added or moved, also from another file, breaks the chain there.

use std::path::Path;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Bytes before the content of a block.
const HEAD_BYTES: usize = 12;

/// The longest content that is believed; what says to be longer is damaged.
const CONTENT_BYTES_MAX: usize = 1 << 31;

/// The seal of the block that was written or read last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain(u64);

/// What is wrong with a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damage {
    /// It is the last one, and not whole: it was being written when its writer died.
    Torn,
    /// Its content is not what was written.
    Changed,
}

impl Chain {
    /// Before the first block of the file of this path.
    pub fn first(path: &Path) -> Self {
        Chain(xxh3_64_with_seed(path.file_name().unwrap_or_default().as_encoded_bytes(), 0))
    }

    /// Appends a block.
    ///
    /// # Errors
    /// If the content is longer than a block can be.
    pub fn write(&mut self, content: &impl Serialize, into: &mut Vec<u8>) -> std::io::Result<()> {
        let from = into.len();
        into.extend_from_slice(&[0; HEAD_BYTES]);
        bincode::serialize_into(&mut *into, content).map_err(std::io::Error::other)?;
        let length = into.len() - from - HEAD_BYTES;
        if length > CONTENT_BYTES_MAX {
            return Err(std::io::Error::other("a block of more than 2 GiB"));
        }
        self.0 = xxh3_64_with_seed(&into[from + HEAD_BYTES..], self.0);
        into[from..from + 4].copy_from_slice(&(length as u32).to_le_bytes());
        into[from + 4..from + HEAD_BYTES].copy_from_slice(&self.0.to_le_bytes());
        Ok(())
    }

    /// The next block of a file at a place, and the place after it; `None` at the end.
    pub fn read<'a, T: Deserialize<'a>>(&mut self, file: &'a [u8], at: usize) -> Option<Result<(T, usize), Damage>> {
        let rest = &file[at.min(file.len())..];
        if rest.is_empty() {
            return None;
        }
        Some(self.take(rest).map(|(content, bytes)| (content, at + bytes)))
    }

    fn take<'a, T: Deserialize<'a>>(&mut self, rest: &'a [u8]) -> Result<(T, usize), Damage> {
        let (head, content) = rest.split_at_checked(HEAD_BYTES).ok_or(Damage::Torn)?;
        let mut length = [0; 4];
        let mut seal = [0; 8];
        length.copy_from_slice(&head[..4]);
        seal.copy_from_slice(&head[4..]);
        let length = u32::from_le_bytes(length) as usize;
        let Some(content) = content.get(..length) else {
            return Err(if length <= CONTENT_BYTES_MAX { Damage::Torn } else { Damage::Changed });
        };
        let next = xxh3_64_with_seed(content, self.0);
        if next != u64::from_le_bytes(seal) {
            // The file may have grown before its bytes were there: then nothing but zeros follows.
            let written = rest.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
            let last = HEAD_BYTES + length == rest.len() || written <= HEAD_BYTES + length;
            return Err(if last { Damage::Torn } else { Damage::Changed });
        }
        let parsed = bincode::deserialize(content).map_err(|_| Damage::Changed)?;
        self.0 = next;
        Ok((parsed, HEAD_BYTES + length))
    }
}
