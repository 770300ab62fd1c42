//! `deltawatch rejects`: what becomes of records that were refused.

use std::collections::BTreeMap;
use std::io::Write;
use std::thread;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use serde::Deserialize;

use super::error::{Failure, usage};
use super::flags::{KafkaFlags, LogFlags};
use super::outputs::{ExistingFlags, Targets};
use super::values::{InputName, OutputName, position};
use crate::event::{Limits, Payload, Schema};
use crate::flow::RejectReason;
use crate::sink::file::plain_stem;
use crate::sink::{Headers, OutputRecord, Writer};
use crate::source::kafka::{KafkaSource, Position};
use crate::source::{FileSource, Ready, Source, StartOffsets};

/// Records that are taken in one turn.
const POLL_RECORDS_MAX: usize = 1024;
/// A reject line: a record of at most 512 KiB in base64, and what is said about it.
const LINE_BYTES_MAX: usize = 4 << 20;
/// Sources want a schema, though nothing is decoded here.
const SCHEMA: &str = "name = \"rejects\"\nfield = [{ name = \"id\", type = \"text\", role = \"id\" }, { name = \"time\", type = \"time\", role = \"time\" }]";

/// Work with records that were refused
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct RejectsFlags {
    #[command(subcommand)]
    command: RejectsCommand,
}

#[derive(Subcommand, Debug)]
enum RejectsCommand {
    Replay(ReplayFlags),
}

const EXAMPLES: &str = "Examples:
  deltawatch rejects replay --input rejects.jsonl --output again.jsonl
  deltawatch rejects replay --input rejects.jsonl --reason too_late,orphan_label --output again.csv
  deltawatch rejects replay --input kafka:rejects --reason malformed --output kafka:payments --brokers localhost:9092

Every reject carries its record as it was read; this writes those records, as they were, to be sent again: to a file that
`run` or `replay` reads, or to a topic. Mend what refused them first (a schema, --horizon, the records themselves): else
they are refused again. Records of CSV files go to a .csv file with the header of their own file, or --header.
What cannot be sent is counted and said: rejects that were cut off, and those that are about no single record.";

/// Write the records of rejects, to be sent again
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
struct ReplayFlags {
    /// Files that --rejects wrote (.jsonl, also .gz and .zst), `-` or `kafka:TOPIC`; files may be repeated
    #[arg(long, short, value_name = "IN", required = true, env = "DELTAWATCH_INPUT", value_delimiter = ',')]
    input: Vec<String>,
    /// Rejects with this reason only, as too_late; repeatable
    #[arg(long, value_name = "REASON", env = "DELTAWATCH_REASON", value_delimiter = ',', value_parser = reason)]
    reason: Vec<RejectReason>,
    /// Records: a path, `-` or `kafka:TOPIC`
    #[arg(long, short, value_name = "OUT", default_value = "-", env = "DELTAWATCH_OUTPUT", value_parser = OutputName::parse)]
    output: OutputName,
    /// The header of CSV records, if their file is not there any more
    #[arg(long, value_name = "COLUMNS", env = "DELTAWATCH_HEADER")]
    header: Option<String>,
    /// Where in a topic to start: earliest, epoch milliseconds or RFC 3339 [default: earliest]
    #[arg(long, value_name = "WHERE", env = "DELTAWATCH_FROM", value_parser = position, help_heading = "Kafka")]
    from: Option<Position>,
    #[command(flatten)]
    existing: ExistingFlags,
    #[command(flatten)]
    kafka: KafkaFlags,
    #[command(flatten)]
    log: LogFlags,
}

fn reason(text: &str) -> Result<RejectReason, String> {
    let known = RejectReason::ALL.iter().find(|reason| reason.name() == text);
    let names = || RejectReason::ALL.map(RejectReason::name).join(", ");
    known.copied().ok_or_else(|| format!("no such reason; there are {}", names()))
}

/// What is read of a reject.
#[derive(Deserialize)]
struct Line {
    reason: String,
    #[serde(default)]
    id: String,
    file: Option<String>,
    raw: Option<String>,
    raw_base64: Option<String>,
    raw_bytes: Option<u64>,
}

