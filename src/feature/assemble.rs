//! Puts the slices of an epoch together to rows.
//!
//! Rows live for one epoch: what the operator holds is the tickets and slices of epochs that are not complete yet. Tickets
//! number an epoch's rows on the worker that owns the transactions, so a slice finds its row by index.

use std::sync::Arc;

use timely::dataflow::Stream;

use super::FeatureSet;
use crate::event::Event;
use crate::flow::{Block, Cause, Change, Epoch, NO_TICKET, Verb};
use crate::operators::with_slices;
use crate::views::velocity::KeyPlan;

/// A transaction whose row was assembled, or that was withdrawn.
#[derive(Clone, Debug)]
pub struct Transaction {
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
    /// The transactions, one per row.
    pub transactions: Vec<Transaction>,
    /// Row-major values, `width` per row; NaN is missing.
    pub values: Vec<f64>,
    /// Columns.
    pub width: usize,
    /// Transactions that are gone.
    pub withdrawn: Vec<Transaction>,
}

impl Rows {
    /// Transactions with their rows.
    pub fn iter(&self) -> impl Iterator<Item = (&Transaction, &[f64])> {
        self.transactions.iter().zip(self.values.chunks_exact(self.width.max(1)))
    }
}

/// Builds the operator: changes and slices in, one [`Rows`] per epoch out.
pub fn assemble<'scope>(
    changes: Stream<'scope, Epoch, Vec<Change>>,
    slices: Stream<'scope, Epoch, Vec<Block>>,
    features: FeatureSet,
    plans: Arc<[Arc<KeyPlan>]>,
) -> Stream<'scope, Epoch, Vec<Rows>> {
    let layout = Layout::new(features, &plans);
    with_slices("Assemble", changes, slices, move |_, changes, slices, out| {
        let rows = layout.rows(changes, &slices);
        if !rows.transactions.is_empty() || !rows.withdrawn.is_empty() {
            out.push(rows);
        }
    })
}

/// Where each feature stands in a row.
struct Layout {
    features: FeatureSet,
    width: usize,
    /// A row without any slice: the defaults.
    empty: Vec<f64>,
    /// First column and number of columns of each key's slice, then of each family's.
    slices: Vec<(usize, usize)>,
}

impl Layout {
    fn new(features: FeatureSet, plans: &[Arc<KeyPlan>]) -> Self {
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

    fn rows(&self, changes: Vec<Change>, slices: &[Block]) -> Rows {
        let mut rows = Rows { width: self.width, ..Rows::default() };
        for change in changes {
            let Change { event, verb, ticket, row_revision, cause, arrived_ns, .. } = change;
            let transaction = Transaction { event, cause, row_revision, arrived_ns };
            if ticket != NO_TICKET {
                rows.transactions.push(transaction);
            } else if verb == Verb::Remove && cause == Cause::Withdrawal {
                rows.withdrawn.push(transaction);
            }
        }
        rows.values = self.empty.repeat(rows.transactions.len());
        for (transaction, row) in rows.transactions.iter().zip(rows.values.chunks_exact_mut(self.width.max(1))) {
            for ((_, own), value) in self.features.own_features().zip(row) {
                *value = own(&transaction.event);
            }
        }
        for block in slices {
            let (start, length) = self.slices[block.plan as usize];
            for slice in block.words.chunks_exact(1 + length) {
                let row = slice[0] as usize * self.width + start;
                rows.values[row..row + length].copy_from_slice(bytemuck::cast_slice(&slice[1..]));
            }
        }
        rows
    }
}
