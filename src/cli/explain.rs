//! `deltawatch explain`: why a transaction was decided as it was, and what has changed what is said of it since.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use clap::Args;
use serde_json::{Map, Value, json};

use super::error::Failure;
use super::flags::JobFlags;
use super::plan::Mode;
use super::run::all_rejected;
use crate::dataflow::Dataflow;
use crate::epoch::Pace;
use crate::epoch::journal::JournalSource;
use crate::event::Schema;
use crate::metrics::Metrics;
use crate::runtime::job::Outputs;
use crate::runtime::state::State;
use crate::score::control::Deployments;
use crate::score::scorer::Scorer;
use crate::sink::features::{FeatureFormat, FeatureLog};
use crate::sink::{OutputRecord, SinkError, Writer};

/// Features that are shown of a reason or a change, unless told otherwise.
const SHOWN_MAX: usize = 8;

/// Say why a transaction was decided as it was, and what has changed since: features, contributions, rules
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  deltawatch explain t-000012345 --state state/
  deltawatch explain t-000012345 --change --state state/ --json
  deltawatch explain t-000012345 --input journal:state/
  deltawatch explain 4711 --input events.jsonl --rules rules.toml

Replays what a run that has ended has kept (--state, with the flags that it had), the records of one that goes on
(--input journal:DIR), or files; nothing is written.")]
pub struct ExplainFlags {
    /// The transaction
    #[arg(value_name = "ID")]
    id: String,
    /// Every revision: which features have moved, and what that has moved
    #[arg(long, env = "DELTAWATCH_CHANGE")]
    change: bool,
    #[command(flatten)]
    job: JobFlags,
}

/// What came out of one transaction.
#[derive(Default)]
struct Found {
    scored: Vec<Value>,
    rows: Vec<Value>,
}

impl ExplainFlags {
    /// Replays and explains.
    pub fn run(mut self, dataflows: &[Arc<dyn Dataflow>]) -> Result<(), Failure> {
        // The run's own source goes on behind what it has read, or is gone.
        let journal = self.job.state.as_ref().map(|directory| JournalSource::open(directory)).transpose();
        let journal = journal.map_err(|error| Failure::Failed(error.to_string()))?;
        if journal.is_some() {
            // A run on generated events has no end; its journal has.
            self.job.generator.events.get_or_insert(1);
        }
        let flags = &self.job;
        flags.watch.log.start()?;
        let (found, id) = (Arc::<Mutex<Found>>::default(), Arc::<str>::from(&*self.id));
        let mut names = Vec::new();
        let outputs = |schema: &Schema, columns: Vec<String>, _: Option<&State>| {
            names.clone_from(&columns);
            let picker = |of: fn(&mut Found) -> &mut Vec<Value>| {
                Box::new(Picker { id: id.clone(), found: found.clone(), of, line: Vec::new() })
            };
            let rows = picker(|found| &mut found.rows);
            let log = FeatureLog::new(rows, "--features", FeatureFormat::Json, columns, schema, false)?;
            Ok(Outputs { scored: Some(picker(|found| &mut found.scored)), rejects: None, features: Some(log) })
        };
        let mode = Mode { command: "replay", pace: Pace::Bounded, from: None, to: None, generator_per_s: None };
        let (stop, metrics) = (Arc::new(AtomicBool::new(false)), Arc::new(Metrics::default()));
        let mut job = flags.job(dataflows, &mode, stop, &metrics, outputs)?;
        if let Some(journal) = journal {
            job.source = Arc::new(journal);
        }
        let deployments = job.settings.deployments.clone().unwrap_or_else(|| Scorer::default().into());
        job.run(flags.cluster.resolve()?)?;
        all_rejected(&metrics)?;
        let found = std::mem::take(&mut *found.lock().unwrap_or_else(PoisonError::into_inner));
        let explained = Explaining { names: &names, deployments: &deployments }.explain(&found, self.change);
        let Some(explained) = explained else {
            let id = &self.id;
            return Err(Failure::Failed(format!(
                "no transaction {id} was scored; is it of a kind that is, and in what was read?"
            )));
        };
        let text = if flags.watch.json { format!("{explained}\n") } else { as_text(&self.id, &explained) };
        std::io::stdout().write_all(text.as_bytes()).map_err(|error| Failure::Failed(error.to_string()))
    }
}

struct Explaining<'a> {
    names: &'a [String],
    deployments: &'a Deployments,
}

