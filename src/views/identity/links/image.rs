//! Live links written down, and read again.
//!
//! An image holds what decides later answers: the values, the links, which events support them, time. Degrees, caps, what
//! carries, the order of expiry and all clusters follow from it and are made anew. It names values by their place in it, in
//! the order of kind and key; the numbers that they get when it is read may be others than before, which nothing shows.

use serde::{Deserialize, Serialize};

use super::super::columns::{Bare, Member, Payments, ValueFacts};
use super::super::graph::{self, Frozen, NIL};
use super::super::propagate::Entity;
use super::live::{ACCOUNT, Link, LinkRules, Links, hash};
use super::sightings::{FrozenSightings, Seen};
use super::values::FrozenValues;

/// All live links.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinksImage {
    /// The time that links are live at, milliseconds.
    pub now_ms: i64,
    /// Withdrawals of links by events that were not known to have seen them.
    pub missed: u64,
    /// Values with live links, in order.
    pub values: Vec<Entity>,
    /// What is known of each, if that is kept.
    pub facts: Vec<FactsImage>,
    /// The links, in the order of their ends.
    pub links: Vec<LinkImage>,
    /// What may still be withdrawn, in the order of its arrival.
    pub sightings: Vec<SightingImage>,
}

/// What is known of a value and does not follow from anything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FactsImage {
    /// When its first live link was seen, milliseconds.
    pub first_seen_ms: i64,
    /// Payments of an account since then.
    pub payments: Payments,
}

/// A live link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkImage {
    /// The places of the account and of the other value.
    pub ends: [u32; 2],
    /// When it was last seen by an event that cannot be withdrawn any more, milliseconds; `i64::MIN` if never.
    pub settled_ms: i64,
}

/// An event has seen a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SightingImage {
    /// The place of the link; `None` if it is gone or the event was withdrawn, and what came later waits behind it.
    pub link: Option<u32>,
    /// When, milliseconds.
    pub time_ms: i64,
}

/// The place of what is in no image.
const NOWHERE: u32 = u32::MAX;

/// The tables that an image is made of, as they were: held, not copied, so that sorting them and writing them down keeps no one waiting.
#[derive(Debug)]
pub struct FrozenLinks<P> {
    now_ms: i64,
    missed: u64,
    values: FrozenValues,
    /// What is known of each value, by number.
    parts: Frozen<P>,
    links: Frozen<Link>,
    sightings: FrozenSightings,
}

impl<P: Member> FrozenLinks<P> {
    /// All values.
    pub fn values(&self) -> &FrozenValues {
        &self.values
    }

    /// The image; and the places of the values, by number.
    pub fn image(&self) -> (LinksImage, Vec<u32>) {
        let entity = |number: u32| (self.values.get(number).kind, self.values.get(number).key);
        let mut numbers: Vec<u32> = self.values.numbers().collect();
        numbers.sort_unstable_by_key(|&number| entity(number));
        let value_places = places(&numbers);
        let ends = |number: u32| self.links[number].wires.ends.map(|end| value_places[end as usize]);
        let mut links: Vec<u32> = self.links.numbers().filter(|&number| self.is_live(number)).collect();
        links.sort_unstable_by_key(|&number| ends(number));
        let link_places = places(&links);
        let facts = numbers.iter().filter(|_| P::keeps_facts()).map(|&number| {
            let ValueFacts { first_seen_ms, payments, .. } = self.parts[number].facts();
            FactsImage { first_seen_ms, payments }
        });
        let image = LinksImage {
            now_ms: self.now_ms,
            missed: self.missed,
            values: numbers.iter().map(|&number| entity(number)).collect(),
            facts: facts.collect(),
            links: links
                .iter()
                .map(|&number| LinkImage { ends: ends(number), settled_ms: self.links[number].seen.settled_ms() })
                .collect(),
            sightings: self.sightings_image(&link_places),
        };
        (image, value_places)
    }

    /// What stands in the queue, without what is gone and lets what comes behind it pass no later than that does itself.
    fn sightings_image(&self, link_places: &[u32]) -> Vec<SightingImage> {
        let queued = self.sightings.queued();
        let mut sightings: Vec<SightingImage> = Vec::with_capacity(queued.size_hint().0);
        for (place, link, time_ms) in queued.rev() {
            let holds = self.is_live(link) && self.links[link].seen.holds(place);
            let link = holds.then(|| link_places[link as usize]);
            if link.is_some() || sightings.last().is_none_or(|behind| behind.time_ms < time_ms) {
                sightings.push(SightingImage { link, time_ms });
            }
        }
        sightings.reverse();
        sightings
    }

    fn is_live(&self, link: u32) -> bool {
        link != NIL && self.links.has(link) && self.links[link].wires.ends[0] != NIL
    }
}

impl<P: Member> Links<P> {
    /// What an image is made of. To be called between two events, after time has come to where it was moved.
    pub fn freeze(&mut self) -> FrozenLinks<P> {
        FrozenLinks {
            now_ms: self.now_ms,
            missed: self.missed,
            values: self.values.freeze(),
            parts: self.wide.freeze_parts(),
            links: self.links.freeze(),
            sightings: self.sightings.freeze(),
        }
    }

