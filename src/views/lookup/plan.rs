//! A look-up resolved against the event schema and its reference: slots in, columns out.

use std::net::{IpAddr, Ipv6Addr};

use super::spec::{Enrich, Picked};
use crate::event::{Event, FieldType, Key, Schema, Slot};
use crate::flow::reference::{MISSING, answer_key};
use crate::source::tables::{ReferenceKind, fingerprint};

/// What the operator needs to know of a look-up.
#[derive(Clone, Debug, PartialEq)]
pub struct EnrichPlan {
    /// The look-up's name, for messages and metrics.
    pub name: String,
    /// See [`Enrich::tag`].
    pub tag: u64,
    /// How an event's key is made.
    pub key: KeyOf,
    /// The columns, in order.
    pub columns: Vec<PlannedColumn>,
    /// Whether a changed row revises transactions.
    pub live: bool,
    /// How long they are revised, milliseconds of event time.
    pub revise_ms: i64,
    /// What the cells of a network are read from: paths in the file and whether text is expected.
    pub paths: Vec<(Vec<String>, FieldType)>,
}

/// What an event is looked up by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyOf {
    /// One field, or a pair, of which a first part may be taken.
    Fields(Vec<Slot>, Option<usize>),
    /// An address, as text.
    Address(Slot),
    /// The event itself: answers of services are addressed to the event they were asked for.
    Event,
}

/// One column, resolved.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedColumn {
    /// Its name.
    pub name: String,
    /// Its value without a row, or without a value in the row.
    pub default: f64,
    pick: Pick,
}

#[derive(Clone, Debug, PartialEq)]
enum Pick {
    Number(usize),
    Code(usize),
    Category(usize, Vec<u64>),
    OneHot(usize, u64),
    Known,
}

impl EnrichPlan {
    /// Resolves a look-up. The error names the look-up, the field and what to do.
    pub fn resolve(spec: &Enrich, schema: &Schema) -> Result<Self, String> {
        Self::resolved(spec, schema).map_err(|reason| format!("look-up '{}': {reason}", spec.name))
    }

    fn resolved(spec: &Enrich, schema: &Schema) -> Result<Self, String> {
        let slots = question(spec, schema)?;
        let reference = &spec.reference;
        let key = match reference.kind() {
            ReferenceKind::Table => KeyOf::Fields(slots, spec.prefix),
            ReferenceKind::Service(_) => KeyOf::Event,
            ReferenceKind::Networks => {
                if spec.live {
                    return Err("a network file cannot be joined live, as it changes as a whole; drop live()".into());
                }
                KeyOf::Address(slots[0])
            }
        };
        let columns = planned_columns(spec)?;
        let path = |field: &crate::event::Field| (field.path.split('.').map(str::to_owned).collect(), field.kind);
        let paths = reference.kept_fields().map(path).collect();
        let (name, live, revise_ms) = (spec.name.clone(), spec.live, spec.revise_ms);
        Ok(EnrichPlan { name, tag: spec.tag(), key, columns, live, revise_ms, paths })
    }

    /// The key of an event, if it has what the key is made of.
    pub fn key_of(&self, event: &Event, schema: &Schema) -> Option<Key> {
        match &self.key {
            KeyOf::Event => Some(answer_key(event.id, schema.id_type())),
            KeyOf::Address(slot) => event.text(*slot).and_then(address_key),
            KeyOf::Fields(slots, Some(characters)) => {
                event.text(slots[0]).map(|text| Key::from_text(cut(text, *characters)))
            }
            KeyOf::Fields(slots, None) => {
                let first = event.key(slots[0], schema)?;
                match slots.get(1) {
                    Some(&second) => event.key(second, schema).map(|second| first.pair(second)),
                    None => Some(first),
                }
            }
        }
    }

    /// Fills in the columns from a row's cells.
    pub fn fill(&self, cells: Option<&[u64]>, into: &mut [f64]) {
        for (column, value) in self.columns.iter().zip(into) {
            *value = column.of(cells);
        }
    }
}

impl PlannedColumn {
    fn of(&self, cells: Option<&[u64]>) -> f64 {
        let cell = |index: usize| cells.and_then(|cells| cells.get(index)).copied().filter(|&cell| cell != MISSING);
        match &self.pick {
            Pick::Known => f64::from(cells.is_some()),
            Pick::Number(index) => cell(*index).map_or(self.default, f64::from_bits),
            // Fifty-two bits are exact in a double.
            Pick::Code(index) => cell(*index).map_or(self.default, |hash| (hash >> 12) as f64),
            Pick::Category(index, values) => cell(*index).map_or(self.default, |hash| {
                values.iter().position(|&value| value == hash).map_or(0.0, |place| (place + 1) as f64)
            }),
            Pick::OneHot(index, value) => cell(*index).map_or(self.default, |hash| f64::from(hash == *value)),
        }
    }
}

