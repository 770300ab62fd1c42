//! JSON records: one generic row decoder over serde, driven by sonic-rs.
//!
//! The decoder walks an object along the schema's paths. A field's value is taken as raw text and read by its type
//! (see `value`), so what the parser thinks of numbers does not matter; all else is skipped.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::decoder::Counters;
use super::paths::{NodeId, Paths};
use super::row::{Fault, Row};
use super::value::Scalar;
use crate::flow::RejectReason;

/// How deep a record may nest. Both parsers recurse on the stack.
const DEPTH_MAX: usize = 64;

/// A value as raw JSON text, as each parser lends it.
pub(super) trait RawText<'de>: Deserialize<'de> {
    /// The text, without space around.
    fn raw(&self) -> &str;
}

impl<'de> RawText<'de> for sonic_rs::LazyValue<'de> {
    #[inline]
    fn raw(&self) -> &str {
        self.as_raw_str()
    }
}

/// What the walk over one record needs.
pub(super) struct Walk<'a> {
    paths: &'a mut Paths,
    row: &'a mut Row,
    counters: &'a mut Counters,
    /// Whether there is a backslash anywhere in the record.
    escapes: bool,
}

/// Reads a record into `row` with sonic-rs. Fields outside the schema and repeated keys of fields are counted.
pub(super) fn read(bytes: &[u8], paths: &mut Paths, row: &mut Row, counters: &mut Counters) -> Result<(), Fault> {
    let (text, escapes) = check(bytes)?;
    let mut parser = sonic_rs::Deserializer::from_str(text);
    let mut walk = Walk::new(paths, row, counters, escapes);
    RowSeed::<sonic_rs::LazyValue>::new(&mut walk, 0)
        .deserialize(&mut parser)
        .and_then(|()| parser.end())
        .map_err(|error| not_json(&error.to_string()))
}

/// The fault of a text that a parser refused.
pub(super) fn not_json(error: &str) -> Fault {
    Fault::new(RejectReason::Malformed, format!("not JSON: {}", error.lines().next().unwrap_or("").trim_end()))
}

impl<'a> Walk<'a> {
    /// A walk over another record.
    pub fn new(paths: &'a mut Paths, row: &'a mut Row, counters: &'a mut Counters, escapes: bool) -> Self {
        paths.begin();
        Walk { paths, row, counters, escapes }
    }

    #[inline]
    fn put(&mut self, node: NodeId, value: Scalar<'_>) {
        for index in 0..self.paths.readers(node) {
            self.row.put(self.paths.reader(node, index), value);
        }
    }

    /// Reads the raw text of a value.
    #[inline]
    fn put_raw(&mut self, node: NodeId, raw: &str) {
        let value = match raw.as_bytes() {
            [b'"', .., b'"'] => {
                let inner = &raw[1..raw.len() - 1];
                if self.escapes && inner.contains('\\') {
                    // Escapes were checked before; what can fail is half of a surrogate pair.
                    return match serde_json::from_str::<String>(raw) {
                        Ok(text) => self.put(node, Scalar::Text(&text)),
                        Err(_) => self.put(node, Scalar::Composite(raw)),
                    };
                }
                Scalar::Text(inner)
            }
            [b'n', ..] => Scalar::Null,
            [b't', ..] => Scalar::Bool(true),
            [b'f', ..] => Scalar::Bool(false),
            [b'{' | b'[', ..] => Scalar::Composite(raw),
            _ => Scalar::Number(raw),
        };
        self.put(node, value);
    }
}

/// Checks what the parsers leave to us or answer differently: UTF-8, nesting, escapes in skipped text, and that the
/// record is an object. Gives the text and whether it has escapes.
pub(super) fn check(bytes: &[u8]) -> Result<(&str, bool), Fault> {
    let malformed = |message: String| Fault::new(RejectReason::Malformed, message);
    let text =
        str::from_utf8(bytes).map_err(|error| malformed(format!("not UTF-8 at byte {}", error.valid_up_to())))?;
    match bytes.trim_ascii_start().first() {
        None => return Err(Fault::new(RejectReason::Empty, "the record is empty")),
        Some(b'{') => {}
        Some(_) => return Err(malformed("not a JSON object".to_owned())),
    }
    let (openers, escapes) = openers_and_escapes(bytes);
    if openers > DEPTH_MAX && depth(bytes) > DEPTH_MAX {
        return Err(malformed(format!("nested deeper than {DEPTH_MAX} levels")));
    }
    if escapes && let Some(at) = bad_escape(bytes) {
        return Err(malformed(format!("not JSON: invalid escape at byte {at}")));
    }
    Ok((text, escapes))
}