    /// The links of an image; `part` says what is known of the value at a place. Also the numbers of the values, by place.
    /// The error says what does not fit.
    pub fn load(rules: LinkRules, image: &LinksImage, part: impl Fn(usize) -> P) -> Result<(Self, Vec<u32>), String> {
        image.check(&rules, P::keeps_facts())?;
        let mut links = Links::new(rules);
        (links.now_ms, links.missed) = (image.now_ms, image.missed);
        let numbers: Vec<u32> = image.values.iter().map(|&(kind, key)| links.values.add(kind, key)).collect();
        let of_image: Vec<u32> = image
            .links
            .iter()
            .map(|link| links.load_link(link.ends.map(|end| numbers[end as usize]), link.settled_ms))
            .collect();
        for sighting in &image.sightings {
            let (mut gone, number) = (Seen::default(), sighting.link.map_or(NIL, |link| of_image[link as usize]));
            let seen = if number == NIL { &mut gone } else { &mut links.links[number].seen };
            links.sightings.add(seen, number, sighting.time_ms, false);
        }
        links.load_expiry(&of_image);
        links.load_clusters(&numbers, &of_image, part);
        Ok((links, numbers))
    }

    fn load_link(&mut self, ends: [u32; 2], settled_ms: i64) -> u32 {
        let number = self.links.take();
        let kind = self.values.get(ends[1]).kind;
        self.links[number] = Link { kind, seen: Seen::settled(settled_ms), ..Link::default() };
        graph::attach(&mut self.links, number, ends, ends.map(|end| self.values.get(end).first));
        let links = &self.links;
        self.by_ends.insert(hash(ends), number, |number| hash(links[number].wires.ends));
        for end in ends {
            let value = self.values.get_mut(end);
            (value.first, value.degree) = (number, value.degree + 1);
        }
        number
    }

    /// Puts links into the calendars, the first to die first.
    fn load_expiry(&mut self, numbers: &[u32]) {
        let mut due: Vec<(i64, u32)> = Vec::with_capacity(numbers.len());
        for &number in numbers {
            let link = &mut self.links[number];
            link.last_seen_ms = self.sightings.latest(&link.seen);
            link.due_ms = link.last_seen_ms;
            due.push((link.due_ms, number));
        }
        due.sort_unstable();
        for (due_ms, number) in due {
            self.calendars[self.links[number].kind as usize - 1].put(due_ms, number);
        }
    }

    fn load_clusters(&mut self, values: &[u32], numbers: &[u32], part: impl Fn(usize) -> P) {
        self.capped = values.iter().filter(|&&value| self.is_capped(value)).count();
        for &number in numbers {
            self.links[number].carries = !self.links[number].wires.ends.iter().any(|&end| self.is_capped(end));
        }
        let parts: Vec<(u32, P)> = values.iter().enumerate().map(|(place, &number)| (number, part(place))).collect();
        let carry = numbers.iter().filter(|&&number| self.links[number].carries);
        let edges = carry.map(|&number| (number, self.links[number].wires.ends));
        self.wide.add_whole(&parts, edges.clone());
        if let Some(strong) = &mut self.strong {
            let parts: Vec<(u32, Bare)> =
                parts.iter().map(|(number, part)| (*number, Bare::of(&part.facts()))).collect();
            let rules = &self.rules;
            let is_strong = |number: u32| rules.links[self.links[number].kind as usize - 1].strong;
            strong.add_whole(&parts, edges.filter(|&(number, _)| is_strong(number)));
        }
    }

    /// The links that carry, account first, in order: what the changes up to now add up to.
    pub fn carried(&self) -> Vec<(Entity, Entity)> {
        let entity = |number: u32| (self.values.get(number).kind, self.values.get(number).key);
        let live = self.links.numbers().filter(|&number| {
            let link = &self.links[number];
            link.carries && link.wires.ends[0] != NIL
        });
        let mut carried: Vec<_> = live.map(|number| self.links[number].wires.ends.map(entity)).collect();
        carried.sort_unstable();
        carried.into_iter().map(|[account, value]| (account, value)).collect()
    }
}

/// Places by number, of records in their order.
fn places(numbers: &[u32]) -> Vec<u32> {
    let mut places = vec![NOWHERE; numbers.iter().max().map_or(0, |&last| last as usize + 1)];
    numbers.iter().enumerate().for_each(|(place, &number)| places[number as usize] = place as u32);
    places
}

impl LinksImage {
    /// Whether it is one of links with these rules. What is not in order was not written by [`Links::dump`].
    fn check(&self, rules: &LinkRules, keeps_facts: bool) -> Result<(), String> {
        let kinds = rules.links.len() as u8 + 1;
        let ordered = self.values.is_sorted_by(|one, next| one < next)
            && self.links.is_sorted_by(|one, next| one.ends < next.ends)
            && self.values.len() < NOWHERE as usize;
        if let Some((kind, _)) = self.values.last().filter(|(kind, _)| *kind >= kinds) {
            return Err(format!("has values of {} kinds of link, not {}", kind, kinds - 1));
        }
        if self.facts.len() != if keeps_facts { self.values.len() } else { 0 } {
            return Err(format!("says something of {} values, not of {}", self.facts.len(), self.values.len()));
        }
        let kind = |place: u32| self.values.get(place as usize).map(|(kind, _)| *kind);
        let mut linked = vec![false; self.values.len()];
        for &LinkImage { ends: [account, value], .. } in &self.links {
            if kind(account) != Some(ACCOUNT) || kind(value).is_none_or(|kind| kind == ACCOUNT) {
                return Err(format!("links the values {account} and {value}, which are no account and its value"));
            }
            (linked[account as usize], linked[value as usize]) = (true, true);
        }
        let known = self.sightings.iter().all(|one| one.link.is_none_or(|link| (link as usize) < self.links.len()));
        if !ordered || !known || linked.contains(&false) {
            return Err("is not in order".into());
        }
        Ok(())
    }
}
