//! Logs of sealed lines, which cannot change unseen, and the terms that a log was written under.
//!
//! Every log is one JSON object per line, `{"seal":SEAL,"entry":ENTRY}`. The seal is a hash of the entry and of the seal before
//! it, the first one of the file's name: a line that was changed, lost, added, or moved, also from another file, breaks the
//! chain there, and the log is refused. A last line without its end was cut off by a crash and is dropped: nothing can have
//! come of it.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The seal of the line that was written or read last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seal(u64);

#[derive(Serialize)]
struct Line<'a> {
    seal: &'a str,
    entry: &'a RawValue,
}

#[derive(Deserialize)]
struct ReadLine<'a> {
    seal: &'a str,
    #[serde(borrow)]
    entry: &'a RawValue,
}

impl Seal {
    /// Before the first line of the file of this path.
    pub fn first(path: &Path) -> Self {
        let name = path.file_name().unwrap_or_default();
        Seal(xxh3_64_with_seed(name.as_encoded_bytes(), 0))
    }

    fn next(self, entry: &str) -> Self {
        Seal(xxh3_64_with_seed(entry.as_bytes(), self.0))
    }

    /// The entry of a line, which must be the next one. The error says what is wrong with it.
    pub fn open<'a>(&mut self, line: &'a [u8]) -> Result<&'a str, String> {
        let parsed: ReadLine = serde_json::from_slice(line).map_err(|_| "it is no sealed line".to_owned())?;
        *self = self.next(parsed.entry.get());
        if u64::from_str_radix(parsed.seal, 16) != Ok(self.0) {
            return Err("its seal does not fit: it was changed, or a line before it is missing or moved".to_owned());
        }
        Ok(parsed.entry.get())
    }

    /// Appends a line.
    pub fn line(&mut self, entry: &impl Serialize, into: &mut Vec<u8>) -> io::Result<()> {
        let entry = serde_json::value::to_raw_value(entry)?;
        *self = self.next(entry.get());
        let seal = format!("{:016x}", self.0);
        serde_json::to_writer(&mut *into, &Line { seal: &seal, entry: &entry })?;
        into.push(b'\n');
        Ok(())
    }
}

/// Reads the lines of a file, the entry of each as JSON, with its number from 1. Returns the seal to go on from and the
/// length of the whole lines, bytes; a file that is not there has none. The error says what is wrong, without the path.
pub fn read_lines(path: &Path, mut each: impl FnMut(u64, &str) -> Result<(), String>) -> Result<(Seal, u64), String> {
    let (mut seal, mut bytes) = (Seal::first(path), 0);
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((seal, 0)),
        Err(error) => return Err(error.to_string()),
    };
    let (mut reader, mut line) = (BufReader::new(file), Vec::new());
    for number in 1.. {
        line.clear();
        let read = reader.read_until(b'\n', &mut line).map_err(|error| error.to_string())?;
        if read == 0 || line.last() != Some(&b'\n') {
            break;
        }
        let damaged = |why| format!("line {number} is damaged ({why}); the log cannot be used");
        let entry = seal.open(&line).map_err(damaged)?;
        each(number, entry)?;
        bytes += read as u64;
    }
    Ok((seal, bytes))
}

/// What decides the outcome of a run beside its records, by the flag or the thing that says so. Two runs that differ in it
/// cannot be one cluster; nor go on from one log, but for what may evolve, once the log's own run has come to its end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms(Vec<Term>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Term {
    name: String,
    value: String,
    evolves: bool,
}

impl Terms {
    /// Adds one that stays as it is.
    pub fn add(&mut self, name: &str, value: impl std::fmt::Display) {
        self.0.push(Term { name: name.to_owned(), value: value.to_string(), evolves: false });
    }

    /// Adds one that may be another in a later run: what depends on it is built anew.
    pub fn add_evolving(&mut self, name: &str, value: impl std::fmt::Display) {
        self.0.push(Term { name: name.to_owned(), value: value.to_string(), evolves: true });
    }

    /// All of them, each with its value.
    pub fn all(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|term| (&*term.name, &*term.value))
    }

    /// The first that differs: its name, the value here and the value there.
    pub fn difference<'a>(&'a self, there: &'a Terms) -> Option<(&'a str, &'a str, &'a str)> {
        self.differences(there).map(|(term, here, there)| (&*term.name, here, there)).next()
    }

    /// The first that differs and may not.
    pub fn lasting_difference<'a>(&'a self, there: &'a Terms) -> Option<(&'a str, &'a str, &'a str)> {
        let mut lasting = self.differences(there).filter(|(term, ..)| !term.evolves);
        lasting.next().map(|(term, here, there)| (&*term.name, here, there))
    }

    fn differences<'a>(&'a self, there: &'a Terms) -> impl Iterator<Item = (&'a Term, &'a str, &'a str)> {
        let value = |of: &'a Terms, name: &str| of.0.iter().find(|term| term.name == name).map(|term| &*term.value);
        let values =
            self.0.iter().chain(&there.0).map(move |term| {
                (term, value(self, &term.name).unwrap_or("-"), value(there, &term.name).unwrap_or("-"))
            });
        values.filter(|(_, here, there)| here != there)
    }
}
