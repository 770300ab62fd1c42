//! What a change has touched: rows to be read again, and rows too old for that.

use serde::{Deserialize, Serialize};

use super::{Cause, Reject, RejectReason};
use crate::event::{Id, IdType, Lane, Raw};

/// A transaction whose features were touched by something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Touched {
    /// The transaction.
    pub id: Id,
    /// What touched it.
    pub cause: Cause,
}

/// Rows of one key that a change has touched and that are not revised.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Beyond {
    /// The event that was changed.
    pub id: Id,
    /// What it changes, and of which key kind: "features of key 'card'".
    pub what: String,
    /// How it was changed.
    pub cause: Cause,
    /// Its event time, milliseconds.
    pub time_ms: i64,
    /// Event time of the first row touched, milliseconds.
    pub from_ms: i64,
    /// No row after this is among them, milliseconds.
    pub until_ms: i64,
}

impl Beyond {
    /// Takes in what the same change has touched elsewhere.
    pub fn join(&mut self, other: Beyond) {
        self.cause = self.cause.min(other.cause);
        self.time_ms = self.time_ms.min(other.time_ms);
        self.from_ms = self.from_ms.min(other.from_ms);
        self.until_ms = self.until_ms.max(other.until_ms);
    }

    /// The record that says so.
    pub fn reject(self, ids: IdType) -> Reject {
        let Beyond { id, what, cause, time_ms, from_ms, until_ms } = self;
        let cause = cause.name();
        let message = format!(
            "{cause} at {time_ms} changes {what} in rows from {from_ms} to {until_ms}, which are too old to be revised"
        );
        Reject {
            lane: Lane::NOWHERE,
            offset: 0,
            timestamp_ms: time_ms,
            reason: RejectReason::BeyondHorizon,
            message,
            id: id.written(ids),
            raw: Raw::default(),
        }
    }
}
