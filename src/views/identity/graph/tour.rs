//! Euler tours of trees, each a balanced sequence with totals at its root.
//!
//! The tour of a tree holds every vertex once and every edge twice, once per direction (its *arcs*). A sequence is a
//! treap whose priorities are a hash of the node's number: with a million nodes a path is about 30 to 50 steps, whatever
//! was done before, and the same operations build the same treap. Nothing recurses.
//!
//! What connectivity needs of a subtree (sizes, labels) is kept as tours change, in nodes of one cache line. All of it can
//! be subtracted again, so a tour is split and joined without a look at the nodes beside the way: those are what a
//! processor waits for. The totals that are read, much wider, stand apart and are added up when they are read: a node
//! whose subtree has changed since is stale, and so is every node above it.

use super::slab::{NIL, Slab};
use super::sum::{NodeMark, Sum};

/// What a vertex adds to the totals of its component. The default must add nothing.
pub trait Part: Copy + Default + std::fmt::Debug {
    /// The total over vertices.
    type Total: Total;

    /// Adds what this vertex adds.
    fn add_to(&self, total: &mut Self::Total);

    /// What this vertex adds.
    fn total(&self) -> Self::Total {
        let mut total = Self::Total::default();
        self.add_to(&mut total);
        total
    }

    /// Whether it is an account. This never changes.
    fn is_account(&self) -> bool;

    /// Whether searches look for it ([`super::Connectivity::sought_at`]).
    fn is_sought(&self) -> bool {
        false
    }
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
    /// The total over the subtree is not known; nor is that of any node above it.
    stale: bool,
    /// Over the subtree.
    pub sum: Sum,
}

