//! What an epoch does to what is kept.

use super::Match;
use crate::event::{Id, Key};
use crate::flow::Cause;
use crate::flow::Place;

/// What an epoch has done to the keys of a group, or to a graph of transfers.
#[derive(Debug, Default)]
pub struct PatternOutcome {
    /// Matches that came and went, with diff.
    pub matches: Vec<(Match, isize)>,
    /// Rows of these keys are touched.
    pub touched: Vec<TouchedStretch>,
}

/// Rows of a key that a change of its matches has touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TouchedStretch {
    /// The key.
    pub key: Key,
    /// The first row that may be touched.
    pub from: Place,
    /// Event time of the last one, milliseconds.
    pub until_ms: i64,
    /// Why.
    pub cause: Cause,
    /// The event that changed.
    pub id: Id,
}
