//! What the engine says of a transaction: the decision made at arrival, and what it would say now.

use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::event::Event;
use crate::flow::{Action, Cause, DeploymentNumber, Epoch};

/// A feature that moved a score, with its value and its contribution to the log odds. Equal if the bits are: a missing
/// value (NaN) equals itself.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Reason {
    /// Column of the feature row.
    pub column: u16,
    /// The feature's value.
    pub value: f64,
    /// Contribution to the log odds, rounded to 1/1000.
    pub contribution: f64,
}

impl PartialEq for Reason {
    fn eq(&self, other: &Self) -> bool {
        let bits = |reason: &Reason| (reason.column, reason.value.to_bits(), reason.contribution.to_bits());
        bits(self) == bits(other)
    }
}

/// Rules, by number; a word where there are none.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RuleNumbers(Option<Box<Box<[u32]>>>);

impl From<Vec<u32>> for RuleNumbers {
    fn from(rules: Vec<u32>) -> Self {
        RuleNumbers((!rules.is_empty()).then(|| Box::new(rules.into())))
    }
}

impl Deref for RuleNumbers {
    type Target = [u32];

    fn deref(&self) -> &[u32] {
        self.0.as_deref().map_or(&[], |rules| rules)
    }
}

/// What the engine says of a transaction, given what is known now. Equal if the champion says the same: then nothing is sent.
/// What other models say stands beside it, and revises nothing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Assessment {
    /// The action that follows from the score and the rules.
    pub action: Action,
    /// The champion's score and what rules add to it, in 1/16384.
    pub score: u16,
    /// Every deployed model's score, in the order of its deployment, in 1/16384: those of the others are as they were when the champion's
    /// assessment last changed.
    pub scores: Box<[u16]>,
    /// The rules that match, by number, those first that say what is done.
    pub rules: RuleNumbers,
    /// Rules in shadow that matched when this assessment was made; they stand beside it, as other models do.
    pub shadow: RuleNumbers,
    /// What moved the champion's score most; only where the action is not `allow`.
    pub reasons: Box<[Reason]>,
}

impl PartialEq for Assessment {
    fn eq(&self, other: &Self) -> bool {
        let of = |one: &Self| (one.action, one.score);
        of(self) == of(other) && self.rules == other.rules && self.reasons == other.reasons
    }
}

/// Instead of a model's number where rules alone decide.
pub const NO_MODEL: u16 = u16::MAX;

/// The decision made at arrival. It never changes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Decision {
    /// What was done.
    pub action: Action,
    /// The score then, in 1/16384.
    pub score: u16,
    /// The rules that matched then, by number.
    pub rules: RuleNumbers,
    /// The number of the model that decided ([`super::control::Deployments::model`]), or [`NO_MODEL`].
    pub model: u16,
    /// The deployment that was in force; what is known later is assessed under it, too.
    pub deployment: DeploymentNumber,
}

/// One output record: an assessment that holds (+1), one that no longer does (-1), or the end of a transaction.
#[derive(Clone, Debug)]
pub struct ScoredDiff {
    /// The transaction.
    pub event: Arc<Event>,
    /// How often its assessment has changed.
    pub revision: u32,
    /// +1 or -1; 0 for the tombstone after a withdrawal.
    pub diff: i8,
    /// The epoch it belongs to.
    pub epoch: Epoch,
    /// Why.
    pub cause: Cause,
    /// The decision made at arrival.
    pub decision: Decision,
    /// What is said; `None` for a tombstone.
    pub assessment: Option<Assessment>,
    /// When the record behind it was taken in, nanoseconds on the process's clock.
    pub arrived_ns: u64,
}
