//! A plan compiled for reading: every boundary found once, every range added up once, whatever the number of features.
//!
//! * An *end* is where windows end: before or after the current entry, or at a lag.
//! * A *range* is a window that ends there; the ranges of an end stand from the shortest to the longest.
//! * A *chain* adds up one (bit, column) over all ranges of an end that want it, each range on top of the shorter one.
//! * A *slot* is a (bit, column) whose sums are kept per chunk in long logs, and per key for what has expired.
//! * A *pair* is a (bit, value column) whose distinct values are tracked in long logs.
//! * A *step* makes one feature out of the results.

use super::aggregate::Need;
use super::chunk::{FIXED, Shape};
use crate::views::velocity::{KeyPlan, PlannedFeature, PlannedMeasure as P};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WindowEnd {
    pub lag_ms: i64,
    pub include_current: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub end: usize,
    /// Lag and window, from the event back to the start; `None` for all time.
    pub back_ms: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BitSlot {
    pub bit: u8,
    /// Number of the bit's bitmap.
    pub bitmap: usize,
    pub column: Option<usize>,
    /// Place among the slots whose extremes are kept.
    pub extremes: Option<usize>,
    /// Place among the slots of which the latest label time is kept, as labels decide what counts.
    pub latest: Option<usize>,
    /// Place among the slots that an all-time range reads, so that what has expired is kept.
    pub base: Option<usize>,
}

#[derive(Clone, Debug)]
pub(super) struct Chain {
    pub end: usize,
    pub bit: u8,
    /// Number of the bit's bitmap.
    pub bitmap: usize,
    pub as_known: bool,
    /// The column added up, or whose values are told apart.
    pub column: Option<usize>,
    pub need: Need,
    /// The slot whose sums per chunk serve, or the pair that is tracked: none where labels decide what is distinct.
    pub kept: Option<usize>,
    /// Ranges, from the shortest, each with the place of its result.
    pub ranges: Vec<(usize, usize)>,
}

impl Chain {
    /// Where labels decide: the column of their times, and the time by which they must be known.
    #[inline]
    pub fn known_at(&self, program: &ReadProgram, time: i64) -> Option<(usize, i64)> {
        program.known.filter(|_| self.as_known).map(|column| (column, time))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pair {
    pub bit: u8,
    pub column: usize,
    /// Column of long logs that holds the time of the value's previous occurrence.
    pub previous: usize,
}

/// A range looked at entry by entry, or from one of its sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Scan {
    pub what: What,
    pub range: usize,
    pub bit: u8,
    /// Number of the bit's bitmap.
    pub bitmap: usize,
    pub as_known: bool,
    /// Slot that counts this bit, for what has expired.
    pub slot: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    SinceLast,
    SinceFirst,
    GapMean,
    GapStd,
    GapMin,
    Entropy(usize),
    TopShare(usize),
    Burst(i64),
    Streak(u8),
    Repeat(usize),
    Quantile(usize, u16),
    PercentRank(usize),
}

/// How one feature is made.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    /// Number of the feature.
    pub feature: usize,
    pub step: Formula,
    /// See `PlannedFeature::unit`.
    pub unit: f64,
    /// Stands for missing.
    pub default: f64,
}

/// How a feature is made. `usize`s are places of results, but for the columns of the current entry (`current`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Formula {
    Count(usize),
    Sum(usize),
    Mean(usize),
    Std(usize),
    Min(usize),
    Max(usize),
    IsNew(usize),
    Ratio { part: usize, whole: usize },
    Distinct(usize),
    DistinctRatio { distinct: usize, whole: usize },
    ZScore { own: usize, current: usize },
    RatioToMean { own: usize, current: usize },
    RatioToMax { own: usize, current: usize },
    Scan(Scan),
}

