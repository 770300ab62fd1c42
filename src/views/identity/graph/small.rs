//! Small components: a number on each vertex. The smaller side of a merge is renumbered, and so is one side of a split.

use super::connect::{Component, Connectivity};
use super::tour::{Part, Total};

impl<P: Part> Connectivity<P> {
    /// Gives the vertices of one small component the number of another.
    pub(super) fn absorb(&mut self, smaller: u32, larger: u32) {
        let (from, to) = (self.vertices[smaller].component, self.vertices[larger].component);
        let Component { size, accounts, links, total, .. } = self.small[from];
        if size == 1 {
            self.vertices[smaller].component = to;
        } else {
            let mut members = std::mem::take(&mut self.sides[0]);
            self.members(smaller, &mut members);
            members.iter().for_each(|&vertex| self.vertices[vertex].component = to);
            self.sides[0] = members;
        }
        let target = &mut self.small[to];
        target.size += size;
        target.accounts += accounts;
        target.links += links;
        target.total.add(&total);
        self.small.release(from);
    }

    /// Looks whether two vertices of a small component are still connected; if not, one side gets a new number.
    pub(super) fn separate(&mut self, a: u32, b: u32) -> bool {
        let mark = self.new_marks();
        let marks = [mark, mark + 1];
        let mut sides = std::mem::take(&mut self.sides);
        for (side, vertex) in [a, b].into_iter().enumerate() {
            sides[side].clear();
            self.see(vertex, marks[side], &mut sides[side]);
        }
        let (mut next, mut side) = ([0, 0], 0);
        let splits = loop {
            let Some(&vertex) = sides[side].get(next[side]) else { break true };
            next[side] += 1;
            if self.expand(vertex, marks[side], marks[1 - side], &mut sides[side]) {
                break false;
            }
            side = 1 - side;
        };
        if splits && !self.part_off(&sides[side]) {
            self.recompute([a, b][1 - side]);
        }
        self.sides = sides;
        splits
    }

    /// Gives vertices that are all of a component a number of their own. False if the total of the rest is not known.
    pub(super) fn part_off(&mut self, members: &[u32]) -> bool {
        let from = self.vertices[members[0]].component;
        let number = self.small.take();
        let part = &mut self.small[number];
        part.size = members.len() as u32;
        for &vertex in members {
            let own = &self.parts[vertex];
            own.add_to(&mut part.total);
            part.accounts += u32::from(own.is_account());
            let vertex = &mut self.vertices[vertex];
            vertex.component = number;
            part.links += vertex.degree;
            part.hub = part.hub.max(vertex.degree);
        }
        // Each edge has been counted at both of its ends.
        part.links /= 2;
        let part = *part;
        let rest = &mut self.small[from];
        if part.hub == rest.hub {
            rest.hub = 0;
        }
        rest.size -= part.size;
        rest.accounts -= part.accounts;
        rest.links -= part.links;
        rest.total.subtract(&part.total)
    }

    /// Adds up a small component anew.
    pub(super) fn recompute(&mut self, vertex: u32) {
        let mut members = Vec::new();
        self.members(vertex, &mut members);
        let mut total = P::Total::default();
        members.iter().for_each(|&member| self.parts[member].add_to(&mut total));
        self.small[self.vertices[vertex].component].total = total;
    }
}
