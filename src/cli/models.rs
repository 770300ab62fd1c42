//! `deltawatch models`: which models score, and which one decides.

use clap::{Args, Subcommand};

use super::control::ControlFlags;
use super::error::Failure;
use crate::score::control::{ControlChange, WantedModel};
use crate::score::scorer::ModelRole;

/// Models of a running engine: deploy one, change its role, take it out
#[derive(Args, Debug)]
pub struct ModelsFlags {
    #[command(subcommand)]
    command: ModelsCommand,
}

#[derive(Subcommand, Debug)]
enum ModelsCommand {
    /// Deploy a model, or change the role of one; it is loaded beside the workers, and no transaction waits for it
    #[command(after_help = "Examples:
  deltawatch models deploy payments@3 --role shadow --control control.jsonl
  deltawatch models deploy payments@3 --role challenger --share 0.1 --control kafka:control --brokers localhost:9092
  deltawatch models deploy payments@3 --role champion --control control.jsonl")]
    Deploy(DeployFlags),
    /// Take a model out
    Delete(DeleteFlags),
}

#[derive(Args, Debug)]
struct DeployFlags {
    /// The model, in the engine's directory of models
    #[arg(value_name = "NAME[@VERSION]")]
    model: String,
    /// The champion decides; a challenger on a share of the transactions; one in shadow scores and decides nothing
    #[arg(long, value_enum, env = "DELTAWATCH_ROLE", default_value = "shadow")]
    role: ModelRole,
    /// The share of the transactions that a challenger decides on, above 0 and at most 1
    #[arg(long, value_name = "SHARE", env = "DELTAWATCH_SHARE", default_value_t = 0.0)]
    share: f64,
    #[command(flatten)]
    control: ControlFlags,
}

#[derive(Args, Debug)]
struct DeleteFlags {
    /// The model
    #[arg(value_name = "NAME@VERSION")]
    model: String,
    #[command(flatten)]
    control: ControlFlags,
}

impl ModelsFlags {
    /// Does what was asked.
    pub fn run(self) -> Result<(), Failure> {
        match self.command {
            ModelsCommand::Deploy(DeployFlags { model, role, share, control }) => {
                control.send([ControlChange::Model(WantedModel { model, role, share, files: None })])
            }
            ModelsCommand::Delete(DeleteFlags { model, control }) => {
                control.send([ControlChange::ModelDelete { model }])
            }
        }
    }
}
