//! The one authority that mints epochs.
//!
//! Live, an epoch closes as soon as the one before has left the engine, and at the latest after a millisecond: an idle
//! engine answers in one event's time, a busy one forms batches. Bounded, an epoch takes a fixed number of records of each
//! partition, whatever the timing, so that a replay is the same every time.
//!
//! While rows wait to be repaired, live epochs go on without records, also after the input has ended: those that are bound
//! then repair much at once, as no fresh score waits, and the last one is bound when nothing is left. So all output belongs
//! to epochs that a restart repeats.

use std::collections::{BTreeMap, VecDeque};

use super::{Binding, Bound, Epoch, Offer, Repair, Report};
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
/// Epochs that may be on their way through the engine.
const IN_FLIGHT_MAX: u64 = 3;
/// Touched rows that an epoch reads again at least once the input has ended.
const REPAIR_ROWS_AT_END: usize = 65_536;

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
    repair_rows_max: usize,
    stop_sent: bool,
    /// The epoch before was bound after the input had ended and all others had left: what the reports for this one say of
    /// the backlog is the whole of it.
    settled: bool,
    finished: bool,
}

impl Authority {
    /// For so many workers. `recorded` bindings are minted first, as they were: that is how a run is repeated.
    pub fn new(workers: usize, pace: Pace, recorded: Vec<Binding>) -> Self {
        Authority {
            pace,
            reports: vec![None; workers],
            next: 0,
            watermark_ms: i64::MIN,
            minted_ns: 0,
            recorded: recorded.into(),
            repair_rows_max: 1,
            stop_sent: false,
            settled: false,
            finished: false,
        }
    }

    /// Touched rows that an epoch reads again, over all workers; as many as it takes in records if those are more.
    pub fn repairing(mut self, rows_max: usize) -> Self {
        self.repair_rows_max = rows_max;
        self
    }

    /// Takes a worker's report; one that is out of date is ignored.
    pub fn report(&mut self, report: Report) {
        if report.next == self.next {
            let worker = report.worker as usize;
            self.reports[worker] = Some(report);
        }
    }

    /// The next binding, if it is time. `left` is the first epoch that has not left the engine yet.
    pub fn mint(&mut self, now_ns: u64, left: Epoch) -> Option<Binding> {
        if self.finished || self.next.saturating_sub(left) >= IN_FLIGHT_MAX || self.reports.iter().any(Option::is_none)
        {
            return None;
        }
        let settled = self.ended() && left >= self.next;
        let binding = if self.recorded.is_empty() { self.decide(now_ns, left)? } else { self.repeat()? };
        self.next = binding.epoch + 1;
        self.watermark_ms = binding.watermark_ms;
        self.minted_ns = now_ns;
        self.stop_sent |= binding.stop;
        self.settled = settled;
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
            let (watermark_ms, repair) = (self.watermark_ms, Repair::default());
            let end = Binding { epoch: self.next, bound, watermark_ms, repair, stop: true, last: true };
            return (stop || self.stop_sent).then_some(end);
        }
        let (ended, live) = (self.ended(), self.pace == Pace::Live);
        let last = ended && (!live || self.settled && !backlog);
        let due = match self.pace {
            Pace::Live => fresh && (idle || now_ns.saturating_sub(self.minted_ns) >= WAIT_NS_MAX),
            Pace::Bounded => fresh && offers().all(|offer| offer.ripe),
        };
        // A replay's epochs do not depend on when something is idle: what waits is repaired along with its records, and at
        // the end by itself.
        if !(due || stop || last || live && idle && (backlog || ended)) {
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
        Some(Binding { epoch: self.next, bound, watermark_ms, repair: self.repair(due), stop, last })
    }

    /// Whether nothing will be bound any more.
    fn ended(&self) -> bool {
        let reports = || self.reports.iter().flatten();
        let fresh = reports().flat_map(|report| &report.offers).any(|offer| offer.records > 0);
        !fresh && reports().all(|report| report.done)
    }

    /// How much the next epoch repairs. A replay's must not depend on how far the epochs before it have come, so it says
    /// nothing of keys; its offers are ripe, which is the same records every time.
    fn repair(&self, due: bool) -> Repair {
        let reports = || self.reports.iter().flatten();
        let events = reports().flat_map(|report| &report.offers).filter(|offer| !offer.reference);
        let records = if due { events.map(|offer| offer.records).sum() } else { 0 };
        let keys = match self.pace {
            Pace::Live => reports().map(|report| report.backlog).sum(),
            Pace::Bounded => 0,
        };
        let at_end = if self.ended() { REPAIR_ROWS_AT_END } else { 0 };
        Repair::of(self.repair_rows_max.max(at_end), records, keys)
    }

    /// The next recorded binding, once its records are there.
    fn repeat(&mut self) -> Option<Binding> {
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
