//! Which vertices are connected, while edges come and go, and the totals of each component.
//!
//! Two representations, chosen by the size of the component:
//!
//! * up to [`SMALL_MAX`] vertices a component is a number on each vertex. A merge renumbers the smaller one; when an edge
//!   goes, its two ends search outward in turns until they meet or one has seen all there is. That is a handful of
//!   records for nearly every component of real data (see `small.rs`).
//! * beyond that the vertices are in Euler tours in levels (see `levels.rs`): O(log² n) amortised, and O(log n) for an
//!   edge on no cycle, however large the component. `bulk.rs` moves a component from one to the other, and links or
//!   unlinks all edges of a vertex at once.
//!
//! Both keep the same adjacency: each edge stands in the lists of its two ends. Vertices and edges are numbered by the
//! caller. Nothing recurses, so a path of a million vertices needs no stack.

use super::slab::{NIL, Slab};
use super::sum::Sum;
use super::tour::{Part, Total, Tours};
use super::wires::{self, Wired, Wires};

/// Vertices of the largest component that is kept by number.
pub const SMALL_MAX: u32 = 256;
/// A component in tours that has shrunk to this many vertices is kept by number again. The distance to [`SMALL_MAX`]
/// keeps one that breathes from being rebuilt each time.
pub const SMALL_AGAIN: u32 = 64;

/// A vertex. What is read of most of them comes first.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(super) struct Vertex<P: Part> {
    /// The first edge in its list.
    pub(super) first: u32,
    /// Edges in its list.
    pub(super) degree: u32,
    /// Its component, if that is small.
    pub(super) component: u32,
    /// Its node on level 0, if its component is in tours.
    pub(super) node: u32,
    /// The search that has seen it last.
    pub(super) mark: u32,
    /// What it adds to the totals.
    pub(super) part: P,
}

/// An edge.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Edge {
    pub(super) wires: Wires,
    /// The arc from the first end on level 0, if the edge is in a tree.
    pub(super) arc: u32,
    pub(super) level: u8,
}

impl Wired for Edge {
    fn wires(&self) -> &Wires {
        &self.wires
    }

    fn wires_mut(&mut self) -> &mut Wires {
        &mut self.wires
    }
}

/// A component of few vertices, or what is known of a large one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Component<T> {
    /// Vertices.
    pub size: u32,
    /// Accounts among them.
    pub accounts: u32,
    /// Edges.
    pub links: u32,
    /// The most edges of any vertex, if that is known of a small component; 0 otherwise, and for a vertex alone.
    pub(super) hub: u32,
    /// The totals over its vertices.
    pub total: T,
}

impl<T> Component<T> {
    /// The same with other totals, for those who read it.
    pub fn map<U>(self, map: impl FnOnce(T) -> U) -> Component<U> {
        let Component { size, accounts, links, total, .. } = self;
        Component { size, accounts, links, hub: 0, total: map(total) }
    }

    /// The most edges of any vertex, if it is known.
    fn known_hub(&self) -> Option<u32> {
        (self.hub > 0 || self.size == 1).then_some(self.hub)
    }

    /// A vertex alone.
    pub fn alone(is_account: bool, total: T) -> Self {
        Component { size: 1, accounts: u32::from(is_account), links: 0, hub: 0, total }
    }

    /// The same of what a vertex adds.
    pub(super) fn of<P: Part<Total = T>>(part: &P) -> Self {
        Component::alone(part.is_account(), part.total())
    }
}

/// Where a component is kept: under a number, or at the root of its tour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ComponentPlace {
    /// A component by number.
    Small(u32),
    /// The root of a tour on level 0.
    Large(u32),
}

/// Fully dynamic connectivity with totals.
#[derive(Clone, Debug)]
pub struct Connectivity<P: Part> {
    pub(super) vertices: Slab<Vertex<P>>,
    pub(super) edges: Slab<Edge>,
    pub(super) small: Slab<Component<P::Total>>,
    pub(super) tours: Tours<P::Total>,
    pub(super) large: usize,
    mark: u32,
    /// What the two sides of a search have seen, kept for their memory.
    pub(super) sides: [Vec<u32>; 2],
}

impl<P: Part> Default for Connectivity<P> {
    fn default() -> Self {
        Connectivity {
            vertices: Slab::default(),
            edges: Slab::default(),
            small: Slab::default(),
            tours: Tours::default(),
            large: 0,
            mark: 0,
            sides: Default::default(),
        }
    }
}

impl<P: Part> Connectivity<P> {
    /// Adds a vertex under a number that is not in use: a component of its own.
    pub fn add(&mut self, vertex: u32, part: P) {
        self.vertices.reach(vertex);
        let component = self.small.take();
        self.small[component] = Component::of(&part);
        self.vertices[vertex] = Vertex { component, part, ..Vertex::default() };
    }

    /// Removes a vertex without edges.
    pub fn remove(&mut self, vertex: u32) {
        self.small.release(self.vertices[vertex].component);
        self.vertices[vertex] = Vertex::default();
        if self.is_empty() {
            (self.vertices, self.edges) = (Slab::default(), Slab::default());
        }
    }

