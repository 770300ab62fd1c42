//! The operator of one look-up: requests by key and reference records in, slices and touched transactions out. `view` says
//! what is done in an epoch.

use std::sync::Arc;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::generic::{Operator, OutputBuilder};

use super::plan::{EnrichPlan, KeyOf};
use super::view::LookupView;
use crate::event::Schema;
use crate::flow::{
    Ask, Block, Change, Epoch, EpochFacts, NO_TICKET, Outgoing, ReferenceRecord, Request, Touched, Verb,
};
use crate::metrics::Metrics;
use crate::operators::Epochs;

/// What the operator is built with.
#[derive(Clone, Debug)]
pub struct LookupSettings {
    /// The [`Block::plan`] of its slices.
    pub index: u16,
    /// How late an event may be, milliseconds: lookers are kept for this and the revise horizon.
    pub late_ms: i64,
    /// How far behind the watermark a transaction can be read, milliseconds.
    pub read_ms: i64,
}

/// Slices of feature rows, and what was touched.
pub struct Looked<'scope> {
    /// Rows of `[ticket, column, ...]`, addressed to the worker that asked.
    pub slices: Stream<'scope, Epoch, Vec<Block>>,
    /// Transactions to be read again; nothing ever comes of a look-up as of arrival.
    pub touched: Stream<'scope, Epoch, Vec<Touched>>,
}

/// Builds the operators.
pub fn lookup<'scope>(
    changes: Stream<'scope, Epoch, Vec<Change>>,
    records: Stream<'scope, Epoch, Vec<ReferenceRecord>>,
    plan: Arc<EnrichPlan>,
    settings: LookupSettings,
    schema: Arc<Schema>,
    facts: EpochFacts,
    metrics: Arc<Metrics>,
) -> Looked<'scope> {
    let scope = changes.scope();
    let (here, peers) = (scope.worker().index() as u32, scope.worker().peers());
    let requests = ask(changes, plan.clone(), schema);
    let mut builder = OperatorBuilder::new(format!("Look up {}", plan.name), scope);
    let mut requests = builder.new_input(requests, Exchange::new(|block: &Block| u64::from(block.to)));
    let mut records = builder.new_input(records, Exchange::new(|record: &ReferenceRecord| u64::from(record.to)));
    let (slices_out, slices) = builder.new_output();
    let (touched_out, touched) = builder.new_output();
    let mut slices_out = OutputBuilder::<_, CapacityContainerBuilder<Vec<Block>>>::from(slices_out);
    let mut touched_out = OutputBuilder::<_, CapacityContainerBuilder<Vec<Touched>>>::from(touched_out);

    builder.build(move |_| {
        let mut epochs: Epochs<(Vec<Block>, Vec<ReferenceRecord>)> = Epochs::new(2);
        let mut owner = LookupView::new(plan, settings, metrics, here, peers);
        move |frontiers| {
            requests.for_each(|capability, data| {
                if let Some(epoch) = epochs.of(&capability) {
                    epoch.0.append(data);
                }
            });
            records.for_each(|capability, data| {
                let mine = data.drain(..).filter(|record| record.tag == owner.tag());
                if let Some(epoch) = epochs.of(&capability) {
                    epoch.1.extend(mine);
                }
            });
            while let Some((epoch, capabilities, (blocks, records))) = epochs.next_complete(frontiers) {
                let mut effects = owner.apply(epoch, &facts, &blocks, records);
                if !effects.slices.is_empty() {
                    slices_out.activate().session(&capabilities[0]).give_container(&mut effects.slices);
                }
                if !effects.touched.is_empty() {
                    touched_out.activate().session(&capabilities[1]).give_container(&mut effects.touched);
                }
                // What is touched is read one epoch later, so that one must come, whether events do or not.
                if owner.backlog_len() > 0 {
                    epochs.keep_open(epoch + 1, capabilities.iter().map(|hold| hold.delayed(&(epoch + 1))).collect());
                }
            }
        }
    });
    Looked { slices, touched }
}

/// Cuts changes into requests, addressed to the owner of the key. What everyone has (a network file) is asked here.
fn ask<'scope>(
    changes: Stream<'scope, Epoch, Vec<Change>>,
    plan: Arc<EnrichPlan>,
    schema: Arc<Schema>,
) -> Stream<'scope, Epoch, Vec<Block>> {
    let worker = changes.scope().worker().clone();
    let here = worker.index() as u32;
    let mut outgoing = Outgoing::new(here, worker.peers(), 1);
    let name = format!("Ask {}", plan.name);
    changes.unary::<CapacityContainerBuilder<Vec<Block>>, _, _, _>(Pipeline, &name, move |_, _| {
        move |input, output| {
            input.for_each(|capability, changes| {
                for change in changes.drain(..) {
                    let Some(request) = request(&change, &plan, &schema) else { continue };
                    match plan.key {
                        KeyOf::Address(_) => outgoing.push_to(here, 0, &request),
                        _ => outgoing.push(0, &request),
                    }
                }
                output.session(&capability).give_iterator(outgoing.take());
            });
        }
    })
}

fn request(change: &Change, plan: &EnrichPlan, schema: &Schema) -> Option<Request<'static>> {
    let ask = match change.verb {
        Verb::Insert if change.ticket != NO_TICKET => Ask::Insert,
        Verb::Read if plan.live && change.ticket != NO_TICKET => Ask::Read,
        Verb::Remove if plan.live && schema.is_scored(change.event.kind) => Ask::Remove,
        _ => return None,
    };
    Some(Request {
        ask,
        scored: true,
        cause: change.cause,
        ticket: change.ticket,
        key: plan.key_of(&change.event, schema)?,
        time: change.event.time,
        id: change.event.id,
        mask: 0,
        known_at: i64::MAX,
        columns: &[],
    })
}
