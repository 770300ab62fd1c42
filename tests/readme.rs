//! The commands of `README.md` and of `dataflows/README.md`, run as they stand there.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

#[test]
fn the_commands_of_the_ten_minute_tour_work() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("dataflows/README.md");
    let text = std::fs::read_to_string(path).expect("the tour is there");
    let commands: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("cargo run --release -- ")).collect();
    assert!(commands.len() >= 5, "the tour shows {} commands", commands.len());
    let mut run = 0;
    for command in commands {
        // `cli::files` runs `dataflow new` in a copy of the folder; what it writes is hello's template, so hello stands
        // for it here.
        if command.starts_with("dataflow new ") {
            continue;
        }
        let command = command.replace("my_question", "hello");
        let output = Command::new(env!("CARGO_BIN_EXE_deltawatch"))
            .args(command.split_whitespace())
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stdin(Stdio::null())
            .output()
            .expect("the binary runs");
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        let silent = command.ends_with("--output /dev/null");
        assert_eq!(output.stdout.is_empty(), silent, "{command}: what it prints on standard output");
        run += 1;
    }
    assert!(run >= 4, "{run} commands were run");
}

#[test]
fn the_first_command_scores() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).expect("the README");
    let first = text.lines().find_map(|line| line.strip_prefix("cargo run --release")).expect("a command");
    let arguments = first.split('#').next().unwrap_or_default().split_whitespace().filter(|word| *word != "--");
    let mut child = Command::new(env!("CARGO_BIN_EXE_deltawatch"))
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary runs");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
    child.kill().expect("it still runs");
    child.wait().expect("it ends");
    let diff: serde_json::Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line:?}"));
    assert!(diff["decision"]["score"].is_number(), "{line}");
}
