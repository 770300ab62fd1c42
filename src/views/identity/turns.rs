//! The view of identity: one worker owns all links, and takes an epoch in several turns if much has to be dropped meanwhile.

use std::sync::Arc;

use super::columns::Member;
use super::image::IdentityImage;
use super::memberships::{MembershipUpdates, Memberships};
use super::propagate::Entity;
use super::request::{EntityRequest, stride};
use super::spec::IdentityPlan;
use super::view::ClusterView;
use crate::event::{Key, Schema};
use crate::flow::{Asker, Block, Change, Facts, NO_TICKET, Outgoing, shard_of};
use crate::metrics::Metrics;
use crate::operators::{Asks, Copied, Out, Turn, View};

/// Links that die, and payments and events that leave a window, before the view lets others work: a gap in the data does not
/// stall the worker.
const EXPIRE_PER_TURN: usize = 20_000;
/// Events whose links are looked up ahead.
const EVENTS_AHEAD: usize = 16;
/// Events are retained a little longer than the horizon says, in whole slices; so are sightings.
const KEPT_SLACK: i64 = 16;

/// What the owner of all links is found by.
fn route(plan: &IdentityPlan) -> u64 {
    Key::from_text(&plan.name).route()
}

/// Asks the owner of all links.
pub struct IdentityAsker {
    plan: Arc<IdentityPlan>,
    labels: bool,
    schema: Arc<Schema>,
}

impl IdentityAsker {
    /// For the view of this plan.
    pub fn new(plan: Arc<IdentityPlan>, schema: Arc<Schema>) -> Self {
        IdentityAsker { labels: plan.uses_labels(), plan, schema }
    }
}

impl Asker for IdentityAsker {
    fn ask(&mut self, change: &Change, out: &mut Outgoing) {
        EntityRequest::write(change, &self.plan, self.labels, &self.schema, out.words(0, route(&self.plan)));
    }
}

/// What the owner of all links publishes beside slices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Publishes {
    /// Nothing.
    Nothing,
    /// Links that carry: (account, value).
    Links,
    /// Who is in which cluster: (entity, smallest entity of its cluster).
    Clusters,
}

/// All links, as a view: one shard has all of them.
pub struct IdentityView<P: Member> {
    clusters: ClusterView<P>,
    plan: Arc<IdentityPlan>,
    /// The [`Block::plan`] of its slices.
    index: u16,
    peers: usize,
    here: u32,
    /// Events can be withdrawn for so long behind the watermark, milliseconds.
    kept_ms: i64,
    publishes: Publishes,
    memberships: Memberships,
    /// What is left of the epoch.
    left: Option<Left>,
}

/// Requests of an epoch and the workers they come from, in their order; those before `next` are done.
struct Left {
    requests: Vec<(EntityRequest, u32)>,
    next: usize,
    answers: Vec<Block>,
}

impl<P: Member> IdentityView<P> {
    /// No links yet. `by_id_ms` says how long events are kept.
    pub fn new(
        plan: Arc<IdentityPlan>,
        index: u16,
        by_id_ms: i64,
        publishes: Publishes,
        (here, peers): (u32, usize),
    ) -> Self {
        let mut clusters: ClusterView<P> = ClusterView::new(plan.clone());
        if publishes != Publishes::Nothing {
            clusters.links_mut().note_changes();
        }
        let kept_ms = by_id_ms.saturating_add(by_id_ms / KEPT_SLACK).saturating_add(1);
        IdentityView {
            clusters,
            plan,
            index,
            peers,
            here,
            kept_ms,
            publishes,
            memberships: Memberships::default(),
            left: None,
        }
    }

    /// Publishes what links that began (true) or ceased to carry have changed.
    fn publish(&mut self, changes: Vec<((Entity, Entity), bool)>, updates: &mut MembershipUpdates) {
        let changes = changes.into_iter();
        match self.publishes {
            Publishes::Nothing => {}
            Publishes::Links => updates.extend(changes.map(|(link, carries)| (link, if carries { 1 } else { -1 }))),
            Publishes::Clusters => {
                self.memberships.update(self.clusters.links_mut(), changes.map(|(link, _)| link), updates);
            }
        }
    }

    fn begin(&self, blocks: &[Block]) -> Left {
        let stride = stride(&self.plan);
        let rows = blocks.iter().flat_map(|block| block.words.chunks_exact(stride).map(|row| (row, block.from)));
        let mut rows: Vec<(&[u64], u32)> = rows.collect();
        if !rows.is_sorted_by_key(|(row, _)| EntityRequest::place(row)) {
            rows.sort_by_key(|(row, _)| EntityRequest::place(row));
        }
        let requests: Vec<_> = rows.into_iter().map(|(row, from)| (EntityRequest::read(row), from)).collect();
        let share = requests.len().div_ceil(self.peers);
        let words = || Vec::with_capacity(share * (1 + self.plan.columns.len()));
        let block = |to| Block { to, from: self.here, plan: self.index, words: words() };
        Left { requests, next: 0, answers: (0..self.peers as u32).map(block).collect() }
    }

