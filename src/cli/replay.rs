//! `deltawatch replay`: a bounded run over history.

use std::sync::Arc;

use clap::Args;

use crate::dataflow::Dataflow;
use crate::epoch::Pace;
use crate::source::kafka::Position;

use super::error::Failure;
use super::flags::JobFlags;
use super::plan::Mode;
use super::values::position;

/// Score files, or a range of a topic, to the end
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  deltawatch replay --dataflow handbook --input transactions.csv.gz --features out.csv --output /dev/null
  deltawatch replay --input monday.jsonl --input tuesday.jsonl.zst --output scored.jsonl --rejects rejects.jsonl
  deltawatch replay --input kafka:payments --brokers localhost:9092 --from 2026-01-01T00:00:00Z --to 2026-02-01T00:00:00Z
  deltawatch replay --input generator --events 100000 --json --output /dev/null

A replay is the same every time: epochs take a fixed number of records, whatever the timing.
The feature file holds the final row of each transaction, ordered by event time and id.")]
pub struct ReplayFlags {
    #[command(flatten)]
    job: JobFlags,
    /// Start of the range of a topic: earliest, epoch milliseconds or RFC 3339 [default: earliest]
    #[arg(long, value_name = "WHERE", env = "DELTAWATCH_FROM", value_parser = position, help_heading = "Kafka")]
    from: Option<Position>,
    /// End of the range, exclusive: latest, epoch milliseconds or RFC 3339 [default: latest, as it is at the start]
    #[arg(long, value_name = "WHERE", env = "DELTAWATCH_TO", value_parser = position, help_heading = "Kafka")]
    to: Option<Position>,
}

impl ReplayFlags {
    /// Runs to the end of the input.
    pub fn run(&self, dataflows: &[Arc<dyn Dataflow>]) -> Result<(), Failure> {
        if let (Some(Position::Timestamp(from)), Some(Position::Timestamp(to))) = (self.from, self.to)
            && from >= to
        {
            return Err(Failure::Usage("--from is not before --to, so the range is empty; swap them".into()));
        }
        let Self { job, from, to } = self;
        let mode = Mode { command: "replay", pace: Pace::Bounded, from: *from, to: *to, generator_per_s: None };
        job.execute(dataflows, &mode)
    }
}
