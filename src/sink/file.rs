//! Files and standard output as a sink: one record a line, gzip or zstd by ending.

use std::io::{self, BufRead, BufReader, Read, SeekFrom, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Acknowledged, OnAcknowledged, OutputRecord, SinkError, Writer};
use crate::disk::{Disk, DiskFile, OnDisk, Opening};
use crate::flow::Epoch;

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
    committer: Committer,
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
    /// The first line of what stands in the file already; `None` if nothing does.
    pub begins: Option<String>,
    /// Says up to where it can be cut.
    pub committer: Committer,
}

/// Makes what was written so far last, and says how long the file is then: a place where it can be cut.
pub struct Committer {
    path: String,
    /// The way to the file; `None` for what is no regular file.
    shared: Option<(Shared, DiskFile, Compression)>,
    disk: Disk,
    every_ns: u64,
    last_ns: Option<u64>,
    /// The epoch that is written, and the one that lasts.
    closed: Option<Epoch>,
    acknowledged: Option<Acknowledged>,
    begins: u64,
}

/// How often plain files are synced, nanoseconds.
const SYNC_EVERY_NS: u64 = 100_000_000;

/// How often a compressed file gets the end of a member, which costs compression; nanoseconds.
const MEMBER_EVERY_NS: u64 = 5_000_000_000;

/// A file, or what compresses into it. What it still has to say is said when it is dropped, unless it was before.
enum Encoder {
    Plain(DiskFile),
    Gzip(flate2::write::GzEncoder<DiskFile>),
    Zstd(Box<zstd::Encoder<'static, DiskFile>>),
}

impl Encoder {
    /// Writes the end of a member.
    fn finish(&mut self) -> io::Result<()> {
        match self {
            Encoder::Plain(_) => Ok(()),
            Encoder::Gzip(encoder) => encoder.try_finish(),
            Encoder::Zstd(encoder) => encoder.do_finish(),
        }
    }

    fn inner(&mut self) -> &mut dyn Write {
        match self {
            Encoder::Plain(file) => file,
            Encoder::Gzip(encoder) => encoder,
            Encoder::Zstd(encoder) => encoder,
        }
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        // Whoever cares about errors has finished before.
        let _ = self.finish();
    }
}

/// A way to a file that can be given a new beginning.
#[derive(Clone)]
struct Shared(Arc<Mutex<Encoder>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).inner().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).inner().flush()
    }
}

impl Committer {
    fn new(disk: &Disk, path: &str, shared: Option<(Shared, DiskFile, Compression)>) -> Self {
        let compressed = shared.as_ref().is_some_and(|(_, _, compression)| *compression != Compression::None);
        let every_ns = if compressed { MEMBER_EVERY_NS } else { SYNC_EVERY_NS };
        let begins = shared.as_ref().map_or(0, |(_, file, _)| length(file).unwrap_or(0));
        let (disk, path) = (disk.clone(), path.to_owned());
        Committer { path, shared, disk, every_ns, last_ns: None, closed: None, acknowledged: None, begins }
    }

    /// Everything up to an epoch has been handed on to the file, and nothing of later ones.
    pub fn close(&mut self, epoch: Epoch) {
        self.closed = Some(epoch);
    }

    /// Whether it is time to make what is closed last.
    pub fn is_due(&self) -> bool {
        self.closed > self.acknowledged.and_then(|acknowledged| acknowledged.epoch)
            && self.last_ns.is_none_or(|last_ns| self.disk.now_ns().saturating_sub(last_ns) >= self.every_ns)
    }

    /// Makes what is closed last.
    pub fn commit(&mut self) -> io::Result<()> {
        let Some(epoch) = self.closed else { return Ok(()) };
        self.last_ns = Some(self.disk.now_ns());
        let bytes = match &self.shared {
            None => 0,
            Some((shared, file, compression)) => {
                let mut out = shared.0.lock().unwrap_or_else(PoisonError::into_inner);
                out.inner().flush()?;
                if *compression != Compression::None {
                    // An end that is not written would only be found out by a reader.
                    out.finish()?;
                    *out = encoder(file.again()?, *compression)?;
                }
                file.sync()?;
                length(file)?
            }
        };
        self.acknowledged = Some(Acknowledged { epoch: Some(epoch), bytes });
        Ok(())
    }

