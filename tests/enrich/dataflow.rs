//! The shipped dataflow of joins.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use deltawatch::dataflow::{Parameters, Setup};
use deltawatch::event::Schema;
use deltawatch::testkit::cases;

use crate::dataflows::folder;

const INPUT: &str = r#"input
@merchants {"merchant":"m-1","risk":0.875,"tier":"watched","opened":"2024-01-01T00:00:00Z"}
@merchants {"merchant":"m-2","tier":"established"}
{"id":"t-1","time":1711965600000,"card":"c-1","account":"a","merchant":"m-1","amount":10,"currency":"EUR"}
{"id":"t-2","time":1711965601000,"card":"c-2","account":"a","merchant":"m-2","amount":10,"currency":"EUR"}
{"id":"t-3","time":1711965602000,"card":"c-1","account":"a","merchant":"m-3","amount":10,"currency":"EUR"}

@merchants - {"merchant":"m-1"}
@blocked_cards {"card":"c-1"}
{"id":"t-4","time":1711965603000,"card":"c-1","account":"a","merchant":"m-1","amount":10,"currency":"EUR"}

@blocked_cards - {"card":"c-1"}
"#;

const OUTPUT: &str = "\
epoch diff id cause merchant_risk merchant_tier_new merchant_tier_established merchant_tier_watched merchant_opened merchant_known card_blocked ip_country ip_is_hosting
0 +1 t-1 arrival 0.875 0 0 1 1704067200000 1 0 - 0
0 +1 t-2 arrival 0.5 0 1 0 - 1 0 - 0
0 +1 t-3 arrival 0.5 0 0 0 - 0 0 - 0
1 +1 t-4 arrival 0.5 0 0 0 - 0 1 - 0
1 -1 t-1 reference 0.875 0 0 1 1704067200000 1 0 - 0
1 +1 t-1 reference 0.875 0 0 1 1704067200000 1 1 - 0
1 -1 t-3 reference 0.5 0 0 0 - 0 0 - 0
1 +1 t-3 reference 0.5 0 0 0 - 0 1 - 0
2 -1 t-1 reference 0.875 0 0 1 1704067200000 1 1 - 0
2 +1 t-1 reference 0.875 0 0 1 1704067200000 1 0 - 0
2 -1 t-3 reference 0.5 0 0 0 - 0 1 - 0
2 +1 t-3 reference 0.5 0 0 0 - 0 0 - 0
2 -1 t-4 reference 0.5 0 0 0 - 0 1 - 0
2 +1 t-4 reference 0.5 0 0 0 - 0 0 - 0
";

/// A merchant's row is kept as it was; a blocked card reaches back. A revised row keeps what it looked up on arrival.
#[test]
fn merchant_risk() {
    let dataflow = folder::all().into_iter().find(|dataflow| dataflow.name() == "merchant_risk").unwrap();
    let schema = Arc::new(Schema::parse("payments", dataflow.schema()).unwrap());
    let got = cases::run(INPUT, dataflow, &Setup { schema, parameters: Parameters::default() }).unwrap();
    let squeezed: String =
        got.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ") + "\n").collect();
    assert_eq!(squeezed, OUTPUT, "\n{got}");
}

fn replay(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_deltawatch"))
        .args(["replay", "--dataflow", "merchant_risk", "--events", "300", "--output", "/dev/null"])
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

#[test]
fn the_command_line_names_collections() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).display().to_string();
    let (merchants, features) = (at("merchants.jsonl"), at("features.csv"));
    // The generator's merchants.
    let rows: String = (0..3_000).map(|n| format!("{{\"merchant\":\"m-{n:06}\",\"risk\":0.25}}\n")).collect();
    std::fs::write(&merchants, rows).unwrap();
    let named = format!("merchants={merchants}");
    let output = replay(&["--reference", &named, "--features", &features]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = std::fs::read_to_string(&features).unwrap();
    let column = text.lines().next().unwrap().split(',').position(|name| name == "merchant_known").unwrap();
    let risk = text.lines().next().unwrap().split(',').position(|name| name == "merchant_risk").unwrap();
    let of = |line: &str, column: usize| line.split(',').nth(column).unwrap().to_owned();
    let known = text.lines().skip(1).filter(|line| of(line, column) == "1.0" && of(line, risk) == "0.25").count();
    assert!(known > 50, "{known} of {}", text.lines().count());
}

#[test]
fn wrong_references_are_one_line() {
    let missing = Path::new("none.csv");
    assert!(!missing.exists());
    for (arguments, wanted) in [
        (vec!["--reference", "merchants"], "--reference merchants: write it as NAME=PATH"),
        (
            vec!["--reference", "shops=none.csv"],
            "the dataflow 'merchant_risk' has no reference 'shops'; it looks up merchants",
        ),
        (vec!["--reference", "merchants=none.csv"], "--reference merchants=none.csv: cannot open it"),
        (vec!["--reference", "networks=kafka:networks", "--brokers", "127.0.0.1:1"], "cannot come from a topic"),
        (vec!["--reference", "merchants=a.csv,merchants=b.csv"], "'merchants' is given twice"),
    ] {
        let output = replay(&arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{errors}");
        assert!(errors.contains(wanted) && errors.trim_end().lines().count() == 1, "{arguments:?}: {errors}");
    }
}
