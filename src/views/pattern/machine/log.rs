//! The retained events of one key, in (event time, id) order, cut to what its patterns look at.

use serde::{Deserialize, Serialize};

use super::evaluate::LogRow;
use super::image::LogImage;
use crate::event::Id;
use crate::flow::Place;
use crate::operators::prefetch;

/// One event of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggedEvent {
    /// Event time, milliseconds.
    pub time: i64,
    /// The event.
    pub id: Id,
    /// Named events whose own conditions it fulfils, bit by bit.
    pub raw: u64,
    /// The same less those whose conditions over the key's history it does not fulfil, or of which that is not known yet.
    pub mask: u64,
    /// Where its cells begin: behind those of the entries before it.
    #[serde(skip)]
    cells: u32,
    /// Whether the event has a feature row.
    pub scored: bool,
}

impl LoggedEvent {
    /// An entry that is these named events, less those whose conditions look at the key's history, as far as is known.
    pub fn new((time, id): Place, raw: u64, mask: u64, scored: bool) -> Self {
        LoggedEvent { time, id, raw, mask, cells: 0, scored }
    }

    /// Its position.
    pub fn place(&self) -> Place {
        (self.time, self.id)
    }
}

/// A log that grows takes room for this part of what it holds.
const SPARE: usize = 3;

/// Entries with their columns.
///
/// The cells of an entry that is a named event: which columns are there, bit by bit; in a log with history, of which named
/// events it is known whether their conditions over the key's history are fulfilled, bit by bit; and the columns that are
/// there. Other entries have none: they are kept for their rows alone.
#[derive(Clone, Debug, Default)]
pub struct KeyLog {
    entries: Vec<LoggedEvent>,
    cells: Vec<u64>,
    /// Cells before the columns.
    head: u8,
}

impl KeyLog {
    /// An empty log, perhaps with conditions over the key's history.
    pub fn new(with_history: bool) -> Self {
        KeyLog { entries: Vec::new(), cells: Vec::new(), head: 1 + u8::from(with_history) }
    }

    /// What is in it.
    pub fn image(&self) -> LogImage {
        let entries = self.entries.iter().map(|entry| LoggedEvent { cells: 0, ..*entry }).collect();
        LogImage { entries, cells: self.cells.clone() }
    }

    /// This log, which is empty, with what is in an image.
    pub fn filled(self, image: LogImage) -> Self {
        let mut log = KeyLog { entries: image.entries, cells: image.cells, ..self };
        let mut start = 0;
        for at in 0..log.entries.len() {
            log.entries[at].cells = start as u32;
            start += log.cells_of(at);
        }
        log
    }

    /// Asks for what the next event of the key will need.
    #[inline]
    pub fn prefetch(&self) {
        prefetch(&self.entries, self.entries.len().saturating_sub(1));
        prefetch(&self.cells, self.cells.len().saturating_sub(1));
    }

    /// Asks for what expiry looks at first.
    #[inline]
    pub fn prefetch_first(&self) {
        prefetch(&self.entries, 0);
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
    pub fn entry(&self, at: usize) -> &LoggedEvent {
        &self.entries[at]
    }

    /// An entry, to be changed in all but its position.
    #[inline]
    pub fn entry_mut(&mut self, at: usize) -> &mut LoggedEvent {
        &mut self.entries[at]
    }

    /// The columns of an entry.
    #[inline]
    pub fn row(&self, at: usize) -> LogRow<'_> {
        let entry = &self.entries[at];
        if entry.raw == 0 {
            return LogRow { time: entry.time, present: 0, cells: &[] };
        }
        let start = entry.cells as usize;
        let present = self.cells[start];
        let columns = start + usize::from(self.head);
        LogRow { time: entry.time, present, cells: &self.cells[columns..columns + present.count_ones() as usize] }
    }

    /// Of which named events it is known whether an entry fulfils their conditions over the key's history.
    #[inline]
    pub fn known(&self, at: usize) -> u64 {
        let entry = &self.entries[at];
        if entry.raw == 0 || self.head == 1 { 0 } else { self.cells[entry.cells as usize + 1] }
    }

    /// Sets that.
    #[inline]
    pub fn set_known(&mut self, at: usize, known: u64) {
        let entry = &self.entries[at];
        if entry.raw != 0 && self.head > 1 {
            self.cells[entry.cells as usize + 1] = known;
        }
    }

