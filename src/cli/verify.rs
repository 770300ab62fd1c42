//! `deltawatch verify`: does a run's journal give what the run has written?

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use clap::Args;
use serde_json::Value;

use super::error::{Failure, usage};
use super::flags::JobFlags;
use super::plan::Mode;
use super::progress::grouped;
use super::values::OutputName;
use crate::dataflow::Dataflow;
use crate::epoch::Pace;
use crate::epoch::journal::JournalSource;
use crate::event::{Payload, Schema};
use crate::metrics::Metrics;
use crate::runtime::job::Outputs;
use crate::runtime::state::State;
use crate::sink::features::FeatureLog;
use crate::sink::file::plain_stem;
use crate::sink::{OutputRecord, SinkError, Writer};
use crate::source::kafka::{KafkaSource, Position};
use crate::source::{Ready, Source, StartOffsets};

/// Replay a run's journal and compare, bit by bit, what comes out with what the run has written
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  deltawatch verify --state state/ --output scores.jsonl
  deltawatch verify --state state/ --input kafka:payments --output kafka:scores --features rows.csv --brokers localhost:9092

Give it the flags that the run had: --output and --features name what the run has written, and are read. The input is the
journal; the run's own is not touched. Exit code 0: all is equal. 1: the first difference is named, with id, field and both
values.")]
pub struct VerifyFlags {
    #[command(flatten)]
    job: JobFlags,
}

/// What a line is found by: id, revision and diff of a scored diff; id and revision of a row; else the line itself.
type LineKey = (String, i64, i64);

/// What a run has written, and what was found of it again.
#[derive(Default)]
struct Written {
    /// The flag that named it.
    flag: &'static str,
    /// Columns, for CSV.
    header: Vec<String>,
    lines: HashMap<LineKey, (Vec<u8>, bool)>,
    /// Lines that came out of the replay and are not in it, and the first of them.
    more: u64,
    first_more: Option<String>,
    difference: Option<String>,
}

impl VerifyFlags {
    /// Replays and compares.
    pub fn run(&self, dataflows: &[Arc<dyn Dataflow>]) -> Result<(), Failure> {
        let flags = &self.job;
        flags.watch.log.start()?;
        let Some(directory) = &flags.state else {
            return Err(Failure::Usage("verify needs --state: the directory that the run had".into()));
        };
        let journal = JournalSource::open(directory).map_err(|error| Failure::Failed(error.to_string()))?;
        let scored = Arc::new(Mutex::new(self.written("--output", &flags.output)?));
        let rows = flags.features.as_ref().map(|name| self.written("--features", name)).transpose()?;
        let rows = rows.map(|rows| Arc::new(Mutex::new(rows)));
        let (metrics, stop) = (Arc::new(Metrics::default()), Arc::new(AtomicBool::new(false)));
        let outputs = |schema: &Schema, columns: Vec<String>, _: Option<&State>| {
            let comparer = Comparer {
                written: scored.clone(),
                last_lines: matches!(flags.output, OutputName::Path(_)),
                stop: stop.clone(),
            };
            let log = |rows: &Arc<Mutex<Written>>| {
                let lines = LineComparer {
                    comparer: Comparer { written: rows.clone(), last_lines: false, stop: stop.clone() },
                    line: Vec::new(),
                };
                let OutputName::Path(path) = flags.features.as_ref().unwrap_or(&flags.output) else {
                    return Err(Failure::Usage("--features: rows are in a file; name it".into()));
                };
                let format = super::outputs::feature_format(path)?;
                Ok(FeatureLog::new(Box::new(lines), "--features", format, columns, schema, false)?)
            };
            let features = rows.as_ref().map(log).transpose()?;
            Ok(Outputs { scored: Some(Box::new(comparer)), rejects: None, features })
        };
        let mode = Mode { command: "replay", pace: Pace::Bounded, from: None, to: None, generator_per_s: None };
        let mut job = flags.job(dataflows, &mode, stop.clone(), &metrics, outputs)?;
        let span = job.state.as_ref().map(|state| (state.first(), state.next())).unwrap_or_default();
        // The run's own source goes on behind what it has read, or is gone.
        job.source = Arc::new(journal);
        job.run(flags.cluster.resolve()?)?;
        let of_both = || [Some(&scored), rows.as_ref()].into_iter().flatten();
        let mut of_both =
            of_both().map(|written| written.lock().unwrap_or_else(PoisonError::into_inner)).collect::<Vec<_>>();
        // The replay ends with the first difference: what is missing then says nothing.
        if let Some(difference) = of_both.iter_mut().find_map(|written| written.difference.take()) {
            return Err(Failure::Failed(difference));
        }
        let said = of_both.iter().map(|written| written.outcome(span)).collect::<Result<Vec<_>, _>>()?;
        println!("equal     epochs {} to {}: {}", grouped(span.0), grouped(span.1.saturating_sub(1)), said.join(", "));
        Ok(())
    }

