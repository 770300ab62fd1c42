//! What a store keeps of a shard, as it is written down: the entries of each key, and the base of what has expired.
//!
//! Entries are written as the insertions that would rebuild the logs; sums, extremes and hints are derived again. The base of an
//! all-time feature cannot be derived, as its entries are gone.

use serde::{Deserialize, Serialize};

use super::aggregate::{Aggregate, Base};
use super::log::Log;
use super::{Store, shard};
use crate::event::{Id, Key};
use crate::operators::words;

/// The keys of one kind in one shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreImage {
    /// The key kind.
    plan: String,
    /// Words of an entry.
    columns: u32,
    /// Keys in order, with the number of their entries.
    keys: Vec<(Key, u32)>,
    /// The entries of all keys, one after the other: time, id, mask and columns.
    #[serde(with = "words")]
    words: Vec<u64>,
    bases: Vec<(Key, BaseImage)>,
    /// Entries before this may be gone, milliseconds.
    bound_ms: i64,
}

/// What has expired of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct BaseImage {
    /// Count, sum, sum of squares, smallest, largest, first and last time of each slot.
    slots: Vec<(i64, i128, i128, i64, i64, i64, i64)>,
    last_ms: i64,
    carried: Vec<u64>,
}

impl StoreImage {
    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

impl Store {
    /// The keys that have entries, in order.
    pub fn keys(&self) -> Vec<Key> {
        let all = self.shards.iter().flat_map(|shard| shard.iter()).filter(|(_, log)| log.len() > 0);
        let mut keys: Vec<Key> = all.map(|(key, _)| key).collect();
        keys.sort_unstable();
        keys
    }

    /// What is kept of a shard.
    pub fn dump(&self, shard: u32) -> StoreImage {
        let mut logs: Vec<(Key, &Log)> = self.shards[shard as usize % self.shards.len()].iter().collect();
        logs.sort_unstable_by_key(|(key, _)| *key);
        let (mut keys, mut words, mut bases) = (Vec::with_capacity(logs.len()), Vec::new(), Vec::new());
        let columns = self.program.columns;
        for (key, log) in logs {
            keys.push((key, log.len() as u32));
            for chunk in log.chunks() {
                for row in 0..chunk.len() {
                    words.extend((0..columns).map(|column| chunk.get(column, row)));
                }
            }
            bases.extend(log.base.as_ref().map(|base| (key, BaseImage::of(base))));
        }
        StoreImage {
            plan: self.plan.name.clone(),
            columns: columns as u32,
            keys,
            words,
            bases,
            bound_ms: self.bound_ms,
        }
    }

    /// Takes the keys of a shard of which nothing is kept yet.
    ///
    /// # Errors
    /// If its entries have other columns, or what has expired was summed up for other features.
    pub fn load(&mut self, image: StoreImage) -> Result<(), String> {
        if image.columns as usize != self.program.columns {
            let (plan, columns) = (image.plan, image.columns);
            return Err(format!(
                "the image of key '{plan}' has {columns} columns, its features {}",
                self.program.columns
            ));
        }
        if let Some((_, base)) = image.bases.iter().find(|(_, base)| base.slots.len() != self.program.bases) {
            let (plan, held, wanted) = (image.plan, base.slots.len(), self.program.bases);
            return Err(format!("the image of key '{plan}' has {held} sums over all time, its features {wanted}"));
        }
        let mut rows = image.words.chunks_exact(image.columns.max(1) as usize);
        for (key, count) in image.keys {
            let log = shard::of(&mut self.shards, key).get_or_new(key);
            for row in rows.by_ref().take(count as usize) {
                log.insert(&self.program, row[0] as i64, Id { hi: row[1], lo: row[2] }, row, i64::MIN);
            }
            self.entries += log.len();
            self.heap_bytes += log.bytes(&self.program);
        }
        for (key, base) in image.bases {
            let log = shard::of(&mut self.shards, key).get_or_new(key);
            let before = log.bytes(&self.program);
            log.base = Some(Box::new(base.base()));
            self.heap_bytes = self.heap_bytes + log.bytes(&self.program) - before;
        }
        self.bound_ms = self.bound_ms.max(image.bound_ms);
        Ok(())
    }
}

impl BaseImage {
    fn of(base: &Base) -> Self {
        let slot = |&(Aggregate { count, sum, squares, min, max }, first, last): &(Aggregate, i64, i64)| {
            (count, sum, squares, min, max, first, last)
        };
        BaseImage { slots: base.slots.iter().map(slot).collect(), last_ms: base.last, carried: base.carried().to_vec() }
    }

    fn base(self) -> Base {
        let slot =
            |(count, sum, squares, min, max, first, last)| (Aggregate { count, sum, squares, min, max }, first, last);
        Base::from_parts(self.slots.into_iter().map(slot).collect(), self.last_ms, self.carried.into())
    }
}
