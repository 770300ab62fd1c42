//! Rows: the slices of an epoch put together.
//!
//! Rows live for one epoch. Tickets number an epoch's rows on the worker that keeps the transactions, so a slice finds its row by
//! index.

use std::sync::Arc;

use super::FeatureSet;
use crate::event::Event;
use crate::flow::{Block, Cause, Change, NO_TICKET, Verb};
use crate::views::velocity::KeyPlan;

/// Whose row it is.
#[derive(Clone, Debug)]
pub struct RowHead {
    /// The event.
    pub event: Arc<Event>,
    /// Why its row was assembled.
    pub cause: Cause,
    /// Rows of this transaction before this one.
    pub row_revision: u32,
    /// When the record behind it was taken in, nanoseconds on the process's clock.
    pub arrived_ns: u64,
}

/// The rows of one epoch on one worker.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    /// Whose they are, one per row.
    pub heads: Vec<RowHead>,
    /// Row-major values, `width` per row; NaN is missing.
    pub values: Vec<f64>,
    /// Columns.
    pub width: usize,
    /// Transactions that are gone.
    pub withdrawn: Vec<RowHead>,
}

impl Rows {
    /// Whose row, and the row.
    pub fn iter(&self) -> impl Iterator<Item = (&RowHead, &[f64])> {
        self.heads.iter().zip(self.values.chunks_exact(self.width.max(1)))
    }
}

impl RowHead {
    /// Of the change that asks for the row.
    pub fn of(change: &Change) -> Self {
        let Change { event, cause, row_revision, arrived_ns, .. } = change;
        RowHead { event: event.clone(), cause: *cause, row_revision: *row_revision, arrived_ns: *arrived_ns }
    }
}

/// Where each feature stands in a row.
pub struct Layout {
    features: FeatureSet,
    /// Columns.
    pub width: usize,
    /// A row without any slice: the defaults.
    empty: Vec<f64>,
    /// First column and number of columns of each key's slice, then of each family's.
    slices: Vec<(usize, usize)>,
}

impl Layout {
    /// Of a set of features, whose keys have these plans.
    pub fn new(features: FeatureSet, plans: &[Arc<KeyPlan>]) -> Self {
        let mut width = features.own_features().count();
        let mut empty = vec![f64::NAN; width];
        empty.extend(plans.iter().flat_map(|plan| &plan.features).map(|feature| feature.default));
        let families: Vec<Vec<(String, f64)>> = features.families().iter().map(|family| family.columns()).collect();
        empty.extend(families.iter().flatten().map(|&(_, default)| default));
        let lengths = plans
            .iter()
            .map(|plan| plan.features.len())
            .chain(features.families().iter().flat_map(|family| family.slices()));
        let slices = lengths
            .map(|length| {
                width += length;
                (width - length, length)
            })
            .collect();
        Layout { features, width, empty, slices }
    }

    /// First column and number of columns of the slices with a [`Block::plan`].
    pub fn slice(&self, plan: u16) -> (usize, usize) {
        self.slices[usize::from(plan)]
    }

    /// Rows with the features of the events alone, and defaults.
    pub fn begin<'a>(&self, events: impl ExactSizeIterator<Item = &'a Event>, values: &mut Vec<f64>) {
        values.clear();
        values.reserve(events.len() * self.width);
        for event in events {
            let start = values.len();
            values.extend_from_slice(&self.empty);
            for ((_, own), value) in self.features.own_features().zip(&mut values[start..]) {
                *value = own(event);
            }
        }
    }

    /// Fills in the slices of a block.
    pub fn fill(&self, block: &Block, values: &mut [f64]) {
        let (start, length) = self.slice(block.plan);
        for slice in block.words.chunks_exact(1 + length) {
            let row = slice[0] as usize * self.width + start;
            values[row..row + length].copy_from_slice(bytemuck::cast_slice(&slice[1..]));
        }
    }
}

/// Whether a change is the end of its transaction.
pub fn ends(change: &Change) -> bool {
    change.ticket == NO_TICKET && change.verb == Verb::Remove && change.cause == Cause::Withdrawal
}
