//! A run of at most [`ROWS_MAX`] entries of one key, column beside column in one allocation.
//!
//! Column `c` stands at `words[c * capacity ..][.. rows]`. The capacity doubles up to [`ROWS_MAX`], so that a key with
//! one entry holds one row.

use crate::event::Id;

/// Rows of a full chunk: a chunk's marks fit one word.
pub(super) const ROWS_MAX: usize = 64;
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

#[derive(Debug, Default)]
pub(super) struct Chunk {
    words: Box<[u64]>,
    rows: u32,
    capacity: u32,
}

impl Chunk {
    pub fn with_capacity(columns: usize, capacity: usize) -> Self {
        Chunk { words: vec![0; columns * capacity].into_boxed_slice(), rows: 0, capacity: capacity as u32 }
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
    pub fn column(&self, column: usize) -> &[u64] {
        let from = column * self.capacity as usize;
        &self.words[from..from + self.rows as usize]
    }

    #[inline]
    pub fn get(&self, column: usize, row: usize) -> u64 {
        debug_assert!(row < self.len());
        self.words[column * self.capacity as usize + row]
    }

    #[inline]
    pub fn set(&mut self, column: usize, row: usize, word: u64) {
        debug_assert!(row < self.len());
        self.words[column * self.capacity as usize + row] = word;
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
    pub fn insert(&mut self, columns: usize, at: usize, row: &[u64]) {
        if self.rows == self.capacity {
            self.resize(columns, (self.capacity() * 2).clamp(1, ROWS_MAX));
        }
        let (capacity, rows) = (self.capacity(), self.len());
        for column in row.len()..columns {
            let cells = &mut self.words[column * capacity..column * capacity + rows + 1];
            cells.copy_within(at..rows, at + 1);
            cells[at] = 0;
        }
        if at == rows {
            for (column, &word) in row.iter().enumerate() {
                self.words[column * capacity + at] = word;
            }
        } else {
            for (column, &word) in row.iter().enumerate() {
                let cells = &mut self.words[column * capacity..column * capacity + rows + 1];
                cells.copy_within(at..rows, at + 1);
                cells[at] = word;
            }
        }
        self.rows += 1;
    }

    /// Takes rows out, shifting those after them.
    pub fn remove(&mut self, columns: usize, from: usize, count: usize) {
        let (capacity, rows) = (self.capacity(), self.len());
        for column in 0..columns {
            let cells = &mut self.words[column * capacity..column * capacity + rows];
            cells.copy_within(from + count.., from);
        }
        self.rows -= count as u32;
    }

    /// The rows from `at` on, as a chunk of its own.
    pub fn split_off(&mut self, columns: usize, at: usize) -> Chunk {
        let mut tail = Chunk::with_capacity(columns, ROWS_MAX);
        tail.rows = self.rows - at as u32;
        for column in 0..columns {
            let from = column * self.capacity();
            tail.words[column * ROWS_MAX..][..self.len() - at]
                .copy_from_slice(&self.words[from + at..from + self.len()]);
        }
        self.rows = at as u32;
        tail
    }

    /// A copy with other numbers of columns and rows; columns that are new hold zeros.
    pub fn reshaped(&self, columns: usize, capacity: usize) -> Chunk {
        let mut copy = Chunk::with_capacity(columns, capacity);
        copy.rows = self.rows;
        let old = if self.capacity == 0 { 0 } else { self.words.len() / self.capacity() };
        for column in 0..columns.min(old) {
            copy.words[column * capacity..][..self.len()].copy_from_slice(self.column(column));
        }
        copy
    }

    pub fn resize(&mut self, columns: usize, capacity: usize) {
        *self = self.reshaped(columns, capacity);
    }
}
