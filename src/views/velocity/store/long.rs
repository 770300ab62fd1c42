//! A long log: chunks, and beside them what lets a read skip over whole chunks.
//!
//! * `sums`: per chunk and slot, count, sum and sum of squares of everything before the chunk, so that the chunks between
//!   two places are a difference. Squares are modulo 2^128, and so is their difference.
//! * `extremes`: per chunk but the last, smallest and largest; `upper` the same per [`GROUP`] chunks.
//! * `latest`: per chunk but the last, the latest label time of the entries that count, where labels decide.
//! * `marks`: per chunk and pair, a bit per entry that is the last one with its value; `marked` counts them per [`GROUP`]
//!   chunks.
//!
//! An append touches the last chunk alone. An insertion, removal or change in the middle costs its chunk anew and one
//! addition per later chunk and slot; a chunk that splits or vanishes, one pass over the directories.

use super::AMOUNT_MISSING;
use super::aggregate::{Aggregate, Need, fold};
use super::chunk::{Chunk, MASK, ROWS_MAX, rows_of};
use super::distinct::Occurrences;
use super::log::RowPosition;
use super::program::ReadProgram;

/// Chunks per group of the upper level.
pub(super) const GROUP: usize = 64;

/// Packed as [`Aggregate`] is.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, packed(8))]
pub(super) struct Sums {
    pub count: i64,
    pub sum: i128,
    /// Modulo 2^128: so are differences.
    pub squares: i128,
}

#[derive(Debug)]
pub(super) struct Long {
    pub chunks: Vec<Chunk>,
    pub firsts: Vec<i64>,
    pub sums: Vec<Sums>,
    pub extremes: Vec<(i64, i64)>,
    pub upper: Vec<(i64, i64)>,
    latest: Vec<i64>,
    pub marks: Vec<u64>,
    pub marked: Vec<u32>,
    pub occurrences: Vec<Occurrences>,
    pub entries: usize,
    /// Where the searches of the last read have ended: where the next ones begin. Any place gives the same result.
    hints: Vec<RowPosition>,
    words: usize,
    /// Bytes on the heap, as of when a chunk last came, went or grew.
    pub bytes: usize,
    /// No amount that was ever counted is larger in size.
    largest: u64,
}

const NO_EXTREMES: (i64, i64) = (i64::MAX, i64::MIN);

impl Long {
    /// Takes over a short log.
    pub fn new(program: &ReadProgram, chunk: &Chunk) -> Self {
        let mut long = Long {
            chunks: Vec::new(),
            firsts: Vec::new(),
            sums: Vec::new(),
            extremes: Vec::new(),
            upper: Vec::new(),
            latest: Vec::new(),
            marks: Vec::new(),
            marked: Vec::new(),
            occurrences: program.pairs.iter().map(|_| Occurrences::default()).collect(),
            entries: 0,
            hints: Vec::new(),
            words: 0,
            bytes: 0,
            largest: 0,
        };
        let mut row = vec![0; program.columns];
        for at in 0..chunk.len() {
            for (column, word) in row.iter_mut().enumerate() {
                *word = chunk.get(column, at);
            }
            long.append(program, chunk.time(at), &row);
        }
        long
    }

    fn measure(&mut self) {
        self.bytes = size_of::<Long>()
            + self.words * 8
            + self.chunks.capacity() * size_of::<Chunk>()
            + self.hints.capacity() * size_of::<RowPosition>()
            + (self.firsts.capacity() + self.latest.capacity() + self.marks.capacity()) * 8
            + self.sums.capacity() * size_of::<Sums>()
            + (self.extremes.capacity() + self.upper.capacity()) * 16
            + self.marked.capacity() * 4
            + self.occurrences.iter().map(Occurrences::bytes).sum::<usize>();
    }

    /// The first place with a later time, at or before `latest`, looked for around hint number `hint`.
    #[inline]
    pub fn after_time(&self, time: i64, latest: RowPosition, hint: usize) -> RowPosition {
        let hint = self.hints.get(hint).copied().unwrap_or(latest);
        // The last chunk that begins at or before the time, or the first: mostly the hint's, or the one behind it.
        let firsts = &self.firsts[..=latest.chunk];
        let mut chunk = hint.chunk.min(latest.chunk);
        if chunk + 1 < firsts.len() && firsts[chunk + 1] <= time {
            chunk += 1;
        }
        if firsts[chunk] > time || firsts.get(chunk + 1).is_some_and(|&next| next <= time) {
            chunk = firsts.partition_point(|&first| first <= time).saturating_sub(1);
        }
        let near = if chunk == hint.chunk { hint.row } else { 0 };
        let row = self.chunks[chunk].after_time_near(time, near);
        RowPosition { chunk, row }.min(latest)
    }

