//! Outputs: which files they are, and what they must never destroy.
//!
//! Before anything is opened, every output file is told from every input and from every other output, by device and inode
//! where it exists, so also through links; then a file that exists is only opened if `--overwrite` or `--append` says what
//! is to become of it. Devices, pipes, `-` and everything under `/dev` have nothing to lose. In a cluster every process
//! writes files of its own: `scores.jsonl` is `scores-0.jsonl`, `scores-1.jsonl` and so on.

use std::io::BufWriter;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use super::error::{Failure, usage};
use super::flags::{Delivery, JobFlags, KafkaFlags};
use super::values::OutputName;
use crate::disk::Disk;
use crate::event::Schema;
use crate::metrics::Metrics;
use crate::runtime::job::Outputs;
use crate::runtime::state::State;
use crate::sink::features::{FeatureFormat, FeatureLog};
use crate::sink::file::{Existing, plain_stem};
use crate::sink::kafka::KafkaWriter;
use crate::sink::transactions::TransactionalWriter;
use crate::sink::{FileWriter, OnAcknowledged, OutputMarks, Writer, file};
use crate::source::clock::now_ns;

/// What is to become of output files that are there already.
#[derive(Args, Debug)]
pub struct ExistingFlags {
    /// Replace output files that are there already
    #[arg(long, env = "DELTAWATCH_OVERWRITE", conflicts_with = "append", help_heading = "Input and output")]
    pub overwrite: bool,
    /// Add to output files that are there already
    #[arg(long, env = "DELTAWATCH_APPEND", help_heading = "Input and output")]
    pub append: bool,
}

impl ExistingFlags {
    fn resolve(&self) -> Existing {
        match (self.overwrite, self.append) {
            (true, _) => Existing::Overwrite,
            (_, true) => Existing::Append,
            _ => Existing::Refuse,
        }
    }
}

/// A file, however it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
enum FileIdentity {
    /// Device and inode of one that exists.
    Inode(u64, u64),
    /// The path of one that does not.
    Path(PathBuf),
}

/// The file of a path; `None` for what is no regular file, which nothing can be lost of.
fn identity(path: &str, standard: &str) -> Option<FileIdentity> {
    let path = Path::new(if path == "-" { standard } else { path });
    match path.metadata() {
        Ok(metadata) if metadata.is_file() => Some(FileIdentity::Inode(metadata.dev(), metadata.ino())),
        Ok(_) => None,
        Err(_) => {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
            Some(FileIdentity::Path(path.file_name().map_or(folder.clone(), |name| folder.join(name))))
        }
    }
}

