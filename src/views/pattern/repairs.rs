//! Rows that a change of earlier matches has touched: read again in bounded steps.

use std::sync::Arc;

use super::Match;
use super::outcome::TouchedStretch;
use super::place::{Place, before};
use crate::event::{Id, Key};
use crate::flow::{Beyond, Block, Epoch, EpochFacts, LAST, Touched};
use crate::metrics::Metrics;
use crate::operators::backlog::{Backlog, Stretch};

/// What an epoch sends.
#[derive(Default)]
pub struct PatternEffects {
    /// Features.
    pub slices: Vec<Block>,
    /// Matches with diff.
    pub matches: Vec<(Match, isize)>,
    /// Rows to be read again.
    pub touched: Vec<Touched>,
    /// Changes that touched rows too old to be revised.
    pub beyond: Vec<Beyond>,
}

/// Visits the scored events of a key in `(after, until_ms]`, at most so many; says where it stopped.
pub type Visit<'a> = dyn Fn(Key, Place, i64, usize, &mut dyn FnMut(i64, Id)) -> Option<Place> + 'a;

/// The same, of a plan.
pub type VisitPlan<'a> = dyn Fn(u16, Key, Place, i64, usize, &mut dyn FnMut(i64, Id)) -> Option<Place> + 'a;

/// The backlog of touched rows.
#[derive(Debug)]
pub struct Repairs {
    backlog: Backlog,
    /// What the metric calls it.
    name: String,
    /// How far behind the watermark a row can be read, milliseconds.
    kept_ms: i64,
    /// Whether another epoch must come: rows were touched, or wait.
    owes: bool,
    metrics: Arc<Metrics>,
}

impl Repairs {
    /// Nothing to repair yet.
    pub fn new(name: String, kept_ms: i64, metrics: Arc<Metrics>) -> Self {
        Repairs { backlog: Backlog::default(), name, kept_ms, owes: false, metrics }
    }

    /// Marks touched rows, as far as they are still revised: from `revised_from_ms` on. Returns the event times between
    /// which there are some that are not.
    pub fn mark(
        &mut self,
        revised_from_ms: i64,
        plan: u16,
        touched: &TouchedStretch,
        visit: &Visit<'_>,
    ) -> Option<(i64, i64)> {
        let TouchedStretch { key, from, until_ms, cause, .. } = *touched;
        let mut after = before(from);
        let mut beyond = None;
        if from.0 < revised_from_ms {
            let old_ms = until_ms.min(revised_from_ms - 1);
            let mut first = None;
            visit(key, after, old_ms, 1, &mut |time, _| first = Some(time));
            beyond = first.map(|first| (first, old_ms));
            after = (revised_from_ms - 1, LAST);
        }
        if after.0 <= until_ms {
            self.backlog.mark(plan, key, Stretch { after, until_ms, cause });
        }
        beyond
    }

    /// The next touched rows, about so many, and all that could not be read any more in the epoch after the one that ends
    /// with `epoch`.
    pub fn repair(&mut self, epoch: Epoch, facts: &EpochFacts, visit: &VisitPlan<'_>) -> Vec<Touched> {
        let mut touched = Vec::new();
        self.backlog.hasten(facts.at(epoch).saturating_sub(self.kept_ms), |plan, key, stretch| {
            let mut take = |_, id| touched.push(Touched { id, cause: stretch.cause });
            visit(plan, key, stretch.after, stretch.until_ms, usize::MAX, &mut take);
        });
        self.backlog.repair(epoch, facts.repair(epoch), |plan, key, stretch, limit| {
            let start = touched.len();
            let mut take = |_, id| touched.push(Touched { id, cause: stretch.cause });
            let stopped = visit(plan, key, stretch.after, stretch.until_ms, limit, &mut take);
            (touched.len() - start, stopped)
        });
        // What is touched is read in the next epoch, which must come even if no event does.
        let owed = std::mem::replace(&mut self.owes, !(self.backlog.is_empty() && touched.is_empty()));
        if owed || self.owes {
            let keys = self.backlog.len().max(usize::from(self.owes));
            self.metrics.backlog_of.set_own(&self.name, keys as u64);
        }
        touched
    }

    /// Whether another epoch must come for rows to be read again.
    pub fn owes(&self) -> bool {
        self.owes
    }
}

/// The record of a change that touched rows which are not revised any more.
pub fn beyond_record(name: &str, touched: &TouchedStretch, (from_ms, until_ms): (i64, i64)) -> Beyond {
    let TouchedStretch { id, cause, from, .. } = *touched;
    Beyond { id, what: format!("pattern matches of key '{name}'"), cause, time_ms: from.0, from_ms, until_ms }
}
