//! Patterns of cycles: a graph of transfers instead of logs by key.
//!
//! What comes in: changes of transfers. What goes out: the same as of other patterns (`outputs.rs`). What holds after
//! each epoch: the cycles kept are those that the searches ([`graph`]) from the transfers kept have found.

pub mod cut;
pub mod graph;
pub mod image;
pub mod view;