impl Explaining<'_> {
    /// What is to be said: `None` if nothing was said of the transaction.
    fn explain(&self, found: &Found, change: bool) -> Option<Value> {
        let first = found.scored.iter().find(|line| line["revision"] == 0 && line["diff"] == 1)?;
        let last = found.scored.iter().rev().find(|line| line["diff"] == 1)?;
        let withdrawn = found.scored.iter().any(|line| line["diff"] == 0);
        let number = first["decision"]["deployment"].as_u64().unwrap_or(0) as u32;
        let scorer = self.deployments.of(number);
        let model = first["decision"]["model"].as_str();
        let at_arrival = found.rows.first().map(|row| self.values(row)).unwrap_or_default();
        let now = found.rows.iter().rev().find(|row| row["features"].is_object()).map(|row| self.values(row));
        let now = now.unwrap_or_default();
        let mut explained = json!({
            "event_time": first["event_time"],
            "decision": first["decision"],
            "reasons": self.reasons(&scorer, model, &at_arrival),
            "rules": self.rules(&scorer, &first["decision"]["rules"], &at_arrival),
            "revisions": last["revision"],
            "withdrawn": withdrawn,
            "assessment": last["assessment"],
            "assessment_reasons": self.reasons(&scorer, model, &now),
            "assessment_rules": self.rules(&scorer, &last["assessment"]["rules"], &now),
        });
        if change {
            explained["changes"] = Value::Array(self.changes(found, &scorer, model));
        }
        Some(explained)
    }

    /// A row as the model sees it.
    fn values(&self, row: &Value) -> Vec<f64> {
        let features = &row["features"];
        self.names.iter().map(|name| features[name.as_str()].as_f64().unwrap_or(f64::NAN)).collect()
    }

    /// What each feature adds to the model's margin, strongest first.
    fn contributions(&self, scorer: &Scorer, model: Option<&str>, row: &[f64]) -> Vec<(usize, f64)> {
        let deployed = scorer.models().iter().find(|deployed| Some(deployed.model.label()) == model);
        match deployed {
            Some(deployed) if row.len() == self.names.len() => deployed.model.reasons(row, row.len()),
            _ => Vec::new(),
        }
    }

    fn reasons(&self, scorer: &Scorer, model: Option<&str>, row: &[f64]) -> Vec<Value> {
        let text = |column: usize| {
            let deployed = scorer.models().iter().find(|deployed| Some(deployed.model.label()) == model);
            deployed.and_then(|deployed| deployed.model.reason_text(&self.names[column])).map(str::to_owned)
        };
        let reason = |(column, contribution): (usize, f64)| {
            json!({"feature": self.names[column], "value": number(row[column]), "contribution": rounded(contribution),
                "text": text(column)})
        };
        self.contributions(scorer, model, row).into_iter().take(SHOWN_MAX).map(reason).collect()
    }

    /// Rules with their conditions, and the values of the features that those are about.
    fn rules(&self, scorer: &Scorer, labels: &Value, row: &[f64]) -> Vec<Value> {
        let labels = labels.as_array().into_iter().flatten().filter_map(Value::as_str);
        let rules = labels.filter_map(|label| scorer.rules().iter().find(|one| one.rule.to_string() == label));
        let rule = |checked: &Arc<crate::score::rules::CheckedRule>| {
            let rule = &checked.rule;
            let words = rule.when.split(|c: char| !(c.is_alphanumeric() || c == '_')).collect::<BTreeSet<_>>();
            let of = |(column, name): (usize, &String)| Some((name.clone(), number(*row.get(column)?)));
            let names = self.names.iter().enumerate().filter(|(_, name)| words.contains(name.as_str()));
            let values: Map<String, Value> = names.filter_map(of).collect();
            json!({"rule": rule.to_string(), "action": rule.action.name(), "when": rule.when, "reason": rule.reason,
                "values": values})
        };
        rules.map(rule).collect()
    }

    /// Every row that differs from the one before it: what has moved, and what that has moved.
    fn changes(&self, found: &Found, scorer: &Scorer, model: Option<&str>) -> Vec<Value> {
        let mut said = found.scored.iter().filter(|line| line["diff"] == 1 && line["revision"] != 0).peekable();
        let deployed = scorer.models().iter().find(|deployed| Some(deployed.model.label()) == model);
        let score = |row: &[f64]| {
            let mut scores = Vec::new();
            deployed.into_iter().for_each(|deployed| deployed.model.score(row, &mut scores));
            scores.first().copied()
        };
        let (mut changes, mut before): (Vec<Value>, Option<Vec<f64>>) = (Vec::new(), None);
        for row in found.rows.iter().filter(|row| row["features"].is_object()) {
            let after = self.values(row);
            let Some(before) = before.replace(after.clone()) else { continue };
            let differ = |column: &usize| before[*column].to_bits() != after[*column].to_bits();
            let moved: BTreeSet<usize> = (0..after.len()).filter(differ).collect();
            if moved.is_empty() {
                continue;
            }
            let added = [&before, &after].map(|row| {
                let mut by_column = vec![0.0; row.len()];
                self.contributions(scorer, model, row).into_iter().for_each(|(column, one)| by_column[column] = one);
                by_column
            });
            let delta = |column: usize| added[1][column] - added[0][column];
            let mut columns: Vec<usize> = (0..after.len()).filter(|c| moved.contains(c) || delta(*c) != 0.0).collect();
            columns.sort_by(|one, other| delta(*other).abs().total_cmp(&delta(*one).abs()));
            let shown = columns.iter().take(SHOWN_MAX).map(|&column| {
                json!({"feature": self.names[column], "before": number(before[column]), "after": number(after[column]),
                    "contribution_before": rounded(added[0][column]), "contribution_after": rounded(added[1][column])})
            });
            let scores = [score(&before), score(&after)];
            let line = said
                .next_if(|line| model.is_some_and(|model| line["assessment"]["scores"][model].as_f64() == scores[1]));
            changes.push(json!({
                "revision": line.map(|line| &line["revision"]), "cause": line.map(|line| &line["cause"]),
                "epoch": line.map(|line| &line["epoch"]), "score_before": scores[0], "score_after": scores[1],
                "features_moved": moved.len(), "features": shown.collect::<Vec<_>>(),
            }));
        }
        changes
    }
}

