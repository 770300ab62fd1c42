//! Clusters by differential iteration: the other way to the same components, on a cadence of its own.
//!
//! Every value starts with itself as label and takes the smallest label of its neighbours, until nothing changes; the
//! label is the cluster's smallest member, so a researcher can join on it. This scales over workers, and costs about
//! 50 us per link that comes or goes, and seconds where a giant component splits: it must not stand in front of scores.
//! The tests hold it against [`super::graph`] at every closed epoch.

use differential_dataflow::operators::ThresholdTotal;
use differential_dataflow::operators::iterate::Variable;
use differential_dataflow::{AsCollection, VecCollection};
use timely::dataflow::operators::vec::Filter;
use timely::order::Product;

use crate::event::Key;
use crate::flow::Epoch;

/// A value with its kind; 0 is the account.
pub type Entity = (u8, Key);

/// Rounds after which a label does not travel on, unless said otherwise: the longest path through a cluster that is
/// followed, in links.
pub const ROUNDS_MAX: usize = 1_000;

/// Clusters, and where they are not whole.
pub struct Propagated<'scope> {
    /// Each entity with links, and the smallest entity of its cluster.
    pub clusters: VecCollection<'scope, Epoch, (Entity, Entity)>,
    /// Entities to which a label was still on its way after the last round: their clusters may be larger than shown. Raise
    /// the number of rounds, or lower the caps.
    pub unfinished: VecCollection<'scope, Epoch, Entity>,
}

/// Puts changes off to every so many epochs: what comes in between is looked up in the version before.
pub fn every<'scope>(
    links: VecCollection<'scope, Epoch, (Entity, Entity)>,
    epochs: u64,
) -> VecCollection<'scope, Epoch, (Entity, Entity)> {
    let epochs = epochs.max(1);
    if epochs == 1 { links } else { links.delay(move |epoch| epoch.div_ceil(epochs) * epochs) }
}

/// The clusters that links make, following paths of at most so many links.
pub fn propagate<'scope>(
    links: VecCollection<'scope, Epoch, (Entity, Entity)>,
    rounds_max: usize,
) -> Propagated<'scope> {
    let outer = links.scope();
    let both = links.clone().map(|(a, b)| (b, a)).concat(links);
    let own = both.clone().map(|(entity, _)| (entity, entity));
    let (clusters, cut_off) = outer.scoped::<Product<Epoch, usize>, _, _>("Propagate", |scope| {
        let edges = both.enter(scope).arrange_by_key_named("links by end");
        let (bind, proposed) = Variable::new(scope, Product::new(Default::default(), 1));
        let labels = proposed
            .concat(own.enter(scope))
            .reduce_named("Smallest label", |_, labels, smallest| smallest.push((*labels[0].0, 1)));
        let sent = labels.clone().join_core(edges, |_, label, next| Some((*next, *label)));
        let travels = sent.clone().inner.filter(move |(_, time, _)| time.inner < rounds_max).as_collection();
        bind.set(travels);
        let cut_off = sent.inner.filter(move |(_, time, _)| time.inner >= rounds_max).as_collection();
        (labels.leave(outer), cut_off.leave(outer))
    });
    // A label that is not sent on takes the place of one that was: the latter counts below zero here.
    let waiting = cut_off.threshold_total(|_, &count| isize::from(count > 0));
    let unfinished = waiting.map(|(entity, _)| entity).distinct_total();
    Propagated { clusters: clusters.consolidate(), unfinished }
}
