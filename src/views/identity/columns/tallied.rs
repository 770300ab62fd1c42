//! Members and clusters with tallies. A type of its own, so that a spec without tallies carries none of them.

use super::facts::{ClusterFacts, Member, Tallies, ValueFacts};
use crate::views::identity::graph::{Part, Total};

/// What is known of one value, and what its events add up to if it is an account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Tallied {
    facts: ValueFacts,
    tallies: Tallies,
}

/// The same of a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TalliedCluster {
    cluster: ClusterFacts,
    tallies: Tallies,
}

impl Part for Tallied {
    type Total = TalliedCluster;

    fn add_to(&self, total: &mut TalliedCluster) {
        self.facts.add_to(&mut total.cluster);
        if self.is_account() {
            total.tallies.add(&self.tallies);
        }
    }

    fn is_account(&self) -> bool {
        self.facts.is_account()
    }

    fn is_sought(&self) -> bool {
        self.facts.is_sought()
    }
}

impl Total for TalliedCluster {
    fn add(&mut self, other: &Self) {
        self.cluster.add(&other.cluster);
        self.tallies.add(&other.tallies);
    }

    fn subtract(&mut self, other: &Self) -> bool {
        self.tallies.subtract(&other.tallies);
        self.cluster.subtract(&other.cluster)
    }

    fn replace(&mut self, before: &Self, after: &Self) -> bool {
        self.tallies.subtract(&before.tallies);
        self.tallies.add(&after.tallies);
        self.cluster.replace(&before.cluster, &after.cluster)
    }
}

impl Member for Tallied {
    fn of(facts: &ValueFacts) -> Self {
        Tallied { facts: *facts, tallies: Tallies::default() }
    }

    fn facts(&self) -> ValueFacts {
        self.facts
    }

    fn know(&mut self, facts: &ValueFacts) {
        self.facts = *facts;
    }

    fn tally(&mut self, tallies: &Tallies) {
        self.tallies = *tallies;
    }

    fn tallies(total: &TalliedCluster) -> Tallies {
        total.tallies
    }
}

impl From<TalliedCluster> for ClusterFacts {
    fn from(total: TalliedCluster) -> Self {
        total.cluster
    }
}
