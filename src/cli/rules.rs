//! `deltawatch rules`: what a file of rules says, and whether it is right; and what a running engine's rules are to be.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde_json::json;

use super::ask::AskFlags;
use super::control::ControlFlags;
use super::error::Failure;
use super::plan::setup;
use crate::cli::dataflow::find;
use crate::dataflow::Dataflow;
use crate::score::control::ControlChange;
use crate::score::rules::{Rule, RuleFile, RuleMode, Rules};

/// Rules: list them, check a file of them against a dataflow, change those of a running engine
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  deltawatch rules check rules.toml
  deltawatch rules put rules.toml --control control.jsonl
  deltawatch rules shadow card-testing --control control.jsonl
  deltawatch rules promote card-testing --by anna --control kafka:control --brokers localhost:9092
  deltawatch rules snooze card-testing --until 2026-12-01T00:00:00Z --control control.jsonl")]
pub struct RulesFlags {
    #[command(subcommand)]
    command: RulesCommand,
}

#[derive(Subcommand, Debug)]
enum RulesCommand {
    /// Check a file of rules: names, types, times
    Check(FileFlags),
    /// List the rules of a file with their conditions and the reasons that they exist
    List(FileFlags),
    Ask(Box<AskFlags>),
    /// Send the rules of a file to a running engine: each is added, or takes the place of the one with its id
    Put(PutFlags),
    /// Send the rules of a file to a running engine: they take the place of all, thresholds included
    Replace(PutFlags),
    /// Let a rule decide from now on
    Promote(RuleFlags),
    /// Let a rule be shown beside decisions, and decide nothing
    Shadow(RuleFlags),
    /// Do not evaluate a rule from now on
    Pause(RuleFlags),
    /// Let a rule rest for events before a time
    Snooze(SnoozeFlags),
    /// Delete a rule
    Delete(RuleFlags),
    /// Put the rules and thresholds of an earlier deployment in place of all
    Rollback(RollbackFlags),
}

#[derive(Args, Debug)]
struct PutFlags {
    #[command(flatten)]
    file: FileFlags,
    #[command(flatten)]
    control: ControlFlags,
}

#[derive(Args, Debug)]
struct RuleFlags {
    /// The rule's id
    #[arg(value_name = "ID")]
    rule: String,
    #[command(flatten)]
    control: ControlFlags,
}

#[derive(Args, Debug)]
struct RollbackFlags {
    /// The deployment: decisions and replies name it
    #[arg(value_name = "NUMBER")]
    deployment: u32,
    #[command(flatten)]
    control: ControlFlags,
}

#[derive(Args, Debug)]
struct SnoozeFlags {
    #[command(flatten)]
    rule: RuleFlags,
    /// Event time before which it rests
    #[arg(long, value_name = "TIME", env = "DELTAWATCH_UNTIL")]
    until: jiff::Timestamp,
}

#[derive(Args, Debug)]
struct FileFlags {
    /// The file (TOML)
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The dataflow whose features and events the rules are about
    #[arg(long, short, value_name = "NAME", default_value = "payments", env = "DELTAWATCH_DATAFLOW")]
    dataflow: String,
    /// A parameter of the dataflow; repeatable
    #[arg(long, value_name = "NAME.KEY=VALUE", env = "DELTAWATCH_SET", value_delimiter = '\n')]
    set: Vec<String>,
    /// Schema of the events instead of the dataflow's own (TOML)
    #[arg(long, value_name = "FILE", env = "DELTAWATCH_SCHEMA")]
    schema: Option<PathBuf>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl RulesFlags {
    /// Does what was asked.
    pub fn run(self, dataflows: &[Arc<dyn Dataflow>]) -> Result<(), Failure> {
        let mode = |RuleFlags { rule, control }: &RuleFlags, mode| {
            control.send([ControlChange::RuleMode { rule: rule.clone(), mode }])
        };
        match self.command {
            RulesCommand::Check(flags) => show(&flags, dataflows, false),
            RulesCommand::List(flags) => show(&flags, dataflows, true),
            RulesCommand::Ask(flags) => flags.run(dataflows),
            RulesCommand::Put(PutFlags { file, control }) => {
                let RuleFile { rules, lists, .. } = checked(&file, dataflows)?.0;
                let rules = rules.into_iter().map(|rule| ControlChange::Rule { rule });
                control.send(lists.into_iter().map(ControlChange::List).chain(rules))
            }
            RulesCommand::Replace(PutFlags { file, control }) => {
                let RuleFile { rules, thresholds, lists } = checked(&file, dataflows)?.0;
                let lists = lists.into_iter().map(ControlChange::List);
                control.send(lists.chain([ControlChange::Rules { rules, thresholds }]))
            }
            RulesCommand::Promote(flags) => mode(&flags, RuleMode::Active),
            RulesCommand::Shadow(flags) => mode(&flags, RuleMode::Shadow),
            RulesCommand::Pause(flags) => mode(&flags, RuleMode::Paused),
            RulesCommand::Snooze(SnoozeFlags { rule: RuleFlags { rule, control }, until }) => {
                control.send([ControlChange::RuleSnooze { rule, until }])
            }
            RulesCommand::Rollback(RollbackFlags { deployment, control }) => {
                control.send([ControlChange::RulesRestore { deployment }])
            }
            RulesCommand::Delete(RuleFlags { rule, control }) => control.send([ControlChange::RuleDelete { rule }]),
        }
    }
}

/// A file of rules, and the rules once they are checked.
fn checked(flags: &FileFlags, dataflows: &[Arc<dyn Dataflow>]) -> Result<(RuleFile, Rules), Failure> {
    let dataflow = find(dataflows, &flags.dataflow)?;
    let setup = setup(&*dataflow, flags.schema.as_deref(), &flags.set)?;
    let columns = dataflow.features(&setup)?.columns();
    let content = RuleFile::load(&flags.file)?;
    let rules = Rules::new(&flags.file.display().to_string(), content.clone(), &setup.schema, &columns)?;
    Ok((content, rules))
}

fn show(flags: &FileFlags, dataflows: &[Arc<dyn Dataflow>], lists: bool) -> Result<(), Failure> {
    let (RuleFile { rules: all, .. }, rules) = checked(flags, dataflows)?;
    let shown = flags.file.display();
    let said = match (flags.json, lists) {
        (true, _) => format!("{}\n", json!(all.iter().map(as_json).collect::<Vec<_>>())),
        (false, true) => all.iter().map(as_text).collect(),
        (false, false) => {
            let paused = rules.iter().filter(|checked| checked.rule.mode == RuleMode::Paused).count();
            format!("{shown}: {} rules are right, {paused} of them paused\n", all.len())
        }
    };
    std::io::stdout().write_all(said.as_bytes()).map_err(|error| Failure::Failed(error.to_string()))
}

fn as_json(rule: &Rule) -> serde_json::Value {
    json!({
        "id": rule.id,
        "version": rule.version,
        "action": rule.action.name(),
        "mode": rule.mode.name(),
        "score": rule.score,
        "priority": rule.priority,
        "scope": rule.scope,
        "when": rule.when,
        "reason": rule.reason,
        "owner": rule.owner,
        "valid_from": rule.valid_from.map(|time| time.to_string()),
        "valid_until": rule.valid_until.map(|time| time.to_string()),
    })
}

fn as_text(rule: &Rule) -> String {
    let score = if rule.score == 0.0 { String::new() } else { format!(", score {:+}", rule.score) };
    let (action, mode) = (rule.action.name(), rule.mode.name());
    format!("{rule}  {action}{score}, {mode}\n    when {}\n    {}\n", rule.when, rule.reason)
}
