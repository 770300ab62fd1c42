//! What flows: events, the schema that gives their fields a place, identifiers and keys.
//!
//! An [`Event`] is a row: a few fixed fields (id, kind, operation, event time) and one *cell* of eight bytes per field
//! of the [`Schema`], with text in one shared buffer behind the cells. The schema is read once, at start; everything
//! after it addresses a field by its slot.
//!
//! An event's `id` is an upsert key. Sending an id again with the same content is a duplicate, with other content a
//! correction; `op = withdraw` takes it back (see [`Op`]).

mod csv;
pub(crate) mod currency;
#[allow(clippy::module_inception, reason = "the event itself stands beside its schema and ids")]
mod event;
mod field;
mod id;
pub(crate) mod json;
mod lane;
mod names;
mod outline;
mod raw;
mod record;
mod schema;

pub(crate) use csv::Columns;
pub use csv::{CsvHeader, Quoting};
pub use event::{Event, EventBuilder, Op};
pub use field::{Field, FieldType, IdType, Role, TimeFormat};
pub use id::{Id, Key, MapKey};
pub use json::JsonEncoder;
pub use lane::{InputStream, Lane, LaneError};
pub use names::nearest;
pub use outline::{EventMigration, SchemaOutline};
pub(crate) use raw::as_bytes;
pub use raw::{Raw, Stand};
pub use record::{Limits, OF_RECORD, Origin, Partition, Payload, Record};
pub use schema::{Schema, SchemaError, Slot};
