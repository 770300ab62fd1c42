//! What several streams say of a key, put together to one value.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

use differential_dataflow::{AsCollection, VecCollection};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use super::Epochs;
use crate::flow::Epoch;

/// What is said of keys, on the same worker for a key; of one epoch and stream the later counts.
pub struct Pieces<'scope, K, E, A, B> {
    /// What is there: it comes (+1) and goes (-1).
    pub there: Stream<'scope, Epoch, Vec<(K, E, isize)>>,
    /// What is known about it.
    pub about: Stream<'scope, Epoch, Vec<(K, A)>>,
    /// What is said of it, or that nothing is any more.
    pub said: Stream<'scope, Epoch, Vec<(K, Option<B>)>>,
}

/// What was known and said of a key before: where a run goes on.
pub type PiecesBefore<K, A, B> = Vec<(K, A, Option<B>)>;

/// What is kept of a key.
struct Kept<E, A, B, V> {
    count: isize,
    there: Option<E>,
    about: A,
    said: Option<B>,
    /// What was made of it when the last epoch ended that said something.
    made: Option<V>,
}

impl<E, A: Default, B, V> Default for Kept<E, A, B, V> {
    fn default() -> Self {
        Kept { count: 0, there: None, about: A::default(), said: None, made: None }
    }
}

/// What comes in of an epoch.
type PiecesOfEpoch<K, E, A, B> = (Vec<(K, E, isize)>, Vec<(K, A)>, Vec<(K, Option<B>)>);

/// One value per key that is there and of which something is said, as a collection. A key that goes takes all with it; one that goes
/// and comes again within an epoch has not gone.
pub fn together<'scope, K, E, A, B, V>(
    name: &str,
    pieces: Pieces<'scope, K, E, A, B>,
    before: PiecesBefore<K, A, B>,
    make: impl Fn(&E, &A, &B) -> Option<V> + 'static,
) -> VecCollection<'scope, Epoch, (K, V)>
where
    K: Hash + Ord + Clone + 'static,
    E: 'static,
    A: Default + 'static,
    B: 'static,
    V: Ord + Clone + 'static,
{
    let mut builder = OperatorBuilder::new(name.to_owned(), pieces.there.scope());
    let mut there = builder.new_input(pieces.there, Pipeline);
    let mut about = builder.new_input(pieces.about, Pipeline);
    let mut said = builder.new_input(pieces.said, Pipeline);
    let (output, stream) = builder.new_output();
    let mut output = OutputBuilder::<_, CapacityContainerBuilder<Vec<((K, V), Epoch, isize)>>>::from(output);
    builder.build(move |_| {
        let mut epochs: Epochs<PiecesOfEpoch<K, E, A, B>> = Epochs::new(1);
        let mut kept: HashMap<K, Kept<E, A, B, V>> = HashMap::new();
        kept.extend(before.into_iter().map(|(key, about, said)| (key, Kept { about, said, ..Kept::default() })));
        move |frontiers| {
            there.for_each(|capability, data| {
                if let Some(epoch) = epochs.of(&capability) {
                    epoch.0.append(data);
                }
            });
            about.for_each(|capability, data| {
                if let Some(epoch) = epochs.of(&capability) {
                    epoch.1.append(data);
                }
            });
            said.for_each(|capability, data| {
                if let Some(epoch) = epochs.of(&capability) {
                    epoch.2.append(data);
                }
            });
            while let Some((epoch, capabilities, (there, about, said))) = epochs.next_complete(frontiers) {
                let mut changed: HashSet<K> = HashSet::with_capacity(there.len() + said.len());
                for (key, what, diff) in there {
                    let kept = kept.entry(key.clone()).or_default();
                    kept.count += diff;
                    if diff > 0 {
                        kept.there = Some(what);
                    }
                    changed.insert(key);
                }
                // What is not there, as it came and went within the epoch, is forgotten below.
                for (key, about) in about {
                    kept.entry(key.clone()).or_default().about = about;
                    changed.insert(key);
                }
                for (key, said) in said {
                    kept.entry(key.clone()).or_default().said = said;
                    changed.insert(key);
                }
                let mut out = Vec::new();
                for key in changed {
                    let Some(one) = kept.get_mut(&key) else { continue };
                    let is_there = one.count > 0;
                    let made = one.there.as_ref().zip(one.said.as_ref()).filter(|_| is_there);
                    let made = made.and_then(|(there, said)| make(there, &one.about, said));
                    if made != one.made {
                        let gone = std::mem::replace(&mut one.made, made.clone());
                        out.extend(gone.map(|gone| ((key.clone(), gone), epoch, -1)));
                        out.extend(made.map(|made| ((key.clone(), made), epoch, 1)));
                    }
                    if !is_there {
                        kept.remove(&key);
                    }
                }
                output.activate().session(&capabilities[0]).give_iterator(out.into_iter());
            }
        }
    });
    stream.as_collection()
}
