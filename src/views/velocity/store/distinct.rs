//! Distinct values of a long log.
//!
//! Of every value the last occurrence is *marked*, and every occurrence knows the time of the one before. The distinct
//! values of `[start, end)` are then the marked entries in it, and those entries behind `end` whose previous occurrence
//! lies in it. An in-order event has at most itself behind `end`.

use hashbrown::HashMap;

use super::chunk::{Chunk, MASK};
use super::log::RowPosition;
use super::long::{GROUP, Long};
use super::program::{Pair, ReadProgram};

/// No previous occurrence.
const NEVER: i64 = i64::MIN;
/// Entries looked at one by one for the next occurrence of a value, before its occurrences are walked from the last.
const NEAR_ENTRIES: usize = 2048;

/// The time of the last occurrence of every value.
#[derive(Debug, Default)]
pub(super) struct Occurrences(HashMap<u64, i64>);

impl Occurrences {
    pub fn bytes(&self) -> usize {
        self.0.allocation_size()
    }
}

impl Pair {
    #[inline]
    fn counts(&self, chunk: &Chunk, row: usize) -> bool {
        chunk.get(MASK, row) >> self.bit & 1 == 1
    }

    #[inline]
    fn is(&self, chunk: &Chunk, row: usize, value: u64) -> bool {
        chunk.get(self.column, row) == value && self.counts(chunk, row)
    }
}

impl Long {
    /// Enters an occurrence of its values that has just been put in.
    #[inline]
    pub fn link(&mut self, program: &ReadProgram, place: RowPosition) {
        for (index, pair) in program.pairs.iter().enumerate() {
            let chunk = &self.chunks[place.chunk];
            if !pair.counts(chunk, place.row) {
                continue;
            }
            let (value, time) = (chunk.get(pair.column, place.row), chunk.time(place.row));
            let previous = match self.next(index, pair, place, value) {
                Some(next) => {
                    let previous = self.chunks[next.chunk].get(pair.previous, next.row) as i64;
                    self.chunks[next.chunk].set(pair.previous, next.row, time as u64);
                    previous
                }
                None => {
                    let previous = self.occurrences[index].0.insert(value, time);
                    if let Some(previous) = previous
                        && let Some(old) = self.locate(pair, value, previous, place)
                    {
                        self.mark(program, index, old, false);
                    }
                    self.mark(program, index, place, true);
                    previous.unwrap_or(NEVER)
                }
            };
            self.chunks[place.chunk].set(pair.previous, place.row, previous as u64);
        }
    }

    /// Takes back the occurrences of an entry that is about to go.
    pub fn unlink(&mut self, program: &ReadProgram, place: RowPosition) {
        for (index, pair) in program.pairs.iter().enumerate() {
            let chunk = &self.chunks[place.chunk];
            if !pair.counts(chunk, place.row) {
                continue;
            }
            let value = chunk.get(pair.column, place.row);
            let previous = chunk.get(pair.previous, place.row) as i64;
            if let Some(next) = self.next(index, pair, place, value) {
                self.chunks[next.chunk].set(pair.previous, next.row, previous as u64);
                continue;
            }
            self.mark(program, index, place, false);
            match self.locate(pair, value, previous, place) {
                Some(old) => {
                    self.mark(program, index, old, true);
                    self.occurrences[index].0.insert(value, previous);
                }
                None => {
                    self.occurrences[index].0.remove(&value);
                }
            }
        }
    }

    /// Forgets values whose last occurrence is in the first chunks, which are about to go.
    pub fn forget(&mut self, program: &ReadProgram, chunks: usize) {
        for (index, pair) in program.pairs.iter().enumerate() {
            for (at, chunk) in self.chunks[..chunks].iter().enumerate() {
                let marks = self.marks[at * program.pairs.len() + index];
                for row in (0..chunk.len()).filter(|row| marks >> row & 1 == 1) {
                    self.occurrences[index].0.remove(&chunk.get(pair.column, row));
                }
            }
            let values = &mut self.occurrences[index].0;
            if values.capacity() > 64 && values.len() * 4 < values.capacity() {
                values.shrink_to(values.len() * 2);
            }
        }
    }

    fn mark(&mut self, program: &ReadProgram, pair: usize, place: RowPosition, on: bool) {
        let pairs = program.pairs.len();
        let marks = &mut self.marks[place.chunk * pairs + pair];
        let marked = &mut self.marked[place.chunk / GROUP * pairs + pair];
        if on && *marks >> place.row & 1 == 0 {
            *marks |= 1 << place.row;
            *marked += 1;
        } else if !on && *marks >> place.row & 1 == 1 {
            *marks &= !(1 << place.row);
            *marked -= 1;
        }
    }

