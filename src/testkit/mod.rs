//! Test harness: slow twins of what the engine computes.

#[doc = "Velocity features by definition."]
pub mod oracle;
