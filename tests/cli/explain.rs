//! `deltawatch explain`: what it says of a transaction is what the run has said, and what its rows hold.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{done, output, path, read};

const INPUT: [&str; 10] = [
    "--input",
    "generator",
    "--events",
    "6000",
    "--rate",
    "0.5",
    "--late-share",
    "0.2",
    "--rules",
    "dataflows/payments_rules.toml",
];

fn lines(text: &str) -> BTreeMap<String, Vec<Value>> {
    let mut by_id = BTreeMap::<String, Vec<Value>>::new();
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).expect("one JSON object");
        by_id.entry(line["id"].as_str().expect("an id").to_owned()).or_default().push(line);
    }
    by_id
}

#[test]
fn a_decision_and_its_changes_are_explained_by_what_was_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let rows = path(&folder, "rows.jsonl");
    let scored = lines(&done(&[&["replay", "--output", "-", "--features", &rows][..], &INPUT].concat()));
    let rows = lines(&read(&rows));
    let explained = |id: &str| {
        let said = done(&[&["explain", id, "--change", "--json"][..], &INPUT].concat());
        serde_json::from_str::<Value>(&said).expect("one JSON object")
    };
    let is_reviewed = |lines: &[Value]| {
        lines.len() == 1
            && lines[0]["decision"]["action"] != "allow"
            && !lines[0]["decision"]["rules"].as_array().expect("a list").is_empty()
    };
    let reviewed = scored.iter().find(|(_, lines)| is_reviewed(lines)).expect("one that a rule has reviewed");
    let (id, said) = reviewed;
    let explanation = explained(id);
    assert_eq!(explanation["decision"], said[0]["decision"]);
    let reasons = explanation["reasons"].as_array().expect("a list");
    let of_line = said[0]["assessment"]["reasons"].as_array().expect("a list");
    assert!(of_line.len() >= 3);
    for (reason, of_line) in reasons.iter().zip(of_line) {
        for field in ["feature", "value", "contribution"] {
            assert_eq!(reason[field], of_line[field], "{id}: {field}");
        }
        let feature = reason["feature"].as_str().expect("a name");
        assert_eq!(reason["value"], rows[id][0]["features"][feature]);
    }
    let rules = explanation["rules"].as_array().expect("a list");
    assert_eq!(rules.iter().map(|rule| rule["rule"].clone()).collect::<Value>(), said[0]["decision"]["rules"]);
    assert!(rules.iter().all(|rule| rule["reason"].as_str().is_some_and(|reason| reason.len() > 30)));
    let values = rules.iter().flat_map(|rule| rule["values"].as_object().expect("an object"));
    let values: Vec<(&String, &Value)> = values.collect();
    assert!(!values.is_empty());
    values
        .iter()
        .for_each(|(feature, value)| assert_eq!(**value, rows[id][0]["features"][feature.as_str()], "{id}: {feature}"));

    let revised = scored
        .iter()
        .find(|(_, lines)| lines.iter().any(|line| line["revision"] == 1 && line["cause"] == "late_event"));
    let (id, said) = revised.expect("one that a late event has revised");
    let explanation = explained(id);
    let change = explanation["changes"].as_array().expect("a list").iter().find(|change| change["revision"] == 1);
    let change = change.expect("the change that made revision 1");
    let after = said.iter().find(|line| line["revision"] == 1 && line["diff"] == 1).expect("a line");
    assert_eq!(change["cause"], "late_event");
    assert_eq!(change["score_after"], after["assessment"]["scores"]["payments@2"]);
    assert_eq!(change["score_before"], said[0]["assessment"]["scores"]["payments@2"]);
    // The file has the last row of each.
    let last = explanation["changes"].as_array().and_then(|changes| changes.last()).expect("a change");
    let features = last["features"].as_array().expect("a list");
    assert!(!features.is_empty());
    for feature in features {
        let name = feature["feature"].as_str().expect("a name");
        assert_eq!(feature["after"], rows[id].last().expect("a row")["features"][name], "{id}: {feature}");
        let moved = feature["before"] != feature["after"];
        assert!(moved || feature["contribution_before"] != feature["contribution_after"], "{id}: {feature}");
    }
    let text = done(&[&["explain", id, "--change"][..], &INPUT].concat());
    for words in [&format!("{id}  2"), "decided   ", "now       ", "change    revision 1, late_event: model "] {
        assert!(text.contains(words), "no '{words}':\n{text}");
    }
    let nobody = output(&[&["explain", "nobody"][..], &INPUT].concat());
    assert_eq!(nobody.status.code(), Some(1));
    let error = String::from_utf8_lossy(&nobody.stderr);
    assert!(error.contains("error: no transaction nobody was scored"), "{error}");
    assert_eq!(explanation["withdrawn"], json!(false));
}
