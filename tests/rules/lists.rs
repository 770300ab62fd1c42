//! Lists: what they hold and for how long, versions of them, and rules that look values up in them.

use std::collections::{BTreeMap, HashMap};
use std::process::Command;
use std::time::Duration;

use cpu_time::ThreadTime;
use deltawatch::event::{Event, EventBuilder, Id, Op, Schema};
use deltawatch::score::lists::{ListEntry, Lists};
use deltawatch::score::rules::{Fault, RuleCondition, RuleFacts, Scope};
use jiff::Timestamp;
use rand::prelude::*;
use rand_chacha::ChaCha8Rng;

const SCHEMA: &str = r#"
name = "listed"
field = [
  { name = "id", type = "int", role = "id" },
  { name = "time", type = "time", role = "time" },
  { name = "card", type = "text" },
  { name = "shop", type = "text" },
  { name = "terminal", type = "int" },
  { name = "abroad", type = "bool" },
]
"#;

const TIME_MS: i64 = 1_700_000_000_000;

fn schema() -> Schema {
    Schema::parse("listed", SCHEMA).expect("a schema")
}

fn columns() -> Vec<String> {
    ["seen_10m", "share"].map(str::to_owned).to_vec()
}

fn for_ever(reason: &str) -> ListEntry {
    ListEntry { until: None, reason: reason.to_owned() }
}

fn until(ms: i64) -> ListEntry {
    ListEntry { until: Some(Timestamp::from_millisecond(ms).expect("a time")), reason: "for a while".to_owned() }
}

/// Lists of these names, with these values for ever.
fn lists(content: &[(&str, &[&str])]) -> Lists {
    content.iter().fold(Lists::default(), |lists, (name, values)| {
        let lists = lists.create(name).expect("a name");
        let put = |lists: Lists, value: &&str| lists.put(name, value, for_ever("fraud")).expect("a value");
        values.iter().fold(lists, put)
    })
}

fn event(schema: &Schema, card: Option<&str>, terminal: Option<i64>) -> Event {
    let mut builder = EventBuilder::new(schema);
    let slot = |name| schema.slot(name).expect("a field");
    card.into_iter().for_each(|card| builder.set_text(slot("card"), card));
    terminal.into_iter().for_each(|terminal| builder.set_int(slot("terminal"), terminal));
    builder.finish(Id::from_int(1), TIME_MS, schema.default_kind(), Op::Insert, schema)
}

fn condition(source: &str, lists: &Lists) -> Result<RuleCondition, String> {
    let (schema, columns) = (schema(), columns());
    RuleCondition::new(source, &Scope::new(&schema, &columns).with_lists(lists)).map_err(|error| error.to_string())
}

fn holds(condition: &RuleCondition, lists: &Lists, card: Option<&str>, terminal: Option<i64>) -> Result<bool, Fault> {
    let event = event(&schema(), card, terminal);
    condition.holds(&RuleFacts { row: &[1.0, f64::NAN], score: 0.5, event: &event, kind: "payment", lists })
}

#[test]
fn texts_and_ints_are_looked_up_and_what_is_missing_is_on_no_list() {
    let lists = lists(&[("blocked", &["c-1", "", "7", "-9223372036854775808", "007"]), ("empty", &[])]);
    let cases = [
        ("card in blocked", Some("c-1"), None, true),
        ("card in blocked", Some("c-2"), None, false),
        ("card in blocked", Some("C-1"), None, false),
        ("card in blocked", Some(""), None, true),
        ("card in blocked", None, None, false),
        ("card in empty", Some("c-1"), None, false),
        ("!(card in blocked)", None, None, true),
        ("is_missing(card in blocked)", None, None, false),
        ("event.card in blocked && !(card in empty)", Some("7"), None, true),
        ("terminal in blocked", None, Some(7), true),
        ("terminal in blocked", None, Some(-7), false),
        ("terminal in blocked", None, Some(i64::MIN), true),
        ("terminal in blocked", None, None, false),
        ("terminal + 1 in blocked", None, Some(6), true),
        ("'00' + string(terminal) in blocked", None, Some(7), true),
        ("'c-' + string(terminal) in (blocked)", None, None, false),
        ("(card in empty ? card : 'c-1') in blocked", Some("x"), None, true),
    ];
    for (source, card, terminal, expected) in cases {
        let condition = condition(source, &lists).expect("a condition");
        assert_eq!(holds(&condition, &lists, card, terminal), Ok(expected), "{source} of {card:?}, {terminal:?}");
    }
    // What has no value for another reason than that it is missing has none here, either.
    let divided = condition("1 / terminal in blocked", &lists).expect("a condition");
    assert_eq!(holds(&divided, &lists, None, Some(0)), Err(Fault::Arithmetic));
    assert_eq!(holds(&divided, &lists, None, None), Ok(false));
}

