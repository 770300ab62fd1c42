//! What is read per cluster: columns, and what its members add to them.
//!
//! In: payments, known frauds, events that tallies count, by account. Out: the row of a transaction.
//!
//! | file | holds |
//! | --- | --- |
//! | `facts`, `tallied` | what is known of one value and of a cluster: integers that add up in any order |
//! | `tally` | tallies and flags: what a researcher writes down, resolved |
//! | `ledger`, `frauds` | by account, live links or not: what counts in a tally, which frauds are known |
//! | `read` | the columns of a transaction, from its cluster |
//!
//! At every event: a cluster's totals are those of the values that are members now, wherever they were when it happened.

mod facts;
mod frauds;
mod ledger;
mod read;
mod tallied;
pub mod tally;

pub use facts::{Bare, ClusterFacts, KINDS_MAX, Member, Payments, SPANS_MS, Tallies, ValueFacts};
pub use frauds::{FRAUD_MEMORY_MS, Frauds};
pub(super) use ledger::merged;
pub use ledger::{FrozenLedger, Ledger, TallyImage};
pub use read::{Before, ColumnReader, DISTANCE_MAX, DISTANCE_VALUES_MAX, HUB_MEMBERS_MAX};
pub use tallied::{Tallied, TalliedCluster};
