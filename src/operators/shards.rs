//! A hash map in pieces, so that growth never stalls: one piece rehashes at a time.

use std::hash::{BuildHasherDefault, Hasher};

use hashbrown::HashMap;

use crate::event::MapKey;
use crate::flow::{SHARDS, shard_of};

/// Values by transaction or entity. With ten million entries a rehash moves a 256th of them.
#[derive(Debug)]
pub struct ShardedMap<V> {
    shards: Vec<HashMap<MapKey, V, BuildHasherDefault<Routed>>>,
    len: usize,
}

impl<V> Default for ShardedMap<V> {
    fn default() -> Self {
        ShardedMap { shards: (0..SHARDS).map(|_| HashMap::default()).collect(), len: 0 }
    }
}

impl<V> ShardedMap<V> {
    fn shard(key: &MapKey) -> usize {
        shard_of(key.route()) as usize
    }

    /// The value of a key.
    pub fn get_mut(&mut self, key: &MapKey) -> Option<&mut V> {
        self.shards[Self::shard(key)].get_mut(key)
    }

    /// The value of a key.
    pub fn get(&self, key: &MapKey) -> Option<&V> {
        self.shards[Self::shard(key)].get(key)
    }

    /// Sets the value of a key and returns the one before.
    pub fn insert(&mut self, key: MapKey, value: V) -> Option<V> {
        let old = self.shards[Self::shard(&key)].insert(key, value);
        self.len += old.is_none() as usize;
        old
    }

    /// Removes a key. A shard that has become more than half empty gives its memory back.
    pub fn remove(&mut self, key: &MapKey) -> Option<V> {
        let shard = &mut self.shards[Self::shard(key)];
        let old = shard.remove(key);
        self.len -= old.is_some() as usize;
        // Of what capacity is left, tombstones take their part: the table itself says how large it is.
        let places = shard.allocation_size() / (size_of::<(MapKey, V)>() + 1);
        if old.is_some() && places > 128 && shard.len() * 5 < places * 2 {
            shard.shrink_to(shard.len() + shard.len() / 8);
        }
        old
    }

    /// What is kept of a shard, in no order.
    pub fn of_shard(&self, shard: u32) -> impl Iterator<Item = (&MapKey, &V)> {
        self.shards.get(shard as usize).into_iter().flatten()
    }

    /// All entries, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&MapKey, &V)> {
        self.shards.iter().flatten()
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of the tables themselves.
    pub fn table_bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.allocation_size()).sum()
    }
}

/// Takes the hash that a key brings along.
#[derive(Clone, Copy, Debug, Default)]
pub struct Routed(u64);

impl Hasher for Routed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word ^ 0x9e37_79b9_7f4a_7c15) * u128::from(0xe703_7ed1_a0b4_28db_u64);
        self.0 = (product >> 64) as u64 ^ product as u64;
    }
}
