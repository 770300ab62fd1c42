//! `deltawatch generate`: payments and what surrounds them, the same for the same seed.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;

use super::dataflow::find;
use super::error::{Failure, usage};
use super::flags::{GeneratorFlags, KafkaFlags, LogFlags};
use super::interrupt;
use super::outputs::{ExistingFlags, Targets};
use super::plan::setup;
use super::values::{OutputName, pace};
use crate::dataflow::Dataflow;
use crate::event::JsonEncoder;
use crate::generator::{Generator, label_line, truth_line};
use crate::sink::{Headers, OutputRecord, Writer, file};
use crate::source::clock::now_ns;

/// Records between two looks at interrupts and deliveries.
const RECORDS_PER_LOOK: u64 = 256;

/// Write generated payments, logins, refunds and labels as JSON lines
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  deltawatch generate --events 100000 --output events.jsonl.zst --truth truth.jsonl
  deltawatch generate --seed 7 --events 50000 --rate 50 --late-share 0.05 --output events.jsonl
  deltawatch generate --events 200000 --pace 20000 --output kafka:payments --brokers localhost:9092

The same flags give the same bytes on every machine. Labels are among the events, when they become known;
--labels repeats them as a list, --truth says what is really behind each event, for measuring.")]
pub struct GenerateFlags {
    #[command(flatten)]
    generator: GeneratorFlags,
    /// Records per second of wall time, or `max`
    #[arg(long, value_name = "R", default_value = "max", env = "DELTAWATCH_PACE", value_parser = pace, help_heading = "Generator")]
    pace: f64,
    /// Events: a path, `-` or `kafka:TOPIC`
    #[arg(long, short, value_name = "OUT", default_value = "-", env = "DELTAWATCH_OUTPUT", value_parser = OutputName::parse)]
    output: OutputName,
    /// Labels of the payments among them: target, fraud, available_at
    #[arg(long, value_name = "OUT", env = "DELTAWATCH_LABELS", value_parser = OutputName::parse)]
    labels: Option<OutputName>,
    /// What is really behind each event: fraud, pattern, campaign
    #[arg(long, value_name = "OUT", env = "DELTAWATCH_TRUTH", value_parser = OutputName::parse)]
    truth: Option<OutputName>,
    #[command(flatten)]
    existing: ExistingFlags,
    #[command(flatten)]
    kafka: KafkaFlags,
    #[command(flatten)]
    log: LogFlags,
}

impl GenerateFlags {
    /// Generates, until the number is reached or a signal comes.
    pub fn run(&self, dataflows: &[Arc<dyn Dataflow>]) -> Result<(), Failure> {
        self.log.start()?;
        let Some(events) = self.generator.events else {
            return Err(Failure::Usage(
                "--events is missing; say how many records to generate, as --events 10000".into(),
            ));
        };
        let payments = find(dataflows, "payments")?;
        let schema = setup(&*payments, None, &[])?.schema;
        let generator = Generator::new(self.generator.resolve(), schema.clone())?;
        let (labels, truth) = (self.labels.as_ref(), self.truth.as_ref());
        let outs = [("--output", Some(&self.output)), ("--labels", labels), ("--truth", truth)];
        let targets = Targets::resolve(&outs, &[], &self.existing, None)?;
        let mut labels = labels.map(|out| lines(&targets, out, "--labels")).transpose()?;
        let mut truth = truth.map(|out| lines(&targets, out, "--truth")).transpose()?;
        let mut output = targets.writer(&self.output, "--output", &self.kafka, Box::new(|_| {}))?;
        let stop = interrupt::flag();
        interrupt::listen(&stop, None)?;

        let (encoder, started) = (JsonEncoder::new(&schema), Instant::now());
        let mut side = Vec::new();
        for (generated, number) in generator.zip(0..events) {
            if number % RECORDS_PER_LOOK == 0 && stop.load(Ordering::Relaxed) {
                break;
            }
            if self.pace.is_finite() {
                wait(&mut *output, started, number as f64 / self.pace)?;
            }
            let mut payload = Vec::with_capacity(384);
            encoder.write(&generated.event, &schema, &mut payload);
            let record = OutputRecord {
                // What is said of one event stays in one partition of a topic, and so in order.
                key: generated.number.to_string().into_bytes(),
                payload: Some(payload),
                last_line: Vec::new(),
                headers: Headers { diff: 1, ..Headers::default() },
                arrived_ns: now_ns(),
            };
            output.write(record)?;
            if generated.first
                && let (Some(labels), Some(label)) = (&mut labels, generated.label)
            {
                side.clear();
                label_line(generated.number, label, &mut side);
                labels.write(&side)?;
            }
            if generated.first
                && let Some(truth) = &mut truth
            {
                side.clear();
                truth_line(&generated, &schema, &mut side);
                truth.write(&side)?;
            }
        }
        labels.map(Lines::finish).transpose()?;
        truth.map(Lines::finish).transpose()?;
        Ok(output.flush()?)
    }
}

/// Waits until so many seconds after the start, and lets the output make progress meanwhile.
fn wait(output: &mut dyn Writer, started: Instant, seconds: f64) -> Result<(), Failure> {
    let due = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
    while let Some(left) = due.checked_sub(started.elapsed()).filter(|left| !left.is_zero()) {
        output.poll()?;
        thread::sleep(left.min(Duration::from_millis(10)));
    }
    Ok(())
}

/// Labels or truth, line by line.
struct Lines {
    opened: file::Opened,
    buffer: Vec<u8>,
}

/// Lines are gathered up to this size.
const BUFFER_BYTES: usize = 64 << 10;

fn lines(targets: &Targets, out: &OutputName, flag: &'static str) -> Result<Lines, Failure> {
    match out {
        OutputName::Path(_) => Ok(Lines { opened: targets.open(flag)?, buffer: Vec::with_capacity(BUFFER_BYTES) }),
        OutputName::Kafka(topic) => {
            Err(usage(flag, format!("kafka:{topic}"), "is written to a file; give a path or `-`"))
        }
    }
}

impl Lines {
    fn write(&mut self, line: &[u8]) -> Result<(), Failure> {
        self.buffer.extend_from_slice(line);
        if self.buffer.len() >= BUFFER_BYTES { self.hand_on() } else { Ok(()) }
    }

    fn finish(mut self) -> Result<(), Failure> {
        self.hand_on()?;
        self.opened.out.flush().map_err(|error| Failure::Failed(format!("{}: cannot write: {error}", self.opened.name)))
    }

    fn hand_on(&mut self) -> Result<(), Failure> {
        let written = self.opened.out.write_all(&self.buffer);
        self.buffer.clear();
        written.map_err(|error| Failure::Failed(format!("{}: cannot write: {error}", self.opened.name)))
    }
}