#[test]
fn what_is_wrong_is_said_with_line_and_column() {
    let lists = lists(&[("blocked", &[]), ("shop", &[]), ("seen_10m", &[]), ("size", &[])]);
    let conflict = |name: &str, what: &str| format!("`{name}` is a list and a {what}: give the list another name");
    let takes = "`in` takes the name of a list, or constants as in kind in ['payment', 'refund']";
    let no_value = "`blocked` is a list, and a list stands behind `in` only";
    let cases = [
        ("card in blokced", "1:9: no list is called `blokced`; did you mean `blocked`?".to_owned()),
        ("card in something_else", "1:9: no list is called `something_else`".to_owned()),
        ("true &&\n 'é' in bloked", "2:9: no list is called `bloked`; did you mean `blocked`?".to_owned()),
        ("card in event", "1:9: no list is called `event`".to_owned()),
        ("card in shop", format!("1:9: {}", conflict("shop", "field of the event"))),
        ("card in seen_10m", format!("1:9: {}", conflict("seen_10m", "feature"))),
        ("card in card", format!("1:9: {takes}")),
        ("card in share", format!("1:9: {takes}")),
        ("card in kind", format!("1:9: {takes}")),
        ("'0.5' in score", format!("1:10: {takes}")),
        ("card in event.blocked", format!("1:14: {takes}")),
        ("card in 'blocked'", format!("1:9: {takes}")),
        ("card in (true ? blocked : blocked)", format!("1:15: {takes}")),
        ("share in blocked", "1:1: a double is on no list: they hold strings and ints".to_owned()),
        ("true || 0.5 in blocked", "1:9: a double is on no list: they hold strings and ints".to_owned()),
        ("abroad in blocked", "1:1: a bool is on no list: they hold strings and ints".to_owned()),
        ("card in blocked in ['a']", "1:17: a bool is in no list: compare it".to_owned()),
        ("card in blocked in blocked", "1:6: a bool is on no list: they hold strings and ints".to_owned()),
        ("blocked", format!("1:1: {no_value}")),
        ("card == blocked", format!("1:9: {no_value}")),
        ("blocked in blocked", format!("1:1: {no_value}")),
        ("card in [blocked]", format!("1:10: {no_value}")),
        ("is_missing(blocked)", format!("1:12: {no_value}")),
        ("card in size && size(blocked) > 1", format!("1:22: {no_value}")),
        ("has(blocked)", "1:5: has() takes event.NAME or features.NAME".to_owned()),
        ("event.blocked == 'x'", "1:6: no field of the event is called `blocked`".to_owned()),
        ("blocked.size() > 1", format!("1:1: {no_value}")),
        ("blocked(card)", "1:8: no function is called `blocked`".to_owned()),
        (
            "blocked.card in blocked",
            "1:8: `blocked` has no parts: only event.NAME and features.NAME have a dot".to_owned(),
        ),
    ];
    for (source, expected) in cases {
        assert_eq!(condition(source, &lists).map(|_| ()), Err(expected), "{source}");
    }
    // Elsewhere than behind `in` a feature or field is what it was before there was a list of that name.
    for source in ["shop == 'x'", "seen_10m > 1", "card in size"] {
        assert!(condition(source, &lists).is_ok(), "{source}");
    }
    // Without lists there is nothing to come near to.
    let error = condition("card in blocked", &Lists::default()).map(|_| ());
    assert_eq!(error, Err("1:9: no list is called `blocked`".to_owned()));
}

