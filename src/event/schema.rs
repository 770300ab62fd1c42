//! The schema: which fields an event has, where they stand in a record, and what they mean.
//!
//! A schema is a TOML file:
//!
//! ```toml
//! name = "payments"
//! scored = ["payment"]               # kinds that get a score; default: every kind but "label"
//! default_kind = "payment"           # for records without a kind field
//! columns = ["id", "time", "amount"] # of CSV files without a header; default: their first line names them
//!
//! [[field]]
//! name = "amount"
//! path = "tx.amount"                 # default: the name; dots descend into objects, numbers into arrays; CSV: the column; "@place" and
//!                                    # "@timestamp" are the record's own (PARTITION:OFFSET, Kafka's time), where no field is called so
//! type = "decimal"                   # text | int | float | bool | decimal | time
//! scale = 2                          # decimal: digits after the point kept (19.99 -> 1999)
//! role = "amount"                    # id | kind | op | time | rank | entity | amount | number | category | flag
//!                                    # | label_target | label_value | available_at
//! minor_units = "currency"           # decimal: numbers are in minor units of the currency that this field names
//! format = "millis"                  # time: millis | seconds | micros | nanos | hours | days | text
//! earliest = "1970-01-01T00:00:00Z"  # time: what is before is a bad value; default 1970 of an event time in numbers
//! latest = "2200-01-01T00:00:00Z"    # time: what is after is one too; default 2200 of an event time in numbers
//! required = true
//! kinds = ["payment", "refund"]      # kinds of records that the field belongs to; default: all
//! ```
//!
//! A required field is demanded of the kinds it belongs to, with two exceptions that make labels easy to write: the
//! label's own roles are demanded of records of kind `label` only (where the schema has that kind), and a `label` is
//! asked for nothing else but its id and time unless a field names the kind. See [`Schema::demands`].

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::field::{EVENT_TIMES, Field, FieldType, IdType, Role, TimeFormat};

/// The place of a field in every event of a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u16);

/// The most fields a schema may have: presence is one bit of a `u128` each.
pub const FIELDS_MAX: usize = 128;

/// A resolved schema.
#[derive(Clone, Debug, PartialEq)]
pub struct Schema {
    name: String,
    fields: Vec<Field>,
    kinds: Vec<String>,
    scored: Vec<bool>,
    default_kind: u16,
    columns: Vec<String>,
    /// In order: what a spec shows of its schema is hashed, and must be the same in every run.
    slots: BTreeMap<String, Slot>,
    id: Slot,
    time: Slot,
    label_target: Option<Slot>,
    label_kind: Option<u16>,
}

