//! The rows and lookers of one look-up on one worker: requests and records of an epoch in, slices and touched out.
//!
//! For each closed epoch, **as of arrival**:
//!
//! 1. put records in (time, partition, offset) order, requests in (event time, id) order;
//! 2. go through the requests; before each, apply the records whose time is not later than the event's;
//! 3. apply the records that are left: later epochs see them, whatever their time.
//!
//! **Live**:
//!
//! 1. apply all records, so that a row means the state at the epoch's end; a record that changes a column marks the key;
//! 2. take in who looks now, forget who was withdrawn, answer fresh and repeated reads alike;
//! 3. send around as many transactions behind the marks as the epoch's budget allows; the rest stays for the next epoch.

use std::sync::Arc;

use super::operator::LookupSettings;
use super::plan::EnrichPlan;
use super::table::{Looker, LookupTable};
use crate::event::Key;
use crate::flow::{
    Ask, Block, Cause, Epoch, EpochFacts, HEAD, LAST, NO_TICKET, ReferenceRecord, Replies, Request, Touched,
};
use crate::metrics::Metrics;
use crate::operators::backlog::{Backlog, Stretch};

/// What an epoch gives.
#[derive(Default)]
pub(super) struct LookupEffects {
    pub slices: Vec<Block>,
    pub touched: Vec<Touched>,
}

/// The share of one worker.
pub(super) struct LookupView {
    plan: Arc<EnrichPlan>,
    settings: LookupSettings,
    table: LookupTable,
    backlog: Backlog,
    /// Transactions that the last epoch has touched.
    touched: usize,
    /// Keys to be repaired, as the metric has it.
    reported: usize,
    metrics: Arc<Metrics>,
    here: u32,
    peers: usize,
}

impl LookupView {
    /// Nothing is known yet.
    pub fn new(
        plan: Arc<EnrichPlan>,
        settings: LookupSettings,
        metrics: Arc<Metrics>,
        here: u32,
        peers: usize,
    ) -> Self {
        let table = LookupTable::new(&plan, settings.late_ms.saturating_add(plan.revise_ms));
        LookupView { plan, settings, table, backlog: Backlog::default(), touched: 0, reported: 0, metrics, here, peers }
    }

    /// The number that its records name it by.
    pub fn tag(&self) -> u64 {
        self.plan.tag
    }

    /// Takes in an epoch.
    pub fn apply(
        &mut self,
        epoch: Epoch,
        facts: &EpochFacts,
        blocks: &[Block],
        mut records: Vec<ReferenceRecord>,
    ) -> LookupEffects {
        let rows =
            blocks.iter().flat_map(|block| block.words.chunks_exact(HEAD).map(|row| (Request::read(row), block.from)));
        let mut rows: Vec<(Request<'_>, u32)> = rows.collect();
        rows.sort_by_key(|(request, _)| (request.time, request.id));
        records.sort_by_key(|record| (record.time, record.partition, record.offset));
        self.metrics.reference_records.add(records.len() as u64);
        let changed = !records.is_empty();
        let replies = Replies::new(self.settings.index, self.here, self.peers, self.plan.columns.len(), rows.len());
        let effects = if self.plan.live {
            self.live(epoch, facts, &rows, records, replies)
        } else {
            self.as_of(&rows, records, replies)
        };
        if self.plan.live {
            self.table.expire(facts.before(epoch));
            self.touched = effects.touched.len();
            let waiting = self.backlog_len();
            if std::mem::replace(&mut self.reported, waiting) != waiting {
                self.metrics.backlog_of.set_own(&self.plan.name, waiting as u64);
            }
        }
        if changed {
            self.metrics.reference_rows.set_own(&self.plan.name, self.table.len().0 as u64);
        }
        effects
    }

    /// Keys still to be repaired, or at least one while what was touched has not been read.
    pub fn backlog_len(&self) -> usize {
        self.backlog.len().max(usize::from(self.touched > 0))
    }

    fn as_of(
        &mut self,
        rows: &[(Request<'_>, u32)],
        records: Vec<ReferenceRecord>,
        mut replies: Replies,
    ) -> LookupEffects {
        let mut records = records.into_iter().peekable();
        for (request, from) in rows {
            while let Some(record) = records.next_if(|record| record.time <= request.time) {
                self.table.apply(record);
            }
            self.table.answer(&self.plan, request.key, replies.row(*from, request.ticket));
        }
        records.for_each(|record| drop(self.table.apply(record)));
        LookupEffects { slices: replies.blocks().collect(), touched: Vec::new() }
    }

    fn live(
        &mut self,
        epoch: Epoch,
        facts: &EpochFacts,
        rows: &[(Request<'_>, u32)],
        records: Vec<ReferenceRecord>,
        mut replies: Replies,
    ) -> LookupEffects {
        for record in records {
            if let Some((key, before)) = self.table.apply(record)
                && self.table.is_looked_at(key)
                && self.differs(key, before.as_deref())
            {
                self.mark(facts.before(epoch), key);
            }
        }
        // A correction removes and inserts at one place, in this order, which the sort has kept.
        for (request, _) in rows {
            let place: Looker = (request.time, request.id);
            match request.ask {
                Ask::Insert => self.table.look(request.key, place),
                Ask::Remove => self.table.look_away(request.key, place),
                _ => {}
            }
        }
        for (request, from) in rows.iter().filter(|(request, _)| request.ticket != NO_TICKET) {
            self.table.answer(&self.plan, request.key, replies.row(*from, request.ticket));
        }
        let mut touched = Vec::new();
        let table = &self.table;
        // What could not be read any more in the next epoch goes now.
        self.backlog.hasten(facts.at(epoch).saturating_sub(self.settings.read_ms), |_, key, stretch| {
            let cause = stretch.cause;
            table.visit(key, stretch.after, stretch.until_ms, usize::MAX, |id| touched.push(Touched { id, cause }));
        });
        self.backlog.repair(epoch, facts.repair(epoch), |_, key, stretch, limit| {
            let cause = stretch.cause;
            table.visit(key, stretch.after, stretch.until_ms, limit, |id| touched.push(Touched { id, cause }))
        });
        LookupEffects { slices: replies.blocks().collect(), touched }
    }

    /// Whether the columns are others than with the row before.
    fn differs(&self, key: Key, before: Option<&[u64]>) -> bool {
        let (mut old, mut new) = (vec![0.0; self.plan.columns.len()], vec![0.0; self.plan.columns.len()]);
        self.plan.fill(before, &mut old);
        self.plan.fill(self.table.row(key).map(|cells| &**cells), &mut new);
        old.iter().zip(&new).any(|(old, new)| old.to_bits() != new.to_bits())
    }

    /// Marks the transactions that looked at a key and are young enough to be revised.
    fn mark(&mut self, watermark: i64, key: Key) {
        let revised_from = watermark.saturating_sub(self.plan.revise_ms);
        let after = (revised_from.saturating_sub(1), LAST);
        self.backlog.mark(0, key, Stretch { after, until_ms: i64::MAX, cause: Cause::Reference });
    }
}
