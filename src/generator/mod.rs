//! The generator: payments, refunds, logins, account changes and labels, the same for the same seed on every platform.
//!
//! ```text
//! population ──> behaviour (sessions) ──┐
//!            ├─> campaigns (fraud) ─────┼─> schedule ──> stream ──> build ──> Event
//!            └─> plants (patterns) ─────┘   event time     arrival    schema
//! ```
//!
//! In: a [`GeneratorConfig`]. Out: an endless sequence of [`Generated`] records in order of arrival, each with the truth
//! that no scorer may see. What holds:
//!
//! * Same configuration and schema, same records, byte by byte: ChaCha for chance, no libm, no hash order, no clock.
//! * Without late, duplicated, corrected or withdrawn records, event times never fall. The shares of those change what
//!   arrives, not what happens.
//! * A label arrives when it becomes available, after its target; a correction, repeat or withdrawal after its original.
//! * Every fraud pattern has honest look-alikes ([`HardNegative`]).
//! * Of each of the fourteen event patterns, instances are planted that satisfy its default parameters for certain, and hard
//!   negatives that miss it by one condition ([`Planted`], [`instances`]). Nothing else happens to their keys, and none of
//!   their events is corrected or withdrawn. Pattern 14 is about orders that are not paid on delivery; it counts as
//!   satisfied if the order is paid and delivered or returned in time. Patterns 5, 7, 9 and 13 are also planted across the
//!   accounts of an identity cluster, none of which reaches a limit alone.
//! * What takes days (labels, refunds, rings) takes less at rates above about 23 events per second of event time, so that
//!   what is pending stays at a few million records at most ([`GeneratorConfig::slow_day_ms`]).
//!
//! The kinds of events, and the fields of `dataflows/payments.toml` that they have. Those marked * also have who acts and from
//! where: `account` (the payer), `device`, `ip`, `ip24`, `email`, `phone`, `country`.
//!
//! | kind | means | fields |
//! | --- | --- | --- |
//! | `payment` * | an attempt to pay a merchant, or a transfer (`channel` = transfer) from `account` to `payee` | `card`, `bin`, `card_country`, `address`, `merchant`, `merchant_category`, `payee`, `amount`, `currency`, `channel`, `outcome` (approved, declined, blocked), `lat`, `lon`, `recurring`, `cross_border`, `payment_handle`; `order` if it pays for one |
//! | `refund` * | money back | as a payment: `card` that paid; `refund_of` (id of the payment), `refund_to` (card that gets the money), `amount` |
//! | `dispute` * | the holder of `card` does not accept a payment | `card`, `merchant`, `amount`, `refund_of` |
//! | `login` * | `login_ok` true or false | `outcome` (approved, declined), `lat`, `lon` |
//! | `account_change` * | credentials or contact data change | `change` (password, email, phone, address) |
//! | `account_created` * | `account` is opened | `address` |
//! | `card_added` * | `card` is added to `account` | `card`, `bin`, `card_country` |
//! | `travel_notice` * | the holder of `card` says that he travels: from here on it may be anywhere | `card`, `bin`, `card_country`; `country` is where to |
//! | `order_created` * | an order is placed; payments with the same `order` are attempts to pay for it | `order`, `merchant`, `amount`, `address`, `cash_on_delivery` |
//! | `order_delivered` *, `order_returned` * | how it ended: delivered, or back at its origin | the same |
//! | `merchant_created` | a merchant opens | `merchant`, `merchant_category`, `country` |
//! | `label` | what became known of a payment | `target`, `fraud`, `available_at` |
//!
//! Only payments and logins are located (`lat`, `lon`).
//!
//! Cost: about 1.2 µs per record on one core, 0.7 µs for a record that a reader skips; the population takes about 100 bytes
//! per customer and 0.3 µs to draw each.

mod behaviour;
mod build;
mod campaigns;
mod draft;
mod encode;
mod planted;
mod plants;
mod population;
mod random;
mod reader;
mod schedule;
mod stream;

use std::sync::Arc;

use self::build::Build;
use self::stream::EventStream;
use crate::event::{Event, Partition, Schema};
use crate::source::SourceError;

pub use draft::{FutureLabel, HardNegative, Pattern, Truth};
pub use encode::{label_line, truth_line};
pub use planted::{Instance, Planted, instances};
pub use reader::GeneratorSource;

/// Partitions of the generator as a source. A record belongs to partition `number % PARTITIONS`, so what is said of one
/// event (repeats, corrections, its label) stays in one partition and in order.
pub const PARTITIONS: Partition = 4;

/// What happens in a day but is pending at most: above it days are shortened.
const PER_DAY_MAX: f64 = 2_000_000.0;
/// The most customers and merchants: about 100 bytes each.
const CUSTOMERS_MAX: u32 = 100_000_000;
const MERCHANTS_MAX: u32 = 10_000_000;
/// The year 2200.
const START_MS_MAX: i64 = 7_258_118_400_000;

