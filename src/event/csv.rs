//! CSV records: the header of a file, and a record taken apart. Quoting as in RFC 4180 and the csv crate.

use serde::{Deserialize, Serialize};

use super::{OF_RECORD, Role, Schema};

/// What may stand between columns. A header without the first of these says which of the others it is.
const SEPARATORS: [u8; 4] = [b',', b';', b'\t', b'|'];

/// The columns of a CSV file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CsvHeader {
    /// What stands between columns.
    separator: u8,
    /// A name that stood there before has a number behind it: `Account`, `Account.1`.
    columns: Vec<String>,
    /// Names that stand more than once.
    repeated: Vec<String>,
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
    pub fn after(self, byte: u8, separator: u8) -> Self {
        match (self, byte) {
            (Quoting::Start | Quoting::Quote, b'"') => Quoting::Quoted,
            (Quoting::Quoted, b'"') => Quoting::Quote,
            (Quoting::Quoted, _) => Quoting::Quoted,
            (_, byte) if byte == separator => Quoting::Start,
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
        let separator = separator(line, None);
        let mut columns = Columns::default();
        columns.split(line, separator).map_err(|message| format!("its header is {message}"))?;
        let names: Vec<&str> = (0..columns.len()).map(|index| columns.get(index).trim()).collect();
        let mut header = CsvHeader { separator, ..CsvHeader::of(Vec::with_capacity(names.len())) };
        for (index, &name) in names.iter().enumerate() {
            let before = names[..index].iter().filter(|earlier| **earlier == name).count();
            if before == 0 || name.is_empty() {
                header.columns.push(name.to_owned());
            } else {
                header.columns.push(format!("{name}.{before}"));
                header.repeated.push(name.to_owned());
            }
        }
        Ok(header)
    }

    /// Of these columns, with commas between them.
    pub fn of(columns: Vec<String>) -> Self {
        CsvHeader { separator: SEPARATORS[0], columns, repeated: Vec::new() }
    }

    /// Of these columns of a file without a header, which begins with this line.
    pub fn named(columns: &[String], first: &[u8]) -> Self {
        CsvHeader { separator: separator(first, Some(columns.len())), ..CsvHeader::of(columns.to_vec()) }
    }

    /// What stands between columns.
    pub fn separator(&self) -> u8 {
        self.separator
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
            if !names.any(|name| self.columns.contains(name) || OF_RECORD.contains(&&**name)) {
                return Err(format!(
                    "no column '{}' for the {role} field '{}'; the file has {has}. Correct the field's path in the schema, or name another schema",
                    field.path, field.name
                ));
            }
        }
        for path in schema.paths() {
            let second = format!("{path}.1");
            if self.repeated.iter().any(|name| name == path) && !schema.paths().any(|other| other == second) {
                return Err(format!(
                    "column '{path}' stands twice in the header; rename one of them, or read the second one, too: as '{second}'"
                ));
            }
        }
        Ok(())
    }
}

/// What stands between the columns of a file that begins with this line: what makes as many columns as there are, if that is known; else
/// a comma, unless it has none outside quotes and something else.
fn separator(line: &[u8], columns: Option<usize>) -> u8 {
    let counts = SEPARATORS.map(|separator| {
        let mut at = Quoting::Start;
        let mut count = 0;
        for &byte in line {
            at = at.after(byte, separator);
            count += usize::from(at == Quoting::Start);
        }
        (separator, count)
    });
    let fits = counts.iter().find(|(_, count)| columns == Some(count + 1));
    let first = counts.iter().take(1).find(|(_, count)| *count > 0);
    let most = counts.iter().rev().max_by_key(|(_, count)| *count).filter(|(_, count)| *count > 0);
    fits.or(first).or(most).map_or(SEPARATORS[0], |(separator, _)| *separator)
}

/// One record split into columns, quotes taken off.
#[derive(Debug, Default)]
pub(crate) struct Columns {
    text: String,
    ends: Vec<usize>,
}

impl Columns {
    /// How many columns it has.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// The text of a column.
    pub fn get(&self, index: usize) -> &str {
        let from = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.text[from..self.ends[index]]
    }

    /// Takes a record apart. The error says why it is none.
    pub fn split(&mut self, line: &[u8], separator: u8) -> Result<(), String> {
        let line = str::from_utf8(line).map_err(|error| format!("not UTF-8 at byte {}", error.valid_up_to()))?;
        self.text.clear();
        self.ends.clear();
        if !line.contains('"') {
            for column in line.split(char::from(separator)) {
                self.text.push_str(column);
                self.ends.push(self.text.len());
            }
            return Ok(());
        }
        let mut at = Quoting::Start;
        for character in line.chars() {
            // Quotes and separators are ASCII, and no byte of another character is.
            let next = at.after(if character.is_ascii() { character as u8 } else { b'x' }, separator);
            match (at, next) {
                (Quoting::Start, Quoting::Quoted) | (Quoting::Quoted, Quoting::Quote) => {}
                (_, Quoting::Start) => self.ends.push(self.text.len()),
                _ => self.text.push(character),
            }
            at = next;
        }
        self.ends.push(self.text.len());
        if at.is_open() { Err("cut off inside quotes".to_owned()) } else { Ok(()) }
    }
}
