//! Patterns that are refused: each error names the pattern, the place and what to do.

use deltawatch::event::Schema;
use deltawatch::views::pattern::Patterns;

use super::flow::SCHEMA;

/// What is wrong with a pattern: the lines behind its name, and words of the error.
const WRONG: [(&str, &[&str]); 32] = [
    ("", &["pattern 'wrong', key", "name the field"]),
    ("key = 'card'", &["'card'", "add it there"]),
    ("key = 'cluster'", &["clusters are not there yet"]),
    ("key = ['account', 'device', 'payee']", &["one field or two"]),
    ("key = 'account'\nwithin = '1h'", &["there is none", "[[pattern.step]]"]),
    ("key = 'account'\nwithin = '1 hour'", &["within", "30m"]),
    ("key = 'account'\nwithn = '1h'", &["unknown field", "withn"]),
    ("key = 'account'\n[pattern.events.e]\nkind = 'x'", &["event 'e'", "no kind 'x'"]),
    ("key = 'account'\n[pattern.events.e]\nkind = 'p'\nwhere = ['colour = 1']", &["no field 'colour'"]),
    (
        "key = 'account'\n[pattern.events.e]\nkind = 'p'\nwhere = ['amount = 1.005']",
        &["more digits than 'amount'", "2"],
    ),
    ("key = 'account'\n[pattern.events.e]\nkind = 'p'\nwhere = [\"amount = 'x'\"]", &["text with a number"]),
    ("key = 'account'\n[pattern.events.e]\nkind = 'p'\nwhere = [\"device < 'x'\"]", &["'device' is text"]),
    ("key = 'account'\n[pattern.events.e]\nkind = 'p'\nwhere = ['amount']", &["not a flag"]),
    ("key = 'account'\n[pattern.events.e]\nkind = 'p'\nwhere = ['amount >']", &["ends where a value"]),
    ("key = 'account'\n[pattern.events.e]\nkind = 'p'\nwhere = ['(flag']", &["')'"]),
    ("key = 'account'\n[pattern.events.e]\nkind = 'p'\nwhere = ['count() > 1']", &["'having' only"]),
    (
        "key = 'account'\nwithin = '1h'\n[pattern.events.e]\nkind = 'p'\n[[pattern.step]]\nevent = 'f'",
        &["step 1", "no event 'f'", "use one of: e"],
    ),
    (
        "key = 'account'\n[pattern.events.e]\nkind = 'p'\n[[pattern.step]]\nevent = 'e'\n[[pattern.step]]\nevent = 'e'\nas = 'b'",
        &["within", "is missing"],
    ),
    (
        "key = 'account'\nwithin = '1h'\n[pattern.events.e]\nkind = 'p'\n[[pattern.step]]\nevent = 'e'\n[[pattern.step]]\nevent = 'e'",
        &["step 2", "'e' is taken"],
    ),
    (
        "key = 'account'\nwithin = '1h'\n[pattern.events.e]\nkind = 'p'\n[[pattern.step]]\nevent = 'e'\nnot = ['e']",
        &["step 1", "is the first"],
    ),
    (
        "key = 'account'\nwithin = '1h'\n[pattern.events.e]\nkind = 'p'\n[[pattern.step]]\nevent = 'e'\n[[pattern.step]]\nevent = 'e'\nas = 'b'\nwhere = ['amount > c.amount']",
        &["no step 'c'", "there are: e"],
    ),
    (
        "key = 'account'\nwithin = '1h'\n[pattern.events.e]\nkind = 'p'\n[[pattern.step]]\nevent = 'e'\nat_least = 2\n[[pattern.step]]\nevent = 'e'\nas = 'b'\nwhere = ['amount > e.amount']",
        &["'e' counts", "e.count()"],
    ),
    (
        "key = 'account'\nwithin = '1h'\n[pattern.events.e]\nkind = 'p'\n[[pattern.step]]\nabsent = 'e'\nwithin = '5m'\n[[pattern.step]]\nevent = 'e'",
        &["'absent'", "last step"],
    ),
    (
        "within = '1h'\ncycle = { event = 'e', from = 'account', to = 'payee', amount = 'amount', hops = [1, 3], share = [0.5, 1.0] }\n[pattern.events.e]\nkind = 'p'",
        &["hops [1, 3]"],
    ),
    (
        "after_match = 'skip_past_last'\nwithin = '1h'\ncycle = { event = 'e', from = 'account', to = 'payee', amount = 'amount', hops = [2, 3], share = [0.5, 1.0] }\n[pattern.events.e]\nkind = 'p'",
        &["after_match", "pattern of steps"],
    ),
    (
        "after_match = 'skip'\nkey = 'account'\n[pattern.events.e]\nkind = 'p'\n[[pattern.step]]\nevent = 'e'",
        &["after_match", "'skip' is not known", "\"skip_past_last\""],
    ),
    (
        "after_match = 'skip_past_last:e'\nkey = 'account'\n[pattern.events.e]\nkind = 'p'\n[[pattern.step]]\nevent = 'e'",
        &["'skip_past_last:e' is not known"],
    ),
    (
        "after_match = 'skip_to_last'\nkey = 'account'\n[pattern.events.e]\nkind = 'p'\n[[pattern.step]]\nevent = 'e'",
        &["no step ''", "\"skip_to_last:STEP\"", "one of: e"],
    ),
    (
        "after_match = 'skip_to_first:b'\nwithin = '1h'\nkey = 'account'\n[pattern.events.e]\nkind = 'p'\n[[pattern.step]]\nevent = 'e'\n[[pattern.step]]\nevent = 'e'\nas = 'a'\n[[pattern.step]]\nabsent = 'e'\nwithin = '5m'",
        &["no step 'b'", "one of: e, a"],
    ),
    (
        "after_match = 'skip_to_first:e'\nwithin = '1h'\nkey = 'account'\n[pattern.events.e]\nkind = 'p'\n[[pattern.step]]\nevent = 'e'\nat_least = 2",
        &["'e'", "always the first of the match itself", "later step"],
    ),
    (
        "after_match = 'skip_to_last:e'\nkey = 'account'\n[pattern.events.e]\nkind = 'p'\n[[pattern.step]]\nevent = 'e'",
        &["'e'", "always the first of the match itself", "\"no_skip\""],
    ),
    (
        "after_match = ['no_skip']\nkey = 'account'\n[pattern.events.e]\nkind = 'p'\n[[pattern.step]]\nevent = 'e'",
        &["invalid type", "after_match"],
    ),
];

