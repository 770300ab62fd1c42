//! Which cards are drained after they were used where many cards are used?
//!
//! Card numbers that were stolen together are tried on one device. This dataflow is one event pattern with conditions on
//! velocity features, of another key than its own (the device), and across its steps: a payment on a device that has seen three
//! cards in the hour before, then, within an hour, one of at least the card's mean, before which the card has spent at least
//! twice what it had before the first. Features are as of each payment; a late, corrected or withdrawn payment that
//! changes one makes matches or takes them back.
//!
//! It emits one record per match: the id of the last payment, and [`Drained`].

use std::collections::BTreeSet;

use deltawatch::dataflow::prelude::*;
use serde::Serialize;

/// The pattern. Amounts are in units of the currency, features as `dataflow describe` lists them.
const PATTERN: &str = r#"
[[pattern]]
name = "drained"
key = "card"
within = "1h"
[pattern.events.shared]
kind = "payment"
where = ["feature(device_distinct_card_1h) >= 3"]
[pattern.events.large]
kind = "payment"
where = ["amount >= feature(card_amount_mean_24h)"]
[[pattern.step]]
event = "shared"
[[pattern.step]]
event = "large"
where = ["feature(card_amount_sum_24h) >= 2 * shared.feature(card_amount_sum_24h)"]
"#;

/// What is emitted for each match.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, serde::Deserialize)]
struct Drained {
    /// When the card was used on the shared device, milliseconds.
    started_ms: i64,
    /// When the large payment was, milliseconds.
    completed_ms: i64,
}

/// The dataflow.
pub struct DrainedCards;

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

impl Dataflow for DrainedCards {
    fn name(&self) -> &'static str {
        "drained_cards"
    }

    fn about(&self) -> &'static str {
        "Which cards are drained after they were used where many are used? An event pattern over velocity features."
    }

    fn schema(&self) -> &'static str {
        include_str!("payments.toml")
    }

    fn features(&self, _setup: &Setup) -> Result<FeatureSet, BuildError> {
        Ok(FeatureSet::new()
            .velocity(Velocity::of("card", &["card"]).over(&[Window::days(1)]).sum("amount").mean("amount"))
            .velocity(Velocity::of("device", &["device"]).over(&[Window::hours(1)]).distinct("card"))
            .family(Patterns::parse(PATTERN).map_err(|error| BuildError(error.to_string()))?))
    }

    fn build(&self, context: &mut Context<'_>) -> Result<(), BuildError> {
        let features = context.features()?;
        let ids = context.schema().id_type();
        let drained = context.matches().map(move |one| {
            let payment = one.ids.last().map(|id| id.written(ids)).unwrap_or_default();
            (payment, Drained { started_ms: one.started_ms, completed_ms: one.completed_ms })
        });
        context.output("drained_cards", drained);
        context.score(&features)
    }

    // The same from scratch: every feature by looking at all payments.
    fn oracle(&self, setup: &Setup, events: &[Event]) -> Vec<(String, String)> {
        let slots = ["card", "device", "amount"].map(|name| setup.schema.slot(name));
        let [Some(card), Some(device), Some(amount)] = slots else { return Vec::new() };
        let mut payments: Vec<&Event> =
            events.iter().filter(|event| Some(event.kind) == setup.schema.kind("payment")).collect();
        payments.sort_by_key(|event| (event.time, event.id));
        // Sum in cents, and number, of what the card has paid in the day before.
        let spent = |at: usize| {
            let now = payments[at];
            let day =
                payments[..at].iter().filter(|one| one.time > now.time - DAY_MS && one.text(card) == now.text(card));
            day.filter_map(|one| one.int(amount)).fold((0, 0), |(sum, count), cents| (sum + cents, count + 1))
        };
        let cards = |at: usize| {
            let (now, Some(name)) = (payments[at], payments[at].text(device)) else { return 0 };
            let hour =
                payments[..at].iter().filter(|one| one.time > now.time - HOUR_MS && one.text(device) == Some(name));
            hour.filter_map(|one| one.text(card)).collect::<BTreeSet<_>>().len()
        };
        let is_large = |at: usize| {
            let (sum, count) = spent(at);
            count > 0 && payments[at].int(amount).is_some_and(|cents| cents * count >= sum)
        };
        let mut drained = Vec::new();
        for start in (0..payments.len()).filter(|&at| payments[at].text(card).is_some() && cards(at) >= 3) {
            let first = payments[start];
            let later = (start + 1..payments.len()).filter(|&at| payments[at].text(card) == first.text(card));
            let mut in_time = later.take_while(|&at| payments[at].time - first.time < HOUR_MS);
            if let Some(end) = in_time.find(|&at| is_large(at) && spent(at).0 >= 2 * spent(start).0) {
                let (started_ms, completed_ms) = (first.time, payments[end].time);
                let json = serde_json::to_string(&Drained { started_ms, completed_ms }).unwrap_or_default();
                drained.push((payments[end].id_text(&setup.schema), json));
            }
        }
        drained.sort();
        drained
    }
}
