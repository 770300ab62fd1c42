//! Who is in which cluster, as updates: (entity, smallest entity of its cluster), exact at the end of every epoch.
//!
//! The ends of the links that began or ceased to carry in an epoch say which clusters may have changed. Where a cluster stays as it
//! was and others join it, only those are walked; where one parts, or gets a smaller entity than it had, all of what it is now.

use std::collections::{HashMap, HashSet};

use super::columns::Member;
use super::links::Links;
use super::propagate::Entity;

/// What was last said of each entity that has links.
#[derive(Debug, Default)]
pub struct Memberships {
    /// The smallest entity of its cluster.
    of: HashMap<Entity, Entity>,
    /// Members by smallest entity.
    sizes: HashMap<Entity, u32>,
}

/// Updates of (entity, smallest entity of its cluster).
pub type MembershipUpdates = Vec<((Entity, Entity), isize)>;

impl Memberships {
    /// Says what is new, now that links with these ends have changed.
    pub fn update<P: Member>(
        &mut self,
        links: &mut Links<P>,
        changed: impl Iterator<Item = (Entity, Entity)>,
        updates: &mut MembershipUpdates,
    ) {
        let mut ends: Vec<Entity> = changed.flat_map(|(a, b)| [a, b]).collect();
        ends.sort_unstable();
        ends.dedup();
        let mut by_cluster: HashMap<_, Vec<(u32, Entity)>> = HashMap::new();
        for entity in ends {
            let vertex = links.find_value(entity.0, entity.1);
            match vertex.filter(|vertex| links.wide().size(*vertex).size > 1) {
                Some(vertex) => by_cluster.entry(links.wide().place(vertex)).or_default().push((vertex, entity)),
                None => self.say(entity, None, updates),
            }
        }
        let mut clusters: Vec<Vec<(u32, Entity)>> = by_cluster.into_values().collect();
        clusters.sort_unstable();
        for ends in clusters {
            if !self.joined(links, &ends, updates) {
                let mut members = Vec::new();
                links.wide_mut().members(ends[0].0, &mut members);
                let members: Vec<Entity> = members.into_iter().map(|member| entity(links, member)).collect();
                let smallest = members.iter().min().copied();
                members.into_iter().for_each(|member| self.say(member, smallest, updates));
            }
        }
    }

    /// Whether a cluster is one that was there, whole, and those who have joined it; then says so of these.
    fn joined<P: Member>(&mut self, links: &Links<P>, ends: &[(u32, Entity)], updates: &mut MembershipUpdates) -> bool {
        let known = ends.iter().filter_map(|(_, entity)| self.of.get(entity));
        let Some(&there) = known.max_by_key(|smallest| (self.sizes[smallest], **smallest)) else { return false };
        let is_there = |entity: &Entity| self.of.get(entity) == Some(&there);
        // Who has joined is linked with it by a new link, or with someone who is.
        let mut newcomers: Vec<(u32, Entity)> = ends.iter().filter(|(_, entity)| !is_there(entity)).copied().collect();
        let mut seen: HashSet<u32> = newcomers.iter().map(|(vertex, _)| *vertex).collect();
        let mut next = 0;
        while let Some(&(vertex, _)) = newcomers.get(next) {
            next += 1;
            for (_, other) in links.wide().neighbours(vertex) {
                let entity = entity(links, other);
                if !is_there(&entity) && seen.insert(other) {
                    newcomers.push((other, entity));
                }
            }
        }
        let whole = links.wide().size(ends[0].0).size == self.sizes[&there] + newcomers.len() as u32;
        if !whole || newcomers.iter().any(|(_, entity)| *entity < there) {
            return false;
        }
        newcomers.into_iter().for_each(|(_, entity)| self.say(entity, Some(there), updates));
        true
    }

    fn say(&mut self, entity: Entity, smallest: Option<Entity>, updates: &mut MembershipUpdates) {
        let before = match smallest {
            Some(smallest) => self.of.insert(entity, smallest),
            None => self.of.remove(&entity),
        };
        if before == smallest {
            return;
        }
        if let Some(before) = before {
            updates.push(((entity, before), -1));
            if let Some(size) = self.sizes.get_mut(&before) {
                *size -= 1;
                if *size == 0 {
                    self.sizes.remove(&before);
                }
            }
        }
        if let Some(smallest) = smallest {
            updates.push(((entity, smallest), 1));
            *self.sizes.entry(smallest).or_default() += 1;
        }
    }
}

fn entity<P: Member>(links: &Links<P>, vertex: u32) -> Entity {
    let value = links.values().get(vertex);
    (value.kind, value.key)
}
