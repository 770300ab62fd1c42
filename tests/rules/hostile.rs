//! What is hostile or wrong is refused with its position, or bounded in time; nothing panics and no stack overflows.

use std::thread;
use std::time::Duration;

use cpu_time::ThreadTime;
use deltawatch::event::{Event, EventBuilder, Id, Op, Schema};
use deltawatch::score::lists::Lists;
use deltawatch::score::rules::{Expression, ExpressionValue, RuleFacts, RuleFile, Rules, Scope};
use rand::prelude::*;
use rand_chacha::ChaCha8Rng;

/// What workers have.
const STACK_BYTES: usize = 2 << 20;

fn schema() -> Schema {
    Schema::parse("payments", include_str!("../../dataflows/payments.toml")).expect("the shipped schema is valid")
}

fn columns() -> Vec<String> {
    ["card_count_10m", "card_amount_sum_1h"].map(str::to_owned).to_vec()
}

fn event(schema: &Schema, card: &str) -> Event {
    let mut builder = EventBuilder::new(schema);
    builder.set_text(schema.slot("card").expect("a field"), card);
    builder.finish(Id::from_int(1), 0, schema.default_kind(), Op::Insert, schema)
}

/// What an expression comes to; an error as it is shown.
type Outcome = Result<Option<ExpressionValue>, String>;

fn on_a_worker(sources: Vec<String>) -> Vec<Outcome> {
    timed_on_a_worker(sources).0
}

/// What expressions come to on a thread as workers are, and what that took of a core.
fn timed_on_a_worker(sources: Vec<String>) -> (Vec<Outcome>, Duration) {
    let run = move || {
        let begin = ThreadTime::now();
        let (schema, columns) = (schema(), columns());
        let (scope, event) = (Scope::new(&schema, &columns), event(&schema, "c-1"));
        let facts =
            RuleFacts { row: &[9.0, 12.5], score: 0.5, event: &event, kind: "payment", lists: &Lists::default() };
        let one = |source: &String| match Expression::new(source, &scope) {
            Ok(expression) => Ok(expression.value(&facts).ok()),
            Err(error) => Err(error.to_string()),
        };
        (sources.iter().map(one).collect(), begin.elapsed())
    };
    thread::Builder::new().stack_size(STACK_BYTES).spawn(run).expect("a thread").join().expect("no panic")
}

/// Expressions nested in every way, of about so many levels.
fn nested(levels: usize) -> Vec<String> {
    let around = |open: &str, inner: &str, close: &str| open.repeat(levels) + inner + &close.repeat(levels);
    vec![
        around("(", "score", ")") + " > 0.1",
        around("[", "1", "]") + " == 1",
        around("{1: ", "1", "}") + " == 1",
        around("!", "true", ""),
        around("-", "1", "") + " == 1",
        around("- ", "1", "") + " == 1",
        around("score > 0.1 ? 1 : ", "1", "") + " == 1",
        around("(score > 0.1 ? true : ", "true", ")"),
        around("1 + ", "1", "") + " == 1",
        around("1 * ", "1", "") + " == 1",
        around("1.0 / ", "1.0", "") + " == 1.0",
        around("'a' + ", "'a'", "") + " == card",
        around("1 < ", "1", ""),
        around("1 == ", "1", ""),
        around("1 in ", "[1]", ""),
        around("x.", "x", ""),
        around("", "card", ".card"),
        around("", "card", ".size()"),
        around("", "card", "[0]"),
        around("size(", "card", ")") + " == 1",
        around("is_missing(", "card", ")"),
        around("(1 + (2 * (-", "1", ")))") + " == 1",
        // Brackets in strings are no brackets, and what ends a string ends it.
        r"r'\' == card && ".to_owned() + &around("(", "true", ")"),
        r#"'\'' == card && "#.to_owned() + &around("(", "true", ")"),
        "'''it's''' == card && ".to_owned() + &around("(", "true", ")"),
        "true // it's\n && ".to_owned() + &around("(", "true", ")"),
        "'".to_owned() + &around("(", "1", ")"),
        r"'\q' == card && ".to_owned() + &around("1 + ", "1", ""),
        around("1 & ", "1", ""),
        around("(", "", ""),
        around(")", "", ""),
        around("[", "", ""),
        around("`", "", ""),
        around("? :", "", ""),
    ]
}

