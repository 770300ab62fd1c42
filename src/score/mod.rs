//! ⑥ Score: models over feature rows, the decision, and what was last said of each transaction.
//!
//! ```text
//!  changes ──┬──────────────────────────────────────────────────────────────┐
//!  slices ───┴─► [judge: rows ─► scorer: row -> assessment, pure ─► what is new] ──► scored diffs
//!                                  ▲
//!  control messages ─► [control: deployments, by number]
//! ```

pub mod assessment;
pub mod control;
mod image;
pub mod judge;
pub mod lists;
pub mod model;
pub mod quality;
pub mod rules;
pub mod scorer;
