//! ④ Retained transactions: arrivals in, changes out.
//!
//! ```text
//!  arrivals ─┐ exchange by id
//!            ▼
//!        [upsert] ── changes ──► views ── slices, by origin ──► feature
//!            ▲                     │
//!            └── touched ids, one epoch later
//! ```
//!
//! * `upsert` holds the retained events by id: it recognises duplicates, turns corrections and withdrawals into changes,
//!   joins labels to their targets and sends everything too late to the side output.
//! * `keep` holds what was looked up on arrival, so that a row read again sees what its first row saw.
//! * `beyond` publishes the changes that touched rows too old to be revised.

pub mod beyond;
pub mod keep;
pub mod upsert;
mod verdict;
