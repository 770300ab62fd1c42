//! References.

mod rows;

pub use rows::{Row, RowDecoder};
