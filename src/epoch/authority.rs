//! The one authority that mints epochs.
//!
//! Live, an epoch closes as soon as the one before has left the engine, and at the latest after a millisecond: an idle
//! engine answers in one event's time, a busy one forms batches. Bounded, an epoch takes a fixed number of records of each
//! partition, whatever the timing, so that a replay is the same every time. While rows wait to be repaired, epochs go on
//! without records.

use std::collections::{BTreeMap, VecDeque};

use super::{Binding, Bound, Epoch, Firsts, Offer, Recorded, Report};
use crate::source::Partition;

/// When epochs are closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// As fast as the engine takes them.
    Live,
    /// As soon as every partition has a full share ready.
    Bounded,
}

/// A live epoch waits this long for the one before it, nanoseconds.
const WAIT_NS_MAX: u64 = 1_000_000;
/// How long a source may have less than what is recorded before that is an error: what a broker says of its ends may lag.
const SHORT_NS_MAX: u64 = 5_000_000_000;
/// Epochs that may be on their way through the engine.
const IN_FLIGHT_MAX: u64 = 3;

/// Mints bindings out of what the workers report.
#[derive(Debug)]
pub struct Authority {
    pace: Pace,
    /// The workers' reports for the next epoch.
    reports: Vec<Option<Report>>,
    next: Epoch,
    watermark_ms: i64,
    minted_ns: u64,
    recorded: VecDeque<Binding>,
    stop_sent: bool,
    finished: bool,
    /// The first record of every partition that was ever read.
    firsts: Firsts,
    /// Those of them that are not written down yet.
    found: Firsts,
    /// Since when the source has less than what is recorded, nanoseconds.
    short_ns: Option<u64>,
    /// Why the source is not the one that was recorded.
    fault: Option<String>,
}

impl Authority {
    /// For so many workers. `recorded` bindings are minted first, as they were: that is how a run is repeated.
    pub fn new(workers: usize, pace: Pace, recorded: Recorded) -> Self {
        Authority {
            pace,
            reports: vec![None; workers],
            next: 0,
            watermark_ms: i64::MIN,
            minted_ns: 0,
            recorded: recorded.bindings.into(),
            stop_sent: false,
            finished: false,
            firsts: recorded.firsts,
            found: Firsts::new(),
            short_ns: None,
            fault: None,
        }
    }

    /// Takes a worker's report; one that is out of date is ignored.
    pub fn report(&mut self, report: Report) {
        if report.next == self.next {
            report.offers.iter().for_each(|offer| self.compare(offer));
            let worker = report.worker as usize;
            self.reports[worker] = Some(report);
        }
    }

    /// Compares the first record of a partition with the one that was recorded.
    fn compare(&mut self, offer: &Offer) {
        let (partition, first) = (offer.partition, offer.first);
        if first == 0 || offer.reference {
            return;
        }
        match self.firsts.get(&partition) {
            Some(recorded) if *recorded == first => {}
            Some(_) => {
                self.fault.get_or_insert_with(|| {
                    format!(
                        "partition {partition} of the input does not begin with the record that it began with when --state was \
                         written: retention removed it, or the topic or file was made anew; name another --state"
                    )
                });
            }
            None => {
                self.firsts.insert(partition, first);
                self.found.insert(partition, first);
            }
        }
    }

    /// First records that are to be written down; they are handed out once.
    pub fn found(&mut self) -> Firsts {
        std::mem::take(&mut self.found)
    }

