//! Cuts changes of events into one narrow request per key, addressed to the key's owner.

use std::sync::Arc;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;

use super::store::{AMOUNT_MISSING, VALUE_MISSING};
use crate::event::Schema;
use crate::flow::{Ask, Block, Change, Epoch, NO_TICKET, Outgoing, Request, Verb};
use crate::views::velocity::KeyPlan;

/// Builds the operator: changes in, blocks of requests out, one per key kind and worker that has any.
pub fn project<'scope>(
    changes: Stream<'scope, Epoch, Vec<Change>>,
    plans: Arc<[Arc<KeyPlan>]>,
    schema: Arc<Schema>,
) -> Stream<'scope, Epoch, Vec<Block>> {
    let worker = changes.scope().worker().clone();
    let mut outgoing = Outgoing::new(worker.index() as u32, worker.peers(), plans.len());
    changes.unary::<CapacityContainerBuilder<Vec<Block>>, _, _, _>(Pipeline, "Project", move |_, _| {
        let mut columns = Vec::new();
        move |input, output| {
            input.for_each(|capability, changes| {
                for change in changes.iter() {
                    for (index, plan) in plans.iter().enumerate() {
                        if let Some(request) = request(change, plan, &schema, &mut columns) {
                            outgoing.push(index, &request);
                        }
                    }
                }
                changes.clear();
                output.session(&capability).give_iterator(outgoing.take());
            });
        }
    })
}

/// The request that a change makes of one key, if it concerns the key.
#[inline]
fn request<'a>(change: &Change, plan: &KeyPlan, schema: &Schema, columns: &'a mut Vec<u64>) -> Option<Request<'a>> {
    let event = &*change.event;
    let scored = schema.is_scored(event.kind);
    let ask = match change.verb {
        Verb::Insert => Ask::Insert,
        Verb::Remove => Ask::Remove,
        Verb::Label | Verb::Relabel if !plan.uses_labels => return None,
        Verb::Label => Ask::Label,
        Verb::Relabel => Ask::Relabel,
        Verb::Read => Ask::Read,
    };
    let key = plan.key_of(event, schema)?;
    let mask = match ask {
        Ask::Insert | Ask::Label | Ask::Relabel => plan.mask_of(event, change.label.map(|label| label.fraud), schema),
        Ask::Remove | Ask::Read => 0,
    };
    if ask == Ask::Insert && mask == 0 && change.ticket == NO_TICKET && !scored && !plan.uses_labels {
        return None;
    }
    columns.clear();
    if ask == Ask::Insert {
        columns.extend(plan.amounts.iter().map(|&slot| event.int(slot).unwrap_or(AMOUNT_MISSING) as u64));
        columns.extend(plan.values.iter().map(|&slot| event.fingerprint(slot, schema).unwrap_or(VALUE_MISSING)));
    } else {
        columns.resize(plan.amounts.len() + plan.values.len(), 0);
    }
    Some(Request {
        ask,
        scored,
        cause: change.cause,
        ticket: change.ticket,
        key,
        time: event.time,
        id: event.id,
        mask,
        known_at: change.label.map_or(i64::MAX, |label| label.available_at),
        columns,
    })
}
