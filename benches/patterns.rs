//! Patterns 1 to 14, all on, over generated events: CPU per event, and what they keep.

use deltawatch::dataflow::{BuildError, Context, Dataflow, EngineSettings, Setup};
use deltawatch::event::Event;
use deltawatch::feature::FeatureSet;
use deltawatch::views::pattern::Patterns;
use deltawatch::views::velocity::{Velocity, Window};

use crate::drive::{run, setup};

/// Events per epoch.
const BATCH: usize = 128;

/// Patterns as features of a row, beside velocity if there is any, without anything else.
struct Alone(Patterns, Vec<Velocity>);

/// Some of the shipped patterns, by name.
fn alone(chosen: impl Fn(&str) -> bool) -> &'static Alone {
    let mut patterns =
        Patterns::parse(include_str!("../dataflows/patterns.toml")).expect("the shipped patterns are valid");
    patterns.patterns.retain(|pattern| chosen(&pattern.name));
    // A handful per run of the benchmark.
    Box::leak(Box::new(Alone(patterns, Vec::new())))
}

impl Dataflow for Alone {
    fn name(&self) -> &'static str {
        "patterns"
    }

    fn about(&self) -> &'static str {
        "event patterns alone"
    }

    fn schema(&self) -> &'static str {
        include_str!("../dataflows/payments.toml")
    }

    fn features(&self, _setup: &Setup) -> Result<FeatureSet, BuildError> {
        Ok(FeatureSet::new().velocities(self.1.clone()).family(self.0.clone()))
    }

    fn build(&self, context: &mut Context<'_>) -> Result<(), BuildError> {
        context.features()?;
        context.output("matches", context.matches().map(|one| (one.pattern.to_string(), one.events)));
        Ok(())
    }
}

/// Prints a row with no pattern and one with all.
pub fn patterns(share: f64) {
    let (none, all) = (alone(|_| false), alone(|_| true));
    let schema = setup(all).schema;
    let events: Vec<Event> = crate::pack::events(&schema, share);
    let none = run(none, EngineSettings::default(), events.clone(), BATCH);
    let all = run(all, EngineSettings::default(), events, BATCH);
    let (bare_us, all_us) = (none.us_per_event(), all.us_per_event());
    let of = |gauge: &deltawatch::metrics::Gauge| gauge.get();
    let metrics = &all.metrics;
    let (entries, bytes) = (of(&metrics.pattern_entries), of(&metrics.pattern_bytes));
    println!(
        "patterns 1-14               {all_us:>7.3} us/event   without {bare_us:.3}   {} keys, {entries} events of keys, {} runs, {} \
         matches, {} bytes per event of a key",
        of(&metrics.pattern_keys),
        of(&metrics.pattern_runs),
        of(&metrics.pattern_matches),
        bytes / entries.max(1)
    );
}

/// Prints a row for each pattern alone, less what a dataflow without patterns costs.
pub fn each(share: f64) {
    let all = alone(|_| true);
    let events: Vec<Event> = crate::pack::events(&setup(all).schema, share);
    let of = |chosen| run(chosen, EngineSettings::default(), events.clone(), BATCH).us_per_event();
    // The first run also pays for fresh memory.
    of(alone(|_| false));
    let bare_us = of(alone(|_| false));
    for pattern in &all.0.patterns {
        let own_us = of(alone(|name| name == pattern.name)) - bare_us;
        println!("pattern {:<28}{own_us:>7.3} us/event", pattern.name);
    }
}

/// A pattern whose conditions look at features, in place of `FIRST`, `LARGE` and `MORE`.
const PATTERN: &str = r#"
[[pattern]]
name = "drained"
key = "card"
within = "1h"
[pattern.events.shared]
kind = "payment"
where = ["FIRST"]
[pattern.events.large]
kind = "payment"
where = ["LARGE"]
[[pattern.step]]
event = "shared"
[[pattern.step]]
event = "large"
where = ["MORE"]
"#;

/// Prints what a pattern costs with conditions over velocity features, and with conditions over fields.
pub fn features(share: f64) {
    let beside = |conditions: Option<[&str; 3]>| {
        let text = conditions
            .map(|[first, large, more]| PATTERN.replace("FIRST", first).replace("LARGE", large).replace("MORE", more));
        let patterns = Patterns::parse(&text.unwrap_or_default()).expect("the pattern is valid");
        let card = Velocity::of("card", &["card"]).over(&[Window::days(1)]).sum("amount").mean("amount");
        let device = Velocity::of("device", &["device"]).over(&[Window::hours(1)]).distinct("card");
        // One per run of the benchmark.
        &*Box::leak(Box::new(Alone(patterns, vec![card, device])))
    };
    let none = beside(None);
    let fields = beside(Some(["amount <= 5.00", "amount >= 100.00", "amount >= 2 * shared.amount"]));
    let featured = beside(Some([
        "feature(device_distinct_card_1h) >= 2",
        "amount >= 2 * feature(card_amount_mean_24h)",
        "feature(card_amount_sum_24h) >= 2 * shared.feature(card_amount_sum_24h)",
    ]));
    let events: Vec<Event> = crate::pack::events(&setup(none).schema, share);
    let us = |dataflow| run(dataflow, EngineSettings::default(), events.clone(), BATCH).us_per_event();
    // The first run also pays for fresh memory.
    us(none);
    let (none_us, fields_us, featured_us) = (us(none), us(fields), us(featured));
    println!(
        "pattern over features       {featured_us:>7.3} us/event   over fields {fields_us:.3}   velocity alone {none_us:.3}"
    );
}
