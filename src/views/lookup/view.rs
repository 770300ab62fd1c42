//! The rows and lookers of one look-up on one worker: requests and records of an epoch in, slices out.
//!
//! For each closed epoch, **as of arrival**:
//!
//! 1. put records in (time, lane, offset) order, requests in (event time, id) order;
//! 2. go through the requests; before each, apply the records whose time is not later than the event's;
//! 3. apply the records that are left: later epochs see them, whatever their time.
//!
//! **Live**:
//!
//! 1. apply all records, so that a row means the state at the epoch's end; a record that changes a column marks the key;
//! 2. take in who looks now, forget who was withdrawn, answer fresh and repeated reads alike;
//! 3. who looked at a key with a mark is read again ([`crate::operators::own`]).

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::image::{LookupImage, NetworksImage};
use super::plan::EnrichPlan;
use super::table::LookupTable;
use crate::event::{Id, Key};
use crate::flow::{
    Ask, Cause, EVERY_SHARD, Facts, HEAD, LAST, NO_TICKET, Place, ReferenceRecord, Replies, Request, shard_of,
};
use crate::metrics::Metrics;
use crate::operators::backlog::Stretch;
use crate::operators::{Asks, Mark, Out, Turn, View};

/// What is kept of a shard, or by every worker.
#[derive(Serialize, Deserialize)]
pub enum LookupPart {
    /// Rows and lookers.
    Keys(LookupImage),
    /// A network file.
    Networks(NetworksImage),
}

/// The share of one worker.
pub struct LookupView {
    plan: Arc<EnrichPlan>,
    /// The [`crate::flow::Block::plan`] of its slices.
    index: u16,
    table: LookupTable,
    metrics: Arc<Metrics>,
    here: u32,
    peers: usize,
}

impl LookupView {
    /// Nothing is known yet. `late_ms` says how late an event may be: lookers are kept for this and the revise horizon.
    pub fn new(
        plan: Arc<EnrichPlan>,
        index: u16,
        late_ms: i64,
        metrics: Arc<Metrics>,
        (here, peers): (u32, usize),
    ) -> Self {
        let table = LookupTable::new(&plan, late_ms.saturating_add(plan.revise_ms));
        LookupView { plan, index, table, metrics, here, peers }
    }

    fn as_of(&mut self, rows: &[(Request<'_>, u32)], records: Vec<ReferenceRecord>, replies: &mut Replies) {
        let mut records = records.into_iter().peekable();
        for (request, from) in rows {
            while let Some(record) = records.next_if(|record| record.time <= request.time) {
                self.table.apply(record);
            }
            self.table.answer(&self.plan, request.key, replies.row(*from, request.ticket));
        }
        records.for_each(|record| drop(self.table.apply(record)));
    }

    fn live(
        &mut self,
        now: &Facts,
        rows: &[(Request<'_>, u32)],
        records: Vec<ReferenceRecord>,
        replies: &mut Replies,
        marks: &mut Vec<Mark>,
    ) {
        // Who is too old to be revised is none of the change's business.
        let after = (now.before_ms.saturating_sub(self.plan.revise_ms).saturating_sub(1), LAST);
        let stretch = Stretch { after, until_ms: i64::MAX, cause: Cause::Reference };
        for record in records {
            if let Some((key, before)) = self.table.apply(record)
                && self.table.is_looked_at(key)
                && self.differs(key, before.as_deref())
            {
                marks.push(Mark { plan: 0, key, stretch, id: Id::default(), time_ms: now.before_ms });
            }
        }
        // A correction removes and inserts at one place, in this order, which the sort has kept.
        for (request, _) in rows {
            let place = (request.time, request.id);
            match request.ask {
                Ask::Insert => self.table.look(request.key, place),
                Ask::Remove => self.table.look_away(request.key, place),
                _ => {}
            }
        }
        for (request, from) in rows.iter().filter(|(request, _)| request.ticket != NO_TICKET) {
            self.table.answer(&self.plan, request.key, replies.row(*from, request.ticket));
        }
    }

    /// Whether the columns are others than with the row before.
    fn differs(&self, key: Key, before: Option<&[u64]>) -> bool {
        let (mut old, mut new) = (vec![0.0; self.plan.columns.len()], vec![0.0; self.plan.columns.len()]);
        self.plan.fill(before, &mut old);
        self.plan.fill(self.table.row(key).map(|cells| &**cells), &mut new);
        old.iter().zip(&new).any(|(old, new)| old.to_bits() != new.to_bits())
    }
}

impl View for LookupView {
    type Update = ();
    type Image = LookupPart;

    fn apply(&mut self, now: &Facts, asks: Asks, out: &mut Out<()>) -> Turn {
        let Asks { blocks, mut records } = asks;
        let rows =
            blocks.iter().flat_map(|block| block.words.chunks_exact(HEAD).map(|row| (Request::read(row), block.from)));
        let mut rows: Vec<(Request<'_>, u32)> = rows.collect();
        rows.sort_by_key(|(request, _)| (request.time, request.id));
        records.retain(|record| record.tag == self.plan.tag);
        records.sort_by_key(|record| (record.time, record.lane, record.offset));
        self.metrics.reference_records.add(records.len() as u64);
        let changed = !records.is_empty();
        let mut replies = Replies::new(self.index, self.here, self.peers, self.plan.columns.len(), rows.len());
        if self.plan.live {
            self.live(now, &rows, records, &mut replies, &mut out.marks);
        } else {
            self.as_of(&rows, records, &mut replies);
        }
        out.slices.extend(replies.blocks());
        if changed {
            self.metrics.reference_rows.set_own(&self.plan.name, self.table.len().0 as u64);
        }
        Turn::Done
    }

    fn scored_after(&self, _plan: u16, key: Key, after: Place) -> Box<dyn Iterator<Item = Place> + '_> {
        Box::new(self.table.lookers_after(key, after))
    }

    fn revised(&self, _plan: u16) -> (i64, String) {
        (self.plan.revise_ms, format!("look-up '{}'", self.plan.name))
    }

    fn expire(&mut self, now: &Facts) {
        if self.plan.live {
            self.table.expire(now.before_ms);
        }
    }

    fn report(&self, _metrics: &Metrics, _whole: bool) {}

    fn dump(&self, _part: usize, shard: u32) -> Option<LookupPart> {
        if shard == EVERY_SHARD {
            return self.table.dump_networks().map(LookupPart::Networks);
        }
        let image = self.table.dump_shard(shard);
        (image != LookupImage::default()).then_some(LookupPart::Keys(image))
    }

    fn retain_asks(&self, asks: &mut Asks, of: &dyn Fn(usize, u32) -> bool) {
        for block in &mut asks.blocks {
            let rows = block.words.chunks_exact(HEAD);
            block.words =
                rows.filter(|row| of(0, shard_of(Request::read(row).key.route()))).flatten().copied().collect();
        }
        asks.records.retain(|record| of(0, record.shard()));
    }

    fn load(&mut self, _part: usize, image: LookupPart) -> Result<(), String> {
        match image {
            LookupPart::Keys(image) => self.table.load(image),
            LookupPart::Networks(image) => self.table.load_networks(image)?,
        }
        Ok(())
    }
}
