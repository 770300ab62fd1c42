//! Features: the columns of a row, and rows assembled from the slices that views answer with.

pub mod rows;
mod set;

pub use set::FeatureSet;
