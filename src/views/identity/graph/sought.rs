//! Vertices that are looked for near another one: accounts with known frauds, say.
//!
//! Most vertices that a search reaches stand where it ends, and few of those are sought. So each vertex counts which of its
//! neighbours are: the last step is made from those vertices alone that have some.

use super::connect::Connectivity;
use super::slab::NIL;
use super::tour::Part;

impl<P: Part> Connectivity<P> {
    /// A vertex is sought from now on, or no longer: its neighbours count that.
    pub(super) fn seek(&mut self, vertex: u32, sought: bool) {
        self.vertices[vertex].sought = sought;
        let mut edge = self.vertices[vertex].first;
        while edge != NIL {
            let (next, end) = self.edges[edge].wires.step(vertex);
            let near = &mut self.vertices[end].near;
            *near = if sought { *near + 1 } else { *near - 1 };
            edge = next;
        }
    }

    /// How many are sought of those whose shortest way from a vertex has 2, 4, .. steps, one count per place of `found`;
    /// `None` where more than `most` vertices are as near as that or nearer.
    pub fn sought_at(&mut self, vertex: u32, most: usize, found: &mut [Option<u32>]) {
        found.fill(None);
        let mark = self.new_marks();
        let mut seen = std::mem::take(&mut self.sides[0]);
        seen.clear();
        self.see(vertex, mark, &mut seen);
        let (mut start, last) = (0, found.len().saturating_sub(1));
        for (place, found) in found.iter_mut().enumerate() {
            start = self.step(start, mark, most, &mut seen);
            let behind: usize = seen[start..].iter().map(|&end| self.vertices[end].degree as usize).sum();
            if place == last && seen.len() + behind <= most {
                *found = Some(self.sought_behind(&seen[start..], mark));
                break;
            }
            start = self.step(start, mark, most, &mut seen);
            if seen.len() > most {
                break;
            }
            *found = Some(seen[start..].iter().filter(|&&end| self.vertices[end].sought).count() as u32);
        }
        self.sides[0] = seen;
    }

    /// Goes on from all vertices from a place on, unless there are too many: the place where those begin that are new.
    fn step(&mut self, start: usize, mark: u32, most: usize, seen: &mut Vec<u32>) -> usize {
        let end = seen.len();
        for at in start..end {
            if seen.len() > most {
                break;
            }
            self.expand(seen[at], mark, NIL, seen);
        }
        end
    }

    /// How many are sought of those that are one step from some vertices and do not bear the mark.
    fn sought_behind(&mut self, vertices: &[u32], mark: u32) -> u32 {
        let mut found = 0;
        for &vertex in vertices {
            let (mut edge, mut near) = (self.vertices[vertex].first, self.vertices[vertex].near);
            while near > 0 {
                let (next, end) = self.edges[edge].wires.step(vertex);
                let end = &mut self.vertices[end];
                if end.sought {
                    near -= 1;
                    found += u32::from(end.mark != mark);
                    end.mark = mark;
                }
                edge = next;
            }
        }
        found
    }
}
