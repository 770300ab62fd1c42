//! The command line, run as users run it: the built binary, its output and its exit codes.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

mod amounts;
mod ask;
mod cluster;
mod control;
mod days;
mod explain;
mod files;
pub mod live;
mod outputs;
mod page;
mod rejects;
mod restart;
mod revisions;
mod rules;
mod secrets;
mod state;
mod verify;
mod wrong;

/// The built binary, without the environment twins of whoever runs the tests.
fn deltawatch(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_deltawatch"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("DELTAWATCH_")) {
        command.env_remove(name);
    }
    command.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null());
    command
}

/// Runs it to its end.
fn output(arguments: &[&str]) -> Output {
    deltawatch(arguments).output().expect("the binary starts")
}

/// Runs it to its end, which must be a good one; standard output as text.
fn done(arguments: &[&str]) -> String {
    let output = output(arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?} failed: {error}");
    String::from_utf8(output.stdout).expect("text")
}

/// The path of a file in a folder, as text.
fn path(folder: &TempDir, name: &str) -> String {
    folder.path().join(name).to_str().expect("a path that is text").to_owned()
}

fn read(file: impl AsRef<Path>) -> String {
    let mut text = String::new();
    std::fs::File::open(file).and_then(|mut file| file.read_to_string(&mut text)).expect("a file to read");
    text
}

#[test]
fn every_command_explains_itself_with_examples() {
    for command in [&["run"][..], &["replay"], &["generate"], &["rejects"], &["dataflow"]] {
        let help = done(&[command, &["--help"]].concat());
        assert!(help.contains("Examples:\n  deltawatch"), "{command:?} has no examples:\n{help}");
    }
    assert!(done(&["--help"]).contains("deltawatch run"));
    assert!(done(&["--version"]).starts_with("deltawatch 0."));
}

/// A flag in the help begins its own line; what follows up to the next one is its text.
#[test]
fn every_flag_has_an_environment_twin() {
    for command in [&["run"][..], &["replay"], &["generate"], &["rejects", "replay"]] {
        let help = done(&[command, &["--help"]].concat());
        let mut flags: Vec<(String, bool)> = Vec::new();
        for line in help.lines().map(str::trim).take_while(|line| *line != "Examples:") {
            // A line that starts with a dash and a space is a value that a flag may have.
            if line.starts_with('-') && !line.starts_with("- ") {
                let flag = line.split_whitespace().find(|word| word.starts_with("--")).unwrap_or(line);
                flags.push((flag.trim_end_matches(',').to_owned(), false));
            }
            if line.contains("[env: DELTAWATCH_") {
                flags.last_mut().expect("a flag before its text").1 = true;
            }
        }
        assert!(flags.len() > 10, "{command:?}: only {} flags were found", flags.len());
        let without: Vec<_> = flags.iter().filter(|(flag, twin)| !twin && flag != "--help").collect();
        assert!(without.is_empty(), "{command:?}: no environment twin for {without:?}");
    }
    let output = deltawatch(&["run"]).env("DELTAWATCH_DATAFLOW", "nothing_like_it").output().expect("starts");
    assert!(String::from_utf8_lossy(&output.stderr).contains("nothing_like_it"));
}
