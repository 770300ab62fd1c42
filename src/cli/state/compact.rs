//! Dropping what a state directory does not need.

use std::path::PathBuf;

use clap::Args;

use super::super::error::Failure;
use super::super::progress::grouped;
use super::super::values::duration_ms;
use crate::runtime::compact::compact;

#[derive(Args, Debug)]
pub struct CompactFlags {
    /// The state directory
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// How much event time the journal keeps though cuts cover it, for features that are added later
    #[arg(long, value_name = "DURATION", default_value = "35d", env = "DELTAWATCH_JOURNAL_KEEP", value_parser = duration_ms)]
    journal_keep: i64,
}

impl CompactFlags {
    /// Drops it, and says how much that was.
    pub fn run(&self) -> Result<(), Failure> {
        let dropped =
            compact(&self.directory, self.journal_keep).map_err(|error| Failure::Failed(error.to_string()))?;
        println!("dropped   {} segments of the journal, {} bytes", grouped(dropped.segments), grouped(dropped.bytes));
        Ok(())
    }
}
