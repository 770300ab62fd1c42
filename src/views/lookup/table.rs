//! The rows of a reference by key, and for a live join who looked at them.

use std::collections::VecDeque;

use super::network::Networks;
use super::plan::{EnrichPlan, KeyOf, address_of};
use crate::event::{Key, MapKey};
use crate::flow::reference::{Body, Cells};
use crate::flow::{Place, ReferenceRecord};
use crate::operators::{Expiring, ShardedMap};

/// What one worker holds for one look-up.
pub struct LookupTable {
    pub(super) rows: ShardedMap<Cells>,
    pub(super) networks: Option<Networks>,
    /// Live: transactions that looked at a key, in order.
    pub(super) lookers: ShardedMap<VecDeque<Place>>,
    pub(super) expiring: Expiring,
    /// Rows are answers to one event each, and go with it.
    by_event: bool,
}

impl LookupTable {
    /// An empty table. `kept_ms` says how long lookers, and answers to single events, are kept behind the watermark.
    pub fn new(plan: &EnrichPlan, kept_ms: i64) -> Self {
        LookupTable {
            rows: ShardedMap::default(),
            networks: None,
            lookers: ShardedMap::default(),
            expiring: Expiring::new(kept_ms),
            by_event: plan.key == KeyOf::Event,
        }
    }

    /// Takes a record. Says which key it was about, with the row before; `None` if a whole file was replaced.
    pub fn apply(&mut self, record: ReferenceRecord) -> Option<(Key, Option<Cells>)> {
        match record.body {
            Body::Row(key, cells) => {
                if self.by_event {
                    self.expiring.put(key.into(), record.time);
                }
                Some((key, self.rows.insert(key.into(), cells)))
            }
            Body::Gone(key) => Some((key, self.rows.remove(&MapKey::from(key)))),
            Body::Networks(content) => {
                // The source has opened it once already; a file that cannot be read leaves the version before.
                if let Ok(networks) = Networks::new(content) {
                    self.networks = Some(networks);
                }
                None
            }
        }
    }

    /// Fills in a plan's columns for a key.
    pub fn answer(&self, plan: &EnrichPlan, key: Key, into: &mut [f64]) {
        match (&plan.key, &self.networks) {
            (KeyOf::Address(_), Some(networks)) => {
                plan.fill(networks.cells(address_of(key), &plan.paths).as_deref(), into);
            }
            _ => plan.fill(self.row(key).map(|cells| &**cells), into),
        }
    }

    /// The row of a key.
    pub fn row(&self, key: Key) -> Option<&Cells> {
        self.rows.get(&MapKey::from(key))
    }

    /// Notes that a transaction looked at a key.
    pub fn look(&mut self, key: Key, place: Place) {
        self.expiring.put(key.into(), place.0);
        let Some(lookers) = self.lookers.get_mut(&MapKey::from(key)) else {
            self.lookers.insert(key.into(), VecDeque::from([place]));
            return;
        };
        // Nearly always the last.
        let at = lookers.partition_point(|&other| other < place);
        if lookers.get(at) != Some(&place) {
            lookers.insert(at, place);
        }
    }

    /// Forgets that a transaction looked at a key.
    pub fn look_away(&mut self, key: Key, place: Place) {
        let Some(lookers) = self.lookers.get_mut(&MapKey::from(key)) else { return };
        if let Ok(at) = lookers.binary_search(&place) {
            lookers.remove(at);
        }
        if lookers.is_empty() {
            self.lookers.remove(&MapKey::from(key));
        }
    }

    /// Whether anyone looked at a key.
    pub fn is_looked_at(&self, key: Key) -> bool {
        self.lookers.get(&MapKey::from(key)).is_some()
    }

    /// Who looked at a key after a place, in order.
    pub fn lookers_after(&self, key: Key, after: Place) -> impl Iterator<Item = Place> {
        let lookers = self.lookers.get(&MapKey::from(key)).into_iter();
        lookers.flat_map(move |places| places.range(places.partition_point(|&place| place <= after)..).copied())
    }

    /// Drops lookers, and answers to single events, that the horizon has passed.
    pub fn expire(&mut self, watermark: i64) {
        let bound = self.expiring.bound(watermark);
        while let Some(key) = self.expiring.next(watermark) {
            if let Some(lookers) = self.lookers.get_mut(&key) {
                let gone = lookers.partition_point(|place| place.0 < bound);
                lookers.drain(..gone);
                if lookers.is_empty() {
                    self.lookers.remove(&key);
                }
            }
            if self.by_event && self.lookers.get(&key).is_none() {
                self.rows.remove(&key);
            }
        }
    }

    /// Rows and keys with lookers.
    pub fn len(&self) -> (usize, usize) {
        (self.rows.len(), self.lookers.len())
    }
}
