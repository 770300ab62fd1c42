//! Large components: Euler tours in levels (Holm, de Lichtenberg, Thorup: Poly-logarithmic deterministic fully-dynamic
//! algorithms for connectivity, J. ACM 48(4), 2001).
//!
//! Every edge has a level, 0 at first. The edges of a spanning forest are its *tree* edges; a tree edge of level l stands
//! in the tours of the levels 0 to l, so the trees of a level consist of the tree edges of that level and above, and a
//! tree of level l has at most n / 2^l vertices. When a tree edge goes, another edge that joins both halves is looked for
//! from its level down, among the edges of the smaller half that are in no tree. Those that do not join the halves rise
//! one level, which each edge does log n times at most: that pays for looking at them.
//!
//! Three additions keep single deletions short where the bound is amortised only:
//!
//! * each edge outside the trees has a 64-bit label. The exclusive or of all labels at the vertices of one half, kept at
//!   the root of its tour, is 0 if no edge leaves the half (one inside it cancels itself), and by chance once in 2^64. So a
//!   bridge goes in O(log n), however many edges lie on both sides.
//! * if one edge alone leaves the half, that value is its label, from which its number follows. So one of two ways between
//!   large parts goes in O(log² n).
//! * up to [`LOOKS_MAX`] edges are looked at before anything rises, beginning where the tree was cut: another way between
//!   two halves is often close to the one that went.

use super::connect::{Connectivity, Edge};
use super::slab::NIL;
use super::sum::{NodeMark, Sum};
use super::tour::Part;
use super::wires::Wires;

/// Edges outside the trees that are looked at per level before edges rise.
const LOOKS_MAX: u32 = 256;

/// Odd factors that mix labels (the finaliser of SplitMix64), in the order of use.
const FACTORS: [u64; 3] = [0x9e37_79b9_7f4a_7c15, 0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb];

/// The label of an edge: a bijection, so that a label alone says whose it is.
fn label(edge: u32) -> u64 {
    let mut hash = u64::from(edge).wrapping_mul(FACTORS[0]);
    hash = (hash ^ hash >> 30).wrapping_mul(FACTORS[1]);
    hash = (hash ^ hash >> 27).wrapping_mul(FACTORS[2]);
    hash ^ hash >> 31
}

/// The edge that has a label, if there can be one.
fn labelled(label: u64) -> Option<u32> {
    const INVERSE: [u64; 3] = [inverse(FACTORS[0]), inverse(FACTORS[1]), inverse(FACTORS[2])];
    let mut hash = (label ^ label >> 31 ^ label >> 62).wrapping_mul(INVERSE[2]);
    hash = (hash ^ hash >> 27 ^ hash >> 54).wrapping_mul(INVERSE[1]);
    hash = (hash ^ hash >> 30 ^ hash >> 60).wrapping_mul(INVERSE[0]);
    u32::try_from(hash).ok()
}

/// The inverse of an odd factor modulo 2^64, by Newton's iteration: each step doubles the bits that are right.
const fn inverse(factor: u64) -> u64 {
    let (mut inverse, mut bits) = (factor, 3);
    while bits < 64 {
        inverse = inverse.wrapping_mul(2u64.wrapping_sub(factor.wrapping_mul(inverse)));
        bits *= 2;
    }
    inverse
}

impl<P: Part> Connectivity<P> {
    /// Takes an attached edge between two vertices in tours into account. `joins` says whether the tours differ.
    pub(super) fn insert(&mut self, edge: u32, joins: bool) {
        let [a, b] = self.edges[edge].wires.ends;
        let nodes = [self.vertices[a].node, self.vertices[b].node];
        (self.edges[edge].level, self.edges[edge].arc) = (0, NIL);
        if joins {
            self.tours.count(nodes[0], Sum::of_edges(1, 0));
            self.link_level(edge, 0);
        } else {
            self.tours.count(nodes[0], Sum::of_edges(1, label(edge)));
            self.tours.count(nodes[1], Sum::of_edges(0, label(edge)));
            self.count_spare(edge, true);
        }
    }

