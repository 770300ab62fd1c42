//! Lowered programs beside the interpreter of the `cel` crate, over random expressions and rows; and beside a reference of our own where
//! something is missing, which CEL does not know.

use std::collections::HashMap;

use cel::{Context, Program, Value};
use deltawatch::event::{Event, EventBuilder, Id, Op, Schema};
use deltawatch::score::rules::{RuleCondition, RuleFacts, Scope};
use rand::prelude::*;
use rand_chacha::ChaCha8Rng;

use super::listed::{LISTED, listed, lists};

const SCHEMA: &str = r#"
name = "oracle"
field = [
  { name = "id", type = "int", role = "id" },
  { name = "time", type = "time", role = "time" },
  { name = "card", type = "text" },
  { name = "shop", type = "text" },
  { name = "count", type = "int" },
  { name = "big", type = "int" },
  { name = "amount", type = "decimal", scale = 2 },
  { name = "ratio", type = "float" },
  { name = "abroad", type = "bool" },
  { name = "trusted", type = "bool" },
]
"#;

const COLUMNS: [&str; 3] = ["seen_10m", "sum_1h", "share"];
const TEXTS: [&str; 10] = ["", "a", "ab", "abc", "payment", "é🐱", "12", "-7", "1.5", "0.5"];
const INTS: [i64; 9] = [0, 1, -1, 2, 7, 1_000, i64::MAX, i64::MIN, i64::MAX / 2];
/// Products of eight of them fit: what is not a number, which the interpreter has no order for, is in the conformance cases.
const DOUBLES: [f64; 10] = [0.0, -0.0, 1.0, -1.0, 0.5, 2.0, 7.0, 1e9, 1e30, -1e30];

/// Times of events, milliseconds.
const TIMES: std::ops::Range<i64> = 3..8;

/// Programs; `DELTAWATCH_FULL=1` takes so many times as many.
const PROGRAMS: usize = 20_000;
const FULL: usize = 5;
const ROWS: usize = 300;
const ROWS_PER_PROGRAM: usize = 5;

/// What a program reads; `None` is missing.
struct Row {
    time: i64,
    texts: [Option<&'static str>; 2],
    ints: [Option<i64>; 2],
    cents: Option<i64>,
    ratio: Option<f64>,
    bools: [Option<bool>; 2],
    columns: [Option<f64>; 3],
    score: f64,
}

impl Row {
    fn random(random: &mut ChaCha8Rng, present: f64) -> Row {
        fn some<T>(random: &mut ChaCha8Rng, present: f64, of: impl FnOnce(&mut ChaCha8Rng) -> T) -> Option<T> {
            random.random_bool(present).then(|| of(random))
        }
        let text = |random: &mut ChaCha8Rng| *TEXTS.choose(random).expect("a text");
        let bool = |random: &mut ChaCha8Rng| random.random_bool(0.5);
        let double = |random: &mut ChaCha8Rng| *DOUBLES.choose(random).expect("a double");
        Row {
            time: random.random_range(TIMES),
            texts: [(); 2].map(|()| some(random, present, text)),
            ints: [
                some(random, present, |random| random.random_range(-3..10)),
                some(random, present, |random| *INTS.choose(random).expect("an int")),
            ],
            cents: some(random, present, |random| random.random_range(-500..20_000)),
            ratio: some(random, present, double),
            bools: [(); 2].map(|()| some(random, present, bool)),
            columns: [(); 3].map(|()| some(random, present, double)),
            score: random.random_range(0..=20) as f64 / 20.0,
        }
    }

    fn columns(&self) -> Vec<f64> {
        self.columns.iter().map(|column| column.unwrap_or(f64::NAN)).collect()
    }

    fn event(&self, schema: &Schema) -> Event {
        let mut builder = EventBuilder::new(schema);
        let slot = |name| schema.slot(name).expect("a field");
        for (name, text) in ["card", "shop"].into_iter().zip(self.texts) {
            text.into_iter().for_each(|text| builder.set_text(slot(name), text));
        }
        let bools = self.bools.map(|value| value.map(i64::from));
        let ints = [self.ints[0], self.ints[1], self.cents, bools[0], bools[1], Some(self.time)];
        for (name, int) in ["count", "big", "amount", "abroad", "trusted", "time"].into_iter().zip(ints) {
            int.into_iter().for_each(|int| builder.set_int(slot(name), int));
        }
        self.ratio.into_iter().for_each(|ratio| builder.set_float(slot("ratio"), ratio));
        builder.finish(Id::from_int(1), self.time, schema.default_kind(), Op::Insert, schema)
    }

