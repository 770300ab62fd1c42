//! The feature log: assembled rows as CSV or JSON lines.
//!
//! `run` appends rows as they are assembled, with their revision, and says when a transaction that has rows is withdrawn:
//! `{"id":ID,"revision":N,"withdrawn":true}`, or in CSV 1 in the column `withdrawn` and no features. So the last line of an
//! id is what holds. A replay writes the final row of each transaction that was not withdrawn, ordered by (event time, id):
//! rows go to a temporary file as they come, and an index in memory (64 bytes per transaction) says which is the last one,
//! so that a replay of any length needs little memory. Floats are written in their shortest form that reads back to the
//! same bits; missing is empty (CSV) or null (JSON).

use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::sync::Arc;

use hashbrown::HashMap;

use crate::event::{Id, IdType, MapKey, Schema};
use crate::feature::rows::Rows;

use super::file::Committer;
use super::{Acknowledged, SinkError};
use crate::flow::Epoch;

/// Rows of one worker and epoch, ready to be written.
#[derive(Debug, Default)]
pub struct FeatureRows {
    /// Id, event time and revision of each row.
    pub rows: Vec<(Id, i64, u32)>,
    /// Ids as text, where the schema's are text.
    pub ids: Vec<String>,
    /// Row-major values.
    pub values: Vec<f64>,
    /// Transactions that are gone: id, the number of rows they have had, and the id as text.
    pub withdrawn: Vec<(Id, u32, String)>,
}

impl FeatureRows {
    /// Adds the rows of another epoch.
    pub fn append(&mut self, mut other: FeatureRows) {
        self.rows.append(&mut other.rows);
        self.ids.append(&mut other.ids);
        self.values.append(&mut other.values);
        self.withdrawn.append(&mut other.withdrawn);
    }

    /// What the feature log keeps of assembled rows.
    pub fn of(rows: Rows, schema: &Schema) -> Self {
        // One that came and went in one epoch has had no row.
        let gone = rows.withdrawn.iter().filter(|t| t.row_revision > 0);
        let gone = gone.map(|t| (t.event.id, t.row_revision, t.event.id_text(schema)));
        FeatureRows {
            rows: rows.heads.iter().map(|t| (t.event.id, t.event.time, t.row_revision)).collect(),
            ids: rows.heads.iter().map(|t| t.event.id_text(schema)).collect(),
            values: rows.values,
            withdrawn: gone.collect(),
        }
    }
}

/// How the rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeatureFormat {
    /// CSV with a header; the first column is the id.
    Csv,
    /// One object per line: id, revision, features.
    Json,
}

/// Writes the feature log.
pub struct FeatureLog {
    out: Box<dyn Write + Send>,
    name: String,
    format: FeatureFormat,
    columns: Arc<[String]>,
    id_column: String,
    /// Where the last row of each transaction stands in the temporary file; only for a replay.
    last: Option<(BufWriter<File>, u64, HashMap<MapKey, WrittenRow>)>,
    ids: IdType,
    /// The header is still to be written.
    header_due: bool,
    line: Vec<u8>,
    /// Makes what a run has written last.
    committer: Option<Committer>,
}

#[derive(Clone, Copy, Debug)]
struct WrittenRow {
    at: (i64, Id),
    offset: u64,
    length: u32,
}

impl FeatureLog {
    /// A log to `out`, which errors call `name`. `consolidated` for a replay.
    pub fn new(
        out: Box<dyn Write + Send>,
        name: &str,
        format: FeatureFormat,
        columns: Vec<String>,
        schema: &Schema,
        consolidated: bool,
    ) -> Result<Self, SinkError> {
        let last = match consolidated {
            true => {
                Some((BufWriter::new(tempfile::tempfile().map_err(|error| failed(name, &error))?), 0, HashMap::new()))
            }
            false => None,
        };
        let id_column = schema.field(schema.id_slot()).path.clone();
        Ok(FeatureLog {
            out,
            name: name.to_owned(),
            format,
            columns: columns.into(),
            id_column,
            last,
            ids: schema.id_type(),
            header_due: format == FeatureFormat::Csv,
            line: Vec::new(),
            committer: None,
        })
    }

    /// A log whose file says up to where it can be cut.
    pub fn committing(mut self, committer: Committer) -> Self {
        self.committer = Some(committer);
        self
    }

    /// Everything of epochs up to this one has been written.
    pub fn commit(&mut self, epoch: Epoch) -> Result<(), SinkError> {
        self.committer.iter_mut().for_each(|committer| committer.close(epoch));
        self.commit_due()
    }

    /// The last epoch that was committed and lasts.
    pub fn acknowledged(&self) -> Option<Acknowledged> {
        self.committer.as_ref().and_then(Committer::acknowledged)
    }

    /// The path.
    pub fn target(&self) -> &str {
        self.committer.as_ref().map_or("", Committer::target)
    }

    /// How long the file was when it was opened, bytes.
    pub fn begins(&self) -> u64 {
        self.committer.as_ref().map_or(0, Committer::begins)
    }

    fn commit_due(&mut self) -> Result<(), SinkError> {
        if self.committer.as_ref().is_some_and(Committer::is_due) { self.make_last() } else { Ok(()) }
    }

    fn make_last(&mut self) -> Result<(), SinkError> {
        self.header()?;
        let committed = self.out.flush().and_then(|()| self.committer.as_mut().map_or(Ok(()), Committer::commit));
        committed.map_err(|error| failed(&self.name, &error))
    }