fn number(value: f64) -> Value {
    if value.is_nan() { Value::Null } else { json!(value) }
}

fn rounded(contribution: f64) -> f64 {
    (contribution * 1000.0).round() / 1000.0
}

fn as_text(id: &str, explained: &Value) -> String {
    let time = explained["event_time"].as_i64().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    let time = time.map(|time| time.to_string()).unwrap_or_default();
    let decision = &explained["decision"];
    let by = decision["model"].as_str().map(|model| format!(" by {model}")).unwrap_or_default();
    let deployment = decision["deployment"].as_u64().map(|number| format!(", deployment {number}")).unwrap_or_default();
    let verdict = |said: &Value| {
        format!("{} at {:.3}", said["action"].as_str().unwrap_or("nothing"), said["score"].as_f64().unwrap_or(0.0))
    };
    let mut text = format!("{id}  {time}\ndecided   {}{by}{deployment}\n", verdict(decision));
    say(&mut text, &explained["reasons"], &explained["rules"]);
    match (explained["withdrawn"].as_bool(), explained["revisions"].as_u64()) {
        (Some(true), _) => text.push_str("now       withdrawn\n"),
        (_, Some(0) | None) => text.push_str("now       as it was decided\n"),
        (_, Some(revisions)) => {
            text.push_str(&format!("now       {} after {revisions} revisions\n", verdict(&explained["assessment"])));
            say(&mut text, &explained["assessment_reasons"], &explained["assessment_rules"]);
        }
    }
    for change in explained["changes"].as_array().into_iter().flatten() {
        let revision = match (change["revision"].as_u64(), change["cause"].as_str()) {
            (Some(revision), Some(cause)) => format!("revision {revision}, {cause}"),
            _ => "no revision".to_owned(),
        };
        let score = |name: &str| change[name].as_f64().map_or("none".to_owned(), |score| format!("{score:.4}"));
        let (before, after) = (score("score_before"), score("score_after"));
        text.push_str(&format!(
            "change    {revision}: model {before} to {after}, {} features moved\n",
            change["features_moved"]
        ));
        for one in change["features"].as_array().into_iter().flatten() {
            let name = one["feature"].as_str().unwrap_or_default();
            let (from, to) = (&one["contribution_before"], &one["contribution_after"]);
            text.push_str(&format!(
                "            {name}: {} to {}, contribution {from} to {to}\n",
                one["before"], one["after"]
            ));
        }
    }
    text
}

/// Adds reasons and rules, a line each.
fn say(text: &mut String, reasons: &Value, rules: &Value) {
    for rule in rules.as_array().into_iter().flatten() {
        let field = |name: &str| rule[name].as_str().unwrap_or_default();
        text.push_str(&format!("  rule      {} ({}): {}\n", field("rule"), field("action"), field("reason")));
        text.push_str(&format!("            when {}, with {}\n", field("when"), rule["values"]));
    }
    for reason in reasons.as_array().into_iter().flatten() {
        let name = reason["feature"].as_str().unwrap_or_default();
        let what = reason["text"].as_str().map(|text| format!("  {text}")).unwrap_or_default();
        text.push_str(&format!(
            "  {:>+7.3}  {name} = {}{what}\n",
            reason["contribution"].as_f64().unwrap_or(0.0),
            reason["value"]
        ));
    }
}

/// Picks the lines of one transaction, in the place of an output.
struct Picker {
    id: Arc<str>,
    found: Arc<Mutex<Found>>,
    of: fn(&mut Found) -> &mut Vec<Value>,
    line: Vec<u8>,
}

impl Picker {
    fn take(&self, line: &[u8]) {
        let begins = format!("{{\"id\":{}", json!(*self.id));
        if !line.starts_with(begins.as_bytes()) {
            return;
        }
        if let Ok(value) = serde_json::from_slice(line) {
            (self.of)(&mut self.found.lock().unwrap_or_else(PoisonError::into_inner)).push(value);
        }
    }
}

impl Writer for Picker {
    fn write(&mut self, record: OutputRecord) -> Result<(), SinkError> {
        self.take(record.payload.as_deref().unwrap_or(&record.last_line));
        Ok(())
    }

    fn poll(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
}

impl Write for Picker {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(piece);
            if self.line.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                self.take(&line[..line.len() - 1]);
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
