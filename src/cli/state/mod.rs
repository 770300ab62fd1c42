//! `deltawatch state`: what a state directory holds.

mod check;
mod compact;
mod export;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::error::Failure;

/// Look into a state directory
#[derive(Args, Debug)]
pub struct StateFlags {
    #[command(subcommand)]
    command: StateCommand,
}

#[derive(Subcommand, Debug)]
enum StateCommand {
    /// Verify every checksum, and say what it holds: epochs, span, records, bytes per view, what it was written under
    #[command(alias = "check")]
    Show(DirectoryFlags),
    /// Drop what neither a restart nor later features need; also what was left by processes that there are no more
    Compact(compact::CompactFlags),
    /// Write the records of the journal as lines, with partition and offset
    Export(export::ExportFlags),
}

#[derive(Args, Debug)]
struct DirectoryFlags {
    /// The state directory
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// As one JSON object
    #[arg(long)]
    json: bool,
}

impl StateFlags {
    /// Does what was asked for.
    pub fn run(&self) -> Result<(), Failure> {
        match &self.command {
            StateCommand::Show(flags) => check::run(&flags.directory, flags.json),
            StateCommand::Compact(flags) => flags.run(),
            StateCommand::Export(flags) => flags.run(),
        }
    }
}
