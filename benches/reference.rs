//! Hand-written single-threaded loops for W1, W2 and W3: the same numbers, in-order input only, no engine around them.
//!
//! Plain, but not slow: a fast hash, per key one buffer of narrow entries that drops what no window reaches any more.

use std::collections::VecDeque;

use hashbrown::HashMap;

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

/// Event time and a number.
type Entry = (i64, i64);

/// Running sums of nested windows over one buffer.
#[derive(Default)]
struct Past {
    entries: Vec<Entry>,
    starts: [u32; 3],
    ends: [u32; 3],
    counts: [i64; 3],
    sums: [i64; 3],
}

impl Past {
    /// Moves a window to `(from, to]`.
    fn slide(&mut self, window: usize, from: i64, to: i64) {
        let (mut start, mut end) = (self.starts[window] as usize, self.ends[window] as usize);
        while end < self.entries.len() && self.entries[end].0 <= to {
            self.counts[window] += 1;
            self.sums[window] += self.entries[end].1;
            end += 1;
        }
        while start < end && self.entries[start].0 <= from {
            self.counts[window] -= 1;
            self.sums[window] -= self.entries[start].1;
            start += 1;
        }
        (self.starts[window], self.ends[window]) = (start as u32, end as u32);
    }

    /// Drops what is behind the longest window, once that is half of the buffer.
    fn trim(&mut self) {
        let dead = self.starts[2] as usize;
        if self.entries.len() == self.entries.capacity() && dead * 2 >= self.entries.len() {
            self.entries.drain(..dead);
            self.starts = self.starts.map(|row| row - dead as u32);
            self.ends = self.ends.map(|row| row - dead as u32);
        }
    }
}

/// W1: twelve numbers per transaction. Returns a checksum.
pub fn w1(payments: &[Payment]) -> f64 {
    let (mut customers, mut terminals): (HashMap<u64, Past>, HashMap<u64, Past>) = Default::default();
    let mut check = 0.0;
    for payment in payments {
        let past = customers.entry(payment.customer).or_default();
        past.trim();
        past.entries.push((payment.time, payment.cents));
        for (window, days) in [1, 7, 30].into_iter().enumerate() {
            past.slide(window, payment.time - days * DAY_MS, payment.time);
            check += past.counts[window] as f64 + past.sums[window] as f64 / (past.counts[window] as f64 * 100.0);
        }
        let past = terminals.entry(payment.terminal).or_default();
        past.trim();
        past.entries.push((payment.time, i64::from(payment.fraud)));
        let known = payment.time - 7 * DAY_MS;
        for (window, days) in [1, 7, 30].into_iter().enumerate() {
            past.slide(window, known - days * DAY_MS, known);
            let count = past.counts[window] as f64;
            check += count + if count > 0.0 { past.sums[window] as f64 / count } else { 0.0 };
        }
    }
    check
}

const WINDOWS_MS: [i64; 4] = [DAY_MS / 24, DAY_MS, 7 * DAY_MS, 30 * DAY_MS];

/// The entries of a key; every window is read from the newest entry back.
#[derive(Default)]
struct Profile {
    entries: Vec<Entry>,
}