#[test]
fn an_entry_holds_up_to_its_millisecond() {
    let lists = lists(&[("blocked", &["always"])]);
    let put = |lists: Lists, value, entry| lists.put("blocked", value, entry).expect("an entry");
    let lists = put(lists, "later", until(TIME_MS + 1));
    let lists = put(lists, "now", until(TIME_MS));
    let within = Timestamp::from_nanosecond(i128::from(TIME_MS) * 1_000_000 + 1).expect("a time");
    let lists = put(lists, "within", ListEntry { until: Some(within), reason: String::new() });
    let lists = put(lists, "before_1970", until(-1));
    let listed = condition("card in blocked", &lists).expect("a condition");
    for (card, expected) in
        [("always", true), ("later", true), ("now", false), ("within", true), ("before_1970", false)]
    {
        assert_eq!(holds(&listed, &lists, Some(card), None), Ok(expected), "{card}");
    }
    let number = lists.number("blocked").expect("it exists");
    let at = |value, ms| lists.has(number, value, ms);
    assert!(at("later", TIME_MS) && !at("later", TIME_MS + 1));
    assert!(at("within", TIME_MS) && !at("within", TIME_MS + 1));
    assert!(at("before_1970", -2) && !at("before_1970", -1));
    assert!(at("always", i64::MAX) && at("later", i64::MIN) && !at("later", i64::MAX));
}

#[test]
fn changes_that_are_wrong_are_refused_in_a_line() {
    let lists = lists(&[("blocked", &["c-1"])]);
    let name = "the name of a list takes letters, digits and _, a letter first, 64 at most";
    let (long, longest) = ("x".repeat(1_025), "x".repeat(1_024));
    for wrong in ["", "_cards", "1st", "my-list", "a.b", "karten\n", "gesperrt_für", "a b", "`a`", &"a".repeat(65)] {
        assert_eq!(lists.create(wrong), Err(name.to_owned()), "{wrong:?}");
        assert_eq!(lists.put(wrong, "c-1", for_ever("")), Err(name.to_owned()), "{wrong:?}");
    }
    assert_eq!(lists.create("blocked"), Err("there is a list `blocked` already".to_owned()));
    let unknown = "no list is called `bloked`; did you mean `blocked`?";
    assert_eq!(lists.put("bloked", "c-1", for_ever("")), Err(unknown.to_owned()));
    assert_eq!(lists.remove("bloked", "c-1"), Err(unknown.to_owned()));
    assert_eq!(lists.delete("bloked"), Err(unknown.to_owned()));
    assert_eq!(lists.remove("blocked", "c-2"), Err("this value is not on the list `blocked`".to_owned()));
    let too_long = |what: &str| Err(format!("the {what} has 1025 bytes, and 1024 at most are allowed"));
    assert_eq!(lists.put("blocked", &long, for_ever("")), too_long("value"));
    assert_eq!(lists.put("blocked", "c-1", for_ever(&long)), too_long("reason"));
    let put = lists.put("blocked", &longest, for_ever(&longest)).expect("as long as is allowed");
    assert_eq!((put.len("blocked"), put.len("bloked")), (Some(2), None));
    let many = (0..999).fold(lists, |lists, at| lists.create(&format!("list_{at}")).expect("as many as are allowed"));
    let error = "there are 1000 lists, and no more are allowed: delete one";
    assert_eq!(many.create("another"), Err(error.to_owned()));
    assert!(many.delete("blocked").and_then(|fewer| fewer.create("another")).is_ok());
}

#[test]
fn a_list_can_be_named_in_a_rule_whatever_its_name() {
    // Words of the language as its definition lists them, and names that have a meaning in rules.
    let words = "as break const continue else event false features for function if import in kind let loop namespace null \
                 package return score true var void while";
    for word in words.split(' ') {
        let error = format!("`{word}` is a word of the language of rules: give the list another name");
        assert_eq!(Lists::default().create(word), Err(error));
        let name = word.to_uppercase();
        for name in [name, format!("{word}_"), format!("a{word}"), "a".repeat(64)] {
            let lists = lists(&[(&name, &["c-1"])]);
            let listed = condition(&format!("card in {name}"), &lists).expect("a condition");
            assert_eq!(holds(&listed, &lists, Some("c-1"), None), Ok(true), "{name}");
        }
    }
}