/// What to generate. Shares are between 0 and 1.
#[derive(Clone, Debug, PartialEq)]
pub struct GeneratorConfig {
    /// Decides everything that is left to chance.
    pub seed: u64,
    /// Records per second of event time, on average over a long stream.
    pub rate_per_s: f64,
    /// Event time of the first event, milliseconds UTC.
    pub start_ms: i64,
    /// Honest customers, at least 1.
    pub customers: u32,
    /// Honest merchants, at least 8.
    pub merchants: u32,
    /// Share of fraud among payments, below 0.5.
    pub fraud_share: f64,
    /// Share of events that belong to planted instances of the fourteen event patterns, or to hard negatives of them; below
    /// 1. Without fraud (`fraud_share` 0) only what is honest is planted.
    pub pattern_share: f64,
    /// Share of honest payments that get a label; 90 % of fraud does.
    pub label_share: f64,
    /// Share of events that arrive late.
    pub late_share: f64,
    /// How late at most, milliseconds of event time.
    pub late_ms_max: i64,
    /// Share of events that are sent twice.
    pub duplicate_share: f64,
    /// Share of payments that are corrected.
    pub correction_share: f64,
    /// Share of payments that are withdrawn (honest ones only).
    pub withdrawal_share: f64,
}

impl Default for GeneratorConfig {
    fn default() -> Self {
        GeneratorConfig {
            seed: 1,
            rate_per_s: 5.0,
            // 2024-04-01T00:00:00Z, a Monday.
            start_ms: 1_711_929_600_000,
            customers: 30_000,
            merchants: 2_000,
            fraud_share: 0.01,
            pattern_share: 0.002,
            label_share: 0.05,
            late_share: 0.01,
            late_ms_max: 600_000,
            duplicate_share: 0.002,
            correction_share: 0.002,
            withdrawal_share: 0.001,
        }
    }
}

impl GeneratorConfig {
    /// The same with every record in order and sent once.
    pub fn in_order(self) -> Self {
        GeneratorConfig { late_share: 0.0, duplicate_share: 0.0, correction_share: 0.0, withdrawal_share: 0.0, ..self }
    }

    /// How long a day is for labels, refunds, trips and rings, milliseconds: shorter at high rates, at least one second.
    pub fn slow_day_ms(&self) -> i64 {
        const DAY_S: f64 = 86_400.0;
        ((1_000.0 * DAY_S * (PER_DAY_MAX / (self.rate_per_s * DAY_S)).min(1.0)) as i64).max(1_000)
    }

    fn check(&self) -> Result<(), SourceError> {
        let refuse = |what: &str| Err(SourceError::User(format!("generator: {what}")));
        let shares = [self.late_share, self.duplicate_share, self.correction_share, self.withdrawal_share];
        if !(0.001..=1e8).contains(&self.rate_per_s) {
            return refuse("the rate must be between 0.001 and 100 million events per second");
        }
        if !(0..=START_MS_MAX).contains(&self.start_ms) {
            return refuse("the start must be between 1970 and 2200, in milliseconds UTC");
        }
        if !(1..=CUSTOMERS_MAX).contains(&self.customers) {
            return refuse("customers must be between 1 and 100 million");
        }
        if !(population::COUNTRIES.len() as u32..=MERCHANTS_MAX).contains(&self.merchants) {
            return refuse("merchants must be between 8 and 10 million");
        }
        if !(0.0..0.5).contains(&self.fraud_share) || !(0.0..=1.0).contains(&self.label_share) {
            return refuse("fraud_share must be in [0, 0.5) and label_share in [0, 1]");
        }
        if !(0.0..1.0).contains(&self.pattern_share) {
            return refuse("pattern_share must be in [0, 1)");
        }
        if shares.iter().any(|share| !(0.0..=1.0).contains(share)) || shares.iter().sum::<f64>() > 1.0 {
            return refuse(
                "the shares of late, duplicated, corrected and withdrawn must be in [0, 1], together at most 1",
            );
        }
        if !(0..=30 * behaviour::DAY_MS).contains(&self.late_ms_max) {
            return refuse("late_ms_max must be between 0 and 30 days");
        }
        Ok(())
    }
}

/// One record with what is known about it behind the scenes.
#[derive(Clone, Debug, PartialEq)]
pub struct Generated {
    /// The record.
    pub event: Event,
    /// The number of the event; a label has that of its target.
    pub number: u64,
    /// Whether this is the first record of its event: no repeat, correction, withdrawal.
    pub first: bool,
    /// Of a payment, the label it is going to get; of a label, what it says.
    pub label: Option<FutureLabel>,
    /// What is really behind it.
    pub truth: Truth,
}

impl Generated {
    /// The partition it belongs to.
    pub fn partition(&self) -> Partition {
        (self.number % u64::from(PARTITIONS)) as Partition
    }
}

/// An endless iterator of records in order of arrival.
#[derive(Debug)]
pub struct Generator {
    stream: EventStream,
    build: Build,
}

impl Generator {
    /// Draws the population. Fails on a configuration or a schema that cannot be served, with what to change.
    ///
    /// The schema needs text ids and every kind of the table above; of the fields, those it has are filled.
    pub fn new(config: GeneratorConfig, schema: Arc<Schema>) -> Result<Self, SourceError> {
        config.check()?;
        Ok(Generator { build: Build::new(schema)?, stream: EventStream::new(&config) })
    }
}

impl Iterator for Generator {
    type Item = Generated;

    fn next(&mut self) -> Option<Generated> {
        let draft = self.stream.next();
        let event = self.build.event(&draft);
        Some(Generated { event, number: draft.number, first: draft.first, label: draft.label, truth: draft.truth })
    }
}
