//! The slow twin of the row decoder: the same walk, driven by serde_json. Tests hold the two equal.

use serde::de::DeserializeSeed;
use serde_json::value::RawValue;

use super::decoder::Counters;
use super::json::{RawText, RowSeed, Walk, check, not_json};
use super::paths::Paths;
use super::row::{Fault, Row};

impl<'de> RawText<'de> for &'de RawValue {
    fn raw(&self) -> &str {
        self.get()
    }
}

/// Reads a record into `row` with serde_json; otherwise as [`super::json::read`].
pub(super) fn read(bytes: &[u8], paths: &mut Paths, row: &mut Row, counters: &mut Counters) -> Result<(), Fault> {
    let (text, escapes) = check(bytes)?;
    let mut parser = serde_json::Deserializer::from_str(text);
    let mut walk = Walk::new(paths, row, counters, escapes);
    RowSeed::<&RawValue>::new(&mut walk, 0)
        .deserialize(&mut parser)
        .and_then(|()| parser.end())
        .map_err(|error| not_json(&error.to_string()))
}