    /// Works until the epoch is done (true) or much has expired; time comes to `until_ms` in the end.
    fn work(&mut self, left: &mut Left, watermark_ms: i64, until_ms: i64) -> bool {
        let (clusters, columns) = (&mut self.clusters, self.plan.columns.len());
        let mut steps_max = EXPIRE_PER_TURN;
        while let Some((request, from)) = left.requests.get(left.next) {
            if left.next.is_multiple_of(EVENTS_AHEAD) {
                let ahead = &left.requests[left.next..left.requests.len().min(left.next + EVENTS_AHEAD)];
                clusters.look_ahead(ahead.iter().map(|(request, _)| request));
            }
            if !clusters.advance(request.time_ms.max(watermark_ms), &mut steps_max) {
                return false;
            }
            let block = &mut left.answers[*from as usize];
            clusters.apply(request, || row(block, request.ticket, columns));
            left.next += 1;
        }
        clusters.advance(until_ms, &mut steps_max)
    }
}

/// Room for the columns of a ticket.
fn row(block: &mut Block, ticket: u32, columns: usize) -> &mut [f64] {
    debug_assert_ne!(ticket, NO_TICKET);
    block.words.push(u64::from(ticket));
    let start = block.words.len();
    block.words.resize(start + columns, 0);
    bytemuck::cast_slice_mut(&mut block.words[start..])
}

impl<P: Member + 'static> View for IdentityView<P> {
    type Update = (Entity, Entity);
    type Image = IdentityImage;

    fn apply(&mut self, now: &Facts, asks: Asks, out: &mut Out<Self::Update>) -> Turn {
        self.clusters.settle(now.before_ms.saturating_sub(self.kept_ms));
        self.left = Some(self.begin(&asks.blocks));
        self.go_on(now, out)
    }

    fn go_on(&mut self, now: &Facts, out: &mut Out<Self::Update>) -> Turn {
        let Some(mut left) = self.left.take() else { return Turn::Done };
        // Whoever publishes says what is there at the end of the epoch.
        let until_ms = if self.publishes == Publishes::Nothing { now.before_ms } else { now.watermark_ms };
        if !self.work(&mut left, now.before_ms, until_ms) {
            self.left = Some(left);
            return Turn::More;
        }
        out.slices.extend(left.answers.into_iter().filter(|block| !block.words.is_empty()));
        if self.publishes != Publishes::Nothing {
            let changes = self.clusters.links_mut().take_changes();
            self.publish(changes, &mut out.updates);
        }
        Turn::Done
    }

    fn waits(&self) -> bool {
        self.publishes != Publishes::Nothing && !self.clusters.links().is_empty()
    }

    fn pass(&mut self, watermark_ms: i64, updates: &mut Vec<(Self::Update, isize)>) {
        if self.publishes != Publishes::Nothing {
            while !self.clusters.advance(watermark_ms, &mut { EXPIRE_PER_TURN }) {}
            let changes = self.clusters.links_mut().take_changes();
            self.publish(changes, updates);
        }
    }

    fn expire(&mut self, _now: &Facts) {
        // Time moves on with the events.
    }

    fn report(&self, metrics: &Metrics, _whole: bool) {
        let links = self.clusters.links();
        metrics.identity_values.set_own(links.values().len() as u64);
        metrics.identity_links.set_own(links.len() as u64);
        metrics.identity_clusters.set_own(links.wide().components() as u64);
        metrics.identity_capped.set_own(links.capped() as u64);
        metrics.identity_bytes.set_own((links.bytes() + self.clusters.ledger().bytes()) as u64);
    }

    fn published(&mut self) -> Vec<(Self::Update, isize)> {
        let (mut updates, carried) = (Vec::new(), self.clusters.links().carried());
        self.publish(carried.into_iter().map(|link| (link, true)).collect(), &mut updates);
        updates
    }

    fn shard_of(&self, _key: Key) -> u32 {
        shard_of(route(&self.plan))
    }

    fn dump(&self, _part: usize, _shard: u32) -> Option<IdentityImage> {
        None // Too large for one turn; see `copy`.
    }

    fn copy(&mut self, _part: usize, shard: u32) -> Option<Copied<IdentityImage>> {
        (shard == shard_of(route(&self.plan))).then(|| {
            let frozen = self.clusters.freeze();
            Box::new(move || frozen.image()) as Copied<IdentityImage>
        })
    }

    fn retain_asks(&self, asks: &mut Asks, of: &dyn Fn(usize, u32) -> bool) {
        if !of(0, shard_of(route(&self.plan))) {
            asks.blocks.clear();
        }
    }

    fn load(&mut self, _part: usize, image: IdentityImage) -> Result<(), String> {
        self.clusters = ClusterView::load(self.plan.clone(), &image)?;
        if self.publishes != Publishes::Nothing {
            self.clusters.links_mut().note_changes();
        }
        Ok(())
    }
}