    /// Where the cells of an entry, or of those that follow, begin.
    fn cells_from(&self, at: usize) -> usize {
        self.entries.get(at).map_or(self.cells.len(), |entry| entry.cells as usize)
    }

    /// How many cells an entry has.
    fn cells_of(&self, at: usize) -> usize {
        let entry = &self.entries[at];
        if entry.raw == 0 {
            return 0;
        }
        usize::from(self.head) + self.cells[entry.cells as usize].count_ones() as usize
    }

    /// The position of the last entry.
    pub fn last(&self) -> Option<Place> {
        self.entries.last().map(LoggedEvent::place)
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

    /// Puts an entry to its position and returns where that is. One at the same position is replaced. The words say which
    /// columns are there, and then give those.
    pub fn insert(&mut self, mut entry: LoggedEvent, words: &[u64]) -> usize {
        let at = match self.last() {
            Some(last) if last >= entry.place() => {
                self.remove(entry.place());
                self.lower_bound(entry.place())
            }
            _ => self.entries.len(),
        };
        let start = self.cells_from(at);
        entry.cells = start as u32;
        let length = if entry.raw == 0 { 0 } else { words.len() + usize::from(self.head) - 1 };
        // Most keys have few events: little room to spare, so that most of what is kept are events.
        if self.entries.len() == self.entries.capacity() {
            self.entries.reserve_exact(1 + self.entries.len() / SPARE);
        }
        if self.cells.len() + length > self.cells.capacity() {
            self.cells.reserve_exact(length + self.cells.len() / SPARE);
        }
        if length > 0 {
            let head = [words[0], 0];
            let cells = head[..usize::from(self.head)].iter().chain(&words[1..]).copied();
            if start == self.cells.len() {
                self.cells.extend(cells);
            } else {
                self.cells.splice(start..start, cells);
            }
        }
        self.entries.insert(at, entry);
        self.entries[at + 1..].iter_mut().for_each(|later| later.cells += length as u32);
        at
    }

    /// Takes the entry at a position out.
    pub fn remove(&mut self, place: Place) -> bool {
        let Some(at) = self.find(place) else { return false };
        let (start, length) = (self.cells_from(at), self.cells_of(at));
        self.cells.drain(start..start + length);
        self.entries.remove(at);
        self.entries[at..].iter_mut().for_each(|later| later.cells -= length as u32);
        self.shrink();
        true
    }

    /// Drops entries before an event time, once they are half of all: what is left behind is out of every reach. The same
    /// for those that are kept for their rows alone, before another event time.
    pub fn expire(&mut self, before_ms: i64, rows_before_ms: i64) {
        let over = |entry: &LoggedEvent| entry.time < rows_before_ms && entry.raw == 0;
        let rows =
            self.entries.iter().take_while(|entry| entry.time < rows_before_ms).filter(|entry| over(entry)).count();
        if rows > 0 && rows * 2 >= self.entries.len() {
            // They have no cells.
            self.entries.retain(|entry| !over(entry));
            self.shrink();
        }
        let expired = self.entries.partition_point(|entry| entry.time < before_ms);
        if expired > 0 && expired * 2 >= self.entries.len() {
            let cells = self.cells_from(expired);
            self.cells.drain(..cells);
            self.entries.drain(..expired);
            self.entries.iter_mut().for_each(|left| left.cells -= cells as u32);
            self.shrink();
        }
    }

    /// The last bound for which that drops nothing, where entries are kept for a reach and those kept for their rows alone are
    /// not, milliseconds.
    pub fn due_ms(&self, reach_ms: i64) -> i64 {
        let Some(half) = self.entries.len().div_ceil(2).checked_sub(1) else { return i64::MAX };
        let due_ms = self.entries[half].time.saturating_add(reach_ms);
        let rows = self.entries.iter().filter(|entry| entry.raw == 0);
        rows.map(|entry| entry.time).nth(half).map_or(due_ms, |time| due_ms.min(time))
    }

    fn shrink(&mut self) {
        if self.entries.is_empty() {
            (self.entries, self.cells) = (Vec::new(), Vec::new());
        } else if self.entries.capacity() > 16 && self.entries.len() * 4 < self.entries.capacity() {
            self.entries.shrink_to(self.entries.len() * 2);
            self.cells.shrink_to(self.cells.len() * 2);
        }
    }

    /// Bytes on the heap.
    pub fn bytes(&self) -> usize {
        self.entries.capacity() * size_of::<LoggedEvent>() + self.cells.capacity() * 8
    }
}