    /// Notes where the searches of a read have ended.
    #[inline]
    pub fn set_hints(&mut self, places: impl Iterator<Item = RowPosition>) {
        self.hints.clear();
        self.hints.extend(places);
    }

    /// Asks for the times around the hints.
    #[inline]
    pub fn look_ahead_at_hints(&self) {
        for hint in &self.hints {
            if let Some(chunk) = self.chunks.get(hint.chunk) {
                chunk.look_ahead_at(hint.row);
            }
        }
    }

    /// Adds an entry behind the last one.
    #[inline]
    pub fn append(&mut self, program: &ReadProgram, time: i64, row: &[u64]) -> RowPosition {
        if self.chunks.last().is_none_or(|chunk| chunk.len() == ROWS_MAX) {
            self.open(program, time);
        }
        let chunk = self.chunks.len() - 1;
        let place = RowPosition { chunk, row: self.chunks[chunk].len() };
        self.put(program, place, row);
        self.link(program, place);
        place
    }

    /// Closes the last chunk and opens a new one.
    fn open(&mut self, program: &ReadProgram, time: i64) {
        let last = self.chunks.len();
        let capacity = if last == 0 { ROWS_MAX } else { ROWS_MAX / 4 };
        let chunk = Chunk::with_capacity(&program.long, capacity);
        self.words += chunk.words();
        self.chunks.push(chunk);
        self.firsts.push(time);
        self.sums.extend(program.slots.iter().map(|_| Sums::default()));
        self.extremes.extend((0..program.extremes).map(|_| NO_EXTREMES));
        self.latest.extend((0..program.latest).map(|_| i64::MIN));
        self.marks.extend(program.pairs.iter().map(|_| 0));
        if last.is_multiple_of(GROUP) {
            self.upper.extend((0..program.extremes).map(|_| NO_EXTREMES));
            self.marked.extend(program.pairs.iter().map(|_| 0));
        }
        if last > 0 {
            self.refresh(program, last - 1);
        }
        self.measure();
    }

    /// Puts an entry in before `place`, which is not behind the last entry. Returns where it has come to stand.
    pub fn insert(&mut self, program: &ReadProgram, mut place: RowPosition, row: &[u64]) -> RowPosition {
        if self.chunks[place.chunk].len() == ROWS_MAX {
            self.split(program, place.chunk);
            if place.row > ROWS_MAX / 2 {
                place = RowPosition { chunk: place.chunk + 1, row: place.row - ROWS_MAX / 2 };
            }
        }
        self.put(program, place, row);
        for pair in 0..program.pairs.len() {
            let marks = &mut self.marks[place.chunk * program.pairs.len() + pair];
            let below = (1u64 << place.row) - 1;
            *marks = (*marks & !below) << 1 | *marks & below;
        }
        self.firsts[place.chunk] = self.chunks[place.chunk].time(0);
        self.refresh(program, place.chunk);
        self.link(program, place);
        place
    }

    fn put(&mut self, program: &ReadProgram, place: RowPosition, row: &[u64]) {
        let chunk = &mut self.chunks[place.chunk];
        if chunk.len() == chunk.capacity() {
            let capacity = (chunk.capacity() * 2).min(ROWS_MAX);
            self.words -= chunk.words();
            chunk.resize(&program.long, capacity);
            self.words += chunk.words();
            self.measure();
        }
        self.chunks[place.chunk].insert(&program.long, place.row, row);
        self.entries += 1;
        for (index, &amount) in row[program.amounts_at..program.values_at].iter().enumerate() {
            let amount = amount as i64;
            // What stands for a missing amount may be one, too: it is if the entry counts.
            if amount != AMOUNT_MISSING || program.counts(program.amounts_at + index, row[MASK]) {
                self.largest = self.largest.max(amount.unsigned_abs());
            }
        }
    }

    pub fn remove(&mut self, program: &ReadProgram, place: RowPosition) {
        self.unlink(program, place);
        self.chunks[place.chunk].remove(&program.long, place.row, 1);
        self.entries -= 1;
        for pair in 0..program.pairs.len() {
            let marks = &mut self.marks[place.chunk * program.pairs.len() + pair];
            let below = (1u64 << place.row) - 1;
            *marks = *marks >> 1 & !below | *marks & below;
        }
        if self.chunks[place.chunk].len() > 0 {
            self.firsts[place.chunk] = self.chunks[place.chunk].time(0);
            self.refresh(program, place.chunk);
        } else if self.chunks.len() > 1 {
            self.cut(program, place.chunk..place.chunk + 1);
            self.refresh(program, place.chunk.min(self.chunks.len() - 1).saturating_sub(1));
            self.regroup(program);
            self.measure();
        }
    }

