//! Where the graph ends: operators that hand what they receive to a port, without ever blocking.

use std::rc::Rc;
use std::time::Duration;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;

use crate::feature::rows::Rows;
use crate::flow::{Epoch, Reject};
use crate::score::assessment::ScoredDiff;

/// Takes items off the graph. Called with what is new of an epoch, or with nothing to try again; returns whether everything taken so
/// far has been passed on. While it has not, the epoch stays open, which is how a slow sink holds back the sources.
pub type Port<T> = Box<dyn FnMut(Option<(Epoch, Vec<T>)>) -> bool>;

/// An update of a collection that a dataflow emits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CollectionUpdate {
    /// The collection's name.
    pub name: &'static str,
    /// The record's key.
    pub key: String,
    /// The record's value, as JSON.
    pub value: String,
    /// The epoch.
    pub epoch: Epoch,
    /// How often the record was added, or taken away.
    pub diff: isize,
}

/// Where the graph's outputs go, per worker.
pub struct Ports {
    /// Scored diffs.
    pub scored: Option<Port<ScoredDiff>>,
    /// Rejects of the decoder, events beyond the horizon.
    pub rejects: Option<Port<Reject>>,
    /// Assembled rows, if they are logged.
    pub features: Option<Port<Rows>>,
    /// Collections that the dataflow emits.
    pub collections: Option<Rc<dyn Fn() -> Port<CollectionUpdate>>>,
}

/// How soon a port that could not pass everything on is asked again.
const RETRY: Duration = Duration::from_millis(1);

/// Builds the operator: items in, to the port; the stream that comes out carries nothing but progress.
pub fn deliver<'scope, T: 'static>(
    items: Stream<'scope, Epoch, Vec<T>>,
    name: &str,
    mut port: Port<T>,
) -> Stream<'scope, Epoch, Vec<()>> {
    let scope = items.scope();
    items.unary::<CapacityContainerBuilder<Vec<()>>, _, _, _>(Pipeline, name, move |_, info| {
        let activator = scope.activator_for(info.address);
        let mut held = Vec::new();
        move |input, output| {
            input.for_each(|capability, data| {
                let Some(&epoch) = capability.least() else { return };
                held.extend(capability.retain_least(output.output_index()));
                port(Some((epoch, std::mem::take(data))));
            });
            if !held.is_empty() {
                if port(None) {
                    held.clear();
                } else {
                    activator.activate_after(RETRY);
                }
            }
        }
    })
}
