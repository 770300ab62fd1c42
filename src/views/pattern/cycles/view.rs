//! The owner of a pattern's transfers: requests of an epoch in, features, cycles and touched stretches out.

use std::sync::Arc;

use super::cut::{requests, route};
use super::graph::{Cycle, Transfer, TransferGraph};
use super::image::CycleImage;
use crate::event::{Id, Key};
use crate::flow::{Ask, Cause, Facts, NO_TICKET, Place, Replies, shard_of};
use crate::metrics::Metrics;
use crate::operators::{Asks, Out, Turn, View};
use crate::views::pattern::Match;
use crate::views::pattern::compile::cycle::CyclePlan;
use crate::views::pattern::compile::plan::COUNTED_MS;
use crate::views::pattern::machine::view::SentRequest;
use crate::views::pattern::outcome::{PatternOutcome, TouchedStretch};
use crate::views::pattern::view::{Seat, mark};

/// All transfers of a pattern, on one worker.
pub struct CycleView {
    plan: Arc<CyclePlan>,
    graph: TransferGraph,
}

impl CycleView {
    /// A view without transfers.
    pub fn new(plan: Arc<CyclePlan>) -> Self {
        CycleView { plan, graph: TransferGraph::default() }
    }

    /// The pattern.
    pub fn plan(&self) -> &CyclePlan {
        &self.plan
    }

    /// Applies the requests of an epoch, and fills in the features that they ask for.
    pub fn apply(&mut self, asked: &[SentRequest<'_>], replies: &mut Replies) -> PatternOutcome {
        let mut outcome = PatternOutcome::default();
        let mut asked = asked.to_vec();
        asked.sort_by_key(|(request, _)| (request.time, request.id));
        let before = self.graph.last();
        let changes = asked.iter().filter(|(request, _)| matches!(request.ask, Ask::Insert | Ask::Remove));
        let changes: Vec<(Place, bool, Option<Transfer>)> = changes
            .map(|(request, _)| {
                let to = Key { hi: request.columns[0], lo: request.columns[1] };
                let transfer = Transfer { from: request.key, to, amount: request.columns[2] as i64 };
                let here = (request.ask == Ask::Insert).then_some(transfer);
                ((request.time, request.id), request.scored, here)
            })
            .collect();
        let diffs = self.graph.apply(&self.plan, &changes);
        for (request, from) in asked.iter().filter(|(request, _)| request.ticket != NO_TICKET) {
            let (now, count) = self.graph.read((request.time, request.id), request.key);
            replies.row(*from, request.ticket).copy_from_slice(&[f64::from(u8::from(now)), count as f64]);
        }
        let first = asked.first().map_or((Cause::Arrival, Id::default()), |(request, _)| (request.cause, request.id));
        let cause = if first.0 == Cause::Arrival { Cause::LateEvent } else { first.0 };
        for (cycle, diff) in diffs {
            let Some(&at) = cycle.transfers.last() else { continue };
            if let Some(before) = before.filter(|before| at <= *before) {
                let until_ms = before.0.min(at.0.saturating_add(COUNTED_MS - 1));
                let touched = |&key: &Key| TouchedStretch { key, from: at, until_ms, cause, id: first.1 };
                outcome.touched.extend(cycle.payers.iter().map(touched));
            }
            outcome.matches.push((matched(&self.plan, &cycle), diff));
        }
        outcome
    }

    /// The scored transfers of a payer after a place, in order.
    pub fn scored_after(&self, payer: Key, after: Place) -> impl Iterator<Item = Place> {
        self.graph.scored_after(payer, after)
    }

    /// Drops what lies further behind `bound_ms` than anything reaches; so many transfers and cycles at most.
    pub fn expire(&mut self, bound_ms: i64, most: usize) {
        self.graph.expire(&self.plan, bound_ms, most);
    }

    /// What is kept.
    pub fn dump(&self) -> CycleImage {
        self.graph.image()
    }

    /// Adds the transfers and cycles of an image of the same pattern.
    pub fn load(&mut self, image: CycleImage) {
        self.graph.add(image);
    }

    /// Transfers and cycles that are kept.
    pub fn len(&self) -> (usize, usize) {
        self.graph.len()
    }
}

/// A pattern of cycles as a view: one shard has all of it.
pub struct CycleOwner {
    view: CycleView,
    shard: u32,
    /// Transfers are kept for the pattern's reach and this, milliseconds.
    kept_ms: i64,
    seat: Seat,
    /// Transfers that the epoch has changed: expiry is in proportion.
    changed: usize,
}

/// Expiry drops at least so many transfers and cycles per epoch.
const EXPIRE_MIN: usize = 16;

impl CycleOwner {
    /// Nothing is kept yet. `kept_ms`: how late an event may be, and how long the rows after it are then revised.
    pub fn new(plan: Arc<CyclePlan>, kept_ms: i64, seat: Seat) -> Self {
        let shard = shard_of(route(&plan));
        CycleOwner { view: CycleView::new(plan), shard, kept_ms, seat, changed: 0 }
    }
}

impl View for CycleOwner {
    type Update = Match;
    type Image = CycleImage;

    fn apply(&mut self, _now: &Facts, asks: Asks, out: &mut Out<Match>) -> Turn {
        let of_block = |block| requests(block).map(|request| (request, block.from));
        let asked: Vec<SentRequest<'_>> = asks.blocks.iter().flat_map(of_block).collect();
        self.changed = asked.iter().filter(|(request, _)| matches!(request.ask, Ask::Insert | Ask::Remove)).count();
        let Seat { index, here, peers } = self.seat;
        let mut replies = Replies::new(index, here, peers, 2, 0);
        let mut outcome = self.view.apply(&asked, &mut replies);
        out.slices.extend(replies.blocks());
        out.updates.append(&mut outcome.matches);
        out.marks.extend(outcome.touched.iter().map(|touched| mark(0, touched)));
        Turn::Done
    }

    fn scored_after(&self, _plan: u16, key: Key, after: Place) -> Box<dyn Iterator<Item = Place> + '_> {
        Box::new(self.view.scored_after(key, after))
    }

    fn revised(&self, _plan: u16) -> (i64, String) {
        let plan = self.view.plan();
        (plan.revise_ms, format!("pattern matches of key '{}'", plan.name))
    }

    fn expire(&mut self, now: &Facts) {
        self.view.expire(now.before_ms.saturating_sub(self.kept_ms), EXPIRE_MIN + 2 * self.changed);
    }

    fn report(&self, _metrics: &Metrics, _whole: bool) {}

    fn shard_of(&self, _payer: Key) -> u32 {
        self.shard
    }

    fn dump(&self, _part: usize, shard: u32) -> Option<CycleImage> {
        (shard == self.shard && self.view.len() != (0, 0)).then(|| self.view.dump())
    }

    fn retain_asks(&self, asks: &mut Asks, of: &dyn Fn(usize, u32) -> bool) {
        if !of(0, self.shard) {
            asks.blocks.clear();
        }
    }

    fn load(&mut self, _part: usize, image: CycleImage) -> Result<(), String> {
        self.view.load(image);
        Ok(())
    }
}

fn matched(plan: &CyclePlan, cycle: &Cycle) -> Match {
    let time = |place: Option<&Place>| place.map_or(0, |place| place.0);
    Match {
        pattern: plan.name.clone(),
        key: cycle.payers.first().copied().unwrap_or_default(),
        started_ms: time(cycle.transfers.first()),
        completed_ms: time(cycle.transfers.last()),
        ids: cycle.transfers.iter().map(|(_, id)| *id).collect(),
        events: cycle.transfers.len() as u32,
    }
}
