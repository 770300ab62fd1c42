//! What patterns keep returns to zero: after withdrawals at once, after expiry in bounded slices.

use deltawatch::dataflow::EngineSettings;
use deltawatch::event::{Event, Op};
use deltawatch::metrics::Metrics;
use deltawatch::testkit::{Batching, Harness, Plan};
use deltawatch::views::pattern::Patterns;

use super::flow::{Letters, SCHEMA, compare, emitted, flow};

const PATTERNS: &str = r#"
[[pattern]]
name = "pair"
key = "account"
within = "60s"
events = { p = { kind = "p" }, q = { kind = "q" } }
step = [{ event = "p" }, { event = "q" }]
[[pattern]]
name = "three"
key = "account"
within = "60s"
events = { p = { kind = "p" } }
step = [{ event = "p", at_least = 3 }]
[[pattern]]
name = "silence"
key = "account"
events = { p = { kind = "p" }, q = { kind = "q" } }
step = [{ event = "p" }, { absent = "q", within = "20s" }]
[[pattern]]
name = "twice"
key = "account"
within = "60s"
after_match = "skip_past_last"
events = { p = { kind = "p" } }
step = [{ event = "p", at_least = 2 }]
[[pattern]]
name = "cycle"
within = "60s"
cycle = { event = "p", from = "account", to = "payee", amount = "amount", hops = [3, 4], share = [0.5, 1.0] }
events = { p = { kind = "p" } }
"#;

/// Partial and finished matches of every pattern, over so many accounts.
fn events(letters: &mut Letters, accounts: u64, start_ms: i64) -> Vec<Event> {
    let mut events = Vec::new();
    for number in 0..accounts {
        let account = format!("a{number}");
        for (place, kind) in ["p", "p", "q", "p"].into_iter().enumerate() {
            let next = format!("a{}", if number % 3 == 2 { number - 2 } else { number + 1 });
            letters.text("account", &account).text("payee", &next).int("amount", 1_000);
            let id = start_ms as u64 + number * 4 + place as u64;
            events.push(letters.event(id, kind, start_ms + number as i64 * 10 + place as i64, Op::Insert));
        }
    }
    events
}

fn kept(metrics: &Metrics) -> [u64; 6] {
    [
        metrics.pattern_keys.get(),
        metrics.pattern_entries.get(),
        metrics.pattern_runs.get(),
        metrics.pattern_matches.get(),
        metrics.pattern_bytes.get(),
        metrics.backlog.get(),
    ]
}

#[test]
fn everything_withdrawn_leaves_nothing() {
    let patterns = Patterns::parse(PATTERNS).expect("patterns");
    let (dataflow, setup) = flow(SCHEMA, &patterns);
    let mut letters = Letters::new();
    let mut all = events(&mut letters, 60, 1_000_000);
    let gone: Vec<Event> = all
        .iter()
        .cloned()
        .map(|mut event| {
            event.op = Op::Withdraw;
            event
        })
        .collect();
    all.extend(gone);
    for workers in [1, 2] {
        let outcome =
            Harness::new(dataflow.clone(), setup.clone()).workers(workers).run(&Plan::of(&all, Batching::Fixed(50)));
        let outcome = outcome.expect("it builds");
        assert!(outcome.collections.iter().any(|update| update.diff > 0), "there were matches");
        assert_eq!(emitted(&outcome), []);
        assert_eq!(kept(&outcome.metrics), [0; 6]);
    }
}

#[test]
fn finished_and_expired_matches_leave_nothing() {
    let patterns = Patterns::parse(PATTERNS).expect("patterns");
    let (dataflow, setup) = flow(SCHEMA, &patterns);
    let mut letters = Letters::new();
    let settings = EngineSettings { late_ms: 60_000, ..EngineSettings::default() };
    let harness = Harness::new(dataflow, setup).settings(settings).uncaptured();
    let early = events(&mut letters, 3_000, 1_000_000);
    let full = kept(&harness.run(&Plan::of(&early, Batching::Fixed(500))).expect("it builds").metrics);
    assert_eq!(full[0], 3_000, "every account is kept");
    assert!(full[2] > 3_000 && full[3] > 3_000, "runs and matches are kept: {full:?}");
    // Days later other kinds of events of one account go on; each brings some keys' expiry.
    let mut later = early;
    let start_ms = 1_000_000 + 3 * 86_400_000;
    for number in 0..3_000 {
        letters.text("account", "later");
        later.push(letters.event(9_000_000_000 + number, "q", start_ms + number as i64 * 60_000, Op::Insert));
    }
    let after = kept(&harness.run(&Plan::of(&later, Batching::Fixed(20))).expect("it builds").metrics);
    assert_eq!(after[0], 1, "one account is left: {after:?}");
    assert_eq!((after[2], after[3], after[5]), (0, 0, 0), "no run, no match, no backlog: {after:?}");
}

