//! Random patterns over random events: the engine gives what the definition says, however the events arrive.

use std::fmt::Write;

use deltawatch::dataflow::EngineSettings;
use deltawatch::event::{Event, Op};
use deltawatch::testkit::{Batching, Harness, Plan};
use deltawatch::views::pattern::Patterns;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::flow::{Letters, SCHEMA, compare, flow};

/// Seeds.
const SEEDS: u64 = 120;
/// `DELTAWATCH_FULL=1` takes so many times as many.
const FULL: u64 = 40;
/// Records of a sequence.
const RECORDS: usize = 90;

fn one<'a>(random: &mut StdRng, of: &[&'a str]) -> &'a str {
    of[random.random_range(0..of.len())]
}

/// A file with so many random patterns.
pub fn patterns(random: &mut StdRng, count: usize) -> String {
    let mut text = String::new();
    for number in 0..count {
        pattern(random, number, &mut text);
    }
    text
}

fn pattern(random: &mut StdRng, number: usize, text: &mut String) {
    let key = one(random, &["\"account\"", "\"account\"", "\"device\"", "[\"account\", \"device\"]"]);
    let within = random.random_range(2..40);
    let _ = writeln!(text, "[[pattern]]\nname = \"n{number}\"\nkey = {key}\nwithin = \"{within}s\"\nhistory = \"20s\"");
    let head = text.len();
    const NAMES: [&str; 4] = ["one", "two", "three", "four"];
    for name in NAMES {
        let kinds = one(random, &["\"p\"", "\"q\"", "\"r\"", "\"s\"", "[\"p\", \"q\"]", "[\"q\", \"r\", \"s\"]"]);
        let mut conditions = Vec::new();
        while random.random_bool(0.45) {
            conditions.push(one(
                random,
                &[
                    "'amount >= 5.00'",
                    "'amount <= 3.00 or flag'",
                    "'flag'",
                    "'not flag and amount != 2.00'",
                    "\"device = 'd1'\"",
                    "\"device in ['d0', 'd2']\"",
                    "'has(amount)'",
                    "'first_seen(device)'",
                    "'amount >= 1.2 * history.mean(amount)'",
                    "'history.count() >= 2'",
                    "'history.since_last() >= 3s'",
                    "'history.sum(amount, 10s) >= 12.00'",
                    "'history.age() < 15s'",
                    "'first_seen(device, alone)'",
                    "'history.count(alone) < 2 or history.sum(amount, 10s, alone) >= 6.00'",
                ],
            ));
        }
        let _ = writeln!(text, "[pattern.events.{name}]\nkind = {kinds}\nwhere = [{}]", conditions.join(", "));
        if key == "\"account\"" && random.random_bool(0.1) {
            text.push_str("key = \"payee\"\n");
        }
    }
    let _ = writeln!(text, "[pattern.events.alone]\nkind = [\"p\", \"r\"]\nwhere = [\"flag\"]");
    let steps = random.random_range(1..=4);
    let whole = steps == 1 && random.random_bool(0.3);
    let mut earlier: Vec<(String, bool)> = Vec::new();
    for step in 0..steps {
        let (event, other) = (one(random, &NAMES), one(random, &NAMES));
        let _ = writeln!(text, "[[pattern.step]]\nevent = \"{event}\"\nas = \"s{step}\"");
        let mut conditions = Vec::new();
        if let (Some((name, counts)), true) = (earlier.last(), random.random_bool(0.5)) {
            conditions.push(match (counts, random.random_range(0..6)) {
                (true, 0..2) => format!("amount >= 0.3 * {name}.sum(amount)"),
                (true, 2) => format!("{name}.distinct(device) <= 2"),
                (true, _) => format!("amount <= {name}.sum(amount, {other})"),
                (false, 0) => format!("device != {name}.device"),
                (false, 1) => format!("account = {name}.account"),
                (false, 2) => format!("amount >= 0.8 * {name}.amount"),
                (false, 3) => format!("since({name}) >= 2s"),
                (false, 4) => format!("distance({name}) >= 100"),
                (false, _) => format!("speed({name}) > 900000"),
            });
        }
        if !conditions.is_empty() {
            let _ = writeln!(
                text,
                "where = [{}]",
                conditions.iter().map(|c| format!("\"{c}\"")).collect::<Vec<_>>().join(", ")
            );
        }
        if step > 0 && random.random_bool(0.3) {
            let _ = writeln!(text, "not = [\"{other}\"]");
        }
        let counts = whole || random.random_bool(0.4);
        if counts {
            let _ = writeln!(text, "at_least = {}\nwhole_window = {whole}", random.random_range(1..4));
            if random.random_bool(0.5) {
                let of_earlier = earlier.iter().find(|(_, counts)| *counts).map(|(name, _)| name.clone());
                let having = match (random.random_range(0..6), of_earlier) {
                    (0, _) => "distinct(device) >= 2".to_owned(),
                    (1, _) => "sum(amount) >= 8.00".to_owned(),
                    (2, _) => format!("share({other}) >= 0.5"),
                    (3, _) => format!("count({other}) >= 1 and distinct(device, {other}) < 3"),
                    (_, Some(name)) => format!("sum(amount) >= 0.5 * {name}.sum(amount)"),
                    _ => format!("sum(amount, {other}) <= 0.6 * sum(amount)"),
                };
                let _ = writeln!(text, "having = [\"{having}\"]");
            }
        }
        earlier.push((format!("s{step}"), counts));
    }
    if !whole && random.random_bool(0.3) {
        let event = one(random, &NAMES);
        let _ = writeln!(text, "[[pattern.step]]\nabsent = \"{event}\"\nwithin = \"{}s\"", random.random_range(1..15));
        if let (Some((name, false)), true) = (earlier.last(), random.random_bool(0.4)) {
            let _ = writeln!(text, "where = [\"device = {name}.device\"]");
        }
    }
    if let Some(strategy) = after_match(random, &earlier) {
        text.insert_str(head, &format!("after_match = \"{strategy}\"\n"));
    }
}

