//! Output files: never the input, never one that is there, one per process.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Stdio;

use super::{deltawatch, done, output, path, read};

const EVENTS: &str = "{\"id\":\"a\",\"kind\":\"payment\",\"time\":1700000000000,\"card\":\"c\",\"amount\":\"1.50\"}\n\
                      {\"id\":\"b\",\"kind\":\"payment\",\"time\":1700000000500,\"card\":\"c\",\"amount\":\"2.50\"}\n";

/// Runs it; it must be refused with code 2 and one line with these words.
fn refused(arguments: &[&str], words: &[&str]) {
    let output = output(arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
    assert_eq!(error.trim_end().lines().count(), 1, "{error}");
    words.iter().for_each(|word| assert!(error.contains(word), "{arguments:?} does not say '{word}': {error}"));
}

#[test]
fn an_output_is_never_the_input_whatever_it_is_called() {
    let folder = tempfile::tempdir().expect("a folder");
    let input = path(&folder, "events.jsonl");
    fs::write(&input, EVENTS).expect("a file");
    let name = |name: &str| path(&folder, name);
    symlink(&input, name("link.jsonl")).expect("a link");
    fs::hard_link(&input, name("hard.jsonl")).expect("a link");
    symlink(folder.path(), name("folder")).expect("a link");
    let dotted = format!("{}/./events.jsonl", folder.path().display());
    let through = name("folder/events.jsonl");
    for other in [&input, &name("link.jsonl"), &name("hard.jsonl"), &dotted, &through] {
        for flag in ["--output", "--rejects", "--features"] {
            for leave in [&[][..], &["--overwrite"], &["--append"]] {
                let flags = ["replay", "--input", &input, "--output", "/dev/null", flag, other];
                // A flag given twice is refused by itself.
                let flags = if flag == "--output" { [&flags[..3], &flags[5..]].concat() } else { flags.to_vec() };
                refused(&[&flags, leave].concat(), &[flag, "is the file that --input reads"]);
            }
        }
    }
    // From standard input, and to standard output.
    let mut replay = deltawatch(&["replay", "--input", "-", "--overwrite", "--output", &input]);
    let refusal = replay.stdin(fs::File::open(&input).expect("a file")).output().expect("it starts");
    assert_eq!(refusal.status.code(), Some(2), "{}", String::from_utf8_lossy(&refusal.stderr));
    let mut replay = deltawatch(&["replay", "--input", &input]);
    let behind = fs::OpenOptions::new().append(true).open(&input).expect("a file");
    let refusal = replay.stdout(behind).stderr(Stdio::piped()).output().expect("it starts");
    assert_eq!(refusal.status.code(), Some(2), "{}", String::from_utf8_lossy(&refusal.stderr));
    // A reference, a schema: anything that is read.
    let (schema, place) = (name("schema.toml"), format!("merchants={input}"));
    fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/dataflows/payments.toml"), &schema).expect("a copy");
    refused(&["replay", "--input", &input, "--schema", &schema, "--overwrite", "--output", &schema], &["--schema"]);
    let enrich = ["replay", "--dataflow", "merchant_risk", "--events", "5", "--reference", &place];
    refused(&[&enrich[..], &["--overwrite", "--rejects", &input]].concat(), &["--reference"]);
    assert_eq!(read(&input), EVENTS);
}

#[test]
fn two_outputs_are_never_one_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let (file, other) = (path(&folder, "a.jsonl"), path(&folder, "b.jsonl"));
    fs::write(&file, "kept\n").expect("a file");
    fs::hard_link(&file, &other).expect("a link");
    let dotted = format!("{}/./new.jsonl", folder.path().display());
    let new = path(&folder, "new.jsonl");
    for (one, two) in [(&file, &other), (&new, &dotted)] {
        let outs = ["--output", one, "--overwrite"];
        refused(&[&["replay", "--events", "5", "--rejects", two][..], &outs].concat(), &["two outputs"]);
        refused(&[&["generate", "--events", "5", "--truth", two][..], &outs].concat(), &["two outputs"]);
    }
    assert_eq!(read(&file), "kept\n");
}