impl Node {
    /// Whether it bears a mark.
    pub fn bears(&self, mark: NodeMark) -> bool {
        self.count > 0 && (self.mate == NIL) == (mark == NodeMark::Spare)
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
    /// A new vertex in a tour of its own. Only on level 0 does it matter whether that is an account.
    pub fn add_vertex(&mut self, vertex: u32, is_account: bool) -> u32 {
        let number = self.nodes.take();
        self.nodes[number] = Node { item: vertex, stale: true, sum: Sum::of_vertex(is_account), ..Node::default() };
        number
    }

    /// The two arcs of an edge, each in a tour of its own: the first knows whether the edge is of the tour's level.
    pub fn add_arcs(&mut self, edge: u32, of_level: bool) -> (u32, u32) {
        let (there, back) = (self.nodes.take(), self.nodes.take());
        let arc = |mate: u32, count: u32| {
            let sum = if count > 0 { Sum::of(NodeMark::OwnLevel) } else { Sum::default() };
            Node { item: edge, mate, count, stale: true, sum, ..Node::default() }
        };
        self.nodes[there] = arc(back, u32::from(of_level));
        self.nodes[back] = arc(there, 0);
        (there, back)
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

    /// Counts something of a vertex, up to its root.
    pub fn count(&mut self, node: u32, more: Sum) {
        self.each_above(node, |above| above.sum = above.sum.with(more));
    }

    /// No longer counts it.
    pub fn discount(&mut self, node: u32, less: Sum) {
        self.each_above(node, |above| above.sum = above.sum.without(less));
    }

    fn each_above(&mut self, mut node: u32, change: impl Fn(&mut Node)) {
        while node != NIL {
            let above = &mut self.nodes[node];
            change(above);
            node = above.parent;
        }
    }

    /// Changes the count of a node, and what is known of it above as far as that matters.
    pub fn set_count(&mut self, number: u32, count: u32) {
        let node = &mut self.nodes[number];
        let (bore, mate) = (node.count > 0, node.mate);
        node.count = count;
        let one = match mate {
            NIL => Sum::of(NodeMark::Spare),
            _ => Sum::of(NodeMark::OwnLevel),
        };
        match (bore, count > 0) {
            (false, true) => self.count(number, one),
            (true, false) => self.discount(number, one),
            _ => {}
        }
    }

    /// What a vertex adds to the total has changed.
    pub fn touch(&mut self, mut node: u32) {
        while node != NIL && !self.nodes[node].stale {
            self.nodes[node].stale = true;
            node = self.nodes[node].parent;
        }
    }

    /// The total over a tour on level 0, where `part` says what a vertex adds. Adds up what has changed since the last
    /// call alone. `ahead` is told of the vertices that `part` is asked for soon.
    pub fn total(&mut self, root: u32, ahead: impl Fn(u32), part: impl Fn(u32) -> T) -> T {
        let mut number = root;
        while self.nodes[root].stale {
            let Node { parent, left, right, item, mate, .. } = self.nodes[number];
            if self.owes(left) {
                self.totals.prefetch(right);
                number = left;
            } else if self.owes(right) {
                self.totals.prefetch(left);
                number = right;
            } else {
                let mut total = if mate == NIL { part(item) } else { T::default() };
                for child in [left, right] {
                    if self.sum(child).size > 0 {
                        total.add(&self.totals[child]);
                    }
                }
                self.totals.reach(number);
                self.totals[number] = total;
                self.nodes[number].stale = false;
                number = parent;
                continue;
            }
            if mate == NIL {
                ahead(item);
            }
        }
        self.totals[root]
    }

    /// Whether the total over a subtree is to be added up. Arcs alone add nothing.
    fn owes(&self, node: u32) -> bool {
        node != NIL && self.nodes[node].stale && self.nodes[node].sum.size > 0
    }

    /// Makes a tour of nodes that stand alone, in their order, in linear time.
    pub fn build(&mut self, sequence: impl Iterator<Item = u32>) {
        let mut spine = std::mem::take(&mut self.spine);
        for node in sequence {
            let mut below = NIL;
            while let Some(&last) = spine.last().filter(|&&last| priority(last) < priority(node)) {
                self.complete(last);
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
            self.complete(node);
        }
        self.spine = spine;
    }

    /// Adds to the sum of a node those of its children, which are complete.
    fn complete(&mut self, number: u32) {
        let Node { left, right, .. } = self.nodes[number];
        let below = self.sum(left).with(self.sum(right));
        self.nodes[number].sum = self.nodes[number].sum.with(below);
    }

    /// The sum of a subtree, which may be `NIL`.
    fn sum(&self, node: u32) -> Sum {
        if node == NIL { Sum::default() } else { self.nodes[node].sum }
    }

    /// Splits a tour before a node (or behind it): the roots of both parts.
    fn split(&mut self, number: u32, behind: bool) -> (u32, u32) {
        let node = &mut self.nodes[number];
        let mut next = std::mem::replace(&mut node.parent, NIL);
        let cut_off = std::mem::replace(if behind { &mut node.right } else { &mut node.left }, NIL);
        // What stood below the next ancestor.
        let mut below = node.sum;
        let cut_sum = self.sum(cut_off);
        let node = &mut self.nodes[number];
        node.sum = node.sum.without(cut_sum);
        node.stale = true;
        let kept = (number, node.sum);
        if cut_off != NIL {
            self.nodes[cut_off].parent = NIL;
        }
        let (mut left, mut right) = if behind { (kept, (cut_off, cut_sum)) } else { ((cut_off, cut_sum), kept) };
        let mut child = number;
        // Each ancestor goes over all that was cut from below it.
        while next != NIL {
            let ancestor = &mut self.nodes[next];
            let above = std::mem::replace(&mut ancestor.parent, NIL);
            let was_left = ancestor.left == child;
            let (root, sum) = if was_left { &mut right } else { &mut left };
            let adopted = std::mem::replace(root, next);
            *(if was_left { &mut ancestor.left } else { &mut ancestor.right }) = adopted;
            let rest = ancestor.sum.without(below);
            below = ancestor.sum;
            *sum = sum.with(rest);
            ancestor.sum = *sum;
            ancestor.stale = true;
            if adopted != NIL {
                self.nodes[adopted].parent = next;
            }
            (child, next) = (next, above);
        }
        (left.0, right.0)
    }

    /// Puts one tour behind another: the root of both. Either may be `NIL`.
    fn concat(&mut self, mut left: u32, mut right: u32) -> u32 {
        let (mut left_sum, mut right_sum) = (self.sum(left), self.sum(right));
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
                return root;
            }
            // The child now has both tours below it.
            let node = &mut self.nodes[child];
            node.sum = left_sum.with(right_sum);
            node.stale = true;
            if takes_left {
                left = node.right;
                left_sum = self.sum(left);
            } else {
                right = node.left;
                right_sum = self.sum(right);
            }
            (parent, goes_left) = (child, !takes_left);
        }
    }

    /// Turns a tour so that it begins with a vertex.
    fn turn(&mut self, vertex: u32) -> u32 {
        let (before, after) = self.split(vertex, false);
        self.concat(after, before)
    }

    /// Joins two tours by the arcs of an edge between two of their vertices: the smaller goes into the larger.
    pub fn link(&mut self, from: u32, to: u32, there: u32, back: u32) {
        let sizes = [from, to].map(|node| self.nodes[self.root(node)].sum.size);
        let (from, to, there, back) =
            if sizes[0] < sizes[1] { (to, from, back, there) } else { (from, to, there, back) };
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

    /// The first node of a subtree that bears a mark; the last one if that is backward.
    pub fn first(&self, root: u32, mark: NodeMark, forward: bool) -> Option<u32> {
        let mut number = root;
        if self.sum(number).bearing(mark) == 0 {
            return None;
        }
        loop {
            let node = &self.nodes[number];
            let (before, behind) = if forward { (node.left, node.right) } else { (node.right, node.left) };
            if self.sum(before).bearing(mark) > 0 {
                number = before;
            } else if node.bears(mark) {
                return Some(number);
            } else {
                number = behind;
            }
        }
    }

    /// The next such node of the same tour, or the one before.
    pub fn next(&self, mut number: u32, mark: NodeMark, forward: bool) -> Option<u32> {
        let behind = |node: &Node| if forward { node.right } else { node.left };
        if let Some(below) = self.first(behind(&self.nodes[number]), mark, forward) {
            return Some(below);
        }
        loop {
            let parent = self.nodes[number].parent;
            if parent == NIL {
                return None;
            }
            let node = &self.nodes[parent];
            if behind(node) != number {
                if node.bears(mark) {
                    return Some(parent);
                }
                if let Some(below) = self.first(behind(node), mark, forward) {
                    return Some(below);
                }
            }
            number = parent;
        }
    }
}
