//! The control stream: a file that is added to, or a topic of one partition.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;

use super::kafka::{KafkaConfig, KafkaSource, Position};
use super::{Reader, Ready, Source, SourceError, StartOffsets};
use crate::event::{Payload, Record};

/// Where control messages come from.
#[derive(Clone, Debug)]
pub enum ControlInput {
    /// A file with a message on each line; blank lines are none. Lines are counted from 0.
    File(PathBuf),
    /// A topic of one partition.
    Topic(KafkaConfig, String),
}

/// Reads control messages, in order.
pub enum ControlReader {
    /// Of a file.
    File(FollowedFile),
    /// Of a topic.
    Topic(Box<dyn Reader>, Vec<Record>),
}

/// A file that is read as it grows.
#[derive(Debug)]
pub struct FollowedFile {
    path: PathBuf,
    file: File,
    /// Bytes that were read, and the lines in them.
    read: u64,
    lines: u64,
    /// Lines that were known before.
    known: u64,
    /// A line without its end.
    begun: Vec<u8>,
    /// Nothing is added any more.
    bounded: bool,
}

impl ControlInput {
    /// Opens it behind the messages before `from`; `bounded`: what is there now is all.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn open(&self, from: u64, bounded: bool) -> Result<ControlReader, SourceError> {
        match self {
            ControlInput::File(path) => {
                let failed =
                    |error| SourceError::User(format!("--control {}: {error}; check the path", path.display()));
                let (path, file) = (path.clone(), File::open(path).map_err(failed)?);
                let (read, lines, known, begun) = (0, 0, from, Vec::new());
                Ok(ControlReader::File(FollowedFile { path, file, read, lines, known, begun, bounded }))
            }
            ControlInput::Topic(config, topic) => {
                let start = if from == 0 { StartOffsets::new() } else { StartOffsets::from([(0, from)]) };
                let to = bounded.then_some(Position::Latest);
                let reader = KafkaSource::new(config.clone(), topic, Position::Earliest, to).open(0, 1, &start)?;
                if reader.partitions().iter().any(|partition| *partition > 0) {
                    let reason = "has several partitions, and messages of one have an order; make it with one";
                    return Err(SourceError::User(format!("--control kafka:{topic}: {reason}")));
                }
                Ok(ControlReader::Topic(reader, Vec::new()))
            }
        }
    }
}

impl ControlReader {
    /// Moves messages that are there into `into`, with their offsets. Says whether that is all for now.
    ///
    /// # Errors
    /// If it cannot be read, or is not what it was.
    pub fn poll(&mut self, limit: usize, into: &mut Vec<(u64, String)>) -> Result<bool, SourceError> {
        match self {
            ControlReader::File(file) => file.poll(into).map(|()| true),
            ControlReader::Topic(reader, records) => {
                let ready = reader.poll(limit, records)?;
                for record in records.drain(..) {
                    if let Payload::Json(bytes) = record.payload {
                        into.push((record.offset, String::from_utf8_lossy(&bytes).into_owned()));
                    }
                }
                Ok(matches!(ready, Ready::Done | Ready::CaughtUp))
            }
        }
    }
}

impl FollowedFile {
    fn poll(&mut self, into: &mut Vec<(u64, String)>) -> Result<(), SourceError> {
        let shown = self.path.display();
        let failed = |error: std::io::Error| SourceError::External(format!("--control {shown}: {error}"));
        // The file of that name: who has put another one in its place has kept the lines that were read.
        if std::fs::metadata(&self.path).map_err(failed)?.len() < self.read {
            let reason = "it is shorter than what was read of it; add to it, and never cut it";
            return Err(SourceError::External(format!("--control {shown}: {reason}")));
        }
        self.file = File::open(&self.path).map_err(failed)?;
        self.file.seek(SeekFrom::Start(self.read)).map_err(failed)?;
        let mut added = Vec::new();
        self.read += self.file.read_to_end(&mut added).map_err(failed)? as u64;
        self.begun.append(&mut added);
        while let Some(end) = self.begun.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.begun.drain(..=end).collect();
            self.take(&line, into);
        }
        if self.bounded && !self.begun.is_empty() {
            let line = std::mem::take(&mut self.begun);
            self.take(&line, into);
        }
        Ok(())
    }

    fn take(&mut self, line: &[u8], into: &mut Vec<(u64, String)>) {
        let (offset, text) = (self.lines, String::from_utf8_lossy(line).trim().to_owned());
        self.lines += 1;
        if offset >= self.known && !text.is_empty() {
            into.push((offset, text));
        }
    }
}
