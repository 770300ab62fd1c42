//! Live links between values, and the clusters they make.
//!
//! A link joins an account and one other value (a card, a device). At time t it is *live* if an event that was not
//! withdrawn has seen it later than t - expiry. It *carries* if it is live and neither of its values has more live links
//! than the cap of its kind. Clusters are the components of the links that carry: the *wide* ones of all links, the
//! *strong* ones of the links of strong types alone.
//!
//! None of this depends on the order in which links came: a value above its cap stops all of its links at once, and lets
//! them all carry again when it is back at the cap: at most cap + 1 edges per crossing (`graph/bulk.rs`).
//!
//! Time is that of the events, and never goes back: [`Links::advance`] moves it, removing what dies on the way, in slices
//! if asked for. A link that an event sees too late is dead already and does not come to life.

use super::calendar::Calendar;
use super::sightings::{Seen, Sightings};
use super::values::Values;
use crate::event::Key;
use crate::views::identity::columns::{Bare, ClusterFacts, Member, Tallies, ValueFacts};
use crate::views::identity::graph;
use crate::views::identity::graph::{Component, Connectivity, NIL, Numbers, Slab, Wired, Wires};
use crate::views::identity::propagate::Entity;

/// The kind of the account, which every link has as its first end.
pub const ACCOUNT: u8 = 0;

/// What holds for the links between accounts and one kind of value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkRule {
    /// Whether they make strong clusters too.
    pub strong: bool,
    /// How long a link lives after it was last seen, milliseconds.
    pub expiry_ms: i64,
    /// Live links of a value, above which none of them carries.
    pub cap: u32,
}

/// What holds for all links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkRules {
    /// By kind of the second value, the first of which is kind 1.
    pub links: Vec<LinkRule>,
    /// Live links of an account, above which none of them carries.
    pub account_cap: u32,
}

/// A live link.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Link {
    pub(super) wires: Wires,
    pub(super) kind: u8,
    pub(super) carries: bool,
    pub(super) last_seen_ms: i64,
    /// The time of its entry in the calendar.
    pub(super) due_ms: i64,
    pub(super) seen: Seen,
}

impl Wired for Link {
    fn wires(&self) -> &Wires {
        &self.wires
    }

    fn wires_mut(&mut self) -> &mut Wires {
        &mut self.wires
    }
}

/// A link that has begun (true) or ceased to carry.
pub type Carried = ((Entity, Entity), bool);

/// Live links and the clusters they make.
#[derive(Debug)]
pub struct Links<P: Member = ValueFacts> {
    pub(super) rules: LinkRules,
    pub(super) values: Values,
    pub(super) links: Slab<Link>,
    pub(super) by_ends: Numbers,
    pub(super) calendars: Vec<Calendar<u32>>,
    pub(super) sightings: Sightings,
    pub(super) now_ms: i64,
    pub(super) wide: Connectivity<P>,
    /// Unless all links are strong.
    pub(super) strong: Option<Connectivity<Bare>>,
    pub(super) capped: usize,
    pub(super) missed: u64,
    /// Values that came with the last event.
    arrived: Vec<u32>,
    /// Kept for its memory.
    pub(super) starting: Vec<(u32, u32)>,
    /// Links that began (true) or ceased to carry, if anyone asks for them.
    pub(super) changed: Option<Vec<Carried>>,
}

pub(super) fn hash([a, b]: [u32; 2]) -> u64 {
    let product = u128::from(u64::from(a) << 32 | u64::from(b)) * 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835_u128;
    (product >> 64) as u64 ^ product as u64
}

impl<P: Member> Links<P> {
    /// No links yet.
    pub fn new(rules: LinkRules) -> Self {
        let strong = rules.links.iter().any(|rule| !rule.strong).then(Connectivity::default);
        Links {
            calendars: rules.links.iter().map(|rule| Calendar::new(rule.expiry_ms)).collect(),
            rules,
            values: Values::default(),
            links: Slab::default(),
            by_ends: Numbers::default(),
            sightings: Sightings::default(),
            now_ms: i64::MIN,
            wide: Connectivity::default(),
            strong,
            capped: 0,
            missed: 0,
            arrived: Vec::new(),
            starting: Vec::new(),
            changed: None,
        }
    }

    /// Notes from now on which links begin and cease to carry.
    pub fn note_changes(&mut self) {
        self.changed = Some(Vec::new());
    }