#[test]
fn nesting_of_every_kind_is_refused_or_evaluated_on_the_stack_of_a_worker() {
    for levels in [10, 40, 47, 100, 1_200, 100_000] {
        for (source, outcome) in nested(levels).iter().zip(on_a_worker(nested(levels))) {
            let begin = source.chars().take(30).collect::<String>();
            let error = match outcome {
                Ok(_) if levels < 100 => continue,
                Ok(value) => panic!("{levels} of {begin}: refused, not {value:?}"),
                Err(error) => error,
            };
            assert!(error.len() < 200 && !error.contains('\n'), "{levels} of {begin}: {error}");
            let (line, rest) = error.split_once(':').expect("a line");
            let (column, _) = rest.split_once(": ").expect("a column");
            assert!(line.parse::<usize>().is_ok_and(|line| line >= 1), "{levels} of {begin}: {error}");
            assert!(column.parse::<usize>().is_ok_and(|column| column >= 1), "{levels} of {begin}: {error}");
        }
    }
    let shallow = on_a_worker(nested(40));
    assert_eq!(shallow[0], Ok(Some(ExpressionValue::Bool(true))));
    assert_eq!(shallow[8], Ok(Some(ExpressionValue::Bool(false))));
    for at in [22, 23, 24, 25] {
        assert!(shallow[at].is_ok(), "{}: {:?}", nested(40)[at], shallow[at]);
    }
    let deep = on_a_worker(nested(100));
    assert_eq!(deep[0], Err("1:49: is nested deeper than 48".to_owned()));
    assert_eq!(deep[26], Err("1:1: this string is not closed".to_owned()));
}

#[test]
fn long_chains_and_lists_and_patterns_are_bounded_in_time() {
    let x = "x".repeat(8_000);
    let sources = [
        ("true && ".repeat(2_000) + "score > 0.1", Ok(Some(ExpressionValue::Bool(true)))),
        ("score > 0.9 || ".repeat(1_000) + "false", Ok(Some(ExpressionValue::Bool(false)))),
        ("true && false || ".repeat(900) + "true", Ok(Some(ExpressionValue::Bool(true)))),
        (format!("score in [{}0.5]", "1,".repeat(8_000)), Ok(Some(ExpressionValue::Bool(true)))),
        (format!("card in [{}'c-1']", "'a',".repeat(4_000)), Ok(Some(ExpressionValue::Bool(true)))),
        ("true && ".repeat(10_000) + "true", too_long(80_004)),
        ("1 + ".repeat(10_000) + "1 == 1", too_long(40_006)),
        (format!("score in [{}1]", "1,".repeat(100_000)), too_long(200_012)),
        ("a".repeat(1 << 20), too_long(1 << 20)),
        (" ".repeat(1 << 20), too_long(1 << 20)),
        // Matching takes time in proportion to the text, whatever the pattern.
        (format!("'{x}'.matches('(x+x+)+y')"), Ok(Some(ExpressionValue::Bool(false)))),
        (format!("'{x}'.matches('^(([a-z])+.)+[A-Z]([a-z])+$')"), Ok(Some(ExpressionValue::Bool(false)))),
        (
            "card.matches('(a{1000}){1000}')".to_owned(),
            Err("1:13: the pattern \"(a{1000}){1000}\": Compiled regex exceeds size limit of 262144 bytes.".to_owned()),
        ),
        (format!("card.matches('{}')", "(".repeat(5_000)), Err(String::new())),
        ("$".repeat(16_000), Err("1:1: syntax error: token recognition error at: '$'".to_owned())),
        (format!("{x} > 1"), Err(String::new())),
        (format!("1 {x}"), Err(String::new())),
        (format!("score > {}", "9".repeat(16_000)), Err("1:9: invalid int literal".to_owned())),
    ];
    let (sources, expected): (Vec<_>, Vec<_>) = sources.into_iter().unzip();
    let (outcomes, took) = timed_on_a_worker(sources.clone());
    for ((source, expected), outcome) in sources.iter().zip(expected).zip(outcomes) {
        let begin: String = source.chars().take(40).collect();
        match (&outcome, &expected) {
            // Any one short line will do.
            (Err(error), Err(any)) if any.is_empty() => assert!(error.len() < 300 && !error.contains('\n'), "{error}"),
            _ => assert_eq!(outcome, expected, "{begin}"),
        }
    }
    assert!(took < Duration::from_secs(1), "{took:?}");
}