#[derive(Debug, Default)]
pub(super) struct ReadProgram {
    /// Column of label times, if a feature needs them.
    pub known: Option<usize>,
    pub amounts_at: usize,
    pub values_at: usize,
    /// Columns of a short log.
    pub columns: usize,
    /// What the chunk of a short log holds.
    pub short: Shape,
    /// What a chunk of a long log holds.
    pub long: Shape,
    pub ends: Vec<WindowEnd>,
    pub ranges: Vec<Range>,
    pub slots: Vec<BitSlot>,
    pub extremes: usize,
    pub latest: usize,
    pub bases: usize,
    pub pairs: Vec<Pair>,
    pub chains: Vec<Chain>,
    pub results: usize,
    pub distinct_chains: Vec<Chain>,
    pub distinct_results: usize,
    /// Those of the same kind stand together, so that the processor guesses which one is next.
    pub steps: Vec<Reading>,
    pub all_time: bool,
}

impl ReadProgram {
    pub fn new(plan: &KeyPlan) -> Self {
        let known = plan.features.iter().any(|feature| feature.as_known).then_some(FIXED);
        let amounts_at = FIXED + known.is_some() as usize;
        let values_at = amounts_at + plan.amounts.len();
        let mut program = ReadProgram {
            known,
            amounts_at,
            values_at,
            columns: values_at + plan.values.len(),
            all_time: plan.features.iter().any(|feature| feature.window_ms.is_none()),
            ..ReadProgram::default()
        };
        program.place_ranges(plan);
        // Amounts first, so that plain counts find a chain to ride on.
        for pass in 0..2 {
            for feature in &plan.features {
                program.want(feature, pass);
            }
        }
        program.number_results();
        let bits = std::mem::take(&mut program.short.bits);
        // A hint per end and per range.
        let hints = (program.ends.len() + program.ranges.len()).div_ceil(8);
        program.short = Shape { columns: program.columns, hints, bits: bits.clone() };
        program.long = Shape { columns: program.columns + program.pairs.len(), hints: 0, bits };
        for (number, feature) in plan.features.iter().enumerate() {
            let step = program.step(feature);
            program.steps.push(Reading { feature: number, step, unit: feature.unit, default: feature.default });
        }
        program.steps.sort_by_key(|reading| reading.step);
        program
    }

    /// Whether an entry with this mask counts in an aggregate of a column.
    pub fn counts(&self, column: usize, mask: u64) -> bool {
        let of_column = self.slots.iter().filter(|slot| slot.column == Some(column));
        of_column.into_iter().any(|slot| mask >> slot.bit & 1 == 1)
    }

    fn place_ranges(&mut self, plan: &KeyPlan) {
        for feature in &plan.features {
            let end = end_of(feature);
            if !self.ends.contains(&end) {
                self.ends.push(end);
            }
        }
        for feature in &plan.features {
            let range = self.range_of(feature);
            if !self.ranges.contains(&range) {
                self.ranges.push(range);
            }
        }
        self.ranges.sort_by_key(|range| (range.end, range.back_ms.unwrap_or(i64::MAX)));
    }

    fn range_of(&self, feature: &PlannedFeature) -> Range {
        let end = place(&self.ends, &end_of(feature));
        Range { end, back_ms: feature.window_ms.map(|window| window + feature.lag_ms) }
    }

    /// Asks for the chains that a feature reads from: those over columns in pass 0, plain counts in pass 1.
    fn want(&mut self, feature: &PlannedFeature, pass: u8) {
        let (column, need) = match feature.measure {
            P::Sum(c) | P::Mean(c) | P::RatioToMean(c) => (Some(c), Need::Sum),
            P::Std(c) | P::ZScore(c) => (Some(c), Need::Squares),
            P::Min(c) | P::Max(c) | P::RatioToMax(c) => (Some(c), Need::All),
            _ => (None, Need::Count),
        };
        if pass == 0 {
            if let Some(column) = column {
                self.chain(feature, feature.bit, Some(self.amounts_at + column), need);
            }
            return;
        }
        match feature.measure {
            P::Count | P::IsNew => self.chain(feature, feature.bit, None, Need::Count),
            P::Ratio(both) => {
                self.chain(feature, feature.bit, None, Need::Count);
                self.chain(feature, both, None, Need::Count);
            }
            P::Distinct(value) => self.distinct_chain(feature, value),
            P::DistinctRatio(value) => {
                self.chain(feature, feature.bit, None, Need::Count);
                self.distinct_chain(feature, value);
            }
            P::SinceLast | P::SinceFirst if !feature.as_known => {
                let slot = self.slot(feature.bit, None, Need::Count);
                self.keep(slot, feature);
            }
            _ => _ = self.bitmap(feature.bit),
        }
    }

