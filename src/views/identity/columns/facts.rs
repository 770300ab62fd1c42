//! What is known of a value, and of a cluster: integers that add up in any order.

use serde::{Deserialize, Serialize};

use super::super::graph::{Part, Total};
use super::super::links::ACCOUNT;
use super::tally::TALLIES_MAX;

/// Kinds of values at most, the account among them.
pub const KINDS_MAX: usize = 8;
/// Spans of recent time that payments are counted over, milliseconds: 24 hours, 7 and 30 days.
pub const SPANS_MS: [i64; 3] = [86_400_000, 7 * 86_400_000, 30 * 86_400_000];

/// What a vertex of the link graph carries: [`ValueFacts`], the same with tallies ([`super::tallied::Tallied`]), or [`Bare`] where
/// nothing but the number of members is asked for.
pub trait Member: Part<Total: Into<ClusterFacts>> + Send + Sync {
    /// Keeps of the facts what it has room for.
    fn of(facts: &ValueFacts) -> Self;

    /// The facts, with defaults for what is not kept.
    fn facts(&self) -> ValueFacts;

    /// Whether it keeps when it was first seen, and payments.
    fn keeps_facts() -> bool {
        true
    }

    /// Takes other facts in their place, and keeps the rest.
    fn know(&mut self, facts: &ValueFacts) {
        *self = Self::of(facts);
    }

    /// Takes what the events of an account add up to, if it has room for that.
    fn tally(&mut self, _tallies: &Tallies) {}

    /// What the events of a cluster add up to.
    fn tallies(_total: &Self::Total) -> Tallies {
        Tallies::default()
    }
}

/// Payments and their sum, in minor units: how many and how much in one number of 128 bits, which adds up and is taken away
/// as a whole. The sum has the low 88 bits, the count the rest, so that a sum is exact as long as there are fewer than
/// 2^24 payments of the largest amount there is, and needs no more room than 64 bits beside the count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(C, packed(8))]
pub struct Payments(i128);

/// Bits of a sum, with its sign.
const SUM_BITS: u32 = 88;

impl Payments {
    /// So many, and how much.
    pub fn new(count: i64, sum: i64) -> Self {
        Payments((i128::from(count) << SUM_BITS) + i128::from(sum))
    }

    /// How many.
    pub fn count(self) -> i64 {
        ((self.0 - self.sum()) >> SUM_BITS) as i64
    }

    /// How much.
    pub fn sum(self) -> i128 {
        const REST: u32 = i128::BITS - SUM_BITS;
        self.0 << REST >> REST
    }

    /// Adds payments, or takes them away (negative ones).
    #[inline]
    pub fn add(&mut self, other: Payments) {
        self.0 = self.0.wrapping_add(other.0);
    }

    /// The same with the opposite sign.
    #[inline]
    pub fn negated(self) -> Payments {
        Payments(self.0.wrapping_neg())
    }
}

/// Events and the sum of their amounts, by tally.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tallies([Payments; TALLIES_MAX]);

impl Tallies {
    /// What one tally has come to.
    pub fn of(&self, place: usize) -> Payments {
        self.0[place]
    }

    /// Adds events to one tally, or takes them away (negative ones).
    pub fn add_one(&mut self, place: usize, events: Payments) {
        self.0[place].add(events);
    }

    /// Adds each tally to its own.
    pub fn add(&mut self, other: &Tallies) {
        self.0.iter_mut().zip(other.0).for_each(|(own, more)| own.add(more));
    }

    /// Takes each tally away from its own.
    pub fn subtract(&mut self, other: &Tallies) {
        self.0.iter_mut().zip(other.0).for_each(|(own, less)| own.add(less.negated()));
    }
}

/// What is known of one value. The default is nobody. Most values are no accounts: of those only what comes first is set, and
/// read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct ValueFacts {
    /// Its kind, counted from 1.
    pub kind: u8,
    /// 1 while it was first seen less than 24 hours ago.
    pub fresh: u8,
    /// Known frauds of an account.
    pub frauds: u32,
    /// When its first live link was seen, milliseconds.
    pub first_seen_ms: i64,
    /// When the last of them became known, milliseconds.
    pub fraud_last_ms: i64,
    /// Payments of an account since it was first seen.
    pub payments: Payments,
    /// Payments in each of [`SPANS_MS`].
    pub recent: [Payments; 3],
}