fn too_long(bytes: usize) -> Outcome {
    Err(format!("1:1: has {bytes} bytes, and 16384 at most are allowed"))
}

#[test]
fn what_is_wrong_is_said_with_line_and_column() {
    let cases = [
        ("", "1:1: ends too early: something is missing here"),
        (" \n ", "2:2: ends too early: something is missing here"),
        ("score > ", "1:9: ends too early: something is missing here"),
        (
            "card_cuont_10m > 5",
            "1:1: no feature and no field of the event is called `card_cuont_10m`; did you mean `card_count_10m`?",
        ),
        ("event.amuont > 5.0", "1:6: no field of the event is called `amuont`; did you mean `amount`?"),
        ("features.card_count_10 > 5", "1:9: no feature is called `card_count_10`; did you mean `card_count_10m`?"),
        ("has(event.amuont)", "1:10: no field of the event is called `amuont`; did you mean `amount`?"),
        ("crad == 'x' && true", "1:1: no feature and no field of the event is called `crad`; did you mean `card`?"),
        ("is_mising(card)", "1:10: no function is called `is_mising`; did you mean `is_missing`?"),
        (
            "'é🐱é' == card && amuont > 1.0",
            "1:18: no feature and no field of the event is called `amuont`; did you mean `amount`?",
        ),
        ("true &&\n  'é' == 1", "2:7: a string is not compared with an int"),
        ("'é' == card && $", "1:16: syntax error: token recognition error at: '$'"),
        ("'é' == card && has(card)", "1:20: has() takes event.NAME or features.NAME"),
        ("true && 1", "1:9: && takes a bool, and this is an int"),
        ("!score", "1:2: ! takes a bool, and this is a double"),
        ("score + 1 > 2", "1:7: there is no double + int: write 1.0"),
        ("score + size(card) > 2", "1:7: there is no double + int: write double(X) around the int"),
        ("score > 0.5 ? 1 : 'a'", "1:13: the two sides of ?: are an int and a string"),
        ("card in ['é', 5]", "1:15: a list to look a string up in holds constants of that type only"),
        ("card in card", "1:9: `in` takes the name of a list, or constants as in kind in ['payment', 'refund']"),
        ("card.matches('(')", "1:13: the pattern \"(\": unclosed group"),
        ("card.matches(merchant)", "1:13: the pattern of matches() must be a constant"),
        ("[1, 2].exists(x, x > 1)", "1:14: loops (all, exists, exists_one, map, filter) are not supported"),
        ("size(card, 1)", "1:5: size is not called like this"),
        ("9223372036854775808 > 1", "1:1: invalid int literal"),
        ("card == null", "1:9: null is not supported: ask is_missing(X) or has(event.X)"),
        ("1u == 1u", "1:1: unsigned ints are not supported: leave out the u"),
        ("card == b'a'", "1:9: bytes are not supported: leave out the b"),
        ("event == card", "1:1: no feature and no field of the event is called `event`"),
        ("card == 'a", "1:9: this string is not closed"),
        ("card == \"a\nb\"", "1:9: this string is not closed"),
        ("card == '''a", "1:9: this string is not closed"),
        ("card ==\n r'\\", "2:3: this string is not closed"),
        (r"card == '\q'", r"1:11: there is no such escape: write \\ for a backslash"),
        (r"card == '\u{41}'", "1:12: this escape takes 4 more digits of base 16"),
        (r"card == '\ud800'", "1:9: this string has an escape that is no character"),
        ("true\0", r"1:5: syntax error: token recognition error at: '\u{0}'"),
        ("tru\u{e9} == 1", "1:4: syntax error: token recognition error at: 'é'"),
        ("if", "1:1: reserved identifier: if"),
    ];
    let sources = cases.iter().map(|(source, _)| (*source).to_owned()).collect();
    for ((source, expected), outcome) in cases.iter().zip(on_a_worker(sources)) {
        assert_eq!(outcome, Err((*expected).to_owned()), "{source:?}");
    }
}