/// Names and defaults of a look-up's columns; needs no event schema.
pub(super) fn planned_columns(spec: &Enrich) -> Result<Vec<PlannedColumn>, String> {
    let reference = &spec.reference;
    if spec.columns.is_empty() {
        return Err("asks for no column; add number(..), category(..) or known()".into());
    }
    let mut columns = Vec::new();
    for column in &spec.columns {
        let field = column.field.as_deref().unwrap_or_default();
        let found = reference.cell_of(field).and_then(|cell| Some((cell, reference.kept_fields().nth(cell)?)));
        let (cell, declared) = match (&column.pick, found) {
            (Picked::Known, _) => (0, None),
            (_, Some((cell, declared))) => (cell, Some(declared)),
            (_, None) => {
                let has = reference.kept_fields().map(|field| field.name.as_str()).collect::<Vec<_>>().join(", ");
                return Err(format!("reference '{}' has no field '{field}'; it has {has}", reference.name()));
            }
        };
        let text = declared.is_some_and(|field| field.kind == FieldType::Text);
        let wants_text = matches!(column.pick, Picked::Code | Picked::Category(_) | Picked::OneHot(_));
        if wants_text != text {
            let hint = if text { "use category(..), one_hot(..) or code(..)" } else { "use number(..)" };
            return Err(format!(
                "field '{field}' of reference '{}' is {}; {hint}",
                reference.name(),
                if text { "text" } else { "a number" }
            ));
        }
        let absent = if matches!(column.pick, Picked::OneHot(_) | Picked::Known) { 0.0 } else { f64::NAN };
        let of_field = || declared.filter(|_| !text)?.default.as_ref()?.parse().ok();
        let given = column.default.filter(|_| column.pick != Picked::Known);
        let default = given.or_else(of_field).unwrap_or(absent);
        let pick = match &column.pick {
            Picked::Number => Pick::Number(cell),
            Picked::Code => Pick::Code(cell),
            Picked::Category(values) => Pick::Category(cell, values.iter().map(|value| fingerprint(value)).collect()),
            Picked::OneHot(value) => Pick::OneHot(cell, fingerprint(value)),
            Picked::Known => Pick::Known,
        };
        columns.push(PlannedColumn { name: column.name.clone(), default, pick });
    }
    Ok(columns)
}

/// What an event asks a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    slot: Slot,
    kind: FieldType,
    prefix: Option<usize>,
}

impl Question {
    /// Resolves the key of a look-up. The error names the look-up, the field and what to do.
    pub fn resolve(spec: &Enrich, schema: &Schema) -> Result<Self, String> {
        let slots = question(spec, schema).map_err(|reason| format!("look-up '{}': {reason}", spec.name))?;
        Ok(Question { slot: slots[0], kind: schema.field(slots[0]).kind, prefix: spec.prefix })
    }

    /// The key as text; `None` if the event has none, and nobody is asked.
    pub fn ask(&self, event: &Event) -> Option<String> {
        match self.kind {
            FieldType::Text => {
                let text = event.text(self.slot).filter(|text| !text.is_empty())?;
                Some(self.prefix.map_or(text, |characters| cut(text, characters)).to_owned())
            }
            FieldType::Float => event.float(self.slot).map(|value| value.to_string()),
            _ => event.int(self.slot).map(|value| value.to_string()),
        }
    }
}

/// The event fields that a look-up asks with; checks that their types are the key's.
pub(super) fn question(spec: &Enrich, schema: &Schema) -> Result<Vec<Slot>, String> {
    let slot = |field: &String| {
        schema
            .slot(field)
            .ok_or_else(|| format!("the schema '{}' has no field '{field}'; add it or name another", schema.name()))
    };
    let slots: Vec<Slot> = spec.fields.iter().map(slot).collect::<Result<_, _>>()?;
    let reference = &spec.reference;
    let wanted: Vec<FieldType> = match reference.kind() {
        ReferenceKind::Table => reference.key_fields().map(|field| field.kind).collect(),
        ReferenceKind::Networks => vec![FieldType::Text],
        // Whatever its type is; one field.
        ReferenceKind::Service(_) => slots.iter().take(1).map(|&slot| schema.field(slot).kind).collect(),
    };
    if slots.len() != wanted.len() || slots.is_empty() {
        return Err(format!(
            "{} fields are given, the key of '{}' has {}",
            slots.len(),
            reference.name(),
            wanted.len().max(1)
        ));
    }
    for (&slot, wanted) in slots.iter().zip(wanted) {
        let field = schema.field(slot);
        let text = |kind| kind == FieldType::Text;
        if text(field.kind) != text(wanted) {
            let (is, other) = if text(wanted) { ("text", "a number") } else { ("a number", "text") };
            return Err(format!(
                "the key of '{}' is {is}, the event's field '{}' {other}; declare both of one type",
                reference.name(),
                field.name
            ));
        }
        if spec.prefix.is_some() && (!text(wanted) || slots.len() > 1) {
            return Err("prefix(..) takes the first characters of one text field".into());
        }
    }
    Ok(slots)
}

/// The key that stands for an address; the two forms of a version 4 address are one.
fn address_key(text: &str) -> Option<Key> {
    let address = match text.trim().parse().ok()? {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    let bits = u128::from(address);
    Some(Key { hi: (bits >> 64) as u64, lo: bits as u64 })
}

/// The address that a key stands for.
pub(super) fn address_of(key: Key) -> IpAddr {
    Ipv6Addr::from(u128::from(key.hi) << 64 | u128::from(key.lo)).to_canonical()
}

/// The first so many characters.
pub(super) fn cut(text: &str, characters: usize) -> &str {
    text.char_indices().nth(characters).map_or(text, |(end, _)| &text[..end])
}