    /// The next occurrence of a value behind `place`.
    fn next(&self, index: usize, pair: &Pair, place: RowPosition, value: u64) -> Option<RowPosition> {
        let last = *self.occurrences[index].0.get(&value)?;
        let time = self.chunks[place.chunk].time(place.row);
        let end = RowPosition { chunk: self.chunks.len() - 1, row: self.chunks[self.chunks.len() - 1].len() };
        if last < time || (place.chunk, place.row + 1) == (end.chunk, end.row) {
            return None;
        }
        let mut at = place;
        for _ in 0..NEAR_ENTRIES {
            at = self.step(at);
            if at.chunk > end.chunk {
                return None;
            }
            if pair.is(&self.chunks[at.chunk], at.row, value) {
                return Some(at);
            }
        }
        // A rare value: few occurrences lie between its last one and here.
        let mut next = self.locate(pair, value, last, end).filter(|&last| last > place)?;
        loop {
            let previous = self.chunks[next.chunk].get(pair.previous, next.row) as i64;
            match self.locate(pair, value, previous, next).filter(|_| previous >= time) {
                Some(closer) if closer > place => next = closer,
                _ => return Some(next),
            }
        }
    }

    #[inline]
    fn step(&self, at: RowPosition) -> RowPosition {
        if at.row + 1 < self.chunks[at.chunk].len() {
            RowPosition { chunk: at.chunk, row: at.row + 1 }
        } else {
            RowPosition { chunk: at.chunk + 1, row: 0 }
        }
    }

    /// The last occurrence of a value at a time, before a place.
    fn locate(&self, pair: &Pair, value: u64, time: i64, before: RowPosition) -> Option<RowPosition> {
        if time == NEVER {
            return None;
        }
        let chunk = self.firsts[..=before.chunk].partition_point(|&first| first <= time).checked_sub(1)?;
        let mut at = RowPosition { chunk, row: self.chunks[chunk].after_time(time) }.min(before);
        loop {
            if at.row == 0 {
                let chunk = at.chunk.checked_sub(1)?;
                at = RowPosition { chunk, row: self.chunks[chunk].len() };
                continue;
            }
            at.row -= 1;
            let chunk = &self.chunks[at.chunk];
            if chunk.time(at.row) < time {
                return None;
            }
            if pair.is(chunk, at.row, value) {
                return Some(at);
            }
        }
    }

    /// Marked entries from `from` up to before `to`.
    pub fn marked_between(&self, program: &ReadProgram, pair: usize, from: RowPosition, to: RowPosition) -> i64 {
        let pairs = program.pairs.len();
        let marks = |chunk: usize| self.marks[chunk * pairs + pair];
        let below = |row: usize| if row >= 64 { u64::MAX } else { (1 << row) - 1 };
        if from.chunk == to.chunk {
            return (marks(from.chunk) & below(to.row) & !below(from.row)).count_ones().into();
        }
        let mut count = (marks(from.chunk) & !below(from.row)).count_ones();
        count += (marks(to.chunk) & below(to.row)).count_ones();
        let mut chunk = from.chunk + 1;
        while chunk < to.chunk {
            if chunk.is_multiple_of(GROUP) && chunk + GROUP <= to.chunk {
                count += self.marked[chunk / GROUP * pairs + pair];
                chunk += GROUP;
            } else {
                count += marks(chunk).count_ones();
                chunk += 1;
            }
        }
        count.into()
    }

    /// Entries at or behind `end` whose previous occurrence is before `end` and later than `after_ms`.
    pub fn reaching_back(&self, pair: &Pair, end: RowPosition, after_ms: i64) -> i64 {
        let Some(border) = (end.row < self.chunks[end.chunk].len())
            .then(|| self.chunks[end.chunk].time(end.row))
            .or_else(|| self.firsts.get(end.chunk + 1).copied())
        else {
            return 0;
        };
        let mut count = 0;
        for (index, chunk) in self.chunks.iter().enumerate().skip(end.chunk) {
            let from = if index == end.chunk { end.row } else { 0 };
            for row in (from..chunk.len()).filter(|&row| pair.counts(chunk, row)) {
                let previous = chunk.get(pair.previous, row) as i64;
                if previous <= after_ms || previous > border {
                    continue;
                }
                let here = RowPosition { chunk: index, row };
                let value = chunk.get(pair.column, row);
                // At the border's own time both sides are possible: look.
                let is_before =
                    previous < border || self.locate(pair, value, previous, here).is_some_and(|at| at < end);
                count += i64::from(is_before);
            }
        }
        count
    }
}
