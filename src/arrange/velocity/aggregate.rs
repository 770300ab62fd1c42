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

/// Adds the entries whose bit is set. `values` is as long as `masks`, or empty where counts are all that is needed.
#[inline]
pub(super) fn fold(into: &mut Aggregate, need: Need, masks: &[u64], values: &[u64], bit: u8) {
    match need {
        Need::Count => into.count += masks.iter().map(|mask| (mask >> bit & 1) as i64).sum::<i64>(),
        Need::Sum => {
            let (mut count, mut sum) = (0u64, 0u64);
            for (mask, &value) in masks.iter().zip(values) {
                let on = mask >> bit & 1;
                count += on;
                sum = sum.wrapping_add(value & on.wrapping_neg());
            }
            into.count += count as i64;
            into.sum = into.sum.wrapping_add(sum as i64);
        }
        Need::Squares => {
            for (mask, &value) in masks.iter().zip(values) {
                let on = mask >> bit & 1;
                let value = (value & on.wrapping_neg()) as i64;
                into.count += on as i64;
                into.sum = into.sum.wrapping_add(value);
                into.squares = into.squares.wrapping_add(i128::from(value) * i128::from(value));
            }
        }
        Need::All => {
            for (mask, &value) in masks.iter().zip(values) {
                if mask >> bit & 1 == 1 {
                    into.add(value as i64);
                }
            }
        }
    }
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