#[test]
fn errors_say_what_to_do() {
    let schema = Schema::parse("letters", SCHEMA).expect("the schema is valid");
    for (lines, words) in WRONG {
        let text = format!("[[pattern]]\nname = 'wrong'\n{lines}\n");
        let resolved = Patterns::parse(&text).and_then(|patterns| patterns.resolve(&schema).map(drop));
        let says = resolved.expect_err(lines).to_string();
        assert!(!says.contains('\n'), "one line: {says}");
        for word in words {
            assert!(says.contains(word), "{lines}\nsays: {says}\nwithout: {word}");
        }
    }
}

#[test]
fn no_text_exhausts_the_parser() {
    let schema = Schema::parse("letters", SCHEMA).expect("the schema is valid");
    for condition in
        ["(".repeat(10_000), "not ".repeat(10_000), "f(".repeat(10_000), "9".repeat(400), "'".into(), "é < ß".into()]
    {
        let text = format!(
            "[[pattern]]\nname = 'deep'\nkey = 'account'\n[pattern.events.e]\nkind = 'p'\nwhere = [\"{condition}\"]\n"
        );
        assert!(
            Patterns::parse(&text).and_then(|patterns| patterns.resolve(&schema).map(drop)).is_err(),
            "{condition:.40}"
        );
    }
}