    /// What has been noted since the last call.
    pub fn take_changes(&mut self) -> Vec<Carried> {
        self.changed.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// The time that links are live at, milliseconds.
    pub fn now_ms(&self) -> i64 {
        self.now_ms
    }

    /// Moves time on and removes the links that have died by then, at most so many. False if there are more: then time
    /// stands where it was.
    pub fn advance(&mut self, to_ms: i64, links_max: &mut usize) -> bool {
        if to_ms <= self.now_ms {
            return true;
        }
        for kind in 0..self.calendars.len() {
            let bound_ms = to_ms.saturating_sub(self.rules.links[kind].expiry_ms);
            while *links_max > 0 {
                let Some((due_ms, number)) = self.calendars[kind].take(bound_ms) else { break };
                *links_max -= 1;
                if !self.links.has(number) {
                    continue;
                }
                let link = &mut self.links[number];
                if link.due_ms != due_ms || link.kind as usize != kind + 1 || link.wires.ends[0] == NIL {
                    continue; // of an earlier link with this number
                }
                if link.last_seen_ms > due_ms {
                    link.due_ms = link.last_seen_ms;
                    let due_ms = link.due_ms;
                    self.calendars[kind].put(due_ms, number);
                } else {
                    self.drop_link(number);
                }
            }
            if *links_max == 0 {
                return false;
            }
        }
        self.now_ms = to_ms;
        true
    }

    /// Brings the values and links of events that come soon nearer: their look-ups do not wait for each other here.
    pub fn look_ahead<'a>(&self, events: impl Iterator<Item = (Key, &'a [(u8, Key)])>) {
        let mut touched = 0;
        for (account, values) in events {
            let account = self.values.find(ACCOUNT, account).unwrap_or(NIL);
            for &(kind, key) in values {
                let value = self.values.find(kind, key).unwrap_or(NIL);
                touched ^= self.find([account, value]).map_or(0, |link| self.links[link].last_seen_ms);
                touched ^= i64::from(self.wide.first_edge(value));
            }
            touched ^= i64::from(self.wide.first_edge(account));
        }
        std::hint::black_box(touched);
    }

    /// An event at a time has seen links between an account and other values, each with its kind, from 1. Returns the
    /// account's number, if it has live links.
    pub fn see(&mut self, account: Key, values: &[(u8, Key)], time_ms: i64) -> Option<u32> {
        self.arrived.clear();
        let mut known = self.values.find(ACCOUNT, account);
        for &(kind, key) in values {
            let rule = self.rules.links[kind as usize - 1];
            if time_ms <= self.now_ms.saturating_sub(rule.expiry_ms) {
                continue;
            }
            let account = known.unwrap_or_else(|| self.add_value(ACCOUNT, account, time_ms));
            known = Some(account);
            let value = match self.values.find(kind, key) {
                Some(value) => value,
                None => self.add_value(kind, key, time_ms),
            };
            let ends = [account, value];
            let number = self.find(ends).unwrap_or_else(|| self.add_link(ends, kind, time_ms));
            let link = &mut self.links[number];
            let latest = time_ms >= link.last_seen_ms;
            link.last_seen_ms = link.last_seen_ms.max(time_ms);
            self.sightings.add(&mut link.seen, number, time_ms, latest);
        }
        known
    }

    /// The values that had no live link before the event that was seen last.
    pub fn arrived(&self) -> &[u32] {
        &self.arrived
    }

    /// An event that had seen a link is withdrawn.
    pub fn unsee(&mut self, account: Key, kind: u8, key: Key, time_ms: i64) {
        let dead_ms = self.now_ms.saturating_sub(self.rules.links[kind as usize - 1].expiry_ms);
        if time_ms <= dead_ms {
            return; // It supports nothing any more.
        }
        let ends = self.values.find(ACCOUNT, account).zip(self.values.find(kind, key));
        let Some(number) = ends.and_then(|(a, b)| self.find([a, b])) else { return };
        let link = &mut self.links[number];
        let Some(last_seen_ms) = self.sightings.withdraw(&mut link.seen, time_ms) else {
            self.missed += 1;
            return;
        };
        if last_seen_ms <= dead_ms {
            self.drop_link(number);
        } else if last_seen_ms < link.last_seen_ms {
            link.last_seen_ms = last_seen_ms;
            if last_seen_ms < link.due_ms {
                link.due_ms = last_seen_ms;
                self.calendars[kind as usize - 1].put(last_seen_ms, number);
            }
        }
    }

    /// Events before a time cannot be withdrawn any more.
    pub fn settle(&mut self, before_ms: i64) {
        let links = &mut self.links;
        self.sightings.settle(before_ms, |number, place, time_ms| {
            // The number of a removed link is beyond the records if all have been removed since.
            if links.has(number) {
                links[number].seen.settle(place, time_ms);
            }
        });
    }

    /// The number of a value with live links.
    pub fn find_value(&self, kind: u8, key: Key) -> Option<u32> {
        self.values.find(kind, key)
    }

    /// The values.
    pub fn values(&self) -> &Values {
        &self.values
    }

    /// The clusters that all links make.
    pub fn wide(&self) -> &Connectivity<P> {
        &self.wide
    }

    /// The wide cluster of a value.
    pub fn cluster(&mut self, value: u32) -> Component<ClusterFacts> {
        self.wide.component(value).map(Into::into)
    }

    /// The strong cluster of a value, without what is known of its members.
    pub fn strong_cluster(&self, value: u32) -> Component<()> {
        match &self.strong {
            Some(strong) => strong.size(value),
            None => self.wide.size(value),
        }
    }

    /// The clusters that strong links make; `None` if all links are strong.
    pub fn strong(&self) -> Option<&Connectivity<Bare>> {
        self.strong.as_ref()
    }

    /// The wide clusters, to search in.
    pub fn wide_mut(&mut self) -> &mut Connectivity<P> {
        &mut self.wide
    }

    /// What is known of a value with live links.
    pub fn facts(&self, value: u32) -> ValueFacts {
        self.wide.part(value).facts()
    }

    /// Changes what is known of a value.
    pub fn set_facts(&mut self, value: u32, facts: &ValueFacts) {
        let mut part = *self.wide.part(value);
        part.know(facts);
        self.wide.set_part(value, part);
    }

    /// Changes what the events of an account add up to.
    pub fn set_tallies(&mut self, value: u32, tallies: &Tallies) {
        let mut part = *self.wide.part(value);
        part.tally(tallies);
        self.wide.set_part(value, part);
    }

    /// Live links of a value: the other end, and whether the link carries.
    pub fn links_of(&self, value: u32) -> impl Iterator<Item = (u32, bool)> {
        self.each_link(value).map(move |number| {
            let link = &self.links[number];
            (link.wires.step(value).1, link.carries)
        })
    }

    /// Whether a value has more live links than its cap.
    pub fn is_capped(&self, value: u32) -> bool {
        let value = self.values.get(value);
        value.degree > self.cap(value.kind)
    }

    /// Live links.
    pub fn len(&self) -> usize {
        self.links.len()
    }

    /// Whether there is no live link.
    pub fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    /// Values above their caps.
    pub fn capped(&self) -> usize {
        self.capped
    }

    /// Withdrawals of links by events that were not known to have seen them.
    pub fn missed(&self) -> u64 {
        self.missed
    }

    /// Sightings that may still be withdrawn.
    pub fn sightings(&self) -> usize {
        self.sightings.len()
    }

    /// Bytes held, without the calendars.
    pub fn bytes(&self) -> usize {
        let strong = self.strong.as_ref().map_or(0, Connectivity::bytes);
        let tables = self.values.bytes() + self.links.bytes() + self.by_ends.bytes() + self.sightings.bytes();
        tables + self.wide.bytes() + strong
    }

    pub(super) fn cap(&self, kind: u8) -> u32 {
        match kind {
            ACCOUNT => self.rules.account_cap,
            kind => self.rules.links[kind as usize - 1].cap,
        }
    }

    fn find(&self, ends: [u32; 2]) -> Option<u32> {
        self.by_ends.find(hash(ends), |number| self.links[number].wires.ends == ends)
    }

    fn add_value(&mut self, kind: u8, key: Key, time_ms: i64) -> u32 {
        let number = self.values.add(kind, key);
        self.arrived.push(number);
        let facts = ValueFacts { kind: kind + 1, first_seen_ms: time_ms, ..ValueFacts::default() };
        self.wide.add(number, P::of(&facts));
        if let Some(strong) = &mut self.strong {
            strong.add(number, Bare::of(&facts));
        }
        number
    }

    fn add_link(&mut self, ends: [u32; 2], kind: u8, time_ms: i64) -> u32 {
        let number = self.links.take();
        let seen = self.sightings.start();
        self.links[number] = Link { kind, last_seen_ms: time_ms, due_ms: time_ms, seen, ..Link::default() };
        graph::attach(&mut self.links, number, ends, ends.map(|end| self.values.get(end).first));
        let links = &self.links;
        self.by_ends.insert(hash(ends), number, |number| hash(links[number].wires.ends));
        self.calendars[kind as usize - 1].put(time_ms, number);
        for end in ends {
            let value = self.values.get_mut(end);
            value.first = number;
            value.degree += 1;
            let (kind, degree) = (value.kind, value.degree);
            if u64::from(degree) == u64::from(self.cap(kind)) + 1 {
                self.capped += 1;
                self.stop_all(end);
            }
        }
        if !ends.iter().any(|&end| self.is_capped(end)) {
            self.start(number);
        }
        number
    }

    fn drop_link(&mut self, number: u32) {
        self.stop(number);
        let ends = self.links[number].wires.ends;
        let links = &self.links;
        self.by_ends.remove(hash(ends), number, |number| hash(links[number].wires.ends));
        for (end, first) in ends.into_iter().zip(graph::detach(&mut self.links, number)) {
            let value = self.values.get_mut(end);
            value.first = first.unwrap_or(value.first);
            value.degree -= 1;
        }
        // Ends NIL say that the number is free; its sightings are those of no one.
        self.links[number] = Link { seen: self.sightings.start(), ..Link::default() };
        self.links.release(number);
        for end in ends {
            let value = self.values.get(end);
            if value.degree == self.cap(value.kind) {
                self.capped -= 1;
                self.start_all(end);
            }
            if self.values.get(end).degree == 0 {
                self.wide.remove(end);
                if let Some(strong) = &mut self.strong {
                    strong.remove(end);
                }
                self.values.remove(end);
            }
        }
    }

    fn each_link(&self, value: u32) -> impl Iterator<Item = u32> {
        let mut number = self.values.get(value).first;
        std::iter::from_fn(move || {
            let this = (number != NIL).then_some(number)?;
            number = self.links[this].wires.step(value).0;
            Some(this)
        })
    }
}
