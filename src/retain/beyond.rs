//! Changes that touched rows too old to be revised: one record per change and key kind.
//!
//! What is not revised is published, never dropped in silence. One change may touch old rows of a key kind more than once: a
//! correction that moves an event to another key takes it out of one log and puts it into another, on another worker
//! perhaps; an event may undo several matches. So what the owners of the keys find goes to the owner of the event, which
//! makes one record of it: of equal `(id, what)` the earliest time, the first and the last row touched, and the smallest
//! cause.

use std::collections::BTreeMap;
use std::sync::Arc;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use crate::event::{IdType, MapKey};
use crate::flow::shard_of;
use crate::flow::{Beyond, Epoch, Reject};
use crate::metrics::Metrics;
use crate::operators::Epochs;

/// Builds the operator.
pub fn publish<'scope>(
    beyond: Stream<'scope, Epoch, Vec<Beyond>>,
    ids: IdType,
    metrics: Arc<Metrics>,
) -> Stream<'scope, Epoch, Vec<Reject>> {
    let mut builder = OperatorBuilder::new("Beyond".to_owned(), beyond.scope());
    let by_event = Exchange::new(move |beyond: &Beyond| u64::from(shard_of(beyond.id.map_key(ids).route())));
    let mut beyond = builder.new_input(beyond, by_event);
    let (rejects_out, rejects) = builder.new_output();
    let mut rejects_out = OutputBuilder::<_, CapacityContainerBuilder<Vec<Reject>>>::from(rejects_out);
    builder.build(move |_| {
        let mut epochs: Epochs<Vec<Beyond>> = Epochs::new(1);
        move |frontiers| {
            beyond.for_each(|capability, data| {
                if let Some(epoch) = epochs.of(&capability) {
                    epoch.append(data);
                }
            });
            while let Some((_, capabilities, found)) = epochs.next_complete(frontiers) {
                let rejects = joined(found, ids).into_iter().map(|beyond| beyond.reject(ids));
                let mut rejects: Vec<Reject> = rejects.collect();
                metrics.revisions_beyond.add(rejects.len() as u64);
                rejects_out.activate().session(&capabilities[0]).give_container(&mut rejects);
            }
        }
    });
    rejects
}

/// One per change and key kind, in an order that does not depend on who found them.
fn joined(found: Vec<Beyond>, ids: IdType) -> Vec<Beyond> {
    let mut joined: BTreeMap<(MapKey, String), Beyond> = BTreeMap::new();
    for beyond in found {
        match joined.get_mut(&(beyond.id.map_key(ids), beyond.what.clone())) {
            Some(other) => other.join(beyond),
            None => drop(joined.insert((beyond.id.map_key(ids), beyond.what.clone()), beyond)),
        }
    }
    joined.into_values().collect()
}
