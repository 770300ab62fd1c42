//! Aggregates: integers that are added up per chunk, per window and per key, and the doubles made of them at the end.
//!
//! Nothing wraps unseen. A sum has 128 bits, which no number of 64-bit values fills; loops add up in 64 bits where the values
//! at hand allow it. A sum of squares is kept modulo 2^128, and whoever uses it looks first whether it may be beyond that
//! ([`Aggregate::is_wide`]); if it may be, `squares` has the rest.

use super::squares::Squares;

/// Count, sum, sum of squares and extremes of the counted entries of a range.
///
/// Packed, so that the 128-bit sums do not cost more room than they have bits.
#[derive(Clone, Copy, Debug)]
#[repr(C, packed(8))]
pub(super) struct Aggregate {
    pub count: i64,
    pub sum: i128,
    /// Modulo 2^128.
    pub squares: i128,
    /// The smallest value. Where squares are needed and extremes are not, perhaps less.
    pub min: i64,
    /// The largest value. Where squares are needed and extremes are not, perhaps more.
    pub max: i64,
}

impl Default for Aggregate {
    fn default() -> Self {
        Aggregate { count: 0, sum: 0, squares: 0, min: i64::MAX, max: i64::MIN }
    }
}

impl Aggregate {
    #[inline]
    pub fn merge(&mut self, other: &Aggregate) {
        self.count += other.count;
        self.sum += other.sum;
        self.squares = self.squares.wrapping_add(other.squares);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    #[inline]
    pub fn add(&mut self, value: i64) {
        self.count += 1;
        self.sum += i128::from(value);
        self.squares = self.squares.wrapping_add(i128::from(value) * i128::from(value));
        self.min = self.min.min(value);
        self.max = self.max.max(value);
    }

    /// Mean; call for a positive count.
    #[inline]
    pub fn mean(&self, unit: f64) -> f64 {
        self.sum_f64() / (self.count as f64 * unit)
    }

    /// The sum as the nearest double. Nearly all sums have 64 bits, whose conversion is one instruction.
    #[inline]
    pub fn sum_f64(&self) -> f64 {
        match i64::try_from(self.sum) {
            Ok(sum) => sum as f64,
            Err(_) => wide_f64(self.sum),
        }
    }

    /// Whether the squares may not fit 128 bits, nor what a deviation is made of: so many values of this size.
    #[inline]
    pub fn is_wide(&self) -> bool {
        let largest = self.min.unsigned_abs().max(self.max.unsigned_abs());
        self.count > 0 && u128::from(self.count.unsigned_abs()) * u128::from(largest) >= 1 << 63
    }

    /// Population standard deviation; call for a positive count, and if it is not wide.
    #[inline]
    pub fn std(&self, unit: f64) -> f64 {
        std_of(self.count, self.sum, self.squares, unit)
    }
}

/// Population standard deviation from count, sum and sum of squares: exact up to one rounding, root and division.
#[inline]
pub(super) fn std_of(count: i64, sum: i128, squares: i128, unit: f64) -> f64 {
    let spread = i128::from(count).wrapping_mul(squares).wrapping_sub(sum.wrapping_mul(sum));
    (spread.max(0) as f64).sqrt() / (count as f64 * unit)
}

/// Which parts of an [`Aggregate`] are needed; each level includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Need {
    Count,
    Sum,
    Squares,
    All,
}

/// Values below this in size can be squared and 128 of the squares added up within 64 bits.
const SMALL: i64 = 1 << 27;
/// 128 values of at most this size can be added up within 64 bits.
const NARROW: i64 = 1 << 55;

/// Adds the entries at the rows of `marked`. `values` is the whole column, or empty where counts are all that is needed.
#[inline(always)]
pub(super) fn fold(into: &mut Aggregate, need: Need, marked: u128, values: &[u64]) {
    let count = ones(marked);
    into.count += count as i64;
    if need == Need::Count || count == 0 {
        return;
    }
    let from = marked.trailing_zeros() as usize;
    let to = 128 - marked.leading_zeros() as usize;
    if to - from == count {
        fold_all(into, need, &values[from..to]);
    } else {
        let mut left = marked;
        while left != 0 {
            into.add(values[left.trailing_zeros() as usize] as i64);
            left &= left - 1;
        }
        into.count -= count as i64;
    }
}

