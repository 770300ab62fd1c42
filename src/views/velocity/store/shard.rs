//! The map from keys to logs, in shards: a map that grows moves one part in [`crate::flow::SHARDS`] of the keys at once.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::log::Log;
use crate::event::Key;
use crate::flow;

/// A shard with room for no more keys than this is never shrunk.
const CAPACITY_KEPT: usize = 16;

#[derive(Debug, Default)]
pub(super) struct Shard {
    table: HashTable<(Key, Log)>,
}

pub(super) fn empty() -> Vec<Shard> {
    (0..flow::SHARDS).map(|_| Shard::default()).collect()
}

/// A hash that shares no bits with the one that spread the keys over workers.
#[inline]
fn hash(key: &Key) -> u64 {
    let product = u128::from(key.route()) * 0x2545_f491_4f6c_dd1d_9e37_79b9_7f4a_7c15;
    (product >> 64) as u64 ^ product as u64
}

#[inline]
fn shard_of(key: Key) -> usize {
    flow::shard_of(key.route()) as usize
}

#[inline]
pub(super) fn of(shards: &mut [Shard], key: Key) -> &mut Shard {
    &mut shards[shard_of(key)]
}

#[inline]
pub(super) fn of_ref(shards: &[Shard], key: Key) -> &Shard {
    &shards[shard_of(key)]
}

impl Shard {
    #[inline]
    pub fn get(&self, key: Key) -> Option<&Log> {
        self.table.find(hash(&key), |(other, _)| *other == key).map(|(_, log)| log)
    }

    /// Where the log of a key is, until the shard changes.
    #[inline]
    pub fn find(&self, key: Key) -> Option<usize> {
        self.table.find_bucket_index(hash(&key), |(other, _)| *other == key)
    }

    /// The log in a place that [`Shard::find`] has named.
    #[inline]
    pub fn peek(&self, bucket: usize) -> Option<&Log> {
        self.table.get_bucket(bucket).map(|(_, log)| log)
    }

    #[inline]
    pub fn get_mut(&mut self, key: Key) -> Option<&mut Log> {
        self.table.find_mut(hash(&key), |(other, _)| *other == key).map(|(_, log)| log)
    }

    #[inline]
    pub fn get_or_new(&mut self, key: Key) -> &mut Log {
        let entry = self.table.entry(hash(&key), |(other, _)| *other == key, |(other, _)| hash(other));
        match entry {
            Entry::Occupied(there) => &mut there.into_mut().1,
            Entry::Vacant(place) => &mut place.insert((key, Log::new())).into_mut().1,
        }
    }

    pub fn remove(&mut self, key: Key) {
        if let Ok(entry) = self.table.find_entry(hash(&key), |(other, _)| *other == key) {
            entry.remove();
        }
    }

    /// Gives memory back once three quarters are free.
    pub fn shrink(&mut self) {
        if self.table.capacity() > CAPACITY_KEPT && self.table.len() * 4 <= self.table.capacity() {
            self.table.shrink_to(self.table.len() * 2, |(other, _)| hash(other));
        }
    }

    /// Keys with their logs, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &Log)> {
        self.table.iter().map(|(key, log)| (*key, log))
    }

    /// Places that a sweep goes through.
    pub fn buckets(&self) -> usize {
        self.table.num_buckets()
    }

    /// The log in a place.
    pub fn at(&mut self, bucket: usize) -> Option<&mut Log> {
        self.table.get_bucket_mut(bucket).map(|(_, log)| log)
    }

    pub fn remove_at(&mut self, bucket: usize) {
        if let Ok(entry) = self.table.get_bucket_entry(bucket) {
            entry.remove();
        }
    }

    pub fn len(&self) -> usize {
        self.table.len()
    }

    pub fn capacity(&self) -> usize {
        self.table.capacity()
    }

    pub fn bytes(&self) -> usize {
        size_of::<Shard>() + self.table.allocation_size()
    }
}