/// Why a schema was refused.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// The file could not be read.
    #[error("cannot read schema {path}: {source}; check --schema")]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The text is not a schema.
    #[error("schema {name}: {reason}")]
    Invalid {
        /// File or built-in name.
        name: String,
        /// What is wrong and how to mend it.
        reason: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SchemaFile {
    name: String,
    #[serde(default)]
    kinds: Vec<String>,
    #[serde(default)]
    scored: Vec<String>,
    #[serde(default)]
    default_kind: Option<String>,
    #[serde(default)]
    columns: Vec<String>,
    #[serde(default)]
    field: Vec<Field>,
}

/// Names that the output uses; a field of such a name could not be told from ours (PEERS.md, test 10).
const RESERVED: [&str; 6] = ["revision", "diff", "epoch", "cause", "decision", "assessment"];

impl Schema {
    /// Every path and alias that a field is read from.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.fields().iter().flat_map(|field| [&field.path].into_iter().chain(&field.aliases)).map(String::as_str)
    }

    /// Reads and checks a schema file.
    pub fn load(path: &Path) -> Result<Self, SchemaError> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|source| SchemaError::Read { path: name.clone(), source })?;
        Self::parse(&name, &text)
    }

    /// Parses and checks a schema; `name` appears in errors.
    pub fn parse(name: &str, text: &str) -> Result<Self, SchemaError> {
        let file: SchemaFile = toml::from_str(text).map_err(|error| SchemaError::Invalid {
            name: name.to_owned(),
            reason: error.to_string().trim_end().replace('\n', " | "),
        })?;
        Self::resolve(file).map_err(|reason| SchemaError::Invalid { name: name.to_owned(), reason })
    }

    fn resolve(file: SchemaFile) -> Result<Self, String> {
        let mut fields = file.field;
        if fields.is_empty() {
            return Err("has no [[field]]; at least an id and a time are needed".into());
        }
        if fields.len() > FIELDS_MAX {
            return Err(format!("has {} fields; at most {FIELDS_MAX} are supported", fields.len()));
        }
        let mut slots = BTreeMap::new();
        for (index, field) in fields.iter_mut().enumerate() {
            if RESERVED.contains(&field.name.as_str()) {
                return Err(format!(
                    "field name '{}' is used by the output; choose another name and set path",
                    field.name
                ));
            }
            if slots.insert(field.name.clone(), Slot(index as u16)).is_some() {
                return Err(format!("field '{}' is declared twice", field.name));
            }
            if field.path.is_empty() {
                field.path = field.name.clone();
            }
        }
        let id = only(&fields, Role::Id, "id")?.ok_or("no field has role = \"id\"")?;
        let time = only(&fields, Role::Time, "time")?.ok_or("no field has role = \"time\"")?;
        for (role, name) in [
            (Role::Kind, "kind"),
            (Role::Op, "op"),
            (Role::Rank, "rank"),
            (Role::LabelTarget, "label_target"),
            (Role::LabelValue, "label_value"),
            (Role::AvailableAt, "available_at"),
        ] {
            only(&fields, role, name)?;
        }
        let field = |slot: Slot| &fields[slot.0 as usize];
        if !matches!(field(id).kind, FieldType::Int | FieldType::Text) {
            return Err(format!("field '{}' (role id) must be of type int or text", field(id).name));
        }
        if field(time).kind != FieldType::Time {
            return Err(format!("field '{}' (role time) must be of type time", field(time).name));
        }
        if fields.iter().any(|f| f.role == Role::Rank) && field(id).kind != FieldType::Int {
            return Err("a rank column needs an id of type int".into());
        }
        for field in fields.iter().filter(|field| matches!(field.role, Role::Kind | Role::Op)) {
            if field.kind != FieldType::Text {
                return Err(format!("field '{}' (role kind or op) must be of type text", field.name));
            }
        }
        for field in fields.iter().filter(|field| field.role == Role::Rank) {
            if field.kind != FieldType::Int {
                return Err(format!("field '{}' (role rank) must be of type int", field.name));
            }
        }
        for field in fields.iter().filter(|field| field.role == Role::LabelTarget) {
            if !matches!(field.kind, FieldType::Int | FieldType::Text) {
                return Err(format!("field '{}' (role label_target) must be of type int or text", field.name));
            }
            if fields.iter().any(|other| other.role == Role::Rank) {
                return Err(format!(
                    "field '{}' names ids by a label; that needs ids without a rank column",
                    field.name
                ));
            }
        }
        let mut kinds = file.kinds;
        let default_kind = file.default_kind.unwrap_or_else(|| "payment".into());
        if !kinds.contains(&default_kind) {
            kinds.push(default_kind.clone());
        }
        for kind in &file.scored {
            if !kinds.contains(kind) {
                return Err(format!("scored kind '{kind}' is not in kinds; add it there"));
            }
        }
        for field in &fields {
            if let Some(kind) = field.kinds.iter().find(|kind| !kinds.contains(kind)) {
                return Err(format!(
                    "field '{}' belongs to kind '{kind}', which is not in kinds; add it there",
                    field.name
                ));
            }
            if !field.kinds.is_empty() && matches!(field.role, Role::Id | Role::Time | Role::Kind | Role::Op) {
                return Err(format!(
                    "field '{}' (id, time, kind or op) belongs to every kind; remove its kinds",
                    field.name
                ));
            }
        }
        let scored = kinds
            .iter()
            .map(|kind| if file.scored.is_empty() { kind != "label" } else { file.scored.contains(kind) })
            .collect();
        let default_kind = kinds.iter().position(|kind| *kind == default_kind).unwrap_or(0) as u16;
        let label_target = only(&fields, Role::LabelTarget, "label_target")?;
        let label_kind = kinds.iter().position(|kind| kind == "label").map(|index| index as u16);
        let time_field = &mut fields[time.0 as usize];
        if time_field.format != TimeFormat::Text {
            for (bound, usual) in [&mut time_field.earliest, &mut time_field.latest].into_iter().zip(EVENT_TIMES) {
                bound.get_or_insert_with(|| usual.to_owned());
            }
        }
        fields.iter().try_for_each(Field::check_range)?;
        for field in fields.iter().filter(|field| field.minor_units.is_some()) {
            let of = field.minor_units.as_deref().and_then(|name| fields.iter().find(|other| other.name == name));
            if field.kind != FieldType::Decimal || of.is_none_or(|of| of.kind != FieldType::Text) {
                return Err(format!(
                    "field '{}': minor_units is for a decimal, and names the field of type text that says its currency",
                    field.name
                ));
            }
        }
        let (name, columns) = (file.name, file.columns);
        Ok(Schema { name, fields, kinds, scored, default_kind, columns, slots, id, time, label_target, label_kind })
    }

    /// A schema of records that are no events: rows of a reference collection, answers of a service. The id is the field
    /// `id` and the time the field `time`, where such records have one; a record without either is no reject.
    pub(crate) fn of_rows(
        name: &str,
        mut fields: Vec<Field>,
        id: Option<&str>,
        time: Option<&str>,
    ) -> Result<Self, String> {
        for (field, role) in [(id, Role::Id), (time, Role::Time)] {
            let Some(field) = field else { continue };
            let named = fields.iter_mut().find(|one| one.name == field);
            named.ok_or_else(|| format!("'{field}' is not among its fields; add it"))?.role = role;
        }
        // Fields that no record has: a path may not be empty, so none leads to them.
        let unreachable = |name: &str, kind| Field {
            name: name.to_owned(),
            path: "\u{0}".to_owned(),
            kind,
            role: Role::Number,
            required: false,
            default: None,
            scale: 0,
            minor_units: None,
            format: TimeFormat::Millis,
            earliest: None,
            latest: None,
            aliases: Vec::new(),
            kinds: Vec::new(),
        };
        fields.push(unreachable("\u{0}id", FieldType::Text));
        fields.push(unreachable("\u{0}time", FieldType::Time));
        let (no_id, no_time) = (fields.len() - 2, fields.len() - 1);
        if id.is_none() {
            fields[no_id].role = Role::Id;
        }
        if time.is_none() {
            fields[no_time].role = Role::Time;
        }
        let file = SchemaFile {
            name: name.to_owned(),
            kinds: Vec::new(),
            scored: Vec::new(),
            default_kind: None,
            columns: Vec::new(),
            field: fields,
        };
        let mut schema = Self::resolve(file)?;
        // Only now, so that records are not asked for them.
        for absent in [no_id, no_time] {
            schema.fields[absent].role = Role::Number;
        }
        Ok(schema)
    }

    /// The columns of CSV files that have no header; empty: they have one.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The schema's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// All fields, by slot.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The field in a slot.
    #[inline]
    pub fn field(&self, slot: Slot) -> &Field {
        &self.fields[slot.0 as usize]
    }

    /// The slot of a field, by name.
    pub fn slot(&self, name: &str) -> Option<Slot> {
        self.slots.get(name).copied()
    }

    /// The first field of a role.
    pub fn slot_of_role(&self, role: Role) -> Option<Slot> {
        self.fields.iter().position(|field| field.role == role).map(|index| Slot(index as u16))
    }

    /// The slot of the id.
    pub fn id_slot(&self) -> Slot {
        self.id
    }

    /// The slot of the event time.
    pub fn time_slot(&self) -> Slot {
        self.time
    }

    /// Whether ids are integers or text.
    pub fn id_type(&self) -> IdType {
        if self.field(self.id).kind == FieldType::Int { IdType::Int } else { IdType::Text }
    }

    /// The slot of the id that a label is about.
    pub fn label_target_slot(&self) -> Option<Slot> {
        self.label_target
    }

    /// Whether a field belongs to records of a kind.
    pub fn belongs(&self, slot: Slot, kind: u16) -> bool {
        let kinds = &self.field(slot).kinds;
        kinds.is_empty() || kinds.contains(&self.kinds[kind as usize])
    }

    /// Whether a record of a kind is a reject without this field (withdrawals are asked for their id alone).
    pub fn demands(&self, slot: Slot, kind: u16) -> bool {
        let field = self.field(slot);
        if matches!(field.role, Role::Id | Role::Time) {
            return true;
        }
        if !field.required || !self.belongs(slot, kind) {
            return false;
        }
        let of_labels = matches!(field.role, Role::LabelTarget | Role::LabelValue | Role::AvailableAt);
        match self.label_kind {
            Some(label) if field.kinds.is_empty() => of_labels == (kind == label),
            _ => true,
        }
    }

    /// The kinds of events, by index.
    pub fn kinds(&self) -> &[String] {
        &self.kinds
    }

    /// The index of a kind.
    pub fn kind(&self, name: &str) -> Option<u16> {
        self.kinds.iter().position(|kind| kind == name).map(|index| index as u16)
    }

    /// The kind of records that do not name one.
    pub fn default_kind(&self) -> u16 {
        self.default_kind
    }

    /// Whether events of a kind get a score.
    #[inline]
    pub fn is_scored(&self, kind: u16) -> bool {
        self.scored[kind as usize]
    }
}

fn only(fields: &[Field], role: Role, name: &str) -> Result<Option<Slot>, String> {
    let mut found = fields.iter().enumerate().filter(|(_, field)| field.role == role);
    let first = found.next().map(|(index, _)| Slot(index as u16));
    match found.next() {
        Some((_, second)) => Err(format!("field '{}' is a second one with role = \"{name}\"; keep one", second.name)),
        None => Ok(first),
    }
}