impl Profile {
    fn add(&mut self, time: i64, cents: i64) -> f64 {
        if self.entries.len() == self.entries.capacity() {
            let dead = self.entries.partition_point(|entry| entry.0 <= time - WINDOWS_MS[3]);
            if dead * 2 >= self.entries.len() {
                self.entries.drain(..dead);
            }
        }
        self.entries.push((time, cents));
        let mut rest = self.entries.iter().rev().peekable();
        let (mut count, mut sum, mut squares) = (0i64, 0i64, 0i128);
        let (mut smallest, mut largest, mut check) = (i64::MAX, i64::MIN, 0.0);
        for length in WINDOWS_MS {
            let mut part = 0u64;
            while let Some(&(_, cents)) = rest.next_if(|entry| entry.0 > time - length) {
                count += 1;
                sum += cents;
                part += cents.unsigned_abs().pow(2);
                (smallest, largest) = (smallest.min(cents), largest.max(cents));
            }
            squares += i128::from(part);
            let spread = i128::from(count) * squares - i128::from(sum) * i128::from(sum);
            check += count as f64 + sum as f64 / 100.0 + sum as f64 / (count as f64 * 100.0);
            check += (spread as f64).sqrt() / (count as f64 * 100.0);
            check += smallest as f64 / 100.0 + largest as f64 / 100.0;
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

/// A transaction of W3: device, ip and card of an account.
#[derive(Clone, Copy)]
pub struct Sighting {
    pub id: i64,
    pub time_s: i64,
    pub account: i64,
    pub values: [i64; 3],
}

/// How long a link lives, and how many accounts a value may link.
const LIFE_S: i64 = 30 * DAY_MS / 1000;
const CAP: usize = 50;

/// An account (kind 0) or another value, with its live links.
#[derive(Default)]
struct Node {
    kind: u8,
    links: Vec<u32>,
    /// The transaction whose walk has seen it last.
    walk: u32,
}

struct Link {
    last_s: i64,
    ends: [u32; 2],
}

/// W3: accounts per cluster, by a walk from each transaction's account. Returns a checksum.
pub fn w3(rows: &[Sighting]) -> u64 {
    let mut numbers: HashMap<(u8, i64), u32> = HashMap::new();
    let mut by_ends: HashMap<[u32; 2], u32> = HashMap::new();
    let mut nodes: Vec<Node> = Vec::new();
    let mut links: Vec<Link> = Vec::new();
    let mut due: VecDeque<(i64, u32)> = VecDeque::new();
    let (mut free, mut seen, mut check) = (Vec::new(), Vec::new(), 0u64);
    for (walk, row) in (1u32..).zip(rows) {
        while let Some((last_s, link)) = due.front().copied().filter(|(last_s, _)| *last_s <= row.time_s - LIFE_S) {
            due.pop_front();
            let Link { last_s: latest_s, ends } = links[link as usize];
            if last_s == latest_s {
                by_ends.remove(&ends);
                for end in ends {
                    let of_end = &mut nodes[end as usize].links;
                    of_end.iter().position(|other| *other == link).map(|at| of_end.swap_remove(at));
                }
                links[link as usize].last_s = i64::MIN;
                free.push(link);
            }
        }
        let mut node = |kind: u8, value: i64| {
            *numbers.entry((kind, value)).or_insert_with(|| {
                nodes.push(Node { kind, ..Node::default() });
                nodes.len() as u32 - 1
            })
        };
        let account = node(0, row.account);
        let values = [node(1, row.values[0]), node(2, row.values[1]), node(3, row.values[2])];
        for value in values {
            let ends = [account, value];
            let link = *by_ends.entry(ends).or_insert_with(|| {
                let link = free.pop().unwrap_or(links.len() as u32);
                if link as usize == links.len() {
                    links.push(Link { last_s: row.time_s, ends });
                }
                links[link as usize].ends = ends;
                ends.into_iter().for_each(|end| nodes[end as usize].links.push(link));
                link
            });
            links[link as usize].last_s = row.time_s;
            due.push_back((row.time_s, link));
        }
        seen.clear();
        seen.push(account);
        nodes[account as usize].walk = walk;
        let (mut next, mut accounts) = (0, 0);
        while let Some(&at) = seen.get(next) {
            next += 1;
            let is_account = nodes[at as usize].kind == 0;
            accounts += u64::from(is_account);
            if !is_account && nodes[at as usize].links.len() > CAP {
                continue;
            }
            for index in 0..nodes[at as usize].links.len() {
                let end = links[nodes[at as usize].links[index] as usize].ends[usize::from(is_account)];
                let end_node = &mut nodes[end as usize];
                if end_node.walk != walk {
                    end_node.walk = walk;
                    seen.push(end);
                }
            }
        }
        check = check.wrapping_mul(31).wrapping_add(accounts);
    }
    check
}
