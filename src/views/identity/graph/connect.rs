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

use hashbrown::HashMap;

use super::bulk::AT_ONCE_MAX;
use super::slab::{Frozen, NIL, Slab};
use super::sum::Sum;
use super::tour::{Part, Total, Tours};
use super::wires::{self, Wired, Wires};

/// Vertices of the largest component that is kept by number.
pub const SMALL_MAX: u32 = 256;
/// A component in tours that has shrunk to this many vertices is kept by number again. The distance to [`SMALL_MAX`]
/// keeps one that breathes from being rebuilt each time.
pub const SMALL_AGAIN: u32 = 64;

/// A vertex as searches read it: two of them in a cache line. What it adds to the totals, much wider, stands apart.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(32))]
pub(super) struct Vertex {
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
    /// Its neighbours that are sought.
    pub(super) near: u32,
    /// Whether it is sought itself ([`Part::is_sought`]).
    pub(super) sought: bool,
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
    pub(super) vertices: Slab<Vertex>,
    /// What each vertex adds to the totals.
    pub(super) parts: Slab<P>,
    pub(super) edges: Slab<Edge>,
    pub(super) small: Slab<Component<P::Total>>,
    pub(super) tours: Tours<P::Total>,
    pub(super) large: usize,
    /// Totals of large components by the roots of their tours, where they are known: then nothing is added up in the tours.
    pub(super) known: HashMap<u32, P::Total>,
    mark: u32,
    /// What the two sides of a search have seen, kept for their memory.
    pub(super) sides: [Vec<u32>; 2],
}

impl<P: Part> Default for Connectivity<P> {
    fn default() -> Self {
        Connectivity {
            vertices: Slab::default(),
            parts: Slab::default(),
            edges: Slab::default(),
            small: Slab::default(),
            tours: Tours::default(),
            large: 0,
            known: HashMap::default(),
            mark: 0,
            sides: Default::default(),
        }
    }
}

impl<P: Part> Connectivity<P> {
    /// Adds a vertex under a number that is not in use: a component of its own.
    pub fn add(&mut self, vertex: u32, part: P) {
        let component = self.small.take();
        self.small[component] = Component::of(&part);
        self.put(vertex, component, part);
    }

    /// Makes the record of a vertex.
    pub(super) fn put(&mut self, vertex: u32, component: u32, part: P) {
        self.vertices.reach(vertex);
        self.parts.reach(vertex);
        self.vertices[vertex] = Vertex { component, sought: part.is_sought(), ..Vertex::default() };
        self.parts[vertex] = part;
    }

    /// Removes a vertex without edges.
    pub fn remove(&mut self, vertex: u32) {
        self.small.release(self.vertices[vertex].component);
        self.vertices[vertex] = Vertex::default();
        if self.is_empty() {
            (self.vertices, self.parts, self.edges) = Default::default();
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
        &self.parts[vertex]
    }

    /// What each vertex adds to the totals as of now, for another thread.
    pub fn freeze_parts(&mut self) -> Frozen<P> {
        self.parts.freeze()
    }

    /// Changes what a vertex adds.
    pub fn set_part(&mut self, vertex: u32, part: P) {
        let before = std::mem::replace(&mut self.parts[vertex], part);
        debug_assert_eq!(before.is_account(), part.is_account());
        let Vertex { node, component, sought, .. } = self.vertices[vertex];
        if part.is_sought() != sought {
            self.seek(vertex, !sought);
        }
        if node != NIL {
            self.tours.touch(node);
            let root = self.tours.root(node);
            let known = self.known.get_mut(&root);
            if known.is_some_and(|total| !total.replace(&before.total(), &part.total())) {
                self.known.remove(&root);
            }
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

    /// The component of a vertex. If the totals of a large one are not known, this adds up what has changed in its tour.
    pub fn component(&mut self, vertex: u32) -> Component<P::Total> {
        let place = self.place(vertex);
        let root = match place {
            ComponentPlace::Small(component) => return self.small[component].map(|total| total),
            ComponentPlace::Large(root) => root,
        };
        if size_of::<P::Total>() == 0 {
            return self.size_at(place).map(|()| P::Total::default());
        }
        let total = match self.known.get(&root) {
            Some(total) => *total,
            None => {
                let parts = &self.parts;
                let total = self.tours.total(root, |vertex| parts.prefetch(vertex), |vertex| parts[vertex].total());
                self.known.insert(root, total);
                total
            }
        };
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
        self.vertices.bytes() + self.parts.bytes() + self.edges.bytes() + self.small.bytes() + self.tours.bytes()
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
        let known = if joins { [a, b].map(|vertex| self.take_known(vertex)) } else { [None, None] };
        self.attach(edge, a, b);
        self.insert(edge, joins);
        self.large -= usize::from(joins);
        if let [Some(mut total), Some(other)] = known {
            total.add(&other);
            self.know(a, total);
        }
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
        if self.edges[edge].arc == NIL {
            return self.erase(edge);
        }
        let known = self.take_known(a);
        let splits = self.erase(edge);
        if !splits {
            known.into_iter().for_each(|total| self.know(a, total));
            return false;
        }
        self.large += 1;
        let (less, more) = if self.size(a).size < self.size(b).size { (a, b) } else { (b, a) };
        let size = self.size(less).size;
        if size <= SMALL_AGAIN {
            self.shrink(less);
        }
        if let Some(mut rest) = known.filter(|_| size <= AT_ONCE_MAX)
            && rest.subtract(&self.component(less).total)
        {
            self.know(more, rest);
        }
        if self.size(more).size <= SMALL_AGAIN {
            self.shrink(more);
        }
        true
    }

    /// The total of a large component, if it is known; then it is no longer, as the root of the tour may change.
    pub(super) fn take_known(&mut self, vertex: u32) -> Option<P::Total> {
        if self.known.is_empty() { None } else { self.known.remove(&self.tours.root(self.vertices[vertex].node)) }
    }

    /// The total of a large component is known.
    pub(super) fn know(&mut self, vertex: u32, total: P::Total) {
        if size_of::<P::Total>() > 0 {
            self.known.insert(self.tours.root(self.vertices[vertex].node), total);
        }
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

    pub(super) fn attach(&mut self, edge: u32, a: u32, b: u32) {
        self.edges[edge] = Edge::default();
        wires::attach(&mut self.edges, edge, [a, b], [a, b].map(|vertex| self.vertices[vertex].first));
        for (vertex, end) in [(a, b), (b, a)] {
            let near = u32::from(self.vertices[end].sought);
            let vertex = &mut self.vertices[vertex];
            (vertex.first, vertex.degree, vertex.near) = (edge, vertex.degree + 1, vertex.near + near);
        }
    }

    pub(super) fn detach(&mut self, edge: u32) {
        let ends = self.edges[edge].wires.ends;
        for (vertex, first) in ends.into_iter().zip(wires::detach(&mut self.edges, edge)) {
            let end = if vertex == ends[0] { ends[1] } else { ends[0] };
            let near = u32::from(self.vertices[end].sought);
            let vertex = &mut self.vertices[vertex];
            vertex.first = first.unwrap_or(vertex.first);
            (vertex.degree, vertex.near) = (vertex.degree - 1, vertex.near - near);
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
