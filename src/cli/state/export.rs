//! The records of a journal as lines.

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::super::error::Failure;
use super::super::outputs::{ExistingFlags, Targets};
use super::super::values::OutputName;
use crate::epoch::journal::JournalSource;
use crate::event::{Payload, Record};
use crate::source::{Ready, Source, StartOffsets};

/// Records taken in one turn.
const POLL_RECORDS_MAX: usize = 4096;

#[derive(Args, Debug)]
pub struct ExportFlags {
    /// The state directory
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Where the lines go: a path, gzip or zstd by ending, or `-`
    #[arg(long, value_name = "PATH", default_value = "-", value_parser = OutputName::parse)]
    output: OutputName,
    #[command(flatten)]
    existing: ExistingFlags,
}

impl ExportFlags {
    /// Writes `{"partition":P,"offset":N,"record":TEXT}` per record; what was never text is shown.
    pub fn run(&self) -> Result<(), Failure> {
        let source = JournalSource::open(&self.directory).map_err(|error| Failure::Failed(error.to_string()))?;
        let targets = Targets::resolve(&[("--output", Some(&self.output))], &[], &self.existing, None)?;
        let mut out = targets.open("--output")?.out;
        let mut reader = source.open(0, 1, &StartOffsets::new())?;
        let mut records = Vec::new();
        loop {
            let ready = reader.poll(POLL_RECORDS_MAX, &mut records)?;
            for record in records.drain(..) {
                writeln!(out, "{}", line(&record)).map_err(|error| Failure::Failed(format!("--output: {error}")))?;
            }
            match ready {
                Ready::Done => break,
                Ready::More => {}
                Ready::CaughtUp | Ready::Waiting => thread::park_timeout(Duration::from_millis(1)),
            }
        }
        out.flush().map_err(|error| Failure::Failed(format!("--output: {error}")))
    }
}

fn line(record: &Record) -> serde_json::Value {
    let text = match &record.payload {
        Payload::Json(bytes) | Payload::Csv { line: bytes, .. } => String::from_utf8_lossy(bytes).into_owned(),
        Payload::Tombstone { key } => {
            return json!({ "partition": record.partition, "offset": record.offset, "tombstone": String::from_utf8_lossy(key) });
        }
        Payload::Event(event) => format!("{event:?}"),
    };
    json!({ "partition": record.partition, "offset": record.offset, "record": text })
}