#[test]
fn a_rule_finds_nothing_in_a_list_that_was_deleted_and_names_those_that_it_looks_into() {
    let before = lists(&[("blocked", &["c-1"]), ("trusted", &["c-2"]), ("watched", &["c-1"])]);
    let source = "card in watched && !(card in trusted) || card in watched && terminal in watched";
    let rule = condition(source, &before).expect("a condition");
    let numbers: Vec<u32> = rule.lists().collect();
    let mut expected = ["watched", "trusted"].map(|name| before.number(name).expect("it exists"));
    expected.sort_unstable();
    assert_eq!(numbers, expected, "each once");
    assert_eq!(condition("score > 0.5 && card in ['c-1']", &before).map(|rule| rule.lists().count()), Ok(0));

    let deleted = before.delete("watched").expect("it exists");
    assert_eq!(holds(&rule, &deleted, Some("c-1"), None), Ok(false));
    // Another list of the same name is another list.
    let again = deleted.create("watched").and_then(|lists| lists.put("watched", "c-1", for_ever(""))).expect("a list");
    assert_eq!(holds(&rule, &again, Some("c-1"), None), Ok(false));
    let renewed = condition(source, &again).expect("a condition");
    assert_eq!(holds(&renewed, &again, Some("c-1"), None), Ok(true));
    // And what was there before is there before.
    assert_eq!(holds(&rule, &before, Some("c-1"), None), Ok(true));
}

