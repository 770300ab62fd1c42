//! The log of one key: its entries in (time, id) order, and the base of what has expired.
//!
//! Up to [`SHORT_ROWS_MAX`] entries are one chunk and nothing else. A longer log is a list of chunks with sums beside it
//! (`long`).

use super::aggregate::{Aggregate, Base, Need, fold, squares_of};
use super::chunk::{Chunk, MASK, ROWS_MAX, SCORED, SHORT_ROWS_MAX, below, rows_of};
use super::long::Long;
use super::program::ReadProgram;
use super::read::Span;
use crate::event::Id;
use crate::flow::Place;
use crate::operators::prefetch;

/// A place in a log, between 0 and the number of rows of its chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RowPosition {
    pub chunk: usize,
    pub row: usize,
}

#[derive(Debug)]
pub(super) enum LogBody {
    Short(Chunk),
    Long(Box<Long>),
}

#[derive(Debug)]
pub(super) struct Log {
    pub body: LogBody,
    pub base: Option<Box<Base>>,
}

impl Log {
    pub fn new() -> Self {
        Log { body: LogBody::Short(Chunk::default()), base: None }
    }

    #[inline]
    pub fn chunks(&self) -> &[Chunk] {
        match &self.body {
            LogBody::Short(chunk) => std::slice::from_ref(chunk),
            LogBody::Long(long) => &long.chunks,
        }
    }

    #[inline]
    pub fn long(&self) -> Option<&Long> {
        match &self.body {
            LogBody::Short(_) => None,
            LogBody::Long(long) => Some(long),
        }
    }

    #[inline]
    pub fn len(&self) -> usize {
        match &self.body {
            LogBody::Short(chunk) => chunk.len(),
            LogBody::Long(long) => long.entries,
        }
    }

    /// Bytes on the heap, known without looking there (but for a long log).
    #[inline]
    pub fn bytes(&self, program: &ReadProgram) -> usize {
        let body = match &self.body {
            LogBody::Short(chunk) => chunk.words() * 8,
            LogBody::Long(long) => long.bytes,
        };
        body + self.base.as_ref().map_or(0, |_| Base::bytes(program.bases))
    }

    /// The place behind the last entry.
    #[inline]
    pub fn end(&self) -> RowPosition {
        let chunks = self.chunks();
        RowPosition { chunk: chunks.len() - 1, row: chunks[chunks.len() - 1].len() }
    }

    #[inline]
    pub fn last_time(&self) -> Option<i64> {
        self.chunks().last().and_then(Chunk::last_time)
    }

    /// The first place with a later time, at or before `latest`. The search begins at hint number `hint`.
    #[inline]
    pub fn after_time(&self, time: i64, latest: RowPosition, hint: usize) -> RowPosition {
        match &self.body {
            LogBody::Short(chunk) => RowPosition { chunk: 0, row: chunk.after_time_hinted(time, hint).min(latest.row) },
            LogBody::Long(long) => long.after_time(time, latest, hint),
        }
    }

    /// The first place at or after (time, id).
    #[inline]
    pub fn lower_bound(&self, time: i64, id: Id) -> RowPosition {
        let mut chunk = 0;
        if let Some(long) = self.long() {
            // The last chunk whose first entry is at or before (time, id).
            chunk = long.firsts.partition_point(|&first| first < time).saturating_sub(1);
            while chunk + 1 < long.chunks.len() {
                let next = &long.chunks[chunk + 1];
                if (next.time(0), next.id(0)) > (time, id) {
                    break;
                }
                chunk += 1;
            }
        }
        RowPosition { chunk, row: self.chunks()[chunk].lower_bound(time, id) }
    }

    /// Where (time, id) stands, if it is there.
    #[inline]
    pub fn find(&self, time: i64, id: Id) -> Option<RowPosition> {
        let place = self.lower_bound(time, id);
        let chunk = &self.chunks()[place.chunk];
        (place.row < chunk.len() && chunk.time(place.row) == time && chunk.id(place.row) == id).then_some(place)
    }

