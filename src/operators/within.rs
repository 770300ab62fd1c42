//! What has happened lately: the part of a collection whose event time the watermark has not left behind.

use std::collections::BTreeMap;

use differential_dataflow::{AsCollection, VecCollection};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use super::Epochs;
use crate::flow::{Epoch, EpochFacts};

/// The records of a collection whose time is in `(watermark - span_ms, ...)`, as of the end of each epoch. They are taken back
/// by the epoch whose watermark leaves them behind, whether it has records or not. Costs a map entry per record in the span.
pub fn within<'scope, D: Ord + Clone + 'static>(
    name: &str,
    records: VecCollection<'scope, Epoch, D>,
    time_ms: impl Fn(&D) -> i64 + 'static,
    span_ms: i64,
    facts: EpochFacts,
) -> VecCollection<'scope, Epoch, D> {
    let mut builder = OperatorBuilder::new(name.to_owned(), records.scope());
    let mut records = builder.new_input(records.inner, Pipeline);
    let (output, stream) = builder.new_output();
    let mut output = OutputBuilder::<_, CapacityContainerBuilder<Vec<(D, Epoch, isize)>>>::from(output);
    builder.build(move |_| {
        let mut epochs: Epochs<Vec<(D, Epoch, isize)>> = Epochs::new(1);
        let mut held: BTreeMap<(i64, D), isize> = BTreeMap::new();
        // Where what is held will be taken back.
        let mut next: Option<Capability<Epoch>> = None;
        move |frontiers| {
            records.for_each(|capability, data| {
                if let Some(epoch) = epochs.of(&capability) {
                    epoch.append(data);
                }
            });
            let open = facts.open(frontiers);
            loop {
                let complete = epochs.next_complete(frontiers);
                let until = complete.as_ref().map_or(open, |(epoch, ..)| *epoch);
                while let Some(capability) = next.as_mut().filter(|capability| *capability.time() < until) {
                    let epoch = *capability.time();
                    let left = leave(&mut held, facts.of(epoch).watermark_ms.saturating_sub(span_ms), epoch);
                    output.activate().session(capability).give_iterator(left.into_iter());
                    capability.downgrade(&(epoch + 1));
                    if held.is_empty() {
                        next = None;
                    }
                }
                let Some((epoch, capabilities, updates)) = complete else { break };
                let bound_ms = facts.of(epoch).watermark_ms.saturating_sub(span_ms);
                let mut out = Vec::new();
                for (record, _, diff) in updates {
                    let place = (time_ms(&record), record);
                    if place.0 > bound_ms {
                        out.push((place.1.clone(), epoch, diff));
                        let count = held.entry(place.clone()).or_default();
                        *count += diff;
                        if *count == 0 {
                            held.remove(&place);
                        }
                    }
                }
                out.extend(leave(&mut held, bound_ms, epoch));
                output.activate().session(&capabilities[0]).give_iterator(out.into_iter());
                next = (!held.is_empty()).then(|| capabilities[0].delayed(&(epoch + 1)));
            }
            if frontiers.iter().all(|frontier| frontier.frontier().is_empty()) {
                next = None;
            }
        }
    });
    stream.as_collection()
}

/// Takes out what a bound leaves behind, as updates that take it back.
fn leave<D: Ord>(held: &mut BTreeMap<(i64, D), isize>, bound_ms: i64, epoch: Epoch) -> Vec<(D, Epoch, isize)> {
    let mut left = Vec::new();
    while let Some(first) = held.first_entry().filter(|first| first.key().0 <= bound_ms) {
        let ((_, record), count) = first.remove_entry();
        left.push((record, epoch, -count));
    }
    left
}
