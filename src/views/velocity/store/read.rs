//! Reading: the features of one entry, as of it.
//!
//! A read looks at the log and nothing else, so a fresh row, a row read again after a late event and a replayed row are
//! the same computation.

use super::aggregate::{Aggregate, Need, fold, ones};
use super::chunk::{Chunk, ROWS_MAX, between, rows_of};
use super::log::{Log, LogBody, RowPosition};
use super::program::{Chain, Formula, ReadProgram, Reading};
use super::scan;
use super::squares::Squares;

/// Buffers of a read, kept between reads for their capacity alone.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    ends: Vec<RowPosition>,
    starts: Vec<RowPosition>,
    after_ms: Vec<i64>,
    /// The rows of each range in a short log.
    windows: Vec<u128>,
    aggregates: Vec<Aggregate>,
    /// Results whose squares may be beyond 128 bits, with their squares. Nearly always empty.
    wide: Vec<(usize, Squares)>,
    distinct: Vec<i64>,
    set: Set,
    pub values: Vec<i64>,
}

/// A span of a log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub from: RowPosition,
    pub to: RowPosition,
}

impl Scratch {
    /// Where the ends and ranges of the last read stand, for the next one's searches.
    #[inline]
    pub fn places(&self) -> impl Iterator<Item = RowPosition> + '_ {
        self.ends.iter().chain(&self.starts).copied()
    }
}

impl Span {
    /// The rows of each chunk, from the first.
    #[inline]
    pub fn pieces(self, log: &Log) -> impl DoubleEndedIterator<Item = (&Chunk, u128)> {
        let chunks = &log.chunks()[self.from.chunk..=self.to.chunk];
        chunks.iter().enumerate().map(move |(offset, chunk)| {
            let index = self.from.chunk + offset;
            let first = if index == self.from.chunk { self.from.row } else { 0 };
            let last = if index == self.to.chunk { self.to.row } else { chunk.len() };
            (chunk, between(first, last))
        })
    }
}

/// Writes the features of the entry at `place`.
pub(super) fn read(program: &ReadProgram, log: &Log, place: RowPosition, out: &mut [f64], scratch: &mut Scratch) {
    let here = &log.chunks()[place.chunk];
    let time = here.time(place.row);
    scratch.ends.clear();
    scratch.starts.clear();
    scratch.after_ms.clear();
    let tail = log.end();
    scratch.ends.extend(program.ends.iter().enumerate().map(|(index, end)| match (end.lag_ms, end.include_current) {
        (0, false) => place,
        (0, true) => RowPosition { chunk: place.chunk, row: place.row + 1 },
        (lag, _) => log.after_time(time.saturating_sub(lag), tail, index),
    }));
    let mut latest = (usize::MAX, place);
    for (index, range) in program.ranges.iter().enumerate() {
        if latest.0 != range.end {
            latest = (range.end, scratch.ends[range.end]);
        }
        let after_ms = range.back_ms.map_or(i64::MIN, |back| time.saturating_sub(back));
        if range.back_ms.is_some() {
            latest.1 = log.after_time(after_ms, latest.1, program.ends.len() + index);
        } else {
            latest.1 = RowPosition { chunk: 0, row: 0 };
        }
        scratch.starts.push(latest.1);
        scratch.after_ms.push(after_ms);
    }
    scratch.aggregates.resize(program.results, Aggregate::default());
    scratch.wide.clear();
    match &log.body {
        LogBody::Short(chunk) => {
            scratch.windows.clear();
            for (range, start) in program.ranges.iter().zip(&scratch.starts) {
                scratch.windows.push(between(start.row, scratch.ends[range.end].row));
            }
            program.chains.iter().for_each(|chain| run_short(program, log, chunk, chain, time, scratch));
        }
        LogBody::Long(_) => program.chains.iter().for_each(|chain| run(program, log, chain, time, scratch)),
    }
    scratch.distinct.resize(program.distinct_results, 0);
    for chain in &program.distinct_chains {
        distinct(program, log, chain, time, scratch);
    }
    for reading in &program.steps {
        let value = evaluate(program, log, reading, here, place.row, scratch);
        out[reading.feature] = if value.is_nan() { reading.default } else { value };
    }
}

/// Adds up a chain, each range on top of the shorter one before.
#[inline]
fn run(program: &ReadProgram, log: &Log, chain: &Chain, time: i64, scratch: &mut Scratch) {
    let mut sofar = Aggregate::default();
    let mut to = scratch.ends[chain.end];
    for &(range, result) in &chain.ranges {
        let from = scratch.starts[range];
        add(program, log, chain, time, Span { from, to }, &mut sofar);
        to = from;
        keep(program, log, chain, time, (range, result), sofar, scratch);
    }
}

