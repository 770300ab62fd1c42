//! Cuts changes of transfers to requests.

use std::sync::Arc;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;

use crate::event::{Key, Schema};
use crate::flow::{Ask, Block, Change, Epoch, HEAD, Request, Verb};
use crate::views::pattern::compile::cycle::CyclePlan;
use crate::views::pattern::machine::evaluate::Texts;
use crate::views::pattern::operator::Seat;

/// Words of a request: its head, the payee, the amount.
const STRIDE: usize = HEAD + 3;

/// Cuts changes of transfers to requests, addressed to their owner.
pub(in super::super) fn cut<'scope>(
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
                    request(&change, &plan, &schema, &texts, &mut block.words);
                }
                if !block.words.is_empty() {
                    output.session(&capability).give(block);
                }
            });
        }
    })
}

/// Appends the request that a change makes, if it is of a transfer.
pub fn request(change: &Change, plan: &CyclePlan, schema: &Schema, texts: &Texts, words: &mut Vec<u64>) {
    let ask = match change.verb {
        Verb::Insert => Ask::Insert,
        Verb::Remove => Ask::Remove,
        Verb::Read => Ask::Read,
        Verb::Label | Verb::Relabel => return,
    };
    let event = &*change.event;
    let Some(transfer) = plan.transfer(event, schema, texts) else { return };
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
    .write(words);
}

/// The requests of a block, in order.
pub fn requests(block: &Block) -> impl Iterator<Item = Request<'_>> {
    block.words.chunks_exact(STRIDE).map(Request::read)
}
