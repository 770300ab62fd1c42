//! Numbers of records by a hash of their content, in pieces, so that growth never stalls: one piece at a time.

use hashbrown::HashTable;

const SHARDS: usize = 256;

/// Finds the number of a record by content. The records stand elsewhere; the caller compares.
#[derive(Clone, Debug)]
pub struct Numbers {
    shards: Vec<HashTable<u32>>,
}

impl Default for Numbers {
    fn default() -> Self {
        Numbers { shards: (0..SHARDS).map(|_| HashTable::new()).collect() }
    }
}

/// Bits of the hash that the table within a shard looks at first are the highest and the lowest.
fn shard(hash: u64) -> usize {
    (hash >> 32) as usize % SHARDS
}

impl Numbers {
    /// The number with this hash of which `is` says yes.
    #[inline]
    pub fn find(&self, hash: u64, mut is: impl FnMut(u32) -> bool) -> Option<u32> {
        self.shards[shard(hash)].find(hash, |&number| is(number)).copied()
    }

    /// Adds a number that is not there. `hash_of` is asked when a piece grows.
    pub fn insert(&mut self, hash: u64, number: u32, hash_of: impl Fn(u32) -> u64) {
        self.shards[shard(hash)].insert_unique(hash, number, |&number| hash_of(number));
    }

    /// Removes a number. A piece that has become mostly empty gives its memory back.
    pub fn remove(&mut self, hash: u64, number: u32, hash_of: impl Fn(u32) -> u64) {
        let shard = &mut self.shards[shard(hash)];
        if let Ok(entry) = shard.find_entry(hash, |&held| held == number) {
            entry.remove();
        }
        if shard.capacity() > 64 && shard.len() * 8 < shard.capacity() {
            shard.shrink_to(shard.len() * 2, |&number| hash_of(number));
        }
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.shards.iter().map(HashTable::allocation_size).sum()
    }
}