/// The same in a short log, where the counted rows are found once and each range is a mask.
#[inline]
fn run_short(program: &ReadProgram, log: &Log, chunk: &Chunk, chain: &Chain, time: i64, scratch: &mut Scratch) {
    let longest = chain.ranges.last().map_or(0, |&(range, _)| scratch.windows[range]);
    let counted = chunk.counted((chain.bitmap, chain.bit), longest, chain.known_at(program, time));
    if chain.need == Need::Count {
        // Nothing but the count is ever looked at.
        for &(range, result) in &chain.ranges {
            let base = base_of(program, log, chain, range).map_or(0, |base| base.count);
            scratch.aggregates[result].count = base + ones(counted & scratch.windows[range]) as i64;
        }
        return;
    }
    let values = chain.column.map_or(&[][..], |column| chunk.column(column));
    let (mut sofar, mut done) = (Aggregate::default(), 0);
    for &(range, result) in &chain.ranges {
        let rows = counted & scratch.windows[range];
        fold(&mut sofar, chain.need, rows & !done, values);
        done = rows;
        keep(program, log, chain, time, (range, result), sofar, scratch);
    }
}

/// What has expired, where a range has no start.
#[inline]
fn base_of<'a>(program: &ReadProgram, log: &'a Log, chain: &Chain, range: usize) -> Option<&'a Aggregate> {
    let base = log.base.as_ref().filter(|_| program.ranges[range].back_ms.is_none())?;
    Some(&base.slots[program.slots[chain.kept?].base?].0)
}

/// Keeps what a range has come to.
#[inline]
fn keep(
    program: &ReadProgram,
    log: &Log,
    chain: &Chain,
    time: i64,
    (range, result): (usize, usize),
    mut sofar: Aggregate,
    scratch: &mut Scratch,
) {
    if let Some(base) = base_of(program, log, chain, range) {
        sofar.merge(base);
    }
    if chain.need >= Need::Squares && sofar.is_wide() {
        let span = Span { from: scratch.starts[range], to: scratch.ends[chain.end] };
        scratch.wide.push((result, squares(program, log, chain, time, span, range)));
    }
    scratch.aggregates[result] = sofar;
}

/// Adds up the squares of a range once more, with as many bits as it takes.
#[cold]
fn squares(program: &ReadProgram, log: &Log, chain: &Chain, time: i64, span: Span, range: usize) -> Squares {
    let mut squares = Squares::default();
    for (chunk, rows) in span.pieces(log) {
        for row in rows_of(chunk.counted((chain.bitmap, chain.bit), rows, chain.known_at(program, time))) {
            squares.add_square_of(chain.column.map_or(0, |column| chunk.get(column, row) as i64));
        }
    }
    if program.ranges[range].back_ms.is_none()
        && let (Some(base), Some(slot)) = (&log.base, chain.kept.and_then(|slot| program.slots[slot].base))
    {
        squares.add(base.squares(slot));
    }
    squares
}

/// Adds a span of a long log: its sides row by row, and between them whole chunks, but for those whose labels were not all
/// known.
#[inline]
fn add(program: &ReadProgram, log: &Log, chain: &Chain, time: i64, span: Span, into: &mut Aggregate) {
    let (Some(long), Some(slot)) = (log.long(), chain.kept) else { return };
    let known = chain.known_at(program, time);
    let part = |into: &mut Aggregate, chunk: &Chunk, from: usize, to: usize| {
        let counted = chunk.counted((chain.bitmap, chain.bit), between(from, to), known);
        fold(into, chain.need, counted, chain.column.map_or(&[][..], |column| chunk.column(column)));
    };
    let Span { from, to } = span;
    if from.chunk == to.chunk {
        return part(into, &long.chunks[from.chunk], from.row, to.row);
    }
    part(into, &long.chunks[from.chunk], from.row, ROWS_MAX);
    let mut at = from.chunk + 1;
    while at < to.chunk {
        let whole = match known {
            Some(_) => long.known_chunks(program, slot, time, at, to.chunk),
            None => to.chunk - at,
        };
        if whole == 0 {
            part(into, &long.chunks[at], 0, ROWS_MAX);
            at += 1;
        } else {
            long.add_chunks(into, program, slot, chain.need, at, at + whole);
            at += whole;
        }
    }
    part(into, &long.chunks[to.chunk], 0, to.row);
}

/// Counts the distinct values of a chain's ranges.
fn distinct(program: &ReadProgram, log: &Log, chain: &Chain, time: i64, scratch: &mut Scratch) {
    let end = scratch.ends[chain.end];
    let (Some(&(longest, _)), Some(column)) = (chain.ranges.last(), chain.column) else { return };
    let start = scratch.starts[longest];
    if let (Some(long), Some(index)) = (log.long(), chain.kept) {
        let behind = log.end().chunk - end.chunk;
        if behind <= end.chunk - start.chunk {
            let (mut to, mut sofar) = (end, 0);
            for &(range, result) in &chain.ranges {
                sofar += long.marked_between(program, index, scratch.starts[range], to);
                to = scratch.starts[range];
                let back = long.reaching_back(&program.pairs[index], end, scratch.after_ms[range]);
                scratch.distinct[result] = sofar + back;
            }
            return;
        }
    }
    let short = end.chunk == start.chunk;
    scratch.set.clear(if short { end.row - start.row } else { (end.chunk - start.chunk + 1) * ROWS_MAX });
    let mut to = end;
    for &(range, result) in &chain.ranges {
        let from = scratch.starts[range];
        for (chunk, rows) in (Span { from, to }).pieces(log) {
            for row in rows_of(chunk.counted((chain.bitmap, chain.bit), rows, chain.known_at(program, time))) {
                scratch.set.insert(chunk.get(column, row));
            }
        }
        to = from;
        scratch.distinct[result] = scratch.set.len;
    }
}

