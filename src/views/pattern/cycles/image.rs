//! A graph of transfers as plain data.
//!
//! A cycle does not follow from the transfers: those it is made of may have expired while it counts.

use serde::{Deserialize, Serialize};

use super::graph::{Cycle, Transfer};
use crate::flow::Place;

/// A graph of transfers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CycleImage {
    /// The transfers, in order.
    pub transfers: Vec<TransferImage>,
    /// The cycles in order of completion, those of one transfer as they were found.
    pub cycles: Vec<Cycle>,
}

/// One transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferImage {
    /// When, and which.
    pub place: Place,
    /// Between whom, how much.
    pub transfer: Transfer,
    /// Whether it has a feature row.
    pub scored: bool,
}