    /// Reads what the run has written.
    fn written(&self, flag: &'static str, name: &OutputName) -> Result<Written, Failure> {
        let mut written = Written { flag, ..Written::default() };
        match name {
            OutputName::Path(path) if path == "-" || path.starts_with("/dev/") => {
                return Err(usage(flag, path, "name the file or topic that the run has written"));
            }
            OutputName::Path(path) => {
                let csv = plain_stem(&path.to_ascii_lowercase()).ends_with(".csv");
                let cannot = |error: std::io::Error| usage(flag, path, format!("cannot read it: {error}"));
                let mut lines = BufReader::new(open(path).map_err(cannot)?);
                let mut line = Vec::new();
                while lines.read_until(b'\n', &mut line).map_err(cannot)? > 0 {
                    // A last line without its end was being written when the run died.
                    if line.pop() == Some(b'\n') {
                        written.take(std::mem::take(&mut line), csv);
                    }
                    line.clear();
                }
            }
            OutputName::Kafka(topic) => {
                let source =
                    KafkaSource::new(self.job.kafka.resolve()?, topic, Position::Earliest, Some(Position::Latest));
                let (mut reader, mut records) = (source.open(0, 1, &StartOffsets::new())?, Vec::new());
                loop {
                    let ready = reader.poll(4096, &mut records)?;
                    for record in records.drain(..) {
                        if let Payload::Json(line) = record.payload {
                            written.take(line, false);
                        }
                    }
                    match ready {
                        Ready::Done => break,
                        Ready::More => {}
                        Ready::CaughtUp | Ready::Waiting => {
                            std::thread::park_timeout(std::time::Duration::from_millis(1))
                        }
                    }
                }
            }
        }
        Ok(written)
    }
}

impl Written {
    /// Takes a line that the run has written. Twice the same is what at least once means.
    fn take(&mut self, line: Vec<u8>, csv: bool) {
        if csv && self.header.is_empty() {
            self.header = String::from_utf8_lossy(&line).split(',').map(str::to_owned).collect();
            return;
        }
        let key = self.key(&line);
        match self.lines.get(&key) {
            Some((known, _)) if *known != line => {
                let difference = self.differ(&key, &line, known);
                self.difference.get_or_insert(format!("{}: the run itself has written two: {difference}", self.flag));
            }
            _ => drop(self.lines.insert(key, (line, false))),
        }
    }

    /// Compares a line that the replay gives. Says whether to go on.
    fn compare(&mut self, line: &[u8]) -> bool {
        if !self.header.is_empty()
            && line.starts_with(self.header[0].as_bytes())
            && line == self.header.join(",").as_bytes()
        {
            return true;
        }
        let key = self.key(line);
        match self.lines.get_mut(&key) {
            Some((known, found)) if known == line => *found = true,
            Some((known, _)) => {
                let known = known.clone();
                let difference = self.differ(&key, &known, line);
                self.difference.get_or_insert(difference);
            }
            None => {
                self.more += 1;
                self.first_more.get_or_insert_with(|| String::from_utf8_lossy(line).into_owned());
            }
        }
        self.difference.is_none()
    }

    fn key(&self, line: &[u8]) -> LineKey {
        if !self.header.is_empty() {
            let text = String::from_utf8_lossy(line);
            let mut cells = text.splitn(3, ',');
            let id = cells.next().unwrap_or_default().to_owned();
            return (id, cells.next().and_then(|cell| cell.parse().ok()).unwrap_or(-1), 0);
        }
        let value: Value = serde_json::from_slice(line).unwrap_or_default();
        match (value["id"].as_str(), value["revision"].as_i64()) {
            (Some(id), Some(revision)) => (id.to_owned(), revision, value["diff"].as_i64().unwrap_or(0)),
            _ => (String::from_utf8_lossy(line).into_owned(), -1, 0),
        }
    }

