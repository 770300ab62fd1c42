//! Cycles of transfers: a→b→…→a.
//!
//! A cycle is a sequence of transfers, each paid by the payee of the one before, the first by the payee of the last; in
//! (event time, id) order; as many as `hops` allows; of each the amount is at least and at most the given `share` of the
//! one before; from the first to the last less than `within`; and nobody pays twice. The last transfer completes it.
//!
//! The cycles that a transfer completes are found by a search back from it: over the transfers into its payer, latest
//! first, and so on. The search stops after [`VISITS_MAX`] transfers or [`CYCLES_MAX`] cycles, in an order that depends on
//! the transfers alone: so what it finds is a function of the retained set.
//!
//! A transfer that comes late or goes can change only the searches from transfers that can be reached forward from it;
//! those are done again.
//!
//! Features of a transfer: whether it completes a cycle, and the cycles complete in `(t - 24 h, t]`, and not after it,
//! in which its payer pays. Other events have 0.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;

use serde::{Deserialize, Serialize};

use super::image::{CycleImage, TransferImage};
use crate::event::{Event, Id, Key, Schema};
use crate::flow::Place;
use crate::views::pattern::compile::cycle::{CyclePlan, MILLION};
use crate::views::pattern::compile::plan::COUNTED_MS;
use crate::views::pattern::machine::evaluate::{Around, Texts, Whole};

/// Transfers that one search looks at, at most.
pub const VISITS_MAX: usize = 10_000;
/// Cycles that one transfer completes, at most.
pub const CYCLES_MAX: usize = 64;

/// One transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    /// Who pays.
    pub from: Key,
    /// Who is paid.
    pub to: Key,
    /// How much, in the field's units.
    pub amount: i64,
}

/// A cycle, by its transfers in order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Cycle {
    /// The transfers.
    pub transfers: Vec<Place>,
    /// Who pays, in order.
    pub payers: Vec<Key>,
}

impl CyclePlan {
    /// The transfer that an event is, if it is one; to oneself is none.
    pub fn transfer(&self, event: &Event, schema: &Schema, texts: &Texts) -> Option<Transfer> {
        if !self.kinds.contains(&event.kind) {
            return None;
        }
        let around = Around { time: event.time, ..Around::default() };
        if !self.condition.holds(&Whole::new(event, schema, texts), &around) {
            return None;
        }
        let (from, to) = (event.key(self.from, schema)?, event.key(self.to, schema)?);
        (from != to).then_some(Transfer { from, to, amount: event.int(self.amount)? })
    }

    /// Whether an amount may follow another.
    fn follows(&self, amount: i64, before: i64) -> bool {
        let (amount, before) = (i128::from(amount) * MILLION, i128::from(before));
        before * self.share.0 <= amount && amount <= before * self.share.1
    }
}

/// Transfers, and the cycles that each completes.
#[derive(Debug, Default)]
pub struct TransferGraph {
    transfers: BTreeMap<Place, (Transfer, bool)>,
    incoming: HashMap<Key, BTreeSet<Place>>,
    outgoing: HashMap<Key, BTreeSet<Place>>,
    cycles: BTreeMap<Place, Vec<Cycle>>,
    /// How many cycles a payer pays in, by completion.
    of_payer: HashMap<Key, BTreeMap<Place, usize>>,
}

impl TransferGraph {
    /// Applies an epoch's changes; returns the cycles that came and went, with diff.
    pub fn apply(&mut self, plan: &CyclePlan, changes: &[(Place, bool, Option<Transfer>)]) -> Vec<(Cycle, isize)> {
        let mut again: BTreeSet<Place> = BTreeSet::new();
        for (place, ..) in changes {
            // What could be reached before the change.
            self.reached(plan, *place, &mut again);
        }
        for (place, scored, transfer) in changes {
            self.remove(*place);
            if let Some(transfer) = transfer {
                self.insert(*place, *transfer, *scored);
            }
        }
        for (place, ..) in changes {
            self.reached(plan, *place, &mut again);
        }
        let mut diffs = Vec::new();
        for last in again {
            let found = self.search(plan, last);
            let held = self.set(last, found.clone());
            diffs.extend(held.iter().filter(|cycle| !found.contains(cycle)).map(|cycle| (cycle.clone(), -1)));
            diffs.extend(found.into_iter().filter(|cycle| !held.contains(cycle)).map(|cycle| (cycle, 1)));
        }
        diffs
    }

