//! What is due when: entries by time, taken out in the order of (time, item) as time passes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// Days of the calendar per span that entries stay in it.
const DAYS_PER_SPAN: i64 = 16_384;

/// Entries by time. Only those of the day that time has come to are in order; a later day is a plain list, so an entry
/// costs little until it is due.
#[derive(Clone, Debug)]
pub struct Calendar<T> {
    day_ms: i64,
    days: BTreeMap<i64, Vec<(i64, T)>>,
    /// The latest day, which nearly every entry is put to.
    latest: (i64, Vec<(i64, T)>),
    /// Entries of the day that is open and of all days before it.
    open: BinaryHeap<Reverse<(i64, T)>>,
    open_day: i64,
    len: usize,
}

impl<T: Ord> Calendar<T> {
    /// For entries that are due about so many milliseconds after they are put.
    pub fn new(span_ms: i64) -> Self {
        Calendar {
            day_ms: (span_ms / DAYS_PER_SPAN).max(1),
            days: BTreeMap::new(),
            latest: (i64::MIN, Vec::new()),
            open: BinaryHeap::new(),
            open_day: i64::MIN,
            len: 0,
        }
    }

    /// Entries in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Puts an entry.
    pub fn put(&mut self, time_ms: i64, item: T) {
        self.len += 1;
        let day = time_ms.div_euclid(self.day_ms);
        if day <= self.open_day {
            self.open.push(Reverse((time_ms, item)));
            return;
        }
        if day > self.latest.0 {
            self.close_latest();
            self.latest.0 = day;
        }
        if day == self.latest.0 {
            self.latest.1.push((time_ms, item));
        } else {
            self.days.entry(day).or_default().push((time_ms, item));
        }
    }

    /// Takes an entry whose time is at or before a bound, the earliest first.
    pub fn take(&mut self, bound_ms: i64) -> Option<(i64, T)> {
        loop {
            if let Some(Reverse((time_ms, _))) = self.open.peek() {
                if *time_ms > bound_ms {
                    return None;
                }
                self.len -= 1;
                return self.open.pop().map(|Reverse(entry)| entry);
            }
            if self.days.is_empty() {
                self.close_latest();
            }
            let first = self.days.first_entry()?;
            if first.key().saturating_mul(self.day_ms) > bound_ms {
                return None;
            }
            self.open_day = *first.key();
            self.open = first.remove().into_iter().map(Reverse).collect();
        }
    }

    fn close_latest(&mut self) {
        let entries = std::mem::take(&mut self.latest.1);
        if !entries.is_empty() {
            self.days.entry(self.latest.0).or_default().extend(entries);
        }
    }
}