/// How many brackets and braces open, and whether there is a backslash. Written so that it compiles to vector code.
fn openers_and_escapes(bytes: &[u8]) -> (usize, bool) {
    let (mut openers, mut escapes) = (0, 0u8);
    // A chunk of at most 255 bytes cannot overflow a counter of one byte.
    for chunk in bytes.chunks(192) {
        let mut count = 0u8;
        for &byte in chunk {
            // '[' and '{' differ in this one bit.
            count += u8::from(byte | 0x20 == b'{');
            escapes |= u8::from(byte == b'\\');
        }
        openers += usize::from(count);
    }
    (openers, escapes != 0)
}

/// The depth of the nesting, strings left out.
fn depth(bytes: &[u8]) -> usize {
    let (mut depth, mut deepest, mut quoted, mut escaped) = (0usize, 0, false, false);
    for &byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = quoted,
            b'"' => quoted = !quoted,
            b'[' | b'{' if !quoted => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Where an escape is not one of JSON's. A backslash outside a string is refused by the parsers, so strings need not
/// be followed.
fn bad_escape(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some(step) = bytes[at..].iter().position(|byte| *byte == b'\\') {
        at += step;
        at += match bytes.get(at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 2,
            Some(b'u') if bytes.get(at + 2..at + 6).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)) => 6,
            _ => return Some(at),
        };
    }
    None
}

/// Reads an object, or, at a node inside the record, whatever stands there.
pub(super) struct RowSeed<'w, 'a, R> {
    walk: &'w mut Walk<'a>,
    node: NodeId,
    raw: PhantomData<R>,
}

impl<'w, 'a, R> RowSeed<'w, 'a, R> {
    /// A seed for the object at a node (0: the record).
    pub fn new(walk: &'w mut Walk<'a>, node: NodeId) -> Self {
        RowSeed { walk, node, raw: PhantomData }
    }
}

impl<'de, R: RawText<'de>> DeserializeSeed<'de> for RowSeed<'_, '_, R> {
    type Value = ();

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, R: RawText<'de>> Visitor<'de> for RowSeed<'_, '_, R> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a record")
    }

    #[inline]
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut before = self.node;
        while let Some(child) = map.next_key_seed(KeySeed { paths: self.walk.paths, parent: self.node, before })? {
            let Some(child) = child else {
                self.walk.counters.unknown_fields += 1;
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            before = child;
            self.walk.counters.duplicate_keys += u64::from(self.walk.paths.is_repeated(child));
            if self.walk.paths.is_inner(child) {
                map.next_value_seed(RowSeed::<R>::new(self.walk, child))?;
            } else {
                let value = map.next_value::<R>()?;
                self.walk.put_raw(child, value.raw());
            }
        }
        Ok(())
    }

    // What follows is met only where the schema has fields inside the value: another form of the record (an older
    // one, where `device` was a text and not yet an object) may have a scalar there.

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        // A path may name an element by its place.
        for place in 0_usize.. {
            let child = self.walk.paths.child(self.node, self.node, &place.to_string());
            let more = match child {
                Some(child) if self.walk.paths.is_inner(child) => {
                    seq.next_element_seed(RowSeed::<R>::new(self.walk, child))?.is_some()
                }
                Some(child) => match seq.next_element::<R>()? {
                    Some(value) => {
                        self.walk.put_raw(child, value.raw());
                        true
                    }
                    None => false,
                },
                None => seq.next_element::<IgnoredAny>()?.is_some(),
            };
            if !more {
                break;
            }
        }
        self.walk.put(self.node, Scalar::Composite("an array"));
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.walk.put(self.node, Scalar::Null);
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.walk.put(self.node, Scalar::Bool(value));
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.walk.put(self.node, Scalar::Number(&value.to_string()));
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.walk.put(self.node, Scalar::Number(&value.to_string()));
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.walk.put(self.node, Scalar::Number(&value.to_string()));
        Ok(())
    }

    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        self.walk.put(self.node, Scalar::Text(value));
        Ok(())
    }
}

/// Finds the node of a name among the children of a node.
struct KeySeed<'a> {
    paths: &'a mut Paths,
    parent: NodeId,
    before: NodeId,
}

impl<'de> DeserializeSeed<'de> for KeySeed<'_> {
    type Value = Option<NodeId>;

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<NodeId>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for KeySeed<'_> {
    type Value = Option<NodeId>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a name")
    }

    #[inline]
    fn visit_str<E>(self, name: &str) -> Result<Option<NodeId>, E> {
        Ok(self.paths.child(self.parent, self.before, name))
    }
}