#[test]
fn what_is_there_stays_unless_a_flag_says_otherwise() {
    let folder = tempfile::tempdir().expect("a folder");
    let input = path(&folder, "events.jsonl");
    fs::write(&input, EVENTS).expect("a file");
    for name in ["out.jsonl", "out.jsonl.gz", "out.jsonl.zst"] {
        let out = path(&folder, name);
        let replay = |more: &'static str| {
            let flags = ["replay", "--input", &input, "--output", &out, more];
            flags.into_iter().filter(|flag| !flag.is_empty()).collect::<Vec<_>>()
        };
        let lines = || {
            let bytes = fs::read(&out).expect("a file");
            let text = match name.rsplit('.').next() {
                Some("gz") => std::io::read_to_string(flate2::read::MultiGzDecoder::new(&bytes[..])).expect("gzip"),
                Some("zst") => String::from_utf8(zstd::decode_all(&bytes[..]).expect("zstd")).expect("text"),
                _ => String::from_utf8(bytes).expect("text"),
            };
            text.lines().map(|line| drop(serde_json::from_str::<serde_json::Value>(line).expect(line))).count()
        };
        done(&replay(""));
        let before = fs::read(&out).expect("a file");
        refused(&replay(""), &["--output", name, "--overwrite", "--append"]);
        assert!(before == fs::read(&out).expect("a file"), "a refused run changed {name}");
        done(&replay("--append"));
        assert_eq!(lines(), 4, "{name}");
        done(&replay("--overwrite"));
        assert_eq!(lines(), 2, "{name}");
    }
    for flag in ["--rejects", "--features"] {
        let out = path(&folder, &format!("{flag}.csv"));
        fs::write(&out, "kept\n").expect("a file");
        refused(&["replay", "--input", &input, "--output", "/dev/null", flag, &out], &[flag, "is there already"]);
        assert_eq!(read(&out), "kept\n");
    }
    let out = path(&folder, "out.jsonl");
    for flag in ["--output", "--truth", "--labels"] {
        refused(&["generate", "--events", "5", flag, &out], &[flag, "is there already"]);
    }
    refused(&["replay", "--events", "5", "--append", "--overwrite", "--output", &out], &["--append", "--overwrite"]);
}

#[test]
fn a_feature_file_that_is_added_to_has_one_header() {
    let folder = tempfile::tempdir().expect("a folder");
    let (input, rows) = (path(&folder, "events.jsonl"), path(&folder, "rows.csv"));
    fs::write(&input, EVENTS).expect("a file");
    let replay = ["replay", "--input", &input, "--output", "/dev/null", "--features", &rows, "--append"];
    done(&replay);
    // A crash may have cut off the last line.
    let text = read(&rows);
    fs::write(&rows, text.trim_end()).expect("a file");
    done(&replay);
    let text = read(&rows);
    assert_eq!(text.lines().filter(|line| line.starts_with("id,")).count(), 1, "{text}");
    assert_eq!(text.lines().count(), 5);
    fs::write(&rows, "id,other\n").expect("a file");
    refused(&replay, &["--features", "other columns"]);
    assert_eq!(read(&rows), "id,other\n");
}

#[test]
fn devices_and_pipes_have_nothing_to_lose() {
    let folder = tempfile::tempdir().expect("a folder");
    let pipe = path(&folder, "pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
    let reader = {
        let pipe = pipe.clone();
        std::thread::spawn(move || read(pipe))
    };
    done(&["replay", "--events", "50", "--output", &pipe, "--rejects", "/dev/null"]);
    assert!(reader.join().expect("it reads").lines().count() > 20);
    assert!(done(&["replay", "--events", "50", "--output", "/dev/stdout"]).lines().count() > 20);
}

#[test]
fn every_process_of_a_cluster_writes_files_of_its_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let scores = path(&folder, "my.scores.jsonl.gz");
    let port = || {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("an address").to_string()
    };
    let hosts = format!("{},{}", port(), port());
    let process = |number: &str| {
        let flags = ["replay", "--events", "2000", "--output", &scores, "-n", "2", "-p", number, "--host", &hosts];
        deltawatch(&flags).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts")
    };
    let running = [process("0"), process("1")];
    let mut scored = 0;
    for (number, process) in running.into_iter().enumerate() {
        let ended = process.wait_with_output().expect("it ends");
        let error = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(ended.status.success(), "{error}");
        let file = path(&folder, &format!("my.scores-{number}.jsonl.gz"));
        assert!(error.contains(&format!("files     {file}")), "{error}");
        let text = std::io::read_to_string(flate2::read::MultiGzDecoder::new(fs::File::open(file).expect("a file")));
        for line in text.expect("gzip").lines() {
            serde_json::from_str::<serde_json::Value>(line).expect(line);
            scored += 1;
        }
    }
    assert!(scored > 1000, "{scored} lines");
    assert!(!folder.path().join("my.scores.jsonl.gz").exists());
}
