//! What a reference collection, a network file or an outside service is: its declaration.
//!
//! ```toml
//! [[reference]]                      # a collection of rows by key
//! name = "merchants"
//! key = ["merchant_id"]              # one field, or two
//! source = "merchants.csv.gz"        # or kafka:TOPIC (compacted); --reference merchants=... overrides it
//! required = true                    # an error if no source is named; else the collection is then empty
//! poll_ms = 30000                    # files: look for a new version this often; default: never
//! time = "updated_at"                # optional: from when on a row is visible within its epoch
//! field = [
//!     { name = "merchant_id", type = "text" },
//!     { name = "risk", type = "float", default = "0.5" },
//!     { name = "updated_at", type = "time" },
//! ]
//!
//! [[networks]]                       # a MaxMind-format file
//! name = "networks"
//! source = "networks.mmdb"
//! field = [ { name = "country", path = "country.iso_code", type = "text" } ]
//!
//! [[service]]                        # an outside service, asked for every transaction
//! name = "ip_risk"
//! ask = "http://127.0.0.1:8080/ip/{key}"
//! field = [ { name = "score", type = "float" } ]
//! ```
//!
//! Fields are written as in an event schema ([`crate::event::Field`]).

use std::sync::Arc;

use serde::Deserialize;
use xxhash_rust::xxh3::xxh3_64;

use crate::event::{Event, Field, FieldType, Key, Schema, Slot};
use crate::flow::reference::{Cells, MISSING};

/// What is behind a reference.
#[derive(Clone, Debug, PartialEq)]
pub enum ReferenceKind {
    /// Rows by key, from a file or a compacted topic.
    Table,
    /// Networks of addresses, from a MaxMind-format file.
    Networks,
    /// Answers of an outside service.
    Service(ServiceSettings),
}

/// How an outside service is asked. Each limit has a name and a default.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceSettings {
    /// Where: `http://host/path/{key}`, `redis://host/` or `postgres://user@host/db`.
    pub ask: String,
    /// What to ask a database: a Redis key pattern such as `risk:{key}`, an SQL query with `$1` for the key.
    #[serde(default)]
    pub query: Option<String>,
    /// How long a transaction waits for answers, milliseconds.
    #[serde(default = "budget_ms")]
    pub budget_ms: u64,
    /// How long a request may take; an answer after the budget revises. Milliseconds.
    #[serde(default = "timeout_ms")]
    pub timeout_ms: u64,
    /// How long an answer is used again, milliseconds of wall time; 0: never.
    #[serde(default = "cache_ms")]
    pub cache_ms: u64,
    /// Answers that are kept for that at most.
    #[serde(default = "cache_entries_max")]
    pub cache_entries_max: usize,
    /// Requests under way at once, per worker.
    #[serde(default = "in_flight_max")]
    pub in_flight_max: usize,
    /// Requests that may wait for their turn, per worker; beyond it the fallback is used at once.
    #[serde(default = "queue_max")]
    pub queue_max: usize,
    /// So many failures in a row stop further requests ...
    #[serde(default = "failures_max")]
    pub failures_max: u32,
    /// ... for this long, milliseconds; then one request tries again.
    #[serde(default = "pause_ms")]
    pub pause_ms: u64,
}

fn budget_ms() -> u64 {
    20
}
fn timeout_ms() -> u64 {
    1_000
}
fn cache_ms() -> u64 {
    60_000
}
fn cache_entries_max() -> usize {
    100_000
}
fn in_flight_max() -> usize {
    16
}
fn queue_max() -> usize {
    4_096
}
fn failures_max() -> u32 {
    5
}
fn pause_ms() -> u64 {
    1_000
}

