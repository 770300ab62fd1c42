//! Rules: conditions in the Common Expression Language over features, fields of the event, lists and the champion's score, and what
//! follows from those that match.
//!
//! ```text
//!  FILE.toml ─ rule ─► id, when, action, score, ... ─ check ─► names resolved, types checked ─► program over slots
//!                                                                                                │
//!                             row, event, lists, champion's score ──────────────────────► set: matches, action
//! ```
//!
//! At every transaction: each rule is evaluated that is not paused, looks at the kind of event and is valid at its event time. Those in
//! shadow are shown and decide nothing. The scores of the others are added to the champion's, and the sum is what thresholds are
//! compared with; what is done is the strongest of that and of what the matching rules ask for: block before challenge before
//! review before allow. A rule depends on its row, its event, the lists that it is given and the champion's score alone, so a rescore
//! finds the same matches from the same values, and a revision names the rules that hold now.
//!
//! Evaluation costs 10-20 ns per comparison; `cargo bench -- rules` prints it beside the interpreter of the `cel` crate.

mod check;
mod expression;
mod program;
mod rule;
mod set;

pub use check::{ExpressionError, Scope};
pub use expression::{Expression, ExpressionValue, RuleCondition};
pub use program::{Fault, RuleFacts};
pub use rule::{Rule, RuleAction, RuleError, RuleFile, RuleMode, RuleThresholds, WrittenEntry, WrittenList};
pub use set::{CheckedRule, RuleMatches, Rules};
