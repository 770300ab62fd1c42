//! Patterns 1 to 14, all on, over generated events: CPU per event, and what they keep.

use deltawatch::arrange::pattern::Patterns;
use deltawatch::dataflow::{BuildError, Context, Dataflow, Setup};
use deltawatch::event::Event;
use deltawatch::feature::FeatureSet;
use deltawatch::pipeline::EngineSettings;

use crate::drive::{run, setup};

/// Events per epoch.
const BATCH: usize = 128;

/// Patterns as features of a row, without anything else.
struct Alone(Patterns);

/// Some of the shipped patterns, by name.
fn alone(chosen: impl Fn(&str) -> bool) -> &'static Alone {
    let mut patterns =
        Patterns::parse(include_str!("../dataflows/patterns.toml")).expect("the shipped patterns are valid");
    patterns.patterns.retain(|pattern| chosen(&pattern.name));
    // A handful per run of the benchmark.
    Box::leak(Box::new(Alone(patterns)))
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
        Ok(FeatureSet::new().family(self.0.clone()))
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
    let of = |gauge: &deltawatch::runtime::metrics::Gauge| gauge.get();
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
