//! A run of entries of one key, column beside column in one allocation.
//!
//! ```text
//!  words: │ hints │ one bitmap per condition │ times │ ids high │ ids low │ masks │ column │ ... │
//!           └ from [`HEADED_MIN`] rows on ──┘ └ `capacity` words each, `rows` of them in use ──┘
//! ```
//!
//! The capacity doubles, so that a key with one entry holds one row and nothing else. Bitmaps say once more which rows
//! have a condition's bit in their mask, so that counting reads one word and not a column. Hints are rows where a search
//! begins (see [`Chunk::after_time_hinted`]): any value gives the same result.

use crate::event::Id;
use crate::operators::prefetch;

/// Rows of a full chunk of a long log: a chunk's marks fit one word.
pub(super) const ROWS_MAX: usize = 64;
/// Rows of a full chunk that is a log of its own: its bitmaps fit an `u128`, and reading it whole costs less than the
/// directories of a long log.
pub(super) const SHORT_ROWS_MAX: usize = 128;
/// Capacity from which a chunk has hints and bitmaps.
const HEADED_MIN: usize = 16;
/// Column of event times.
pub(super) const TIME: usize = 0;
/// Column of the high half of ids.
pub(super) const ID_HI: usize = 1;
/// Column of the low half of ids.
pub(super) const ID_LO: usize = 2;
/// Column of masks; the top bit says that the entry is scored.
pub(super) const MASK: usize = 3;
/// Columns that every plan has.
pub(super) const FIXED: usize = 4;
/// The bit of a mask that says that the entry is scored.
pub(super) const SCORED: u64 = 1 << 63;
/// Rows that a search looks at one by one from its hint before it searches the whole column.
const NEAR_ROWS: usize = 8;

/// What a chunk of a log holds.
#[derive(Clone, Debug, Default)]
pub(super) struct Shape {
    pub columns: usize,
    /// Words of hints, eight hints each.
    pub hints: usize,
    /// Bits of masks that have a bitmap.
    pub bits: Vec<u8>,
}

impl Shape {
    fn head(&self, capacity: usize) -> usize {
        if capacity < HEADED_MIN { 0 } else { self.hints + self.bits.len() * capacity.div_ceil(64) }
    }
}

#[derive(Debug, Default)]
pub(super) struct Chunk {
    words: Box<[u64]>,
    rows: u16,
    capacity: u16,
    /// Words before the columns, and those of them that are hints.
    head: u16,
    hints: u16,
}

impl Chunk {
    pub fn with_capacity(shape: &Shape, capacity: usize) -> Self {
        let head = shape.head(capacity);
        let words = vec![0; head + shape.columns * capacity].into_boxed_slice();
        let hints = if head > 0 { shape.hints as u16 } else { 0 };
        Chunk { words, rows: 0, capacity: capacity as u16, head: head as u16, hints }
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.rows as usize
    }

    #[inline]
    pub fn capacity(&self) -> usize {
        self.capacity as usize
    }

    pub fn words(&self) -> usize {
        self.words.len()
    }

    #[inline]
    fn at(&self, column: usize, row: usize) -> usize {
        self.head as usize + column * self.capacity as usize + row
    }

    #[inline]
    pub fn column(&self, column: usize) -> &[u64] {
        let from = self.at(column, 0);
        &self.words[from..from + self.rows as usize]
    }

    #[inline]
    pub fn get(&self, column: usize, row: usize) -> u64 {
        debug_assert!(row < self.len());
        self.words[self.at(column, row)]
    }

    /// Sets a cell of any column but the masks'.
    #[inline]
    pub fn set(&mut self, column: usize, row: usize, word: u64) {
        debug_assert!(row < self.len() && column != MASK);
        let at = self.at(column, row);
        self.words[at] = word;
    }

    /// Sets a mask; whether the entry is scored stays.
    pub fn relabel(&mut self, shape: &Shape, row: usize, mask: u64) {
        let at = self.at(MASK, row);
        self.words[at] = mask | self.words[at] & SCORED;
        for (index, bit) in shape.bits.iter().enumerate() {
            let rows = self.bitmap(index) & !(1 << row) | u128::from(mask >> bit & 1) << row;
            self.set_bitmap(index, rows);
        }
    }

    /// The rows whose masks have a bit, which is number `index` of the shape's.
    #[inline]
    pub fn marked(&self, index: usize, bit: u8) -> u128 {
        if self.head > 0 {
            return self.bitmap(index);
        }
        let masks = self.column(MASK).iter().enumerate();
        u128::from(masks.fold(0, |rows, (row, mask)| rows | (mask >> bit & 1) << row))
    }