    /// Puts an entry in; `row` has the columns of a short log. Returns its place and whether it is the last one.
    #[inline]
    pub fn insert(
        &mut self,
        program: &ReadProgram,
        time: i64,
        id: Id,
        row: &[u64],
        bound_ms: i64,
    ) -> (RowPosition, bool) {
        let tail = self.end();
        let last = match tail.row {
            0 => true,
            rows => {
                let chunk = &self.chunks()[tail.chunk];
                (chunk.time(rows - 1), chunk.id(rows - 1)) < (time, id)
            }
        };
        if let LogBody::Short(chunk) = &self.body
            && chunk.len() == chunk.capacity()
            && chunk.len() > 0
        {
            self.make_room(program, bound_ms);
        }
        if !last && let Some(place) = self.find(time, id) {
            self.remove(program, place);
            if self.len() == 0 {
                return self.insert(program, time, id, row, bound_ms);
            }
        }
        match &mut self.body {
            LogBody::Short(chunk) => {
                let at = if last { chunk.len() } else { chunk.lower_bound(time, id) };
                chunk.insert(&program.short, at, row);
                (RowPosition { chunk: 0, row: at }, last)
            }
            LogBody::Long(_) if last => {
                let full = self.chunks().last().is_some_and(|chunk| chunk.len() == ROWS_MAX);
                if full {
                    self.drop_chunks(program, bound_ms, usize::MAX, 8);
                }
                match &mut self.body {
                    LogBody::Long(long) => (long.append(program, time, row), true),
                    LogBody::Short(chunk) => {
                        let at = chunk.len();
                        chunk.insert(&program.short, at, row);
                        (RowPosition { chunk: 0, row: at }, true)
                    }
                }
            }
            LogBody::Long(_) => {
                let place = self.lower_bound(time, id);
                match &mut self.body {
                    LogBody::Long(long) => (long.insert(program, place, row), false),
                    LogBody::Short(_) => (place, false),
                }
            }
        }
    }

    /// Forgets everything if the key has been silent for so long that its all-time features start anew.
    pub fn start_anew_after_silence(&mut self, time: i64, forget_ms: i64) {
        let last = self.last_time().or(self.base.as_ref().map(|base| base.last));
        if last.is_some_and(|last| time.saturating_sub(last) > forget_ms) {
            *self = Log::new();
        }
    }

    /// Asks for the cache lines that an insertion behind the last entry needs (see [`super::Store::look_ahead`]).
    #[inline]
    pub fn look_ahead(&self) {
        if let Some(last) = self.chunks().last() {
            last.look_ahead();
        }
    }

    /// Asks for those that its read needs; call it a little later.
    #[inline]
    pub fn look_ahead_at_hints(&self) {
        match &self.body {
            LogBody::Short(chunk) => chunk.look_ahead_at_hints(),
            LogBody::Long(long) => long.look_ahead_at_hints(),
        }
    }

    /// Asks for what [`Log::has_more_to_expire`] looks at, or at least for the way there.
    #[inline]
    pub fn look_ahead_at_oldest(&self) {
        match &self.body {
            LogBody::Short(chunk) => chunk.look_ahead_at(chunk.len().div_ceil(4).saturating_sub(1)),
            LogBody::Long(long) => prefetch(std::slice::from_ref(&**long), 0),
        }
    }

    /// Notes where the searches of a read have ended, one place per end and range.
    #[inline]
    pub fn set_hints(&mut self, places: impl Iterator<Item = RowPosition>) {
        match &mut self.body {
            LogBody::Short(chunk) => chunk.set_hints(places.map(|place| place.row)),
            LogBody::Long(long) => long.set_hints(places),
        }
    }

    /// The scored entries after a place, in order.
    pub fn scored_after(&self, after: Place) -> impl Iterator<Item = Place> {
        let start = self.lower_bound(after.0, after.1);
        let pieces = Span { from: start, to: self.end() }.pieces(self);
        let rows = pieces.flat_map(|(chunk, rows)| rows_of(rows).map(move |row| (chunk, row)));
        let scored = rows.filter(|(chunk, row)| chunk.get(MASK, *row) & SCORED != 0);
        scored.map(|(chunk, row)| (chunk.time(row), chunk.id(row))).filter(move |&place| place != after)
    }

    /// A short log is full: drops what has expired if that is worth it, else grows, in the end into a long one.
    fn make_room(&mut self, program: &ReadProgram, bound_ms: i64) {
        let LogBody::Short(chunk) = &self.body else { return };
        let expired = chunk.after_time(bound_ms.saturating_sub(1));
        if expired * 4 >= chunk.len() && expired < chunk.len() {
            self.drop_rows(program, expired);
        }
        let LogBody::Short(chunk) = &mut self.body else { return };
        if chunk.len() == SHORT_ROWS_MAX {
            self.body = LogBody::Long(Box::new(Long::new(program, chunk)));
        }
    }

    /// Takes an entry out.
    pub fn remove(&mut self, program: &ReadProgram, place: RowPosition) {
        match &mut self.body {
            LogBody::Short(chunk) => chunk.remove(&program.short, place.row, 1),
            LogBody::Long(long) => {
                long.remove(program, place);
                self.shorten(program);
            }
        }
    }