#[test]
fn numbers_are_what_they_were_when_lists_are_read_back() {
    let lists = lists(&[("a", &["1", "2"]), ("b", &[]), ("c", &["x"]), ("d", &["y"])]);
    let lists = lists.put("c", "z", until(TIME_MS)).and_then(|lists| lists.delete("a")).expect("they exist");
    let lists = lists.delete("d").expect("it exists");
    let bytes = bincode::serialize(&lists).expect("bytes");
    let read: Lists = bincode::deserialize(&bytes).expect("lists");
    let text = serde_json::to_string(&lists).expect("JSON");
    for read in [read, serde_json::from_str(&text).expect("lists")] {
        assert_eq!(read, lists);
        assert_eq!(read.names().collect::<Vec<_>>(), ["b", "c"]);
        assert!(read.names().all(|name| read.number(name) == lists.number(name)));
        assert!(read.entries("c").expect("a list").eq(lists.entries("c").expect("a list")));
        // The number of the newest list is not given again, although nothing else is left of it.
        let (one, other) = (read.create("e").expect("a list"), lists.create("e").expect("a list"));
        assert_eq!(one, other);
        assert_eq!(one.number("e"), Some(4));
    }
    let changed = [
        (text.replace(r#""next":4"#, r#""next":2"#), "has number 2"),
        (text.replace(r#""name":"b""#, r#""name":"c""#), "two lists are called `c`"),
        (text.replace(r#""name":"b""#, r#""name":"in""#), "is a word"),
    ];
    for (changed, reason) in changed {
        let error = serde_json::from_str::<Lists>(&changed).expect_err(reason).to_string();
        assert!(error.contains(reason), "{error}");
    }
    for end in 0..bytes.len() {
        assert!(bincode::deserialize::<Lists>(&bytes[..end]).is_err(), "{end} of {} bytes", bytes.len());
    }
}

#[test]
fn versions_are_what_a_map_says_and_no_change_touches_those_before() {
    let mut random = ChaCha8Rng::seed_from_u64(12);
    let (mut now, mut model) = (Lists::default(), BTreeMap::<String, BTreeMap<String, ListEntry>>::new());
    let mut versions = Vec::new();
    let (mut changes, mut refused) = (HashMap::<&str, u32>::new(), 0);
    for at in 0..6_000 {
        let name = *["blocked", "trusted", "watched"].choose(&mut random).expect("a name");
        let value = format!("c-{}", random.random_range(0..400));
        // More is put than removed for a while, then less: nodes split and join.
        let puts = if at % 2_000 < 1_200 { 80 } else { 15 };
        let (kind, changed, expected) = match random.random_range(0..100) {
            0 if random.random_bool(0.1) => ("delete", now.delete(name), model.remove(name).is_some()),
            0..3 => {
                let new = !model.contains_key(name);
                model.entry(name.to_owned()).or_default();
                ("create", now.create(name), new)
            }
            how if how < puts => {
                let entry = if random.random_bool(0.5) { until(at) } else { for_ever(&value) };
                let changed = now.put(name, &value, entry.clone());
                let list = model.get_mut(name);
                let there = list.is_some();
                list.into_iter().for_each(|list| drop(list.insert(value.clone(), entry.clone())));
                ("put", changed, there)
            }
            _ => {
                let removed = model.get_mut(name).and_then(|list| list.remove(&value));
                ("remove", now.remove(name, &value), removed.is_some())
            }
        };
        assert_eq!(changed.is_ok(), expected, "{kind} {name} {value}: {changed:?}");
        match changed {
            Ok(changed) => {
                *changes.entry(kind).or_default() += 1;
                now = changed;
            }
            Err(_) => refused += 1,
        }
        if at % 50 == 0 {
            versions.push((now.clone(), model.clone()));
        }
    }
    println!("{changes:?}, {refused} refused");
    assert!(changes.len() == 4 && changes.values().all(|&times| times > 2), "{changes:?}");
    versions.push((now, model));
    for (version, (lists, model)) in versions.iter().enumerate() {
        assert!(lists.names().eq(model.keys()), "version {version}");
        for (name, list) in model {
            assert_eq!(lists.len(name), Some(list.len()), "version {version}");
            let entries = lists.entries(name).expect("it exists");
            assert!(entries.eq(list.iter().map(|(value, entry)| (&**value, entry))), "version {version}");
            let number = lists.number(name).expect("it exists");
            for value in (0..400).map(|value| format!("c-{value}")) {
                let expected = list.get(&value).is_some_and(|entry| entry.holds(3_000));
                assert_eq!(lists.has(number, &value, 3_000), expected, "version {version}: {value}");
            }
        }
    }
}

#[test]
fn entries_by_the_hundred_thousand_are_put_one_by_one_in_no_time() {
    let begin = ThreadTime::now();
    let mut lists = lists(&[("blocked", &[])]);
    for value in 0..100_000 {
        lists = lists.put("blocked", &format!("card-{}", value * 7_919 % 100_000), for_ever("fraud")).expect("a value");
    }
    let took = begin.elapsed();
    println!("{took:?}");
    assert_eq!(lists.len("blocked"), Some(100_000));
    assert!(took < Duration::from_secs(1), "{took:?}");
}

/// Memory that is the process's own now, bytes.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("the status of this process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line of resident memory");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}

/// In a process of its own, where nothing else takes memory. A thousand copies take a quarter of a gigabyte without the texts.
#[test]
fn a_version_takes_the_memory_of_what_was_changed() {
    const INNER: &str = "DELTAWATCH_TEST_LIST_MEMORY";
    const BYTES_MAX: u64 = 16 << 20;
    if std::env::var_os(INNER).is_none() {
        let mut inner = Command::new(std::env::current_exe().expect("this program"));
        let name = "rules::lists::a_version_takes_the_memory_of_what_was_changed";
        let output = inner.args(["--exact", name, "--test-threads=1", "--nocapture"]).env(INNER, "1").output();
        let output = output.expect("it runs");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
        return;
    }
    let value = |at: u32| format!("card-{at}");
    let put = |lists: &Lists, at, reason: &str| lists.put("blocked", &value(at), for_ever(reason)).expect("a value");
    let first = (0..10_000).fold(lists(&[("blocked", &[])]), |lists, at| put(&lists, at, "fraud"));
    let before = memory();
    let mut versions = vec![first];
    for at in 1..=1_000 {
        let last = versions.last().expect("one");
        versions.push(put(last, at * 9, &format!("seen {at} times")));
    }
    let took = memory().saturating_sub(before);
    println!("{} bytes for each version", took / 1_000);
    assert_eq!(versions.iter().map(|lists| lists.len("blocked")).min(), Some(Some(10_000)));
    assert!(took < BYTES_MAX, "{took} bytes");
}
