//! The retained events of one key, in (event time, id) order, cut to what its patterns look at.

use crate::event::Id;

use super::condition::Row;

/// A position in the order of a key's events.
pub type Place = (i64, Id);

/// One event of a key.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Event time, milliseconds.
    pub time: i64,
    /// The event.
    pub id: Id,
    /// Named events whose own conditions it fulfils, bit by bit.
    pub raw: u64,
    /// The same less those whose conditions over the key's history it does not fulfil, or of which that is not known yet.
    pub mask: u64,
    /// Named events of which it is known whether their conditions over the key's history are fulfilled, bit by bit.
    pub known: u64,
    /// Patterns that have a run which starts here and has gone beyond its first count, bit by bit.
    pub begun: u64,
    /// Which columns are there, bit by bit.
    pub present: u64,
    /// Whether the event has a feature row.
    pub scored: bool,
}

impl Entry {
    /// Its position.
    pub fn place(&self) -> Place {
        (self.time, self.id)
    }
}

/// Logs of fewer entries have no room to spare.
const SMALL: usize = 4;

/// Entries with their columns.
#[derive(Clone, Debug, Default)]
pub struct Log {
    entries: Vec<Entry>,
    cells: Vec<u64>,
    width: usize,
}

impl Log {
    /// An empty log with so many columns.
    pub fn new(width: usize) -> Self {
        Log { entries: Vec::new(), cells: Vec::new(), width }
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// An entry.
    #[inline]
    pub fn entry(&self, at: usize) -> &Entry {
        &self.entries[at]
    }

    /// An entry, to be changed in all but its position.
    #[inline]
    pub fn entry_mut(&mut self, at: usize) -> &mut Entry {
        &mut self.entries[at]
    }

    /// The columns of an entry.
    #[inline]
    pub fn row(&self, at: usize) -> Row<'_> {
        let entry = &self.entries[at];
        let cells = &self.cells[at * self.width..(at + 1) * self.width];
        Row { time: entry.time, present: entry.present, cells }
    }

    /// The position of the last entry.
    pub fn last(&self) -> Option<Place> {
        self.entries.last().map(Entry::place)
    }

    /// The first entry at or after a position.
    pub fn lower_bound(&self, place: Place) -> usize {
        self.entries.partition_point(|entry| entry.place() < place)
    }

    /// The entry at a position.
    pub fn find(&self, place: Place) -> Option<usize> {
        let at = self.lower_bound(place);
        self.entries.get(at).is_some_and(|entry| entry.place() == place).then_some(at)
    }

    /// Puts an entry to its position and returns where that is. One at the same position is replaced.
    pub fn insert(&mut self, entry: Entry, cells: &[u64]) -> usize {
        let at = match self.last() {
            Some(last) if last >= entry.place() => self.lower_bound(entry.place()),
            _ => self.entries.len(),
        };
        let columns = at * self.width..(at + 1) * self.width;
        if self.entries.get(at).is_some_and(|held| held.place() == entry.place()) {
            self.entries[at] = entry;
            self.cells[columns].copy_from_slice(cells);
        } else if at == self.entries.len() {
            // Most keys have few events: room for one more each time, before growth doubles it.
            if at < SMALL && at == self.entries.capacity() {
                self.entries.reserve_exact(1);
                self.cells.reserve_exact(self.width);
            }
            self.entries.push(entry);
            self.cells.extend_from_slice(cells);
        } else {
            self.entries.insert(at, entry);
            self.cells.splice(columns.start..columns.start, cells.iter().copied());
        }
        at
    }

    /// Takes the entry at a position out.
    pub fn remove(&mut self, place: Place) -> bool {
        let Some(at) = self.find(place) else { return false };
        self.entries.remove(at);
        self.cells.drain(at * self.width..(at + 1) * self.width);
        self.shrink();
        true
    }

    /// Drops entries before an event time, once they are half of all: what is left behind is out of every reach.
    pub fn expire(&mut self, before_ms: i64) {
        let expired = self.entries.partition_point(|entry| entry.time < before_ms);
        if expired > 0 && expired * 2 >= self.entries.len() {
            self.entries.drain(..expired);
            self.cells.drain(..expired * self.width);
            self.shrink();
        }
    }

    fn shrink(&mut self) {
        if self.entries.capacity() > 16 && self.entries.len() * 4 < self.entries.capacity() {
            self.entries.shrink_to(self.entries.len() * 2);
            self.cells.shrink_to(self.cells.len() * 2);
        }
    }

    /// Bytes on the heap.
    pub fn bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>() + self.cells.capacity() * 8
    }
}
