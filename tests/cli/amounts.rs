//! Amounts up to the edge of 64 bits: sums are exact in features, deviations and collections; and how long all-time sums last.

use std::fs;

use serde_json::Value;

use super::{done, path, read};

const SCHEMA: &str = r#"
name = "large"
scored = ["payment"]
default_kind = "payment"
field = [
  { name = "id", type = "text", role = "id", required = true },
  { name = "time", type = "time", role = "time", format = "millis", required = true },
  { name = "customer", type = "text", role = "entity" },
  { name = "terminal", type = "text", role = "entity" },
  { name = "merchant", type = "text", role = "entity" },
  { name = "amount", type = "int", role = "amount" },
]
"#;

/// A folder with the schema and these amounts, a second apart, of one customer and merchant.
fn folder(amounts: &[i64]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(path(&folder, "schema.toml"), SCHEMA).expect("a file");
    let line = |(number, amount): (usize, &i64)| {
        let time = 1_700_000_000_000i64 + 1_000 * number as i64;
        format!(
            "{{\"id\":\"w{number}\",\"time\":{time},\"customer\":\"c\",\"terminal\":\"m\",\"merchant\":\"m\",\"amount\":\"{amount}\"}}\n"
        )
    };
    fs::write(path(&folder, "in.jsonl"), amounts.iter().enumerate().map(line).collect::<String>()).expect("a file");
    folder
}

#[test]
fn sums_and_deviations_do_not_wrap() {
    let large = 5_000_000_000_000_000_000i64;
    for amounts in
        [&[large, large, large][..], &[90_000_000_000_000_000; 200], &[i64::MAX, i64::MIN, i64::MAX, i64::MIN]]
    {
        let folder = folder(amounts);
        let file = |name: &str| path(&folder, name);
        let (input, schema, features) = (file("in.jsonl"), file("schema.toml"), file("features.jsonl"));
        let flags = ["--dataflow", "spend_profile", "--schema", &schema, "--model", "none", "--output", "/dev/null"];
        done(&[&["replay", "--input", &input, "--features", &features], &flags[..]].concat());
        let rows = read(&features);
        assert_eq!(rows.lines().count(), amounts.len());
        for (at, line) in rows.lines().enumerate() {
            let row: Value = serde_json::from_str(line).expect("JSON");
            let feature = |name: &str| row["features"][name].as_f64();
            // This event included, as the columns of this dataflow are.
            let window = &amounts[..=at];
            let (sum, n) = (window.iter().map(|&one| i128::from(one)).sum::<i128>(), window.len() as f64);
            assert_eq!(feature("customer_amount_sum_1h"), Some(sum as f64), "row {at}");
            assert_eq!(feature("customer_amount_mean_1h"), Some(sum as f64 / n), "row {at}");
            let mean = sum as f64 / n;
            let about = (window.iter().map(|&one| (one as f64 - mean).powi(2)).sum::<f64>() / n).sqrt();
            let std = feature("customer_amount_std_1h").expect("a deviation");
            assert!((std - about).abs() <= about * 1e-12 && std >= 0.0, "row {at}: {std}, about {about}");
        }
    }
}

#[test]
fn the_tutorials_totals_do_not_wrap() {
    let folder = folder(&[9_000_000_000_000_000_000, 9_000_000_000_000_000_000, i64::MAX, 1]);
    let (input, schema, out) = (path(&folder, "in.jsonl"), path(&folder, "schema.toml"), path(&folder, "out.jsonl"));
    done(&["replay", "--dataflow", "hello", "--input", &input, "--schema", &schema, "--output", &out]);
    assert!(read(&out).contains("\"amount_minor\":27223372036854775808"), "{}", read(&out));
}

#[test]
fn all_time_features_begin_anew_after_a_silence_that_is_set() {
    let folder = tempfile::tempdir().expect("a folder");
    let events = done(&["generate", "--events", "40", "--pattern-share", "0"]);
    let payment = |line: &str| serde_json::from_str::<Value>(line).ok().filter(|event| event["card"].is_string());
    let mut event = events.lines().find_map(payment).expect("a payment with a card");
    let mut lines = String::new();
    // The longest window of the card is 90 days: what is inside a window is not forgotten.
    for (id, day) in [("a", 0), ("b", 100)] {
        event["id"] = id.into();
        event["time"] = (1_700_000_000_000i64 + day * 86_400_000).into();
        lines += &format!("{event}\n");
    }
    let (input, features) = (path(&folder, "in.jsonl"), path(&folder, "features.jsonl"));
    fs::write(&input, lines).expect("a file");
    for (forget, is_new) in [(&[][..], 0.0), (&["--forget", "95d"][..], 1.0), (&["--forget", "101d"][..], 0.0)] {
        let flags =
            ["--input", &input, "--model", "none", "--output", "/dev/null", "--overwrite", "--features", &features];
        done(&[&["replay"], &flags[..], forget].concat());
        let rows = read(&features);
        let row: Value = serde_json::from_str(rows.lines().last().expect("a row")).expect("JSON");
        assert_eq!(row["id"], "b");
        assert_eq!(row["features"]["card_is_new_all"], is_new, "{forget:?}");
    }
}
