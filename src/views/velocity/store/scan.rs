//! Measures that look at the counted entries of a window one by one: their cost grows with the window.
//!
//! "Since" measures stop at the first counted entry they meet.

use super::aggregate::{ones, std_of};
use super::chunk::{Chunk, MASK, below, rows_of};
use super::log::Log;
use super::program::{ReadProgram, Scan, What};
use super::read::Span;

/// 2^32: entropy is kept in such parts of a bit.
const PARTS: f64 = 4_294_967_296.0;

/// One measure; `base` is the first and last counted time of what has expired, for all-time windows.
#[allow(clippy::too_many_arguments)]
pub(super) fn scan(
    program: &ReadProgram,
    log: &Log,
    scan: &Scan,
    span: Span,
    base: Option<(i64, i64)>,
    here: &Chunk,
    row: usize,
    buffer: &mut Vec<i64>,
) -> f64 {
    let now = here.time(row);
    let known = program.known.filter(|_| scan.as_known);
    let counted = |chunk: &Chunk, rows| chunk.counted((scan.bitmap, scan.bit), rows, known.map(|column| (column, now)));
    let each = || span.pieces(log).flat_map(|(chunk, rows)| rows_of(counted(chunk, rows)).map(move |row| (chunk, row)));
    buffer.clear();
    match scan.what {
        What::SinceLast => {
            let last_of = |(chunk, rows): (&Chunk, u128)| match counted(chunk, rows) {
                0 => None,
                rows => Some(chunk.time(127 - rows.leading_zeros() as usize)),
            };
            let last = span.pieces(log).rev().find_map(last_of);
            let last = last.or(base.map(|(_, last)| last).filter(|&last| last != i64::MIN));
            last.map_or(f64::NAN, |last| (now - last) as f64)
        }
        What::SinceFirst => {
            let first = base.map(|(first, _)| first).filter(|&first| first != i64::MAX);
            let first = first.or_else(|| each().next().map(|(chunk, row)| chunk.time(row)));
            first.map_or(f64::NAN, |first| (now - first) as f64)
        }
        What::GapMean | What::GapStd | What::GapMin => {
            let (mut last, mut gaps, mut sum, mut squares, mut min) = (None, 0i64, 0i128, 0i128, i64::MAX);
            for (chunk, row) in each() {
                let time = chunk.time(row);
                if let Some(last) = last {
                    let gap = time - last;
                    gaps += 1;
                    sum += i128::from(gap);
                    squares += i128::from(gap) * i128::from(gap);
                    min = min.min(gap);
                }
                last = Some(time);
            }
            match scan.what {
                _ if gaps == 0 => f64::NAN,
                What::GapMean => sum as f64 / gaps as f64,
                What::GapStd => std_of(gaps, sum, squares, 1.0),
                _ => min as f64,
            }
        }
        What::Entropy(column) | What::TopShare(column) => {
            buffer.extend(each().map(|(chunk, row)| chunk.get(column, row) as i64));
            buffer.sort_unstable();
            let total = buffer.len();
            let runs = buffer.chunk_by(|a, b| a == b).map(<[i64]>::len);
            match scan.what {
                _ if total == 0 => f64::NAN,
                What::Entropy(_) => {
                    let parts: i128 = runs.map(parts_of).sum();
                    ((parts_of(total) - parts) as f64 / total as f64).round() / PARTS
                }
                _ => runs.max().unwrap_or(0) as f64 / total as f64,
            }
        }
        What::Burst(span_ms) => {
            buffer.extend(each().map(|(chunk, row)| chunk.time(row)));
            let (mut from, mut most) = (0, 0);
            for (at, &time) in buffer.iter().enumerate() {
                while buffer[from] <= time.saturating_sub(span_ms) {
                    from += 1;
                }
                most = most.max(at + 1 - from);
            }
            most as f64
        }
        What::Streak(reset) => {
            // Back to the last visible entry with the reset bit, from which on they are counted.
            let visible = |chunk: &Chunk, row: usize| known.is_none_or(|column| chunk.get(column, row) as i64 <= now);
            let mut length = 0;
            for (chunk, rows) in span.pieces(log).rev() {
                let resets = |row: &usize| chunk.get(MASK, *row) >> reset & 1 == 1 && visible(chunk, *row);
                let side = rows.trailing_zeros() as usize..128 - rows.leading_zeros() as usize;
                let last = side.rev().find(resets);
                length += ones(counted(chunk, rows & !below(last.map_or(0, |row| row + 1))));
                if last.is_some() {
                    break;
                }
            }
            length as f64
        }
        What::Repeat(column) => {
            let value = here.get(column, row);
            if value == super::VALUE_MISSING {
                return f64::NAN;
            }
            each().filter(|&(chunk, row)| chunk.get(column, row) == value).count() as f64
        }
        What::Quantile(column, permille) => {
            buffer.extend(each().map(|(chunk, row)| chunk.get(column, row) as i64));
            let rank = (buffer.len() * usize::from(permille)).div_ceil(1000);
            match rank.checked_sub(1) {
                None => f64::NAN,
                Some(rank) => *buffer.select_nth_unstable(rank).1 as f64,
            }
        }
        What::PercentRank(column) => {
            let amount = here.get(column, row) as i64;
            let (mut below, mut total) = (0i64, 0i64);
            for (chunk, row) in each() {
                below += i64::from((chunk.get(column, row) as i64) < amount);
                total += 1;
            }
            if total == 0 || amount == super::AMOUNT_MISSING { f64::NAN } else { below as f64 / total as f64 }
        }
    }
}

/// `n log2 n` in parts of a bit, rounded per value, so that the order of values does not matter.
fn parts_of(count: usize) -> i128 {
    let count = count as f64;
    (count * count.log2() * PARTS).round() as i128
}
