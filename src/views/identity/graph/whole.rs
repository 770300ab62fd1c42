//! A graph that comes as a whole, from an image: linear in its vertices and edges, however large the components.

use super::connect::{Component, Connectivity, SMALL_MAX, Vertex};
use super::slab::NIL;
use super::tour::Part;

impl<P: Part> Connectivity<P> {
    /// Adds vertices, and edges between them, each under a number that is not in use: what adding and linking them one by
    /// one gives, in whatever order.
    pub fn add_whole(&mut self, vertices: &[(u32, P)], edges: impl Iterator<Item = (u32, [u32; 2])>) {
        for &(vertex, part) in vertices {
            self.put(vertex, NIL, part);
        }
        for (edge, [a, b]) in edges {
            self.edges.reach(edge);
            self.attach(edge, a, b);
        }
        let mut members = Vec::new();
        for &(vertex, _) in vertices {
            let Vertex { component, node, .. } = self.vertices[vertex];
            if component == NIL && node == NIL {
                self.members(vertex, &mut members);
                self.gather(&members);
            }
        }
    }

    /// Makes a component of vertices that are in none.
    fn gather(&mut self, members: &[u32]) {
        let number = self.small.take();
        let mut whole = Component::default();
        for &member in members {
            let vertex = &mut self.vertices[member];
            vertex.component = number;
            whole.size += 1;
            whole.accounts += u32::from(self.parts[member].is_account());
            whole.links += vertex.degree;
            whole.hub = whole.hub.max(vertex.degree);
            self.parts[member].add_to(&mut whole.total);
        }
        // Each edge has been counted at both of its ends.
        whole.links /= 2;
        self.small[number] = whole;
        if whole.size > SMALL_MAX {
            self.enlarge(members[0]);
        }
    }
}
