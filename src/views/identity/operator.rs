//! The operator: changes in, slices of cluster columns out. One worker owns all links.

use std::sync::Arc;

use differential_dataflow::{AsCollection, VecCollection};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::generic::operator::Operator;

use super::columns::Member;
use super::propagate::Entity;
use super::request::{EntityRequest, stride};
use super::spec::IdentityPlan;
use super::view::ClusterView;
use crate::event::Schema;
use crate::flow::{Block, Change, Epoch, NO_TICKET};
use crate::metrics::Metrics;
use crate::operators::Epochs;
use crate::views::FamilyInputs;

/// Links that die, and payments and events that leave a window, before the operator lets others work: a gap in the data
/// does not stall the worker.
const EXPIRE_PER_TURN: usize = 20_000;
/// Events whose links are looked up ahead.
const EVENTS_AHEAD: usize = 16;
/// Gauges are set once per so many epochs.
const EPOCHS_PER_REPORT: u64 = 256;
/// Events are retained a little longer than the horizon says, in whole slices; so are sightings.
const KEPT_SLACK: i64 = 16;

/// What the operators give.
pub struct IdentityOutputs<'scope> {
    /// Slices, addressed to the workers that asked.
    pub slices: Stream<'scope, Epoch, Vec<Block>>,
    /// The links that carry, if they were asked for: account first.
    pub links: VecCollection<'scope, Epoch, (Entity, Entity)>,
}

/// Builds the operators. With `links` they say which links carry, too.
pub fn identity<'scope, P: Member + 'static>(
    inputs: FamilyInputs<'scope>,
    plan: Arc<IdentityPlan>,
    links: bool,
) -> IdentityOutputs<'scope> {
    let FamilyInputs { changes, index, schema, horizons, facts, metrics, .. } = inputs;
    let scope = changes.scope();
    let (here, peers) = (scope.worker().index() as u32, scope.worker().peers());
    let owner_index = (u64::from(index) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let requests = project(changes, plan.clone(), schema, (owner_index % peers as u64) as u32);

    let mut builder = OperatorBuilder::new("Identity".to_owned(), scope);
    let activator = scope.activator_for(builder.operator_info().address);
    let mut requests = builder.new_input(requests, Exchange::new(|block: &Block| u64::from(block.to)));
    let (slices_out, slices) = builder.new_output();
    let (links_out, carried) = builder.new_output();
    let mut slices_out = OutputBuilder::<_, CapacityContainerBuilder<Vec<Block>>>::from(slices_out);
    let mut links_out =
        OutputBuilder::<_, CapacityContainerBuilder<Vec<((Entity, Entity), Epoch, isize)>>>::from(links_out);
    let kept_ms = horizons.by_id_ms.saturating_add(horizons.by_id_ms / KEPT_SLACK).saturating_add(1);
    builder.build(move |_| {
        let mut epochs: Epochs<Vec<Block>> = Epochs::new(2);
        let mut owner: ClusterView<P> = ClusterView::new(plan.clone());
        if links {
            owner.links_mut().note_changes();
        }
        let mut turn: Option<Turn> = None;
        move |frontiers| {
            requests.for_each(|capability, data| {
                if let Some(epoch) = epochs.of(&capability) {
                    epoch.append(data);
                }
            });
            loop {
                let Some(mut now) = turn.take().or_else(|| {
                    let (epoch, capabilities, blocks) = epochs.next_complete(frontiers)?;
                    let watermark = facts.before(epoch);
                    owner.settle(watermark.saturating_sub(kept_ms));
                    Some(Turn::new(epoch, capabilities, blocks, watermark, &plan, (here, peers, index)))
                }) else {
                    return;
                };
                if !now.work(&mut owner) {
                    turn = Some(now);
                    activator.activate();
                    return;
                }
                let mut blocks = now.answers;
                blocks.retain(|block| !block.words.is_empty());
                if !blocks.is_empty() {
                    slices_out.activate().session(&now.capabilities[0]).give_container(&mut blocks);
                }
                if links {
                    let changes = owner.links_mut().take_changes().into_iter();
                    let updates = changes.map(|(link, carries)| (link, now.epoch, if carries { 1 } else { -1 }));
                    links_out.activate().session(&now.capabilities[1]).give_iterator(updates);
                }
                if now.epoch % EPOCHS_PER_REPORT == 0 {
                    report(&owner, &metrics);
                }
            }
        }
    });
    IdentityOutputs { slices, links: carried.as_collection().consolidate() }
}

