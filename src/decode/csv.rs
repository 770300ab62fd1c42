//! CSV records: columns by the header of their file, quoting as in RFC 4180 and the csv crate.

use std::sync::Arc;

use super::RejectReason;
use super::paths::{Target, targets};
use super::row::{Fault, Row};
use super::value::Scalar;
use crate::event::{Role, Schema};

/// The columns of a CSV file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CsvHeader {
    columns: Vec<String>,
}

/// Where the text of a CSV record stands; tells a line end from one inside quotes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Quoting {
    /// Before the first byte of a column.
    #[default]
    Start,
    /// In a column without quotes, or after its closing quote.
    Bare,
    /// Inside quotes.
    Quoted,
    /// After a quote inside quotes: the end of the quotes, or the first half of a doubled one.
    Quote,
}

impl Quoting {
    /// The place after one more byte.
    #[inline]
    pub fn after(self, byte: u8) -> Self {
        match (self, byte) {
            (Quoting::Start | Quoting::Quote, b'"') => Quoting::Quoted,
            (Quoting::Quoted, b'"') => Quoting::Quote,
            (Quoting::Quoted, _) => Quoting::Quoted,
            (_, b',') => Quoting::Start,
            _ => Quoting::Bare,
        }
    }

    /// Whether a line end here belongs to the column.
    pub fn is_open(self) -> bool {
        self == Quoting::Quoted
    }
}

impl CsvHeader {
    /// Reads a header line. Errors say what is wrong with it.
    pub fn parse(line: &[u8]) -> Result<Self, String> {
        let mut columns = Columns::default();
        columns.split(line).map_err(|fault| format!("its header is {}", fault.message))?;
        Ok(CsvHeader { columns: (0..columns.len()).map(|index| columns.get(index).trim().to_owned()).collect() })
    }

    /// The columns in order.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Checks that records under this header can be events of a schema: id and time are there, and no column that a
    /// field reads stands twice. Errors name the column and what the file has.
    pub fn check(&self, schema: &Schema) -> Result<(), String> {
        let has = self.columns.join(", ");
        for field in schema.fields().iter().filter(|field| matches!(field.role, Role::Id | Role::Time)) {
            let role = if field.role == Role::Id { "id" } else { "time" };
            let mut names = [&field.path].into_iter().chain(&field.aliases);
            if !names.any(|name| self.columns.contains(name)) {
                return Err(format!(
                    "no column '{}' for the {role} field '{}'; the file has {has}. Correct the field's path in the schema, or name another schema",
                    field.path, field.name
                ));
            }
        }
        for (path, _) in targets(schema) {
            if self.columns.iter().filter(|column| *column == path).count() > 1 {
                return Err(format!("column '{path}' stands twice in the header; rename one of them"));
            }
        }
        Ok(())
    }
}

/// Reads CSV records; keeps what each header means.
#[derive(Debug, Default)]
pub(super) struct CsvReader {
    columns: Columns,
    headers: Vec<(Arc<CsvHeader>, Arc<Layout>)>,
}

/// What the columns of a header are read by.
#[derive(Debug)]
struct Layout {
    readers: Vec<(usize, Target)>,
    unknown: u64,
}

/// How many headers are remembered; one per file is usual.
const HEADERS_MAX: usize = 64;

impl CsvReader {
    /// Reads a record into `row`; raises `unknown` by the number of columns outside the schema.
    pub fn read(
        &mut self,
        header: &Arc<CsvHeader>,
        line: &[u8],
        schema: &Schema,
        row: &mut Row,
        unknown: &mut u64,
    ) -> Result<(), Fault> {
        if line.trim_ascii().is_empty() {
            return Err(Fault::new(RejectReason::Empty, "the record is empty"));
        }
        self.columns.split(line)?;
        if self.columns.len() != header.columns.len() {
            let (found, wanted) = (self.columns.len(), header.columns.len());
            let message = format!("has {found} columns where the header has {wanted}");
            return Err(Fault::new(RejectReason::Malformed, message));
        }
        let layout = self.layout(header, schema);
        *unknown += layout.unknown;
        for (column, target) in &layout.readers {
            match self.columns.get(*column) {
                "" => row.put(*target, Scalar::Null),
                text => row.put(*target, Scalar::Text(text)),
            }
        }
        Ok(())
    }

    fn layout(&mut self, header: &Arc<CsvHeader>, schema: &Schema) -> Arc<Layout> {
        if let Some((_, layout)) = self.headers.iter().find(|(known, _)| Arc::ptr_eq(known, header)) {
            return layout.clone();
        }
        let readers: Vec<(usize, Target)> = header
            .columns
            .iter()
            .enumerate()
            .flat_map(|(index, name)| {
                targets(schema).filter(move |(path, _)| path == name).map(move |(_, target)| (index, target))
            })
            .collect();
        let unknown = (0..header.columns.len()).filter(|column| readers.iter().all(|(read, _)| read != column)).count();
        let layout = Arc::new(Layout { readers, unknown: unknown as u64 });
        if self.headers.len() == HEADERS_MAX {
            self.headers.clear();
        }
        self.headers.push((header.clone(), layout.clone()));
        layout
    }
}

/// One record split into columns, quotes taken off.
#[derive(Debug, Default)]
struct Columns {
    text: String,
    ends: Vec<usize>,
}

impl Columns {
    fn len(&self) -> usize {
        self.ends.len()
    }

    fn get(&self, index: usize) -> &str {
        let from = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.text[from..self.ends[index]]
    }

    fn split(&mut self, line: &[u8]) -> Result<(), Fault> {
        let malformed = |message: String| Fault::new(RejectReason::Malformed, message);
        let line =
            str::from_utf8(line).map_err(|error| malformed(format!("not UTF-8 at byte {}", error.valid_up_to())))?;
        self.text.clear();
        self.ends.clear();
        if !line.contains('"') {
            for column in line.split(',') {
                self.text.push_str(column);
                self.ends.push(self.text.len());
            }
            return Ok(());
        }
        let mut at = Quoting::Start;
        for character in line.chars() {
            // Quotes and commas are ASCII, and no byte of another character is.
            let next = at.after(if character.is_ascii() { character as u8 } else { b'x' });
            match (at, next) {
                (Quoting::Start, Quoting::Quoted) | (Quoting::Quoted, Quoting::Quote) => {}
                (_, Quoting::Start) => self.ends.push(self.text.len()),
                _ => self.text.push(character),
            }
            at = next;
        }
        self.ends.push(self.text.len());
        if at.is_open() { Err(malformed("cut off inside quotes".to_owned())) } else { Ok(()) }
    }
}
