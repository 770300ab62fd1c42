//! `deltawatch lists`: what rules of a running engine look things up in.

use clap::{Args, Subcommand};

use super::control::ControlFlags;
use super::error::Failure;
use crate::score::control::ControlChange;
use crate::score::lists::Lists;
use crate::score::rules::{WrittenEntry, WrittenList};

/// Lists of a running engine: add values, take them off, delete one
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  deltawatch lists add blocked_cards c-17 c-18 --reason 'reported stolen' --control control.jsonl
  deltawatch lists add blocked_cards c-19 --until 2026-12-24T00:00:00Z --reason 'under review' --control control.jsonl
  deltawatch lists remove blocked_cards c-17 --control control.jsonl

A rule asks `event.card in blocked_cards`.")]
pub struct ListsFlags {
    #[command(subcommand)]
    command: ListsCommand,
}

#[derive(Subcommand, Debug)]
enum ListsCommand {
    /// Add values to a list, which is made if it is not there
    Add(AddFlags),
    /// Take values off a list
    Remove(RemoveFlags),
    /// Delete a list that no rule looks into
    Delete(ListFlags),
}

#[derive(Args, Debug)]
struct AddFlags {
    /// The list: letters, digits and _
    #[arg(value_name = "LIST")]
    list: String,
    /// The values
    #[arg(value_name = "VALUE", required = true)]
    values: Vec<String>,
    /// Why they are on it
    #[arg(long, value_name = "TEXT", env = "DELTAWATCH_REASON")]
    reason: String,
    /// They are on it for events before this time; for ever if left out
    #[arg(long, value_name = "TIME", env = "DELTAWATCH_UNTIL")]
    until: Option<jiff::Timestamp>,
    #[command(flatten)]
    control: ControlFlags,
}

#[derive(Args, Debug)]
struct RemoveFlags {
    /// The list
    #[arg(value_name = "LIST")]
    list: String,
    /// The values
    #[arg(value_name = "VALUE", required = true)]
    values: Vec<String>,
    #[command(flatten)]
    control: ControlFlags,
}

#[derive(Args, Debug)]
struct ListFlags {
    /// The list
    #[arg(value_name = "LIST")]
    list: String,
    #[command(flatten)]
    control: ControlFlags,
}

impl ListsFlags {
    /// Does what was asked.
    pub fn run(self) -> Result<(), Failure> {
        match self.command {
            ListsCommand::Add(AddFlags { list: name, values, reason, until, control }) => {
                let entry = |value| WrittenEntry { value, until, reason: reason.clone() };
                let list = WrittenList { name, entries: values.into_iter().map(entry).collect() };
                list.added_to(&Lists::default()).map_err(Failure::Usage)?;
                control.send([ControlChange::List(list)])
            }
            ListsCommand::Remove(RemoveFlags { list, values, control }) => {
                control.send([ControlChange::ListRemove { list, values }])
            }
            ListsCommand::Delete(ListFlags { list, control }) => control.send([ControlChange::ListDelete { list }]),
        }
    }
}