    /// Names the first field in which two lines differ.
    fn differ(&self, (id, revision, _): &LineKey, written: &[u8], replayed: &[u8]) -> String {
        let flag = self.flag;
        let said = |field: &str, there: &str, here: &str| {
            format!("{flag}: {id}, revision {revision}: {field} is {there}, but the journal gives {here}")
        };
        if !self.header.is_empty() {
            let (there, here) = (String::from_utf8_lossy(written), String::from_utf8_lossy(replayed));
            let mut cells = self.header.iter().zip(there.split(',').zip(here.split(',')));
            return match cells.find(|(_, (there, here))| there != here) {
                Some((column, (there, here))) => said(column, there, here),
                None => said("the line", &there, &here),
            };
        }
        let parse = |line| serde_json::from_slice::<Value>(line);
        let found = match (parse(written), parse(replayed)) {
            (Ok(there), Ok(here)) => first_difference("", &there, &here),
            _ => None,
        };
        match found {
            Some((field, there, here)) => said(&field, &there, &here),
            None => said("the line", &String::from_utf8_lossy(written), &String::from_utf8_lossy(replayed)),
        }
    }

    /// What is to be said in the end of what lies in a span of epochs.
    fn outcome(&self, (from, until): (u64, u64)) -> Result<String, Failure> {
        let within = |line: &[u8]| match serde_json::from_slice::<Value>(line).unwrap_or_default()["epoch"].as_u64() {
            Some(epoch) => (from..until).contains(&epoch),
            // Rows do not say.
            None => from == 0,
        };
        let mut missing = self.lines.values().filter(|(line, found)| !found && within(line));
        if let Some((line, _)) = missing.next() {
            let (flag, line) = (self.flag, String::from_utf8_lossy(line));
            return Err(Failure::Failed(format!("{flag}: the run has written what the journal does not give: {line}")));
        }
        let lost = self.first_more.as_ref().filter(|line| self.header.is_empty() && within(line.as_bytes()));
        if let Some(line) = lost {
            return Err(Failure::Failed(format!(
                "{}: the run has not written what the journal gives: {line}",
                self.flag
            )));
        }
        let found = self.lines.values().filter(|(_, found)| *found).count();
        let more = if self.more > 0 {
            format!(", {} come after what it has written", grouped(self.more))
        } else {
            String::new()
        };
        Ok(format!("{} lines of {}{more}", grouped(found as u64), self.flag))
    }
}

/// The first field in which two values differ, and both.
fn first_difference(at: &str, there: &Value, here: &Value) -> Option<(String, String, String)> {
    let inside = |name: &str| if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") };
    match (there, here) {
        (Value::Object(there), Value::Object(here)) => {
            let names: BTreeMap<&String, ()> = there.keys().chain(here.keys()).map(|name| (name, ())).collect();
            names.into_keys().find_map(|name| {
                let none = Value::Null;
                let (there, here) = (there.get(name).unwrap_or(&none), here.get(name).unwrap_or(&none));
                first_difference(&inside(name), there, here)
            })
        }
        (Value::Array(there), Value::Array(here)) if there.len() == here.len() => {
            let pairs = there.iter().zip(here).enumerate();
            pairs
                .into_iter()
                .find_map(|(index, (there, here))| first_difference(&inside(&index.to_string()), there, here))
        }
        _ if there == here => None,
        _ => Some((at.to_owned(), there.to_string(), here.to_string())),
    }
}

fn open(path: &str) -> std::io::Result<Box<dyn Read>> {
    let file = std::fs::File::open(path)?;
    Ok(match path.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase()).as_deref() {
        Some("gz") => Box::new(flate2::read::MultiGzDecoder::new(BufReader::new(file))),
        Some("zst" | "zstd") => Box::new(zstd::Decoder::new(file)?),
        _ => Box::new(file),
    })
}

/// Compares in the place of an output.
struct Comparer {
    written: Arc<Mutex<Written>>,
    /// Whether the ends of ids are lines.
    last_lines: bool,
    stop: Arc<AtomicBool>,
}

impl Comparer {
    fn compare(&self, line: &[u8]) {
        // A replay that was stopped by a difference ends as no run did: what it says then is no evidence.
        if self.stop.load(Ordering::Relaxed) {
            return;
        }
        if !self.written.lock().unwrap_or_else(PoisonError::into_inner).compare(line) {
            self.stop.store(true, Ordering::Relaxed);
        }
    }
}

impl Writer for Comparer {
    fn write(&mut self, record: OutputRecord) -> Result<(), SinkError> {
        match &record.payload {
            Some(line) => self.compare(line),
            // What ends an id is a message without content in Kafka, and a line in a file.
            None if self.last_lines => self.compare(&record.last_line),
            None => {}
        }
        Ok(())
    }

    fn poll(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
}

/// Compares line by line in the place of a file.
struct LineComparer {
    comparer: Comparer,
    line: Vec<u8>,
}

impl Write for LineComparer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.line.extend_from_slice(piece);
            if self.line.last() == Some(&b'\n') {
                self.line.pop();
                self.comparer.compare(&self.line);
                self.line.clear();
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
