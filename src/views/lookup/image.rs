//! What a look-up keeps, written down and read again: for a checkpoint, another number of workers, a restart.
//!
//! A table is cut by key, so an image is of a share of the keys, whoever held them: shares that were written down by
//! several workers are read by as many others as there are then. A network file is held by every worker alike: one of them
//! writes it, all read it.
//!
//! Which version of a row holds is decided as records are applied, so a row alone says it: what comes later comes in a
//! later epoch. Images are in order, so that equal tables have equal images.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::network::Networks;
use super::table::LookupTable;
use crate::event::{Key, MapKey};
use crate::flow::Place;
use crate::flow::reference::Cells;
use crate::flow::shard_of;

/// A share of the rows of a look-up, and of who looked at them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookupImage {
    /// Rows by key; answers of services by event.
    pub rows: Vec<(Key, Cells)>,
    /// Live: who looked at each key, in order.
    pub lookers: Vec<(Key, Vec<Place>)>,
    /// When a key is to be looked at for what has expired, beside the times at which it was looked at.
    pub due: Vec<(i64, Key)>,
}

/// A network file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworksImage {
    /// Its content.
    pub content: Arc<[u8]>,
}

fn key(&MapKey { hi, lo }: &MapKey) -> Key {
    Key { hi, lo }
}

impl LookupTable {
    /// What it holds of some of the keys.
    pub fn dump(&self, of: impl Fn(Key) -> bool) -> LookupImage {
        let rows = self.rows.iter().filter(|(at, _)| of(key(at)));
        let lookers = self.lookers.iter().filter(|(at, _)| of(key(at)));
        self.image(rows, lookers, &of)
    }

    /// What it holds of a shard, without a look at the others.
    pub fn dump_shard(&self, shard: u32) -> LookupImage {
        let of = |key: Key| shard_of(key.route()) == shard;
        self.image(self.rows.of_shard(shard), self.lookers.of_shard(shard), &of)
    }

    fn image<'a>(
        &'a self,
        rows: impl Iterator<Item = (&'a MapKey, &'a Cells)>,
        lookers: impl Iterator<Item = (&'a MapKey, &'a VecDeque<Place>)>,
        of: &impl Fn(Key) -> bool,
    ) -> LookupImage {
        let mut rows: Vec<(Key, Cells)> = rows.map(|(at, cells)| (key(at), cells.clone())).collect();
        rows.sort_unstable_by_key(|(key, _)| *key);
        let mut lookers: Vec<(Key, Vec<Place>)> =
            lookers.map(|(at, lookers)| (key(at), lookers.iter().copied().collect())).collect();
        lookers.sort_unstable_by_key(|(key, _)| *key);
        let due = self.expiring.entries().map(|(start_ms, at)| (start_ms, key(at)));
        let mut due: Vec<(i64, Key)> = due.filter(|(_, key)| of(*key)).collect();
        due.sort_unstable();
        due.dedup();
        // Nearly all of it is said by the lookers.
        let looked = lookers.iter().flat_map(|(key, all)| all.iter().map(|(time_ms, _)| (*time_ms, *key)));
        let mut looked: Vec<(i64, Key)> = looked.map(|(time_ms, key)| (self.expiring.slice_of(time_ms), key)).collect();
        looked.sort_unstable();
        due.retain(|entry| looked.binary_search(entry).is_err());
        LookupImage { rows, lookers, due }
    }

    /// Adds what an image holds.
    pub fn load(&mut self, image: LookupImage) {
        for (key, cells) in image.rows {
            self.rows.insert(key.into(), cells);
        }
        for (start_ms, key) in image.due {
            self.expiring.put(key.into(), start_ms);
        }
        for (key, lookers) in image.lookers {
            lookers.into_iter().for_each(|looker| self.look(key, looker));
        }
    }

    /// The network file that it holds.
    pub fn dump_networks(&self) -> Option<NetworksImage> {
        self.networks.as_ref().map(|networks| NetworksImage { content: networks.content().clone() })
    }

    /// Takes a network file in the place of the one it holds.
    ///
    /// # Errors
    /// What is no network file is refused with a line that says so.
    pub fn load_networks(&mut self, image: NetworksImage) -> Result<(), String> {
        let networks = Networks::new(image.content).map_err(|reason| {
            format!("the networks of a look-up's image: {reason}; take the checkpoint before, or load the file anew")
        })?;
        self.networks = Some(networks);
        Ok(())
    }
}
