//! Bytes per retained entry and key kind: the velocity stores of W1, W2 and `payments`, filled as the velocity operator does.

use std::sync::Arc;

use deltawatch::event::{Event, Schema};
use deltawatch::feature::FeatureSet;
use deltawatch::generator::{Generator, GeneratorConfig};
use deltawatch::views::velocity::KeyPlan;
use deltawatch::views::velocity::store::{AMOUNT_MISSING, Entry, Store, VALUE_MISSING};

use crate::drive::setup;
use crate::workloads::transactions;

/// What DESIGN.md allows per retained event and key kind, bytes.
const TARGET_BYTES: f64 = 200.0;
/// Entries are kept for the longest window and this, milliseconds.
const LATE_MS: i64 = 3_600_000;
/// Keys and entries that expiry looks at per event.
const EXPIRE_PER_EVENT: usize = 2;
/// Generated payments: as many, and so far apart, that the longest windows (30 days) are full.
const RECORDS: f64 = 1_500_000.0;
const RECORDS_PER_S: f64 = 0.5;

/// Prints a line per key kind.
pub fn memory(share: f64) {
    for (name, dataflow) in [("W1", crate::dataflow("handbook")), ("W2", crate::dataflow("spend_profile"))] {
        let setup = setup(dataflow);
        let Some(events) = transactions(&setup.schema, share) else { continue };
        let features = dataflow.features(&setup).expect("a shipped dataflow has features");
        kinds(name, &features, &setup.schema, &events);
    }
    let payments = crate::dataflow("payments");
    let setup = setup(payments);
    let schema = setup.schema.clone();
    let config = GeneratorConfig { rate_per_s: RECORDS_PER_S, ..GeneratorConfig::default() }.in_order();
    let records = Generator::new(config, schema.clone()).expect("a valid configuration");
    let events: Vec<Event> = records.take((RECORDS * share) as usize).map(|record| record.event).collect();
    let features = payments.features(&setup).expect("a shipped dataflow has features");
    kinds("payments", &features, &schema, &events);
}

fn kinds(name: &str, features: &FeatureSet, schema: &Schema, events: &[Event]) {
    let (mut bytes, mut entries) = (0, 0);
    for plan in features.plans(schema).expect("a shipped pack fits its schema") {
        let store = filled(&plan, schema, events);
        let stats = store.stats();
        let per_entry = stats.bytes as f64 / stats.entries.max(1) as f64;
        println!(
            "{name:<9} {:<20} {:>8} keys {:>9} entries {per_entry:>7.1} bytes/entry   target {TARGET_BYTES}",
            plan.name, stats.keys, stats.entries
        );
        (bytes, entries) = (bytes + stats.bytes, entries + stats.entries);
    }
    println!(
        "{name:<9} all keys: {:.1} bytes/entry, {:.1} MB",
        bytes as f64 / entries.max(1) as f64,
        bytes as f64 / 1e6
    );
}

fn filled(plan: &Arc<KeyPlan>, schema: &Schema, events: &[Event]) -> Store {
    let mut store = Store::new(plan.clone());
    let (mut amounts, mut values) = (Vec::new(), Vec::new());
    for event in events {
        let (Some(key), scored) = (plan.key_of(event, schema), schema.is_scored(event.kind)) else { continue };
        let mask = plan.mask_of(event, None, schema);
        if mask == 0 && !scored && !plan.uses_labels {
            continue;
        }
        amounts.clear();
        amounts.extend(plan.amounts.iter().map(|&slot| event.int(slot).unwrap_or(AMOUNT_MISSING)));
        values.clear();
        values.extend(plan.values.iter().map(|&slot| event.fingerprint(slot, schema).unwrap_or(VALUE_MISSING)));
        let (time, id) = (event.time, event.id);
        store.insert(&Entry { key, time, id, mask, known_at: i64::MAX, scored, amounts: &amounts, values: &values });
        store.expire(time - plan.window_ms_max - LATE_MS, EXPIRE_PER_EVENT);
    }
    store
}