/// What is known of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterFacts {
    /// Members by kind, the account first.
    pub members: [u32; KINDS_MAX],
    /// Members first seen less than 24 hours ago.
    pub fresh: u32,
    /// Known frauds of its members.
    pub frauds: u32,
    /// Members with a known fraud.
    pub fraud_members: u32,
    /// When the last fraud became known, milliseconds; `i64::MIN` without one.
    pub fraud_last_ms: i64,
    /// When its oldest member was first seen, milliseconds; `i64::MAX` without members.
    pub first_seen_ms: i64,
    /// Payments of its members since they were first seen.
    pub payments: Payments,
    /// Payments of its members in each of [`SPANS_MS`].
    pub recent: [Payments; 3],
}

impl Default for ClusterFacts {
    fn default() -> Self {
        ClusterFacts {
            members: [0; KINDS_MAX],
            fresh: 0,
            frauds: 0,
            fraud_members: 0,
            fraud_last_ms: i64::MIN,
            first_seen_ms: i64::MAX,
            payments: Payments::default(),
            recent: Default::default(),
        }
    }
}

impl Part for ValueFacts {
    type Total = ClusterFacts;

    fn add_to(&self, total: &mut ClusterFacts) {
        if self.kind == 0 {
            return;
        }
        total.members[self.kind as usize - 1] += 1;
        total.fresh += u32::from(self.fresh);
        total.first_seen_ms = total.first_seen_ms.min(self.first_seen_ms);
        if !self.is_account() {
            return;
        }
        if self.frauds > 0 {
            total.frauds += self.frauds;
            total.fraud_members += 1;
            total.fraud_last_ms = total.fraud_last_ms.max(self.fraud_last_ms);
        }
        total.payments.add(self.payments);
        total.recent.iter_mut().zip(self.recent).for_each(|(payments, more)| payments.add(more));
    }

    fn is_account(&self) -> bool {
        self.kind == ACCOUNT + 1
    }

    fn is_sought(&self) -> bool {
        self.frauds > 0
    }
}

impl Total for ClusterFacts {
    fn add(&mut self, other: &Self) {
        self.members.iter_mut().zip(other.members).for_each(|(count, more)| *count += more);
        self.fresh += other.fresh;
        self.frauds += other.frauds;
        self.fraud_members += other.fraud_members;
        self.fraud_last_ms = self.fraud_last_ms.max(other.fraud_last_ms);
        self.first_seen_ms = self.first_seen_ms.min(other.first_seen_ms);
        self.payments.add(other.payments);
        self.recent.iter_mut().zip(other.recent).for_each(|(payments, more)| payments.add(more));
    }

    fn subtract(&mut self, other: &Self) -> bool {
        self.members.iter_mut().zip(other.members).for_each(|(count, less)| *count -= less);
        self.fresh -= other.fresh;
        self.frauds -= other.frauds;
        self.fraud_members -= other.fraud_members;
        self.payments.add(other.payments.negated());
        self.recent.iter_mut().zip(other.recent).for_each(|(payments, less)| payments.add(less.negated()));
        self.first_seen_ms < other.first_seen_ms && (self.fraud_last_ms > other.fraud_last_ms || other.frauds == 0)
    }

    fn replace(&mut self, before: &Self, after: &Self) -> bool {
        let known = self.subtract(before);
        self.add(after);
        known || (after.first_seen_ms <= before.first_seen_ms && after.fraud_last_ms >= before.fraud_last_ms)
    }
}

impl Member for ValueFacts {
    fn of(facts: &ValueFacts) -> Self {
        *facts
    }

    fn facts(&self) -> ValueFacts {
        *self
    }
}

/// Whether a value is an account, and nothing else: a vertex of a quarter of the size, without totals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bare {
    account: bool,
}

impl Part for Bare {
    type Total = ();

    fn add_to(&self, (): &mut ()) {}

    fn is_account(&self) -> bool {
        self.account
    }
}

impl Total for () {
    fn add(&mut self, (): &()) {}

    fn subtract(&mut self, (): &()) -> bool {
        true
    }
}

impl Member for Bare {
    fn of(facts: &ValueFacts) -> Self {
        Bare { account: facts.is_account() }
    }

    fn facts(&self) -> ValueFacts {
        ValueFacts { kind: u8::from(self.account), ..ValueFacts::default() }
    }

    fn keeps_facts() -> bool {
        false
    }
}

impl From<()> for ClusterFacts {
    fn from((): ()) -> Self {
        ClusterFacts::default()
    }
}
