//! Values by key that go when their key does.

use std::collections::HashMap;
use std::hash::Hash;

use differential_dataflow::{AsCollection, VecCollection};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use super::Epochs;
use crate::flow::Epoch;

/// A value of a key that comes (+1) or goes (-1).
pub type Valued<K, V> = (K, V, isize);

/// Updates of the keys.
pub type Keyed<K> = (K, Epoch, isize);

/// What comes in of an epoch.
type Came<K, V> = (Vec<Valued<K, V>>, Vec<Keyed<K>>);

/// The values as a collection, one per key at most, without those whose key has gone. `keys` come and go on the same worker as
/// their values. A key that goes and comes again within an epoch has not gone.
pub fn while_kept<'scope, K: Hash + Ord + Clone + 'static, V: Ord + Clone + 'static>(
    name: &str,
    values: Stream<'scope, Epoch, Vec<Valued<K, V>>>,
    keys: Stream<'scope, Epoch, Vec<Keyed<K>>>,
) -> VecCollection<'scope, Epoch, (K, V)> {
    let mut builder = OperatorBuilder::new(name.to_owned(), values.scope());
    let mut values = builder.new_input(values, Pipeline);
    let mut keys = builder.new_input(keys, Pipeline);
    let (output, stream) = builder.new_output();
    let mut output = OutputBuilder::<_, CapacityContainerBuilder<Vec<((K, V), Epoch, isize)>>>::from(output);
    builder.build(move |_| {
        let mut epochs: Epochs<Came<K, V>> = Epochs::new(1);
        let mut held: HashMap<K, V> = HashMap::new();
        move |frontiers| {
            values.for_each(|capability, data| {
                if let Some(epoch) = epochs.of(&capability) {
                    epoch.0.append(data);
                }
            });
            keys.for_each(|capability, data| {
                if let Some(epoch) = epochs.of(&capability) {
                    epoch.1.append(data);
                }
            });
            while let Some((epoch, capabilities, (values, keys))) = epochs.next_complete(frontiers) {
                let mut out = Vec::new();
                for (key, value, diff) in values {
                    if diff > 0 {
                        held.insert(key.clone(), value.clone());
                    } else {
                        held.remove(&key);
                    }
                    out.push(((key, value), epoch, diff));
                }
                let mut net: HashMap<K, isize> = HashMap::new();
                keys.into_iter().for_each(|(key, _, diff)| *net.entry(key).or_default() += diff);
                let gone = net.into_iter().filter(|(_, net)| *net < 0).map(|(key, _)| key);
                let gone = gone.filter_map(|key| held.remove_entry(&key));
                out.extend(gone.map(|gone| (gone, epoch, -1)));
                output.activate().session(&capabilities[0]).give_iterator(out.into_iter());
            }
        }
    });
    stream.as_collection()
}
