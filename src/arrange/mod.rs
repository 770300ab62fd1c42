//! ④ Arrange: the retained events, by id and by key, and the views maintained over them.
//!
//! ```text
//!  arrivals ─┐ exchange by id
//!            ▼
//!        [upsert] ── changes ──┬──────────────────────────────► [assemble]
//!            ▲                 ▼                                   ▲
//!            │             [project] ── requests, by key ──► [keyed] ── slices, by origin
//!            │                                                  │
//!            └───────────── touched ids, one epoch later ───────┘
//! ```
//!
//! * `upsert` holds the retained events by id: it recognises duplicates, turns corrections and withdrawals into changes,
//!   joins labels to their targets and sends everything too late to the side output.
//! * `project` cuts an event into one narrow row per key (key, time, id, mask, columns) and sends it to the key's worker.
//! * `keyed` holds one [`velocity::Store`] per key kind. It applies the rows of an epoch, reads features as of the event,
//!   and reports which earlier rows a late, corrected or withdrawn event has touched. Those are read again one epoch
//!   later, so many as the budget allows; the rest is the backlog.
//!
//! Beside `keyed` stand the families: operators of their own that answer the same tickets ([`crate::feature::Family`]). What
//! they look up on arrival goes through `keep`, so that a row read again sees what its first row saw.
//!
//! At every closed epoch: a feature read for event x is a function of the set of retained events at or before x, however
//! they arrived; with no backlog, what has been emitted for every retained event is that function's value.
//!
//! Cost: eight words per event and key through one exchange, one look-up and a few cache lines per key.

pub mod backlog;
pub mod beyond;
pub mod change;
pub mod enrich;
pub mod identity;
pub mod keep;
pub mod keyed;
pub mod pattern;
pub mod project;
pub mod replies;
pub mod request;
pub mod upsert;
pub mod velocity;
mod verdict;
mod with_slices;

pub(crate) use with_slices::with_slices;
