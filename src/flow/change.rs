//! What happened to a transaction in an epoch, and why.

use std::rc::Rc;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Cause;
use crate::event::Event;

/// What a label says about its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Label {
    /// When it became known, milliseconds of event time.
    pub available_at: i64,
    /// True: fraud.
    pub fraud: bool,
}

/// What is to be done with an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// It is new (or new again, with corrected content).
    Insert,
    /// It is gone.
    Remove,
    /// It got its first label.
    Label,
    /// Its label changed.
    Relabel,
    /// Its features are to be read again.
    Read,
}

/// One change of one event.
#[derive(Clone, Debug)]
pub struct Change {
    /// The event.
    pub event: Arc<Event>,
    /// Its label, if one is known.
    pub label: Option<Label>,
    /// What is to be done.
    pub verb: Verb,
    /// The number of its transaction on this worker.
    pub number: u32,
    /// The place of its row in this epoch's rows on this worker; [`NO_TICKET`] if no row is asked for.
    pub ticket: u32,
    /// Rows of this event asked for before this one.
    pub row_revision: u32,
    /// Why.
    pub cause: Cause,
    /// When the record behind it was taken in, nanoseconds on the process's clock.
    pub arrived_ns: u64,
}

/// The changes of an epoch on one worker, shared by all who look at them.
pub type Changes = Rc<Vec<Change>>;

/// No feature row is asked for.
pub const NO_TICKET: u32 = u32::MAX;