    pub fn relabel(&mut self, program: &ReadProgram, place: RowPosition, mask: u64, known_at: i64) {
        self.unlink(program, place);
        let smallest = |&column: &usize| self.chunks[place.chunk].get(column, place.row) as i64 == AMOUNT_MISSING;
        if (program.amounts_at..program.values_at).filter(smallest).any(|column| program.counts(column, mask)) {
            self.largest = AMOUNT_MISSING.unsigned_abs();
        }
        let chunk = &mut self.chunks[place.chunk];
        chunk.relabel(&program.long, place.row, mask);
        if let Some(column) = program.known {
            chunk.set(column, place.row, known_at as u64);
        }
        self.refresh(program, place.chunk);
        self.link(program, place);
    }

    /// Drops the first chunks; returns the number of entries dropped.
    pub fn drop_front(&mut self, program: &ReadProgram, count: usize) -> usize {
        let dropped = self.chunks[..count].iter().map(Chunk::len).sum();
        self.hints.iter_mut().for_each(|hint| hint.chunk = hint.chunk.saturating_sub(count));
        self.forget(program, count);
        self.cut(program, 0..count);
        if self.chunks.is_empty() {
            self.chunks.push(Chunk::default());
            self.firsts.push(i64::MIN);
            self.sums.extend(program.slots.iter().map(|_| Sums::default()));
            self.extremes.extend((0..program.extremes).map(|_| NO_EXTREMES));
            self.latest.extend((0..program.latest).map(|_| i64::MIN));
            self.marks.extend(program.pairs.iter().map(|_| 0));
        }
        if self.chunks.capacity() > 16 && self.chunks.len() * 4 <= self.chunks.capacity() {
            self.chunks.shrink_to_fit();
            self.firsts.shrink_to_fit();
            self.sums.shrink_to_fit();
            self.extremes.shrink_to_fit();
            self.latest.shrink_to_fit();
            self.marks.shrink_to_fit();
        }
        self.regroup(program);
        self.measure();
        self.entries -= dropped;
        dropped
    }

    /// Takes chunks out of the directories; sums of later chunks are left as they are.
    fn cut(&mut self, program: &ReadProgram, chunks: std::ops::Range<usize>) {
        let wide = |each: usize| chunks.start * each..chunks.end * each;
        self.words -= self.chunks[chunks.clone()].iter().map(Chunk::words).sum::<usize>();
        self.sums.drain(wide(program.slots.len()));
        self.extremes.drain(wide(program.extremes));
        self.latest.drain(wide(program.latest));
        self.marks.drain(wide(program.pairs.len()));
        self.firsts.drain(chunks.clone());
        self.chunks.drain(chunks);
    }

    fn split(&mut self, program: &ReadProgram, at: usize) {
        let half = ROWS_MAX / 2;
        let tail = self.chunks[at].split_off(&program.long, half);
        self.words += tail.words();
        self.firsts.insert(at + 1, tail.time(0));
        self.chunks.insert(at + 1, tail);
        let (slots, extremes, pairs) = (program.slots.len(), program.extremes, program.pairs.len());
        // The sums before the second half, as they are before the first: `refresh` puts them right.
        let sums: Vec<_> = self.sums[at * slots..(at + 1) * slots].to_vec();
        let place = (at + 1) * slots;
        self.sums.splice(place..place, sums);
        let place = (at + 1) * extremes;
        self.extremes.splice(place..place, (0..extremes).map(|_| NO_EXTREMES));
        let place = (at + 1) * program.latest;
        self.latest.splice(place..place, (0..program.latest).map(|_| i64::MIN));
        let upper: Vec<_> = self.marks[at * pairs..(at + 1) * pairs].iter().map(|marks| marks >> half).collect();
        for marks in &mut self.marks[at * pairs..(at + 1) * pairs] {
            *marks &= (1 << half) - 1;
        }
        let place = (at + 1) * pairs;
        self.marks.splice(place..place, upper);
        for slot in 0..slots {
            let total = self.total(program, at, slot);
            let before = self.sums[at * slots + slot];
            self.sums[(at + 1) * slots + slot] = before.plus(&total);
        }
        self.refresh(program, at);
        self.refresh(program, at + 1);
        self.regroup(program);
        self.measure();
    }

    /// The sums of one chunk alone.
    fn total(&self, program: &ReadProgram, chunk: usize, slot: usize) -> Aggregate {
        let (slot, chunk) = (&program.slots[slot], &self.chunks[chunk]);
        let mut total = Aggregate::default();
        let marked = chunk.marked(slot.bitmap, slot.bit);
        match slot.column {
            None => fold(&mut total, Need::Count, marked, &[]),
            Some(column) => fold(&mut total, Need::All, marked, chunk.column(column)),
        }
        total
    }