/// A strategy for a pattern with these steps, of which some count.
fn after_match(random: &mut StdRng, steps: &[(String, bool)]) -> Option<String> {
    let (name, counts) = &steps[random.random_range(0..steps.len())];
    // The first event of a match cannot be skipped to.
    let later = *name != steps[0].0;
    match random.random_range(0..7) {
        0..2 => None,
        2 => Some(one(random, &["no_skip", "skip_to_next"]).to_owned()),
        3 if later => Some(format!("skip_to_first:{name}")),
        4 if later || *counts => Some(format!("skip_to_last:{name}")),
        _ => Some("skip_past_last".to_owned()),
    }
}

/// Records: in order for the most part, some late, corrected or withdrawn, many at equal times.
pub fn records(letters: &mut Letters, random: &mut StdRng, count: usize) -> Vec<Event> {
    // Half of them around midnight, where skipping begins anew.
    let mut now = if random.random_bool(0.5) { 1_700_006_350_000 } else { 1_700_000_000_000 };
    let mut records: Vec<Event> = Vec::new();
    for number in 1..=count as u64 {
        now += [0, 0, 500, 1_000, 1_000, 2_000, 3_000][random.random_range(0..7)];
        let earlier = records.len().checked_sub(1 + random.random_range(0..12)).map(|at| records[at].clone());
        let (id, time, op) = match (random.random_range(0..20), &earlier) {
            (0..3, _) => (number, now - 1_000 * random.random_range(1..25), Op::Insert),
            (3, Some(earlier)) => (earlier.id.lo, earlier.time + 1_000 * random.random_range(-3..3), Op::Correct),
            (4, Some(earlier)) => (earlier.id.lo, earlier.time, Op::Withdraw),
            _ => (number, now, Op::Insert),
        };
        if op == Op::Withdraw {
            records.extend(earlier.map(|mut earlier| {
                earlier.op = op;
                earlier
            }));
            continue;
        }
        letters.text("account", one(random, &["a", "b"])).text("device", one(random, &["d0", "d1", "d2"]));
        letters.text("payee", one(random, &["a", "b", "c"]));
        if random.random_bool(0.9) {
            letters.int("amount", 100 * random.random_range(1..10));
        }
        letters.int("flag", i64::from(random.random_bool(0.5)));
        if random.random_bool(0.8) {
            letters.float("lat", 50.0).float("lon", f64::from(random.random_range(0..4)));
        }
        // A correction keeps the kind, so that it has a row as before.
        let held =
            earlier.filter(|_| op == Op::Correct).map(|earlier| letters.schema.kinds()[earlier.kind as usize].clone());
        let kind = held.unwrap_or_else(|| one(random, &["p", "q", "r", "s"]).to_owned());
        records.push(letters.event(id, &kind, time, op));
    }
    records
}

#[test]
fn random_patterns_over_random_events() {
    let mut letters = Letters::new();
    let times = if std::env::var_os("DELTAWATCH_FULL").is_some() { FULL } else { 1 };
    let seeds = times * SEEDS;
    let mut wrong = Vec::new();
    let (mut matches, mut retracted) = (0, 0);
    for seed in 0..seeds {
        let mut random = StdRng::seed_from_u64(seed);
        let count = 1 + seed as usize % 3;
        let text = patterns(&mut random, count);
        let patterns = Patterns::parse(&text).unwrap_or_else(|error| panic!("seed {seed}: {error}\n{text}"));
        let (dataflow, setup) = flow(SCHEMA, &patterns);
        let records = records(&mut letters, &mut random, RECORDS);
        let harness = Harness::new(dataflow, setup.clone()).settings(EngineSettings::default());
        let batchings =
            [(Batching::One, 1), (Batching::EachEvent, 1), (Batching::Fixed(7), 2), (Batching::Fixed(3), 4)];
        for (batching, workers) in batchings {
            let mut plan = Plan::of(&records, batching);
            let end = plan.watermark_ms();
            plan.wait_until(end + 3_000);
            let outcome = compare(&harness.clone().workers(workers), &patterns, &setup.schema, &plan);
            let outcome = match outcome {
                Ok(outcome) => outcome,
                Err(error) => {
                    wrong.push(format!("seed {seed}, {batching:?}, {workers} workers: {error}\n{text}"));
                    continue;
                }
            };
            matches += outcome.collections.iter().filter(|update| update.diff > 0).count();
            retracted += outcome.collections.iter().filter(|update| update.diff < 0).count();
        }
    }
    eprintln!("{seeds} seeds, {matches} matches, {retracted} of them taken back");
    // The shortest pattern is the easiest to look into.
    wrong.sort_by_key(String::len);
    for one in &wrong {
        eprintln!("{}", one.lines().next().unwrap_or_default());
    }
    assert!(wrong.is_empty(), "{} runs of {} are wrong; the first: {}", wrong.len(), 4 * seeds, wrong[0]);
    assert!(
        matches > 20 * seeds as usize && retracted > 3 * seeds as usize,
        "{matches} matches, {retracted} taken back"
    );
}
