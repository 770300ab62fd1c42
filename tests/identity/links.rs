//! Links, caps and expiry against clusters computed from scratch.

use std::collections::BTreeMap;

use deltawatch::event::Key;
use deltawatch::views::identity::links::{LinkRule, LinkRules, Links};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::scratch::{Clusters, Seen, Value};

fn key(name: u64) -> Key {
    Key::from_int(name as i64)
}

fn see(links: &mut Links, event: &Seen) {
    let values: Vec<(u8, Key)> = event.values.iter().map(|&(kind, name)| (kind, key(name))).collect();
    links.see(key(event.account), &values, event.time_ms);
}

fn unsee(links: &mut Links, event: &Seen) {
    event.values.iter().for_each(|&(kind, name)| links.unsee(key(event.account), kind, key(name), event.time_ms));
}

fn check(links: &mut Links, rules: &LinkRules, events: &BTreeMap<usize, Seen>) {
    for strong in [false, true] {
        let clusters = Clusters::at(rules, events.values(), links.now_ms(), strong);
        assert_eq!(links.len(), clusters.links.len());
        assert_eq!(links.capped(), clusters.capped.len());
        assert_eq!(links.values().len(), clusters.all().len());
        let mut sizes: BTreeMap<Value, [u32; 8]> = BTreeMap::new();
        for (value, cluster) in clusters.all() {
            sizes.entry(*cluster).or_default()[value.0 as usize] += 1;
        }
        let strong_graph = links.strong().filter(|_| strong);
        let count = strong_graph.map_or_else(|| links.wide().components(), |graph| graph.components());
        assert_eq!(count, sizes.len());
        for (value, cluster) in clusters.all() {
            let number = links.find_value(value.0, key(value.1)).expect("a value with live links");
            let smallest = links.find_value(cluster.0, key(cluster.1)).expect("a value with live links");
            let strong_graph = links.strong().filter(|_| strong);
            let wide = || links.wide().connected(number, smallest);
            let connected = strong_graph.map_or_else(wide, |graph| graph.connected(number, smallest));
            assert!(connected, "{value:?} and {cluster:?}");
            let members = sizes[cluster];
            if strong {
                let found = links.strong_cluster(number);
                assert_eq!((found.size, found.accounts), (members.iter().sum(), members[0]), "{value:?}");
            } else {
                let found = links.cluster(number);
                assert_eq!((found.total.members, found.accounts), (members, members[0]), "{value:?}");
            }
            assert_eq!(links.is_capped(number), clusters.capped.contains(value));
        }
    }
}

fn rules(cap: u32, account_cap: u32) -> LinkRules {
    let rule = |strong, expiry_ms| LinkRule { strong, expiry_ms, cap };
    LinkRules { links: vec![rule(true, 1_000), rule(false, 300), rule(true, 2_000)], account_cap }
}

/// Random events: some late, some withdrawn while that is possible, some after a gap.
fn random_events(seed: u64, rules: &LinkRules, values: u64, steps: usize) {
    const KEPT_MS: i64 = 400;
    let mut random = StdRng::seed_from_u64(seed);
    let mut links = Links::new(rules.clone());
    let mut events: BTreeMap<usize, Seen> = BTreeMap::new();
    let mut now_ms = 0;
    for step in 0..steps {
        now_ms += if random.random_bool(0.01) { 900 } else { random.random_range(0..8) };
        while !links.advance(now_ms, &mut 3) {}
        links.settle(now_ms - KEPT_MS);
        let late_ms = if random.random_bool(0.1) { random.random_range(0..KEPT_MS) } else { 0 };
        let kinds = (1..=3).filter(|_| random.random_bool(0.6)).collect::<Vec<u8>>();
        let values = kinds.iter().map(|&kind| (kind, random.random_range(0..values))).collect();
        let event = Seen { time_ms: now_ms - late_ms, account: random.random_range(0..20), values };
        see(&mut links, &event);
        events.insert(step, event);
        if random.random_bool(0.2) {
            let recent = events.iter().rev().filter(|(_, event)| event.time_ms >= now_ms - KEPT_MS).take(30);
            let recent: Vec<usize> = recent.map(|(&step, _)| step).collect();
            if !recent.is_empty() {
                let event = events.remove(&recent[random.random_range(0..recent.len())]).expect("it is there");
                unsee(&mut links, &event);
            }
        }
        if step % 23 == 0 {
            check(&mut links, rules, &events);
        }
    }
    assert_eq!(links.missed(), 0);
    now_ms += 2_001;
    while !links.advance(now_ms, &mut 7) {}
    links.settle(now_ms);
    assert!(links.is_empty() && links.values().is_empty() && links.wide().is_empty() && links.sightings() == 0);
    assert_eq!((links.capped(), links.wide().bytes(), links.strong().map(|graph| graph.bytes())), (0, 0, Some(0)));
}

