//! Why a scored diff is sent.

use serde::{Deserialize, Serialize};

/// Why a scored diff is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Cause {
    /// The transaction came in.
    Arrival,
    /// An event came in late and belongs before this one.
    LateEvent,
    /// This event, or one before it, was corrected.
    Correction,
    /// This event, or one before it, was withdrawn.
    Withdrawal,
    /// A label became known.
    Label,
    /// A rule changed.
    Rule,
    /// A model changed.
    Model,
    /// Reference data changed.
    Reference,
}

impl Cause {
    /// The name used in outputs.
    pub fn name(self) -> &'static str {
        match self {
            Cause::Arrival => "arrival",
            Cause::LateEvent => "late_event",
            Cause::Correction => "correction",
            Cause::Withdrawal => "withdrawal",
            Cause::Label => "label",
            Cause::Rule => "rule",
            Cause::Model => "model",
            Cause::Reference => "reference",
        }
    }

    /// The inverse of `self as u8`; unknown numbers are `Reference`.
    pub(crate) fn from_u8(number: u8) -> Self {
        use Cause::*;
        [Arrival, LateEvent, Correction, Withdrawal, Label, Rule, Model]
            .get(number as usize)
            .copied()
            .unwrap_or(Reference)
    }
}
