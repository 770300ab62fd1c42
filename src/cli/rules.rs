//! `deltawatch rules`: what a file of rules says, and whether it is right.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde_json::json;

use super::error::Failure;
use super::plan::setup;
use crate::cli::dataflow::find;
use crate::dataflow::Dataflow;
use crate::score::rules::{Rule, RuleFile, Rules};

/// Rules: list them, or check a file of them against a dataflow
#[derive(Args, Debug)]
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
    pub fn run(&self, dataflows: &[Arc<dyn Dataflow>]) -> Result<(), Failure> {
        let (flags, lists) = match &self.command {
            RulesCommand::Check(flags) => (flags, false),
            RulesCommand::List(flags) => (flags, true),
        };
        let dataflow = find(dataflows, &flags.dataflow)?;
        let setup = setup(&*dataflow, flags.schema.as_deref(), &flags.set)?;
        let columns = dataflow.features(&setup)?.columns();
        let content = RuleFile::load(&flags.file)?;
        let (shown, all) = (flags.file.display().to_string(), content.rules.clone());
        let rules = Rules::new(&shown, content, &setup.schema, &columns)?;
        let said = match (flags.json, lists) {
            (true, _) => format!("{}\n", json!(all.iter().map(as_json).collect::<Vec<_>>())),
            (false, true) => all.iter().map(as_text).collect(),
            (false, false) => {
                let (all, used) = (all.len(), rules.iter().count());
                format!("{shown}: {all} rules are right, {} of them paused\n", all - used)
            }
        };
        std::io::stdout().write_all(said.as_bytes()).map_err(|error| Failure::Failed(error.to_string()))
    }
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
