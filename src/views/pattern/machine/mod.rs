//! What runs over compiled patterns: the state of the keys of one group on one worker.
//!
//! ```text
//!  requests of an epoch ──► view ──► keys ──► changes ──► log, automaton ──► choose ──► matches with diffs
//!                            └── reads ◄── matches kept                                 touched stretches
//! ```
//!
//! What comes in: requests of an epoch ([`view::GroupView::apply`]) with the watermark, and a bound for expiry. What goes out:
//! features as of the events that ask, matches that come and go, and the stretches of rows that a change of earlier matches
//! has touched.
//!
//! What holds after each epoch: the matches of a key follow from its log alone, as `mod.rs` of the patterns defines them,
//! whatever the order in which the log was filled; `reached` is the latest event or passing of time that the key's automata
//! have seen; and each absence that waits has a deadline.
//!
//! [`view::GroupView::dump`] gives what is kept as plain data ([`image`]), for any part of the keys; loaded anywhere, the
//! keys go on as they would have.
//!
//! An event costs a step of each program that it concerns; one in any other place of the log than the end has what it
//! reaches taken again (`replay.rs`).

pub mod automaton;
pub mod calendar;
pub mod changes;
pub mod choose;
pub mod evaluate;
mod first_count;
pub mod history;
pub mod image;
pub mod keys;
pub mod log;
mod replay;
pub mod run;
pub mod state;
pub mod view;
