//! Many edges at once: all those of one vertex, and components that become large or small.
//!
//! A value above its cap loses every edge, and gets them back when it is at the cap again. Most of its neighbours have
//! nearly no other edge, so the order decides the cost: what leads far is cut first and linked last, while the rest is
//! apart from the giant and small. So a giant pays for the edges that lead into it, not for the cap.

use super::connect::{Component, Connectivity, SMALL_MAX};
use super::slab::NIL;
use super::tour::Part;

/// An edge leads far if more vertices than this lie behind it.
const NEAR_MAX: usize = 16;
/// Neighbours of a vertex that are brought nearer before a search begins there.
const NEIGHBOURS_NEAR: usize = 4;
/// Vertices of the largest component that is kept by number while all edges of a vertex come or go, and of the largest that is
/// added up when it parts from another.
pub(super) const AT_ONCE_MAX: u32 = 1_024;

impl<P: Part> Connectivity<P> {
    /// Removes all edges of a vertex.
    pub fn isolate(&mut self, vertex: u32) {
        if self.vertices[vertex].node != NIL {
            let mut edges: Vec<(Order, u32)> = Vec::new();
            for (edge, end) in self.neighbours(vertex).collect::<Vec<_>>() {
                edges.push((self.order(vertex, edge, end), edge));
            }
            edges.sort_unstable();
            for (order, edge) in edges {
                let large = self.vertices[vertex].node != NIL;
                if order == Order::Near && large && self.size(vertex).size <= AT_ONCE_MAX {
                    self.shrink(vertex);
                }
                if self.vertices[vertex].node == NIL {
                    break;
                }
                self.unlink(edge);
            }
        }
        if self.vertices[vertex].node == NIL {
            self.scatter(vertex);
        }
    }

