//! Rules on the command line: checked, listed, and deciding with a model or alone.

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;

use super::{done, output, path};

const RULES: &str = "dataflows/payments_rules.toml";

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("one JSON object")).collect()
}

/// What is said in the end of each transaction, with its decision.
fn standing(lines: &[Value]) -> BTreeMap<String, (Value, Value)> {
    let mut standing = BTreeMap::new();
    for line in lines.iter().filter(|line| line["diff"] == 1) {
        standing.insert(line["id"].to_string(), (line["decision"].clone(), line["assessment"].clone()));
    }
    standing
}

fn replay(more: &[&str]) -> Vec<Value> {
    let generator = ["replay", "--input", "generator", "--events", "12000", "--rate", "0.5", "--late-share", "0.05"];
    lines(&done(&[&generator[..], &["--output", "-"], more].concat()))
}

#[test]
fn the_rules_that_ship_are_right_and_say_why_they_exist() {
    let said = done(&["rules", "check", RULES]);
    assert!(said.contains("rules are right"), "{said}");
    let all: Value = serde_json::from_str(&done(&["rules", "list", RULES, "--json"])).expect("JSON");
    let all = all.as_array().expect("a list");
    assert!(all.len() >= 20, "{} rules", all.len());
    assert!(all.iter().all(|rule| rule["reason"].as_str().is_some_and(|reason| reason.len() > 30)));
    let text = done(&["rules", "list", RULES]);
    assert!(
        text.starts_with("card-testing@1  block, score +0.4, active\n    when pattern_card_testing_now > 0\n"),
        "{text}"
    );
}

#[test]
fn what_is_wrong_with_a_rule_is_said_with_its_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = path(&folder, "rules.toml");
    let fails = |when: &str, more: &str, reason: &str| {
        let text = format!("[[rule]]\nid = \"r\"\nwhen = \"{when}\"\naction = \"block\"\nreason = \"so\"\n{more}");
        fs::write(&file, text).expect("a file");
        for command in [&["rules", "check", &file][..], &["replay", "--events", "10", "--rules", &file]] {
            let output = output(command);
            let error = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{error}");
            assert!(error.contains(&format!("{file}: rule r: {reason}")), "{error}");
        }
    };
    fails(
        "card_count_1hh > 5",
        "",
        "when: 1:1: no feature and no field of the event is called `card_count_1hh`; did you mean `card_count_1h`?",
    );
    fails("card_count_1h", "", "when: 1:1: is a double and not a bool");
    fails("kind == 'payment' && event.currency > 5", "", "when: 1:37: a string is not compared with an int");
    fails("amount > 5", "", "when: 1:1: `amount` is a feature and a field: write features.amount or event.amount");
    fails("true", "scope = [\"login\"]", "scope: no kind of event that is scored is called `login`");
    fails("true", "score = 2.0", "score: is 2; a score is between -1 and 1");
}

#[test]
fn rules_decide_with_the_model_and_only_where_they_match() {
    let (plain, ruled) = (standing(&replay(&[])), standing(&replay(&["--rules", RULES])));
    assert_eq!(plain.len(), ruled.len());
    let (mut matched, mut stronger) = (0, 0);
    for (id, (decision, assessment)) in &ruled {
        let (before, said) = &plain[id];
        let rules = assessment["rules"].as_array().expect("a list");
        assert_eq!(assessment["scores"], said["scores"], "{id}: a rule changes no model's score");
        if rules.is_empty() {
            assert_eq!((&assessment["action"], &assessment["score"]), (&said["action"], &said["score"]), "{id}");
            continue;
        }
        matched += 1;
        stronger += usize::from(decision["action"] != before["action"]);
        if rules.iter().any(|rule| rule == "card-testing@1" || rule == "ring-with-known-fraud@1") {
            assert_eq!(assessment["action"], "block", "{id}: {assessment}");
        }
        assert!(!rules.contains(&"hosted-address@1".into()), "{id}: it is in shadow");
    }
    assert!(matched > 50 && stronger > 20, "{matched} matched, {stronger} changed a decision");
    // The same on other numbers of workers.
    let two = standing(&replay(&["--rules", RULES, "--workers", "2"]));
    assert!(two == ruled);
}