    /// The same for the interpreter; all of it is there.
    fn context(&self) -> Context<'static, 'static> {
        let text = |at: usize| Value::from(self.texts[at].expect("a text"));
        let event = HashMap::from([
            ("card", text(0)),
            ("shop", text(1)),
            ("count", Value::Int(self.ints[0].expect("an int"))),
            ("big", Value::Int(self.ints[1].expect("an int"))),
            ("time", Value::Int(self.time)),
            ("amount", Value::Float(self.amount().expect("an amount"))),
            ("ratio", Value::Float(self.ratio.expect("a ratio"))),
            ("abroad", Value::Bool(self.bools[0].expect("a bool"))),
            ("trusted", Value::Bool(self.bools[1].expect("a bool"))),
        ]);
        let columns = COLUMNS.into_iter().zip(self.columns.map(|column| Value::Float(column.expect("a column"))));
        let features: HashMap<&str, Value> = columns.collect();
        let mut context = Context::default();
        for (name, value) in event.iter().chain(&features) {
            context.add_variable_from_value(*name, value.clone());
        }
        for (list, (name, _)) in LISTED.iter().enumerate() {
            // Ints are on it as the texts that they are written as, which the interpreter does not take for the same.
            let ints = listed(list, self.time)
                .filter_map(|value| value.parse().ok().filter(|int: &i64| int.to_string() == value));
            let values: Vec<Value> = listed(list, self.time).map(Value::from).chain(ints.map(Value::Int)).collect();
            context.add_variable_from_value(*name, values);
        }
        context.add_variable_from_value("event", event);
        context.add_variable_from_value("features", features);
        context.add_variable_from_value("score", self.score);
        context.add_variable_from_value("kind", "payment");
        context
    }

    fn amount(&self) -> Option<f64> {
        self.cents.map(|cents| cents as f64 / 100.0)
    }
}

/// Writes random expressions of a type, `depth` levels deep at most.
struct Writer(ChaCha8Rng);

impl Writer {
    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of.choose(&mut self.0).expect("something to pick")
    }

    fn bool(&mut self, depth: u32) -> String {
        if depth == 0 {
            let leaves =
                ["true", "false", "abroad", "event.trusted", "event.abroad", "has(event.card)", "has(features.share)"];
            return self.pick(&leaves).to_owned();
        }
        let comparison = self.pick(&["==", "!=", "<", "<=", ">", ">="]);
        let deeper = depth - 1;
        match self.0.random_range(0..19) {
            0 | 1 => format!("({} && {})", self.bool(deeper), self.bool(deeper)),
            2 => format!("({} && {} && {})", self.bool(deeper), self.bool(deeper), self.bool(deeper)),
            3 | 4 => format!("({} || {})", self.bool(deeper), self.bool(deeper)),
            5 => format!("!{}", self.bool(deeper)),
            6 => format!("({} ? {} : {})", self.bool(deeper), self.bool(deeper), self.bool(deeper)),
            7 => format!("({} {comparison} {})", self.int(deeper), self.int(deeper)),
            8 => format!("({} {comparison} {})", self.double(deeper), self.double(deeper)),
            // The interpreter rounds ints to doubles: those that are large are compared in the conformance cases.
            9 => format!("({} {comparison} {})", self.small_int(), self.double(deeper)),
            10 => format!("({} {comparison} {})", self.double(deeper), self.small_int()),
            11 => format!("({} {comparison} {})", self.text(deeper), self.text(deeper)),
            12 => format!("({} {comparison} {})", self.bool(deeper), self.bool(deeper)),
            13 => self.among(deeper),
            15 | 16 => {
                let list = self.pick(&["blocked", "seen"]);
                let value = if self.0.random_bool(0.6) { self.text(deeper) } else { self.int(deeper) };
                format!("({value} in {list})")
            }
            14 => format!("({} {comparison} 1.0 / {})", self.double(deeper), self.pick(&["0.0", "-0.0"])),
            _ => {
                let search = self.pick(&["contains", "startsWith", "endsWith"]);
                format!("{}.{search}({})", self.text(deeper), self.text(deeper))
            }
        }
    }

