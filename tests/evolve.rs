//! Features, a window and a field that are added between two runs: old columns go on as they were, new ones are what they would
//! be had they been there from the start.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::process::{Command, Output};
use std::sync::Arc;

use deltawatch::cli;
use deltawatch::dataflow::{BuildError, Dataflow, Setup};
use deltawatch::event::{EventBuilder, Id, Op, Schema, SchemaOutline};
use deltawatch::feature::FeatureSet;
use deltawatch::views::velocity::{Filter, Velocity, Window};
use serde_json::Value;
use tempfile::TempDir;

use crate::dataflows::folder::payments::Payments;

const SHIPPED: &str = include_str!("../dataflows/payments.toml");
const ADDED: &str = "\n[[field]]\nname = \"paid_in\"\npath = \"currency\"\ntype = \"text\"\nrole = \"category\"\n";

/// The shipped payments with a field more, a key of it, and features and a longer window on keys that are there.
struct Evolved;

impl Dataflow for Evolved {
    fn name(&self) -> &'static str {
        Payments.name()
    }

    fn about(&self) -> &'static str {
        Payments.about()
    }

    fn schema(&self) -> &'static str {
        Box::leak(format!("{SHIPPED}{ADDED}").into_boxed_str())
    }

    fn model(&self) -> Option<&'static str> {
        Payments.model()
    }

    fn features(&self, setup: &Setup) -> Result<FeatureSet, BuildError> {
        let paid_in = || Filter::is("paid_in", "EUR");
        let more =
            Velocity::of("paid_in", &["paid_in"]).over(&[Window::hours(1), Window::days(1)]).count().sum("amount");
        let of_card = Velocity::of("card_later", &["card"])
            .over(&[Window::hours(3), Window::days(40)])
            .count()
            .distinct("paid_in")
            .over(&[Window::AllTime])
            .only("eur", paid_in())
            .count();
        Ok(Payments.features(setup)?.velocity(more).velocity(of_card))
    }
}

/// The test binary as a program with these dataflows: a run has the process for itself.
#[test]
#[ignore = "is run by the tests beside it, as a program"]
fn program() {
    let arguments = std::env::var("DELTAWATCH_TEST_ARGUMENTS").expect("arguments");
    let dataflows: Vec<Arc<dyn Dataflow>> = match std::env::var("DELTAWATCH_TEST_EVOLVED").is_ok() {
        true => vec![Arc::new(Evolved)],
        false => vec![Arc::new(Payments)],
    };
    let code = cli::main_from(arguments.split('\n').map(Into::into), &dataflows);
    std::process::exit(i32::from(code != std::process::ExitCode::SUCCESS));
}

fn call(evolved: bool, arguments: &[&str]) -> Output {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", "evolve::program", "--ignored", "--nocapture"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    command.env("DELTAWATCH_TEST_ARGUMENTS", [&["deltawatch"], arguments].concat().join("\n"));
    if evolved {
        command.env("DELTAWATCH_TEST_EVOLVED", "1");
    }
    command.output().expect("it runs")
}

