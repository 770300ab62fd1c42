//! ② Decode: records in, events or rejects out.
//!
//! In: [`Record`](crate::event::Record)s, JSON objects or CSV lines. Out: [`Event`](crate::event::Event)s by the
//! schema, or [`Reject`](crate::flow::Reject)s. Nothing a record contains can stop the pipeline: what is not an event
//! becomes a reject with its raw bytes, its source coordinates and the reason.
//!
//! ```text
//! bytes --json (sonic-rs) or csv--> scalars --value: by field type--> cells --row: kind, op, defaults, demands--> event
//! ```
//!
//! What holds:
//!
//! * Both JSON parsers (sonic-rs, and serde_json as the slow twin) drive the same row decoder and give the same events
//!   and the same classes of rejects for any bytes.
//! * A field's last value counts if a key is repeated, and the repetition is counted; null counts as missing. A field's own path wins over its
//!   aliases, wherever they stand. Fields that the schema does not name are skipped and counted.
//! * A number means its digits: they are never rounded to a double on the way to an integer or a decimal.
//! * A withdrawal needs its id alone; without a time it has time 0. Defaults are not filled in for it.
//! * The texts of `kind` and `op` are not kept as cells, since [`Event::kind`](crate::event::Event) and `op` hold them.
//!
//! Cost: two allocations per event, and one per JSON text with escapes; about 50 ns per field that is read and 25 ns per
//! field that is skipped (`tests/decode/speed.rs` measures it).

mod csv;
mod decoder;
mod json;
mod money;
mod paths;
mod reference;
mod row;
mod time;
mod value;

pub use decoder::{Counters, Decoder, JsonParser};
