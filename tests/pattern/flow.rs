//! A dataflow of patterns alone, and what it must give.

use std::collections::BTreeMap;
use std::sync::Arc;

use deltawatch::dataflow::{BuildError, Context, Dataflow, Parameters, Setup};
use deltawatch::event::{Event, EventBuilder, Id, Op, Schema};
use deltawatch::feature::FeatureSet;
use deltawatch::testkit::compare::same_rows;
use deltawatch::testkit::{Harness, Outcome, Plan, expected, resolve};
use deltawatch::views::pattern::twin as definition;
use deltawatch::views::pattern::{Match, Patterns};
use deltawatch::views::velocity::Velocity;

/// Events of four kinds, p, q, r and s; p and q have rows.
pub const SCHEMA: &str = r#"
name = "letters"
kinds = ["p", "q", "r", "s"]
scored = ["p", "q"]
default_kind = "p"
field = [
  { name = "id", type = "int", role = "id", required = true },
  { name = "kind", type = "text", role = "kind" },
  { name = "op", type = "text", role = "op" },
  { name = "time", type = "time", role = "time", required = true },
  { name = "account", type = "text", role = "entity" },
  { name = "payee", type = "text", role = "entity" },
  { name = "device", type = "text", role = "entity" },
  { name = "amount", type = "decimal", scale = 2, role = "amount" },
  { name = "flag", type = "bool", role = "flag" },
  { name = "lat", type = "float" },
  { name = "lon", type = "float" },
]
"#;

/// A dataflow that emits matches and assembles their features.
pub struct PatternFlow {
    schema: &'static str,
    features: FeatureSet,
}

impl Dataflow for PatternFlow {
    fn name(&self) -> &'static str {
        "patterns_alone"
    }

    fn about(&self) -> &'static str {
        "a dataflow of the tests"
    }

    fn schema(&self) -> &'static str {
        self.schema
    }

    fn features(&self, _setup: &Setup) -> Result<FeatureSet, BuildError> {
        Ok(self.features.clone())
    }

    fn build(&self, context: &mut Context<'_>) -> Result<(), BuildError> {
        let features = context.features()?;
        let named = context.matches().map(|one| (one.pattern.to_string(), written(&one)));
        context.output("matches", named);
        context.score(&features)
    }
}

/// A match as text: start, completion, number of events, ids.
fn written(one: &Match) -> String {
    let ids: Vec<u64> = one.ids.iter().map(|id| id.lo).collect();
    format!("{:x} {}..{} {} {ids:?}", one.key.lo, one.started_ms, one.completed_ms, one.events)
}

/// The dataflow and its set-up.
pub fn flow(schema: &'static str, patterns: &Patterns) -> (Arc<dyn Dataflow>, Setup) {
    flow_beside(schema, patterns, &[])
}

/// The features of patterns beside velocity.
fn features(patterns: &Patterns, velocities: &[Velocity]) -> FeatureSet {
    FeatureSet::new().family(patterns.clone()).velocities(velocities.to_vec())
}

/// The same with velocity features.
pub fn flow_beside(schema: &'static str, patterns: &Patterns, velocities: &[Velocity]) -> (Arc<dyn Dataflow>, Setup) {
    let setup = Setup {
        schema: Arc::new(Schema::parse("letters", schema).expect("the schema is valid")),
        parameters: Parameters::default(),
    };
    (Arc::new(PatternFlow { schema, features: features(patterns, velocities) }), setup)
}

/// The matches that are there in the end.
pub fn emitted(outcome: &Outcome) -> Vec<(String, String)> {
    let mut count: BTreeMap<(String, String), isize> = BTreeMap::new();
    for update in &outcome.collections {
        let value: String = serde_json::from_str(&update.value).expect("a text");
        *count.entry((update.key.clone(), value)).or_insert(0) += update.diff;
    }
    for (one, count) in &count {
        assert!((0..=1).contains(count), "{one:?} is there {count} times");
    }
    count.into_iter().filter(|(_, count)| *count == 1).map(|(one, _)| one).collect()
}

