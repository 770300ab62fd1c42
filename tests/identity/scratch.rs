//! Clusters computed from scratch: from the events alone, every time anew.

use std::collections::{BTreeMap, BTreeSet};

use deltawatch::views::identity::links::LinkRules;

/// A value: its kind (0 is the account) and its name.
pub type Value = (u8, u64);

/// An event: what it saw and when.
#[derive(Clone, Debug)]
pub struct Seen {
    pub time_ms: i64,
    pub account: u64,
    pub values: Vec<Value>,
}

/// What there is at a time.
pub struct Clusters {
    /// Live links, from account to value.
    pub links: BTreeSet<(u64, Value)>,
    /// Values above their caps.
    pub capped: BTreeSet<Value>,
    /// Each value with live links: the smallest of its cluster.
    of: BTreeMap<Value, Value>,
}

impl Clusters {
    /// The clusters at a time, of all links or of strong ones alone.
    pub fn at<'a>(
        rules: &LinkRules,
        events: impl IntoIterator<Item = &'a Seen>,
        now_ms: i64,
        strong_only: bool,
    ) -> Self {
        let mut links = BTreeSet::new();
        for event in events {
            for &value in &event.values {
                if event.time_ms > now_ms - rules.links[value.0 as usize - 1].expiry_ms {
                    links.insert((event.account, value));
                }
            }
        }
        let mut degrees: BTreeMap<Value, u32> = BTreeMap::new();
        for &(account, value) in &links {
            *degrees.entry((0, account)).or_default() += 1;
            *degrees.entry(value).or_default() += 1;
        }
        let cap = |value: &Value| match value.0 {
            0 => rules.account_cap,
            kind => rules.links[kind as usize - 1].cap,
        };
        let capped: BTreeSet<Value> =
            degrees.iter().filter(|(value, degree)| **degree > cap(value)).map(|(value, _)| *value).collect();
        let carrying = links.iter().filter(|(account, value)| {
            let strong = !strong_only || rules.links[value.0 as usize - 1].strong;
            strong && !capped.contains(value) && !capped.contains(&(0, *account))
        });
        let mut neighbours: BTreeMap<Value, Vec<Value>> = BTreeMap::new();
        for &(account, value) in carrying {
            neighbours.entry((0, account)).or_default().push(value);
            neighbours.entry(value).or_default().push((0, account));
        }
        let mut of = BTreeMap::new();
        for &value in degrees.keys() {
            let mut todo = vec![value];
            while let Some(next) = todo.pop() {
                if let std::collections::btree_map::Entry::Vacant(entry) = of.entry(next) {
                    entry.insert(value);
                    todo.extend(neighbours.get(&next).into_iter().flatten());
                }
            }
        }
        Clusters { links, capped, of }
    }

    /// Values with live links, each with the smallest of its cluster.
    pub fn all(&self) -> &BTreeMap<Value, Value> {
        &self.of
    }
}
