//! What an engine keeps state for: what decides whether an image that one has written is of use to another.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::event::SchemaOutline;

/// The layout of all that an engine keeps. Two engines with the same one read each other's images as they are; of others, parts
/// with the same fingerprint, and transactions, whose fields are found by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnginePlan {
    /// The parts of the views, by the name that they are filed under, with a hash of all that decides what they keep.
    pub parts: BTreeMap<String, u64>,
    /// The columns of feature rows; behind them those that rows once had and that something said still names.
    pub columns: Vec<String>,
    /// What is kept of look-ups with each transaction: columns by the number of the look-up.
    pub looked_up: BTreeMap<u16, Vec<String>>,
    /// What code that no spec shows makes of events.
    pub version: u32,
    /// What events consist of.
    pub schema: SchemaOutline,
}

/// What transactions are filed under. Built anew, they have the fields that were added; those that the journal does not reach are
/// kept as they were.
pub const TRANSACTIONS_IMAGE: &str = "transactions";

/// From the plan of the engine that wrote an image to that of the one that loads it.
#[derive(Clone, Debug)]
pub struct Renewal {
    /// The plan that it was written for.
    pub earlier: Arc<EnginePlan>,
    /// The plan that it is loaded for, which remembers the columns of the other.
    pub plan: Arc<EnginePlan>,
}

/// What a part of a view is filed under.
pub fn name_of_part(view: &str, part: &str) -> String {
    if part.is_empty() { view.to_owned() } else { format!("{view} {part}") }
}

impl EnginePlan {
    /// Takes up the columns of an earlier plan that this one has not: what was said then may name them.
    pub fn remember(&mut self, earlier: &EnginePlan) {
        let gone: Vec<&String> = earlier.columns.iter().filter(|column| !self.columns.contains(column)).collect();
        self.columns.extend(gone.into_iter().cloned());
    }

    /// Parts of this plan that an earlier one has not, or otherwise.
    pub fn new_parts(&self, earlier: &EnginePlan) -> BTreeSet<&str> {
        let retyped = self.version != earlier.version || self.schema.retypes(&earlier.schema);
        let is_new = |(name, fingerprint): &(&String, &u64)| {
            retyped
                || earlier.parts.get(*name) != Some(*fingerprint)
                || *name == TRANSACTIONS_IMAGE && self.schema != earlier.schema
        };
        self.parts.iter().filter(is_new).map(|(name, _)| &**name).collect()
    }
}
