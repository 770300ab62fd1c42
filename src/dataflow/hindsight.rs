//! What an oracle is told.

use std::collections::BTreeMap;

use super::findings::Finding;
use crate::event::{Event, MapKey};
use crate::score::control::Deployments;

/// What is known in the end, for those who answer from scratch.
#[derive(Clone, Debug)]
pub struct Hindsight {
    /// The retained events, in (event time, id) order.
    pub events: Vec<Event>,
    /// What is said of the scored ones, and their labels, by id.
    pub findings: BTreeMap<MapKey, Finding>,
    /// The feature rows of the scored ones, by id.
    pub rows: BTreeMap<MapKey, Vec<f64>>,
    /// The names of their columns.
    pub columns: Vec<String>,
    /// What rules and models are called.
    pub deployments: Deployments,
}