fn report<P: Member>(owner: &ClusterView<P>, metrics: &Metrics) {
    let links = owner.links();
    metrics.identity_values.set_own(links.values().len() as u64);
    metrics.identity_links.set_own(links.len() as u64);
    metrics.identity_clusters.set_own(links.wide().components() as u64);
    metrics.identity_capped.set_own(links.capped() as u64);
    metrics.identity_bytes.set_own((links.bytes() + owner.ledger().bytes()) as u64);
}

/// Cuts changes into requests, on the worker that owns the events' ids.
fn project<'scope>(
    changes: Stream<'scope, Epoch, Vec<Change>>,
    plan: Arc<IdentityPlan>,
    schema: Arc<Schema>,
    to: u32,
) -> Stream<'scope, Epoch, Vec<Block>> {
    let from = changes.scope().worker().index() as u32;
    let labels = plan.uses_labels();
    changes.unary::<CapacityContainerBuilder<Vec<Block>>, _, _, _>(Pipeline, "Identity requests", move |_, _| {
        move |input, output| {
            input.for_each(|capability, changes| {
                let mut words = Vec::with_capacity(changes.len() * stride(&plan));
                for change in changes.iter() {
                    EntityRequest::write(change, &plan, labels, &schema, &mut words);
                }
                changes.clear();
                if !words.is_empty() {
                    output.session(&capability).give(Block { to, from, plan: 0, words });
                }
            });
        }
    })
}

/// The work of one epoch, which may take several turns.
struct Turn {
    epoch: Epoch,
    capabilities: Vec<Capability<Epoch>>,
    watermark: i64,
    /// Requests and the workers they come from, in their order; those before `next` are done.
    requests: Vec<(EntityRequest, u32)>,
    next: usize,
    answers: Vec<Block>,
    columns: usize,
}

impl Turn {
    fn new(
        epoch: Epoch,
        capabilities: Vec<Capability<Epoch>>,
        blocks: Vec<Block>,
        watermark: i64,
        plan: &IdentityPlan,
        (here, peers, index): (u32, usize, u16),
    ) -> Self {
        let rows = blocks.iter().flat_map(|block| block.words.chunks_exact(stride(plan)).map(|row| (row, block.from)));
        let mut rows: Vec<(&[u64], u32)> = rows.collect();
        if !rows.is_sorted_by_key(|(row, _)| EntityRequest::place(row)) {
            rows.sort_by_key(|(row, _)| EntityRequest::place(row));
        }
        let requests: Vec<_> = rows.into_iter().map(|(row, from)| (EntityRequest::read(row), from)).collect();
        let (columns, share) = (plan.columns.len(), requests.len().div_ceil(peers));
        let words = || Vec::with_capacity(share * (1 + columns));
        let answers = (0..peers as u32).map(|to| Block { to, from: here, plan: index, words: words() }).collect();
        Turn { epoch, capabilities, watermark, requests, next: 0, answers, columns }
    }

    /// Works until the epoch is done (true) or much has expired.
    fn work<P: Member>(&mut self, owner: &mut ClusterView<P>) -> bool {
        let mut steps_max = EXPIRE_PER_TURN;
        while let Some((request, from)) = self.requests.get(self.next) {
            if self.next.is_multiple_of(EVENTS_AHEAD) {
                let ahead = &self.requests[self.next..self.requests.len().min(self.next + EVENTS_AHEAD)];
                owner.look_ahead(ahead.iter().map(|(request, _)| request));
            }
            if !owner.advance(request.time_ms.max(self.watermark), &mut steps_max) {
                return false;
            }
            let (block, columns) = (&mut self.answers[*from as usize], self.columns);
            owner.apply(request, || row(block, request.ticket, columns));
            self.next += 1;
        }
        owner.advance(self.watermark, &mut steps_max)
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
