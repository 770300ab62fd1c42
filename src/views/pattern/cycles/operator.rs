//! The operator of a pattern of cycles: one owner has all its transfers.
//!
//! Cycles share no key, so the transfers of a pattern go to one worker, which a pattern's name decides.

use std::sync::Arc;

use differential_dataflow::consolidation::consolidate;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use super::cut::{cut, requests};
use super::view::CycleView;
use crate::event::{Id, Schema};
use crate::flow::{Ask, Block, Change, Epoch, EpochFacts, Replies};
use crate::metrics::Metrics;
use crate::operators::Epochs;
use crate::views::pattern::compile::cycle::CyclePlan;
use crate::views::pattern::operator::{Pattern, PatternSettings, Seat};
use crate::views::pattern::outputs::{OUTPUTS, Outputs};
use crate::views::pattern::repairs::{PatternEffects, Repairs, beyond_record};

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
        let mut owned = Owned { view: CycleView::new(plan), repairs, settings, seat };
        move |frontiers| {
            requests.for_each(|capability, data| {
                if let Some(epoch) = epochs.of(&capability) {
                    epoch.append(data);
                }
            });
            while let Some((epoch, capabilities, mut blocks)) = epochs.next_complete(frontiers) {
                blocks.sort_by_key(|block| block.from);
                let effects = owned.apply(epoch, &facts, &blocks);
                outputs.send(&capabilities, effects);
                if owned.repairs.owes() {
                    epochs.keep_open(epoch + 1, capabilities.iter().map(|hold| hold.delayed(&(epoch + 1))).collect());
                }
            }
        }
    });
    streams
}

/// The transfers of a pattern, and the rows that changes of them have touched.
struct Owned {
    view: CycleView,
    repairs: Repairs,
    settings: PatternSettings,
    seat: Seat,
}

impl Owned {
    fn apply(&mut self, epoch: Epoch, facts: &EpochFacts, blocks: &[Block]) -> PatternEffects {
        let Owned { view, repairs, settings, seat } = self;
        let late_against = facts.before(epoch);
        let mut effects = PatternEffects::default();
        let of_block = |block| requests(block).map(|request| (request, block.from));
        let asked: Vec<_> = blocks.iter().flat_map(of_block).collect();
        let changes = asked.iter().filter(|(request, _)| matches!(request.ask, Ask::Insert | Ask::Remove)).count();
        let mut replies = Replies::new(seat.index, seat.here, seat.peers, 2, 0);
        let outcome = view.apply(&asked, &mut replies);
        effects.slices.extend(replies.blocks());
        effects.matches = outcome.matches;
        consolidate(&mut effects.matches);
        let visit = |key, after, until_ms, limit, visit: &mut dyn FnMut(i64, Id)| {
            view.visit_scored(key, after, until_ms, limit, visit)
        };
        let revised_from = late_against.saturating_sub(view.plan().revise_ms);
        for touched in outcome.touched {
            let beyond = repairs.mark(revised_from, 0, &touched, &visit);
            effects.beyond.extend(beyond.map(|range| beyond_record(&view.plan().name, &touched, range)));
        }
        effects.touched = repairs.repair(epoch, facts, &|_, key, after, until_ms, limit, visit| {
            view.visit_scored(key, after, until_ms, limit, visit)
        });
        view.expire(late_against.saturating_sub(settings.kept_ms), 16 + 2 * changes);
        effects
    }
}