    /// The last epoch that lasts.
    pub fn acknowledged(&self) -> Option<Acknowledged> {
        self.acknowledged
    }

    /// The path.
    pub fn target(&self) -> &str {
        &self.path
    }

    /// How long the file was when it was opened, bytes.
    pub fn begins(&self) -> u64 {
        self.begins
    }
}

/// Bytes of a file; 0 for what is none.
fn length(file: &DiskFile) -> io::Result<u64> {
    Ok(match file.look()? {
        OnDisk::File(bytes) => bytes,
        OnDisk::Folder | OnDisk::Other => 0,
    })
}

fn encoder(file: DiskFile, compression: Compression) -> io::Result<Encoder> {
    Ok(match compression {
        Compression::None => Encoder::Plain(file),
        Compression::Gzip => Encoder::Gzip(flate2::write::GzEncoder::new(file, flate2::Compression::default())),
        Compression::Zstd => Encoder::Zstd(Box::new(zstd::Encoder::new(file, ZSTD_LEVEL)?)),
    })
}

/// What is to become of a file that is there already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Existing {
    /// It stays as it is: opening it is an error.
    #[default]
    Refuse,
    /// It is emptied.
    Overwrite,
    /// What is written comes behind what it holds; a compressed file gets another member.
    Append,
    /// It is an earlier run's own: it is cut to these bytes, and goes on there.
    GoOn(u64),
}

/// How a file is compressed, by its ending.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    fn of(path: &str) -> Self {
        match path.to_ascii_lowercase().rsplit_once('.') {
            Some((_, "gz")) => Compression::Gzip,
            Some((_, "zst" | "zstd")) => Compression::Zstd,
            _ => Compression::None,
        }
    }
}

/// A path without the ending of a compression.
pub fn plain_stem(path: &str) -> &str {
    match Compression::of(path) {
        Compression::None => path,
        Compression::Gzip | Compression::Zstd => path.rsplit_once('.').map_or(path, |(stem, _)| stem),
    }
}

/// Opens the file of this path, gzip or zstd by ending, or takes standard output for `-`. `flag` is named in errors.
pub fn open(path: &str, flag: &str, existing: Existing) -> Result<Opened, SinkError> {
    open_on(&Disk::real(), path, flag, existing)
}

/// The same on any disk.
pub fn open_on(disk: &Disk, path: &str, flag: &str, existing: Existing) -> Result<Opened, SinkError> {
    let name = format!("{flag} {path}");
    let cannot = |error: io::Error| SinkError::User(format!("{name}: cannot write it: {error}"));
    if path == "-" {
        let committer = Committer::new(disk, path, None);
        return Ok(Opened { name, out: Box::new(io::stdout()), compressed: false, begins: None, committer });
    }
    let (compression, mut begins) = (Compression::of(path), None);
    let place = Path::new(path);
    let file = match disk.open(place, Opening::New) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let regular = !path.starts_with("/dev/") && matches!(disk.look(place), Some(OnDisk::File(_)));
            match existing {
                // Nothing can be lost of a device or a pipe.
                _ if !regular => disk.open(place, Opening::Append),
                // A run that died at once has left it.
                Existing::Refuse if disk.look(place) == Some(OnDisk::File(0)) => disk.open(place, Opening::Append),
                Existing::Refuse => {
                    return Err(SinkError::User(format!(
                        "{name}: is there already; --overwrite replaces it, --append adds to it"
                    )));
                }
                Existing::Overwrite => disk.open(place, Opening::Empty),
                Existing::Append => {
                    begins = first_line(disk, place, compression).map_err(cannot)?;
                    behind(disk, place, compression)
                }
                Existing::GoOn(bytes) => {
                    let file = disk.open(place, Opening::Append).map_err(cannot)?;
                    let length = length(&file).map_err(cannot)?;
                    if length < bytes {
                        return Err(SinkError::User(format!(
                            "{name}: has {length} bytes, but had {bytes} that last; mend it, or name another file"
                        )));
                    }
                    file.cut(bytes).map_err(cannot)?;
                    begins = first_line(disk, place, compression).map_err(cannot)?;
                    Ok(file)
                }
            }
        }
        opened => opened,
    };
    let file = file.map_err(cannot)?;
    let regular = matches!(file.look().map_err(cannot)?, OnDisk::File(_));
    if regular {
        // What lasts of it must be found again.
        disk.sync_folder_of(place).map_err(cannot)?;
    }
    let own = file.again().map_err(cannot)?;
    let shared = Shared(Arc::new(Mutex::new(encoder(file, compression).map_err(cannot)?)));
    let committer = Committer::new(disk, path, regular.then(|| (shared.clone(), own, compression)));
    Ok(Opened { name, out: Box::new(shared), compressed: compression != Compression::None, begins, committer })
}

