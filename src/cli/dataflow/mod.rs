//! `deltawatch dataflow`: what can be computed, and how.

mod definition;
mod describe;
pub(super) mod graph;
mod new;

use std::io::{ErrorKind, Write, stdout};
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde_json::json;

use crate::dataflow::Dataflow;
use crate::event::nearest;
use crate::sink::SinkError;

use super::error::{Failure, usage};
use super::plan::setup;

/// List, describe, draw and create dataflows
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  deltawatch dataflow list
  deltawatch dataflow describe payments --json
  deltawatch dataflow graph hello | dot -Tsvg -o hello.svg
  deltawatch dataflow new refunds_by_merchant")]
pub struct DataflowFlags {
    #[command(subcommand)]
    command: DataflowCommand,
}

#[derive(Subcommand, Debug)]
enum DataflowCommand {
    /// The dataflows of this binary, with the question each answers
    List(AsFlags),
    /// Schema, parameters, features by key, and model of a dataflow
    Describe(NamedFlags),
    /// The operators of a dataflow and how they are connected, as Graphviz dot
    Graph(NamedFlags),
    /// Write dataflows/NAME.rs from the tutorial and add it to dataflows/mod.rs
    New(NewFlags),
}

#[derive(Args, Debug)]
struct AsFlags {
    /// As JSON
    #[arg(long, env = "DELTAWATCH_JSON")]
    json: bool,
}

#[derive(Args, Debug)]
struct NamedFlags {
    /// The dataflow
    name: String,
    /// Schema of the events instead of the dataflow's own (TOML)
    #[arg(long, value_name = "FILE", env = "DELTAWATCH_SCHEMA")]
    schema: Option<PathBuf>,
    /// A parameter of the dataflow; repeatable
    #[arg(long, value_name = "NAME.KEY=VALUE", env = "DELTAWATCH_SET", value_delimiter = '\n')]
    set: Vec<String>,
    #[command(flatten)]
    form: AsFlags,
}

#[derive(Args, Debug)]
struct NewFlags {
    /// Its name: lower case letters, digits and `_`
    name: String,
    /// The folder of the dataflows
    #[arg(long, value_name = "DIR", default_value = "dataflows", env = "DELTAWATCH_DATAFLOWS")]
    dir: PathBuf,
    #[command(flatten)]
    form: AsFlags,
}

impl DataflowFlags {
    /// Does what the subcommand says.
    pub fn run(&self, dataflows: &[Arc<dyn Dataflow>]) -> Result<(), Failure> {
        let text = match &self.command {
            DataflowCommand::List(form) => list(dataflows, form.json),
            DataflowCommand::Describe(flags) => {
                let dataflow = find(dataflows, &flags.name)?;
                let setup = setup(&*dataflow, flags.schema.as_deref(), &flags.set)?;
                describe::describe(&*dataflow, &setup, flags.form.json)?
            }
            DataflowCommand::Graph(flags) => {
                let dataflow = find(dataflows, &flags.name)?;
                let setup = setup(&*dataflow, flags.schema.as_deref(), &flags.set)?;
                graph::graph(dataflow, setup, flags.form.json)?
            }
            DataflowCommand::New(flags) => new::create(&flags.dir, &flags.name, flags.form.json)?,
        };
        let mut out = stdout();
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| match error.kind() {
            ErrorKind::BrokenPipe => SinkError::Closed.into(),
            _ => Failure::Failed(format!("standard output: cannot write: {error}")),
        })
    }
}

fn list(dataflows: &[Arc<dyn Dataflow>], as_json: bool) -> String {
    if as_json {
        let all: Vec<_> = dataflows
            .iter()
            .map(|one| json!({"name": one.name(), "about": one.about(), "model": one.model()}))
            .collect();
        return format!("{}\n", json!(all));
    }
    let width = dataflows.iter().map(|one| one.name().len()).max().unwrap_or(0);
    dataflows.iter().map(|one| format!("{:width$}  {}\n", one.name(), one.about())).collect()
}

/// The dataflow of this name; the error suggests one.
pub fn find(dataflows: &[Arc<dyn Dataflow>], name: &str) -> Result<Arc<dyn Dataflow>, Failure> {
    if let Some(found) = dataflows.iter().find(|one| one.name() == name) {
        return Ok(found.clone());
    }
    let names: Vec<&str> = dataflows.iter().map(|one| one.name()).collect();
    let hint = match nearest(name, names.iter().copied()) {
        Some(known) => format!("did you mean '{known}'?"),
        None => format!("there are {}", names.join(", ")),
    };
    Err(usage("--dataflow", name, format!("no such dataflow; {hint}")))
}
