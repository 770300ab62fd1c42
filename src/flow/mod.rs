//! What operators say to each other, and what every operator must know of an epoch.
//!
//! ```text
//!  Arrival ─► [retain] ─ Change ─► [views] ─ Block of slices ─► [feature] ─► [score]
//!                 ▲                   │
//!                 └───── Touched ─────┘            Beyond, Reject ─► side output
//! ```
//!
//! * A [`Change`] says what happened to an event, and under which ticket its row is wanted. Views cut it into a [`Request`]
//!   per key and answer with rows of words in a [`Block`] ([`Replies`]).
//! * [`Touched`] names a transaction whose row is to be read again, one epoch later; [`Beyond`] one that is too old.
//! * A [`Binding`] says which records belong to an epoch, and all that its operators must know of it ([`Facts`]).

mod action;
mod arrival;
mod ask;
mod binding;
mod cause;
mod change;
mod control;
mod decoded;
mod facts;
mod history;
mod horizons;
mod owed;
mod place;
pub mod reference;
mod reject;
mod replies;
mod request;
mod shard;
mod touched;

pub use action::Action;
pub use arrival::Arrival;
pub use ask::Asker;
pub use binding::{Binding, Offer, Reach, Report, Word};
pub use cause::Cause;
pub use change::{Change, Changes, Label, NO_TICKET, Verb};
pub use control::{ControlGroup, ControlRecord, DeploymentNumber};
pub use decoded::Decoded;
pub use facts::{Dump, EpochFacts, Facts, Repair};
pub use history::{EpochInput, Labelled};
pub use horizons::Horizons;
pub use owed::{Owed, OwedBy};
pub use place::{LAST, Place, after, before};
pub use reference::ReferenceRecord;
pub use reject::{Reject, RejectReason};
pub use replies::Replies;
pub use request::{Ask, Block, HEAD, Outgoing, Request};
pub use shard::{EVERY_SHARD, SHARDS, owner_of, shard_of, worker_of};
pub use touched::{Beyond, Touched};

/// The differential timestamp.
pub type Epoch = u64;
