//! The changes of an epoch and the slices that answer their tickets, once all of both are there.

use timely::container::CapacityContainerBuilder;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use crate::flow::{Block, Change, Changes, Epoch};
use crate::operators::Epochs;

/// Builds an operator of this name. For each complete epoch `work` gets its changes and slices and appends what comes out.
pub fn with_slices<'scope, D: Clone + 'static>(
    name: &str,
    changes: Stream<'scope, Epoch, Vec<Changes>>,
    slices: Stream<'scope, Epoch, Vec<Block>>,
    mut work: impl FnMut(&[Change], &[Block], &mut Vec<D>) + 'static,
) -> Stream<'scope, Epoch, Vec<D>> {
    let mut builder = OperatorBuilder::new(name.to_owned(), changes.scope());
    let mut changes = builder.new_input(changes, Pipeline);
    let mut slices = builder.new_input(slices, Exchange::new(|block: &Block| u64::from(block.to)));
    let (output, stream) = builder.new_output();
    let mut output = OutputBuilder::<_, CapacityContainerBuilder<Vec<D>>>::from(output);
    builder.build(move |_| {
        let mut epochs: Epochs<(Vec<Changes>, Vec<Block>)> = Epochs::new(1);
        move |frontiers| {
            changes.for_each(|capability, data| {
                if let Some(epoch) = epochs.of(&capability) {
                    epoch.0.append(data);
                }
            });
            slices.for_each(|capability, data| {
                if let Some(epoch) = epochs.of(&capability) {
                    epoch.1.append(data);
                }
            });
            while let Some((_, capabilities, (changes, slices))) = epochs.next_complete(frontiers) {
                let mut out = Vec::new();
                changes.iter().for_each(|changes| work(changes, &slices, &mut out));
                if !out.is_empty() {
                    output.activate().session(&capabilities[0]).give_container(&mut out);
                }
            }
        }
    });
    stream
}