    /// Of some rows those that count: their masks have a bit and, if that is asked for, the time in a column (of labels)
    /// is not after another.
    #[inline]
    pub fn counted(&self, (bitmap, bit): (usize, u8), rows: u128, known: Option<(usize, i64)>) -> u128 {
        let marked = self.marked(bitmap, bit) & rows;
        let Some((column, time)) = known else { return marked };
        let known = rows_of(marked).filter(|&row| self.get(column, row) as i64 <= time);
        known.fold(0, |rows, row| rows | 1 << row)
    }

    #[inline]
    fn bitmap(&self, index: usize) -> u128 {
        if self.head == 0 {
            return 0;
        }
        let first = self.hints as usize;
        if self.capacity <= 64 {
            u128::from(self.words[first + index])
        } else {
            u128::from(self.words[first + 2 * index]) | u128::from(self.words[first + 2 * index + 1]) << 64
        }
    }

    #[inline]
    fn set_bitmap(&mut self, index: usize, rows: u128) {
        if self.head == 0 {
            return;
        }
        let first = self.hints as usize;
        if self.capacity <= 64 {
            self.words[first + index] = rows as u64;
        } else {
            self.words[first + 2 * index] = rows as u64;
            self.words[first + 2 * index + 1] = (rows >> 64) as u64;
        }
    }

    #[inline]
    pub fn time(&self, row: usize) -> i64 {
        self.get(TIME, row) as i64
    }

    #[inline]
    pub fn id(&self, row: usize) -> Id {
        Id { hi: self.get(ID_HI, row), lo: self.get(ID_LO, row) }
    }

    #[inline]
    pub fn last_time(&self) -> Option<i64> {
        self.len().checked_sub(1).map(|row| self.time(row))
    }

    /// The first row with a later time.
    #[inline]
    pub fn after_time(&self, time: i64) -> usize {
        self.column(TIME).partition_point(|&other| other as i64 <= time)
    }

    /// The same, looked for around hint number `hint`: windows of a key move by a few rows per entry.
    #[inline]
    pub fn after_time_hinted(&self, time: i64, hint: usize) -> usize {
        if hint >= self.hints as usize * 8 {
            return self.after_time(time);
        }
        self.after_time_near(time, (self.words[hint / 8] >> (hint % 8 * 8)) as u8 as usize)
    }

    /// The same, looked for around a row.
    #[inline]
    pub fn after_time_near(&self, time: i64, row: usize) -> usize {
        let times = self.column(TIME);
        let mut row = row.min(times.len());
        for _ in 0..NEAR_ROWS {
            if row > 0 && times[row - 1] as i64 > time {
                row -= 1;
            } else if row < times.len() && times[row] as i64 <= time {
                row += 1;
            } else {
                return row;
            }
        }
        self.after_time(time)
    }

    /// Asks for the cache lines behind the last row of each column.
    #[inline]
    pub fn look_ahead(&self) {
        let mut tail = self.head as usize + self.len();
        prefetch(&self.words, 0);
        while tail < self.words.len() {
            prefetch(&self.words, tail);
            tail += self.capacity as usize;
        }
    }

    /// Asks for the times around the hints.
    #[inline]
    pub fn look_ahead_at_hints(&self) {
        for hint in 0..self.hints as usize * 8 {
            let row = (self.words[hint / 8] >> (hint % 8 * 8)) as u8 as usize;
            prefetch(&self.words, self.head as usize + row);
        }
    }

    /// Asks for the times around a row.
    #[inline]
    pub fn look_ahead_at(&self, row: usize) {
        prefetch(&self.words, self.head as usize + row);
    }

    /// Notes where the searches of this read have ended.
    #[inline]
    pub fn set_hints(&mut self, rows: impl Iterator<Item = usize>) {
        for (hint, row) in rows.enumerate().take(self.hints as usize * 8) {
            let (word, shift) = (&mut self.words[hint / 8], hint % 8 * 8);
            *word = *word & !(0xff << shift) | (row as u64) << shift;
        }
    }

    /// The first row at or after a place in the order.
    #[inline]
    pub fn lower_bound(&self, time: i64, id: Id) -> usize {
        let mut row = self.column(TIME).partition_point(|&other| (other as i64) < time);
        while row < self.len() && self.time(row) == time && self.id(row) < id {
            row += 1;
        }
        row
    }

