//! The profiles of keys as a collection: what a key's features are now, exact at the end of every epoch.
//!
//! The profile of a key is its features as of right after its last event ([`super::store::Store::profile`]). It changes when an event
//! of the key comes, goes or is labelled, and goes once its last event lies further back than its longest window and the horizon.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use super::store::Store;
use crate::event::Key;

/// The features of a key as doubles' bits, in the order of its plan: equal if the bits are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Profile {
    /// The key kind: its place among [`crate::feature::FeatureSet::keys`].
    pub plan: u16,
    /// The key.
    pub key: Key,
    /// Its features.
    bits: Vec<u64>,
}

impl Profile {
    /// The features, in the order of the plan.
    pub fn features(&self) -> Vec<f64> {
        self.bits.iter().map(|&bits| f64::from_bits(bits)).collect()
    }
}

/// The key kinds whose profiles someone takes.
pub type WantedProfiles = Rc<RefCell<BTreeSet<u16>>>;

/// What was last said of each key.
#[derive(Debug, Default)]
pub struct Profiles {
    said: HashMap<(u16, Key), (i64, Vec<u64>)>,
    /// Keys by the time of their last event.
    ageing: BTreeMap<(u16, i64), BTreeSet<Key>>,
}

impl Profiles {
    /// Says what is new of a key.
    pub fn update(&mut self, plan: u16, key: Key, store: &mut Store, updates: &mut Vec<(Profile, isize)>) {
        let bits = |(time, features): (i64, Vec<f64>)| (time, features.into_iter().map(f64::to_bits).collect());
        self.say(plan, key, store.profile(key).map(bits), updates);
    }

    /// Takes back the profiles of keys of a kind whose last event is before a time.
    pub fn expire(&mut self, plan: u16, before_ms: i64, updates: &mut Vec<(Profile, isize)>) {
        while let Some((&(_, time), _)) = self.ageing.range((plan, i64::MIN)..(plan, before_ms)).next() {
            let keys = self.ageing.get(&(plan, time)).cloned().unwrap_or_default();
            keys.into_iter().for_each(|key| self.say(plan, key, None, updates));
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.said.is_empty()
    }

    fn say(&mut self, plan: u16, key: Key, now: Option<(i64, Vec<u64>)>, updates: &mut Vec<(Profile, isize)>) {
        let before = match now.clone() {
            Some(now) => self.said.insert((plan, key), now),
            None => self.said.remove(&(plan, key)),
        };
        if before == now {
            return;
        }
        if let Some((time, bits)) = before {
            updates.push((Profile { plan, key, bits }, -1));
            if let Some(keys) = self.ageing.get_mut(&(plan, time)) {
                keys.remove(&key);
                if keys.is_empty() {
                    self.ageing.remove(&(plan, time));
                }
            }
        }
        if let Some((time, bits)) = now {
            updates.push((Profile { plan, key, bits }, 1));
            self.ageing.entry((plan, time)).or_default().insert(key);
        }
    }
}
