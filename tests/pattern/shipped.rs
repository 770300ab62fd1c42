//! The shipped patterns: they fit the shipped schema, and `card_testing` has its case.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use deltawatch::dataflow::{Parameters, Setup};
use deltawatch::event::{Event, Schema};
use deltawatch::generator::{Generator, GeneratorConfig};
use deltawatch::testkit::cases::check;
use deltawatch::testkit::{Batching, Harness, Plan};
use deltawatch::views::pattern::Patterns;

use super::flow::{compare, flow};
use crate::dataflows::folder;

const SCHEMA: &str = include_str!("../../dataflows/payments.toml");
const PATTERNS: &str = include_str!("../../dataflows/patterns.toml");

#[test]
fn card_testing_case() {
    let dataflow = folder::all().into_iter().find(|one| one.name() == "card_testing").expect("it is shipped");
    let schema = Schema::parse("payments", dataflow.schema()).expect("the schema is valid");
    let setup = Setup { schema: Arc::new(schema), parameters: Parameters::default() };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pattern/cases/card_testing.txt");
    check(&path, dataflow, &setup).unwrap_or_else(|says| panic!("{says}"));
}

#[test]
fn fourteen_patterns_fit_the_schema() {
    let patterns = Patterns::parse(PATTERNS).expect("a file of patterns");
    let schema = Schema::parse("payments", SCHEMA).expect("the schema is valid");
    let plan = patterns.resolve(&schema).unwrap_or_else(|error| panic!("{error}"));
    let names: Vec<String> = plan.blocks().concat();
    assert_eq!(names, patterns.columns(), "the columns do not depend on the schema");
    assert_eq!(names.len(), 2 * patterns.expanded().len());
}

/// Generated events under the shipped patterns.
const GENERATED: usize = 4_000;

#[test]
fn shipped_patterns_over_generated_events_equal_their_definition() {
    let patterns = Patterns::parse(PATTERNS).expect("a file of patterns");
    let (dataflow, setup) = flow(SCHEMA, &patterns);
    let config = GeneratorConfig { customers: 60, merchants: 12, ..GeneratorConfig::default() };
    let generator = Generator::new(config, setup.schema.clone()).expect("a valid configuration");
    let events: Vec<Event> = generator.take(GENERATED).map(|record| record.event).collect();
    let harness = Harness::new(dataflow, setup.clone()).workers(2);
    let outcome = compare(&harness, &patterns, &setup.schema, &Plan::of(&events, Batching::Random(1)));
    let outcome = outcome.unwrap_or_else(|says| panic!("{says}"));
    let matched: BTreeSet<String> = outcome.collections.into_iter().map(|update| update.key).collect();
    eprintln!(
        "{} of {} patterns match over {GENERATED} generated events: {matched:?}",
        matched.len(),
        patterns.expanded().len()
    );
    assert!(!matched.is_empty());
}
