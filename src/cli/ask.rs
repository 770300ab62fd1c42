//! `deltawatch rules ask`: what rules would have hit over the past, before anyone has to live with them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use clap::Args;
use serde_json::{Value, json};

use super::error::Failure;
use super::flags::JobFlags;
use super::plan::Mode;
use super::progress::{Progress, grouped};
use super::run::all_rejected;
use crate::dataflow::Dataflow;
use crate::epoch::Pace;
use crate::event::Schema;
use crate::metrics::Metrics;
use crate::runtime::job::Outputs;
use crate::runtime::state::State;
use crate::score::control::Deployments;
use crate::score::rules::{CheckedRule, Rule, RuleFile, RuleMode, Scope};
use crate::score::scorer::Scorer;
use crate::sink::{OutputRecord, SinkError, Writer};

/// Stands before the ids of rules that are asked about: present ones may have the same.
const ASKED: &str = "ask.";
/// Transactions that are listed of a rule.
const LISTED_MAX: usize = 10;
/// The collection that says what rules hit.
const COLLECTION: &str = "rule_quality";

/// Ask what rules would have hit over the past: hits by day and label, money, overlap with present rules
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  deltawatch rules ask my_rules.toml --input journal:state/
  deltawatch rules ask my_rules.toml --input events.jsonl --rules present_rules.toml
  deltawatch rules ask my_rules.toml --input kafka:payments --brokers localhost:9092 --from 2026-11-01T00:00:00Z --json

Replays the records (of a journal also while its run goes on) with the rules in shadow beside the model and the present rules (--rules);
nothing is decided, written or sent. Needs a dataflow that emits `rule_quality`; for payments that is payments_quality.")]
pub struct AskFlags {
    /// The rules to ask about (TOML)
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    job: JobFlags,
}

/// What came out.
#[derive(Default)]
struct Answers {
    /// By rule and day: hits by label, with money.
    by_day: BTreeMap<(String, String), Value>,
    /// By transaction: what is said of it now.
    said: BTreeMap<String, Value>,
}

impl AskFlags {
    /// Replays and answers.
    pub fn run(mut self, dataflows: &[Arc<dyn Dataflow>]) -> Result<(), Failure> {
        if self.job.dataflow == "payments" {
            // The same, with what is to be counted.
            self.job.dataflow = "payments_quality".to_owned();
        }
        let flags = &self.job;
        flags.watch.log.start()?;
        let content = RuleFile::load(&self.file)?;
        let answers = Arc::<Mutex<Answers>>::default();
        let mut all_columns = Vec::new();
        let outputs = |_: &Schema, columns: Vec<String>, _: Option<&State>| {
            all_columns = columns;
            Ok(Outputs { scored: Some(Box::new(Listener(answers.clone()))), ..Outputs::default() })
        };
        let mode = Mode { command: "replay", pace: Pace::Bounded, from: None, to: None, generator_per_s: None };
        let (stop, metrics) = (Arc::new(AtomicBool::new(false)), Arc::new(Metrics::default()));
        let mut job = flags.job(dataflows, &mode, stop, &metrics, outputs)?;
        let present = job.settings.deployments.take().map(|deployments| deployments.of(0)).unwrap_or_default();
        let (scorer, asked) = self.beside(&present, content, &job.setup.schema, &all_columns)?;
        job.settings.deployments = Some(Deployments::from(scorer));
        let progress = Progress::start(&metrics);
        let done = job.run(flags.cluster.resolve()?);
        drop(progress);
        done?;
        all_rejected(&metrics)?;
        let answers = std::mem::take(&mut *answers.lock().unwrap_or_else(PoisonError::into_inner));
        if !answers.by_day.keys().any(|(rule, _)| rule == "*") {
            let dataflow = &flags.dataflow;
            return Err(Failure::Usage(format!(
                "--dataflow {dataflow}: emits no {COLLECTION}, or nothing was scored; take one that does, as payments_quality"
            )));
        }
        let told: Vec<Value> = asked.iter().map(|rule| answers.of(rule)).collect();
        let text = if flags.watch.json {
            format!("{}\n", Value::Array(told))
        } else {
            told.iter().map(as_text).collect::<Vec<_>>().join("\n")
        };
        std::io::stdout().write_all(text.as_bytes()).map_err(|error| Failure::Failed(error.to_string()))
    }

    /// What is deployed, with the rules that are asked about in shadow.
    fn beside(
        &self,
        present: &Scorer,
        content: RuleFile,
        schema: &Schema,
        columns: &[String],
    ) -> Result<(Scorer, Vec<Rule>), Failure> {
        let file = self.file.display().to_string();
        let wrong = |reason: String| Failure::Usage(format!("{file}: {reason}"));
        let mut rules = present.rules().clone();
        for list in &content.lists {
            rules = rules.with_lists(list.added_to(rules.lists()).map_err(wrong)?);
        }
        for rule in &content.rules {
            let asked = Rule { id: format!("{ASKED}{}", rule.id), mode: RuleMode::Shadow, ..rule.clone() };
            let scope = Scope::new(schema, columns).with_lists(rules.lists());
            let checked = CheckedRule::new(&file, asked, &scope, schema)?;
            rules = rules.with(checked, schema).map_err(wrong)?;
        }
        // In the order of their numbers from 0 on, as names are given out.
        let mut next = 0..;
        let rules = rules.renumbered(|_| next.next().unwrap_or_default());
        Ok((present.with_rules(rules), content.rules))
    }
}

