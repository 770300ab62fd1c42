//! Which cards are being tried out before they are used?
//!
//! Somebody who bought stolen card numbers tries each with small payments, and then uses those that work. This dataflow is
//! one event pattern (see `patterns.toml` for all of them): at least five small tries, then a large payment that is approved,
//! within 30 minutes. It emits one record per match: the id of the large payment, and [`Tested`]. A try that comes late can
//! make a match, one that is withdrawn takes it back. Its features, `pattern_card_testing_now` and
//! `pattern_card_testing_count_24h`, are those of each payment's row.

use std::collections::BTreeMap;

use deltawatch::dataflow::prelude::*;
use serde::Serialize;

/// What is emitted for each match. Every try begins one, if enough others and the large payment follow it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, serde::Deserialize)]
struct Tested {
    /// When the first try was, milliseconds.
    started_ms: i64,
    /// When the large payment was, milliseconds.
    completed_ms: i64,
    /// Tries and the payment.
    events: u32,
}

/// The dataflow.
pub struct CardTesting;

const WITHIN_MS: i64 = 30 * 60_000;
const TRIES: usize = 5;

impl CardTesting {
    /// The pattern, from the file of all patterns.
    fn patterns() -> Result<Patterns, BuildError> {
        let all = Patterns::parse(include_str!("patterns.toml")).map_err(|error| BuildError(error.to_string()))?;
        Ok(all.only(&["card_testing"]))
    }
}

impl Dataflow for CardTesting {
    fn name(&self) -> &'static str {
        "card_testing"
    }

    fn about(&self) -> &'static str {
        "Which cards are being tried out before they are used? One event pattern, its matches and features."
    }

    fn schema(&self) -> &'static str {
        include_str!("payments.toml")
    }

    fn features(&self, _setup: &Setup) -> Result<FeatureSet, BuildError> {
        Ok(FeatureSet::new().family(Self::patterns()?))
    }

    fn build(&self, context: &mut Context<'_>) -> Result<(), BuildError> {
        let features = context.features()?;
        let ids = context.schema().id_type();
        let tested = context.matches().map(move |one| {
            let payment = one.ids.last().map(|id| id.written(ids)).unwrap_or_default();
            let (started_ms, completed_ms) = (one.started_ms, one.completed_ms);
            (payment, Tested { started_ms, completed_ms, events: one.events })
        });
        context.output("tested_cards", tested);
        context.score(&features)
    }

    // The same from scratch: for every try, the first large payment after it with enough tries before.
    fn oracle(&self, setup: &Setup, events: &[Event]) -> Vec<(String, String)> {
        let slots = ["card", "outcome", "amount"].map(|name| setup.schema.slot(name));
        let [Some(card), Some(outcome), Some(amount)] = slots else { return Vec::new() };
        let mut by_card: BTreeMap<&str, Vec<&Event>> = BTreeMap::new();
        for event in events.iter().filter(|event| Some(event.kind) == setup.schema.kind("payment")) {
            if let Some(card) = event.text(card) {
                by_card.entry(card).or_default().push(event);
            }
        }
        let cents =
            |event: &Event, least: i64, most: i64| event.int(amount).is_some_and(|x| (least..=most).contains(&x));
        let is_try = |event: &Event| {
            cents(event, i64::MIN, 100) || event.text(outcome) == Some("declined") && cents(event, i64::MIN, 500)
        };
        let is_large = |event: &Event| event.text(outcome) == Some("approved") && cents(event, 10_000, i64::MAX);
        let mut tested = Vec::new();
        for of_card in by_card.values_mut() {
            of_card.sort_by_key(|event| (event.time, event.id));
            for (start, first) in of_card.iter().enumerate().filter(|(_, event)| is_try(event)) {
                let tries = |end: usize| of_card[start..end].iter().filter(|event| is_try(event)).count();
                let in_time = |event: &Event| event.time - first.time < WITHIN_MS;
                let end = (start..of_card.len())
                    .find(|&end| is_large(of_card[end]) && in_time(of_card[end]) && tries(end) >= TRIES);
                if let Some(end) = end {
                    let last = of_card[end];
                    let (started_ms, completed_ms, events) = (first.time, last.time, tries(end) as u32 + 1);
                    let json = serde_json::to_string(&Tested { started_ms, completed_ms, events }).unwrap_or_default();
                    tested.push((last.id_text(&setup.schema), json));
                }
            }
        }
        tested.sort();
        tested
    }
}