    fn insert(&mut self, place: Place, transfer: Transfer, scored: bool) {
        self.transfers.insert(place, (transfer, scored));
        self.incoming.entry(transfer.to).or_default().insert(place);
        self.outgoing.entry(transfer.from).or_default().insert(place);
    }

    fn remove(&mut self, place: Place) {
        let Some((transfer, _)) = self.transfers.remove(&place) else { return };
        for (by_key, key) in [(&mut self.incoming, transfer.to), (&mut self.outgoing, transfer.from)] {
            if let Some(places) = by_key.get_mut(&key) {
                places.remove(&place);
                if places.is_empty() {
                    by_key.remove(&key);
                }
            }
        }
    }

    /// Sets the cycles that a transfer completes; returns those before.
    fn set(&mut self, last: Place, found: Vec<Cycle>) -> Vec<Cycle> {
        let held = self.cycles.remove(&last).unwrap_or_default();
        for payer in held.iter().flat_map(|cycle| &cycle.payers) {
            if let Some(counts) = self.of_payer.get_mut(payer) {
                counts.remove(&last);
                if counts.is_empty() {
                    self.of_payer.remove(payer);
                }
            }
        }
        for payer in found.iter().flat_map(|cycle| &cycle.payers) {
            *self.of_payer.entry(*payer).or_default().entry(last).or_insert(0) += 1;
        }
        if !found.is_empty() {
            self.cycles.insert(last, found);
        }
        held
    }

    /// A transfer and those that can be reached forward from it: their searches may look at it.
    fn reached(&self, plan: &CyclePlan, from: Place, reached: &mut BTreeSet<Place>) {
        reached.insert(from);
        let mut layer = vec![from];
        let mut seen: BTreeSet<Place> = BTreeSet::from([from]);
        for _ in 1..plan.hops.1 {
            let mut next = Vec::new();
            for place in layer {
                let Some((transfer, _)) = self.transfers.get(&place) else { continue };
                let Some(outgoing) = self.outgoing.get(&transfer.to) else { continue };
                for later in outgoing.range((std::ops::Bound::Excluded(place), std::ops::Bound::Unbounded)) {
                    if later.0.saturating_sub(from.0) >= plan.within_ms {
                        break;
                    }
                    if plan.follows(self.transfers[later].0.amount, transfer.amount) && seen.insert(*later) {
                        next.push(*later);
                    }
                }
            }
            layer = next;
        }
        reached.append(&mut seen);
    }

    /// The cycles that a transfer completes.
    fn search(&self, plan: &CyclePlan, last: Place) -> Vec<Cycle> {
        let Some((closing, _)) = self.transfers.get(&last) else { return Vec::new() };
        let mut search =
            Search { graph: self, plan, home: closing.to, last, path: Vec::new(), visits: 0, found: Vec::new() };
        search.back(last, *closing);
        search.found
    }

    /// Whether a transfer completes a cycle, and the cycles of 24 hours in which its payer pays.
    pub fn read(&self, place: Place, payer: Key) -> (bool, usize) {
        let from = (place.0.saturating_sub(COUNTED_MS).saturating_add(1), Id::default());
        let count =
            self.of_payer.get(&payer).map_or(0, |counts| counts.range(from..=place).map(|(_, count)| count).sum());
        (self.cycles.contains_key(&place), count)
    }

