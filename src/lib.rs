//! deltawatch scores transactions for fraud while they happen.
//!
//! The modules stand in the order of the data.
#![deny(missing_docs)]

pub mod arrange;
pub mod cli;
pub mod dataflow;
pub mod decode;
pub mod epoch;
pub mod event;
pub mod feature;
pub mod operators;
pub mod pipeline;
pub mod runtime;
pub mod score;
pub mod sink;
pub mod source;
pub mod testkit;