    fn slot(&mut self, bit: u8, column: Option<usize>, need: Need) -> usize {
        let known = |slot: &BitSlot| slot.bit == bit && (slot.column == column || column.is_none());
        let index = self.slots.iter().position(known).unwrap_or_else(|| {
            let bitmap = self.bitmap(bit);
            self.slots.push(BitSlot { bit, bitmap, column, extremes: None, latest: None, base: None });
            self.slots.len() - 1
        });
        if need == Need::All && self.slots[index].extremes.is_none() {
            self.slots[index].extremes = Some(self.extremes);
            self.extremes += 1;
        }
        index
    }

    /// The number of a bit's bitmap.
    fn bitmap(&mut self, bit: u8) -> usize {
        let bits = &mut self.short.bits;
        bits.iter().position(|&other| other == bit).unwrap_or_else(|| {
            bits.push(bit);
            bits.len() - 1
        })
    }

    /// Notes what a feature wants to be kept of a slot beside its sums.
    fn keep(&mut self, slot: usize, feature: &PlannedFeature) {
        let slot = &mut self.slots[slot];
        let number = |wanted: bool, place: &mut Option<usize>, places: &mut usize| {
            if wanted && place.is_none() {
                *place = Some(*places);
                *places += 1;
            }
        };
        number(feature.as_known, &mut slot.latest, &mut self.latest);
        number(feature.window_ms.is_none(), &mut slot.base, &mut self.bases);
    }

    fn chain(&mut self, feature: &PlannedFeature, bit: u8, column: Option<usize>, need: Need) {
        let range = self.range_of(feature);
        let known = feature.as_known;
        let fits = |chain: &Chain| {
            (chain.end, chain.bit, chain.as_known) == (range.end, bit, known)
                && (chain.column == column || column.is_none())
        };
        let at = self.chains.iter().position(fits).unwrap_or_else(|| {
            let (end, bitmap, ranges) = (range.end, self.bitmap(bit), Vec::new());
            self.chains.push(Chain { end, bit, bitmap, as_known: known, column, need, kept: None, ranges });
            self.chains.len() - 1
        });
        let slot = self.slot(bit, self.chains[at].column, need);
        self.keep(slot, feature);
        self.chains[at].kept = Some(slot);
        let range = place(&self.ranges, &range);
        let chain = &mut self.chains[at];
        chain.need = chain.need.max(need);
        if !chain.ranges.iter().any(|&(other, _)| other == range) {
            chain.ranges.push((range, 0));
        }
    }

    fn distinct_chain(&mut self, feature: &PlannedFeature, value: usize) {
        let range = self.range_of(feature);
        let (bit, as_known, column) = (feature.bit, feature.as_known, self.values_at + value);
        let fits = |chain: &Chain| {
            (chain.end, chain.bit, chain.as_known, chain.column) == (range.end, bit, as_known, Some(column))
        };
        let at = self.distinct_chains.iter().position(fits).unwrap_or_else(|| {
            let kept = (!as_known).then(|| {
                self.pairs.iter().position(|pair| (pair.bit, pair.column) == (bit, column)).unwrap_or_else(|| {
                    self.pairs.push(Pair { bit, column, previous: self.columns + self.pairs.len() });
                    self.pairs.len() - 1
                })
            });
            let (end, bitmap, column, need, ranges) =
                (range.end, self.bitmap(bit), Some(column), Need::Count, Vec::new());
            self.distinct_chains.push(Chain { end, bit, bitmap, as_known, column, need, kept, ranges });
            self.distinct_chains.len() - 1
        });
        let range = place(&self.ranges, &range);
        if !self.distinct_chains[at].ranges.iter().any(|&(other, _)| other == range) {
            self.distinct_chains[at].ranges.push((range, 0));
        }
    }

    fn number_results(&mut self) {
        for (chains, results) in
            [(&mut self.chains, &mut self.results), (&mut self.distinct_chains, &mut self.distinct_results)]
        {
            for chain in chains {
                chain.ranges.sort_unstable();
                for (_, result) in &mut chain.ranges {
                    *result = *results;
                    *results += 1;
                }
            }
        }
    }

