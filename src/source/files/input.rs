//! One file: its ending, its header, its records.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use crate::event::{CsvHeader, Payload, Quoting, Schema, Stand};
use crate::source::SourceError;

/// The buffer in front of each file, after decompression.
const BUFFER_BYTES: usize = 128 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compression {
    None,
    Gzip,
    Zstd,
}

/// A file by name, or standard input, checked once.
#[derive(Clone, Debug)]
pub(super) struct InputFile {
    path: String,
    compression: Compression,
    /// CSV files have one.
    header: Option<Arc<CsvHeader>>,
    /// Whether that stands in the first line.
    has_header_line: bool,
    /// A hash of the first line.
    begins: u64,
}

impl InputFile {
    /// Tells the format by the ending, opens the file and reads its beginning.
    pub fn probe(path: &str, schema: &Schema) -> Result<Self, SourceError> {
        let user = |message: String| SourceError::User(message);
        if path == "-" {
            let (path, compression) = (path.to_owned(), Compression::None);
            return Ok(InputFile { path, compression, header: None, has_header_line: false, begins: 0 });
        }
        let lower = path.to_ascii_lowercase();
        let (stem, compression) = match lower.rsplit_once('.') {
            Some((stem, "gz")) => (stem, Compression::Gzip),
            Some((stem, "zst" | "zstd")) => (stem, Compression::Zstd),
            _ => (lower.as_str(), Compression::None),
        };
        let csv = match stem.rsplit_once('.') {
            Some((_, "csv")) => true,
            Some((_, "jsonl" | "json" | "ndjson")) => false,
            _ => {
                return Err(user(format!(
                    "--input {path}: unknown ending; use .csv, .jsonl or .json, optionally with .gz or .zst"
                )));
            }
        };
        let has_header_line = csv && schema.columns().is_empty();
        let mut input = InputFile { path: path.to_owned(), compression, header: None, has_header_line, begins: 0 };
        let mut reader = input.reader()?;
        let unreadable = |error: io::Error| user(format!("--input {path}: {}", reason(&error, compression)));
        let empty = skip_mark(&mut reader).map_err(unreadable)?;
        let mut line = Vec::new();
        reader.take(BUFFER_BYTES as u64).read_until(b'\n', &mut line).map_err(unreadable)?;
        input.begins = xxh3_64(&line);
        if csv {
            if empty {
                return Err(user(format!("--input {path}: the file is empty; a CSV file needs a header line")));
            }
            let line = without_line_end(&line);
            let header = match schema.columns() {
                [] => CsvHeader::parse(line),
                columns => Ok(CsvHeader::named(columns, line)),
            };
            let header = header
                .and_then(|header| header.check(schema).map(|()| header))
                .map_err(|message| user(format!("--input {path}: {message}")))?;
            input.header = Some(Arc::new(header));
        }
        Ok(input)
    }

    /// The name as it was given.
    pub fn name(&self) -> &str {
        if self.is_stdin() { "standard input" } else { &self.path }
    }

    /// A hash of the first line; 0 for standard input.
    pub fn begins(&self) -> u64 {
        self.begins
    }

    /// Whether this is standard input.
    pub fn is_stdin(&self) -> bool {
        self.path == "-"
    }

    /// The records from `start` on; `record_bytes_max` bounds what is kept of each.
    pub fn open(&self, start: u64, record_bytes_max: usize) -> Result<Lines, SourceError> {
        Ok(Lines {
            input: self.clone(),
            reader: self.reader()?,
            line: Vec::new(),
            start,
            offset: 0,
            lines: 0,
            cut_bytes: 0,
            opened: false,
            // One byte more than the limit, so that a cut record is seen to be too long.
            kept_bytes_max: record_bytes_max.saturating_add(1),
        })
    }

    fn reader(&self) -> Result<BufReader<Box<dyn Read + Send>>, SourceError> {
        let path = &self.path;
        let read: Box<dyn Read + Send> = if self.is_stdin() {
            Box::new(io::stdin())
        } else {
            let cannot = |error: io::Error| SourceError::User(format!("--input {path}: cannot open it: {error}"));
            let file = File::open(path).map_err(cannot)?;
            if Path::new(path).is_dir() {
                return Err(SourceError::User(format!("--input {path}: is a directory; name the files in it")));
            }
            match self.compression {
                Compression::None => Box::new(file),
                Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(BufReader::new(file))),
                Compression::Zstd => Box::new(zstd::Decoder::new(file).map_err(cannot)?),
            }
        };
        Ok(BufReader::with_capacity(BUFFER_BYTES, read))
    }
}

