//! From patterns as they are written to plain data.
//!
//! What comes in: a [`PatternSpec`](super::spec::PatternSpec) each, the schema, and the velocity features beside them. What
//! goes out: a [`PatternPlan`]: one [`plan::Group`] per key, one [`plan::Program`] per pattern, one [`cycle::CyclePlan`] per
//! pattern of cycles. Errors name the pattern, the place in it and how to mend it.
//!
//! ```text
//!  text ── expr ──► tree ── resolve, terms ──► condition ─┐
//!  steps, events ───────────── steps, count ──────────────┼─ group ──► plan ◄── layout (which patterns share a group)
//!  cycle ─────────────────────────────────────── cycle ───┘
//! ```
//!
//! What holds: a plan is a function of the text, the schema and the features; it has no closures and nothing that changes,
//! can be cloned, sent and compared; and it knows nothing of what runs it ([`super::machine`]): nothing in here looks at
//! an event's content.

pub mod after_match;
pub mod condition;
pub mod count;
pub mod cycle;
pub mod expr;
pub mod features;
mod group;
mod layout;
pub mod plan;
mod resolve;
mod steps;
mod terms;

pub use plan::PatternPlan;
