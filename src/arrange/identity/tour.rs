//! Euler tours of trees, each a balanced sequence with totals at its root.
//!
//! The tour of a tree holds every vertex once and every edge twice, once per direction (its *arcs*). A sequence is a
//! treap whose priorities are a hash of the node's number: with a million nodes a path is about 30 to 50 steps, whatever
//! was done before, and the same operations build the same treap. Nothing recurses.
//!
//! What connectivity needs of a subtree (sizes, labels) is kept as tours change, in nodes of one cache line. The totals
//! that are read, much wider, stand apart and are added up when they are read: a node whose subtree has changed since is
//! stale, and so is every node above it.

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

/// What a node's subtree holds somewhere: a vertex with edges that are in no tree.
pub const SPARE: u8 = 1;
/// An arc of an edge whose level is the tour's.
pub const OWN_LEVEL: u8 = 2;
/// The total over the subtree is not known; nor is that of any node above it.
const STALE: u8 = 4;

/// A vertex or an arc in a tour of one level: one cache line.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
pub struct Node {
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
    /// Of a vertex, on level 0: the labels of its edges that are in no tree, combined by exclusive or.
    pub label: u64,
    /// The same over the subtree: 0 if no such edge leaves it, but for one cut in 2^64.
    pub labels: u64,
    flags: u8,
}

impl Node {
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
pub struct Tours<T: Total> {
    nodes: Slab<Node>,
    /// By node, on level 0: the total over the vertices of its subtree, unless the node is stale.
    totals: Slab<T>,
    /// The right spine of a tour that is being built, kept for its memory.
    spine: Vec<u32>,
}

impl<T: Total> Default for Tours<T> {
    fn default() -> Self {
        Tours { nodes: Slab::default(), totals: Slab::default(), spine: Vec::new() }
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

impl<T: Total> Tours<T> {
    /// A new node in a tour of its own.
    pub fn add(&mut self, item: u32, mate: u32) -> u32 {
        let number = self.nodes.take();
        let size = u32::from(mate == NIL);
        self.nodes[number] = Node { item, mate, size, flags: STALE, ..Node::default() };
        number
    }

    /// Frees a node that stands alone, or whose whole tour is freed.
    pub fn release(&mut self, node: u32) {
        self.nodes.release(node);
        if self.nodes.is_empty() {
            self.totals = Slab::default();
        }
    }

    /// A node.
    #[inline]
    pub fn get(&self, node: u32) -> &Node {
        &self.nodes[node]
    }

    /// A node to change: what its subtree adds up must not change by that.
    #[inline]
    pub fn get_mut(&mut self, node: u32) -> &mut Node {
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
        self.nodes.bytes() + self.totals.bytes()
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

    /// Changes the edges that a vertex owns and the labels at it, up to its root.
    pub fn adjust(&mut self, mut node: u32, owned: i32, label: u64) {
        let vertex = &mut self.nodes[node];
        vertex.owned = vertex.owned.wrapping_add_signed(owned);
        vertex.label ^= label;
        while node != NIL {
            let above = &mut self.nodes[node];
            above.links = above.links.wrapping_add_signed(owned);
            above.labels ^= label;
            node = above.parent;
        }
    }

    /// Changes the count of a node, and the flags above it as far as that matters.
    pub fn set_count(&mut self, mut node: u32, count: u32) {
        self.nodes[node].count = count;
        while node != NIL {
            let above = &self.nodes[node];
            let children = [above.left, above.right].into_iter().filter(|&child| child != NIL);
            let below = children.fold(0, |flags, child| flags | self.nodes[child].flags & !STALE);
            let flags = above.flags & STALE | above.own_flags() | below;
            if flags == above.flags {
                return;
            }
            self.nodes[node].flags = flags;
            node = self.nodes[node].parent;
        }
    }

    /// What a vertex adds to the total has changed.
    pub fn touch(&mut self, mut node: u32) {
        while node != NIL && self.nodes[node].flags & STALE == 0 {
            self.nodes[node].flags |= STALE;
            node = self.nodes[node].parent;
        }
    }

    /// The total over a tour on level 0, where `part` says what a vertex adds. Adds up what has changed since the last
    /// call alone.
    pub fn total(&mut self, root: u32, part: impl Fn(u32) -> T) -> T {
        let stale = |nodes: &Slab<Node>, node: u32| node != NIL && nodes[node].flags & STALE != 0;
        let mut number = root;
        while stale(&self.nodes, root) {
            let Node { parent, left, right, item, mate, .. } = self.nodes[number];
            if stale(&self.nodes, left) {
                number = left;
            } else if stale(&self.nodes, right) {
                number = right;
            } else {
                let mut total = if mate == NIL { part(item) } else { T::default() };
                for child in [left, right].into_iter().filter(|&child| child != NIL) {
                    total.add(&self.totals[child]);
                }
                self.totals.reach(number);
                self.totals[number] = total;
                self.nodes[number].flags &= !STALE;
                number = parent;
            }
        }
        self.totals[root]
    }

    /// Recomputes what the nodes from one up to its root say of their subtrees.
    fn climb(&mut self, mut node: u32) {
        while node != NIL {
            self.update(node);
            node = self.nodes[node].parent;
        }
    }

    /// Recomputes what a node says of its subtree, which has become another.
    fn update(&mut self, number: u32) {
        let node = &self.nodes[number];
        let (mut size, mut links, mut labels) = (u32::from(node.mate == NIL), node.owned, node.label);
        let mut flags = STALE | node.own_flags();
        for child in [node.left, node.right] {
            if child != NIL {
                let child = &self.nodes[child];
                size += child.size;
                links += child.links;
                labels ^= child.labels;
                flags |= child.flags;
            }
        }
        let node = &mut self.nodes[number];
        (node.size, node.links, node.labels, node.flags) = (size, links, labels, flags);
    }

    /// Makes a tour of nodes that stand alone, in their order, in linear time.
    pub fn build(&mut self, sequence: impl Iterator<Item = u32>) {
        let mut spine = std::mem::take(&mut self.spine);
        for node in sequence {
            let mut below = NIL;
            while let Some(&last) = spine.last().filter(|&&last| priority(last) < priority(node)) {
                self.update(last);
                below = last;
                spine.pop();
            }
            self.nodes[node].left = below;
            if below != NIL {
                self.nodes[below].parent = node;
            }
            let above = spine.last().copied().unwrap_or(NIL);
            self.nodes[node].parent = above;
            if above != NIL {
                self.nodes[above].right = node;
            }
            spine.push(node);
        }
        while let Some(node) = spine.pop() {
            self.update(node);
        }
        self.spine = spine;
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

    /// Joins two tours by the arcs of an edge between two of their vertices: the smaller goes into the larger.
    pub fn link(&mut self, from: u32, to: u32, there: u32, back: u32) {
        let sizes = [from, to].map(|node| self.nodes[self.root(node)].size);
        let (from, to, there, back) =
            if sizes[0] < sizes[1] { (to, from, back, there) } else { (from, to, there, back) };
        self.update(there);
        self.update(back);
        let inner = self.turn(to);
        let inner = self.concat(there, inner);
        let inner = self.concat(inner, back);
        let (before, after) = self.split(from, true);
        let before = self.concat(before, inner);
        self.concat(before, after);
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
