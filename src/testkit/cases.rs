//! Text cases: input records and the expected diffs of feature rows in one file.
//!
//! ```text
//! # What the case shows.
//! input
//! {"id":"a","time":1000,"card":"x","amount":5}
//!                                                  <- an empty line closes the epoch
//! {"id":"b","time":900,"card":"x","amount":7}
//! output
//! epoch  diff  id  cause       card_count_1h
//! 0      +1    a   arrival     0
//! 1      +1    b   arrival     0
//! 1      -1    a   late_event  0
//! 1      +1    a   late_event  1
//! ```
//!
//! A line `@merchants {"merchant":"m1","risk":0.9}` is a row of the reference collection `merchants`; with a dash before the
//! object the row of its key is deleted. Lines of one epoch may be mixed; reference lines keep their order.
//!
//! A revision is listed with the epoch whose records caused it. Rejects are listed with diff `!` and their reason. With
//! `DELTAWATCH_BLESS=1` in the environment the output is written instead of compared.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::{Harness, Outcome, Plan};
use crate::dataflow::{Dataflow, Setup};
use crate::decode::Decoder;
use crate::event::{Event, Id, Limits, Payload, Record, Stand};
use crate::feature::FeatureSet;
use crate::flow::{Epoch, ReferenceRecord};
use crate::source::tables::RowDecoder;

/// Runs the case in a file. The error shows the lines that differ.
pub fn check(path: &Path, dataflow: Arc<dyn Dataflow>, setup: &Setup) -> Result<(), String> {
    let name = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
    let (head, wanted) = text.split_once("output\n").ok_or_else(|| format!("{name}: has no line 'output'"))?;
    let got = run(head, dataflow, setup).map_err(|error| format!("{name}: {error}"))?;
    if std::env::var_os("DELTAWATCH_BLESS").is_some() {
        return std::fs::write(path, format!("{head}output\n{got}")).map_err(|error| format!("{name}: {error}"));
    }
    match difference(wanted, &got) {
        None => Ok(()),
        Some(lines) => Err(format!("{name} (- wanted, + got; DELTAWATCH_BLESS=1 rewrites it):\n{lines}")),
    }
}

/// The output of a case's text, comments and input, as a table.
pub fn run(text: &str, dataflow: Arc<dyn Dataflow>, setup: &Setup) -> Result<String, String> {
    let input = text.split_once("input\n").ok_or("has no line 'input'")?.1;
    let mut decoder = Decoder::new(setup.schema.clone(), Limits::default()).map_err(|error| error.to_string())?;
    let features = dataflow.features(setup).map_err(|error| error.to_string())?;
    let columns = features.columns();
    let (mut plan, mut events, mut references): (Plan, Vec<Event>, Vec<_>) = Default::default();
    for (number, line) in input.lines().enumerate() {
        if line.trim().is_empty() {
            plan.push(events.drain(..));
            plan.refer(references.drain(..));
            continue;
        }
        if let Some(line) = line.strip_prefix('@') {
            references.push(reference(line, &features)?);
            continue;
        }
        let payload = Payload::Json(line.as_bytes().to_vec());
        let (offset, stand) = (number as u64, Stand::default());
        let record = Record { partition: 0, offset, timestamp_ms: 0, arrived_ns: 0, stand, payload };
        events.push(decoder.decode(&record).map_err(|reject| format!("{line}: {}", reject.message))?);
    }
    plan.push(events);
    plan.refer(references);
    let outcome = Harness::new(dataflow, setup.clone()).drained().run(&plan).map_err(|error| error.to_string())?;
    Ok(table(&outcome, &columns, setup, &plan))
}

/// The record of a line without its `@`: the name of a look-up's reference, and a row or the key of a deleted one.
fn reference(line: &str, features: &FeatureSet) -> Result<ReferenceRecord, String> {
    let (name, row) = line.split_once(' ').unwrap_or((line, ""));
    let mut look_ups = features.families().iter().filter_map(|family| family.enrich());
    let look_up = look_ups.find(|look_up| look_up.reference().name() == name);
    let look_up = look_up.ok_or_else(|| format!("@{line}: no look-up has a reference '{name}'"))?;
    let mut decoder = RowDecoder::new(look_up.reference().clone(), Limits::default());
    let (row, gone) = row.strip_prefix("- ").map_or((row, false), |row| (row, true));
    decoder.row(look_up.tag(), row, gone).map_err(|reason| format!("@{line}: {reason}"))
}

fn table(outcome: &Outcome, columns: &[String], setup: &Setup, plan: &Plan) -> String {
    let schema = &setup.schema;
    let names: BTreeMap<Id, String> = plan.events().map(|event| (event.id, event.id_text(schema))).collect();
    let planned = |epoch: Epoch| outcome.closed.partition_point(|&closed| closed < epoch);
    let mut lines = vec![["epoch", "diff", "id", "cause"].map(str::to_owned).to_vec()];
    lines[0].extend(columns.iter().cloned());
    let mut held: BTreeMap<Id, &Vec<f64>> = BTreeMap::new();
    for record in &outcome.rows {
        let before = match &record.row {
            Some(row) => held.insert(record.id, row),
            None => held.remove(&record.id),
        };
        let bits = |row: &Vec<f64>| row.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        if before.map(bits) == record.row.as_ref().map(bits) {
            continue;
        }
        let mut line = |diff: &str, row: &Vec<f64>| {
            let id = names.get(&record.id).cloned().unwrap_or_default();
            let mut line = vec![planned(record.epoch).to_string(), diff.to_owned(), id, record.cause.name().to_owned()];
            line.extend(row.iter().map(|value| if value.is_nan() { "-".to_owned() } else { value.to_string() }));
            lines.push(line);
        };
        before.iter().for_each(|row| line("-1", row));
        record.row.iter().for_each(|row| line("+1", row));
    }
    for reject in &outcome.rejects {
        lines.push(vec!["-".to_owned(), "!".to_owned(), reject.id.clone(), reject.reason.name().to_owned()]);
    }
    aligned(&lines)
}

fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let width = |at: usize| lines.iter().filter_map(|line| line.get(at)).map(String::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for line in lines {
        let cells: Vec<String> = line.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// The lines that only one of the two has, in order.
fn difference(wanted: &str, got: &str) -> Option<String> {
    let (wanted, got): (Vec<_>, Vec<_>) = (wanted.lines().collect(), got.lines().collect());
    if wanted == got {
        return None;
    }
    let same = wanted.iter().zip(&got).take_while(|(a, b)| a == b).count();
    let mark = |sign: &str, lines: &[&str]| lines.iter().map(|line| format!("{sign} {line}\n")).collect::<String>();
    Some(mark(" ", &got[..same]) + &mark("-", &wanted[same..]) + &mark("+", &got[same..]))
}
