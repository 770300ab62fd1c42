//! Files and standard output as a sink: one record a line, gzip or zstd by ending.

use std::fs::File;
use std::io::{self, Write};

use super::{OnAcknowledged, OutputRecord, SinkError, Writer};

/// Lines are gathered up to this size before they are handed to the operating system.
const BUFFER_BYTES: usize = 64 << 10;

/// Compressed output is only handed on in full by a flush, which costs compression; one is forced after this many
/// records.
const UNACKNOWLEDGED_MAX: usize = 1 << 16;

/// Zstandard's own default, fast and close in size to gzip's best.
const ZSTD_LEVEL: i32 = 3;

/// Writes records as lines. A tombstone is its record's last line: an object like the others.
///
/// A record is acknowledged when the operating system has it. A compressed file gets its end when the writer is
/// dropped.
pub struct FileWriter {
    name: String,
    out: Box<dyn Write + Send>,
    compressed: bool,
    lines: Vec<u8>,
    arrived_ns: Vec<u64>,
    on_acknowledged: OnAcknowledged,
    closed: bool,
}

/// A file opened for writing.
pub struct Opened {
    /// Flag and path, for errors.
    pub name: String,
    /// Takes bytes. A compressed file gets its end when this is dropped.
    pub out: Box<dyn Write + Send>,
    /// Whether what is written is compressed, by the ending.
    pub compressed: bool,
}

/// Creates (and empties) the file of this path, gzip or zstd by ending, or takes standard output for `-`. `flag` is named
/// in errors.
pub fn open(path: &str, flag: &str) -> Result<Opened, SinkError> {
    let name = format!("{flag} {path}");
    let cannot = |error: io::Error| SinkError::User(format!("{name}: cannot write it: {error}"));
    if path == "-" {
        return Ok(Opened { name, out: Box::new(io::stdout()), compressed: false });
    }
    let file = File::create(path).map_err(cannot)?;
    let (out, compressed): (Box<dyn Write + Send>, _) = match path.to_ascii_lowercase().rsplit_once('.') {
        Some((_, "gz")) => (Box::new(flate2::write::GzEncoder::new(file, flate2::Compression::default())), true),
        Some((_, "zst" | "zstd")) => {
            (Box::new(zstd::Encoder::new(file, ZSTD_LEVEL).map_err(cannot)?.auto_finish()), true)
        }
        _ => (Box::new(file), false),
    };
    Ok(Opened { name, out, compressed })
}

impl FileWriter {
    /// Creates (and empties) the file of this path, or takes standard output for `-`. `flag` is named in errors.
    pub fn create(path: &str, flag: &str, on_acknowledged: OnAcknowledged) -> Result<Self, SinkError> {
        let Opened { name, out, compressed } = open(path, flag)?;
        Ok(FileWriter {
            name,
            out,
            compressed,
            lines: Vec::with_capacity(BUFFER_BYTES),
            arrived_ns: Vec::new(),
            on_acknowledged,
            closed: false,
        })
    }

    /// Hands the gathered lines on; acknowledges them once they are with the operating system.
    fn hand_on(&mut self, all: bool) -> Result<(), SinkError> {
        if self.closed {
            return Err(SinkError::Closed);
        }
        let mut result = self.out.write_all(&self.lines);
        self.lines.clear();
        if result.is_ok() && (all || !self.compressed) {
            result = self.out.flush();
        }
        match result {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.closed = true;
                return Err(SinkError::Closed);
            }
            Err(error) => return Err(SinkError::External(format!("{}: cannot write: {error}", self.name))),
        }
        if all || !self.compressed {
            self.arrived_ns.drain(..).for_each(&mut self.on_acknowledged);
        }
        Ok(())
    }
}

impl Writer for FileWriter {
    fn write(&mut self, record: OutputRecord) -> Result<(), SinkError> {
        if self.closed {
            return Err(SinkError::Closed);
        }
        self.lines.extend_from_slice(record.payload.as_deref().unwrap_or(&record.last_line));
        self.lines.push(b'\n');
        self.arrived_ns.push(record.arrived_ns);
        let many = self.arrived_ns.len() >= UNACKNOWLEDGED_MAX;
        if many || self.lines.len() >= BUFFER_BYTES { self.hand_on(many) } else { Ok(()) }
    }

    fn poll(&mut self) -> Result<(), SinkError> {
        if self.lines.is_empty() { Ok(()) } else { self.hand_on(false) }
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        self.hand_on(true)
    }
}

impl Drop for FileWriter {
    fn drop(&mut self) {
        // Whoever cares about errors has flushed before.
        let _ = self.hand_on(true);
    }
}