/// The deviation of a result that may be wide.
#[cold]
#[inline(never)]
fn wide_std(scratch: &Scratch, at: usize, unit: f64) -> f64 {
    let own = &scratch.aggregates[at];
    match scratch.wide.iter().find(|(wide, _)| *wide == at) {
        None => own.std(unit),
        Some((_, squares)) => squares.std(own.count, own.sum, unit),
    }
}

/// Makes one feature; NaN is missing.
#[inline]
fn evaluate(
    program: &ReadProgram,
    log: &Log,
    reading: &Reading,
    here: &Chunk,
    row: usize,
    scratch: &mut Scratch,
) -> f64 {
    let aggregate = |at: usize| &scratch.aggregates[at];
    let std = |at: usize, unit: f64| match scratch.wide.is_empty() {
        true => aggregate(at).std(unit),
        false => wide_std(scratch, at, unit),
    };
    let or_missing = |there: bool, value: f64| if there { value } else { f64::NAN };
    let current = |column: usize| here.get(column, row) as i64;
    let unit = reading.unit;
    match reading.step {
        Formula::Count(a) => aggregate(a).count as f64,
        Formula::Sum(a) => aggregate(a).sum_f64() / unit,
        // The mean of nothing is 0 / 0, which is NaN.
        Formula::Mean(a) => aggregate(a).mean(unit),
        Formula::Std(a) => or_missing(aggregate(a).count > 0, std(a, unit)),
        Formula::Min(a) => or_missing(aggregate(a).count > 0, aggregate(a).min as f64 / unit),
        Formula::Max(a) => or_missing(aggregate(a).count > 0, aggregate(a).max as f64 / unit),
        Formula::IsNew(a) => f64::from(aggregate(a).count == 0),
        Formula::Ratio { part, whole } => aggregate(part).count as f64 / aggregate(whole).count as f64,
        Formula::Distinct(d) => scratch.distinct[d] as f64,
        Formula::DistinctRatio { distinct, whole } => scratch.distinct[distinct] as f64 / aggregate(whole).count as f64,
        Formula::ZScore { own, current: column } => {
            let std = std(own, 1.0);
            let (own, amount) = (aggregate(own), current(column));
            let there = own.count >= 2 && std > 0.0 && amount != super::AMOUNT_MISSING;
            or_missing(there, (amount as f64 - own.mean(1.0)) / std)
        }
        Formula::RatioToMean { own, current: column } => {
            let (own, amount) = (aggregate(own), current(column));
            let there = own.count > 0 && own.sum != 0 && amount != super::AMOUNT_MISSING;
            or_missing(there, amount as f64 / own.mean(1.0))
        }
        Formula::RatioToMax { own, current: column } => {
            let (own, amount) = (aggregate(own), current(column));
            let there = own.count > 0 && own.max != 0 && amount != super::AMOUNT_MISSING;
            or_missing(there, amount as f64 / own.max as f64)
        }
        Formula::Scan(ref one) => {
            let range = one.range;
            let span = Span { from: scratch.starts[range], to: scratch.ends[program.ranges[range].end] };
            let base = log.base.as_ref().filter(|_| program.ranges[range].back_ms.is_none());
            let base = base.zip(one.slot.and_then(|slot| program.slots[slot].base));
            let base = base.map(|(base, slot)| (base.slots[slot].1, base.slots[slot].2));
            scan::scan(program, log, one, span, base, here, row, &mut scratch.values) / unit
        }
    }
}

/// A set of values: a list as long as there are few, else open addressing in one buffer.
#[derive(Debug, Default)]
struct Set {
    table: Vec<u64>,
    few: bool,
    has_zero: bool,
    len: i64,
}

/// So many values are a list.
const FEW: usize = 16;

impl Set {
    /// Empties it and makes room for so many values.
    #[inline]
    fn clear(&mut self, values: usize) {
        self.table.clear();
        (self.few, self.has_zero, self.len) = (values <= FEW, false, 0);
        if !self.few {
            self.table.resize((values * 2).next_power_of_two(), 0);
        }
    }

    #[inline]
    fn insert(&mut self, value: u64) {
        if self.few {
            if !self.table.contains(&value) {
                self.table.push(value);
                self.len += 1;
            }
            return;
        }
        if value == 0 {
            self.len += i64::from(!self.has_zero);
            self.has_zero = true;
            return;
        }
        let last = self.table.len() - 1;
        let mut at = (value.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize & last;
        while self.table[at] != 0 {
            if self.table[at] == value {
                return;
            }
            at = (at + 1) & last;
        }
        self.table[at] = value;
        self.len += 1;
    }
}
