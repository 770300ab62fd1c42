//! The latest value of each key, kept over restarts.

use std::collections::{BTreeSet, HashMap};

use differential_dataflow::{AsCollection, ExchangeData, VecCollection};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use super::while_kept::Keyed;
use super::{Dumper, Epochs, Images, ShardedMap};
use crate::event::MapKey;
use crate::flow::{Epoch, EpochFacts, shard_of};

/// What it is built from.
pub struct LatestInputs<'scope, V> {
    /// What the operator is called; also what its images are filed under.
    pub name: String,
    /// A hash of all that decides what its values are.
    pub fingerprint: u64,
    /// Values, in order per key.
    pub values: Stream<'scope, Epoch, Vec<(MapKey, V)>>,
    /// Keys come and go, on the same worker as their values.
    pub keys: Stream<'scope, Epoch, Vec<Keyed<MapKey>>>,
    /// The facts of each epoch.
    pub facts: EpochFacts,
    /// Where images come from and go to.
    pub images: Images,
}

/// What comes in of an epoch.
type CameOfKeys<V> = (Vec<(MapKey, V)>, Vec<Keyed<MapKey>>);

/// What an epoch has made of some keys.
type Renewed<V> = Vec<(MapKey, Option<V>)>;

/// The last value of each key as a collection, until the key goes. A key that goes and comes again within an epoch has not gone.
///
/// # Errors
/// If what is to be loaded is not of these values.
pub fn latest<V: ExchangeData>(inputs: LatestInputs<'_, V>) -> Result<VecCollection<'_, Epoch, (MapKey, V)>, String> {
    let LatestInputs { name, fingerprint, values, keys, facts, images } = inputs;
    let scope = values.scope();
    let mut builder = OperatorBuilder::new(name.clone(), scope);
    let activator = scope.activator_for(builder.operator_info().address);
    let mut values = builder.new_input(values, Pipeline);
    let mut keys = builder.new_input(keys, Pipeline);
    let (output, stream) = builder.new_output();
    let mut output = OutputBuilder::<_, CapacityContainerBuilder<Vec<((MapKey, V), Epoch, isize)>>>::from(output);

    images.declare(&name, fingerprint);
    let mut held: ShardedMap<V> = load(&name, &images)?;
    let loaded = images.facts();
    let mut dumper = Dumper::new(images, &name, activator);
    builder.build(move |initial| {
        let mut epochs: Epochs<CameOfKeys<V>> = Epochs::new(1);
        // Whoever takes it is connected once this runs for the first time.
        let mut publishing = loaded.map(|facts| initial[0].delayed(&facts.epoch));
        drop(initial);
        move |frontiers| {
            if let Some(capability) = publishing.take() {
                let epoch = *capability.time();
                let all = held.iter().map(|(key, value)| ((*key, value.clone()), epoch, 1)).collect::<Vec<_>>();
                output.activate().session(&capability).give_iterator(all.into_iter());
            }
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
                dump_before(epoch, &name, &mut dumper, &facts, &held);
                let (mut out, mut renewed) = (Vec::new(), BTreeSet::new());
                for (key, value) in values {
                    let before = held.insert(key, value.clone());
                    out.extend(before.map(|before| ((key, before), epoch, -1)));
                    out.push(((key, value), epoch, 1));
                    renewed.insert(key);
                }
                let mut net: HashMap<MapKey, isize> = HashMap::new();
                keys.into_iter().for_each(|(key, _, diff)| *net.entry(key).or_default() += diff);
                for (key, _) in net.into_iter().filter(|(_, net)| *net < 0) {
                    out.extend(held.remove(&key).map(|gone| ((key, gone), epoch, -1)));
                    renewed.insert(key);
                }
                if dumper.logs() {
                    let renewed: Renewed<V> = renewed.into_iter().map(|key| (key, held.get(&key).cloned())).collect();
                    dumper.log(epoch, &renewed);
                }
                output.activate().session(&capabilities[0]).give_iterator(out.into_iter());
            }
            let open = facts.open(frontiers);
            dump_before(open, &name, &mut dumper, &facts, &held);
            if let Some(now) = open.checked_sub(1) {
                dumper.turn(now, |images, _, shard| put(images, &name, shard, now, &held));
            }
        }
    });
    Ok(stream.as_collection())
}

fn load<V: ExchangeData>(name: &str, images: &Images) -> Result<ShardedMap<V>, String> {
    let mut held = ShardedMap::default();
    images.load(name, |all: Vec<(MapKey, V)>| {
        all.into_iter().for_each(|(key, value)| drop(held.insert(key, value)));
        Ok(())
    })?;
    images.replay_asked(name, |of_workers: Vec<Renewed<V>>, fresh| {
        let later = of_workers.into_iter().flatten().filter(|(key, _)| fresh(0, shard_of(key.route())));
        for (key, value) in later {
            match value {
                Some(value) => drop(held.insert(key, value)),
                None => drop(held.remove(&key)),
            }
        }
        Ok(())
    })?;
    Ok(held)
}

/// Dumps what is to be dumped at the end of epochs before this one.
fn dump_before<V: ExchangeData>(
    until: Epoch,
    name: &str,
    dumper: &mut Dumper,
    facts: &EpochFacts,
    held: &ShardedMap<V>,
) {
    while let Some((epoch, dump)) = dumper.due(until, facts) {
        dumper.pass((epoch, dump), 1, |images, _, shard| put(images, name, shard, epoch, held));
    }
}

fn put<V: ExchangeData>(images: &Images, name: &str, shard: u32, epoch: Epoch, held: &ShardedMap<V>) {
    let mut all: Vec<(&MapKey, &V)> = held.of_shard(shard).collect();
    all.sort_unstable_by_key(|(key, _)| **key);
    if !all.is_empty() {
        images.put(name, shard, epoch, &all);
    }
}