    /// Brings an edge and one of its ends nearer.
    pub fn prefetch(&self, edge: u32, end: u32) {
        self.edges.prefetch(edge);
        self.vertices.prefetch(end);
    }

    /// The first edge in a vertex's list, for look-ahead; `NIL` for no vertex.
    pub fn first_edge(&self, vertex: u32) -> u32 {
        if vertex == NIL { NIL } else { self.vertices[vertex].first }
    }

    /// What a vertex adds.
    pub fn part(&self, vertex: u32) -> &P {
        &self.vertices[vertex].part
    }

    /// Changes what a vertex adds.
    pub fn set_part(&mut self, vertex: u32, part: P) {
        let held = &mut self.vertices[vertex];
        let (before, node, component) = (std::mem::replace(&mut held.part, part), held.node, held.component);
        debug_assert_eq!(before.is_account(), part.is_account());
        if node != NIL {
            self.tours.touch(node);
            return;
        }
        if !self.small[component].total.replace(&before.total(), &part.total()) {
            self.recompute(vertex);
        }
    }

    /// Where the component of a vertex is, until an edge comes or goes.
    pub fn place(&self, vertex: u32) -> ComponentPlace {
        match self.vertices[vertex] {
            Vertex { node: NIL, component, .. } => ComponentPlace::Small(component),
            Vertex { node, .. } => ComponentPlace::Large(self.tours.root(node)),
        }
    }

    /// The component at a place, without its totals.
    pub fn size_at(&self, place: ComponentPlace) -> Component<()> {
        match place {
            ComponentPlace::Small(component) => self.small[component].map(drop),
            ComponentPlace::Large(root) => {
                let Sum { size, accounts, links, .. } = self.tours.get(root).sum;
                Component { size, accounts, links, hub: 0, total: () }
            }
        }
    }

    /// Whether two vertices are in one component.
    pub fn connected(&self, a: u32, b: u32) -> bool {
        self.place(a) == self.place(b)
    }

    /// The component of a vertex, without its totals.
    pub fn size(&self, vertex: u32) -> Component<()> {
        self.size_at(self.place(vertex))
    }

    /// The component of a vertex. In a large one this adds up what has changed since it was last read.
    pub fn component(&mut self, vertex: u32) -> Component<P::Total> {
        let place = self.place(vertex);
        let root = match place {
            ComponentPlace::Small(component) => return self.small[component].map(|total| total),
            ComponentPlace::Large(root) => root,
        };
        if size_of::<P::Total>() == 0 {
            return self.size_at(place).map(|()| P::Total::default());
        }
        let vertices = &self.vertices;
        let part = |vertex: u32| vertices[vertex].part.total();
        let total = self.tours.total(root, |vertex| vertices.prefetch(vertex), part);
        self.size_at(place).map(|()| total)
    }

    /// Components, those of one vertex included.
    pub fn components(&self) -> usize {
        self.small.len() + self.large
    }

    /// Whether there is no vertex.
    pub fn is_empty(&self) -> bool {
        self.components() == 0
    }

    /// Nodes of tours, over all levels.
    pub fn nodes(&self) -> usize {
        self.tours.len()
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.vertices.bytes() + self.edges.bytes() + self.small.bytes() + self.tours.bytes()
    }

    /// Links two different vertices by an edge under a number that is not in use. True if that joins two components.
    pub fn link(&mut self, edge: u32, a: u32, b: u32) -> bool {
        self.link_within(edge, a, b, SMALL_MAX)
    }

    /// The same, where a component of up to `small_max` vertices is kept by number.
    pub(super) fn link_within(&mut self, edge: u32, a: u32, b: u32, small_max: u32) -> bool {
        self.edges.reach(edge);
        let joins = !self.connected(a, b);
        let small = |vertex: u32| self.vertices[vertex].node == NIL;
        let size = |vertex: u32| self.small[self.vertices[vertex].component].size;
        if small(a) && small(b) && (!joins || size(a) + size(b) <= small_max) {
            let hubs = [a, b].map(|vertex| self.small[self.vertices[vertex].component].known_hub());
            if joins {
                let (smaller, larger) = if size(a) < size(b) { (a, b) } else { (b, a) };
                self.absorb(smaller, larger);
            }
            self.attach(edge, a, b);
            let degree = self.vertices[a].degree.max(self.vertices[b].degree);
            let component = &mut self.small[self.vertices[a].component];
            component.links += 1;
            component.hub = hubs[0].zip(hubs[1]).map_or(0, |(hub, other)| hub.max(other).max(degree));
            return joins;
        }
        for vertex in [a, b] {
            if self.vertices[vertex].node == NIL {
                self.enlarge(vertex);
            }
        }
        self.attach(edge, a, b);
        self.insert(edge, joins);
        self.large -= usize::from(joins);
        joins
    }