    /// Puts right what depends on the entries of a chunk: its extremes, and the sums before all later ones.
    fn refresh(&mut self, program: &ReadProgram, chunk: usize) {
        let (slots, width) = (program.slots.len(), program.extremes);
        if chunk + 1 >= self.chunks.len() {
            return;
        }
        for slot in 0..slots {
            let total = self.total(program, chunk, slot);
            let wanted = self.sums[chunk * slots + slot].plus(&total);
            let delta = wanted.minus(&self.sums[(chunk + 1) * slots + slot]);
            if delta.count != 0 || delta.sum != 0 || delta.squares != 0 {
                for sums in self.sums[(chunk + 1) * slots + slot..].iter_mut().step_by(slots) {
                    sums.count = sums.count.wrapping_add(delta.count);
                    sums.sum += delta.sum;
                    sums.squares = sums.squares.wrapping_add(delta.squares);
                }
            }
            if let Some(at) = program.slots[slot].extremes {
                self.extremes[chunk * width + at] = (total.min, total.max);
                self.upper[chunk / GROUP * width + at] = self.group_extremes(width, chunk / GROUP, at);
            }
            if let (Some(at), Some(known)) = (program.slots[slot].latest, program.known) {
                let (slot, chunk_of) = (&program.slots[slot], &self.chunks[chunk]);
                let known = rows_of(chunk_of.marked(slot.bitmap, slot.bit)).map(|row| chunk_of.get(known, row) as i64);
                self.latest[chunk * program.latest + at] = known.max().unwrap_or(i64::MIN);
            }
        }
    }

    /// How many chunks in a row, from `from` and up to before `to`, hold no counted entry whose label came after `time`.
    #[inline]
    pub fn known_chunks(&self, program: &ReadProgram, slot: usize, time: i64, from: usize, to: usize) -> usize {
        let (width, Some(at)) = (program.latest, program.slots[slot].latest) else { return 0 };
        (from..to).take_while(|chunk| self.latest[chunk * width + at] <= time).count()
    }

    fn group_extremes(&self, width: usize, group: usize, at: usize) -> (i64, i64) {
        let rows = group * GROUP..((group + 1) * GROUP).min(self.chunks.len());
        rows.fold(NO_EXTREMES, |sofar, chunk| join(sofar, self.extremes[chunk * width + at]))
    }

    /// Puts the upper level right after chunks have moved.
    fn regroup(&mut self, program: &ReadProgram) {
        let groups = self.chunks.len().div_ceil(GROUP);
        let (width, pairs) = (program.extremes, program.pairs.len());
        self.upper = (0..groups * width).map(|i| self.group_extremes(width, i / width, i % width)).collect();
        self.marked = vec![0; groups * pairs];
        for (at, marks) in self.marks.iter().enumerate() {
            self.marked[at / pairs / GROUP * pairs + at % pairs] += marks.count_ones();
        }
    }

    /// Adds whole chunks, `from` and up to before `to`, to an aggregate, whatever is known of them.
    #[inline]
    pub fn add_chunks(
        &self,
        into: &mut Aggregate,
        program: &ReadProgram,
        slot: usize,
        need: Need,
        from: usize,
        to: usize,
    ) {
        let slots = program.slots.len();
        let (before, after) = (&self.sums[from * slots + slot], &self.sums[to * slots + slot]);
        let between = after.minus(before);
        into.count += between.count;
        into.sum += between.sum;
        into.squares = into.squares.wrapping_add(between.squares);
        if need == Need::Squares && between.count > 0 {
            // Bounds are all that is asked for; `largest` is 2^63 at most, as is the size of the smallest.
            let largest = i64::try_from(self.largest).unwrap_or(i64::MAX);
            into.max = into.max.max(largest);
            into.min = into.min.min((-largest).saturating_sub(i64::from(largest == i64::MAX)));
        }
        if let (Need::All, Some(at)) = (need, program.slots[slot].extremes) {
            let width = program.extremes;
            let mut sofar = (into.min, into.max);
            let mut chunk = from;
            while chunk < to {
                if chunk.is_multiple_of(GROUP) && chunk + GROUP <= to {
                    sofar = join(sofar, self.upper[chunk / GROUP * width + at]);
                    chunk += GROUP;
                } else {
                    sofar = join(sofar, self.extremes[chunk * width + at]);
                    chunk += 1;
                }
            }
            (into.min, into.max) = sofar;
        }
    }
}

impl Sums {
    fn plus(&self, total: &Aggregate) -> Sums {
        Sums {
            count: self.count.wrapping_add(total.count),
            sum: self.sum + total.sum,
            squares: self.squares.wrapping_add(total.squares),
        }
    }

    #[inline]
    fn minus(&self, other: &Sums) -> Sums {
        Sums {
            count: self.count.wrapping_sub(other.count),
            sum: self.sum - other.sum,
            squares: self.squares.wrapping_sub(other.squares),
        }
    }
}

#[inline]
fn join(a: (i64, i64), b: (i64, i64)) -> (i64, i64) {
    (a.0.min(b.0), a.1.max(b.1))
}