/// The first line of a file, without its end; `None` if the file is empty.
fn first_line(disk: &Disk, path: &Path, compression: Compression) -> io::Result<Option<String>> {
    let file = disk.open(path, Opening::Read)?;
    // Which is no compressed file yet.
    if file.look()? == OnDisk::File(0) {
        return Ok(None);
    }
    let reader: Box<dyn Read> = match compression {
        Compression::None => Box::new(file),
        Compression::Gzip => Box::new(flate2::read::MultiGzDecoder::new(file)),
        Compression::Zstd => Box::new(zstd::Decoder::new(file)?),
    };
    let mut line = Vec::new();
    let read = BufReader::new(reader).take(BUFFER_BYTES as u64).read_until(b'\n', &mut line)?;
    let text = String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned();
    Ok((read > 0).then_some(text))
}

/// The first line of a file, decompressed by its ending; `None` if it is empty.
pub fn first_line_of(path: &str) -> io::Result<Option<String>> {
    first_line(&Disk::real(), Path::new(path), Compression::of(path))
}

/// A file to be written on behind what it holds. A last line that a crash cut off gets its end, so that only it is lost.
fn behind(disk: &Disk, path: &Path, compression: Compression) -> io::Result<DiskFile> {
    let mut file = disk.open(path, Opening::Append)?;
    if compression == Compression::None && length(&file)? > 0 {
        let (mut written, mut last) = (disk.open(path, Opening::Read)?, [0]);
        written.seek(SeekFrom::End(-1))?;
        written.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
        }
    }
    Ok(file)
}

impl FileWriter {
    /// Opens the file of this path (see [`open`]).
    pub fn create(
        path: &str,
        flag: &str,
        existing: Existing,
        on_acknowledged: OnAcknowledged,
    ) -> Result<Self, SinkError> {
        Ok(FileWriter::new(open(path, flag, existing)?, on_acknowledged))
    }

    /// Writes to what has been opened.
    pub fn new(opened: Opened, on_acknowledged: OnAcknowledged) -> Self {
        let Opened { name, out, compressed, committer, .. } = opened;
        FileWriter {
            name,
            out,
            committer,
            compressed,
            lines: Vec::with_capacity(BUFFER_BYTES),
            arrived_ns: Vec::new(),
            on_acknowledged,
            closed: false,
        }
    }

    /// Hands on everything, and makes it last.
    fn last(&mut self) -> Result<(), SinkError> {
        self.hand_on(true)?;
        self.committer.commit().map_err(|error| SinkError::External(format!("{}: cannot write: {error}", self.name)))
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
        if !self.lines.is_empty() {
            self.hand_on(false)?;
        }
        if self.committer.is_due() { self.last() } else { Ok(()) }
    }

    fn commit(&mut self, epoch: Epoch) -> Result<(), SinkError> {
        self.committer.close(epoch);
        if self.committer.is_due() { self.last() } else { Ok(()) }
    }

    fn acknowledged(&self) -> Option<Acknowledged> {
        self.committer.acknowledged()
    }

    fn target(&self) -> String {
        self.committer.target().to_owned()
    }

    fn begins(&self) -> u64 {
        self.committer.begins()
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        self.last()
    }
}

impl Drop for FileWriter {
    fn drop(&mut self) {
        // Whoever cares about errors has flushed before.
        let _ = self.hand_on(true);
    }
}