    fn among(&mut self, depth: u32) -> String {
        let long = self.0.random_range(0..6);
        match self.0.random_range(0..3) {
            0 => {
                let list: Vec<String> = (0..long).map(|_| self.literal_text()).collect();
                format!("({} in [{}])", self.text(depth), list.join(", "))
            }
            1 => {
                let list: Vec<String> = (0..long).map(|_| self.literal_int()).collect();
                format!("({} in [{}])", self.int(depth), list.join(", "))
            }
            _ => {
                let one = |writer: &mut Writer| {
                    if writer.0.random_bool(0.3) { "2".to_owned() } else { writer.literal_double() }
                };
                let list: Vec<String> = (0..long).map(|_| one(self)).collect();
                format!("({} in [{}])", self.double(depth), list.join(", "))
            }
        }
    }

    fn literal_int(&mut self) -> String {
        INTS.choose(&mut self.0).expect("an int").to_string()
    }

    fn literal_double(&mut self) -> String {
        format!("{:?}", DOUBLES.choose(&mut self.0).expect("a double"))
    }

    fn literal_text(&mut self) -> String {
        format!("'{}'", TEXTS.choose(&mut self.0).expect("a text"))
    }

    fn small_int(&mut self) -> String {
        match self.0.random_range(0..3) {
            0 => "count".to_owned(),
            1 => format!("size({})", self.text(0)),
            _ => self.0.random_range(-9..10).to_string(),
        }
    }

    fn int(&mut self, depth: u32) -> String {
        if depth == 0 {
            let field = self.pick(&["count", "event.big", "event.time", "big", "event.count"]);
            return if self.0.random_bool(0.5) { field.to_owned() } else { self.literal_int() };
        }
        let (deeper, sign) = (depth - 1, self.pick(&["+", "-", "*", "/", "%"]));
        match self.0.random_range(0..9) {
            0..4 => format!("({} {sign} {})", self.int(deeper), self.int(deeper)),
            4 => format!("-({})", self.int(deeper)),
            5 => format!("({} ? {} : {})", self.bool(deeper), self.int(deeper), self.int(deeper)),
            6 => format!("{}.size()", self.text(deeper)),
            7 => format!("int({})", self.double(deeper)),
            _ => format!("int({})", self.text(deeper)),
        }
    }

    fn double(&mut self, depth: u32) -> String {
        if depth == 0 {
            let fields =
                ["seen_10m", "features.sum_1h", "share", "features.share", "event.amount", "amount", "ratio", "score"];
            let field = self.pick(&fields);
            return if self.0.random_bool(0.7) { field.to_owned() } else { self.literal_double() };
        }
        let (deeper, sign) = (depth - 1, self.pick(&["+", "-", "*"]));
        match self.0.random_range(0..8) {
            0..3 => format!("({} {sign} {})", self.double(deeper), self.double(deeper)),
            3 => format!("({} / {})", self.double(deeper), self.pick(&["0.5", "-2.0", "3.0"])),
            4 => format!("-({})", self.double(deeper)),
            5 => format!("({} ? {} : {})", self.bool(deeper), self.double(deeper), self.double(deeper)),
            6 => format!("double({})", self.int(deeper)),
            _ => format!("double({})", self.text(deeper)),
        }
    }

    fn text(&mut self, depth: u32) -> String {
        if depth == 0 {
            let field = self.pick(&["card", "event.shop", "event.card", "kind"]);
            return if self.0.random_bool(0.5) { field.to_owned() } else { self.literal_text() };
        }
        let deeper = depth - 1;
        match self.0.random_range(0..5) {
            0 | 1 => format!("({} + {})", self.text(deeper), self.text(deeper)),
            2 => format!("({} ? {} : {})", self.bool(deeper), self.text(deeper), self.text(deeper)),
            3 => format!("string({})", self.int(deeper)),
            _ => format!("string({})", self.bool(deeper)),
        }
    }
}

