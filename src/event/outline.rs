//! What a schema makes of an event, written down: events that were kept under one schema are read under a later one.
//!
//! Fields are found again by their names, or by an alias where one was renamed. What was added is missing in old events, what was
//! removed is left out. A type may be widened, where every value of the old one is a value of the new one; anything else is
//! refused.

use serde::{Deserialize, Serialize};

use super::event::EventBuilder;
use super::{Event, FieldType, Schema, Slot};

/// The fields and kinds of a schema, as far as events depend on them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchemaOutline {
    fields: Vec<FieldOutline>,
    kinds: Vec<String>,
    /// The field of the id.
    id: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct FieldOutline {
    name: String,
    path: String,
    kind: FieldType,
    scale: u8,
}

/// How an old value becomes a new one.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Widening {
    Same,
    /// To a decimal with more digits.
    Times(i64),
    IntToFloat,
}

/// From the events of an earlier schema to those of this one.
#[derive(Clone, Debug)]
pub struct EventMigration<'a> {
    schema: &'a Schema,
    /// For each field the one that it was before.
    from: Vec<Option<(Slot, Widening)>>,
    kinds: Vec<u16>,
}

impl SchemaOutline {
    /// Of a schema.
    pub fn of(schema: &Schema) -> Self {
        let fields = schema.fields().iter().map(|field| FieldOutline {
            name: field.name.clone(),
            path: field.path.clone(),
            kind: field.kind,
            scale: field.scale,
        });
        let id = schema.field(schema.id_slot()).name.clone();
        SchemaOutline { fields: fields.collect(), kinds: schema.kinds().to_vec(), id }
    }

    /// Whether a field that an earlier schema has, too, is of another type in this one: then whatever was computed of it is.
    pub fn retypes(&self, earlier: &SchemaOutline) -> bool {
        let retyped = |field: &FieldOutline| {
            let before = earlier.fields.iter().find(|before| before.name == field.name);
            before.is_some_and(|before| (before.kind, before.scale) != (field.kind, field.scale))
        };
        self.fields.iter().any(retyped)
    }

    /// How events of this schema become those of a later one.
    ///
    /// # Errors
    /// If a field was narrowed or retyped, or a kind is gone; the error names it and says what to do.
    pub fn migration<'a>(&self, schema: &'a Schema) -> Result<EventMigration<'a>, String> {
        let id = &schema.field(schema.id_slot()).name;
        if *id != self.id {
            return Err(format!("field '{id}' has role id, but it was '{}'; ids cannot change their field", self.id));
        }
        let from = schema.fields().iter().map(|field| {
            let same = self.fields.iter().position(|before| before.name == field.name);
            let renamed = || {
                let known = |before: &FieldOutline| [&before.name, &before.path].iter().any(|one| field.aliases.contains(one));
                self.fields.iter().position(known)
            };
            let Some(before) = same.or_else(renamed) else { return Ok(None) };
            let (old, slot) = (&self.fields[before], Slot(before as u16));
            let widening = match ((old.kind, old.scale), (field.kind, field.scale)) {
                (old, new) if old == new => Widening::Same,
                ((FieldType::Bool, _), (FieldType::Int, _)) => Widening::Same,
                ((FieldType::Int, _), (FieldType::Float, _)) => Widening::IntToFloat,
                ((FieldType::Int | FieldType::Bool, _), (FieldType::Decimal, scale)) => {
                    Widening::Times(10i64.pow(u32::from(scale)))
                }
                ((FieldType::Decimal, less), (FieldType::Decimal, more)) if less < more => {
                    Widening::Times(10i64.pow(u32::from(more - less)))
                }
                ((old_kind, old_scale), (new_kind, new_scale)) => {
                    let name = |kind: FieldType, scale: u8| match kind {
                        FieldType::Decimal => format!("decimal of scale {scale}"),
                        other => format!("{other:?}").to_lowercase(),
                    };
                    return Err(format!(
                        "field '{}' was of type {}, and {} cannot hold all of its values; give the new one another name, or name \
                         another directory",
                        field.name,
                        name(old_kind, old_scale),
                        name(new_kind, new_scale)
                    ));
                }
            };
            Ok(Some((slot, widening)))
        });
        let from = from.collect::<Result<Vec<_>, String>>()?;
        let kind = |name: &String| {
            let now = schema.kinds().iter().position(|now| now == name);
            now.map(|now| now as u16)
                .ok_or_else(|| format!("kind '{name}' is gone from the schema, but events of it are kept; keep it"))
        };
        let kinds = self.kinds.iter().map(kind).collect::<Result<Vec<_>, _>>()?;
        Ok(EventMigration { schema, from, kinds })
    }
}

impl EventMigration<'_> {
    /// The event under the new schema.
    ///
    /// # Errors
    /// If a value cannot be kept.
    pub fn event(&self, event: &Event) -> Result<Event, String> {
        let mut builder = EventBuilder::new(self.schema);
        for (index, from) in self.from.iter().enumerate() {
            let (Some((old, widening)), slot) = (from, Slot(index as u16)) else { continue };
            if self.schema.field(slot).kind == FieldType::Text {
                if let Some(text) = event.text(*old) {
                    builder.set_text(slot, text);
                }
                continue;
            }
            let Some(value) = event.int(*old) else { continue };
            match widening {
                Widening::Same => builder.set_int(slot, value),
                Widening::IntToFloat => builder.set_float(slot, value as f64),
                Widening::Times(factor) => {
                    let name = &self.schema.field(slot).name;
                    let wide = value.checked_mul(*factor);
                    builder.set_int(
                        slot,
                        wide.ok_or_else(|| format!("field '{name}': {value} has no room for more digits"))?,
                    );
                }
            }
        }
        let kind = self.kinds.get(usize::from(event.kind)).copied().unwrap_or(event.kind);
        Ok(builder.finish(event.id, event.time, kind, event.op, self.schema))
    }
}
