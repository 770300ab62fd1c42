//! What is due when: entries by time, taken out in the order of (time, item) as time passes.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;

use crate::operators::CopyOnWrite;

/// Days of the calendar per span that entries stay in it.
const DAYS_PER_SPAN: i64 = 16_384;

/// The most days that are held apart; what is later than that stands on the last of them.
const DAYS_MAX: i64 = 4 * DAYS_PER_SPAN;

/// Days that are held, copied and freed together.
const DAYS_PER_WEEK: i64 = 64;

/// Entries of the days of a week; none yet if it is shorter.
type Week<T> = Vec<Vec<(i64, T)>>;

/// Entries by time. Only those of the day that time has come to are in order; a later day is a plain list, so an entry
/// costs little until it is due.
#[derive(Clone, Debug)]
pub struct Calendar<T> {
    day_ms: i64,
    /// From the week of the day after the open one on. What stands on days that were opened since is not counted any more.
    weeks: VecDeque<CopyOnWrite<Week<T>>>,
    /// Entries of the day that is open and of all days before it, and of too late days if the last one is open.
    open: BinaryHeap<Reverse<(i64, T)>>,
    open_day: i64,
    len: usize,
}

/// Week, and day in it, of a day.
fn split(day: i64) -> (i64, usize) {
    (day.div_euclid(DAYS_PER_WEEK), day.rem_euclid(DAYS_PER_WEEK) as usize)
}

impl<T: Ord + Clone> Calendar<T> {
    /// For entries that are due about so many milliseconds after they are put.
    pub fn new(span_ms: i64) -> Self {
        let day_ms = (span_ms / DAYS_PER_SPAN).max(1);
        Calendar { day_ms, weeks: VecDeque::new(), open: BinaryHeap::new(), open_day: i64::MIN, len: 0 }
    }

    /// Entries in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Its entries as they are now, for another thread.
    pub fn freeze(&mut self) -> FrozenCalendar<T> {
        let weeks = self.weeks.iter_mut().map(CopyOnWrite::share).collect();
        let open = self.open.iter().map(|Reverse(entry)| entry.clone()).collect();
        FrozenCalendar { open, weeks, opened: split(self.open_day.saturating_add(1)).1 }
    }

    /// Puts an entry.
    pub fn put(&mut self, time_ms: i64, item: T) {
        let day = time_ms.div_euclid(self.day_ms);
        if self.len == 0 {
            self.open_day = day;
            self.weeks.clear();
        }
        self.len += 1;
        if day <= self.open_day {
            self.open.push(Reverse((time_ms, item)));
            return;
        }
        let (week, day) = split(day.min(self.open_day + DAYS_MAX));
        let week = (week - split(self.open_day + 1).0) as usize;
        if week >= self.weeks.len() {
            self.weeks.resize_with(week + 1, || CopyOnWrite::new(Week::new()));
        }
        let days = self.weeks[week].to_mut();
        if day >= days.len() {
            days.resize_with(day + 1, Vec::new);
        }
        days[day].push((time_ms, item));
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
            if self.weeks.is_empty() || self.open_day.saturating_add(1).saturating_mul(self.day_ms) > bound_ms {
                return None;
            }
            self.open_day += 1;
            self.open_next();
        }
    }

    /// Puts the entries of the day that is open now in order.
    fn open_next(&mut self) {
        let (week, day) = split(self.open_day);
        let Some(days) = self.weeks.front() else { return };
        let entries = days.get(day).into_iter().flatten();
        self.open.extend(entries.cloned().map(Reverse));
        if split(self.open_day + 1).0 > week {
            self.weeks.pop_front();
        }
    }
}

/// The entries of a calendar, as they were.
#[derive(Debug)]
pub struct FrozenCalendar<T> {
    open: Vec<(i64, T)>,
    weeks: Vec<Arc<Week<T>>>,
    /// Days of the first week that had been opened.
    opened: usize,
}

impl<T> FrozenCalendar<T> {
    /// All entries, in no order.
    pub fn entries(&self) -> impl Iterator<Item = &(i64, T)> {
        let days = self.weeks.iter().enumerate().flat_map(|(place, week)| {
            let opened = if place == 0 { self.opened } else { 0 };
            week.iter().skip(opened)
        });
        self.open.iter().chain(days.flatten())
    }
}
