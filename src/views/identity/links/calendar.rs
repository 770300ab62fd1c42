//! What is due when: entries by time, taken out in the order of (time, item) as time passes.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// Days of the calendar per span that entries stay in it.
const DAYS_PER_SPAN: i64 = 16_384;

/// The most days that are held apart; what is later than that stands on the last of them.
const DAYS_MAX: i64 = 4 * DAYS_PER_SPAN;

/// Entries by time. Only those of the day that time has come to are in order; a later day is a plain list, so an entry
/// costs little until it is due.
#[derive(Clone, Debug)]
pub struct Calendar<T> {
    day_ms: i64,
    /// The days after the open one.
    days: VecDeque<Vec<(i64, T)>>,
    /// Entries of the day that is open and of all days before it, and of too late days if the last one is open.
    open: BinaryHeap<Reverse<(i64, T)>>,
    open_day: i64,
    len: usize,
}

impl<T: Ord> Calendar<T> {
    /// For entries that are due about so many milliseconds after they are put.
    pub fn new(span_ms: i64) -> Self {
        let day_ms = (span_ms / DAYS_PER_SPAN).max(1);
        Calendar { day_ms, days: VecDeque::new(), open: BinaryHeap::new(), open_day: i64::MIN, len: 0 }
    }

    /// Entries in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Its entries, in no order.
    pub fn entries(&self) -> impl Iterator<Item = &(i64, T)> {
        self.open.iter().map(|Reverse(entry)| entry).chain(self.days.iter().flatten())
    }

    /// Puts an entry.
    pub fn put(&mut self, time_ms: i64, item: T) {
        let day = time_ms.div_euclid(self.day_ms);
        if self.len == 0 {
            self.open_day = day;
            self.days.clear();
        }
        self.len += 1;
        if day <= self.open_day {
            self.open.push(Reverse((time_ms, item)));
            return;
        }
        let ahead = (day - self.open_day).min(DAYS_MAX) as usize - 1;
        if ahead >= self.days.len() {
            self.days.resize_with(ahead + 1, Vec::new);
        }
        self.days[ahead].push((time_ms, item));
    }

    /// Takes an entry whose time is at or before a bound, the earliest first.
    pub fn take(&mut self, bound_ms: i64) -> Option<(i64, T)> {
        loop {
            let due = self.open.peek().is_some_and(|Reverse((time_ms, _))| *time_ms <= bound_ms);
            if due {
                self.len -= 1;
                return self.open.pop().map(|Reverse(entry)| entry);
            }
            // A later day may hold what is due before an entry that was too late for a day of its own.
            if self.days.is_empty() || self.open_day.saturating_add(1).saturating_mul(self.day_ms) > bound_ms {
                return None;
            }
            self.open_day += 1;
            if let Some(entries) = self.days.pop_front() {
                self.open.extend(entries.into_iter().map(Reverse));
            }
        }
    }
}