/// What became of the rejects.
#[derive(Default)]
struct RejectTally {
    sent: BTreeMap<String, u64>,
    other_reason: u64,
    cut_off: u64,
    no_record: u64,
    unreadable: u64,
}

impl RejectsFlags {
    /// Does what was asked for.
    pub fn run(&self) -> Result<(), Failure> {
        match &self.command {
            RejectsCommand::Replay(flags) => flags.run(),
        }
    }
}

impl ReplayFlags {
    fn run(&self) -> Result<(), Failure> {
        self.log.start()?;
        let source = self.source()?;
        let special = |path: &str| path.starts_with("kafka:");
        let reads: Vec<(&str, &str)> =
            self.input.iter().map(|path| ("--input", path.trim())).filter(|(_, path)| !special(path)).collect();
        let targets = Targets::resolve(&[("--output", Some(&self.output))], &reads, &self.existing, None)?;
        let mut reader = source.open(0, 1, &StartOffsets::new())?;
        let mut sender = Sender { flags: self, targets, out: None, csv: None, tally: RejectTally::default() };
        let mut records = Vec::new();
        loop {
            let ready = reader.poll(POLL_RECORDS_MAX, &mut records)?;
            for record in records.drain(..) {
                match record.payload {
                    Payload::Json(line) => sender.take(&line)?,
                    _ => sender.tally.unreadable += 1,
                }
            }
            match ready {
                Ready::Done => break,
                Ready::More => {}
                Ready::CaughtUp | Ready::Waiting => thread::park_timeout(Duration::from_millis(1)),
            }
        }
        sender.finish()
    }

    fn source(&self) -> Result<Box<dyn Source>, Failure> {
        let input = InputName::parse(&self.input).map_err(|reason| usage("--input", self.input.join(","), reason))?;
        if !matches!(input, InputName::Kafka(_)) && self.from.is_some() {
            return Err(Failure::Usage("--from chooses a place in a topic; files are read whole: leave it out".into()));
        }
        Ok(match input {
            InputName::Files(paths) => {
                let schema = Schema::parse("rejects", SCHEMA)?;
                Box::new(FileSource::new(&paths, &schema, Limits { record_bytes_max: LINE_BYTES_MAX })?)
            }
            InputName::Kafka(topic) => {
                let from = self.from.unwrap_or(Position::Earliest);
                Box::new(KafkaSource::new(self.kafka.resolve()?, &topic, from, Some(Position::Latest)))
            }
            InputName::Generator | InputName::Journal(_) => {
                let named = self.input.join(",");
                return Err(usage("--input", named, "is no place of rejects; name a file or a topic"));
            }
        })
    }
}

/// Writes records.
struct Sender<'a> {
    flags: &'a ReplayFlags,
    targets: Targets,
    /// Opened with the first record, which says whether a header is wanted.
    out: Option<Box<dyn Writer>>,
    /// Whether the records are CSV.
    csv: Option<bool>,
    tally: RejectTally,
}

