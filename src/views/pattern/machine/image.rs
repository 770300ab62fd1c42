//! What is kept of keys as plain data, to be written at a cut and read by whoever owns the keys afterwards.
//!
//! An image has what decides later outputs and does not follow from the rest: the events with their columns, and what is
//! known of their conditions over the key's history, which may have been found out from events that have expired since; runs
//! and candidates; and how far the key has come. Where cells begin, deadlines, counts of bytes, and the place from which a
//! first count looks back are found out anew.
//!
//! Images are in the order of keys, and each is a function of what the key has been through: no hash table shows.

use serde::{Deserialize, Serialize};

use super::automaton::Automaton;
use super::log::LoggedEvent;
use crate::event::Key;
use crate::flow::Place;

/// Keys of a group.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GroupImage {
    /// In the order of the keys.
    pub keys: Vec<KeyImage>,
}

/// One key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeyImage {
    /// The key.
    pub key: Key,
    /// How far its runs have come.
    pub reached: Place,
    /// Its events.
    pub log: LogImage,
    /// What its patterns keep, those that keep something.
    pub automata: Vec<AutomatonImage>,
}

/// The events of a key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LogImage {
    /// In order.
    pub entries: Vec<LoggedEvent>,
    /// Their cells, one entry's after the other's.
    pub cells: Vec<u64>,
}

/// What a pattern keeps of a key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AutomatonImage {
    /// The number of the pattern in its group.
    pub program: u16,
    /// What it keeps.
    pub kept: Automaton,
}
