//! The rows of a reference as a collection: each row as it is at the end of the epoch, until it goes.

use std::collections::BTreeMap;

use crate::event::Key;
use crate::flow::reference::{Body, Cells};
use crate::flow::{Facts, shard_of};
use crate::metrics::Metrics;
use crate::operators::{Asks, Out, Turn, View};

/// The rows of one reference, as a view that answers no one.
#[derive(Debug, Default)]
pub struct ReferenceRows {
    /// What its records name it by ([`super::Enrich::tag`]).
    tag: u64,
    rows: BTreeMap<Key, Cells>,
}

impl ReferenceRows {
    /// No rows yet.
    pub fn new(tag: u64) -> Self {
        ReferenceRows { tag, rows: BTreeMap::new() }
    }
}

impl View for ReferenceRows {
    type Update = (Key, Cells);
    type Image = Vec<(Key, Cells)>;

    fn apply(&mut self, _now: &Facts, asks: Asks, out: &mut Out<Self::Update>) -> Turn {
        let mut records = asks.records;
        records.retain(|record| record.tag == self.tag);
        records.sort_by_key(|record| (record.time, record.lane, record.offset));
        for record in records {
            let before = match record.body {
                Body::Row(key, cells) => {
                    out.updates.push(((key, cells.clone()), 1));
                    self.rows.insert(key, cells).map(|before| (key, before))
                }
                Body::Gone(key) => self.rows.remove(&key).map(|before| (key, before)),
                Body::Networks(_) => None,
            };
            out.updates.extend(before.map(|before| (before, -1)));
        }
        Turn::Done
    }

    fn published(&mut self) -> Vec<(Self::Update, isize)> {
        self.rows.iter().map(|(key, cells)| ((*key, cells.clone()), 1)).collect()
    }

    fn expire(&mut self, _now: &Facts) {}

    fn report(&self, _metrics: &Metrics, _whole: bool) {}

    fn dump(&self, _part: usize, shard: u32) -> Option<Self::Image> {
        let of_shard = self.rows.iter().filter(|(key, _)| shard_of(key.route()) == shard);
        let rows: Self::Image = of_shard.map(|(key, cells)| (*key, cells.clone())).collect();
        (!rows.is_empty()).then_some(rows)
    }

    fn retain_asks(&self, asks: &mut Asks, of: &dyn Fn(usize, u32) -> bool) {
        asks.records.retain(|record| of(0, record.shard()));
    }

    fn load(&mut self, _part: usize, rows: Self::Image) -> Result<(), String> {
        self.rows.extend(rows);
        Ok(())
    }
}
