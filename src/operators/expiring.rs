//! Ids by the slice of event time in which they expire.
//!
//! A slice has passed as a whole: whether an id has expired depends on its event time and the watermark alone. It comes out one by one
//! after that, as its keeper has time for it.

use std::collections::BTreeMap;

use crate::event::MapKey;

/// Slices of event time in which ids expire together.
const SLICES_PER_RETENTION: i64 = 64;

/// Remembers when ids expire, in slices of a 64th of the retention, and hands out whole slices.
#[derive(Debug)]
pub struct Expiring {
    retention_ms: i64,
    slice_ms: i64,
    slices: BTreeMap<i64, Vec<MapKey>>,
    /// The latest slice, which nearly every id belongs to.
    latest: (i64, Vec<MapKey>),
    /// What is left of a slice that has passed, with its start.
    passed: (i64, Vec<MapKey>),
}

impl Expiring {
    /// For ids that expire so many milliseconds of event time behind the watermark.
    pub fn new(retention_ms: i64) -> Self {
        let slice_ms = (retention_ms / SLICES_PER_RETENTION).max(1);
        Expiring {
            retention_ms,
            slice_ms,
            slices: BTreeMap::new(),
            latest: (i64::MIN, Vec::new()),
            passed: (i64::MIN, Vec::new()),
        }
    }

    /// An id with its event time. An id may be put again with another time; it then comes out twice.
    pub fn put(&mut self, key: MapKey, time: i64) {
        let slice = time.div_euclid(self.slice_ms);
        if slice > self.latest.0 {
            self.close();
            self.latest.0 = slice;
        }
        if slice == self.latest.0 {
            self.latest.1.push(key);
        } else {
            self.slices.entry(slice).or_default().push(key);
        }
    }

    /// Every id that is still to come out, with the start of its slice.
    pub fn entries(&self) -> impl Iterator<Item = (i64, &MapKey)> {
        let slices = self.slices.iter().chain([(&self.latest.0, &self.latest.1), (&self.passed.0, &self.passed.1)]);
        slices.flat_map(|(slice, ids)| ids.iter().map(|id| (slice.saturating_mul(self.slice_ms), id)))
    }

    /// The start of the slice that an event time is in.
    pub fn slice_of(&self, time: i64) -> i64 {
        time.div_euclid(self.slice_ms).saturating_mul(self.slice_ms)
    }

    /// Event times before this have expired.
    pub fn bound(&self, watermark: i64) -> i64 {
        watermark.saturating_sub(self.retention_ms)
    }

    /// Whether the slice that an event time is in lies wholly before the bound.
    pub fn has_passed(&self, time: i64, watermark: i64) -> bool {
        self.is_before(time.div_euclid(self.slice_ms), self.bound(watermark))
    }

    /// An id whose slice lies wholly before the bound, if there is one.
    pub fn next(&mut self, watermark: i64) -> Option<MapKey> {
        while self.passed.1.is_empty() {
            self.passed = self.take(watermark)?;
        }
        self.passed.1.pop()
    }

    fn is_before(&self, slice: i64, bound: i64) -> bool {
        slice.saturating_add(1).saturating_mul(self.slice_ms) <= bound
    }

    fn take(&mut self, watermark: i64) -> Option<(i64, Vec<MapKey>)> {
        let bound = self.bound(watermark);
        if !self.latest.1.is_empty() && self.is_before(self.latest.0, bound) {
            self.close();
        }
        let first = *self.slices.first_key_value()?.0;
        if self.is_before(first, bound) { self.slices.remove_entry(&first) } else { None }
    }

    /// Puts the latest slice to the others.
    fn close(&mut self) {
        let ids = std::mem::take(&mut self.latest.1);
        if !ids.is_empty() {
            self.slices.entry(self.latest.0).or_default().extend(ids);
        }
    }
}
