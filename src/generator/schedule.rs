//! What is to happen later, in order of time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::draft::Draft;

/// Drafts by due time; of the same millisecond, the first put in comes out first. The heap orders small entries, the
/// drafts themselves stay where they are.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    heap: BinaryHeap<Reverse<(i64, u64, u32)>>,
    drafts: Vec<Draft>,
    free: Vec<u32>,
    put: u64,
}

impl Schedule {
    /// Puts a draft in.
    pub fn put(&mut self, due_ms: i64, draft: Draft) {
        let place = match self.free.pop() {
            Some(place) => {
                self.drafts[place as usize] = draft;
                place
            }
            None => {
                self.drafts.push(draft);
                (self.drafts.len() - 1) as u32
            }
        };
        self.put += 1;
        self.heap.push(Reverse((due_ms, self.put, place)));
    }

    /// When the first is due.
    pub fn due_ms(&self) -> Option<i64> {
        self.heap.peek().map(|Reverse((due_ms, _, _))| *due_ms)
    }

    /// Takes the first.
    pub fn take(&mut self) -> Option<Draft> {
        let Reverse((_, _, place)) = self.heap.pop()?;
        self.free.push(place);
        Some(self.drafts[place as usize])
    }
}
