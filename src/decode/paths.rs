//! The paths of a schema as a trie: where in a nested object each field stands.

use hashbrown::HashMap;

use crate::event::{Schema, Slot};

/// A field that reads a value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    /// The field.
    pub slot: Slot,
    /// 0 for the field's own path, then its aliases in order: the lowest rank wins.
    pub rank: u8,
}

/// A node of the trie, by index; 0 is the record itself.
pub(super) type NodeId = u32;

#[derive(Debug, Default)]
struct Node {
    name: Box<str>,
    parent: NodeId,
    children: HashMap<Box<str>, NodeId>,
    /// Bit `n` is set if a child's name has `n` bytes (63: or more), so that most unknown names are told by length.
    lengths: u64,
    targets: Box<[Target]>,
}

/// All paths of a schema.
#[derive(Debug)]
pub(super) struct Paths {
    nodes: Vec<Node>,
    /// Per node: the node that came next in the last record, among its siblings. Records of one producer have their
    /// fields in one order, so that a name is nearly always found by one comparison.
    next: Vec<NodeId>,
    /// Per node: the child that came first in the last record.
    first: Vec<NodeId>,
    /// Per node: the number of the record that it was met in last.
    met: Vec<u32>,
    record: u32,
}

impl Paths {
    /// The paths of a schema's fields and their aliases.
    pub fn new(schema: &Schema) -> Self {
        let mut nodes = vec![Node::default()];
        for (path, target) in targets(schema) {
            let mut at = 0;
            for name in path.split('.') {
                at = match nodes[at as usize].children.get(name) {
                    Some(&child) => child,
                    None => {
                        let child = nodes.len() as NodeId;
                        nodes.push(Node { name: name.into(), parent: at, ..Node::default() });
                        nodes[at as usize].children.insert(name.into(), child);
                        nodes[at as usize].lengths |= length_bit(name);
                        child
                    }
                };
            }
            let node = &mut nodes[at as usize];
            node.targets = node.targets.iter().copied().chain([target]).collect();
        }
        let count = nodes.len();
        Paths { nodes, next: vec![0; count], first: vec![0; count], met: vec![0; count], record: 0 }
    }

    /// Begins another record.
    #[inline]
    pub fn begin(&mut self) {
        // After so many records that the number comes round, one repeated key may be taken for another record's.
        self.record = self.record.wrapping_add(1);
    }

    /// Whether the record has had this node before.
    #[inline]
    pub fn is_repeated(&mut self, node: NodeId) -> bool {
        std::mem::replace(&mut self.met[node as usize], self.record) == self.record
    }

    /// The child of `parent` with this name. `before` is what the last call for this object gave (`parent` at first).
    #[inline]
    pub fn child(&mut self, parent: NodeId, before: NodeId, name: &str) -> Option<NodeId> {
        let guess = if before == parent { &mut self.first[parent as usize] } else { &mut self.next[before as usize] };
        // The record itself (0) is nobody's child: it stands for no guess.
        let node = &self.nodes[*guess as usize];
        if *guess != 0 && node.parent == parent && *node.name == *name {
            return Some(*guess);
        }
        let node = &self.nodes[parent as usize];
        let found = match node.children.get(name) {
            _ if node.lengths & length_bit(name) == 0 => None,
            found => found.copied(),
        };
        if let Some(found) = found {
            *guess = found;
        }
        found.or_else(|| if name.contains('.') { self.flattened(parent, name) } else { None })
    }

    /// The node that a flattened name (`payment.id`) leads to.
    #[cold]
    fn flattened(&self, parent: NodeId, name: &str) -> Option<NodeId> {
        name.split('.').try_fold(parent, |at, name| self.nodes[at as usize].children.get(name).copied())
    }

    /// How many fields read the value at a node.
    #[inline]
    pub fn readers(&self, node: NodeId) -> usize {
        self.nodes[node as usize].targets.len()
    }

    /// One of the fields that read the value at a node.
    #[inline]
    pub fn reader(&self, node: NodeId, index: usize) -> Target {
        self.nodes[node as usize].targets[index]
    }

    /// Whether fields stand inside the value at a node.
    #[inline]
    pub fn is_inner(&self, node: NodeId) -> bool {
        self.nodes[node as usize].lengths != 0
    }
}

/// Every path and alias with the field that it feeds.
pub(super) fn targets(schema: &Schema) -> impl Iterator<Item = (&str, Target)> {
    schema.fields().iter().enumerate().flat_map(|(index, field)| {
        let paths = [field.path.as_str()].into_iter().chain(field.aliases.iter().map(String::as_str));
        paths.enumerate().map(move |(rank, path)| {
            (path, Target { slot: Slot(index as u16), rank: rank.min(usize::from(u8::MAX) - 1) as u8 })
        })
    })
}

fn length_bit(name: &str) -> u64 {
    1 << name.len().min(63)
}