    /// Removes an edge. True if that splits its component.
    pub fn unlink(&mut self, edge: u32) -> bool {
        let [a, b] = self.edges[edge].wires.ends;
        self.detach(edge);
        if self.vertices[a].node == NIL {
            let component = &mut self.small[self.vertices[a].component];
            component.links -= 1;
            if [a, b].into_iter().any(|vertex| self.vertices[vertex].degree + 1 == component.hub) {
                component.hub = 0;
            }
            return self.separate(a, b);
        }
        let splits = self.erase(edge);
        if splits {
            self.large += 1;
            for vertex in [a, b] {
                if self.size(vertex).size <= SMALL_AGAIN {
                    self.shrink(vertex);
                }
            }
        }
        splits
    }

    /// The edges of a vertex with their other ends.
    pub fn neighbours(&self, vertex: u32) -> impl Iterator<Item = (u32, u32)> {
        let mut edge = self.vertices[vertex].first;
        std::iter::from_fn(move || {
            let this = (edge != NIL).then_some(edge)?;
            let (next, end) = self.edges[this].wires.step(vertex);
            edge = next;
            Some((this, end))
        })
    }

    /// Every vertex of the component, in the order of a breadth-first search. Costs O(vertices + edges).
    pub fn members(&mut self, vertex: u32, members: &mut Vec<u32>) {
        let mark = self.new_marks();
        members.clear();
        self.see(vertex, mark, members);
        let mut next = 0;
        while let Some(&vertex) = members.get(next) {
            self.expand(vertex, mark, NIL, members);
            next += 1;
        }
    }

    /// The most edges of any vertex of the component. Known of most small components; costs O(vertices + edges) otherwise.
    pub fn largest_degree(&mut self, vertex: u32) -> u32 {
        let Vertex { component, node, .. } = self.vertices[vertex];
        if let Some(hub) = (node == NIL).then(|| self.small[component].known_hub()).flatten() {
            return hub;
        }
        let mut members = std::mem::take(&mut self.sides[0]);
        self.members(vertex, &mut members);
        let largest = members.iter().map(|&member| self.vertices[member].degree).max().unwrap_or(0);
        self.sides[0] = members;
        if node == NIL {
            self.small[component].hub = largest;
        }
        largest
    }

    /// Every vertex within so many steps, the farthest last, and where those begin. `None` if they are more than `most`.
    pub fn within(&mut self, vertex: u32, steps: usize, most: usize, seen: &mut Vec<u32>) -> Option<usize> {
        let mark = self.new_marks();
        seen.clear();
        self.see(vertex, mark, seen);
        let mut start = 0;
        for _ in 0..steps {
            let end = seen.len();
            for at in start..end {
                self.expand(seen[at], mark, NIL, seen);
                if seen.len() > most {
                    return None;
                }
            }
            start = end;
        }
        Some(start)
    }

    pub(super) fn attach(&mut self, edge: u32, a: u32, b: u32) {
        self.edges[edge] = Edge::default();
        wires::attach(&mut self.edges, edge, [a, b], [a, b].map(|vertex| self.vertices[vertex].first));
        for vertex in [a, b] {
            let vertex = &mut self.vertices[vertex];
            (vertex.first, vertex.degree) = (edge, vertex.degree + 1);
        }
    }

    pub(super) fn detach(&mut self, edge: u32) {
        let ends = self.edges[edge].wires.ends;
        for (vertex, first) in ends.into_iter().zip(wires::detach(&mut self.edges, edge)) {
            let vertex = &mut self.vertices[vertex];
            vertex.first = first.unwrap_or(vertex.first);
            vertex.degree -= 1;
        }
    }

    /// Whether the vertex is the first end: each edge of a component is counted there.
    pub(super) fn owns(&self, vertex: u32, edge: u32) -> bool {
        self.edges[edge].wires.ends[0] == vertex
    }

    /// Two marks that no vertex bears: this and the next.
    pub(super) fn new_marks(&mut self) -> u32 {
        if self.mark > u32::MAX - 4 {
            // Once in a thousand million searches.
            self.vertices.for_each(|vertex| vertex.mark = 0);
            self.mark = 0;
        }
        self.mark += 2;
        self.mark
    }

    pub(super) fn see(&mut self, vertex: u32, mark: u32, seen: &mut Vec<u32>) {
        self.vertices[vertex].mark = mark;
        seen.push(vertex);
    }

    /// Appends the neighbours of a vertex that do not bear the mark. True if one bears the other side's.
    pub(super) fn expand(&mut self, vertex: u32, mark: u32, other: u32, seen: &mut Vec<u32>) -> bool {
        let mut edge = self.vertices[vertex].first;
        while edge != NIL {
            let (next, end) = self.edges[edge].wires.step(vertex);
            let neighbour = &mut self.vertices[end];
            if neighbour.mark != mark {
                if neighbour.mark == other && other != NIL {
                    return true;
                }
                neighbour.mark = mark;
                // It is read when the search comes to that vertex.
                let first = neighbour.first;
                self.edges.prefetch(first);
                seen.push(end);
            }
            edge = next;
        }
        false
    }
}
