//! Every planted instance of a shipped pattern is found by the engine, and no hard negative is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use deltawatch::dataflow::EngineSettings;
use deltawatch::event::{Event, Key, Schema};
use deltawatch::generator::{Planted, instances};
use deltawatch::testkit::{Batching, Harness, Plan};
use deltawatch::views::pattern::Patterns;

use super::flow::{emitted, flow};
use crate::planted::dense;

const SCHEMA: &str = include_str!("../../dataflows/payments.toml");
const PATTERNS: &str = include_str!("../../dataflows/patterns.toml");

/// The shipped patterns that stand for a planted one, and its key as in a match.
fn looked_for(planted: &Planted) -> (&'static [&'static str], Key) {
    let names: &[&str] = match planted.name() {
        "enumeration" => &["enumeration_merchant_bin", "enumeration_ip", "enumeration_device"],
        "account_takeover" => &["takeover"],
        "account_farm" => &["account_farm_device", "account_farm_ip24", "card_farm_device", "card_farm_ip24"],
        "refund_abuse" => &["refund_abuse", "refund_elsewhere"],
        "cash_on_delivery_abuse" => &["cash_on_delivery_abuse_phone", "cash_on_delivery_abuse_address"],
        "card_testing" => &["card_testing"],
        "credential_stuffing" => &["credential_stuffing"],
        "impossible_travel" => &["impossible_travel"],
        "mule" => &["mule"],
        "structuring" => &["structuring"],
        "cycle" => &["cycle"],
        "dormant_awakening" => &["dormant_awakening"],
        "bust_out_merchant" => &["bust_out_merchant"],
        "assembled_order" => &["assembled_order"],
        other => panic!("no shipped pattern stands for '{other}'"),
    };
    let value = planted.key_value();
    let key = match value.split_once('+').filter(|_| planted.key_kind() == "merchant+bin") {
        Some((merchant, bin)) => Key::from_text(merchant).pair(Key::from_text(bin)),
        None => Key::from_text(&value),
    };
    (names, key)
}

#[test]
fn planted_instances_are_found_and_hard_negatives_are_not() {
    let patterns = Patterns::parse(PATTERNS).expect("a file of patterns");
    let (dataflow, setup) = flow(SCHEMA, &patterns);
    let schema = Arc::new(Schema::parse("payments", SCHEMA).expect("the payments schema is valid"));
    let records = dense(schema, 80_000);
    let planted = instances(&records);
    let events: Vec<Event> = records.into_iter().map(|record| record.event).collect();
    let settings = EngineSettings { repair_rows_max: 4096, ..EngineSettings::default() };
    let harness = Harness::new(dataflow, setup).settings(settings).workers(2);
    let outcome = harness.run(&Plan::of(&events, Batching::Fixed(100))).expect("it builds");
    let matched: BTreeSet<(String, String)> = emitted(&outcome)
        .into_iter()
        .map(|(name, one)| (name, one.split(' ').next().unwrap_or_default().to_owned()))
        .collect();
    let mut wrong: BTreeMap<String, usize> = BTreeMap::new();
    let mut found: BTreeMap<(u8, &str), (usize, usize)> = BTreeMap::new();
    // What a cluster does is none of these patterns, whose keys are those of events; `identity::planted` looks there.
    for instance in planted.iter().filter(|instance| instance.planted.key_kind() != "cluster") {
        let (names, key) = looked_for(&instance.planted);
        let hit = names.iter().any(|name| matched.contains(&((*name).to_owned(), format!("{:x}", key.lo))));
        let positive = instance.planted.positive();
        let counts = found.entry((instance.planted.pattern(), instance.planted.name())).or_default();
        *(if positive { &mut counts.0 } else { &mut counts.1 }) += 1;
        if hit != positive {
            let kind = if positive { "missed" } else { "found wrongly" };
            let text = format!("{kind}: {}, {}", instance.planted.name(), instance.planted.variant());
            *wrong.entry(text).or_insert(0) += 1;
        }
    }
    eprintln!("(planted, hard negatives) by pattern: {found:?}");
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(found.len(), 14, "every pattern is planted");
    assert!(found.values().all(|(positive, negative)| *positive > 5 && *negative > 5), "too few: {found:?}");
}