#[test]
fn equal_clusters_from_scratch_over_seeds() {
    for seed in 0..6 {
        random_events(seed, &rules(u32::MAX, u32::MAX), 40, 900);
        random_events(10 + seed, &rules(3, u32::MAX), 12, 900);
        random_events(20 + seed, &rules(4, 3), 10, 900);
        random_events(30 + seed, &rules(0, 3), 10, 200);
    }
}

/// Adding links and then withdrawing any part of them leaves what the others make.
#[test]
fn withdrawing_any_part_leaves_the_rest() {
    for seed in 0..10 {
        let mut random = StdRng::seed_from_u64(seed);
        let rules = rules(5, u32::MAX);
        let mut links = Links::new(rules.clone());
        let values = |random: &mut StdRng| (1..=3).map(|kind| (kind, random.random_range(0..60))).collect();
        let mut events: BTreeMap<usize, Seen> = (0..200)
            .map(|step| {
                (step, Seen { time_ms: step as i64, account: random.random_range(0..80), values: values(&mut random) })
            })
            .collect();
        links.advance(200, &mut usize::MAX.clone());
        events.values().for_each(|event| see(&mut links, event));
        check(&mut links, &rules, &events);
        let share = random.random_range(0.0..1.0);
        let withdrawn: Vec<usize> = events.keys().copied().filter(|_| random.random_bool(share)).collect();
        for step in withdrawn.into_iter().rev() {
            unsee(&mut links, &events.remove(&step).expect("it is there"));
        }
        check(&mut links, &rules, &events);
        while let Some((_, event)) = events.pop_first() {
            unsee(&mut links, &event);
        }
        assert!(links.is_empty() && links.wide().is_empty());
    }
}

#[test]
fn a_link_dies_exactly_when_its_expiry_is_over() {
    let mut links = Links::new(rules(9, 9));
    let advance = |links: &mut Links, to_ms| while !links.advance(to_ms, &mut 1) {};
    links.see(key(1), &[(1, key(7))], 0);
    links.see(key(2), &[(1, key(7))], 500);
    advance(&mut links, 999);
    assert_eq!(links.wide().size(links.find_value(1, key(7)).expect("live")).size, 3);
    advance(&mut links, 1_000);
    assert_eq!(links.find_value(0, key(1)), None);
    assert_eq!(links.wide().size(links.find_value(1, key(7)).expect("live")).size, 2);
    links.see(key(2), &[(1, key(7))], 400);
    advance(&mut links, 1_499);
    assert_eq!(links.len(), 1);
    links.unsee(key(2), 1, key(7), 500);
    assert_eq!(links.len(), 0, "without the later event it would have died at 1,400");
    links.see(key(3), &[(1, key(7))], 499);
    assert_eq!(links.len(), 0, "it comes too late to live at 1,499");
    links.see(key(3), &[(1, key(7))], 500);
    assert_eq!(links.len(), 1);
}

#[test]
fn a_value_at_its_cap_goes_on_and_off() {
    let rules = rules(3, u32::MAX);
    let mut links = Links::new(rules.clone());
    let mut events = BTreeMap::new();
    links.advance(1, &mut usize::MAX.clone());
    for round in 0..40_usize {
        let (place, event) = (round % 5, Seen { time_ms: 1, account: round as u64 % 5, values: vec![(1, 0)] });
        match events.remove(&place) {
            Some(held) if round % 3 != 0 => unsee(&mut links, &held),
            Some(held) => drop(events.insert(place, held)),
            None => {
                see(&mut links, &event);
                events.insert(place, event);
            }
        }
        check(&mut links, &rules, &events);
    }
}
