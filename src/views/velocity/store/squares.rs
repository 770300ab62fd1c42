//! Sums of squares beyond 128 bits, for the few windows whose amounts demand it.
//!
//! A square of a 64-bit value has up to 126 bits, and `n * q - s * s` up to `126 + 2 log n`. Sums of squares are kept in 128
//! bits, modulo 2^128: exact as long as `n` times the largest value stays below 2^63 ([`super::aggregate::Aggregate::is_wide`]).
//! Beyond, a read adds the squares of its window up again in 256 bits, and the base of what has expired counts what its 128
//! bits cannot hold.

/// A sum of squares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Squares {
    high: u128,
    low: u128,
}

const HALF: u32 = 64;
const LOW_HALF: u128 = u64::MAX as u128;

impl Squares {
    /// So many times 2^128, and the rest.
    pub fn new(high: u64, low: u128) -> Self {
        Squares { high: u128::from(high), low }
    }

    /// Its multiples of 2^128.
    pub fn high(self) -> u64 {
        self.high as u64
    }

    /// Adds the square of a value.
    pub fn add_square_of(&mut self, value: i64) {
        let size = u128::from(value.unsigned_abs());
        self.add(Squares { high: 0, low: size * size });
    }

    /// Adds another sum.
    pub fn add(&mut self, other: Squares) {
        let (low, carry) = self.low.overflowing_add(other.low);
        (self.low, self.high) = (low, self.high + other.high + u128::from(carry));
    }

    /// Population standard deviation of so many values with this sum of squares: `sqrt(n * q - s * s) / (n * unit)`, rounded
    /// once before the root, at the root and at the division.
    pub fn std(self, count: i64, sum: i128, unit: f64) -> f64 {
        let size = sum.unsigned_abs();
        self.times(count.unsigned_abs()).minus(square(size)).to_f64().sqrt() / (count as f64 * unit)
    }

    fn times(self, factor: u64) -> Squares {
        let factor = u128::from(factor);
        let (bottom, top) = ((self.low & LOW_HALF) * factor, (self.low >> HALF) * factor);
        let (low, carry) = bottom.overflowing_add(top << HALF);
        Squares { high: self.high * factor + (top >> HALF) + u128::from(carry), low }
    }

    /// The sum of squares is never less than what is taken from it (Cauchy and Schwarz).
    fn minus(self, other: Squares) -> Squares {
        let (low, borrow) = self.low.overflowing_sub(other.low);
        Squares { high: self.high.wrapping_sub(other.high).wrapping_sub(u128::from(borrow)), low }
    }

    /// The nearest double.
    fn to_f64(self) -> f64 {
        if self.high == 0 {
            return self.low as f64;
        }
        let zeros = self.high.leading_zeros();
        let shifted = if zeros == 0 { self.high } else { self.high << zeros | self.low >> (u128::BITS - zeros) };
        // What was cut off decides only where the rest lies half-way between two doubles.
        let rest = u128::from(self.low << zeros != 0);
        (shifted | rest) as f64 * 2f64.powi((u128::BITS - zeros) as i32)
    }
}

/// The square of a sum.
fn square(size: u128) -> Squares {
    let (top, bottom) = (size >> HALF, size & LOW_HALF);
    let mut squared = Squares { high: top * top, low: bottom * bottom };
    let cross = top * bottom;
    // Twice the product of the halves, times 2^64.
    squared.add(Squares { high: cross >> (HALF - 1), low: cross << (HALF + 1) });
    squared
}
