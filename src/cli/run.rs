//! `deltawatch run`: scores until stopped.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::error::{Failure, usage};
use super::flags::JobFlags;
use super::interrupt;
use super::plan::Mode;
use super::progress::Progress;
use super::values::{pace, position};
use crate::dataflow::Dataflow;
use crate::epoch::Pace;
use crate::flow::RejectReason;
use crate::metrics::Metrics;
use crate::runtime::{memory, page};
use crate::source::kafka::Position;

/// Score events as they come, until stopped
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  deltawatch run
  deltawatch run --input kafka:payments --brokers localhost:9092 --output kafka:scores --rejects kafka:rejects
  deltawatch run --dataflow hello --set hello.amount_min=500 --output totals.jsonl
  deltawatch run --workers 2 --metrics 9184 --state state/
  deltawatch run -n 2 -p 0 --hosts hosts.txt --input kafka:payments --brokers broker:9092

SIGINT, SIGTERM and SIGHUP complete what was read (at most for --drain), print the summary and exit with 0; a second one
ends at once.
Event time of the generator runs faster than the clock: --pace over --rate times.")]
pub struct RunFlags {
    #[command(flatten)]
    job: JobFlags,
    /// Where in a topic to start: earliest, latest, epoch milliseconds or RFC 3339 [default: earliest]
    #[arg(long, value_name = "WHERE", env = "DELTAWATCH_FROM", value_parser = position, help_heading = "Kafka")]
    from: Option<Position>,
    /// Records per second of wall time that the generator hands out, or `max`
    #[arg(long, value_name = "R", default_value = "2000", env = "DELTAWATCH_PACE", value_parser = pace, help_heading = "Generator")]
    pace: f64,
}

impl RunFlags {
    /// Runs until stopped.
    pub fn run(&self, dataflows: &[Arc<dyn Dataflow>]) -> Result<(), Failure> {
        let generator_per_s = self.pace.is_finite().then_some(self.pace);
        let mode = Mode { command: "run", pace: Pace::Live, from: self.from, to: None, generator_per_s };
        self.job.execute(dataflows, &mode)
    }
}

impl JobFlags {
    /// Resolves and runs a job, watched.
    pub(super) fn execute(&self, dataflows: &[Arc<dyn Dataflow>], mode: &Mode) -> Result<(), Failure> {
        self.watch.log.start()?;
        let cluster = self.cluster.resolve()?;
        let targets = self.targets()?;
        let metrics = Arc::new(Metrics::default());
        let stop = interrupt::flag();
        let drain = Duration::from_millis(self.drain as u64);
        interrupt::listen(&stop, Some((drain, metrics.clone())))?;
        metrics.vitals.starting(self.opens());
        let job = self.resolve(dataflows, mode, &targets, stop, &metrics)?;
        if let Some(bytes) = self.reserve_memory {
            let size = format!("{}MiB", bytes >> 20);
            memory::reserve(bytes).map_err(|reason| usage("--reserve-memory", size, reason))?;
        }
        let what = format!("{} on {}", job.dataflow.name(), job.source.describe());
        if let Some(address) = self.watch.metrics {
            let bound = page::serve(address, metrics.clone(), what.clone())
                .map_err(|reason| usage("--metrics", address, format!("cannot listen there: {reason}")))?;
            tracing::info!(%bound, "metrics");
            eprintln!("metrics   http://{bound}/metrics, http://{bound}/health and http://{bound}/ready");
        }
        tracing::info!(job = what, command = mode.command, workers = self.cluster.workers, "starting");
        let progress = Progress::start(&metrics);
        let done = job.run(cluster);
        progress.finish(self.watch.json, &targets.files(), mode.pace == Pace::Live);
        done?;
        if metrics.vitals.repeating() > 0 {
            return Err(Failure::Undrained(interrupt::repeating(&metrics)));
        }
        // A process of a cluster knows its own share only.
        if self.cluster.processes == 1 { all_rejected(&metrics) } else { Ok(()) }
    }

    /// What a start waits for.
    fn opens(&self) -> String {
        match &self.kafka.brokers {
            Some(brokers) => format!("waited for kafka at {brokers}"),
            None => "opened its inputs and outputs".to_owned(),
        }
    }
}

/// A run that has taken in nothing of what it read has failed: the first reject of each reason says why.
pub(super) fn all_rejected(metrics: &Metrics) -> Result<(), Failure> {
    let rejects = &metrics.rejects;
    // Events that the engine has refused were counted as events.
    let (mut refused, mut unfit) = (0, 0);
    for reason in RejectReason::ALL {
        match reason {
            RejectReason::OrphanLabel | RejectReason::TooLate | RejectReason::Withdrawn => {
                refused += rejects.of(reason)
            }
            // The record behind it was taken in, or it is no record of the input.
            RejectReason::BeyondHorizon | RejectReason::OutputTooLarge => {}
            RejectReason::Malformed
            | RejectReason::MissingField
            | RejectReason::BadValue
            | RejectReason::UnknownKind
            | RejectReason::Empty
            | RejectReason::Oversized
            | RejectReason::FromTheFuture => unfit += rejects.of(reason),
        }
    }
    // Rows of references are no records of the input.
    let unfit = unfit.saturating_sub(metrics.reference_errors.get());
    if refused + unfit == 0 || metrics.events.get() > refused {
        return Ok(());
    }
    let first = rejects.first().into_iter();
    let first: Vec<String> =
        first.map(|(reason, says)| format!("{} ({}): {says}", reason.name(), rejects.of(reason))).collect();
    let records = refused + unfit;
    Err(Failure::Failed(format!(
        "all {records} records were rejected; the first of each reason: {}",
        first.join(" | ")
    )))
}
