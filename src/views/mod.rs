//! ⑤ Views: what is maintained per key, and answers the tickets of changes with slices of feature rows.
//!
//! ```text
//!  [retain: askers] ── requests, by key ──► [velocity | identity | look-ups | patterns] ── slices, by origin ──► [judge]
//!        ▲                                                 │
//!        └───────── touched ids, one epoch later ──────────┘
//! ```
//!
//! * [`velocity`] holds one [`velocity::store::Store`] per key kind: windows over the events of a key.
//! * [`identity`] holds the links between accounts and what they share, and their clusters.
//! * [`pattern`] holds the events of a key that patterns look at, and their matches.
//! * [`lookup`] holds rows of reference tables and answers of services.
//!
//! Each applies the requests of an epoch, reads as of the event, and reports which earlier rows a late, corrected or withdrawn
//! event has touched. Those are read again one epoch later, so many as the budget allows; the rest is the backlog.
//!
//! At every closed epoch: a feature read for event x is a function of the set of retained events at or before x, however
//! they arrived; with no backlog, what has been emitted for every retained event is that function's value.

mod family;
pub mod identity;
pub mod lookup;
pub mod pattern;
pub mod velocity;

pub use family::{Family, FamilyInputs, FamilyOutputs, Timing};