    /// The scored transfers of a payer after a place, in order.
    pub fn scored_after(&self, payer: Key, after: Place) -> impl Iterator<Item = Place> {
        let outgoing = self.outgoing.get(&payer).into_iter();
        let places = outgoing.flat_map(move |of_payer| of_payer.range((Bound::Excluded(after), Bound::Unbounded)));
        places.copied().filter(|place| self.transfers.get(place).is_some_and(|(_, scored)| *scored))
    }

    /// The position of the last transfer.
    pub fn last(&self) -> Option<Place> {
        self.transfers.last_key_value().map(|(place, _)| *place)
    }

    /// Drops transfers before an event time that nothing reaches any more, and cycles that do not count; so many at most.
    pub fn expire(&mut self, plan: &CyclePlan, bound_ms: i64, most: usize) {
        for _ in 0..most {
            let first = self.transfers.first_key_value().map(|(place, _)| *place);
            match first.filter(|first| first.0 < bound_ms.saturating_sub(plan.within_ms.max(COUNTED_MS))) {
                Some(first) => self.remove(first),
                None => break,
            }
        }
        for _ in 0..most {
            let first = self.cycles.first_key_value().map(|(place, _)| *place);
            match first.filter(|first| first.0 < bound_ms.saturating_sub(COUNTED_MS)) {
                Some(first) => drop(self.set(first, Vec::new())),
                None => break,
            }
        }
    }

    /// What is in it.
    pub fn image(&self) -> CycleImage {
        let transfer = |(place, (transfer, scored)): (&Place, &(Transfer, bool))| TransferImage {
            place: *place,
            transfer: *transfer,
            scored: *scored,
        };
        CycleImage {
            transfers: self.transfers.iter().map(transfer).collect(),
            cycles: self.cycles.values().flatten().cloned().collect(),
        }
    }

    /// Adds what is in an image.
    pub fn add(&mut self, image: CycleImage) {
        for TransferImage { place, transfer, scored } in image.transfers {
            self.insert(place, transfer, scored);
        }
        for of_one in image.cycles.chunk_by(|a, b| a.transfers.last() == b.transfers.last()) {
            if let Some(&last) = of_one.first().and_then(|cycle| cycle.transfers.last()) {
                self.set(last, of_one.to_vec());
            }
        }
    }

    /// Transfers and cycles that are kept.
    pub fn len(&self) -> (usize, usize) {
        (self.transfers.len(), self.cycles.values().map(Vec::len).sum())
    }
}

struct Search<'a> {
    graph: &'a TransferGraph,
    plan: &'a CyclePlan,
    /// Where the cycle begins and ends.
    home: Key,
    last: Place,
    /// Transfers from the last to the first, with payers.
    path: Vec<(Place, Key)>,
    visits: usize,
    found: Vec<Cycle>,
}

impl Search<'_> {
    /// Takes a transfer as the first so far, and looks for what comes before it.
    fn back(&mut self, place: Place, transfer: Transfer) {
        self.visits += 1;
        if self.visits > VISITS_MAX || self.found.len() >= CYCLES_MAX {
            return;
        }
        self.path.push((place, transfer.from));
        let (hops, graph) = (self.path.len(), self.graph);
        if transfer.from == self.home {
            if hops >= self.plan.hops.0 {
                let forward = || self.path.iter().rev();
                let transfers = forward().map(|(place, _)| *place).collect();
                let payers = forward().map(|(_, payer)| *payer).collect();
                self.found.push(Cycle { transfers, payers });
            }
        } else if hops < self.plan.hops.1
            && let Some(incoming) = graph.incoming.get(&transfer.from)
        {
            for &earlier in incoming.range(..place).rev() {
                if self.last.0.saturating_sub(earlier.0) >= self.plan.within_ms {
                    break;
                }
                let before = graph.transfers[&earlier].0;
                let again = self.path.iter().any(|(_, payer)| *payer == before.from);
                if !again && self.plan.follows(transfer.amount, before.amount) {
                    self.back(earlier, before);
                }
            }
        }
        self.path.pop();
    }
}
