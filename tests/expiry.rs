//! Keys that are seen once leave nothing behind: 200 000 always, a million with `DELTAWATCH_FULL=1`.
//!
//! Expiry works in slices, in proportion to what comes in: forgetting takes about two more records per key.

use deltawatch::event::{Event, EventBuilder, Id, Op, Schema};
use deltawatch::metrics::Metrics;
use deltawatch::testkit::{Batching, Harness, Plan};
use deltawatch::views::velocity::{Velocity, Window};

use crate::flows;

const SCHEMA: &str = r#"
name = "cards"
[[field]]
name = "id"
type = "int"
role = "id"
[[field]]
name = "time"
type = "time"
role = "time"
[[field]]
name = "card"
type = "int"
role = "entity"
"#;

const HOUR_MS: i64 = 3_600_000;

fn pack() -> Vec<Velocity> {
    vec![Velocity::of("card", &["card"]).over(&[Window::hours(1)]).count()]
}

/// So many payments, `step_ms` apart, with card numbers modulo `cards`.
fn payments(start_ms: i64, step_ms: i64, numbers: std::ops::Range<u64>, cards: u64, schema: &Schema) -> Vec<Event> {
    let card = schema.slot("card").expect("a field");
    let mut builder = EventBuilder::new(schema);
    let first = numbers.start;
    numbers
        .map(|number| {
            builder.set_int(card, (number % cards) as i64);
            let time = start_ms + (number - first) as i64 * step_ms;
            builder.finish(Id::from_int(number), time, 0, Op::Insert, schema)
        })
        .collect()
}

fn figures(metrics: &Metrics) -> [u64; 6] {
    [
        metrics.retained_events.get(),
        metrics.retained_keys.get(),
        metrics.retained_entries.get(),
        metrics.retained_bytes.get(),
        metrics.event_table_bytes.get(),
        metrics.assessment_table_bytes.get(),
    ]
}

#[test]
fn keys_seen_once_leave_nothing() {
    let (dataflow, setup) = flows::flow("cards", SCHEMA, pack);
    let harness = Harness::new(dataflow, setup.clone()).uncaptured();
    let run = |events: &[Event]| {
        let outcome = harness.run(&Plan::of(events, Batching::Fixed(2_000))).expect("it builds");
        figures(&outcome.metrics)
    };
    let count = if std::env::var_os("DELTAWATCH_FULL").is_some() { 1_000_000 } else { 200_000 };
    let once = payments(0, 1, 0..count, u64::MAX, &setup.schema);
    // The same ten cards for long after: what is retained then is theirs alone.
    let later = payments(HOUR_MS, 100, 2_000_000..2_000_000 + 3 * count, 10, &setup.schema);
    let quiet = run(&later);
    let full = run(&once);
    let after = run(&[once, later].concat());
    eprintln!("[events, keys, entries, bytes, event table, assessment table]");
    eprintln!("full {full:?}, after {after:?}, without the keys {quiet:?}");
    assert_eq!(full[1], count, "every key was retained");
    // A sweep or a slice of expiry may stand elsewhere: two percent.
    for (place, (after, quiet)) in after.into_iter().zip(quiet).enumerate() {
        assert!(after <= quiet + quiet / 50, "figure {place}: {after} after the keys, {quiet} without them");
    }
}
