//! One event as a row of cells.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::{FieldType, Id, IdType, Key, Schema, Slot};

/// What a record asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Op {
    /// A new event; an id seen before makes it a duplicate or a correction.
    #[default]
    Insert,
    /// A correction; an id never seen before is taken as an insert and counted.
    Correct,
    /// Takes the event of this id back.
    Withdraw,
}

/// A decoded event.
///
/// A cell holds an integer, the bits of a float, a boolean, or, for text, offset and length in the text buffer. Missing
/// cells are marked in a bitmap. Equality covers the content, so a repeated record is recognised by comparing.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Event {
    /// The upsert key; also breaks ties on event time.
    pub id: Id,
    /// Event time, milliseconds since the epoch, UTC.
    pub time: i64,
    /// Index into [`Schema::kinds`].
    pub kind: u16,
    /// What the record asks for.
    pub op: Op,
    cells: Box<[u64]>,
    present: u128,
    text: Box<str>,
}

impl Event {
    /// Whether the field was in the record (or has a default).
    #[inline]
    pub fn has(&self, slot: Slot) -> bool {
        self.present >> slot.0 & 1 == 1
    }

    /// The cell of an integer, amount, time or boolean field.
    #[inline]
    pub fn int(&self, slot: Slot) -> Option<i64> {
        self.has(slot).then(|| self.cells[slot.0 as usize] as i64)
    }

    /// The value of a float field.
    #[inline]
    pub fn float(&self, slot: Slot) -> Option<f64> {
        self.has(slot).then(|| f64::from_bits(self.cells[slot.0 as usize]))
    }

    /// The value of a text field.
    #[inline]
    pub fn text(&self, slot: Slot) -> Option<&str> {
        self.has(slot).then(|| {
            let cell = self.cells[slot.0 as usize];
            let (offset, length) = ((cell >> 32) as usize, cell as u32 as usize);
            &self.text[offset..offset + length]
        })
    }

    /// The value as a key, whatever the type of the field.
    #[inline]
    pub fn key(&self, slot: Slot, schema: &Schema) -> Option<Key> {
        match schema.field(slot).kind {
            FieldType::Text => self.text(slot).map(Key::from_text),
            _ => self.int(slot).map(Key::from_int),
        }
    }

    /// The value as 64 bits for equality tests: the cell itself, or a stable hash of the text.
    #[inline]
    pub fn fingerprint(&self, slot: Slot, schema: &Schema) -> Option<u64> {
        match schema.field(slot).kind {
            FieldType::Text => self.text(slot).map(|text| xxh3_64(text.as_bytes())),
            _ => self.has(slot).then(|| self.cells[slot.0 as usize]),
        }
    }

    /// Whether two records say the same of the same id: all but the operation.
    pub fn same_content(&self, other: &Event) -> bool {
        self.time == other.time
            && self.kind == other.kind
            && self.present == other.present
            && self.cells == other.cells
            && self.text == other.text
    }

    /// The id that a label is about, comparable with [`Event::id`]; `None` where the record names none.
    pub fn label_target(&self, schema: &Schema) -> Option<Id> {
        let slot = schema.label_target_slot()?;
        match (schema.id_type(), schema.field(slot).kind) {
            (IdType::Int, FieldType::Int) => self.int(slot).map(|id| Id::from_int(id as u64)),
            (IdType::Int, _) => self.text(slot).and_then(|text| text.parse().ok()).map(Id::from_int),
            (IdType::Text, FieldType::Int) => self.int(slot).map(|id| Id::from_text(&(id as u64).to_string())),
            (IdType::Text, _) => self.text(slot).map(Id::from_text),
        }
    }

    /// The id as it was written in the record.
    pub fn id_text(&self, schema: &Schema) -> String {
        match schema.id_type() {
            IdType::Text => self.text(schema.id_slot()).unwrap_or_default().to_owned(),
            IdType::Int => self.id.lo.to_string(),
        }
    }

    /// Bytes this event holds on the heap and in itself.
    pub fn bytes(&self) -> usize {
        size_of::<Event>() + self.cells.len() * 8 + self.text.len()
    }
}

/// Fills in an event field by field; decoders and generators keep one and reuse its buffers.
#[derive(Debug)]
pub struct EventBuilder {
    cells: Vec<u64>,
    present: u128,
    text: String,
}

impl EventBuilder {
    /// A builder with as many empty cells as the schema has fields.
    pub fn new(schema: &Schema) -> Self {
        EventBuilder { cells: vec![0; schema.fields().len()], present: 0, text: String::new() }
    }

    /// Forgets what was set.
    pub fn clear(&mut self) {
        self.cells.fill(0);
        self.present = 0;
        self.text.clear();
    }

    /// Whether the field has been set.
    pub fn has(&self, slot: Slot) -> bool {
        self.present >> slot.0 & 1 == 1
    }

    /// The fields set so far, slot 0 in the lowest bit.
    pub fn present(&self) -> u128 {
        self.present
    }

    /// The integer set for a field.
    pub fn int(&self, slot: Slot) -> Option<i64> {
        self.has(slot).then(|| self.cells[slot.0 as usize] as i64)
    }

    /// The text set for a field.
    pub fn text(&self, slot: Slot) -> Option<&str> {
        self.has(slot).then(|| {
            let cell = self.cells[slot.0 as usize];
            let (offset, length) = ((cell >> 32) as usize, cell as u32 as usize);
            &self.text[offset..offset + length]
        })
    }

    /// Sets an integer, amount, time or boolean field.
    pub fn set_int(&mut self, slot: Slot, value: i64) {
        self.cells[slot.0 as usize] = value as u64;
        self.present |= 1 << slot.0;
    }

    /// Sets a float field.
    pub fn set_float(&mut self, slot: Slot, value: f64) {
        self.set_int(slot, value.to_bits() as i64);
    }

    /// Sets a text field. Setting a field twice keeps the last value.
    pub fn set_text(&mut self, slot: Slot, value: &str) {
        let offset = self.text.len() as u64;
        self.text.push_str(value);
        self.set_int(slot, (offset << 32 | value.len() as u64) as i64);
    }

    /// Forgets what was set for one field.
    pub fn unset(&mut self, slot: Slot) {
        self.cells[slot.0 as usize] = 0;
        self.present &= !(1 << slot.0);
    }

    /// The event, leaving the builder empty. Text is laid out in slot order, so that equal content is equal bytes.
    pub fn finish(&mut self, id: Id, time: i64, kind: u16, op: Op, schema: &Schema) -> Event {
        let mut text = String::with_capacity(self.text.len());
        for (index, field) in schema.fields().iter().enumerate() {
            let slot = Slot(index as u16);
            if field.kind == FieldType::Text && self.has(slot) {
                let cell = self.cells[index];
                let (from, length) = ((cell >> 32) as usize, cell as u32 as usize);
                self.cells[index] = (text.len() as u64) << 32 | length as u64;
                text.push_str(&self.text[from..from + length]);
            }
        }
        let event = Event {
            id,
            time,
            kind,
            op,
            cells: self.cells.as_slice().into(),
            present: self.present,
            text: text.into_boxed_str(),
        };
        self.clear();
        event
    }
}
