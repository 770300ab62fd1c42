//! Random numbers that are the same on every platform.
//!
//! ChaCha is fixed by its definition; the rest uses only operations that IEEE 754 rounds correctly (no libm), so a seed
//! means the same stream everywhere.

use std::f64::consts::{LN_2, LOG2_E};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// A stream of random numbers.
#[derive(Clone, Debug)]
pub(super) struct Random(ChaCha8Rng);

impl Random {
    /// Streams of one seed are independent of each other.
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut key = [0u8; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..19].copy_from_slice(b"deltawatch1");
        let mut rng = ChaCha8Rng::from_seed(key);
        rng.set_stream(stream);
        Random(rng)
    }

    /// Uniform in `[0, 1)`.
    pub fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in `[0, n)`; 0 if `n` is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.0.next_u64()) * u128::from(n)) >> 64) as u64
    }

    /// Uniform in `[from, to]`.
    pub fn between(&mut self, from: i64, to: i64) -> i64 {
        from + self.below((to - from).max(0) as u64 + 1) as i64
    }

    /// True with this probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Nearly normal, mean 0 and deviation 1, within ±3.5: the sum of four uniform numbers.
    pub fn normal(&mut self) -> f64 {
        let bits = self.0.next_u64();
        let sum = (bits & 0xffff) + (bits >> 16 & 0xffff) + (bits >> 32 & 0xffff) + (bits >> 48);
        (sum as f64 / 65536.0 - 2.0) * 1.732_050_807_568_877_2
    }

    /// Exponential with mean 1.
    pub fn exponential(&mut self) -> f64 {
        -ln(1.0 - self.unit())
    }

    /// Log-normal with median 1.
    pub fn log_normal(&mut self, sigma: f64) -> f64 {
        let normal = self.normal();
        exp(sigma * normal)
    }
}

/// Natural logarithm of a positive normal number, to about 1e-12.
fn ln(x: f64) -> f64 {
    let bits = x.to_bits();
    let exponent = (bits >> 52) as i64 - 1023;
    let mantissa = f64::from_bits(bits & ((1 << 52) - 1) | 1023 << 52);
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let square = s * s;
    let series = (0..12).rev().fold(0.0, |sum, k| sum * square + 1.0 / (2 * k + 1) as f64);
    exponent as f64 * LN_2 + 2.0 * s * series
}

/// The exponential of a number within ±700, to about 1e-13.
fn exp(x: f64) -> f64 {
    let whole = (x * LOG2_E).round();
    let rest = x - whole * LN_2;
    let series = (1..14).rev().fold(1.0, |sum, k| 1.0 + sum * rest / k as f64);
    series * f64::from_bits(((whole as i64 + 1023) as u64) << 52)
}
