//! Identity: which accounts share devices, cards, addresses, and what is known of the clusters that this makes.
//!
//! ```text
//!  changes ─► [IdentityAsker] ── normalised values, by event ──► [IdentityView] ── slices, by origin ─► [judge]
//!                every worker          exchange to one worker      one owner of all links
//! ```
//!
//! An event links its account with each other value it names. The owner takes the events of an epoch in (event time, id)
//! order and answers each transaction with columns of its cluster, its own links included: membership exactly as of the
//! event, un-merged where a link has expired, was withdrawn, or a value has come above its cap. What it answers is as of
//! arrival: a late event finds the links that live now, and changes no earlier answer.
//!
//! | folder or file | holds |
//! | --- | --- |
//! | `spec`, `normalise` | what a researcher writes down; how values are compared |
//! | `request`, `turns`, `family` | the graph above |
//! | `view` | the owner: one event after the other |
//! | `memberships` | who is in which cluster, as a collection that is exact at every epoch |
//! | `image` | all that the owner holds, written down and read again |
//! | [`columns`] | what is read per cluster, and what its members add to it; tallies and flags |
//! | [`links`] | distinct links: live, carrying, capped, withdrawn, expired |
//! | [`graph`] | fully dynamic connectivity, which knows nothing of fraud |
//! | `propagate` | the same clusters by differential iteration, as a collection to join on |
//! | `twin` | the same columns from scratch |
//!
//! At every event: two values are in one cluster if and only if a path of links that carry leads from one to the other.
//!
//! Cost: see `benches/README.md`. One worker does it all.
//!
//! * A link that comes or goes in a component of up to 64 values touches its neighbours. In a larger one it costs O(log n)
//!   if it is on no cycle, or is in no tree; O(log² n) amortised else. Strong links are held twice: in the wide clusters
//!   with all facts, in the strong ones with the number of accounts alone.
//! * A value that crosses its cap costs that for each of its links that leads to more than 16 values, and little for the
//!   rest (`graph/bulk.rs`).
//! * Columns read totals. Those of a large cluster are known for as long as what goes takes neither its oldest member nor its
//!   last fraud with it, and is small; else they are added up when they are read: O(log n) per link or fact that has
//!   changed since they last were. The hub's share walks up to [`columns::HUB_MEMBERS_MAX`] members, frauds at a distance
//!   up to [`columns::DISTANCE_VALUES_MAX`] values, but for those of the last step that have no fraud beside them; both are
//!   missing beyond that. Every other column costs O(log n) or a look at the account's own links.
//! * Half a million links are written down in 0.3 s and read again in 0.7 s, or in 2 s where most are in one giant: linear,
//!   and nearly all of it waits for memory.
//! * Tallies add 96 bytes to what is kept of each value and each node of a large cluster, and 40 bytes per event counted
//!   while it counts (`columns/ledger.rs`). Without tallies neither is there.

pub mod columns;
mod family;
pub mod graph;
mod image;
pub mod links;
pub mod memberships;
pub mod normalise;
pub mod propagate;
mod request;
mod spec;
mod turns;
mod twin;
mod view;

pub use columns::tally::Flag;
pub use family::identity;
pub use image::{FrozenIdentity, IdentityImage};
pub use request::{EntityAsk, EntityRequest, stride};
pub use spec::{ClusterMeasure, EXPIRY_DEFAULT, EXPIRY_IP, Identity, IdentityPlan, LinkPlan, LinkSpec};
pub use turns::{IdentityAsker, IdentityView, Publishes};
pub use view::ClusterView;