    /// Puts a row in, shifting those after it, and growing if there is no room. Columns behind those of `row` get 0.
    #[inline]
    pub fn insert(&mut self, shape: &Shape, at: usize, row: &[u64]) {
        if self.rows == self.capacity {
            self.grow(shape);
        }
        let rows = self.len();
        for column in 0..shape.columns {
            let first = self.at(column, 0);
            let cells = &mut self.words[first..first + rows + 1];
            if at < rows {
                cells.copy_within(at..rows, at + 1);
            }
            cells[at] = row.get(column).copied().unwrap_or(0);
        }
        self.rows += 1;
        if self.head > 0 {
            for (index, bit) in shape.bits.iter().enumerate() {
                let (marked, before) = (self.bitmap(index), below(at));
                let own = u128::from(row[MASK] >> bit & 1) << at;
                self.set_bitmap(index, (marked & !before) << 1 | marked & before | own);
            }
        }
    }

    /// Doubles, and beyond a full chunk of a long log grows by half a one.
    fn grow(&mut self, shape: &Shape) {
        let capacity = self.capacity();
        let more = if capacity < ROWS_MAX { capacity.max(1) } else { ROWS_MAX / 2 };
        self.resize(shape, (capacity + more).min(SHORT_ROWS_MAX));
    }

    /// Takes rows out, shifting those after them.
    pub fn remove(&mut self, shape: &Shape, from: usize, count: usize) {
        let rows = self.len();
        for column in 0..shape.columns {
            let first = self.at(column, 0);
            self.words[first..first + rows].copy_within(from + count.., from);
        }
        for index in 0..shape.bits.len() {
            let (marked, before) = (self.bitmap(index), below(from));
            let after = marked.checked_shr(count as u32).unwrap_or(0);
            self.set_bitmap(index, after & !before | marked & before);
        }
        self.rows -= count as u16;
        if from == 0 {
            // Every row has moved to the front, so the hints do too.
            for hint in &mut self.words[..self.hints as usize] {
                *hint = u64::from_le_bytes(hint.to_le_bytes().map(|row| row.saturating_sub(count as u8)));
            }
        }
    }

    /// The rows from `at` on, as a chunk of its own.
    pub fn split_off(&mut self, shape: &Shape, at: usize) -> Chunk {
        let mut tail = Chunk::with_capacity(shape, ROWS_MAX);
        tail.rows = self.rows - at as u16;
        for column in 0..shape.columns {
            let first = tail.at(column, 0);
            tail.words[first..first + self.len() - at].copy_from_slice(&self.column(column)[at..]);
        }
        for (index, &bit) in shape.bits.iter().enumerate() {
            let marked = self.marked(index, bit);
            tail.set_bitmap(index, marked >> at);
            self.set_bitmap(index, marked & below(at));
        }
        self.rows = at as u16;
        tail
    }

    /// A copy with another shape and capacity; columns that are new hold zeros. The bits of all shapes of a store are the
    /// same.
    pub fn reshaped(&self, shape: &Shape, capacity: usize) -> Chunk {
        let mut copy = Chunk::with_capacity(shape, capacity);
        copy.rows = self.rows;
        let old = if self.capacity == 0 { 0 } else { (self.words.len() - self.head as usize) / self.capacity() };
        for column in 0..shape.columns.min(old) {
            let first = copy.at(column, 0);
            copy.words[first..first + self.len()].copy_from_slice(self.column(column));
        }
        if copy.head > 0 {
            for (index, &bit) in shape.bits.iter().enumerate() {
                copy.set_bitmap(index, self.marked(index, bit));
            }
            let hints = self.hints.min(copy.hints) as usize;
            copy.words[..hints].copy_from_slice(&self.words[..hints]);
        }
        copy
    }

    pub fn resize(&mut self, shape: &Shape, capacity: usize) {
        *self = self.reshaped(shape, capacity);
    }
}

/// The rows of a bitmap, from the first.
#[inline]
pub(super) fn rows_of(mut rows: u128) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let row = (rows != 0).then(|| rows.trailing_zeros() as usize)?;
        rows &= rows - 1;
        Some(row)
    })
}

/// The rows from `from` on and before `to`.
#[inline]
pub(super) fn between(from: usize, to: usize) -> u128 {
    below(to) & !below(from)
}

/// All rows before `row`.
#[inline]
pub(super) fn below(row: usize) -> u128 {
    if row >= 128 { u128::MAX } else { (1 << row) - 1 }
}
