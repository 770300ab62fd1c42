//! One version of a MaxMind-format file, and what it says of an address.

use std::net::IpAddr;
use std::sync::Arc;

use maxminddb::{PathElement, Reader};
use serde::de::{Deserialize, Deserializer, Visitor};

use crate::event::FieldType;
use crate::flow::reference::MISSING;
use crate::source::tables::fingerprint;

/// A network file in memory.
pub struct Networks {
    reader: Reader<Arc<[u8]>>,
    content: Arc<[u8]>,
}

impl Networks {
    /// Takes a file's content. Only its metadata are read here; the search tree is read by look-ups.
    pub fn new(content: Arc<[u8]>) -> Result<Self, String> {
        let reader = Reader::from_source(content.clone());
        let reader = reader.map_err(|error| format!("is no MaxMind-format file: {error}"))?;
        Ok(Networks { reader, content })
    }

    /// The file's content.
    pub fn content(&self) -> &Arc<[u8]> {
        &self.content
    }

    /// The values at `paths` for an address; `None` if no network of the file holds it. A value that is not of the
    /// wanted type counts as missing.
    pub fn cells(&self, address: IpAddr, paths: &[(Vec<String>, FieldType)]) -> Option<Vec<u64>> {
        let found = self.reader.lookup(address).ok().filter(|found| found.has_data())?;
        let cell = |(path, kind): &(Vec<String>, FieldType)| {
            let path: Vec<PathElement<'_>> = path.iter().map(|name| PathElement::Key(name)).collect();
            match (found.decode_path::<Value>(&path), *kind == FieldType::Text) {
                (Ok(Some(Value::Text(hash))), true) => hash,
                (Ok(Some(Value::Number(number))), false) if !number.is_nan() => number.to_bits(),
                _ => MISSING,
            }
        };
        Some(paths.iter().map(cell).collect())
    }
}

/// A value of the file, as a cell holds it.
enum Value {
    Text(u64),
    Number(f64),
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl Visitor<'_> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a text, a number or a boolean")
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(fingerprint(text)))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Number(value))
    }

    fn visit_f32<E>(self, value: f32) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value as f64))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value as f64))
    }
}
