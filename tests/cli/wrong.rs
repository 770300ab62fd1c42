//! Wrong usage: one line that names what is wrong and how to mend it, and exit code 2.

use std::fs;

use super::{output, path};

/// Says that a command fails with code 2 and one line with these words in it.
fn refused(arguments: &[&str], words: &[&str]) {
    let output = output(arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
    assert!(error.starts_with("error: ") && error.trim_end().lines().count() == 1, "{arguments:?} says:\n{error}");
    for word in words {
        assert!(error.contains(word), "{arguments:?} does not say '{word}': {error}");
    }
    assert!(output.stdout.is_empty(), "{arguments:?} wrote to standard output");
}

#[test]
fn wrong_usage_is_one_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &str| {
        let path = path(&folder, name);
        fs::write(&path, text).expect("a file");
        path
    };
    let events = file("events.jsonl", "{\"id\":\"a\",\"time\":1}\n");
    let no_id = file("no_id.toml", "name = \"x\"\n[[field]]\nname = \"time\"\ntype = \"time\"\nrole = \"time\"\n");
    let no_toml = file("no.toml", "this is no TOML");
    let one_host = file("one.txt", "127.0.0.1:2101\n");
    let bad_hosts = file("bad.txt", "127.0.0.1:2101\nnowhere\n");
    let ending = file("events.parquet", "");
    let out = path(&folder, "no/such/folder/out.jsonl");
    let cluster = |hosts| ["run", "--model", "none", "-n", "2", "--hosts", hosts];
    let table: &[(&[&str], &[&str])] = &[
        (&["run", "--bogus"], &["--bogus", "--help"]),
        (&["runn"], &["runn", "--help"]),
        (&["replay", "--input", "missing.jsonl"], &["--input missing.jsonl", "cannot open"]),
        (&["replay", "--input", &ending], &["--input", "unknown ending", ".csv"]),
        (&["replay", "--input", "generator"], &["--input generator", "--events"]),
        (&["replay", "--input", &format!("{events},generator")], &["--input", "alone"]),
        (&["replay", "--input", "kafka:a topic"], &["--input", "kafka:TOPIC"]),
        (&["replay", "--input", "kafka:payments"], &["--brokers"]),
        (&["replay", "--input", &events, "--from", "1"], &["--from", "leave them out"]),
        (&["replay", "--input", "kafka:a", "--from", "5", "--to", "4"], &["--from", "--to"]),
        (&["replay", "--input", "kafka:a", "--from", "yesterday"], &["--from", "yesterday", "earliest"]),
        (&["run", "--dataflow", "paymets"], &["paymets", "did you mean 'payments'"]),
        (&["run", "--dataflow", "zzzzzzzz"], &["zzzzzzzz", "there are card_testing, drained_cards, handbook"]),
        (&["run", "--schema", "missing.toml"], &["missing.toml", "--schema"]),
        (&["run", "--schema", &no_id], &["no_id.toml", "role = \"id\""]),
        (&["run", "--schema", &no_toml], &["no.toml"]),
        (&["run", "--set", "amount"], &["--set amount", "name.key=value"]),
        (&["run", "--set", "hello.amount_min=1"], &["--set hello.amount_min=1", "payments"]),
        (&["run", "--dataflow", "hello", "--set", "hello.bogus=1"], &["hello.bogus", "it takes amount_min"]),
        (&["run", "--dataflow", "hello", "--set", "hello.amount_min=x"], &["hello.amount_min=x"]),
        (&["run", "--model", "handbook"], &["handbook@1", "TX_DURING_WEEKEND", "--model"]),
        (&["run", "--model", "nothing"], &["nothing", "there are handbook"]),
        (&["run", "--model", "none", "--output", &out], &["--output", &out]),
        (&["run", "--model", "none", "--rejects", &out], &["--rejects", &out]),
        (&["run", "--model", "none", "--features", "rows.parquet"], &["--features rows.parquet", ".csv"]),
        (&["run", "--model", "none", "--features", "kafka:rows"], &["--features kafka:rows", "path"]),
        (&["run", "--model", "none", "--output", "x", "--rejects", "x"], &["two outputs"]),
        (&cluster("missing.txt"), &["--hosts missing.txt", "cannot read"]),
        (&cluster(&one_host), &["--hosts", "names 1 addresses", "needs 2"]),
        (&cluster(&bad_hosts), &["--hosts", "nowhere", "HOST:PORT"]),
        (&["run", "-n", "2", "-p", "2"], &["--process 2", "0 to 1"]),
        (&["run", "--horizon", "1 hour"], &["--horizon", "1h"]),
        (&["run", "--reserve-memory", "4GB"], &["--reserve-memory", "4GiB"]),
        (&["run", "--reserve-memory", "60000GiB"], &["--reserve-memory", "the system has"]),
        (&["run", "--metrics", "here"], &["--metrics", "PORT"]),
        (&["run", "--workers", "0"], &["--workers"]),
        (&["run", "--log", "deltawatch=loud"], &["--log deltawatch=loud", "debug"]),
        (&["run", "--late-share", "2"], &["--late-share", "between 0 and 1"]),
        (&["generate"], &["--events"]),
        (&["generate", "--events", "5", "--fraud-share", "0.9"], &["fraud_share"]),
        (&["generate", "--events", "5", "--labels", "kafka:x"], &["--labels kafka:x"]),
        (&["dataflow", "describe", "paymets"], &["did you mean 'payments'"]),
        (&["dataflow", "new", "Big"], &["Big", "lower case"]),
    ];
    for (arguments, words) in table {
        refused(arguments, words);
    }
    assert!(!std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("x").exists(), "a refused run made a file");
}

#[test]
fn a_refused_run_empties_no_output() {
    let folder = tempfile::tempdir().expect("a folder");
    let kept = path(&folder, "kept.jsonl");
    fs::write(&kept, "precious\n").expect("a file");
    refused(&["replay", "--input", "missing.jsonl", "--output", &kept], &["missing.jsonl"]);
    refused(&["run", "--model", "handbook", "--output", &kept], &["handbook@1"]);
    assert_eq!(super::read(&kept), "precious\n");
}
