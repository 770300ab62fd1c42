//! Ids by the slice of event time in which they expire.

use std::collections::BTreeMap;

use crate::event::Id;

/// Slices of event time in which ids expire together.
const SLICES_PER_RETENTION: i64 = 64;

/// Remembers when ids expire, in slices of a 64th of the retention, and hands out whole slices.
#[derive(Debug)]
pub struct Expiring {
    retention_ms: i64,
    slice_ms: i64,
    slices: BTreeMap<i64, Vec<Id>>,
}

impl Expiring {
    /// For ids that expire so many milliseconds of event time behind the watermark.
    pub fn new(retention_ms: i64) -> Self {
        Expiring { retention_ms, slice_ms: (retention_ms / SLICES_PER_RETENTION).max(1), slices: BTreeMap::new() }
    }

    /// An id with its event time. An id may be put again with another time; it then comes out twice.
    pub fn put(&mut self, id: Id, time: i64) {
        self.slices.entry(time.div_euclid(self.slice_ms)).or_default().push(id);
    }

    /// Event times before this have expired.
    pub fn bound(&self, watermark: i64) -> i64 {
        watermark.saturating_sub(self.retention_ms)
    }

    /// A slice that lies wholly before the bound, if there is one.
    pub fn take(&mut self, watermark: i64) -> Option<Vec<Id>> {
        let bound = self.bound(watermark);
        let entry = self.slices.first_entry()?;
        let end = entry.key().saturating_add(1).saturating_mul(self.slice_ms);
        (end <= bound).then(|| entry.remove())
    }
}
