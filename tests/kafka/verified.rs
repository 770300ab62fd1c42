//! A live run from a topic is verified, and any bit that was changed in what it has written is found.
//!
//! 10 000 events always; 200 000 with `DELTAWATCH_FULL=1`.

use std::process::{Output, Stdio};
use std::time::Instant;

use super::pipeline::{SCORED_WITHIN, deltawatch, finish, interrupt};
use super::*;

/// Records per second that come while it runs.
const PACE: &str = "4000";

#[test]
fn a_live_run_is_verified_and_a_changed_bit_is_named() {
    let Some(address) = brokers() else { return };
    let events = if std::env::var_os("DELTAWATCH_FULL").is_some() { 200_000 } else { 10_000 };
    let input = format!("kafka:{}", topic(&address, 4));
    let directory = tempfile::tempdir().unwrap();
    let [state, scores, changed] =
        ["state", "scores.jsonl", "changed.jsonl"].map(|name| directory.path().join(name).display().to_string());
    let common = ["--dataflow", "payments", "--input", &input, "--brokers", &address, "--state", &state];
    let run = ["run", "--workers", "2", "--output", &scores, "--metrics", "0"];
    let begin = Instant::now();
    let mut run = deltawatch(&[&run[..], &common].concat());
    let run = run.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let count = events.to_string();
    let generate = ["generate", "--seed", "3", "--events", &count, "--pace", PACE, "--late-share", "0.05"];
    let mended =
        ["--correction-share", "0.02", "--withdrawal-share", "0.01", "--output", &input, "--brokers", &address];
    finish(&[&generate[..], &mended].concat());
    // Until nothing is written any more.
    let length = || std::fs::metadata(&scores).map_or(0, |found| found.len());
    let (mut before, mut quiet) = (0, 0);
    while quiet < 5 {
        std::thread::sleep(Duration::from_millis(400));
        quiet = if length() == before && before > 0 { quiet + 1 } else { 0 };
        before = length();
        assert!(begin.elapsed() < SCORED_WITHIN, "{before} bytes, and no end");
    }
    let ended = interrupt(run);
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let ran = begin.elapsed();

    let verify = |output: &str| -> Output {
        let verify = ["verify", "--workers", "2", "--output", output];
        deltawatch(&[&verify[..], &common].concat()).output().unwrap()
    };
    let begin = Instant::now();
    let same = verify(&scores);
    let said = String::from_utf8_lossy(&same.stdout).into_owned();
    assert!(same.status.success() && said.starts_with("equal"), "{said} {}", String::from_utf8_lossy(&same.stderr));
    let verified = begin.elapsed();
    let mut bytes = std::fs::read(&scores).unwrap();
    let lines = bytes.iter().filter(|&&byte| byte == b'\n').count();
    assert!(lines > events / 2, "{lines} lines");

    // One bit of a digit of a score, two thirds into the file.
    let text = std::str::from_utf8(&bytes).unwrap();
    let from = text.len() * 2 / 3;
    let at = from + text[from..].find("\"score\":0.").unwrap() + "\"score\":0.".len();
    let begin_of_line = text[..at].rfind('\n').unwrap() + 1;
    let line: serde_json::Value = serde_json::from_str(text[begin_of_line..].lines().next().unwrap()).unwrap();
    bytes[at] ^= 1;
    std::fs::write(&changed, bytes).unwrap();
    let begin = Instant::now();
    let found = verify(&changed);
    let error = String::from_utf8_lossy(&found.stderr);
    assert_eq!(found.status.code(), Some(1), "{error}");
    for word in ["--output: ", line["id"].as_str().unwrap(), "score is 0.", "but the journal gives 0."] {
        assert!(error.contains(word), "no '{word}': {error}");
    }
    eprintln!(
        "{events} events came and were scored in {:.1} s, {lines} lines; verified in {:.1} s, a changed bit found in {:.1} s: {}",
        ran.as_secs_f64(),
        verified.as_secs_f64(),
        begin.elapsed().as_secs_f64(),
        error.trim()
    );
}
