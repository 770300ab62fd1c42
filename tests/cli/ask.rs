//! `deltawatch rules ask`: what it says of the past is what a run with the rules in shadow has said, and what labels say.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::{Value, json};

use super::{done, output, path, read};

const RULES: &str = r#"
[[list]]
name = "countries"
entries = [{ value = "DE", reason = "to see it match" }, { value = "FR", until = "2024-04-01T12:00:00Z", reason = "until noon" }]

[[rule]]
id = "dear"
when = "event.amount > 120.0"
action = "review"
reason = "to see it match"

[[rule]]
id = "listed"
version = 3
when = "event.country in countries && card_count_24h > 1"
action = "block"
reason = "to see it match"

[[rule]]
id = "never"
when = "event.amount > 1.0e9"
action = "block"
reason = "to see it match nothing"
"#;

#[test]
fn the_past_is_asked_without_a_trace() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| path(&folder, name);
    let (events, rules, shadow) = (at("events.jsonl"), at("rules.toml"), at("shadow.toml"));
    done(&["generate", "--events", "9000", "--rate", "0.1", "--late-share", "0.1", "--output", &events]);
    fs::write(&rules, RULES).expect("a file");
    fs::write(&shadow, RULES.replace("action = ", "mode = \"shadow\"\naction = ")).expect("a file");
    let told: Vec<Value> =
        serde_json::from_str(&done(&["rules", "ask", &rules, "--input", &events, "--json"])).expect("JSON");
    assert_eq!(
        told.iter().map(|rule| rule["rule"].clone()).collect::<Value>(),
        json!(["dear@1", "listed@3", "never@1"])
    );

    let mut said = BTreeMap::<String, Value>::new();
    for line in done(&["replay", "--input", &events, "--rules", &shadow, "--output", "-"]).lines() {
        let line: Value = serde_json::from_str(line).expect("one JSON object");
        let id = line["id"].as_str().expect("an id").to_owned();
        match line["diff"].as_i64() {
            Some(1) => drop(said.insert(id, line)),
            Some(0) => drop(said.remove(&id)),
            _ => {}
        }
    }
    let mut known = BTreeMap::new();
    // Later ones than the last event are not known.
    for line in read(&events).lines().filter(|line| line.contains("\"kind\":\"label\"")) {
        let line: Value = serde_json::from_str(line).expect("one JSON object");
        known.insert(line["target"].as_str().expect("an id").to_owned(), line["fraud"] == true);
    }
    assert!(known.len() > 50, "{} labels", known.len());
    let mut any = 0;
    for rule in &told {
        let name = &rule["rule"];
        let hits: BTreeSet<&String> = said
            .iter()
            .filter(|(_, line)| line["assessment"]["shadow_rules"].as_array().is_some_and(|rules| rules.contains(name)))
            .map(|(id, _)| id)
            .collect();
        any += hits.len();
        assert_eq!(rule["hits"], hits.len(), "{name}");
        assert_eq!(rule["scored"], said.len());
        let count = |wanted: Option<bool>| hits.iter().filter(|id| known.get(**id).copied() == wanted).count();
        let by_label = &rule["by_label"];
        assert_eq!(by_label["fraud"], count(Some(true)), "{name}: {by_label}");
        assert_eq!(by_label["legitimate"], count(Some(false)), "{name}: {by_label}");
        assert_eq!(by_label["unknown"], count(None), "{name}: {by_label}");
        let days = rule["by_day"].as_array().expect("a list");
        let of_days: i64 = days
            .iter()
            .flat_map(|day| {
                ["fraud", "legitimate", "unknown"].map(|label| day["hits"][label].as_i64().expect("a count"))
            })
            .sum();
        assert_eq!(of_days, hits.len() as i64, "{name}");
        for id in rule["transactions"].as_array().expect("a list") {
            assert!(hits.contains(&id.as_str().expect("an id").to_owned()), "{name}: {id}");
        }
        let outcomes = rule["by_present_action"].as_object().expect("an object");
        assert_eq!(outcomes.values().filter_map(Value::as_u64).sum::<u64>(), hits.len() as u64, "{name}");
    }
    assert!(any > 200, "{any} hits");
    assert_eq!(told[2]["hits"], 0);
    let text = done(&["rules", "ask", &rules, "--input", &events]);
    for words in [
        "dear@1  review\n    when event.amount > 120.0\n    hits          ",
        "    labels        fraud ",
        "    such as       t-",
    ] {
        assert!(text.contains(words), "no '{words}':\n{text}");
    }
    let wrong = output(&["rules", "ask", &rules, "--input", &events, "--dataflow", "hello"]);
    assert_eq!(wrong.status.code(), Some(2), "{}", String::from_utf8_lossy(&wrong.stderr));
}