#[test]
fn lowered_programs_say_what_the_interpreter_says() {
    let schema = Schema::parse("oracle", SCHEMA).expect("a schema");
    let columns = COLUMNS.map(str::to_owned);
    let lists = lists();
    let scope = Scope::new(&schema, &columns).with_lists(&lists);
    let mut random = ChaCha8Rng::seed_from_u64(6);
    let rows: Vec<_> = (0..ROWS)
        .map(|_| {
            let row = Row::random(&mut random, 1.0);
            (row.columns(), row.event(&schema), row.context(), row.score)
        })
        .collect();
    let mut writer = Writer(ChaCha8Rng::seed_from_u64(7));
    let times = if std::env::var_os("DELTAWATCH_FULL").is_some() { FULL } else { 1 };
    let (mut holds, mut fails, mut faults) = (0, 0, 0);
    for number in 0..PROGRAMS * times {
        let source = writer.bool(1 + (number % 4) as u32);
        let condition = RuleCondition::new(&source, &scope).unwrap_or_else(|error| panic!("{source}: {error}"));
        let program = Program::compile(&source).unwrap_or_else(|error| panic!("{source}: {error}"));
        for _ in 0..ROWS_PER_PROGRAM {
            let (row, event, context, score) = rows.choose(&mut random).expect("a row");
            let lowered = condition.holds(&RuleFacts { row, score: *score, event, kind: "payment", lists: &lists });
            match (program.execute(context), lowered) {
                (Ok(Value::Bool(true)), Ok(true)) => holds += 1,
                (Ok(Value::Bool(false)), Ok(false)) => fails += 1,
                (Err(_), Err(_)) => faults += 1,
                (wanted, found) => panic!("{source}\n  {wanted:?}, not {found:?}, over {row:?} {event:?} {score}"),
            }
        }
    }
    let all = (PROGRAMS * times * ROWS_PER_PROGRAM) as f64;
    println!("{holds} hold, {fails} do not, {faults} have no value");
    assert!(f64::from(holds.min(fails)) > 0.2 * all && f64::from(faults) > 0.02 * all, "some of each");
}

/// An expression, and what it is by a reference.
struct Made<T> {
    source: String,
    of: Box<dyn Fn(&Row) -> T>,
}

fn made<T>(source: impl Into<String>, of: impl Fn(&Row) -> T + 'static) -> Made<T> {
    Made { source: source.into(), of: Box::new(of) }
}

/// A double of a row, or a sum of two.
fn number(random: &mut ChaCha8Rng, depth: u32) -> Made<Option<f64>> {
    if depth > 0 && random.random_bool(0.4) {
        let (one, other) = (number(random, depth - 1), number(random, depth - 1));
        return made(format!("({} + {})", one.source, other.source), move |row| {
            Some((one.of)(row)? + (other.of)(row)?)
        });
    }
    match random.random_range(0..6) {
        0 => made("event.amount", Row::amount),
        1 => made("ratio", |row| row.ratio),
        2 => made("double(count)", |row| row.ints[0].map(|int| int as f64)),
        3 => made("2.0", |_| Some(2.0)),
        _ => {
            let at = random.random_range(0..COLUMNS.len());
            made(format!("features.{}", COLUMNS[at]), move |row| row.columns[at])
        }
    }
}

fn word(random: &mut ChaCha8Rng) -> Made<Option<String>> {
    match random.random_range(0..5) {
        0 => made("'abc'", |_| Some("abc".to_owned())),
        1 => made("card", |row| row.texts[0].map(str::to_owned)),
        2 => made("event.shop", |row| row.texts[1].map(str::to_owned)),
        3 => made("(card + 'c')", |row| row.texts[0].map(|text| format!("{text}c"))),
        _ => made("string(abroad)", |row| row.bools[0].map(|value| value.to_string())),
    }
}

fn compare<T: PartialOrd + 'static>(one: Made<Option<T>>, how: usize, other: Made<Option<T>>) -> Made<bool> {
    let sign = ["==", "!=", "<", "<=", ">", ">="][how];
    made(format!("({} {sign} {})", one.source, other.source), move |row| match ((one.of)(row), (other.of)(row)) {
        (Some(one), Some(other)) => {
            [one == other, one != other, one < other, one <= other, one > other, one >= other][how]
        }
        _ => false,
    })
}