#[test]
fn rules_decide_alone_add_up_and_hold_for_their_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let (events, rules) = (path(&folder, "events.csv"), path(&folder, "rules.toml"));
    let text = "TRANSACTION_ID,TX_DATETIME,CUSTOMER_ID,TERMINAL_ID,TX_AMOUNT
1,2026-01-01 10:00:00,7,1,10.00
2,2026-01-01 10:10:00,7,1,20.00
4,2026-01-01 10:30:00,7,1,40.00
3,2026-01-01 10:20:00,7,1,30.00
5,2026-01-02 12:00:00,7,2,500.00
";
    fs::write(&events, text).expect("a file");
    let text = "[thresholds]\nreview = 0.3\nblock = 0.5\n
[[rule]]\nid = 'fourth'\nwhen = 'customer_count_1h >= 4'\naction = 'challenge'\nscore = 0.1\nreason = 'often'
[[rule]]\nid = 'many'\nwhen = 'customer_count_1h >= 2'\naction = 'tag'\nreason = 'twice'
[[rule]]\nid = 'often'\nwhen = 'customer_count_1h >= 3'\naction = 'allow'\nscore = 0.3\nreason = 'three times'
[[rule]]\nid = 'large'\nwhen = 'event.amount >= 500.00'\naction = 'allow'\nscore = 0.6\nreason = 'much'
[[rule]]\nid = 'tried'\nwhen = 'event.amount > 0.0'\naction = 'block'\nmode = 'shadow'\nreason = 'all'
[[rule]]\nid = 'later'\nwhen = 'true'\naction = 'review'\nvalid_from = '2026-01-02T00:00:00Z'\nreason = 'of the second day'
[[rule]]\nid = 'never'\nwhen = 'true'\naction = 'block'\nmode = 'paused'\nreason = 'paused'
";
    fs::write(&rules, text).expect("a file");
    let said = done(&[
        "replay",
        "--dataflow",
        "spend_profile",
        "--epoch-records",
        "1",
        "--model",
        "none",
        "--input",
        &events,
        "--rules",
        &rules,
        "--output",
        "-",
    ]);
    let lines = lines(&said);
    let of = |id: &str, revision: u64, diff: i64| {
        let is_it = |line: &&Value| line["id"] == id && line["revision"] == revision && line["diff"] == diff;
        lines.iter().find(is_it).unwrap_or_else(|| panic!("no {id} {revision} {diff} in {said}"))
    };
    let said_of = |line: &Value| {
        let assessment = &line["assessment"];
        (
            assessment["action"].clone(),
            assessment["score"].as_f64().map(|score| (score * 10.0).round()),
            assessment["rules"].clone(),
        )
    };
    assert_eq!(said_of(of("1", 0, 1)), ("allow".into(), Some(0.0), serde_json::json!([])));
    assert_eq!(of("1", 0, 1)["assessment"]["shadow_rules"], serde_json::json!(["tried@1"]));
    assert_eq!(said_of(of("2", 0, 1)), ("allow".into(), Some(0.0), serde_json::json!(["many@1"])));
    // 0.3 of `often` is reviewed; the late event makes it the fourth within the hour: revised, and the decision stays.
    let (first, second) = (of("4", 0, 1), of("4", 1, 1));
    assert_eq!(said_of(first), ("review".into(), Some(3.0), serde_json::json!(["often@1", "many@1"])));
    assert_eq!(said_of(second), ("challenge".into(), Some(4.0), serde_json::json!(["fourth@1", "often@1", "many@1"])));
    assert_eq!((&second["cause"], &second["decision"]), (&"late_event".into(), &first["decision"]));
    assert_eq!(of("4", 1, -1)["assessment"], first["assessment"]);
    assert_eq!(first["decision"]["rules"], serde_json::json!(["often@1", "many@1"]));
    assert_eq!(said_of(of("5", 0, 1)), ("block".into(), Some(6.0), serde_json::json!(["later@1", "large@1"])));
    assert!(!said.contains("never"), "a paused rule");
}
