//! ⑥ Score: models over feature rows, the decision, and the last assessment of each transaction.
//!
//! ```text
//!  rows ──► [scorer: row -> assessment, pure] ──► [revise: last assessment per id] ──► scored diffs
//! ```

pub mod assessment;
pub mod model;
pub mod revise;
pub mod scorer;
