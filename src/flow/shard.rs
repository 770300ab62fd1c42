//! Shards: what is kept by key is kept in as many pieces as there are shards, and each worker has whole shards.
//!
//! Their number is fixed, so that what was kept by some number of workers can be loaded by any other.

/// Number of shards; more workers than this share nothing out.
pub const SHARDS: u32 = 256;

/// Stands for all shards at once: what every worker has a copy of.
pub const EVERY_SHARD: u32 = u32::MAX;

/// The shard of what is kept by this hash ([`crate::event::Key::route`], [`crate::event::MapKey::route`]): bits that hash tables
/// inside a shard use neither for their places nor for their tags.
#[inline]
pub fn shard_of(route: u64) -> u32 {
    (route >> 40) as u32 % SHARDS
}

/// The worker that has a shard, of so many.
#[inline]
pub fn worker_of(shard: u32, peers: usize) -> usize {
    shard as usize % peers
}

/// The worker that keeps what has this hash.
#[inline]
pub fn owner_of(route: u64, peers: usize) -> usize {
    worker_of(shard_of(route), peers)
}