#[test]
fn what_has_expired_is_not_found_again() {
    const LONG: &str = r#"
    [[pattern]]
    name = "pair"
    key = "account"
    within = "9d"
    events = { p = { kind = "p" }, q = { kind = "q" } }
    step = [{ event = "p" }, { event = "q" }]
    [[pattern]]
    name = "twice"
    key = "account"
    within = "9d"
    after_match = "skip_past_last"
    events = { p = { kind = "p" } }
    step = [{ event = "p", at_least = 2 }]
    "#;
    const MINUTE_MS: i64 = 60_000;
    let patterns = Patterns::parse(LONG).expect("patterns");
    let (dataflow, setup) = flow(SCHEMA, &patterns);
    let mut letters = Letters::new();
    let start_ms = 1_700_000_000_000;
    let end_ms = start_ms + 4 * 1_440 * MINUTE_MS;
    let mut all = Vec::new();
    let mut event = |account: &str, kind: &str, time: i64| {
        letters.text("account", account);
        all.push(letters.event(all.len() as u64 + 1, kind, time, Op::Insert));
    };
    for (place, kind) in ["p", "q", "p", "p"].into_iter().enumerate() {
        event("a", kind, start_ms + place as i64);
    }
    // Days pass with another account; what was complete on the first has been counted long ago.
    (1..400).for_each(|number| event("later", "q", start_ms + (end_ms - start_ms) / 400 * number));
    for (kind, time) in [("p", end_ms), ("q", end_ms + 1), ("p", end_ms - 30_000), ("q", end_ms - 20_000)] {
        event("a", kind, time);
    }
    let settings = EngineSettings { late_ms: MINUTE_MS, ..EngineSettings::default() };
    let harness = Harness::new(dataflow, setup.clone()).settings(settings);
    let outcome = compare(&harness, &patterns, &setup.schema, &Plan::of(&all, Batching::EachEvent));
    let matches = emitted(&outcome.unwrap_or_else(|says| panic!("{says}")));
    let of = |name: &str| matches.iter().filter(|(pattern, _)| pattern == name).count();
    // Of five p, each begins a pair, and four are taken two by two.
    assert_eq!((of("pair"), of("twice")), (5, 2), "{matches:?}");
}

#[test]
fn events_kept_for_their_rows_alone_go_with_the_horizon() {
    const LONG: &str = r#"
    [[pattern]]
    name = "pair"
    key = "account"
    within = "30d"
    events = { r = { kind = "r" }, s = { kind = "s" } }
    step = [{ event = "r" }, { event = "s" }]
    "#;
    let (dataflow, setup) = flow(SCHEMA, &Patterns::parse(LONG).expect("patterns"));
    let mut letters = Letters::new();
    let settings = EngineSettings { late_ms: 60_000, ..EngineSettings::default() };
    let harness = Harness::new(dataflow, setup).settings(settings).uncaptured();
    // Rows of the pattern's key that are none of its events.
    let mut all = events(&mut letters, 1_000, 1_000_000);
    let full = kept(&harness.run(&Plan::of(&all, Batching::Fixed(500))).expect("it builds").metrics);
    assert!(full[0] == 1_000 && full[1] >= 1_000, "every account is kept: {full:?}");
    let start_ms = 1_000_000 + 86_400_000;
    for number in 0..1_000 {
        letters.text("account", "later");
        all.push(letters.event(9_000_000_000 + number, "r", start_ms + number as i64, Op::Insert));
    }
    let after = kept(&harness.run(&Plan::of(&all, Batching::Fixed(20))).expect("it builds").metrics);
    assert_eq!((after[0], after[1]), (1, 1_000), "one account is left, with the pattern's events: {after:?}");
}
