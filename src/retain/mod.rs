//! ④ Retained transactions: arrivals in; changes, and what they ask of the views, out.
//!
//! ```text
//!  arrivals ─┐ exchange by id
//!            ▼
//!        [retain] ── requests, by key ──► views ── slices, by origin ──► [judge]
//!            ▲  └──────────────────────── changes ─────────────────────────┘
//!            └── touched ids, one epoch later
//! ```
//!
//! A transaction is one record ([`Transaction`]): the event and its labels, what its look-ups answered, and what was last said of
//! it. `arrivals` has the rules by which records of an epoch become changes: duplicates, corrections, withdrawals, labels, what
//! is too late. For each change the views are asked ([`crate::flow::Asker`]); the record waits for their answers, which the one who
//! judges adds to it ([`crate::score::judge`]). `beyond` publishes the changes that touched rows too old to be revised.

pub(crate) mod arrivals;
pub mod beyond;
mod image;
pub mod kept;
mod operator;
mod records;
mod verdict;

pub use operator::{RetainInputs, Retained, retain};
pub use records::{Records, SharedRecords, Transaction};
