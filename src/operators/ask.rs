//! Requests cut from changes by an operator of their own: for views that a dataflow adds to those of its features.

use timely::container::CapacityContainerBuilder;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;

use crate::flow::{Asker, Block, Changes, Epoch, Outgoing};

/// Has someone ask a view on behalf of changes.
pub fn ask<'scope>(
    name: &str,
    changes: Stream<'scope, Epoch, Vec<Changes>>,
    mut asker: impl Asker + 'static,
) -> Stream<'scope, Epoch, Vec<Block>> {
    let worker = changes.scope().worker().clone();
    let mut outgoing = Outgoing::new(worker.index() as u32, worker.peers(), asker.plans());
    changes.unary::<CapacityContainerBuilder<Vec<Block>>, _, _, _>(Pipeline, name, move |_, _| {
        move |input, output| {
            input.for_each(|capability, batches| {
                for changes in batches.drain(..) {
                    changes.iter().for_each(|change| asker.ask(change, &mut outgoing));
                }
                output.session(&capability).give_iterator(outgoing.take());
            });
        }
    })
}