    /// Takes an edge, which is detached already, out of the tours. True if that splits its component.
    pub(super) fn erase(&mut self, edge: u32) -> bool {
        let Edge { wires: Wires { ends: [a, b], .. }, level, arc } = self.edges[edge];
        let nodes = [self.vertices[a].node, self.vertices[b].node];
        if arc == NIL {
            self.tours.discount(nodes[0], Sum::of_edges(1, label(edge)));
            self.tours.discount(nodes[1], Sum::of_edges(0, label(edge)));
            self.count_spare(edge, false);
            self.trim(a);
            self.trim(b);
            return false;
        }
        for level in (0..=level).rev() {
            self.cut_level(edge, level);
        }
        self.tours.discount(nodes[0], Sum::of_edges(1, 0));
        let root = self.tours.root(nodes[0]);
        let mut splits = true;
        let labels = self.tours.get(root).sum.labels;
        if labels != 0 {
            let only = labelled(labels).filter(|&edge| self.leaves(edge, root));
            let found = only.or_else(|| (0..=level).rev().find_map(|level| self.replacement(a, b, level)));
            if let Some(found) = found {
                self.count_spare(found, false);
                for end in self.edges[found].wires.ends {
                    self.tours.discount(self.vertices[end].node, Sum::of_edges(0, label(found)));
                }
                (0..=self.edges[found].level).for_each(|level| self.link_level(found, level));
                splits = false;
            }
        }
        self.trim(a);
        self.trim(b);
        splits
    }

    /// Prepares an edge that is built into a new tour by someone else: counts it, and gives arcs to one of a tree.
    pub(super) fn prepare(&mut self, edge: u32, in_tree: bool) {
        let nodes = self.edges[edge].wires.ends.map(|end| self.vertices[end].node);
        self.tours.count(nodes[0], Sum::of_edges(1, 0));
        (self.edges[edge].level, self.edges[edge].arc) = (0, NIL);
        if in_tree {
            self.edges[edge].arc = self.tours.add_arcs(edge, true).0;
            return;
        }
        for node in nodes {
            self.tours.set_count(node, self.tours.get(node).count + 1);
            self.tours.count(node, Sum::of_edges(0, label(edge)));
        }
    }

    /// Whether a number is that of an edge outside the trees with one end in the tree of a root on level 0.
    fn leaves(&self, edge: u32, root: u32) -> bool {
        if edge == NIL || !self.edges.has(edge) {
            return false;
        }
        let Edge { wires: Wires { ends, .. }, arc, .. } = self.edges[edge];
        let inside = ends.map(|end| end != NIL && self.tours.root(self.vertices[end].node) == root);
        arc == NIL && self.neighbours(ends[0]).any(|(own, _)| own == edge) && inside[0] != inside[1]
    }

    /// An edge of a level outside the trees that joins the trees of two vertices. Edges that were looked at in vain rise.
    fn replacement(&mut self, a: u32, b: u32, level: u8) -> Option<u32> {
        let halves = [a, b].map(|vertex| self.node_at(vertex, level)).map(|node| (node, self.tours.root(node)));
        let (from, root) = halves.into_iter().min_by_key(|&(_, root)| self.tours.get(root).sum.size)?;
        if let Ok(found) = self.look(from, root, level) {
            return found;
        }
        while let Some(arc) = self.tours.first(root, NodeMark::OwnLevel, true) {
            let edge = self.tours.get(arc).item;
            self.tours.set_count(arc, 0);
            self.edges[edge].level = level + 1;
            self.link_level(edge, level + 1);
        }
        while let Some(node) = self.tours.first(root, NodeMark::Spare, true) {
            let vertex = self.tours.get(node).item;
            while let Some((edge, end)) = self.spare_of(vertex, level) {
                if self.tours.root(self.node_at(end, level)) != root {
                    return Some(edge);
                }
                self.count_spare(edge, false);
                self.edges[edge].level = level + 1;
                self.count_spare(edge, true);
            }
        }
        None
    }

    /// Looks at the edges of a tree that are in no tree, outward from one of its nodes, as far as [`LOOKS_MAX`].
    fn look(&self, from: u32, root: u32, level: u8) -> Result<Option<u32>, TooMany> {
        let mut looks = 0;
        let here = Some(from).filter(|&from| self.tours.get(from).bears(NodeMark::Spare));
        let behind = here.or_else(|| self.tours.next(from, NodeMark::Spare, true));
        // Forward and backward in turns, as long as there is something either way.
        let mut ways = [(behind, true), (self.tours.next(from, NodeMark::Spare, false), false)];
        while let Some(way) = ways.iter().position(|(node, _)| node.is_some()) {
            let (node, forward) = ways[way];
            let Some(node) = node else { break };
            let vertex = self.tours.get(node).item;
            for (edge, end) in self.neighbours(vertex) {
                let Edge { level: own, arc, .. } = self.edges[edge];
                if own == level && arc == NIL {
                    if self.tours.root(self.node_at(end, level)) != root {
                        return Ok(Some(edge));
                    }
                    looks += 1;
                    if looks == LOOKS_MAX {
                        return Err(TooMany);
                    }
                }
            }
            ways[way] = ways[1 - way];
            ways[1 - way] = (self.tours.next(node, NodeMark::Spare, forward), forward);
        }
        Ok(None)
    }