/// Runs it; it must succeed. Returns what it says.
fn done(evolved: bool, arguments: &[&str]) -> String {
    let output = call(evolved, arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {said}");
    said
}

/// Generated payments in three pieces; in the later ones some of the first are corrected and withdrawn.
fn pieces(folder: &TempDir) -> [String; 3] {
    let file = folder.path().join("generated.jsonl").display().to_string();
    done(false, &["generate", "--events", "6000", "--output", &file]);
    let lines: Vec<String> = fs::read_to_string(&file).expect("events").lines().map(str::to_owned).collect();
    let payments: Vec<Value> = lines[1500..2900]
        .iter()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .filter(|event: &Value| event["kind"] == "payment")
        .collect();
    let changed = |from: usize| {
        let mut changed = String::new();
        for (index, payment) in payments.iter().enumerate().skip(from).step_by(29) {
            let mut payment = payment.clone();
            payment["op"] = if index % 2 == 0 { "correct".into() } else { "withdraw".into() };
            payment["amount"] = (index as f64 + 0.5).into();
            changed += &format!("{payment}\n");
        }
        changed
    };
    let piece = |lines: &[String]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    [piece(&lines[..3000]), changed(0) + &piece(&lines[3000..4000]), changed(7) + &piece(&lines[4000..])]
}

/// The last row of each transaction in a feature log, by column.
fn rows(file: &str) -> BTreeMap<String, BTreeMap<String, String>> {
    let text = fs::read_to_string(file).expect("rows");
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().expect("a header").split(',').collect();
    let mut rows = BTreeMap::new();
    for line in lines {
        let cells: BTreeMap<String, String> =
            header.iter().zip(line.split(',')).map(|(name, cell)| ((*name).to_owned(), cell.to_owned())).collect();
        rows.insert(cells["id"].clone(), cells);
    }
    rows
}

/// What is said of each transaction in the end. Every (id, revision, diff) must be there once.
fn said(file: &str) -> BTreeMap<String, Vec<(String, i64)>> {
    let mut said: BTreeMap<String, BTreeMap<String, i64>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for line in fs::read_to_string(file).expect("scored diffs").lines() {
        let value: Value = serde_json::from_str(line).expect("JSON");
        let id = value["id"].as_str().expect("an id").to_owned();
        assert!(seen.insert((id.clone(), value["revision"].as_i64(), value["diff"].as_i64())), "twice: {line}");
        let diff = value["diff"].as_i64().expect("a diff");
        *said.entry(id).or_default().entry(value["assessment"].to_string()).or_default() += diff;
    }
    let stands = |of_id: BTreeMap<String, i64>| of_id.into_iter().filter(|(_, count)| *count != 0).collect();
    said.into_iter().map(|(id, of_id)| (id, stands(of_id))).collect()
}

#[test]
fn what_is_added_is_as_if_it_had_been_there_and_the_rest_goes_on() {
    let folder = TempDir::new().expect("a folder");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let input = at("events.jsonl");
    let run = |name: &str, piece: usize, evolved, every: &str, workers: &str| {
        let (state, out, rows) = (at(name), at(&format!("{name}.jsonl")), at(&format!("{name}{piece}.csv")));
        let flags =
            ["run", "--log", "info", "--input", &input, "--state", &state, "--output", &out, "--features", &rows];
        done(evolved, &[&flags[..], &["--cut-every", every, "--workers", workers]].concat())
    };
    for (number, piece) in pieces(&folder).iter().enumerate() {
        let mut file = fs::OpenOptions::new().create(true).append(true).open(&input).expect("a file");
        file.write_all(piece.as_bytes()).expect("it is written");
        // In the second piece without cuts of its own: the next run builds anew what is new once more, then repeats what this one
        // has recorded.
        let every = if number == 1 { "0s" } else { "10m" };
        let said = run("grown", number, number > 0, every, ["2", "1", "2"][number]);
        run("whole", number, true, "10m", "1");
        if number > 0 {
            let parts =
                said.lines().find(|line| line.contains("built from the journal")).expect("it says what it builds");
            assert!(parts.contains("Velocity card_later") && parts.contains("Velocity paid_in"), "{parts}");
            assert!(
                !parts.contains("Identity") && !parts.contains("Look up"),
                "what has not changed was kept: {parts}"
            );
        }
    }
    let of_run = |name: &str| {
        let pieces = (0..3).map(|piece| rows(&at(&format!("{name}{piece}.csv"))));
        pieces
            .reduce(|mut all, later| {
                all.extend(later);
                all
            })
            .expect("three pieces")
    };
    assert!(rows(&at("grown0.csv")).values().all(|row| !row.contains_key("card_later_count_3h")));
    let (grown, whole, mut compared) = (of_run("grown"), of_run("whole"), 0);
    for (id, row) in &grown {
        let wanted =
            whole.get(id).unwrap_or_else(|| panic!("{id} has a row, but none where all was there from the start"));
        // How often a row was read again depends on which columns there were.
        for (column, cell) in row.iter().filter(|(column, _)| *column != "revision") {
            assert_eq!(Some(cell), wanted.get(column), "{id}: {column}");
            compared += 1;
        }
    }
    assert!(compared > 1_000_000, "{compared} cells");
    let newer = |row: &&BTreeMap<String, String>| row.contains_key("card_later_count_3h");
    assert!(grown.values().filter(newer).count() > 1500);
    assert_eq!(said(&at("grown.jsonl")), said(&at("whole.jsonl")));
}

#[test]
fn how_far_a_journal_goes_back_is_said_and_old_columns_do_not_depend_on_it() {
    let folder = TempDir::new().expect("a folder");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (input, state, out) = (at("events.jsonl"), at("state"), at("out.jsonl"));
    // Some days of events.
    done(false, &["generate", "--events", "6000", "--rate", "0.01", "--output", &at("generated.jsonl")]);
    let text = fs::read_to_string(at("generated.jsonl")).expect("events");
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let run = |evolved, rows: &str, until: usize| {
        fs::write(&input, lines[..until].concat()).expect("it is written");
        let flags =
            ["run", "--log", "info", "--input", &input, "--state", &state, "--output", &out, "--features", rows];
        done(evolved, &flags)
    };
    for piece in 1..=4 {
        run(false, &at("before.csv"), piece * 1000);
        fs::remove_file(at("before.csv")).expect("rows");
    }
    done(false, &["state", "compact", &state, "--journal-keep", "0s"]);
    let said = run(true, &at("after.csv"), 6000);
    assert!(said.contains("goes back to then alone") && said.contains("Velocity card_later"), "{said}");
    done(true, &["run", "--input", &input, "--output", &at("whole.jsonl"), "--features", &at("whole.csv")]);
    let (after, whole) = (rows(&at("after.csv")), rows(&at("whole.csv")));
    assert!(after.len() > 1000);
    let mut short = BTreeSet::new();
    for (id, row) in &after {
        for (column, cell) in row.iter().filter(|(column, _)| *column != "revision") {
            if Some(cell) != whole[id].get(column) {
                short.insert(column.clone());
            }
        }
    }
    assert!(!short.is_empty(), "the journal was to be cut off");
    let new = |column: &String| column.starts_with("card_later_") && !column.ends_with("_3h");
    assert!(short.iter().all(new), "only long windows of what is new may lack something: {short:?}");
}

#[test]
fn what_cannot_be_gone_on_from_is_refused_and_says_what_to_do() {
    let folder = TempDir::new().expect("a folder");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (input, state, schema) = (at("events.jsonl"), at("state"), at("schema.toml"));
    fs::write(&input, &pieces(&folder)[0]).expect("a file");
    let flags = ["run", "--input", &input, "--state", &state, "--output", "/dev/null"];
    done(false, &flags);
    let refused = |schema_text: &str, words: &[&str]| {
        fs::write(&schema, schema_text).expect("a file");
        let output = call(false, &[&flags[..], &["--schema", &schema]].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{schema_text}");
        words.iter().for_each(|word| assert!(said.contains(word), "it does not say '{word}': {said}"));
    };
    let narrowed = SHIPPED.replacen("scale = 2", "scale = 1", 1);
    refused(&narrowed, &["field 'amount'", "decimal of scale 2", "decimal of scale 1", "another name"]);
    let gone = SHIPPED.replacen("\"travel_notice\",", "", 1);
    refused(&gone, &["kind 'travel_notice'"]);
    done(false, &flags);
}

#[test]
fn events_are_migrated_by_the_names_of_their_fields() {
    let parse = |text: &str| Schema::parse("test", text).expect("a schema");
    let base = "name = \"t\"\n[[field]]\nname = \"id\"\ntype = \"text\"\nrole = \"id\"\n[[field]]\nname = \"time\"\ntype = \"time\"\nrole = \"time\"\n";
    let field = |name: &str, rest: &str| format!("[[field]]\nname = \"{name}\"\n{rest}\n");
    let old = parse(
        &[
            base.to_owned(),
            field("amount", "type = \"decimal\"\nscale = 2"),
            field("tries", "type = \"int\""),
            field("gone", "type = \"text\""),
            field("shop", "type = \"text\""),
        ]
        .concat(),
    );
    let mut builder = EventBuilder::new(&old);
    let slot = |name: &str| old.slot(name).expect("a field");
    builder.set_text(slot("id"), "t-1");
    builder.set_int(slot("amount"), 1999);
    builder.set_int(slot("tries"), 3);
    builder.set_text(slot("gone"), "of no use");
    builder.set_text(slot("shop"), "m-7");
    let event = builder.finish(Id::from_text("t-1"), 5, 0, Op::Insert, &old);
    let new = parse(
        &[
            field("merchant", "type = \"text\"\naliases = [\"shop\"]"),
            base.split_once('\n').map(|(_, fields)| fields.to_owned()).expect("fields"),
            field("added", "type = \"int\""),
            field("tries", "type = \"float\""),
            field("amount", "type = \"decimal\"\nscale = 4"),
        ]
        .concat()
        .replacen("", "name = \"t\"\n", 1),
    );
    let migrated = SchemaOutline::of(&old).migration(&new).expect("it fits").event(&event).expect("it has room");
    let slot = |name: &str| new.slot(name).expect("a field");
    assert_eq!(migrated.text(slot("merchant")), Some("m-7"));
    assert_eq!(migrated.id_text(&new), "t-1");
    assert_eq!(migrated.float(slot("tries")), Some(3.0));
    assert_eq!(migrated.int(slot("amount")), Some(199_900));
    assert!(!migrated.has(slot("added")));
    assert!(SchemaOutline::of(&new).retypes(&SchemaOutline::of(&old)));
}