/// The output files of a command, checked against each other and against what it reads.
pub struct Targets {
    existing: Existing,
    /// By flag.
    paths: Vec<(&'static str, String)>,
    /// Those that go on, by flag, and where.
    own: Vec<(&'static str, u64)>,
}

impl Targets {
    /// `reads` are flags and paths of inputs, `process` the number of this process if there are several.
    pub fn resolve(
        outs: &[(&'static str, Option<&OutputName>)],
        reads: &[(&str, &str)],
        existing: &ExistingFlags,
        process: Option<u16>,
    ) -> Result<Self, Failure> {
        let mut paths = Vec::new();
        for (flag, out) in outs {
            let Some(OutputName::Path(path)) = out else { continue };
            let path = process.map_or(path.clone(), |process| numbered(path, process));
            paths.push((*flag, path));
        }
        let files = paths.iter().map(|(flag, path)| (flag, path, identity(path, "/dev/stdout")));
        let files: Vec<_> = files.filter_map(|(flag, path, file)| Some((*flag, path, file?))).collect();
        for (read_by, read) in reads {
            let Some(read) = identity(read, "/dev/stdin") else { continue };
            if let Some((flag, path, _)) = files.iter().find(|(.., file)| *file == read) {
                return Err(usage(flag, path, format!("is the file that {read_by} reads; name another one")));
            }
        }
        for (at, (flag, path, file)) in files.iter().enumerate() {
            if files[..at].iter().any(|(.., other)| other == file) {
                return Err(usage(flag, path, "two outputs are this file; give each its own"));
            }
        }
        Ok(Targets { existing: existing.resolve(), paths, own: Vec::new() })
    }

    /// Has outputs that an earlier run has written go on where they were acknowledged. What is not there any more was moved: a new
    /// one begins.
    pub fn going_on(&self, marks: &OutputMarks) -> Self {
        let disk = Disk::real();
        let at = |(flag, path): &(&'static str, String)| Some((*flag, marks.get(*flag)?.goes_on(&disk, path)?));
        let own = self.paths.iter().filter_map(at).collect();
        Targets { existing: self.existing, paths: self.paths.clone(), own }
    }

    /// The files that are written, for the summary.
    pub fn files(&self) -> Vec<(&'static str, String)> {
        self.paths.iter().filter(|(_, path)| path != "-" && !path.starts_with("/dev/")).cloned().collect()
    }

    /// Opens a file for lines that are no records.
    pub fn open(&self, flag: &'static str) -> Result<file::Opened, Failure> {
        let path = self.paths.iter().find(|(of, _)| *of == flag).map_or("-", |(_, path)| path);
        let own = self.own.iter().find(|(of, _)| *of == flag);
        Ok(file::open(path, flag, own.map_or(self.existing, |(_, bytes)| Existing::GoOn(*bytes)))?)
    }

    /// Opens an output for records.
    pub fn writer(
        &self,
        out: &OutputName,
        flag: &'static str,
        kafka: &KafkaFlags,
        done: OnAcknowledged,
    ) -> Result<Box<dyn Writer>, Failure> {
        Ok(match out {
            OutputName::Path(_) => Box::new(FileWriter::new(self.open(flag)?, done)),
            OutputName::Kafka(topic) => Box::new(KafkaWriter::open(&kafka.resolve()?, topic, Some(done))?),
        })
    }
}

/// `scores.jsonl.gz` of process 1 is `scores-1.jsonl.gz`. Nothing is added to what is no file.
fn numbered(path: &str, process: u16) -> String {
    let special = Path::new(path).metadata().is_ok_and(|metadata| !metadata.is_file());
    if path == "-" || path.starts_with("/dev/") || special {
        return path.to_owned();
    }
    let (folder, name) = path.rsplit_once('/').map_or(("", path), |(folder, _)| path.split_at(folder.len() + 1));
    let plain = plain_stem(name);
    let stem = plain.rsplit_once('.').map_or(plain, |(stem, _)| if stem.is_empty() { plain } else { stem });
    format!("{folder}{stem}-{process}{}", &name[stem.len()..])
}

impl JobFlags {
    /// The files of the outputs. Nothing is opened yet.
    pub(super) fn targets(&self) -> Result<Targets, Failure> {
        let outs = [
            ("--output", Some(&self.output)),
            ("--rejects", self.rejects.as_ref()),
            ("--features", self.features.as_ref()),
        ];
        let text = |path: &'_ Option<PathBuf>| path.as_ref().and_then(|path| path.to_str().map(str::to_owned));
        let control = match &self.control {
            Some(OutputName::Path(path)) => Some(path.clone()),
            Some(OutputName::Kafka(_)) | None => None,
        };
        let files = [
            ("--schema", text(&self.schema)),
            ("--kafka-properties", text(&self.kafka.kafka_properties)),
            ("--hosts", text(&self.cluster.hosts)),
            ("--rules", text(&self.rules)),
            ("--control", control),
            ("--control-replies", text(&self.control_replies)),
        ];
        let special = |path: &str| path == "generator" || path.starts_with("kafka:") || path.starts_with("journal:");
        let inputs = self.input.iter().map(|path| ("--input", path.trim())).filter(|(_, path)| !special(path));
        let references = self.reference.iter().filter_map(|text| Some(("--reference", text.split_once('=')?.1)));
        let files = files.iter().filter_map(|(flag, path)| Some((*flag, path.as_deref()?)));
        let reads: Vec<(&str, &str)> = inputs.chain(references).chain(files).collect();
        let process = (self.cluster.processes > 1).then_some(self.cluster.process);
        Targets::resolve(&outs, &reads, &self.existing, process)
    }

    /// Whether what is promised of records in topics can be kept.
    pub(super) fn check_delivery(&self) -> Result<(), Failure> {
        let topics = [Some(&self.output), self.rejects.as_ref()];
        let to_kafka = topics.into_iter().flatten().any(|out| matches!(out, OutputName::Kafka(_)));
        match self.delivery {
            Delivery::ExactlyOnce if self.state.is_none() => Err(Failure::Usage(
                "--delivery exactly-once: a restart must know what it has written; add --state DIR".into(),
            )),
            Delivery::ExactlyOnce if !to_kafka => Err(Failure::Usage(
                "--delivery exactly-once: is about topics; files have each line once with --state alone: leave it out"
                    .into(),
            )),
            Delivery::ExactlyOnce if self.rejects.as_ref() == Some(&self.output) => Err(Failure::Usage(
                "--delivery exactly-once: --output and --rejects are one topic; give each its own".into(),
            )),
            _ => Ok(()),
        }
    }

    /// Opens the outputs; of a run with a state directory they go on where they were.
    pub(super) fn outputs(
        &self,
        targets: &Targets,
        schema: &Schema,
        columns: Vec<String>,
        consolidated: bool,
        state: Option<&State>,
        metrics: &Arc<Metrics>,
    ) -> Result<Outputs, Failure> {
        let format = match &self.features {
            None => None,
            Some(OutputName::Kafka(topic)) => {
                let reason = "feature rows go to a file; give a path or `-`";
                return Err(usage("--features", format!("kafka:{topic}"), reason));
            }
            Some(OutputName::Path(path)) => Some(feature_format(path)?),
        };
        let log = |format| {
            let opened = targets.open("--features")?;
            let out = Box::new(BufWriter::new(opened.out));
            let log = FeatureLog::new(out, &opened.name, format, columns, schema, consolidated)?;
            Ok::<_, Failure>(log.after(opened.begins.as_deref())?.committing(opened.committer))
        };
        let features = format.map(log).transpose()?;
        let writer = |out: &OutputName, flag, done: OnAcknowledged| -> Result<Box<dyn Writer>, Failure> {
            match (out, self.delivery, state) {
                (OutputName::Kafka(topic), Delivery::ExactlyOnce, Some(state)) => {
                    let writer = TransactionalWriter::open(&self.kafka.resolve()?, topic, state.writer(), Some(done));
                    Ok(Box::new(writer?))
                }
                _ => targets.writer(out, flag, &self.kafka, done),
            }
        };
        let scored = Some(writer(&self.output, "--output", acknowledged(metrics))?);
        let rejects = self.rejects.as_ref().map(|out| writer(out, "--rejects", Box::new(|_| {})));
        Ok(Outputs { scored, rejects: rejects.transpose()?, features })
    }
}

/// Counts acknowledged records and how long they took.
fn acknowledged(metrics: &Arc<Metrics>) -> OnAcknowledged {
    let metrics = metrics.clone();
    Box::new(move |arrived_ns| {
        metrics.acknowledged.add(1);
        // Revisions and collections have no single cause.
        if arrived_ns > 0 {
            metrics.latency.record_ns(now_ns().saturating_sub(arrived_ns));
        }
    })
}

/// The format of a feature log, by its ending.
pub(super) fn feature_format(path: &str) -> Result<FeatureFormat, Failure> {
    let lower = path.to_ascii_lowercase();
    match plain_stem(&lower).rsplit_once('.') {
        _ if path == "-" || path.starts_with("/dev/") => Ok(FeatureFormat::Json),
        Some((_, "csv")) => Ok(FeatureFormat::Csv),
        Some((_, "jsonl" | "json" | "ndjson")) => Ok(FeatureFormat::Json),
        _ => Err(usage("--features", path, "unknown ending; use .csv or .jsonl, optionally with .gz or .zst")),
    }
}