    /// A log that goes on in a file which begins with this line: it gets no second header, and another one is an error.
    pub fn after(mut self, begins: Option<&str>) -> Result<Self, SinkError> {
        let Some(begins) = begins.filter(|_| self.format == FeatureFormat::Csv) else { return Ok(self) };
        if begins != self.header_line().trim_end() {
            let name = &self.name;
            return Err(SinkError::User(format!("{name}: has other columns, nothing can be added; name another file")));
        }
        self.header_due = false;
        Ok(self)
    }

    fn header_line(&self) -> String {
        let mut names = vec![self.id_column.clone()];
        if self.last.is_none() {
            names.extend(["revision".into(), "withdrawn".into()]);
        }
        names.extend(self.columns.iter().cloned());
        names.join(",") + "\n"
    }

    fn header(&mut self) -> Result<(), SinkError> {
        if !std::mem::take(&mut self.header_due) {
            return Ok(());
        }
        let line = self.header_line();
        self.out.write_all(line.as_bytes()).map_err(|error| failed(&self.name, &error))
    }

    /// Takes rows.
    pub fn write(&mut self, rows: &FeatureRows) -> Result<(), SinkError> {
        self.header()?;
        let width = self.columns.len();
        for (index, &(id, time, revision)) in rows.rows.iter().enumerate() {
            let values = &rows.values[index * width..(index + 1) * width];
            self.encode(&rows.ids[index], revision, Some(values));
            match &mut self.last {
                None => self.out.write_all(&self.line),
                Some((file, offset, places)) => {
                    let length = self.line.len() as u32;
                    places.insert(id.map_key(self.ids), WrittenRow { at: (time, id), offset: *offset, length });
                    *offset += u64::from(length);
                    file.write_all(&self.line)
                }
            }
            .map_err(|error| failed(&self.name, &error))?;
        }
        for (id, revision, text) in &rows.withdrawn {
            match &mut self.last {
                Some((_, _, places)) => drop(places.remove(&id.map_key(self.ids))),
                None => {
                    self.encode(text, *revision, None);
                    self.out.write_all(&self.line).map_err(|error| failed(&self.name, &error))?;
                }
            }
        }
        Ok(())
    }

    /// Writes a row, or that there is none any more.
    fn encode(&mut self, id: &str, revision: u32, values: Option<&[f64]>) {
        let line = &mut self.line;
        line.clear();
        let mut digits = ryu::Buffer::new();
        let mut number = |line: &mut Vec<u8>, value: f64, missing: &str| match value.is_finite() {
            true => line.extend_from_slice(digits.format_finite(value).as_bytes()),
            false => line.extend_from_slice(missing.as_bytes()),
        };
        // Writing to a vector cannot fail.
        match self.format {
            FeatureFormat::Csv => {
                let _ = if id.contains([',', '"', '\n', '\r']) {
                    write!(line, "\"{}\"", id.replace('"', "\"\""))
                } else {
                    line.write_all(id.as_bytes())
                };
                if self.last.is_none() {
                    let _ = write!(line, ",{revision},{}", u8::from(values.is_none()));
                }
                for column in 0..self.columns.len() {
                    line.push(b',');
                    number(line, values.map_or(f64::NAN, |values| values[column]), "");
                }
            }
            FeatureFormat::Json => {
                line.extend_from_slice(b"{\"id\":");
                let _ = serde_json::to_writer(&mut *line, id);
                let _ = write!(line, ",\"revision\":{revision},");
                let Some(values) = values else {
                    line.extend_from_slice(b"\"withdrawn\":true}\n");
                    return;
                };
                line.extend_from_slice(b"\"features\":{");
                for (index, (name, &value)) in self.columns.iter().zip(values).enumerate() {
                    let _ = write!(line, "{}\"{name}\":", if index == 0 { "" } else { "," });
                    number(line, value, "null");
                }
                line.extend_from_slice(b"}}");
            }
        }
        line.push(b'\n');
    }

    /// Writes what a replay has gathered, and flushes.
    pub fn finish(&mut self) -> Result<(), SinkError> {
        self.header()?;
        let name = self.name.clone();
        self.write_sorted().map_err(|error| failed(&name, &error))?;
        self.make_last()
    }

    fn write_sorted(&mut self) -> std::io::Result<()> {
        let Some((file, _, places)) = self.last.take() else { return Ok(()) };
        let mut file = file.into_inner()?;
        let mut ordered: Vec<WrittenRow> = places.into_values().collect();
        ordered.sort_unstable_by_key(|place| place.at);
        // Rows mostly lie in order already, so reading goes forward through a buffer that seldom has to seek.
        let mut at = u64::MAX;
        let mut reader = std::io::BufReader::with_capacity(1 << 20, &mut file);
        for place in ordered {
            if at == u64::MAX {
                reader.seek(SeekFrom::Start(place.offset))?;
            } else {
                reader.seek_relative(place.offset as i64 - at as i64)?;
            }
            self.line.resize(place.length as usize, 0);
            reader.read_exact(&mut self.line)?;
            at = place.offset + u64::from(place.length);
            self.out.write_all(&self.line)?;
        }
        Ok(())
    }

    /// Flushes what a run has appended.
    pub fn flush(&mut self) -> Result<(), SinkError> {
        self.header()?;
        self.out.flush().map_err(|error| failed(&self.name, &error))?;
        self.commit_due()
    }
}

fn failed(name: &str, error: &std::io::Error) -> SinkError {
    if error.kind() == std::io::ErrorKind::BrokenPipe {
        return SinkError::Closed;
    }
    SinkError::External(format!("cannot write the feature log {name}: {error}; check --features"))
}
