//! Aggregates: integers that are added up per chunk, per window and per key, and the doubles made of them at the end.

/// Count, sum, sum of squares and extremes of the counted entries of a range.
#[derive(Clone, Copy, Debug)]
pub(super) struct Aggregate {
    pub count: i64,
    pub sum: i64,
    pub squares: i128,
    pub min: i64,
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
        self.sum = self.sum.wrapping_add(other.sum);
        self.squares = self.squares.wrapping_add(other.squares);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    #[inline]
    pub fn add(&mut self, value: i64) {
        self.count += 1;
        self.sum = self.sum.wrapping_add(value);
        self.squares = self.squares.wrapping_add(i128::from(value) * i128::from(value));
        self.min = self.min.min(value);
        self.max = self.max.max(value);
    }

    /// Mean; call for a positive count.
    #[inline]
    pub fn mean(&self, unit: f64) -> f64 {
        self.sum as f64 / (self.count as f64 * unit)
    }

    /// Population standard deviation; call for a positive count.
    #[inline]
    pub fn std(&self, unit: f64) -> f64 {
        std_of(self.count, i128::from(self.sum), self.squares, unit)
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

/// Adds the entries at the rows of `marked`. `values` is the whole column, or empty where counts are all that is needed.
#[inline]
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
fn ones(rows: u128) -> usize {
    let high = (rows >> 64) as u64;
    (rows as u64).count_ones() as usize + if high == 0 { 0 } else { high.count_ones() as usize }
}

/// Adds values without counting them. At most 128.
#[inline]
fn fold_all(into: &mut Aggregate, need: Need, values: &[u64]) {
    let (mut sum, mut squares, mut min, mut max) = (0i64, 0i64, i64::MAX, i64::MIN);
    if need == Need::Sum {
        into.sum = values.iter().fold(into.sum, |sum, &value| sum.wrapping_add(value as i64));
        return;
    }
    for &value in values {
        let value = value as i64;
        sum = sum.wrapping_add(value);
        squares = squares.wrapping_add(value.wrapping_mul(value));
        min = min.min(value);
        max = max.max(value);
    }
    into.sum = into.sum.wrapping_add(sum);
    (into.min, into.max) = (into.min.min(min), into.max.max(max));
    let squares = if -SMALL < min && max < SMALL {
        i128::from(squares)
    } else {
        let square = |value: &u64| i128::from(*value as i64) * i128::from(*value as i64);
        values.iter().fold(0, |sum: i128, value| sum.wrapping_add(square(value)))
    };
    into.squares = into.squares.wrapping_add(squares);
}

/// What is kept per key of the entries that have expired, per (bit, column) that an all-time feature reads.
#[derive(Clone, Debug)]
pub(super) struct Base {
    pub slots: Box<[(Aggregate, i64, i64)]>,
    /// Time of the last entry that was folded in, counted or not.
    pub last: i64,
}

impl Base {
    pub fn new(slots: usize) -> Self {
        Base { slots: vec![(Aggregate::default(), i64::MAX, i64::MIN); slots].into_boxed_slice(), last: i64::MIN }
    }

    pub fn bytes(&self) -> usize {
        size_of::<Base>() + size_of_val(&*self.slots)
    }
}
