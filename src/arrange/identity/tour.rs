//! Euler tours of trees, each a balanced sequence with totals at its root.
//!
//! The tour of a tree holds every vertex once and every edge twice, once per direction (its *arcs*). A sequence is a
//! treap whose priorities are a hash of the node's number: with a million nodes a path is about 30 to 50 steps, whatever
//! was done before, and the same operations build the same treap. Nothing recurses.

use super::slab::{NIL, Slab};

/// What a vertex adds to the totals of its component. The default must add nothing.
pub trait Part: Copy + Default + std::fmt::Debug {
    /// The total over vertices.
    type Total: Total;

    /// What this vertex adds.
    fn total(&self) -> Self::Total;
}

/// Totals over the vertices of a component. The default is the total over none.
pub trait Total: Copy + Default + std::fmt::Debug {
    /// Adds another total.
    fn add(&mut self, other: &Self);

    /// Takes a total away again; false if the rest is not known without looking at every vertex left (a minimum that
    /// has gone).
    fn subtract(&mut self, other: &Self) -> bool;

    /// Puts a total in the place of another; false as above.
    fn replace(&mut self, before: &Self, after: &Self) -> bool {
        let known = self.subtract(before);
        self.add(after);
        known
    }
}

/// What a node's subtree holds somewhere.
pub const SPARE: u8 = 1;
/// An arc of an edge whose level is the tour's.
pub const OWN_LEVEL: u8 = 2;

/// A vertex or an arc in a tour of one level.
#[derive(Clone, Copy, Debug, Default)]
pub struct Node<P: Part> {
    parent: u32,
    left: u32,
    right: u32,
    /// The same vertex or arc, one level up.
    pub up: u32,
    /// The vertex, or the edge.
    pub item: u32,
    /// The other arc of the edge; `NIL` for a vertex.
    pub mate: u32,
    /// Of a vertex: its edges of this level that are in no tree. Of an arc: 1 if the edge's level is this one.
    pub count: u32,
    /// Of a vertex, on level 0: edges that it is the first end of.
    pub owned: u32,
    /// Vertices in the subtree.
    pub size: u32,
    /// Edges owned by vertices in the subtree.
    pub links: u32,
    flags: u8,
    /// Of a vertex, on level 0: the labels of its edges that are in no tree, combined by exclusive or.
    pub label: u64,
    /// The same over the subtree: 0 if no such edge leaves it, but for one cut in 2^64.
    pub labels: u64,
    /// What the vertex adds.
    pub part: P,
    /// The total over the subtree.
    pub total: P::Total,
}

impl<P: Part> Node<P> {
    fn own_flags(&self) -> u8 {
        match (self.count, self.mate) {
            (0, _) => 0,
            (_, NIL) => SPARE,
            _ => OWN_LEVEL,
        }
    }

    /// Whether it stands alone.
    pub fn is_alone(&self) -> bool {
        self.parent == NIL && self.left == NIL && self.right == NIL
    }
}

/// All tours of all levels.
#[derive(Clone, Debug)]
pub struct Tours<P: Part> {
    nodes: Slab<Node<P>>,
}

impl<P: Part> Default for Tours<P> {
    fn default() -> Self {
        Tours { nodes: Slab::default() }
    }
}

/// The order of the heap: a bijection, so no two nodes are equal.
#[inline]
fn priority(node: u32) -> u32 {
    let mut hash = node.wrapping_mul(0x9e37_79b9);
    hash ^= hash >> 15;
    hash = hash.wrapping_mul(0x85eb_ca6b);
    hash ^ hash >> 13
}

impl<P: Part> Tours<P> {
    /// A new node in a tour of its own.
    pub fn add(&mut self, item: u32, mate: u32, part: P) -> u32 {
        let number = self.nodes.take();
        let node = &mut self.nodes[number];
        (node.item, node.mate, node.part) = (item, mate, part);
        number
    }

    /// Frees a node that stands alone, or whose whole tour is freed.
    pub fn release(&mut self, node: u32) {
        self.nodes.release(node);
    }

    /// A node.
    #[inline]
    pub fn get(&self, node: u32) -> &Node<P> {
        &self.nodes[node]
    }

    /// A node to change; [`Tours::climb`] must follow.
    #[inline]
    pub fn get_mut(&mut self, node: u32) -> &mut Node<P> {
        &mut self.nodes[node]
    }

