//! deltawatch scores transactions for fraud while they happen.
//!
//! The floors of the house, in the order of the data: each may use those above it in this list, and a test named `tidy` counts
//! the few places that do not. Read [`pipeline`] first: it is the path of an event on one page.
#![deny(missing_docs)]

// What flows: events, their schema, ids, records as they were read.
pub mod event;

// What operators say to each other: changes, requests, blocks, epoch facts.
pub mod flow;

// What is counted. Nothing is steered by it.
pub mod metrics;

// Where what must survive is written: the machine's disk, or one in memory that fails.
pub mod disk;

// Extensions of timely and differential that know nothing of fraud.
pub mod operators;

// ① Records with coordinates, from Kafka, files, reference tables and services.
pub mod source;

// ② Bytes to events, or to rejects.
pub mod decode;

// ③ Which records belong to which epoch.
pub mod epoch;

// ④ Transactions by id.
pub mod retain;

// ⑤ What is maintained per key: velocity, identity, look-ups, patterns.
pub mod views;

// Feature rows.
pub mod feature;

// ⑥ Models, scores and their revisions.
pub mod score;

// ⑦ Scored diffs, rejects and rows on their way out.
pub mod sink;

// The researcher's interface.
pub mod dataflow;

// START HERE: the path of an event, from arrival to scored diff.
pub mod pipeline;

// Running it: threads, the worker loop, clusters, health.
pub mod runtime;

// The test kit.
pub mod testkit;

// Synthetic payments with planted fraud.
pub mod generator;

// The command line.
pub mod cli;
