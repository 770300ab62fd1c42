//! Secrets are neither shown in the help nor repeated in errors and logs.

use super::{deltawatch, path};

const SECRET: &str = "hunter2";

#[test]
fn help_names_environment_variables_and_not_their_values() {
    for command in [&["run"][..], &["replay"], &["generate"], &["rejects", "replay"]] {
        let mut help = deltawatch(&[command, &["--help"]].concat());
        for name in ["INPUT", "KAFKA", "BROKERS", "REFERENCE", "OUTPUT"] {
            help.env(format!("DELTAWATCH_{name}"), format!("sasl.password={SECRET}"));
        }
        let ended = help.output().expect("it starts");
        let text = String::from_utf8_lossy(&ended.stdout).into_owned() + &String::from_utf8_lossy(&ended.stderr);
        assert!(text.contains("[env: DELTAWATCH_OUTPUT"), "{text}");
        assert!(!text.contains(SECRET), "{command:?}: {text}");
    }
}

#[test]
fn addresses_are_said_without_their_passwords() {
    let folder = tempfile::tempdir().expect("a folder");
    let events = path(&folder, "events.jsonl");
    std::fs::write(&events, "{\"id\":\"a\",\"kind\":\"payment\",\"time\":1700000000000}\n").expect("a file");
    let flags = ["replay", "--input", &events, "--output", "/dev/null", "--log", "trace"];
    for place in [
        "http://user:hunter2@127.0.0.1:9/x.csv",
        "redis://:hunter2@127.0.0.1:9/0",
        "postgres://user:hun@ter2/hunter2@127.0.0.1:9/db",
        "postgres://127.0.0.1:9/db?user=u&password=hunter2",
        "https://hunter2@127.0.0.1:9/{key}",
        "https://127.0.0.1:9/{key}?token=hunter2&x=y",
    ] {
        for name in ["merchants", "nothing_like_it"] {
            let reference = format!("{name}={place}");
            let more = ["--dataflow", "merchant_risk", "--reference", &reference];
            let ended = deltawatch(&[&flags[..], &more].concat()).output().expect("it starts");
            let said = String::from_utf8_lossy(&ended.stderr);
            assert!(!ended.status.success(), "{said}");
            assert!(!said.contains(SECRET) && !said.contains("ter2"), "{place}: {said}");
            assert!(said.contains("[redacted]"), "{place}: {said}");
        }
    }
}

#[test]
fn what_is_no_secret_is_said_in_full() {
    use deltawatch::runtime::redact::redact;
    for text in [
        "kafka at broker-1:9092,broker-2:9092 did not answer",
        "write it as name.key=value, or NAME=kafka:TOPIC",
        "see https://example.org/a?b=c, or mail a@b.c",
        "--model is `payments@2`, but the log was written with `payments@1`",
        "-X linger.ms=7 token bucket",
    ] {
        assert_eq!(redact(text), text);
    }
    assert_eq!(redact("cannot reach redis://u:p@h:1/0: refused"), "cannot reach redis://[redacted]@h:1/0: refused");
    assert_eq!(redact("a http://u@h and http://v:w@i"), "a http://[redacted]@h and http://[redacted]@i");
    assert_eq!(redact("host=h password=pw dbname=d"), "host=h password=[redacted] dbname=d");
    assert_eq!(redact("sasl.password=pw,x=y"), "sasl.password=[redacted],x=y");
}