/// Bits that are set; most often all are in the low half.
#[inline]
pub(super) fn ones(rows: u128) -> usize {
    let high = (rows >> 64) as u64;
    (rows as u64).count_ones() as usize + if high == 0 { 0 } else { high.count_ones() as usize }
}

/// Adds values without counting them. At most 128.
#[inline]
fn fold_all(into: &mut Aggregate, need: Need, values: &[u64]) {
    let (mut sum, mut squares, mut min, mut max) = (0i64, 0i64, i64::MAX, i64::MIN);
    if need == Need::Sum {
        // The bits above 2 * NARROW of all values moved by NARROW: none are set if all are narrow.
        let mut beyond = 0u64;
        for &value in values {
            sum = sum.wrapping_add(value as i64);
            beyond |= value.wrapping_add(NARROW as u64);
        }
        into.sum += if beyond < 2 * NARROW as u64 { i128::from(sum) } else { sum_of(values) };
        return;
    }
    for &value in values {
        let value = value as i64;
        sum = sum.wrapping_add(value);
        squares = squares.wrapping_add(value.wrapping_mul(value));
        min = min.min(value);
        max = max.max(value);
    }
    into.sum += if -NARROW < min && max < NARROW { i128::from(sum) } else { sum_of(values) };
    (into.min, into.max) = (into.min.min(min), into.max.max(max));
    let squares = if -SMALL < min && max < SMALL {
        i128::from(squares)
    } else {
        let square = |value: &u64| i128::from(*value as i64) * i128::from(*value as i64);
        values.iter().fold(0, |sum: i128, value| sum.wrapping_add(square(value)))
    };
    into.squares = into.squares.wrapping_add(squares);
}

/// Apart, as the compiler would else convert all sums so.
#[cold]
#[inline(never)]
fn wide_f64(sum: i128) -> f64 {
    sum as f64
}

#[cold]
#[inline(never)]
fn sum_of(values: &[u64]) -> i128 {
    values.iter().map(|&value| i128::from(value as i64)).sum()
}

/// The squares of the entries at the rows of `marked`, all of them.
#[cold]
pub(super) fn squares_of(marked: u128, values: &[u64]) -> Squares {
    let mut squares = Squares::default();
    let rows = (0..values.len()).filter(|row| marked >> row & 1 == 1);
    rows.for_each(|row| squares.add_square_of(values[row] as i64));
    squares
}

/// What is kept per key of the entries that have expired, per (bit, column) that an all-time feature reads.
#[derive(Clone, Debug)]
pub(super) struct Base {
    pub slots: Box<[(Aggregate, i64, i64)]>,
    /// Time of the last entry that was folded in, counted or not.
    pub last: i64,
    /// Multiples of 2^128 that the sums of squares lack, per slot; empty as long as there are none.
    carried: Box<[u64]>,
}

impl Base {
    pub fn new(slots: usize) -> Self {
        Base {
            slots: vec![(Aggregate::default(), i64::MAX, i64::MIN); slots].into_boxed_slice(),
            last: i64::MIN,
            carried: Box::default(),
        }
    }

    /// As it was taken apart.
    pub fn from_parts(slots: Box<[(Aggregate, i64, i64)]>, last: i64, carried: Box<[u64]>) -> Self {
        Base { slots, last, carried }
    }

    /// Multiples of 2^128 that the sums of squares lack.
    pub fn carried(&self) -> &[u64] {
        &self.carried
    }

    /// Adds entries to a slot: what they come to, and their squares if those are wide.
    pub fn fold(&mut self, slot: usize, part: &Aggregate, squares: Option<Squares>) {
        let mut all = self.squares(slot);
        all.add(squares.unwrap_or_else(|| Squares::new(0, part.squares as u128)));
        self.slots[slot].0.merge(part);
        if all.high() > 0 && self.carried.is_empty() {
            self.carried = vec![0; self.slots.len()].into_boxed_slice();
        }
        if let Some(carried) = self.carried.get_mut(slot) {
            *carried = all.high();
        }
    }

    /// The sum of squares of a slot.
    pub fn squares(&self, slot: usize) -> Squares {
        Squares::new(self.carried.get(slot).copied().unwrap_or(0), self.slots[slot].0.squares as u128)
    }

    /// Bytes of one with so many slots, without what is carried, which nearly none has: so nobody has to look at it.
    pub fn bytes(slots: usize) -> usize {
        size_of::<Base>() + slots * size_of::<(Aggregate, i64, i64)>()
    }
}