    /// Changes mask and label time of an entry.
    pub fn relabel(&mut self, program: &ReadProgram, place: RowPosition, mask: u64, known_at: i64) {
        match &mut self.body {
            LogBody::Short(chunk) => {
                chunk.relabel(&program.short, place.row, mask);
                if let Some(column) = program.known {
                    chunk.set(column, place.row, known_at as u64);
                }
            }
            LogBody::Long(long) => long.relabel(program, place, mask, known_at),
        }
    }

    /// Drops entries before the bound, at most about `budget` of them; returns how many. A short log drops them once they
    /// are a quarter of it, as the rest has to move.
    pub fn expire(&mut self, program: &ReadProgram, bound_ms: i64, budget: usize) -> usize {
        match &self.body {
            LogBody::Short(chunk) if self.has_more_to_expire(bound_ms) => {
                let expired = chunk.after_time(bound_ms.saturating_sub(1));
                self.drop_rows(program, expired);
                expired
            }
            LogBody::Short(_) => 0,
            LogBody::Long(_) => {
                let dropped = self.drop_chunks(program, bound_ms, budget.div_ceil(ROWS_MAX), usize::MAX);
                match &self.body {
                    LogBody::Short(_) if dropped < budget => dropped + self.expire(program, bound_ms, budget),
                    _ => dropped,
                }
            }
        }
    }

    /// Whether there is more to expire: a quarter of a short log, or a whole chunk of a long one.
    #[inline]
    pub fn has_more_to_expire(&self, bound_ms: i64) -> bool {
        let first = &self.chunks()[0];
        let rows = if self.long().is_some() { first.len() } else { first.len().div_ceil(4) };
        rows.checked_sub(1).is_some_and(|row| first.time(row) < bound_ms)
    }

    fn drop_rows(&mut self, program: &ReadProgram, count: usize) {
        let LogBody::Short(chunk) = &mut self.body else { return };
        if program.all_time {
            let base = self.base.get_or_insert_with(|| Box::new(Base::new(program.bases)));
            fold_into(base, program, chunk, count);
        }
        chunk.remove(&program.short, 0, count);
        if chunk.len() * 4 <= chunk.capacity() {
            let capacity = chunk.len().next_power_of_two() * (chunk.len() > 0) as usize;
            chunk.resize(&program.short, capacity);
        }
    }

    /// Drops whole chunks before the bound from a long log, if they are at least one in `share`.
    fn drop_chunks(&mut self, program: &ReadProgram, bound_ms: i64, at_most: usize, share: usize) -> usize {
        let LogBody::Long(long) = &mut self.body else { return 0 };
        let expired = |chunk: &Chunk| chunk.last_time().is_none_or(|last| last < bound_ms);
        let count = long.chunks.iter().take_while(|chunk| expired(chunk)).count().min(at_most);
        if count == 0 || count.saturating_mul(share) < long.chunks.len() {
            return 0;
        }
        if program.all_time {
            let base = self.base.get_or_insert_with(|| Box::new(Base::new(program.bases)));
            for chunk in &long.chunks[..count] {
                fold_into(base, program, chunk, chunk.len());
            }
        }
        let dropped = long.drop_front(program, count);
        self.shorten(program);
        dropped
    }

    /// Turns a long log that has become short back into one chunk.
    fn shorten(&mut self, program: &ReadProgram) {
        let LogBody::Long(long) = &mut self.body else { return };
        if let [chunk] = &long.chunks[..]
            && chunk.len() * 2 <= ROWS_MAX
        {
            let capacity = chunk.len().next_power_of_two() * (chunk.len() > 0) as usize;
            self.body = LogBody::Short(chunk.reshaped(&program.short, capacity));
        }
    }
}

/// Adds the first `count` entries of a chunk to a base.
fn fold_into(base: &mut Base, program: &ReadProgram, chunk: &Chunk, count: usize) {
    for (index, slot) in program.slots.iter().filter_map(|slot| Some((slot.base?, slot))) {
        let marked = chunk.marked(slot.bitmap, slot.bit) & below(count);
        let mut part = Aggregate::default();
        let mut squares = None;
        match slot.column {
            None => fold(&mut part, Need::Count, marked, &[]),
            Some(column) => {
                fold(&mut part, Need::All, marked, chunk.column(column));
                squares = part.is_wide().then(|| squares_of(marked, chunk.column(column)));
            }
        }
        base.fold(index, &part, squares);
        if marked != 0 {
            let (_, first, last) = &mut base.slots[index];
            *first = (*first).min(chunk.time(marked.trailing_zeros() as usize));
            *last = (*last).max(chunk.time(127 - marked.leading_zeros() as usize));
        }
    }
    if count > 0 {
        base.last = base.last.max(chunk.time(count - 1));
    }
}