#[test]
fn strings_of_every_kind_are_read() {
    let cases = [
        (r"card == r'\d' + '-' + 'c' || card == 'c' + '-1'", true),
        (r#"r"\" + 'x' == '\\x'"#, true),
        ("'''it's \"x\"\n''' == 'it\\'s \"x\"\\n'", true),
        (r#""""a"b""" == 'a"b'"#, true),
        (r"r'''\''' == '\\'", true),
        (r"'\x41\u00e9\101\U0001f431' == 'AéA🐱'", true),
        ("size('é🐱') == 2", true),
        ("'a' < 'é' && 'é'.endsWith('é')", true),
        ("'' == card", false),
    ];
    let sources = cases.iter().map(|(source, _)| (*source).to_owned()).collect();
    for ((source, expected), outcome) in cases.iter().zip(on_a_worker(sources)) {
        assert_eq!(outcome, Ok(Some(ExpressionValue::Bool(*expected))), "{source:?}");
    }
}

#[test]
fn noise_is_refused_or_evaluated() {
    const PARTS: [&str; 44] = [
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "!",
        "-",
        "+",
        "*",
        "/",
        "%",
        "?",
        ":",
        ".",
        ",",
        "&&",
        "||",
        "&",
        "==",
        "<",
        ">=",
        " in ",
        "1",
        "1.5",
        "'a'",
        "\"",
        "'",
        "'''",
        "r'",
        "b'",
        "\\",
        "card",
        "event.",
        "features.",
        "score",
        "has(",
        "size(",
        "é",
        "\0",
        "\n",
        "//",
        "0x",
        "`",
    ];
    let mut random = ChaCha8Rng::seed_from_u64(12);
    let mut one = || (0..random.random_range(1..40)).map(|_| *PARTS.choose(&mut random).expect("a part")).collect();
    let sources: Vec<String> = (0..5_000).map(|_| one()).collect();
    let outcomes = on_a_worker(sources);
    let refused = outcomes.iter().filter(|outcome| outcome.is_err()).count();
    assert!(refused < outcomes.len(), "something is an expression by chance");
    for error in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
        assert!(!error.chars().any(char::is_control), "{error:?}");
    }
}

/// What is said of a file of rules.
fn said(text: &str) -> String {
    let content = match RuleFile::parse("rules.toml", text) {
        Ok(content) => content,
        Err(error) => return error.to_string(),
    };
    Rules::new("rules.toml", content, &schema(), &columns()).map_or_else(|error| error.to_string(), |_| "valid".into())
}

const RULE: &str = "[[rule]]\nid = \"one\"\nwhen = \"score > 0.5\"\naction = \"review\"\nreason = \"It may be.\"\n";

#[test]
fn files_that_are_wrong_are_refused_in_a_line() {
    let with = |line: &str| format!("{RULE}{line}\n");
    let changed = |from: &str, to: &str| RULE.replace(from, to);
    let cases = [
        (RULE.to_owned(), "valid"),
        (String::new(), "valid"),
        (RULE.repeat(2), "rules.toml: rule one: id: another rule has it already; give it one of its own"),
        (
            with("scrore = 0.1"),
            "rules.toml: line 6: unknown field `scrore`, expected one of `id`, `version`, `when`, `action`, `score`, `reason`, `mode`, `scope`, `priority`, `valid_from`, `valid_until`, `owner`",
        ),
        (
            changed("when", "wenn"),
            "rules.toml: line 3: unknown field `wenn`, expected one of `id`, `version`, `when`, `action`, `score`, `reason`, `mode`, `scope`, `priority`, `valid_from`, `valid_until`, `owner`",
        ),
        (changed("reason = \"It may be.\"", ""), "rules.toml: line 1: missing field `reason`"),
        (changed("It may be.", " "), "rules.toml: rule one: reason: says nothing; say why the rule exists"),
        (
            changed("review", "refuse"),
            "rules.toml: line 4: unknown variant `refuse`, expected one of `tag`, `allow`, `review`, `challenge`, `block`",
        ),
        (
            changed("\"one\"", "\"one two\""),
            "rules.toml: rule one two: id: takes letters, digits and -_. , 128 at most",
        ),
        (changed("0.5", "0.5 &&"), "rules.toml: rule one: when: 1:15: ends too early: something is missing here"),
        (
            changed("score > 0.5", "score"),
            "rules.toml: rule one: when: 1:1: is a double and not a bool: compare it with something",
        ),
        (
            changed("score > 0.5", "score >\\n crad"),
            "rules.toml: rule one: when: 2:2: no feature and no field of the event is called `crad`; did you mean `card`?",
        ),
        (
            with("scope = [\"payments\"]"),
            "rules.toml: rule one: scope: no kind of event that is scored is called `payments`; there are payment",
        ),
        (
            with("scope = [\"login\"]"),
            "rules.toml: rule one: scope: no kind of event that is scored is called `login`; there are payment",
        ),
        (with("score = 1.5"), "rules.toml: rule one: score: is 1.5; a score is between -1 and 1"),
        (with("score = nan"), "rules.toml: rule one: score: is NaN; a score is between -1 and 1"),
        (
            changed("review", "tag") + "score = 0.1\n",
            "rules.toml: rule one: score: a tag adds nothing to the score; take another action, or leave it out",
        ),
        (
            with("valid_from = \"2026-02-01T00:00:00Z\"\nvalid_until = \"2026-01-01T00:00:00Z\""),
            "rules.toml: rule one: valid_until: is not behind valid_from",
        ),
        (
            with("mode = \"of\""),
            "rules.toml: line 6: unknown variant `of`, expected one of `active`, `shadow`, `paused`",
        ),
        (
            with("[thresholds]\nreview = 0.9\nblock = 0.8"),
            "rules.toml: [thresholds]: they are between 0 and 1, review <= challenge <= block",
        ),
        (
            with("[thresholds]\nblock = 1.5"),
            "rules.toml: [thresholds]: they are between 0 and 1, review <= challenge <= block",
        ),
        (
            with("[thresholds]\nblock = nan"),
            "rules.toml: [thresholds]: they are between 0 and 1, review <= challenge <= block",
        ),
        (
            with("[thresholds]\nblok = 0.5"),
            "rules.toml: line 7: unknown field `blok`, expected one of `review`, `challenge`, `block`",
        ),
        // One that is paused may be promoted at any moment.
        (
            changed("score > 0.5", "crad") + "mode = \"paused\"\n",
            "rules.toml: rule one: when: 1:1: no feature and no field of the event is called `crad`; did you mean `card`?",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(said(&text), expected, "{text}");
    }
    let absent = RuleFile::load(std::path::Path::new("no/such/rules.toml")).expect_err("there is none").to_string();
    assert_eq!(absent, "no/such/rules.toml: cannot read it (No such file or directory (os error 2)); check the path");
}
