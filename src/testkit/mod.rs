//! Test harness: slow twins of what the engine computes.

pub mod oracle;