impl Sender<'_> {
    fn take(&mut self, line: &[u8]) -> Result<(), Failure> {
        let Ok(line) = serde_json::from_slice::<Line>(line) else {
            self.tally.unreadable += 1;
            return Ok(());
        };
        let wanted = &self.flags.reason;
        if !wanted.is_empty() && !wanted.iter().any(|reason| reason.name() == line.reason) {
            self.tally.other_reason += 1;
            return Ok(());
        }
        let raw = match (line.raw, line.raw_base64.map(|text| STANDARD.decode(text))) {
            (Some(text), _) => text.into_bytes(),
            (None, Some(Ok(bytes))) => bytes,
            (None, Some(Err(_))) => {
                self.tally.unreadable += 1;
                return Ok(());
            }
            (None, None) => Vec::new(),
        };
        if raw.is_empty() {
            self.tally.no_record += 1;
            return Ok(());
        }
        if line.raw_bytes.is_some() {
            self.tally.cut_off += 1;
            return Ok(());
        }
        let csv = line.file.as_deref().is_some_and(is_csv);
        self.open(csv, line.file.as_deref())?;
        // A JSON record of a topic may go over several lines, a record of a file may not: line ends are only space there.
        let one_line = matches!(self.flags.output, OutputName::Path(_)) && !csv;
        let raw = match one_line {
            true => raw.into_iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }).collect(),
            false => raw,
        };
        self.write(line.id.into_bytes(), raw)?;
        *self.tally.sent.entry(line.reason).or_default() += 1;
        Ok(())
    }

    fn write(&mut self, key: Vec<u8>, payload: Vec<u8>) -> Result<(), Failure> {
        let headers = Headers { diff: 1, ..Headers::default() };
        let Some(out) = &mut self.out else { return Ok(()) };
        Ok(out.write(OutputRecord { key, payload: Some(payload), last_line: Vec::new(), headers, arrived_ns: 0 })?)
    }

    /// Opens the output for the first record; later ones must be of its kind.
    fn open(&mut self, csv: bool, file: Option<&str>) -> Result<(), Failure> {
        if let Some(before) = self.csv {
            return match before == csv {
                true => Ok(()),
                false => Err(Failure::Usage(
                    "--input: has records of CSV files and others; replay them one after the other, by file".into(),
                )),
            };
        }
        self.csv = Some(csv);
        let OutputName::Path(path) = &self.flags.output else {
            if csv {
                return Err(Failure::Usage("--output: records of CSV files go to a .csv file, not to a topic".into()));
            }
            self.out =
                Some(self.targets.writer(&self.flags.output, "--output", &self.flags.kafka, Box::new(|_| {}))?);
            return Ok(());
        };
        if path != "-" && csv != is_csv(path) {
            let wanted =
                if csv { "the records are CSV; name a .csv file" } else { "the records are JSON; name a .jsonl file" };
            return Err(usage("--output", path, wanted));
        }
        let header = if csv { Some(self.header(file.unwrap_or_default())?) } else { None };
        self.out = Some(self.targets.writer(&self.flags.output, "--output", &self.flags.kafka, Box::new(|_| {}))?);
        match header {
            // What is added to a file stands under the header that the file has.
            Some(header) if !self.flags.existing.append => self.write(Vec::new(), header.into_bytes()),
            _ => Ok(()),
        }
    }

    fn header(&self, file: &str) -> Result<String, Failure> {
        if let Some(header) = &self.flags.header {
            return Ok(header.clone());
        }
        let first = crate::sink::file::first_line_of(file);
        let first = first.map_err(|error| {
            Failure::Usage(format!("--input: cannot read the header of {file}, {error}; give it with --header"))
        })?;
        first.ok_or_else(|| Failure::Usage(format!("--input: {file} is empty now; give its header with --header")))
    }

    fn finish(mut self) -> Result<(), Failure> {
        if let Some(out) = &mut self.out {
            out.flush()?;
        }
        let RejectTally { sent, other_reason, cut_off, no_record, unreadable } = &self.tally;
        let count: u64 = sent.values().sum();
        let reasons: Vec<String> = sent.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
        let reasons = if reasons.is_empty() { String::new() } else { format!(" ({})", reasons.join(", ")) };
        let left = [
            (*other_reason, "have another reason"),
            (*cut_off, "are cut off: their place leads to the whole record"),
            (*no_record, "are about no record"),
            (*unreadable, "are no rejects"),
        ];
        let left: Vec<String> =
            left.iter().filter(|(count, _)| *count > 0).map(|(count, why)| format!("{count} {why}")).collect();
        let left = if left.is_empty() { String::new() } else { format!("; left out: {}", left.join(", ")) };
        // Whoever read standard error may have gone.
        let _ = writeln!(std::io::stderr(), "records   {count} written{reasons}{left}");
        if count == 0 && *unreadable > 0 {
            return Err(Failure::Failed("--input: there is no reject in it; name what --rejects wrote".into()));
        }
        Ok(())
    }
}

fn is_csv(path: &str) -> bool {
    plain_stem(&path.to_ascii_lowercase()).ends_with(".csv")
}