/// A resolved declaration.
#[derive(Clone, Debug, PartialEq)]
pub struct Reference {
    name: String,
    kind: ReferenceKind,
    source: Option<String>,
    poll_ms: Option<u64>,
    required: bool,
    schema: Arc<Schema>,
    key: Vec<Slot>,
    timed: bool,
    /// The fields whose values a row keeps: all but the key's.
    kept: Vec<Slot>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Declarations {
    #[serde(default)]
    reference: Vec<TableDeclaration>,
    #[serde(default)]
    networks: Vec<NetworksDeclaration>,
    #[serde(default)]
    service: Vec<ServiceDeclaration>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TableDeclaration {
    name: String,
    key: OneOrMore,
    source: Option<String>,
    poll_ms: Option<u64>,
    #[serde(default)]
    required: bool,
    time: Option<String>,
    field: Vec<Field>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NetworksDeclaration {
    name: String,
    source: Option<String>,
    poll_ms: Option<u64>,
    #[serde(default)]
    required: bool,
    field: Vec<Field>,
}

#[derive(Deserialize)]
struct ServiceDeclaration {
    name: String,
    field: Vec<Field>,
    #[serde(flatten)]
    settings: ServiceSettings,
}

impl Reference {
    /// Reads declarations from TOML. Errors are one line that names the reference.
    pub fn parse(text: &str) -> Result<Vec<Arc<Reference>>, String> {
        let all: Declarations = toml::from_str(text)
            .map_err(|error| format!("references: {}", error.to_string().trim_end().replace('\n', " | ")))?;
        let mut references = Vec::new();
        for one in all.reference {
            let name = one.name.clone();
            references.push(Self::table(one).map_err(|reason| format!("reference '{name}': {reason}"))?);
        }
        for NetworksDeclaration { name, source, poll_ms, required, field } in all.networks {
            let built = Self::build(&name, ReferenceKind::Networks, field, &[], None);
            let built = built.map_err(|reason| format!("networks '{name}': {reason}"))?;
            references.push(Reference { source, poll_ms, required, ..built });
        }
        for ServiceDeclaration { name, field, settings } in all.service {
            let built =
                settings.check().and_then(|()| Self::build(&name, ReferenceKind::Service(settings), field, &[], None));
            references.push(built.map_err(|reason| format!("service '{name}': {reason}"))?);
        }
        for (index, one) in references.iter().enumerate() {
            if references[..index].iter().any(|other| other.name == one.name) {
                return Err(format!("reference '{}' is declared twice; rename one", one.name));
            }
        }
        Ok(references.into_iter().map(Arc::new).collect())
    }

    /// One of the declarations of a text.
    pub fn named(text: &str, name: &str) -> Result<Arc<Reference>, String> {
        let all = Self::parse(text)?;
        let known = || all.iter().map(|one| one.name.as_str()).collect::<Vec<_>>().join(", ");
        all.iter()
            .find(|one| one.name == name)
            .cloned()
            .ok_or_else(|| format!("no reference '{name}' is declared; there are: {}", known()))
    }

    fn table(one: TableDeclaration) -> Result<Self, String> {
        let key = match one.key {
            OneOrMore::One(field) => vec![field],
            OneOrMore::More(fields) => fields,
        };
        if key.is_empty() || key.len() > 2 {
            return Err(format!("its key has {} fields; a key is one field or a pair", key.len()));
        }
        let mut of_key = one.field.iter().filter(|field| key.contains(&field.name));
        if let Some(field) = of_key.find(|field| !matches!(field.kind, FieldType::Int | FieldType::Text)) {
            return Err(format!("key '{}' must be of type int or text", field.name));
        }
        let built = Self::build(&one.name, ReferenceKind::Table, one.field, &key, one.time.as_deref())?;
        Ok(Reference { source: one.source, poll_ms: one.poll_ms, required: one.required, ..built })
    }

    fn build(
        name: &str,
        kind: ReferenceKind,
        mut fields: Vec<Field>,
        key: &[String],
        time: Option<&str>,
    ) -> Result<Self, String> {
        // A row without its key is nothing; this also covers the second field of a pair.
        fields.iter_mut().filter(|field| key.contains(&field.name)).for_each(|field| field.required = true);
        let count = fields.len();
        let schema = Schema::of_rows(name, fields, key.first().map(String::as_str), time)?;
        let slot =
            |field: &String| schema.slot(field).ok_or_else(|| format!("'{field}' is not among its fields; add it"));
        let key: Vec<Slot> = key.iter().map(slot).collect::<Result<_, _>>()?;
        let op = schema.slot_of_role(crate::event::Role::Op);
        let kept = (0..count as u16).map(Slot).filter(|slot| !key.contains(slot) && Some(*slot) != op).collect();
        let (name, timed) = (name.to_owned(), time.is_some());
        Ok(Reference {
            name,
            kind,
            source: None,
            poll_ms: None,
            required: false,
            schema: Arc::new(schema),
            key,
            timed,
            kept,
        })
    }

    /// The name, by which the command line knows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is behind it.
    pub fn kind(&self) -> &ReferenceKind {
        &self.kind
    }

    /// The declared source: a path or `kafka:TOPIC`.
    pub fn source(&self) -> Option<&str> {
        self.source.as_deref()
    }

    /// Whether it must have a source; without one the collection is empty.
    pub fn required(&self) -> bool {
        self.required
    }

    /// How often a file is looked at for a new version, milliseconds; `None`: never.
    pub fn poll_ms(&self) -> Option<u64> {
        self.poll_ms
    }

    /// How its rows are decoded.
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// Whether its records have a time of their own.
    pub fn timed(&self) -> bool {
        self.timed
    }

    /// The fields of its key.
    pub fn key_fields(&self) -> impl Iterator<Item = &Field> {
        self.key.iter().map(|&slot| self.schema.field(slot))
    }

    /// The fields that a row keeps, in the order of its cells.
    pub fn kept_fields(&self) -> impl Iterator<Item = &Field> {
        self.kept.iter().map(|&slot| self.schema.field(slot))
    }

    /// The place of a field among a row's cells.
    pub fn cell_of(&self, field: &str) -> Option<usize> {
        self.kept_fields().position(|kept| kept.name == field)
    }

    /// The key of a decoded row.
    pub fn key_of(&self, row: &Event) -> Option<Key> {
        let mut keys = self.key.iter().map(|&slot| row.key(slot, &self.schema));
        let first = keys.next()??;
        match keys.next() {
            Some(second) => second.map(|second| first.pair(second)),
            None => Some(first),
        }
    }

    /// The values that a decoded row keeps.
    pub fn cells_of(&self, row: &Event) -> Cells {
        self.kept.iter().map(|&slot| cell(self.schema.field(slot), row, slot)).collect()
    }
}

impl ServiceSettings {
    /// Whether its address and limits make sense.
    pub(crate) fn check(&self) -> Result<(), String> {
        let known = ["http://", "https://", "redis://", "postgres://", "postgresql://"];
        if !known.iter().any(|scheme| self.ask.starts_with(scheme)) {
            return Err(format!("ask = \"{}\" is no http, redis or postgres address", self.ask));
        }
        for (name, value) in [
            ("timeout_ms", self.timeout_ms),
            ("in_flight_max", self.in_flight_max as u64),
            ("queue_max", self.queue_max as u64),
            ("failures_max", self.failures_max.into()),
        ] {
            if value == 0 {
                return Err(format!("{name} must be above 0"));
            }
        }
        Ok(())
    }
}

/// The value of a field: the bits of a double, the fingerprint of a text, or [`MISSING`].
fn cell(field: &Field, row: &Event, slot: Slot) -> u64 {
    let number = match field.kind {
        FieldType::Text => return row.text(slot).map_or(MISSING, fingerprint),
        FieldType::Float => row.float(slot),
        FieldType::Decimal => row.int(slot).map(|units| units as f64 / 10f64.powi(field.scale.into())),
        FieldType::Int | FieldType::Bool | FieldType::Time => row.int(slot).map(|value| value as f64),
    };
    number.map_or(MISSING, f64::to_bits)
}

/// Sixty-four bits that stand for a text, the same on every machine and after every restart; never [`MISSING`].
pub fn fingerprint(text: &str) -> u64 {
    let hash = xxh3_64(text.as_bytes());
    if hash == MISSING { !hash } else { hash }
}
