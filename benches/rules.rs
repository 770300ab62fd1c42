//! 200 rules over the columns of `payments` beside the interpreter of the `cel` crate on the same rules and rows.

use std::collections::{BTreeSet, HashMap};
use std::hint::black_box;

use cel::{Context, Program, Value};
use cpu_time::ProcessTime;
use deltawatch::event::{Event, EventBuilder, Id, Op, Schema};
use deltawatch::score::rules::{RuleFile, Rules};
use rand::prelude::*;
use rand_chacha::ChaCha8Rng;

use crate::drive::setup;

const RULES: usize = 200;
/// Transactions, each with a row and an event of its own: not in the nearest cache, and not out of all of them, as where a row has just
/// been assembled.
const TRANSACTIONS: usize = 500;
/// Of them, those that the interpreter sees: its context takes half a millisecond to build.
const INTERPRETED: usize = 100;
const PASSES: usize = 200;
const TARGET_US: f64 = 10.0;

const COUNTRIES: [&str; 8] = ["US", "DE", "FR", "GB", "NG", "BR", "IN", "SG"];
const CHANNELS: [&str; 3] = ["web", "app", "pos"];

struct Transaction {
    row: Vec<f64>,
    event: Event,
    cents: i64,
    country: &'static str,
    channel: &'static str,
    abroad: bool,
    score: f64,
}

impl Transaction {
    fn random(random: &mut ChaCha8Rng, schema: &Schema, columns: usize) -> Self {
        let mut builder = EventBuilder::new(schema);
        let slot = |name| schema.slot(name).expect("a field of payments");
        let (cents, abroad) = (random.random_range(100..50_000), random.random_bool(0.3));
        let country = COUNTRIES.choose(random).expect("a country");
        let channel = CHANNELS.choose(random).expect("a channel");
        builder.set_int(slot("amount"), cents);
        builder.set_int(slot("cross_border"), i64::from(abroad));
        builder.set_text(slot("country"), country);
        builder.set_text(slot("channel"), channel);
        let kind = schema.kind("payment").expect("a kind");
        let event = builder.finish(Id::from_int(1), 1_700_000_000_000, kind, Op::Insert, schema);
        let row = (0..columns).map(|_| random.random::<f64>() * 100.0).collect();
        Transaction { row, event, cents, country, channel, abroad, score: random.random() }
    }

    fn context(&self, columns: &[String]) -> Context<'static, 'static> {
        let mut context = Context::default();
        let features: HashMap<&str, f64> = columns.iter().map(|name| &**name).zip(self.row.iter().copied()).collect();
        context.add_variable_from_value("features", features);
        let event = HashMap::from([
            ("amount", Value::Float(self.cents as f64 / 100.0)),
            ("country", Value::from(self.country)),
            ("channel", Value::from(self.channel)),
            ("cross_border", Value::Bool(self.abroad)),
        ]);
        context.add_variable_from_value("event", event);
        context.add_variable_from_value("score", self.score);
        context
    }
}

/// A condition of five clauses, which about one in fifty transactions fulfils.
fn condition(random: &mut ChaCha8Rng, columns: &[String]) -> String {
    let mut above = |share: f64| {
        let column = columns.choose(random).expect("a column");
        format!("features.{column} > {:.1}", 100.0 * (1.0 - share))
    };
    let (one, other, either, or) = (above(0.5), above(0.4), above(0.25), above(0.2));
    let last = match random.random_range(0..6) {
        0 => "event.amount >= 300.00".to_owned(),
        1 => "event.country in ['NG', 'BR', 'IN']".to_owned(),
        2 => format!("event.channel == '{}'", CHANNELS.choose(random).expect("a channel")),
        3 => "event.cross_border".to_owned(),
        4 => "event.country.startsWith('S') == false && score > 0.7".to_owned(),
        _ => "score > 0.7".to_owned(),
    };
    let mut clauses = [one, other, format!("({either} || {or})"), last];
    clauses.shuffle(random);
    clauses.join(" && ")
}

/// What 200 rules cost per transaction.
pub fn rules(share: f64) {
    let dataflow = crate::dataflow("payments");
    let setup = setup(dataflow);
    let schema = &*setup.schema;
    let columns = dataflow.features(&setup).expect("its features are valid").columns();
    let mut random = ChaCha8Rng::seed_from_u64(12);
    let conditions: Vec<String> = (0..RULES).map(|_| condition(&mut random, &columns)).collect();
    let rule = |(number, when): (usize, &String)| {
        format!("[[rule]]\nid = \"rule-{number:03}\"\naction = \"review\"\nreason = \"A bench.\"\nwhen = \"{when}\"\n")
    };
    let text: String = conditions.iter().enumerate().map(rule).collect();
    let content = RuleFile::parse("rules.toml", &text).expect("a file of rules");
    let begin = ProcessTime::now();
    let rules = Rules::new("rules.toml", content, schema, &columns).expect("they are valid");
    let activation_ms = begin.elapsed().as_secs_f64() * 1e3;
    let transactions: Vec<Transaction> =
        (0..TRANSACTIONS).map(|_| Transaction::random(&mut random, schema, columns.len())).collect();

    let passes = ((PASSES as f64 * share) as usize).max(2);
    let mut matched = 0;
    let begin = ProcessTime::now();
    for _ in 0..passes {
        for Transaction { row, event, score, .. } in &transactions {
            matched += black_box(rules.matches(event, row, *score)).rules.len();
        }
    }
    let us = begin.elapsed().as_secs_f64() * 1e6 / (passes * TRANSACTIONS) as f64;
    let matching = matched as f64 / (passes * TRANSACTIONS * RULES) as f64;

    let programs: Vec<Program> = conditions.iter().map(|when| Program::compile(when).expect("CEL")).collect();
    let interpreted = &transactions[..((INTERPRETED as f64 * share) as usize).max(2)];
    let contexts: Vec<_> = interpreted.iter().map(|transaction| transaction.context(&columns)).collect();
    let begin = ProcessTime::now();
    let hits: Vec<BTreeSet<usize>> = contexts
        .iter()
        .map(|context| {
            let holds = |number: &usize| matches!(programs[*number].execute(context), Ok(Value::Bool(true)));
            (0..RULES).filter(holds).collect()
        })
        .collect();
    let interpreter_us = begin.elapsed().as_secs_f64() * 1e6 / contexts.len() as f64;
    for (Transaction { row, event, score, .. }, hits) in interpreted.iter().zip(hits) {
        let matches = rules.matches(event, row, *score).rules;
        assert_eq!(matches.iter().map(|&number| number as usize).collect::<BTreeSet<_>>(), hits);
    }

    println!("{RULES} rules of five clauses over {} columns, {:.1} % match", columns.len(), 100.0 * matching);
    for (what, us) in [("lowered", us), ("the interpreter of cel, its context prebuilt", interpreter_us)] {
        println!("    {what:<45} {us:>8.2} us CPU per transaction   {:>7.1} ns per rule", us * 1e3 / RULES as f64);
    }
    let times = interpreter_us / us;
    println!(
        "    {times:.0} x; target {TARGET_US} us per transaction; {activation_ms:.0} ms to check and lower all of them"
    );
}