impl Answers {
    /// What is to be said of a rule.
    fn of(&self, rule: &Rule) -> Value {
        let label = format!("{ASKED}{rule}");
        let days = |wanted: &str| {
            let found = self.by_day.iter().filter(|((rule, _), _)| rule == wanted);
            found.map(|((_, day), value)| (day.clone(), value.clone())).collect::<BTreeMap<String, Value>>()
        };
        let (hits, scored) = (days(&label), days("*"));
        let sum = |days: &BTreeMap<String, Value>, side: &str, label: &str, what: &str| {
            days.values().filter_map(|value| value[side][label][what].as_i64()).sum::<i64>()
        };
        let total = |days: &BTreeMap<String, Value>, side: &str| {
            let of = |label: &str, what: &str| sum(days, side, label, what);
            json!({
                "fraud": of("fraud", "count"), "legitimate": of("legitimate", "count"), "unknown": of("unknown", "count"),
                "fraud_minor": of("fraud", "minor"), "legitimate_minor": of("legitimate", "minor"),
                "unknown_minor": of("unknown", "minor"),
            })
        };
        let by_day: Vec<Value> = hits
            .iter()
            .map(|(day, value)| json!({"day": day, "hits": total(&BTreeMap::from([(day.clone(), value.clone())]), "shadow")}))
            .collect();
        let of_rule =
            |said: &&Value| said["shadow_rules"].as_array().is_some_and(|rules| rules.contains(&json!(label)));
        let (mut outcomes, mut overlap) = (BTreeMap::<String, u64>::new(), BTreeMap::<String, u64>::new());
        let (mut listed, mut count) = (Vec::new(), 0_u64);
        for (id, said) in self.said.iter().filter(|(_, said)| of_rule(said)) {
            count += 1;
            *outcomes.entry(said["action"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
            let present: BTreeSet<&str> =
                said["rules"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            present.iter().for_each(|rule| *overlap.entry((*rule).to_owned()).or_default() += 1);
            if listed.len() < LISTED_MAX {
                listed.push(id.clone());
            }
        }
        json!({
            "rule": rule.to_string(), "action": rule.action.name(), "when": rule.when, "hits": count,
            "scored": self.said.len(), "by_label": total(&hits, "shadow"), "all_by_label": total(&scored, "hits"),
            "by_day": by_day, "by_present_action": outcomes, "with_present_rules": overlap, "transactions": listed,
        })
    }

    fn take(&mut self, line: &[u8]) {
        let Ok(line) = serde_json::from_slice::<Value>(line) else { return };
        if line["collection"] == COLLECTION {
            let key = line["key"].as_str().and_then(|key| key.rsplit_once('|'));
            let Some((rule, day)) = key.map(|(rule, day)| (rule.to_owned(), day.to_owned())) else { return };
            // The updates of a key in an epoch may come in any order.
            match line["diff"].as_i64() {
                Some(1..) => drop(self.by_day.insert((rule, day), line["value"].clone())),
                _ => {
                    let key = (rule, day);
                    if self.by_day.get(&key).is_some_and(|value| *value == line["value"]) {
                        self.by_day.remove(&key);
                    }
                }
            }
        } else if let Some(id) = line["id"].as_str() {
            match line["diff"].as_i64() {
                Some(1) => drop(self.said.insert(id.to_owned(), line["assessment"].clone())),
                Some(0) => drop(self.said.remove(id)),
                _ => {}
            }
        }
    }
}

fn as_text(told: &Value) -> String {
    let text = |name: &str| told[name].as_str().unwrap_or_default().to_owned();
    let count = |value: &Value| grouped(value.as_i64().unwrap_or(0).unsigned_abs());
    let money = |value: &Value| format!("{:.2}", value.as_i64().unwrap_or(0) as f64 / 100.0);
    let share = 100.0 * told["hits"].as_f64().unwrap_or(0.0) / told["scored"].as_f64().unwrap_or(0.0).max(1.0);
    let labels = &told["by_label"];
    let mut said = format!("{}  {}\n    when {}\n", text("rule"), text("action"), text("when"));
    said += &format!(
        "    hits          {} of {} transactions ({share:.2} %)\n",
        count(&told["hits"]),
        count(&told["scored"])
    );
    said += &format!(
        "    labels        fraud {} of {}, legitimate {}, unknown {}\n",
        count(&labels["fraud"]),
        count(&told["all_by_label"]["fraud"]),
        count(&labels["legitimate"]),
        count(&labels["unknown"])
    );
    said += &format!(
        "    money         fraud {}, legitimate {}, unknown {}\n",
        money(&labels["fraud_minor"]),
        money(&labels["legitimate_minor"]),
        money(&labels["unknown_minor"])
    );
    let pairs = |name: &str| {
        let pairs = told[name].as_object().into_iter().flatten();
        let pairs = pairs.map(|(what, number)| format!("{what} {}", count(number))).collect::<Vec<_>>();
        if pairs.is_empty() { "none".to_owned() } else { pairs.join(", ") }
    };
    said += &format!(
        "    now           {}\n    rules now     {}\n",
        pairs("by_present_action"),
        pairs("with_present_rules")
    );
    for day in told["by_day"].as_array().into_iter().flatten() {
        let hits = &day["hits"];
        let (day, fraud) = (day["day"].as_str().unwrap_or_default(), count(&hits["fraud"]));
        said += &format!(
            "    {day}    fraud {fraud}, legitimate {}, unknown {}\n",
            count(&hits["legitimate"]),
            count(&hits["unknown"])
        );
    }
    let listed: Vec<&str> = told["transactions"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    said + &format!("    such as       {}\n", if listed.is_empty() { "none".to_owned() } else { listed.join(", ") })
}

/// Takes what comes out, in the place of an output.
struct Listener(Arc<Mutex<Answers>>);

impl Writer for Listener {
    fn write(&mut self, record: OutputRecord) -> Result<(), SinkError> {
        let line = record.payload.as_deref().unwrap_or(&record.last_line);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take(line);
        Ok(())
    }

    fn poll(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
}
