//! Adjacency: each edge stands in the lists of its two ends, and leaves them without a search.

use super::slab::{NIL, Slab};

/// The part of an edge that makes the lists. Pairs belong to the first and the second end, which differ.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wires {
    /// The vertices.
    pub ends: [u32; 2],
    next: [u32; 2],
    before: [u32; 2],
}

impl Wires {
    /// The next edge of one of the ends, and the other end.
    #[inline]
    pub fn step(&self, vertex: u32) -> (u32, u32) {
        let side = usize::from(self.ends[0] != vertex);
        (self.next[side], self.ends[1 - side])
    }
}

/// A record that is an edge.
pub trait Wired: Copy {
    /// Its place in the lists.
    fn wires(&self) -> &Wires;
    /// The same, to change.
    fn wires_mut(&mut self) -> &mut Wires;
}

/// Puts an edge before the first edges of its ends. It is the first of both lists then.
pub fn attach<T: Wired>(edges: &mut Slab<T>, edge: u32, ends: [u32; 2], first: [u32; 2]) {
    for side in [0, 1] {
        if first[side] != NIL {
            let wires = edges[first[side]].wires_mut();
            wires.before[usize::from(wires.ends[0] != ends[side])] = edge;
        }
    }
    *edges[edge].wires_mut() = Wires { ends, next: first, before: [NIL, NIL] };
}

/// Takes an edge out of both lists. Says the new first edge of each end whose list it began.
pub fn detach<T: Wired>(edges: &mut Slab<T>, edge: u32) -> [Option<u32>; 2] {
    let Wires { ends, next, before } = *edges[edge].wires();
    [0, 1].map(|side| {
        let (vertex, next, before) = (ends[side], next[side], before[side]);
        if next != NIL {
            let wires = edges[next].wires_mut();
            wires.before[usize::from(wires.ends[0] != vertex)] = before;
        }
        if before == NIL {
            return Some(next);
        }
        let wires = edges[before].wires_mut();
        wires.next[usize::from(wires.ends[0] != vertex)] = next;
        None
    })
}