/// The records of a file, one after the other.
pub(super) struct Lines {
    input: InputFile,
    reader: BufReader<Box<dyn Read + Send>>,
    line: Vec<u8>,
    start: u64,
    offset: u64,
    /// Lines read so far.
    lines: u64,
    /// Bytes of the record that were dropped.
    cut_bytes: u64,
    opened: bool,
    kept_bytes_max: usize,
}

impl Lines {
    /// Whether a line can be had without reading from the file.
    pub fn has_line(&self) -> bool {
        self.reader.buffer().contains(&b'\n')
    }

    /// Records read so far, those before the start included.
    pub fn records(&self) -> u64 {
        self.offset
    }

    /// The next record at or after the start, with its offset and place; `None` at the end. Errors say what to do.
    pub fn next(&mut self) -> Result<Option<(u64, Stand, Payload)>, String> {
        loop {
            self.cut_bytes = 0;
            let before = self.lines;
            let more = self.read_record().map_err(|error| {
                let (name, count) = (self.input.name(), self.offset);
                format!("--input {name}: after {count} records: {}", reason(&error, self.input.compression))
            })?;
            if !more {
                if self.offset < self.start {
                    let (name, has, start) = (self.input.name(), self.offset, self.start);
                    return Err(format!(
                        "--input {name}: has {has} records, but {start} were read of it before; name the file that was read then"
                    ));
                }
                return Ok(None);
            }
            let content = without_line_end(&self.line);
            if content.trim_ascii().is_empty() {
                continue;
            }
            let offset = self.offset;
            self.offset += 1;
            if offset < self.start {
                continue;
            }
            let content = content.to_vec();
            // The header is read together with the first record.
            let header = u64::from(before == 0 && self.input.header.is_some());
            let stand = Stand { line: before + header + 1, cut_bytes: self.cut_bytes };
            return Ok(Some((
                offset,
                stand,
                match &self.input.header {
                    Some(header) => Payload::Csv { header: header.clone(), line: content },
                    None => Payload::Json(content),
                },
            )));
        }
    }

    /// Reads a record into `line`, with its line end. A quoted CSV column may go over lines; quotes that are still open
    /// at the limit end there, so that a stray one costs a bounded stretch of the file.
    fn read_record(&mut self) -> io::Result<bool> {
        self.line.clear();
        if !self.opened {
            self.opened = true;
            skip_mark(&mut self.reader)?;
            if self.input.has_header_line {
                self.read_line()?;
                self.line.clear();
            }
        }
        let separator = self.input.header.as_ref().map_or(b',', |header| header.separator());
        let mut quoting = Quoting::default();
        let mut seen = 0;
        while self.read_line()? {
            if self.input.header.is_none() {
                return Ok(true);
            }
            if seen > 0 || self.line.contains(&b'"') {
                quoting = self.line[seen..].iter().fold(quoting, |at, byte| at.after(*byte, separator));
            }
            seen = self.line.len();
            if !quoting.is_open() || seen >= self.kept_bytes_max {
                return Ok(true);
            }
        }
        Ok(seen > 0)
    }

    /// Appends one line with its end; what is beyond the limit is dropped. False at the end of the file.
    fn read_line(&mut self) -> io::Result<bool> {
        let room = self.kept_bytes_max.saturating_sub(self.line.len()).max(1) as u64;
        if self.reader.by_ref().take(room).read_until(b'\n', &mut self.line)? == 0 {
            return Ok(false);
        }
        self.lines += 1;
        if self.line.last() != Some(&b'\n') && self.line.len() >= self.kept_bytes_max {
            let mut dropped = Vec::new();
            while self.reader.by_ref().take(BUFFER_BYTES as u64).read_until(b'\n', &mut dropped)? > 0 {
                self.cut_bytes += without_line_end(&dropped).len() as u64;
                if dropped.last() == Some(&b'\n') {
                    break;
                }
                dropped.clear();
            }
        }
        Ok(true)
    }
}

/// Skips a byte order mark. Whether the file is empty.
fn skip_mark(reader: &mut BufReader<Box<dyn Read + Send>>) -> io::Result<bool> {
    let start = reader.fill_buf()?;
    let empty = start.is_empty();
    if start.starts_with(b"\xef\xbb\xbf") {
        reader.consume(3);
    }
    Ok(empty)
}

fn without_line_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// What an error means for a user, with what to do.
fn reason(error: &io::Error, compression: Compression) -> String {
    match (compression, error.kind()) {
        (Compression::None, _) => format!("cannot read it: {error}"),
        (Compression::Gzip, _) => format!("cannot decompress it ({error}); the file is cut off, damaged or no gzip"),
        (Compression::Zstd, _) => format!("cannot decompress it ({error}); the file is cut off, damaged or no zstd"),
    }
}