    /// The first edge of a vertex that has the level and is in no tree, with its other end.
    fn spare_of(&self, vertex: u32, level: u8) -> Option<(u32, u32)> {
        self.neighbours(vertex).find(|&(edge, _)| self.edges[edge].level == level && self.edges[edge].arc == NIL)
    }

    /// The node of a vertex on a level; `NIL` if it has none.
    fn node_at(&self, vertex: u32, level: u8) -> u32 {
        (0..level).fold(self.vertices[vertex].node, |node, _| if node == NIL { NIL } else { self.tours.get(node).up })
    }

    /// The same, made if it is not there.
    fn make_node(&mut self, vertex: u32, level: u8) -> u32 {
        let mut node = self.vertices[vertex].node;
        for _ in 0..level {
            node = match self.tours.get(node).up {
                NIL => {
                    let up = self.tours.add_vertex(vertex, false);
                    self.tours.get_mut(node).up = up;
                    up
                }
                up => up,
            };
        }
        node
    }

    /// Counts an edge outside the trees at both ends on its level, or no longer.
    fn count_spare(&mut self, edge: u32, more: bool) {
        let Edge { wires: Wires { ends, .. }, level, .. } = self.edges[edge];
        for end in ends {
            let node = self.make_node(end, level);
            let count = self.tours.get(node).count;
            self.tours.set_count(node, if more { count + 1 } else { count - 1 });
        }
    }

    /// Puts an edge, which is in the tours of all lower levels, into those of a level.
    fn link_level(&mut self, edge: u32, level: u8) {
        let Edge { wires: Wires { ends, .. }, level: own, arc } = self.edges[edge];
        let [from, to] = ends.map(|end| self.make_node(end, level));
        let (there, back) = self.tours.add_arcs(edge, own == level);
        if level == 0 {
            self.edges[edge].arc = there;
        } else {
            let below = (1..level).fold(arc, |arc, _| self.tours.get(arc).up);
            self.tours.get_mut(below).up = there;
        }
        self.tours.link(from, to, there, back);
    }

    /// Takes an edge out of the tours of the highest level it is in.
    fn cut_level(&mut self, edge: u32, level: u8) {
        let arc = self.edges[edge].arc;
        let there = (0..level).fold(arc, |arc, _| self.tours.get(arc).up);
        let back = self.tours.get(there).mate;
        self.tours.cut(there, back);
        self.tours.release(there);
        self.tours.release(back);
    }

    /// Frees the nodes of a vertex on levels where nothing is left of it.
    fn trim(&mut self, vertex: u32) {
        loop {
            let (mut below, mut node) = (NIL, self.vertices[vertex].node);
            while self.tours.get(node).up != NIL {
                (below, node) = (node, self.tours.get(node).up);
            }
            let top = self.tours.get(node);
            if below == NIL || top.count > 0 || !top.is_alone() {
                return;
            }
            self.tours.release(node);
            self.tours.get_mut(below).up = NIL;
        }
    }

    /// Frees the arcs of an edge whose whole component leaves the tours.
    pub(super) fn forget_edge(&mut self, edge: u32) {
        let mut arc = std::mem::replace(&mut self.edges[edge].arc, NIL);
        while arc != NIL {
            let node = *self.tours.get(arc);
            self.tours.release(arc);
            self.tours.release(node.mate);
            arc = node.up;
        }
        self.edges[edge].level = 0;
    }

    /// The same for a vertex.
    pub(super) fn forget_vertex(&mut self, vertex: u32) {
        let mut node = std::mem::replace(&mut self.vertices[vertex].node, NIL);
        while node != NIL {
            let up = self.tours.get(node).up;
            self.tours.release(node);
            node = up;
        }
    }
}

/// There are more edges outside the trees than are looked at without raising any.
struct TooMany;
