//! Patterns 1 to 14, all on, over generated events: CPU per event, and what they keep.

use deltawatch::arrange::pattern::Patterns;
use deltawatch::dataflow::{BuildError, Context, Dataflow, Setup};
use deltawatch::event::Event;
use deltawatch::feature::FeatureSet;
use deltawatch::pipeline::EngineSettings;

use crate::drive::{run, setup};

/// Events per epoch.
const BATCH: usize = 128;

/// The patterns of a file as features of a row, without anything else.
struct Alone(&'static str);

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
        let patterns = Patterns::parse(self.0).map_err(|error| BuildError(error.to_string()))?;
        Ok(FeatureSet::new().family(patterns))
    }

    fn build(&self, context: &mut Context<'_>) -> Result<(), BuildError> {
        context.features()?;
        context.output("matches", context.matches().map(|one| (one.pattern.to_string(), one.events)));
        Ok(())
    }
}

/// Prints a row with no pattern and one with all.
pub fn patterns(share: f64) {
    static NONE: Alone = Alone("");
    static ALL: Alone = Alone(include_str!("../dataflows/patterns.toml"));
    let schema = setup(&ALL).schema;
    let events: Vec<Event> = crate::pack::events(&schema, share);
    let none = run(&NONE, EngineSettings::default(), events.clone(), BATCH);
    let all = run(&ALL, EngineSettings::default(), events, BATCH);
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