/// The matches that there must be once the watermark has come this far.
fn wanted(
    patterns: &Patterns,
    velocities: &[Velocity],
    schema: &Schema,
    records: &[Event],
    watermark_ms: i64,
) -> Vec<(String, String)> {
    let labelled = resolve::retained(records, schema);
    let values = definition::velocity_values(velocities, schema, &labelled);
    let events: Vec<Event> = labelled.into_iter().map(|(event, _)| event).collect();
    let found = definition::matches_beside(patterns, schema, &events, &values);
    let known = found.into_iter().filter(|one| !one.absence || one.at.0 <= watermark_ms);
    let mut wanted: Vec<(String, String)> = known
        .map(|one| {
            let ids: Vec<u64> = one.ids.iter().map(|id| id.lo).collect();
            let text = format!("{:x} {}..{} {} {ids:?}", one.key.lo, one.started_ms, one.at.0, one.events);
            (one.pattern, text)
        })
        .collect();
    wanted.sort();
    wanted
}

/// Runs a plan and compares with the definition; the error is the first difference.
pub fn compare(harness: &Harness, patterns: &Patterns, schema: &Schema, plan: &Plan) -> Result<Outcome, String> {
    compare_beside(harness, patterns, &[], schema, plan)
}

/// The same with velocity features.
pub fn compare_beside(
    harness: &Harness,
    patterns: &Patterns,
    velocities: &[Velocity],
    schema: &Schema,
    plan: &Plan,
) -> Result<Outcome, String> {
    let records: Vec<Event> = plan.events().cloned().collect();
    let outcome = harness.run(plan).map_err(|error| error.to_string())?;
    let (emitted, wanted) = (emitted(&outcome), wanted(patterns, velocities, schema, &records, plan.watermark_ms()));
    if let Some(one) = wanted.iter().find(|one| !emitted.contains(one)) {
        return Err(format!("missing: {one:?}"));
    }
    if let Some(one) = emitted.iter().find(|one| !wanted.contains(one)) {
        return Err(format!("too much: {one:?}"));
    }
    let features = features(patterns, velocities);
    let wanted = expected::rows(&features, schema, &resolve::retained(&records, schema), 1);
    match same_rows(&outcome.final_rows(), &wanted, &features.columns()) {
        Ok(()) => Ok(outcome),
        Err(says) => Err(format!("engine and definition: {says}")),
    }
}

/// Makes events of the letters' schema.
pub struct Letters {
    /// The schema.
    pub schema: Schema,
    builder: EventBuilder,
}

impl Letters {
    /// With the schema of letters.
    pub fn new() -> Self {
        let schema = Schema::parse("letters", SCHEMA).expect("the schema is valid");
        Letters { builder: EventBuilder::new(&schema), schema }
    }

    /// Sets a text field of the next event.
    pub fn text(&mut self, field: &str, value: &str) -> &mut Self {
        self.builder.set_text(self.schema.slot(field).expect("a field"), value);
        self
    }

    /// Sets an integer field of the next event; amounts in cents.
    pub fn int(&mut self, field: &str, value: i64) -> &mut Self {
        self.builder.set_int(self.schema.slot(field).expect("a field"), value);
        self
    }

    /// Sets a float field of the next event.
    pub fn float(&mut self, field: &str, value: f64) -> &mut Self {
        self.builder.set_float(self.schema.slot(field).expect("a field"), value);
        self
    }

    /// The next event.
    pub fn event(&mut self, id: u64, kind: &str, time: i64, op: Op) -> Event {
        self.int("id", id as i64).int("time", time);
        let kind = self.schema.kind(kind).expect("a kind");
        self.builder.finish(Id::from_int(id), time, kind, op, &self.schema)
    }
}
