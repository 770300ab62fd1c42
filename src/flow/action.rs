//! What is done with a transaction.

use serde::{Deserialize, Serialize};

/// What is done with a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Action {
    /// Let it pass.
    Allow,
    /// Have it looked at.
    Review,
    /// Ask the payer for a proof.
    Challenge,
    /// Stop it.
    Block,
}

impl Action {
    /// All of them, in the order of their declaration.
    pub const ALL: [Action; 4] = [Action::Allow, Action::Review, Action::Challenge, Action::Block];

    /// The name used in outputs.
    pub fn name(self) -> &'static str {
        match self {
            Action::Allow => "allow",
            Action::Review => "review",
            Action::Challenge => "challenge",
            Action::Block => "block",
        }
    }
}
