//! The operator of a pattern of cycles: one owner has all its transfers.
//!
//! CycleView share no key, so the transfers of a pattern go to one worker, which a pattern's name decides.

use std::sync::Arc;

use differential_dataflow::consolidation::consolidate;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::generic::Operator;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use super::super::Match;
use super::super::compile::cycle::CyclePlan;
use super::super::compile::plan::COUNTED_MS;
use super::super::machine::evaluate::Texts;
use super::super::machine::view::TouchedStretch;
use super::super::operator::{Pattern, PatternSettings, Seat};
use super::super::outputs::{OUTPUTS, Outputs};
use super::super::place::Place;
use super::super::repairs::{PatternEffects, Repairs, beyond_record};
use super::graph::{Cycle, Graph, Transfer};
use crate::arrange::change::{Cause, Change, NO_TICKET, Verb};
use crate::arrange::replies::Replies;
use crate::arrange::request::{Ask, Block, HEAD, Request};
use crate::epoch::{Epoch, EpochFacts};
use crate::event::{Id, Key, Schema};
use crate::operators::Epochs;
use crate::runtime::metrics::Metrics;

/// What the operator is built from.
pub struct CycleInputs<'scope> {
    /// Changes of the retained events.
    pub changes: Stream<'scope, Epoch, Vec<Change>>,
    /// The pattern.
    pub plan: Arc<CyclePlan>,
    /// The plan of its slices.
    pub index: u16,
    /// Retention.
    pub settings: PatternSettings,
}

/// Words of a request: its head, the payee, the amount.
const STRIDE: usize = HEAD + 3;

/// Builds the operator.
pub fn cycle_operator<'scope>(
    inputs: CycleInputs<'scope>,
    schema: Arc<Schema>,
    facts: EpochFacts,
    metrics: Arc<Metrics>,
) -> Pattern<'scope> {
    let CycleInputs { changes, plan, index, settings } = inputs;
    let scope = changes.scope();
    let (here, peers) = (scope.worker().index() as u32, scope.worker().peers());
    let seat = Seat { index, here, peers };
    let requests = cut(changes, plan.clone(), schema, seat);
    let mut builder = OperatorBuilder::new("Cycles".to_owned(), scope);
    let mut requests = builder.new_input(requests, Exchange::new(|block: &Block| u64::from(block.to)));
    let (mut outputs, streams) = Outputs::new(&mut builder);

    builder.build(move |_| {
        let mut epochs: Epochs<Vec<Block>> = Epochs::new(OUTPUTS);
        let repairs = Repairs::new(format!("cycles {index}"), settings.kept_ms, metrics);
        let mut cycles = CycleView { plan, graph: Graph::default(), repairs, settings, seat };
        move |frontiers| {
            requests.for_each(|capability, data| {
                if let Some(epoch) = epochs.of(&capability) {
                    epoch.append(data);
                }
            });
            while let Some((epoch, capabilities, mut blocks)) = epochs.next_complete(frontiers) {
                blocks.sort_by_key(|block| block.from);
                let effects = cycles.apply(epoch, &facts, &blocks);
                outputs.send(&capabilities, effects);
                if cycles.repairs.owes() {
                    epochs.keep_open(epoch + 1, capabilities.iter().map(|hold| hold.delayed(&(epoch + 1))).collect());
                }
            }
        }
    });
    streams
}

/// Cuts changes of transfers to requests, addressed to their owner.
fn cut<'scope>(
    changes: Stream<'scope, Epoch, Vec<Change>>,
    plan: Arc<CyclePlan>,
    schema: Arc<Schema>,
    seat: Seat,
) -> Stream<'scope, Epoch, Vec<Block>> {
    let to = (Key::from_text(&plan.name).route() % seat.peers as u64) as u32;
    changes.unary::<CapacityContainerBuilder<Vec<Block>>, _, _, _>(Pipeline, "Cut cycles", move |_, _| {
        let texts = Texts::new(&schema);
        move |input, output| {
            input.for_each(|capability, changes| {
                let mut block = Block { to, from: seat.here, plan: 0, words: Vec::new() };
                for change in changes.drain(..) {
                    let ask = match change.verb {
                        Verb::Insert => Ask::Insert,
                        Verb::Remove => Ask::Remove,
                        Verb::Read => Ask::Read,
                        Verb::Label | Verb::Relabel => continue,
                    };
                    let event = &*change.event;
                    let Some(transfer) = plan.transfer(event, &schema, &texts) else { continue };
                    Request {
                        ask,
                        scored: schema.is_scored(event.kind),
                        cause: change.cause,
                        ticket: change.ticket,
                        key: transfer.from,
                        time: event.time,
                        id: event.id,
                        mask: 0,
                        known_at: i64::MAX,
                        columns: &[transfer.to.hi, transfer.to.lo, transfer.amount as u64],
                    }
                    .write(&mut block.words);
                }
                if !block.words.is_empty() {
                    output.session(&capability).give(block);
                }
            });
        }
    })
}

struct CycleView {
    plan: Arc<CyclePlan>,
    graph: Graph,
    repairs: Repairs,
    settings: PatternSettings,
    seat: Seat,
}

impl CycleView {
    fn apply(&mut self, epoch: Epoch, facts: &EpochFacts, blocks: &[Block]) -> PatternEffects {
        let late_against = facts.before(epoch);
        let mut effects = PatternEffects::default();
        let rows = blocks
            .iter()
            .flat_map(|block| block.words.chunks_exact(STRIDE).map(|row| (Request::read(row), block.from)));
        let mut asked: Vec<(Request<'_>, u32)> = rows.collect();
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
        let mut replies = Replies::new(self.seat.index, self.seat.here, self.seat.peers, 2, 0);
        for (request, from) in asked.iter().filter(|(request, _)| request.ticket != NO_TICKET) {
            let (now, count) = self.graph.read((request.time, request.id), request.key);
            replies.row(*from, request.ticket).copy_from_slice(&[f64::from(u8::from(now)), count as f64]);
        }
        effects.slices.extend(replies.blocks());
        let first = asked.first().map_or((Cause::Arrival, Id::default()), |(request, _)| (request.cause, request.id));
        let cause = if first.0 == Cause::Arrival { Cause::LateEvent } else { first.0 };
        let graph = &self.graph;
        let visit = |key, after, until_ms, limit, visit: &mut dyn FnMut(i64, Id)| {
            graph.visit_scored(key, after, until_ms, limit, visit)
        };
        for (cycle, diff) in diffs {
            let Some(&at) = cycle.transfers.last() else { continue };
            if let Some(before) = before.filter(|before| at <= *before) {
                for &key in &cycle.payers {
                    let until_ms = before.0.min(at.0.saturating_add(COUNTED_MS - 1));
                    let touched = TouchedStretch { key, from: at, until_ms, cause, id: first.1 };
                    let revised_from = late_against.saturating_sub(self.plan.revise_ms);
                    let beyond = self.repairs.mark(revised_from, 0, &touched, &visit);
                    effects.beyond.extend(beyond.map(|range| beyond_record(&self.plan.name, &touched, range)));
                }
            }
            effects.matches.push((matched(&self.plan, &cycle), diff));
        }
        consolidate(&mut effects.matches);
        effects.touched = self.repairs.repair(epoch, facts, &|_, key, after, until_ms, limit, visit| {
            graph.visit_scored(key, after, until_ms, limit, visit)
        });
        self.graph.expire(&self.plan, late_against.saturating_sub(self.settings.kept_ms), 16 + 2 * changes.len());
        effects
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
