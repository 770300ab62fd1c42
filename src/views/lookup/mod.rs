//! Joins: what is known of a merchant, a card range, a customer, an address from elsewhere.
//!
//! ```text
//!  files, compacted topics, services ──► source::tables, source::services ──► records, bound to epochs
//!                                                                                    │ by key
//!  changes ──► [ask] ── requests, by key ──────────────────────────────────► [look up] ─► slices, by origin
//!     ▲                                                                          │
//!     └──────────── touched ids (live joins), one epoch later ───────────────────┘
//! ```
//!
//! In: [`ReferenceRecord`](crate::flow::ReferenceRecord)s, each a versioned upsert or deletion of one key's row (or of a
//! whole network file), bound to epochs by the same bindings as events; and changes of events. Out: the columns of an [`Enrich`] spec.
//!
//! **What is visible.** A look-up *as of arrival* sees what came in an earlier epoch, or in the same epoch earlier in
//! (event time, id) order. A record without a time of its own comes before all events of its epoch; one with a time comes
//! before the events of the same millisecond and after those of earlier ones. Records of one lane keep their order:
//! one that carries a time before its predecessor's takes the predecessor's. In later epochs all records are visible
//! whatever their time. Such a look-up is never revised; `retain::keep` holds what it answered.
//!
//! A *live* join sees the row as it is at the end of the epoch, answers reads too, and when a record changes one of its
//! columns it has the transactions that looked at the key read again, as long as they are younger than the revise
//! horizon, at most so many per epoch as the repair budget allows. Answers of services are live joins on the event's own
//! id: an answer that comes after the budget is a change like any other.
//!
//! **Where rows live.** What can be cut by key is cut: a table's rows live on the worker that owns the key, and look-ups
//! travel there, as velocity's do. A network file cannot be cut by an address's hash: every worker has it, and look-ups do
//! not travel. The workers of the process that reads the file share one copy of it, those of others hold one each.
//!
//! At every closed epoch, a row's columns are a function of the bound records alone: the same journal and the same
//! input log (`source::tables`) give the same output.
//!
//! Cost: one small request and reply per look-up; 16 bytes of key and 8 bytes per field of a row plus about 60 of map and
//! reference; for a live join about 40 bytes per transaction within the horizon.

mod asker;
mod family;
mod image;
mod network;
mod plan;
mod rows;
mod spec;
mod table;
mod twin;
mod view;

pub use asker::LookupAsker;
pub use image::{LookupImage, NetworksImage};
pub use network::Networks;
pub use plan::{EnrichPlan, KeyOf, PlannedColumn, Question};
pub use rows::ReferenceRows;
pub use spec::Enrich;
pub use table::LookupTable;
pub use view::LookupView;
