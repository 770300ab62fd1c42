//! The control room: what decides on transactions, and how it changes while the engine runs.
//!
//! ```text
//!  message (JSON) ─► [message: parsed] ─► [change: checked against the deployment before] ─► a deployment (scorer) and its number
//!                                                                                               │
//!  transaction ─► number in force at its arrival ────────────────────────────► [deployments] ───┴─► rules, models, thresholds
//! ```
//!
//! A *deployment* is all that decides beside the features: models with their roles, rules, thresholds. It has a number: 0 is what the run
//! was started with, and each group of messages that takes effect makes the next one. The epoch says which one is in force
//! ([`crate::flow::Facts::deployment`]), a transaction keeps the one of its arrival, and what is known of it later is assessed under
//! that one, too: a new rule revises nothing of the past.
//!
//! Deployments are made by a thread beside the workers, in every process from the same messages ([`crate::flow::ControlGroup`]), before
//! the epoch is bound that switches to them. So no transaction waits for a model to load, and every worker, a restart and a replay of
//! the journal switch at the same event.

mod change;
mod deployments;
mod message;
mod names;

pub use change::{Workshop, files_hash};
pub use deployments::{ControlHistory, Deployments, Tried};
pub use message::{ControlChange, ControlMessage, MESSAGE_VERSION, WantedModel};