    /// Nodes in all tours.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is no node.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.nodes.bytes()
    }

    /// The root of the tour that a node is in.
    pub fn root(&self, mut node: u32) -> u32 {
        loop {
            match self.nodes[node].parent {
                NIL => return node,
                parent => node = parent,
            }
        }
    }

    /// Recomputes the totals from a node up to its root.
    pub fn climb(&mut self, mut node: u32) {
        while node != NIL {
            self.update(node);
            node = self.nodes[node].parent;
        }
    }

    /// Recomputes what a node says of its subtree.
    fn update(&mut self, number: u32) {
        let node = &self.nodes[number];
        let is_vertex = node.mate == NIL;
        let (mut size, mut links, mut labels, mut flags) =
            (u32::from(is_vertex), node.owned, node.label, node.own_flags());
        let mut total = if is_vertex { node.part.total() } else { P::Total::default() };
        for child in [node.left, node.right] {
            if child != NIL {
                let child = &self.nodes[child];
                size += child.size;
                links += child.links;
                labels ^= child.labels;
                flags |= child.flags;
                total.add(&child.total);
            }
        }
        let node = &mut self.nodes[number];
        (node.size, node.links, node.labels, node.flags, node.total) = (size, links, labels, flags, total);
    }

    /// Splits a tour before a node (or behind it): the roots of both parts.
    fn split(&mut self, number: u32, behind: bool) -> (u32, u32) {
        let node = &mut self.nodes[number];
        let mut next = std::mem::replace(&mut node.parent, NIL);
        let cut_off = std::mem::replace(if behind { &mut node.right } else { &mut node.left }, NIL);
        if cut_off != NIL {
            self.nodes[cut_off].parent = NIL;
        }
        self.update(number);
        let (mut left, mut right) = if behind { (number, cut_off) } else { (cut_off, number) };
        let mut child = number;
        // Each ancestor goes over all that was cut from below it.
        while next != NIL {
            let ancestor = &mut self.nodes[next];
            let above = std::mem::replace(&mut ancestor.parent, NIL);
            let below = if ancestor.left == child {
                ancestor.left = right;
                std::mem::replace(&mut right, next)
            } else {
                ancestor.right = left;
                std::mem::replace(&mut left, next)
            };
            if below != NIL {
                self.nodes[below].parent = next;
            }
            self.update(next);
            (child, next) = (next, above);
        }
        (left, right)
    }

    /// Puts one tour behind another: the root of both. Either may be `NIL`.
    fn concat(&mut self, mut left: u32, mut right: u32) -> u32 {
        let (mut parent, mut goes_left, mut root) = (NIL, false, NIL);
        loop {
            let takes_left = right == NIL || (left != NIL && priority(left) > priority(right));
            let child = if takes_left { left } else { right };
            if parent == NIL {
                root = child;
            } else if goes_left {
                self.nodes[parent].left = child;
            } else {
                self.nodes[parent].right = child;
            }
            if child != NIL {
                self.nodes[child].parent = parent;
            }
            if left == NIL || right == NIL {
                break;
            }
            (parent, goes_left) = (child, !takes_left);
            if takes_left {
                left = self.nodes[child].right;
            } else {
                right = self.nodes[child].left;
            }
        }
        self.climb(parent);
        root
    }

    /// Turns a tour so that it begins with a vertex.
    fn turn(&mut self, vertex: u32) -> u32 {
        let (before, after) = self.split(vertex, false);
        self.concat(after, before)
    }

    /// Joins two tours by the arcs of an edge between two of their vertices.
    pub fn link(&mut self, from: u32, to: u32, there: u32, back: u32) {
        self.update(there);
        self.update(back);
        let (first, second) = (self.turn(from), self.turn(to));
        let first = self.concat(first, there);
        let second = self.concat(second, back);
        self.concat(first, second);
    }

    /// Takes the arcs of an edge out: what they joined becomes two tours.
    pub fn cut(&mut self, there: u32, back: u32) {
        let (before, after) = self.split(there, false);
        let (first, last) = if self.root(back) == after {
            // first, there, INNER, back, last
            self.split(there, true);
            self.split(back, false);
            (before, self.split(back, true).1)
        } else {
            // first, back, INNER, there, last
            let last = self.split(there, true).1;
            let first = self.split(back, false).0;
            self.split(back, true);
            (first, last)
        };
        self.concat(first, last);
    }

    /// The first node of a subtree that bears a flag itself.
    pub fn first(&self, root: u32, flag: u8) -> Option<u32> {
        let mut number = root;
        if self.nodes[number].flags & flag == 0 {
            return None;
        }
        loop {
            let node = &self.nodes[number];
            if node.left != NIL && self.nodes[node.left].flags & flag != 0 {
                number = node.left;
            } else if node.own_flags() & flag != 0 {
                return Some(number);
            } else {
                number = node.right;
            }
        }
    }

    /// The next such node of the same tour.
    pub fn next(&self, mut number: u32, flag: u8) -> Option<u32> {
        let flagged = |child: u32| child != NIL && self.nodes[child].flags & flag != 0;
        if flagged(self.nodes[number].right) {
            return self.first(self.nodes[number].right, flag);
        }
        loop {
            let parent = self.nodes[number].parent;
            if parent == NIL {
                return None;
            }
            let node = &self.nodes[parent];
            if node.left == number {
                if node.own_flags() & flag != 0 {
                    return Some(parent);
                }
                if flagged(node.right) {
                    return self.first(node.right, flag);
                }
            }
            number = parent;
        }
    }
}