/// A condition over what may be missing.
fn condition(random: &mut ChaCha8Rng, depth: u32) -> Made<bool> {
    let how = random.random_range(0..6);
    if depth > 0 && random.random_bool(0.6) {
        let (one, other) = (condition(random, depth - 1), condition(random, depth - 1));
        return match random.random_range(0..4) {
            0 => made(format!("({} && {})", one.source, other.source), move |row| (one.of)(row) && (other.of)(row)),
            1 => made(format!("({} || {})", one.source, other.source), move |row| (one.of)(row) || (other.of)(row)),
            2 => made(format!("!{}", one.source), move |row| !(one.of)(row)),
            _ => {
                let when = condition(random, depth - 1);
                let source = format!("({} ? {} : {})", when.source, one.source, other.source);
                made(source, move |row| if (when.of)(row) { (one.of)(row) } else { (other.of)(row) })
            }
        };
    }
    match random.random_range(0..12) {
        0..3 => compare(number(random, 2), how, number(random, 2)),
        3 => compare(word(random), how, word(random)),
        4 => {
            let flag = random.random_bool(0.5);
            compare(made("trusted", |row| row.bools[1]), how, made(flag.to_string(), move |_| Some(flag)))
        }
        5 => {
            let number = number(random, 2);
            made(format!("is_missing({})", number.source), move |row| (number.of)(row).is_none())
        }
        6 => {
            let word = word(random);
            made(format!("is_missing({})", word.source), move |row| (word.of)(row).is_none())
        }
        7 => {
            let word = word(random);
            let source = format!("({} in ['abc', 'true', ''])", word.source);
            made(source, move |row| (word.of)(row).is_some_and(|text| ["abc", "true", ""].contains(&&*text)))
        }
        8 => {
            let word = word(random);
            let source = format!("{}.matches('^[ab]+$')", word.source);
            let fits = |text: String| !text.is_empty() && text.chars().all(|c| matches!(c, 'a' | 'b'));
            made(source, move |row| (word.of)(row).is_some_and(fits))
        }
        9 => match random.random_range(0..4) {
            0 => made("has(event.amount)", |row| row.cents.is_some()),
            1 => made("has(event.shop)", |row| row.texts[1].is_some()),
            2 => made("has(features.share)", |row| row.columns[2].is_some()),
            _ => made("is_missing(event.trusted)", |row| row.bools[1].is_none()),
        },
        10 => {
            let list = random.random_range(0..LISTED.len());
            let name = LISTED[list].0;
            if random.random_bool(0.3) {
                return made(format!("(count in {name})"), move |row| {
                    row.ints[0].is_some_and(|int| listed(list, row.time).any(|value| value == int.to_string()))
                });
            }
            let word = word(random);
            let source = format!("({} in {name})", word.source);
            made(source, move |row| {
                (word.of)(row).is_some_and(|text| listed(list, row.time).any(|value| value == text))
            })
        }
        // By itself a missing bool does not hold.
        _ => made("abroad", |row| row.bools[0] == Some(true)),
    }
}

#[test]
fn what_is_missing_makes_a_comparison_false() {
    let schema = Schema::parse("oracle", SCHEMA).expect("a schema");
    let columns = COLUMNS.map(str::to_owned);
    let lists = lists();
    let scope = Scope::new(&schema, &columns).with_lists(&lists);
    let mut random = ChaCha8Rng::seed_from_u64(8);
    let rows: Vec<_> = (0..ROWS)
        .map(|_| {
            let row = Row::random(&mut random, 0.6);
            (row.columns(), row.event(&schema), row)
        })
        .collect();
    let mut held = 0;
    for _ in 0..PROGRAMS / 4 {
        let wanted = condition(&mut random, 3);
        let source = &wanted.source;
        let lowered = RuleCondition::new(source, &scope).unwrap_or_else(|error| panic!("{source}: {error}"));
        for _ in 0..ROWS_PER_PROGRAM {
            let (columns, event, row) = rows.choose(&mut random).expect("a row");
            let found =
                lowered.holds(&RuleFacts { row: columns, score: row.score, event, kind: "payment", lists: &lists });
            assert_eq!(found, Ok((wanted.of)(row)), "{source} over {columns:?} {event:?}");
            held += usize::from(found == Ok(true));
        }
    }
    let share = held as f64 / (PROGRAMS / 4 * ROWS_PER_PROGRAM) as f64;
    assert!((0.2..0.8).contains(&share), "{share} of them hold");
}
