//! The conformance cases of CEL: what is supported comes to what they say, and the rest is refused with its position.

use std::path::Path;

use deltawatch::event::{Event, EventBuilder, Id, Op, Schema};
use deltawatch::score::lists::Lists;
use deltawatch::score::rules::{Expression, ExpressionValue, RuleFacts, Scope};

use super::textproto::{Message, Proto};

/// Files, and how many of their cases pass at least: supported, and equal to what they say. Of messages, loops and times nothing is in
/// the subset. No case differs on purpose: what rules do in another way than CEL (NaN is missing in feature columns, a pattern is a
/// constant, `%` takes ints) is refused in the cases, or does not come up.
const FILES: [(&str, usize); 13] = [
    ("basic", 21),
    ("comparisons", 90),
    ("conversions", 34),
    ("fields", 0),
    ("fp_math", 29),
    ("integer_math", 41),
    ("lists", 4),
    ("logic", 21),
    ("macros", 0),
    ("parse", 88),
    ("plumbing", 2),
    ("string", 45),
    ("timestamps", 0),
];

const SCHEMA: &str = r#"
name = "nothing"
field = [
  { name = "id__", type = "int", role = "id" },
  { name = "time__", type = "time", role = "time" },
]
"#;

/// What became of a case.
#[derive(PartialEq)]
enum Outcome {
    Passed,
    Refused,
    Wrong(String),
}

fn nothing(schema: &Schema) -> Event {
    EventBuilder::new(schema).finish(Id::from_int(1), 0, schema.default_kind(), Op::Insert, schema)
}

/// What is expected, if it is of a type that rules have.
fn expected(value: &Message) -> Option<ExpressionValue> {
    let (name, value) = value.only();
    Some(match (name, value) {
        ("bool_value", Proto::Plain(value)) => ExpressionValue::Bool(value.parse().expect("a bool")),
        ("int64_value", Proto::Plain(value)) => ExpressionValue::Int(value.parse().expect("an int")),
        ("double_value", Proto::Plain(value)) => ExpressionValue::Double(value.parse().expect("a double")),
        ("string_value", value) => ExpressionValue::Text(String::from_utf8(value.bytes().to_vec()).expect("a string")),
        _ => return None,
    })
}

fn same(one: &ExpressionValue, other: &ExpressionValue) -> bool {
    match (one, other) {
        (ExpressionValue::Double(one), ExpressionValue::Double(other)) => {
            one == other || (one.is_nan() && other.is_nan())
        }
        _ => one == other,
    }
}

fn outcome(case: &Message, schema: &Schema) -> Outcome {
    let source = case.text("expr");
    let expression = match Expression::new(&source, &Scope::new(schema, &[])) {
        Ok(expression) => expression,
        Err(error) => {
            // The position is in the source, or just behind it.
            let lines: Vec<&str> = source.split('\n').collect();
            let there = error.line.checked_sub(1).and_then(|line| lines.get(line));
            let placed = there.is_some_and(|line| (1..=line.chars().count() + 1).contains(&error.column));
            let said = !error.reason.is_empty() && !error.reason.contains('\n');
            return if placed && said { Outcome::Refused } else { Outcome::Wrong(format!("{source}: {error}")) };
        }
    };
    let facts = RuleFacts { row: &[], score: 0.0, event: &nothing(schema), kind: "", lists: &Lists::default() };
    let value = expression.value(&facts);
    if case.has("eval_error") {
        return match value {
            Err(_) => Outcome::Passed,
            Ok(value) => Outcome::Wrong(format!("{source}: an error, not {value:?}")),
        };
    }
    // Without a value the case says true.
    let wanted = case.messages("value").next().map_or(Some(ExpressionValue::Bool(true)), expected);
    match (wanted, value) {
        (Some(wanted), Ok(value)) if same(&wanted, &value) => Outcome::Passed,
        (wanted, value) => Outcome::Wrong(format!("{source}: {wanted:?}, not {value:?}")),
    }
}

#[test]
fn cases_of_the_language_pass_or_are_refused_with_their_position() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/cel-spec");
    if !folder.is_dir() {
        eprintln!("SKIPPED: {} is not there", folder.display());
        return;
    }
    let schema = Schema::parse("nothing", SCHEMA).expect("a schema");
    let (mut wrong, mut few) = (Vec::new(), Vec::new());
    for (name, passed_min) in FILES {
        let text = std::fs::read_to_string(folder.join(format!("{name}.textproto"))).expect("a file of cases");
        let file = Message::parse(&text);
        let (mut passed, mut refused, mut elsewhere) = (0, 0, 0);
        for section in file.messages("section") {
            for case in section.messages("test") {
                let case_name = format!("{name}/{}/{}", section.text("name"), case.text("name"));
                // Their names and types are not those of an event; still they must do no harm.
                if ["type_env", "bindings", "container"].iter().any(|field| case.has(field)) {
                    let _ = outcome(case, &schema);
                    elsewhere += 1;
                    continue;
                }
                match outcome(case, &schema) {
                    Outcome::Passed => passed += 1,
                    Outcome::Refused => refused += 1,
                    Outcome::Wrong(what) => wrong.push(format!("{case_name}: {what}")),
                }
            }
        }
        println!("{name}: {passed} passed, {refused} refused, {elsewhere} need declarations that rules do not have");
        if passed < passed_min {
            few.push(format!("{name}: {passed} passed, at least {passed_min} did"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(few.is_empty(), "{}", few.join("\n"));
}