    /// Whether the source still is the one that was recorded. The error says why not.
    pub fn check(&mut self, now_ns: u64) -> Result<(), String> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        let Some((partition, upper, reached)) = self.short() else {
            self.short_ns = None;
            return Ok(());
        };
        let since = *self.short_ns.get_or_insert(now_ns);
        if now_ns.saturating_sub(since) < SHORT_NS_MAX {
            return Ok(());
        }
        Err(format!(
            "partition {partition} of the input ends at {reached}, but {upper} records or offsets of it were read when --state \
             was written: it was cut off or made anew; name another --state"
        ))
    }

    /// A partition that ends before what the next recorded binding takes of it, where that is and where it ends.
    fn short(&self) -> Option<(Partition, u64, u64)> {
        let Bound::Offsets(uppers) = &self.recorded.front()?.bound else { return None };
        let mut reports = self.reports.iter();
        if !reports.all(|report| report.as_ref().is_some_and(|report| !report.loading)) {
            return None;
        }
        let offers = || self.reports.iter().flatten().flat_map(|report| &report.offers);
        uppers.iter().find_map(|(&partition, &upper)| {
            let offer = offers().find(|offer| offer.partition == partition);
            let reached = offer.map_or(0, |offer| offer.upper);
            (reached < upper && offer.is_none_or(|offer| offer.spent)).then_some((partition, upper, reached))
        })
    }

    /// The end, whatever is recorded or waits.
    pub fn end(&mut self) -> Binding {
        self.finished = true;
        let bound = Bound::Offsets(BTreeMap::new());
        Binding { epoch: self.next, bound, watermark_ms: self.watermark_ms, stop: true, last: true }
    }

    /// The next binding, if it is time. `left` is the first epoch that has not left the engine yet.
    pub fn mint(&mut self, now_ns: u64, left: Epoch) -> Option<Binding> {
        if self.finished || self.next.saturating_sub(left) >= IN_FLIGHT_MAX || self.reports.iter().any(Option::is_none)
        {
            return None;
        }
        let binding = if self.recorded.is_empty() { self.decide(now_ns, left)? } else { self.repeat()? };
        self.next = binding.epoch + 1;
        self.watermark_ms = binding.watermark_ms;
        self.minted_ns = now_ns;
        self.stop_sent |= binding.stop;
        self.finished = binding.last;
        self.reports.fill(None);
        Some(binding)
    }

    fn decide(&self, now_ns: u64, left: Epoch) -> Option<Binding> {
        let reports = || self.reports.iter().flatten();
        let offers = || reports().flat_map(|report| &report.offers);
        let events = || offers().filter(|offer| !offer.reference);
        let fresh = offers().any(|offer| offer.records > 0);
        let stop = !self.stop_sent && reports().any(|report| report.stopping);
        let idle = left >= self.next;
        let backlog = reports().any(|report| report.backlog > 0);
        if reports().any(|report| report.loading) {
            // Stopped, or failed, before the references were there: nothing is scored without them.
            let bound = Bound::Offsets(BTreeMap::new());
            let end = Binding { epoch: self.next, bound, watermark_ms: self.watermark_ms, stop: true, last: true };
            return (stop || self.stop_sent).then_some(end);
        }
        let last = !fresh && reports().all(|report| report.done);
        let due = match self.pace {
            Pace::Live => fresh && (idle || now_ns.saturating_sub(self.minted_ns) >= WAIT_NS_MAX),
            Pace::Bounded => fresh && offers().all(|offer| offer.ripe),
        };
        // What waits to be repaired when the input ends drains by itself.
        if !(due || stop || last || backlog && idle) {
            return None;
        }
        let timed = offers().any(|offer| offer.reference && offer.time_ms > i64::MIN);
        let merged = self.pace == Pace::Bounded && (events().count() > 1 || timed);
        let (bound, watermark_ms) = if merged && due {
            let through = events().filter(|offer| !offer.end).map(|offer| offer.time_ms).min();
            let latest = events().map(|offer| offer.time_ms).max().unwrap_or(i64::MIN);
            (Bound::Through(through.unwrap_or(i64::MAX)), through.unwrap_or(latest))
        } else if due {
            let uppers = offers().filter(|offer| offer.records > 0).map(|offer| (offer.partition, offer.upper));
            (Bound::Offsets(uppers.collect()), self.watermark())
        } else {
            (Bound::Offsets(BTreeMap::new()), self.watermark_ms)
        };
        let watermark_ms = watermark_ms.max(self.watermark_ms);
        Some(Binding { epoch: self.next, bound, watermark_ms, stop, last })
    }

    /// Recorded bindings that have not been minted again yet.
    pub fn repeating(&self) -> u64 {
        self.recorded.len() as u64
    }

    /// The next recorded binding, once its records are there. Asked to stop, it ends there: what is recorded stays so.
    fn repeat(&mut self) -> Option<Binding> {
        if self.reports.iter().flatten().any(|report| report.stopping) {
            let bound = Bound::Offsets(BTreeMap::new());
            return Some(Binding { epoch: self.next, bound, watermark_ms: self.watermark_ms, stop: true, last: true });
        }
        let binding = self.recorded.front()?;
        if let Bound::Offsets(uppers) = &binding.bound {
            let offers = || self.reports.iter().flatten().flat_map(|report| &report.offers);
            let there = |(partition, upper): (&Partition, &u64)| {
                offers().any(|offer| offer.partition == *partition && offer.upper >= *upper)
            };
            if !uppers.iter().all(there) {
                return None;
            }
        }
        self.recorded.pop_front().map(|binding| Binding { epoch: self.next, last: false, stop: false, ..binding })
    }

    /// The smallest event time that a partition which is not idle has reached. Until every partition has delivered
    /// something, or is idle, event time does not move. A partition that was stopped has not ended: it goes on from here
    /// after a restart, so it still counts.
    fn watermark(&self) -> i64 {
        let offers =
            || self.reports.iter().flatten().flat_map(|report| &report.offers).filter(|offer| !offer.reference);
        let ended = |offer: &Offer| offer.end && !self.stop_sent;
        let live = offers().filter(|offer| !offer.idle && !ended(offer)).map(|offer| offer.time_ms).min();
        live.or_else(|| offers().map(|offer| offer.time_ms).max()).unwrap_or(self.watermark_ms)
    }
}