    /// The place of a feature's result; the chain was asked for before.
    fn result(&self, feature: &PlannedFeature, bit: u8, column: Option<usize>) -> usize {
        let range = self.range_of(feature);
        let (end, range) = (range.end, place(&self.ranges, &range));
        let fits = |chain: &&Chain| {
            (chain.end, chain.bit, chain.as_known) == (end, bit, feature.as_known)
                && (chain.column == column || column.is_none())
        };
        // The first that fits is the one `chain` has put the range into.
        let chain = self.chains.iter().find(fits);
        chain.and_then(|chain| chain.ranges.iter().find(|&&(other, _)| other == range)).map_or(0, |&(_, at)| at)
    }

    fn distinct_result(&self, feature: &PlannedFeature, value: usize) -> usize {
        let range = place(&self.ranges, &self.range_of(feature));
        let fits = |chain: &&Chain| {
            (chain.bit, chain.as_known, chain.column) == (feature.bit, feature.as_known, Some(self.values_at + value))
        };
        let ranges = self.distinct_chains.iter().filter(fits).flat_map(|chain| &chain.ranges);
        ranges.copied().find(|&(other, _)| other == range).map_or(0, |(_, at)| at)
    }

    fn step(&self, feature: &PlannedFeature) -> Formula {
        let bit = feature.bit;
        let amount = |column: usize| self.amounts_at + column;
        let own = |column: usize| self.result(feature, bit, Some(amount(column)));
        let scan = |what: What| {
            let slot = self.slots.iter().position(|slot| slot.bit == bit).filter(|_| !feature.as_known);
            let range = place(&self.ranges, &self.range_of(feature));
            let bitmap = place(&self.short.bits, &bit);
            Formula::Scan(Scan { what, range, bit, bitmap, as_known: feature.as_known, slot })
        };
        match feature.measure {
            P::Count => Formula::Count(self.result(feature, bit, None)),
            P::IsNew => Formula::IsNew(self.result(feature, bit, None)),
            P::Sum(c) => Formula::Sum(own(c)),
            P::Mean(c) => Formula::Mean(own(c)),
            P::Std(c) => Formula::Std(own(c)),
            P::Min(c) => Formula::Min(own(c)),
            P::Max(c) => Formula::Max(own(c)),
            P::ZScore(c) => Formula::ZScore { own: own(c), current: amount(c) },
            P::RatioToMean(c) => Formula::RatioToMean { own: own(c), current: amount(c) },
            P::RatioToMax(c) => Formula::RatioToMax { own: own(c), current: amount(c) },
            P::Ratio(both) => {
                Formula::Ratio { part: self.result(feature, both, None), whole: self.result(feature, bit, None) }
            }
            P::Distinct(v) => Formula::Distinct(self.distinct_result(feature, v)),
            P::DistinctRatio(v) => Formula::DistinctRatio {
                distinct: self.distinct_result(feature, v),
                whole: self.result(feature, bit, None),
            },
            P::SinceLast => scan(What::SinceLast),
            P::SinceFirst => scan(What::SinceFirst),
            P::GapMean => scan(What::GapMean),
            P::GapStd => scan(What::GapStd),
            P::GapMin => scan(What::GapMin),
            P::Entropy(v) => scan(What::Entropy(self.values_at + v)),
            P::TopShare(v) => scan(What::TopShare(self.values_at + v)),
            P::Burst(ms) => scan(What::Burst(ms)),
            P::Streak(reset) => scan(What::Streak(reset)),
            P::Repeat(v) => scan(What::Repeat(self.values_at + v)),
            P::Quantile(c, q) => scan(What::Quantile(amount(c), q)),
            P::PercentRank(c) => scan(What::PercentRank(amount(c))),
        }
    }
}

/// "Since the last" is counted from the one before the current entry, even where that counts.
fn end_of(feature: &PlannedFeature) -> WindowEnd {
    let include_current = feature.include_current && feature.measure != P::SinceLast;
    WindowEnd { lag_ms: feature.lag_ms, include_current: include_current && feature.lag_ms == 0 }
}

/// Everything looked up was put there before.
fn place<T: PartialEq>(list: &[T], item: &T) -> usize {
    list.iter().position(|known| known == item).unwrap_or(0)
}
