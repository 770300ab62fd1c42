//! Hand-written single-threaded loops for W1 and W2: the same numbers, in-order input only, no engine around them.

use std::collections::{HashMap, VecDeque};

const DAY_MS: i64 = 86_400_000;

/// A transaction as the loops see it.
#[derive(Clone, Copy)]
pub struct Payment {
    pub time: i64,
    pub customer: u64,
    pub terminal: u64,
    pub cents: i64,
    pub fraud: bool,
}

#[derive(Default)]
struct Past {
    /// Event time, cents, fraud.
    entries: Vec<(i64, i64, bool)>,
    starts: [usize; 3],
    ends: [usize; 3],
    counts: [i64; 3],
    sums: [i64; 3],
}

/// W1: twelve numbers per transaction. Returns a checksum.
pub fn w1(payments: &[Payment]) -> f64 {
    let (mut customers, mut terminals): (HashMap<u64, Past>, HashMap<u64, Past>) = Default::default();
    let mut check = 0.0;
    for payment in payments {
        let past = customers.entry(payment.customer).or_default();
        past.entries.push((payment.time, payment.cents, payment.fraud));
        for (window, days) in [1, 7, 30].into_iter().enumerate() {
            past.counts[window] += 1;
            past.sums[window] += payment.cents;
            while past.entries[past.starts[window]].0 <= payment.time - days * DAY_MS {
                past.counts[window] -= 1;
                past.sums[window] -= past.entries[past.starts[window]].1;
                past.starts[window] += 1;
            }
            check += past.counts[window] as f64 + past.sums[window] as f64 / (past.counts[window] as f64 * 100.0);
        }
        let past = terminals.entry(payment.terminal).or_default();
        past.entries.push((payment.time, payment.cents, payment.fraud));
        let known = payment.time - 7 * DAY_MS;
        for (window, days) in [1, 7, 30].into_iter().enumerate() {
            while past.entries[past.ends[window]].0 <= known {
                past.counts[window] += 1;
                past.sums[window] += i64::from(past.entries[past.ends[window]].2);
                past.ends[window] += 1;
            }
            while past.starts[window] < past.ends[window]
                && past.entries[past.starts[window]].0 <= known - days * DAY_MS
            {
                past.counts[window] -= 1;
                past.sums[window] -= i64::from(past.entries[past.starts[window]].2);
                past.starts[window] += 1;
            }
            let count = past.counts[window] as f64;
            check += count + if count > 0.0 { past.sums[window] as f64 / count } else { 0.0 };
        }
    }
    check
}

#[derive(Default)]
struct Profile {
    entries: Vec<(i64, i64)>,
    starts: [usize; 4],
    counts: [i64; 4],
    sums: [i64; 4],
    squares: [i128; 4],
    smallest: [VecDeque<usize>; 4],
    largest: [VecDeque<usize>; 4],
}

const WINDOWS_MS: [i64; 4] = [DAY_MS / 24, DAY_MS, 7 * DAY_MS, 30 * DAY_MS];

impl Profile {
    fn add(&mut self, time: i64, cents: i64) -> f64 {
        let now = self.entries.len();
        self.entries.push((time, cents));
        let mut check = 0.0;
        for (window, length) in WINDOWS_MS.into_iter().enumerate() {
            self.counts[window] += 1;
            self.sums[window] += cents;
            self.squares[window] += i128::from(cents) * i128::from(cents);
            let (smallest, largest) = (&mut self.smallest[window], &mut self.largest[window]);
            while smallest.back().is_some_and(|&at| self.entries[at].1 >= cents) {
                smallest.pop_back();
            }
            smallest.push_back(now);
            while largest.back().is_some_and(|&at| self.entries[at].1 <= cents) {
                largest.pop_back();
            }
            largest.push_back(now);
            while self.entries[self.starts[window]].0 <= time - length {
                let start = self.starts[window];
                let old = self.entries[start].1;
                self.counts[window] -= 1;
                self.sums[window] -= old;
                self.squares[window] -= i128::from(old) * i128::from(old);
                if smallest.front() == Some(&start) {
                    smallest.pop_front();
                }
                if largest.front() == Some(&start) {
                    largest.pop_front();
                }
                self.starts[window] += 1;
            }
            let (count, sum) = (self.counts[window], self.sums[window]);
            let spread = i128::from(count) * self.squares[window] - i128::from(sum) * i128::from(sum);
            let of = |at: Option<&usize>| at.map_or(0.0, |&at| self.entries[at].1 as f64 / 100.0);
            check += count as f64 + sum as f64 / 100.0 + sum as f64 / (count as f64 * 100.0);
            check += (spread as f64).sqrt() / (count as f64 * 100.0) + of(smallest.front()) + of(largest.front());
        }
        check
    }
}

/// W2: 72 numbers per transaction. Returns a checksum.
pub fn w2(payments: &[Payment]) -> f64 {
    let (mut customers, mut terminals): (HashMap<u64, Profile>, HashMap<u64, Profile>) = Default::default();
    let mut pairs: HashMap<(u64, u64), Profile> = HashMap::new();
    let mut check = 0.0;
    for payment in payments {
        check += customers.entry(payment.customer).or_default().add(payment.time, payment.cents);
        check += terminals.entry(payment.terminal).or_default().add(payment.time, payment.cents);
        check += pairs.entry((payment.customer, payment.terminal)).or_default().add(payment.time, payment.cents);
    }
    check
}