    /// When to cut an edge of a vertex whose edges all go.
    fn order(&mut self, vertex: u32, edge: u32, end: u32) -> Order {
        if self.edges[edge].arc == NIL {
            return Order::Spare;
        }
        let mark = self.new_marks();
        let mut seen = std::mem::take(&mut self.sides[0]);
        seen.clear();
        self.vertices[vertex].mark = mark;
        self.see(end, mark, &mut seen);
        let mut next = 0;
        'search: while let Some(&behind) = seen.get(next) {
            let mut edge = self.vertices[behind].first;
            while edge != NIL {
                let (after, end) = self.edges[edge].wires.step(behind);
                if self.vertices[end].mark != mark {
                    self.see(end, mark, &mut seen);
                    if seen.len() > NEAR_MAX {
                        break 'search;
                    }
                }
                edge = after;
            }
            next += 1;
        }
        let near = seen.len() <= NEAR_MAX;
        self.sides[0] = seen;
        if near { Order::Near } else { Order::Far }
    }

    /// Removes all edges of a vertex in a small component.
    fn scatter(&mut self, vertex: u32) {
        let mut ends = Vec::new();
        while let Some((edge, end)) = self.first_neighbour(vertex) {
            self.detach(edge);
            ends.push(end);
        }
        if ends.is_empty() {
            return;
        }
        let component = self.vertices[vertex].component;
        self.small[component].hub = 0;
        self.bring_near(ends.iter().copied());
        let mut members = std::mem::take(&mut self.sides[0]);
        for end in ends {
            if self.vertices[end].component == component {
                self.members(end, &mut members);
                self.part_off(&members);
            }
        }
        self.sides[0] = members;
        self.small[component] = Component::of(&self.parts[vertex]);
    }

    /// Brings vertices nearer and what they are linked with, as searches that begin at each of them need it.
    fn bring_near(&self, vertices: impl Iterator<Item = u32> + Clone) {
        vertices.clone().for_each(|vertex| self.edges.prefetch(self.vertices[vertex].first));
        for vertex in vertices {
            self.neighbours(vertex).take(NEIGHBOURS_NEAR).for_each(|(_, end)| self.vertices.prefetch(end));
        }
    }

    fn first_neighbour(&self, vertex: u32) -> Option<(u32, u32)> {
        self.neighbours(vertex).next()
    }

    /// Links a vertex with others, each by an edge under a number that is not in use.
    pub fn link_all(&mut self, vertex: u32, edges: &[(u32, u32)]) {
        let (far, near): (Vec<_>, Vec<_>) = edges.iter().partition(|(_, end)| self.vertices[*end].node != NIL);
        for (_, end) in &near {
            self.small.prefetch(self.vertices[*end].component);
        }
        self.bring_near(near.iter().map(|(_, end)| *end));
        for (edge, end) in near {
            self.link_within(edge, end, vertex, AT_ONCE_MAX);
        }
        if self.vertices[vertex].node == NIL && self.size(vertex).size > SMALL_MAX {
            self.enlarge(vertex);
        }
        for (edge, end) in far {
            self.link(edge, end, vertex);
        }
    }

    /// Puts a small component into tours: one tour, by a depth-first search.
    pub(super) fn enlarge(&mut self, vertex: u32) {
        let mut members = Vec::new();
        self.members(vertex, &mut members);
        let number = self.vertices[vertex].component;
        let total = self.small[number].total;
        self.small.release(number);
        self.large += 1;
        for &member in &members {
            let node = self.tours.add_vertex(member, self.parts[member].is_account());
            (self.vertices[member].component, self.vertices[member].node) = (NIL, node);
        }
        let mark = self.new_marks();
        self.vertices[vertex].mark = mark;
        let mut tour = vec![self.vertices[vertex].node];
        // The way down to where the search is: the next edge to look at, and the one it came by.
        let mut way = vec![(vertex, self.vertices[vertex].first, NIL)];
        while let Some(&mut (at, ref mut next, by)) = way.last_mut() {
            let edge = *next;
            if edge == NIL {
                way.pop();
                if by != NIL {
                    tour.push(self.arc_to(by, at, false));
                }
                continue;
            }
            let (after, end) = self.edges[edge].wires.step(at);
            *next = after;
            if self.vertices[end].mark != mark {
                self.vertices[end].mark = mark;
                self.prepare(edge, true);
                tour.extend([self.arc_to(edge, end, true), self.vertices[end].node]);
                way.push((end, self.vertices[end].first, edge));
            }
        }
        for &member in &members {
            for (edge, _) in self.neighbours(member).collect::<Vec<_>>() {
                if self.owns(member, edge) && self.edges[edge].arc == NIL {
                    self.prepare(edge, false);
                }
            }
        }
        self.tours.build(tour.into_iter());
        self.know(vertex, total);
    }

    /// The arc of a tree edge that leads to one of its ends, or away from it.
    fn arc_to(&self, edge: u32, end: u32, to: bool) -> u32 {
        let there = self.edges[edge].arc;
        let leads = self.edges[edge].wires.ends[1] == end;
        if leads == to { there } else { self.tours.get(there).mate }
    }

    /// Takes a component out of its tours.
    pub(super) fn shrink(&mut self, vertex: u32) {
        let mut members = Vec::new();
        self.members(vertex, &mut members);
        let mut component = self.size(vertex).map(|()| P::Total::default());
        members.iter().for_each(|&member| self.parts[member].add_to(&mut component.total));
        self.take_known(vertex);
        let number = self.small.take();
        self.small[number] = component;
        self.large -= 1;
        for &member in &members {
            let mut edge = self.vertices[member].first;
            while edge != NIL {
                if self.owns(member, edge) {
                    self.forget_edge(edge);
                }
                edge = self.edges[edge].wires.step(member).0;
            }
        }
        for &member in &members {
            self.forget_vertex(member);
            self.vertices[member].component = number;
        }
    }
}

/// The order in which edges of a vertex go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Order {
    /// In no tree: it is no way to replace another by, once it is gone.
    Spare,
    /// Leads to many vertices.
    Far,
    /// Leads to few.
    Near,
}
