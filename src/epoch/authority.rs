//! The one authority that mints epochs.
//!
//! Live, an epoch closes as soon as the one before has left the engine, and at the latest after a millisecond: an idle
//! engine answers in one event's time, a busy one forms batches. Bounded, an epoch takes a fixed number of records of each
//! partition, whatever the timing, so that a replay is the same every time.
//!
//! While rows wait to be repaired, live epochs go on without records, also after the input has ended: those that are bound
//! then repair much at once, as no fresh score waits, and the last one is bound when nothing is left. So all output belongs
//! to epochs that a restart repeats.
//!
//! **Merging.** A replay, and a run for as long as any partition has a backlog, merges partitions by event time:
//!
//! ```text
//!  every partition offers a share ─► Reach: the smallest time that a share reaches ─► all offer what lies before it ─► Bind
//! ```
//!
//! So the same records make the same epochs, whatever the speeds at which partitions are read, and a run that catches up
//! decides as a replay does. A partition that is at its end holds nobody back. Once all have caught up, a run takes records
//! as they come; it merges again when a partition with a full share waiting is behind the others by more than the skew
//! bound.
//!
//! A run that is stopped while it merges ends after the last epoch that every partition had its share for: what it has read
//! beyond that is left unbound and read again by the next one, which so cuts its epochs where this one would have.

use std::collections::BTreeSet;

use super::controlling::{ControlNext, Controlling, before_control};
use super::dumping::Dumping;
use super::{PartitionBounds, Recorded};
use crate::event::Lane;
use crate::flow::{Binding, DeploymentNumber, Dump, Epoch, Offer, Reach, Repair, Report, Word};

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
/// Touched rows that an epoch reads again at least once the input has ended.
const REPAIR_ROWS_AT_END: usize = 65_536;

/// Mints bindings out of what the workers report.
#[derive(Debug)]
pub struct Authority {
    pace: Pace,
    skew_ms: i64,
    /// The workers' reports for the next epoch.
    reports: Vec<Option<Report>>,
    next: Epoch,
    watermark_ms: i64,
    minted_ns: u64,
    recorded: Recorded,
    /// The next one of them.
    ahead: Option<Binding>,
    repair_rows_max: usize,
    /// Partitions are merged by event time.
    merging: bool,
    /// Partitions that have been at their end since merging began.
    caught_up: BTreeSet<Lane>,
    /// What the workers were asked to offer up to, and the watermark that goes with it.
    reach: Option<(Reach, i64)>,
    stop_sent: bool,
    /// The epoch before was bound after the input had ended and all others had left: what the reports for this one say of
    /// the backlog is the whole of it.
    settled: bool,
    finished: bool,
    /// Which epochs are cut.
    dumping: Dumping,
    /// Which control messages are bound next.
    controlling: Controlling,
    /// Since when the source has less than what is recorded, nanoseconds.
    short_ns: Option<u64>,
    /// Why what was recorded cannot be repeated.
    fault: Option<String>,
}

impl Authority {
    /// For so many workers. `recorded` bindings are minted first, as they were: that is how a run is repeated.
    pub fn new(workers: usize, pace: Pace, bounds: &PartitionBounds, recorded: Recorded) -> Self {
        Authority {
            pace,
            skew_ms: bounds.skew_ms,
            reports: vec![None; workers],
            next: recorded.from,
            watermark_ms: recorded.watermark_ms,
            minted_ns: 0,
            recorded,
            ahead: None,
            repair_rows_max: 1,
            merging: true,
            caught_up: BTreeSet::new(),
            reach: None,
            stop_sent: false,
            settled: false,
            finished: false,
            dumping: Dumping::new(workers),
            controlling: Controlling::new(workers),
            short_ns: None,
            fault: None,
        }
    }

    /// Touched rows that an epoch reads again, over all workers; as many as it takes in records if those are more.
    pub fn repairing(mut self, rows_max: usize) -> Self {
        self.repair_rows_max = rows_max;
        self
    }

    /// Takes a worker's report; one that is out of date is ignored.
    pub fn report(&mut self, report: Report) {
        let worker = report.worker as usize;
        self.dumping.report(&report);
        self.controlling.report(&report);
        if report.next == self.next {
            self.reports[worker] = Some(report);
        }
    }

    /// Has what is kept dumped from the end of the next epoch on, unless an earlier cut is still on its way.
    pub fn cut(&mut self) {
        self.dumping.want();
    }

    /// Has what is kept dumped at the end of the last epoch, so that the next run has nothing to repeat.
    pub fn cutting_last(mut self, cuts_last: bool) -> Self {
        self.dumping.want_last(cuts_last);
        self
    }

    /// With a control stream, of which this comes first.
    #[must_use]
    pub fn controlled(mut self, first: ControlNext) -> Self {
        self.controlling.set(first);
        self
    }

    /// Takes note of what comes next on the control stream.
    pub fn control(&mut self, next: ControlNext) {
        self.controlling.set(next);
    }

    /// The group of control messages that is next and that a process could not make a deployment of, and why: it is not bound.
    pub fn refused(&mut self) -> Option<(DeploymentNumber, String)> {
        self.controlling.give_up()
    }

    /// A cut that every process has on disk, and whose outputs are all acknowledged; named once.
    pub fn whole(&mut self) -> Option<Epoch> {
        self.dumping.whole()
    }

    /// Whether the source still is the one that was recorded. The error says why not.
    pub fn check(&mut self, now_ns: u64) -> Result<(), String> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        let group = self.ahead.as_ref().and_then(|ahead| ahead.control.as_ref());
        if let Some(reason) = group.and_then(|group| self.controlling.fault(group.number)) {
            return Err(format!("a control message cannot be repeated: {reason}"));
        }
        let Some((lane, upper, reached)) = self.short() else {
            self.short_ns = None;
            return Ok(());
        };
        let since = *self.short_ns.get_or_insert(now_ns);
        if now_ns.saturating_sub(since) < SHORT_NS_MAX {
            return Ok(());
        }
        Err(format!(
            "{} ends at {reached}, but {upper} records or offsets of it were read when --state \
             was written: it was cut off or made anew; name another --state",
            lane.in_words()
        ))
    }

    /// A lane that ends before what the next recorded binding takes of it, where that is and where it ends.
    fn short(&self) -> Option<(Lane, u64, u64)> {
        let uppers = &self.ahead.as_ref()?.uppers;
        let mut reports = self.reports.iter();
        if !reports.all(|report| report.as_ref().is_some_and(|report| !report.loading)) {
            return None;
        }
        uppers.iter().find_map(|(&lane, &upper)| {
            let offer = self.offers().find(|offer| offer.lane == lane);
            let reached = offer.map_or(0, |offer| offer.came);
            (reached < upper && offer.is_none_or(|offer| offer.spent)).then_some((lane, upper, reached))
        })
    }

    /// The end, whatever is recorded or waits.
    pub fn end(&mut self) -> Word {
        self.finished = true;
        Word::End
    }

    /// What the workers are to do next, if it is time. `left` is the first epoch that has not left the engine yet.
    pub fn mint(&mut self, now_ns: u64, left: Epoch) -> Option<Word> {
        if self.finished || self.fault.is_some() {
            return None;
        }
        self.look_ahead();
        if let Some(word) = self.prepare() {
            return Some(word);
        }
        let reach = self.reach.map(|(reach, _)| reach);
        let stale = |report: &Option<Report>| report.as_ref().is_none_or(|report| report.reach != reach);
        if self.next.saturating_sub(left) >= IN_FLIGHT_MAX || self.reports.iter().any(stale) {
            return None;
        }
        let settled = self.ended() && left >= self.next;
        let mut word = if self.ahead.is_none() { self.decide(now_ns, left)? } else { self.repeat()? };
        if let Word::Bind(binding) = &mut word {
            if binding.epoch >= self.recorded.until {
                if self.pace == Pace::Live {
                    binding.control = self.controlling.take().map(Box::new);
                }
                binding.dump = self.dumping.of(binding.epoch, binding.last);
            }
            self.next = binding.epoch + 1;
            self.watermark_ms = binding.watermark_ms;
            self.minted_ns = now_ns;
            self.stop_sent |= binding.stop;
            self.settled = settled;
            self.finished = binding.last;
            self.reach = None;
            self.reports.fill(None);
        }
        Some(word)
    }

    /// Has deployments made that an epoch will have.
    fn prepare(&mut self) -> Option<Word> {
        match self.ahead.as_ref() {
            Some(ahead) => ahead.control.as_ref().and_then(|group| self.controlling.ask(group)),
            None if self.repeating() > 0 => None,
            None => self.controlling.ask_next(),
        }
    }

    fn decide(&mut self, now_ns: u64, left: Epoch) -> Option<Word> {
        let stop = !self.stop_sent && self.reports().any(|report| report.stopping);
        if self.reports().any(|report| report.loading) {
            // Stopped, or failed, before the references were there: nothing is scored without them.
            let end = Binding { stop: true, last: true, ..self.binding(self.watermark_ms) };
            return (stop || self.stop_sent).then_some(Word::Bind(end));
        }
        if let Some((_, watermark_ms)) = self.reach {
            return Some(Word::Bind(Binding { stop, ..self.taking(watermark_ms) }));
        }
        self.look();
        let fresh = self.offers().any(|offer| offer.records > 0);
        let idle = left >= self.next;
        let (ended, live) = (self.ended(), self.pace == Pace::Live);
        let control_ms = self.controlling.due_ms();
        if !live && self.controlling.is_waited_for() && !stop && !self.stop_sent {
            return None;
        }
        let due = !ended
            && match self.merging {
                true => fresh && self.events().all(|offer| self.is_ready(offer)),
                false => fresh && (idle || now_ns.saturating_sub(self.minted_ns) >= WAIT_NS_MAX),
            };
        let backlog = self.reports().any(|report| report.backlog > 0);
        let last = ended && (!live || self.settled && !backlog);
        // A replay's epochs do not depend on when something is idle: what waits is repaired along with its records, and at
        // the end by itself.
        let controlled = control_ms.is_some();
        if !(due || stop || last || live && idle && (backlog || ended || controlled || self.dumping.all_dumped())) {
            return None;
        }
        if !live && (due || last) && control_ms.is_some_and(|ms| !self.any_before(ms)) {
            let control = self.controlling.take().map(Box::new);
            return Some(Word::Bind(Binding { stop, control, ..self.binding(self.watermark_ms) }));
        }
        if !due {
            return Some(Word::Bind(Binding { stop, last, ..self.binding(self.watermark_ms) }));
        }
        if !self.merging {
            return Some(Word::Bind(Binding { stop, ..self.taking(self.live_watermark()) }));
        }
        let even = self.is_even();
        let reach = self.next_reach().filter(|_| !even);
        let latest_ms = self.events().map(|offer| offer.clock_ms).max().unwrap_or(self.watermark_ms);
        match control_ms.map_or(reach, |ms| before_control(ms, reach, latest_ms, self.offers())) {
            Some((reach, watermark_ms)) => {
                self.reach = Some((reach, watermark_ms));
                Some(Word::Reach(self.next, reach))
            }
            None => {
                let watermark_ms = self.even_watermark();
                self.merging &= !(even && self.pace == Pace::Live);
                Some(Word::Bind(Binding { stop, ..self.taking(watermark_ms) }))
            }
        }
    }

    /// Takes note of which partitions are at their end, and of a live one that has fallen behind.
    fn look(&mut self) {
        let at_end: Vec<_> = self.events().filter(|offer| offer.at_end).map(|offer| offer.lane).collect();
        if self.merging {
            self.caught_up.extend(at_end);
            self.merging =
                self.pace == Pace::Bounded || !self.is_even() || self.offers().any(|offer| offer.records > 0);
            return;
        }
        let latest = self.events().map(|offer| offer.clock_ms).max().unwrap_or(i64::MIN);
        let behind =
            |offer: &Offer| offer.ripe && !offer.at_end && offer.clock_ms < latest.saturating_sub(self.skew_ms);
        if self.events().any(behind) {
            self.merging = true;
            self.caught_up = at_end.into_iter().collect();
        }
    }

    /// Whether all that is left fits into one epoch: every partition is at its end, in a run has been there.
    fn is_even(&self) -> bool {
        let even = |offer: &Offer| offer.whole && self.has_ended(offer);
        !self.stop_sent && self.events().next().is_some() && self.events().all(even)
    }

    /// Whether a partition is at its end, or in a run known to be near it.
    fn has_ended(&self, offer: &Offer) -> bool {
        // A partition whose reader was stopped has not ended: it goes on from here after a restart.
        offer.at_end || offer.end && !self.stop_sent || self.pace == Pace::Live && self.caught_up.contains(&offer.lane)
    }

    /// Whether a partition holds nobody back for now. One that is empty but not yet quiet may go on at any moment.
    fn is_done(&self, offer: &Offer) -> bool {
        offer.records == 0
            && match self.pace {
                Pace::Live => offer.idle || offer.end && !self.stop_sent,
                Pace::Bounded => self.has_ended(offer),
            }
    }

    /// Whether a partition offers all that an epoch may take of it, as far as that can be known now.
    fn is_ready(&self, offer: &Offer) -> bool {
        let rest = offer.records > 0 && (self.has_ended(offer) || offer.end && !self.is_merge());
        offer.ripe || rest || self.is_done(offer)
    }

    /// Whether partitions are told apart by time: there are several, or references with times of their own.
    fn is_merge(&self) -> bool {
        self.events().count() > 1 || self.offers().any(|offer| !offer.lane.is_events() && offer.merge_ms > i64::MIN)
    }

    /// Whether no record will be bound any more: all were, or a partition that was stopped lacks the records that the next
    /// epoch takes of it.
    fn ended(&self) -> bool {
        let fresh = self.offers().any(|offer| offer.records > 0);
        let blocked = |offer: &Offer| offer.end && !self.is_ready(offer) && !self.has_ended(offer);
        !fresh && self.reports().all(|report| report.done)
            || self.stop_sent && self.merging && self.is_merge() && self.events().any(blocked)
    }

    /// Where the next epoch ends, with the watermark there; `None` if it takes all that is offered.
    fn next_reach(&self) -> Option<(Reach, i64)> {
        let waited_for = self.events().filter(|offer| !self.is_done(offer));
        let before_ms = waited_for.map(|offer| offer.merge_ms).min().filter(|_| self.is_merge())?;
        let before = self.offers().any(|offer| offer.first_ms < before_ms);
        let ties_of = self.events().filter(|offer| offer.first_ms == before_ms).map(|offer| offer.lane).min();
        let ties_of = if before { None } else { ties_of };
        // A leap in doubt does not move event time.
        let latest = self.events().map(|offer| offer.clock_ms).max()?;
        Some((Reach { before_ms, ties_of }, latest.min(before_ms.saturating_sub(1))))
    }

    /// Whether any record that is offered comes before control messages of this time.
    fn any_before(&self, ms: i64) -> bool {
        self.offers().any(|offer| offer.records > 0 && offer.first_ms < ms)
    }

    /// Recorded bindings that have not been minted again yet.
    pub fn repeating(&self) -> u64 {
        self.recorded.until.saturating_sub(self.next)
    }

    /// Recorded epochs that have not left the engine again yet, if that is open before `left`.
    pub fn recovering(&self, left: Epoch) -> u64 {
        self.recorded.until.saturating_sub(left.min(self.next))
    }

    /// Fetches the next recorded binding.
    fn look_ahead(&mut self) {
        if self.ahead.is_none() && self.fault.is_none() && self.repeating() > 0 {
            match self.recorded.next_binding() {
                Ok(ahead) => self.ahead = ahead,
                Err(reason) => self.fault = Some(reason),
            }
        }
    }

    /// The next recorded binding, once its records are there. Asked to stop, it ends there: what is recorded stays so.
    fn repeat(&mut self) -> Option<Word> {
        if self.reports().any(|report| report.stopping) {
            // An empty epoch in the place of a recorded one would be taken for it.
            return Some(self.end());
        }
        let binding = self.ahead.as_ref()?;
        let there =
            |(lane, upper): (&Lane, &u64)| self.offers().any(|offer| offer.lane == *lane && offer.came >= *upper);
        let made = binding.control.as_ref().is_none_or(|group| self.controlling.is_made(group.number));
        if !made || !binding.uppers.iter().all(there) {
            return None;
        }
        let next = self.next;
        let dump = self.recorded.dump_at.filter(|at| *at == next).map(|_| Dump::Whole);
        // What was read ahead is judged as a backlog is, whatever the earlier run did.
        let as_recorded = |binding| Binding { epoch: next, merging: true, dump, last: false, stop: false, ..binding };
        self.ahead.take().map(as_recorded).map(Word::Bind)
    }

    /// The watermark once everything that is offered is taken: a run goes on from there, a replay is at its end, or has one
    /// partition alone.
    fn even_watermark(&self) -> i64 {
        match self.pace {
            Pace::Live => self.live_watermark(),
            Pace::Bounded => self.events().map(|offer| offer.clock_ms).max().unwrap_or(self.watermark_ms),
        }
    }

    /// The smallest event time that a partition which is not idle has reached. Until every partition has delivered
    /// something, or is idle, event time does not move.
    fn live_watermark(&self) -> i64 {
        let ended = |offer: &Offer| offer.end && !self.stop_sent;
        let live = self.events().filter(|offer| !offer.idle && !ended(offer)).map(|offer| offer.clock_ms).min();
        live.or_else(|| self.events().map(|offer| offer.clock_ms).max()).unwrap_or(self.watermark_ms)
    }

    /// A binding of everything that is offered.
    fn taking(&self, watermark_ms: i64) -> Binding {
        let taken = || self.offers().filter(|offer| offer.records > 0);
        let refused = |offer: &Offer| {
            let lane = offer.lane;
            offer.refused.iter().map(move |&offset| (lane, offset)).collect::<Vec<_>>()
        };
        Binding {
            uppers: taken().map(|offer| (offer.lane, offer.upper)).collect(),
            refused: taken().flat_map(refused).collect(),
            repair: self.repair(self.events().map(|offer| offer.records).sum()),
            ..self.binding(watermark_ms)
        }
    }

    /// A binding of nothing.
    fn binding(&self, watermark_ms: i64) -> Binding {
        Binding {
            epoch: self.next,
            uppers: Default::default(),
            refused: Vec::new(),
            watermark_ms: watermark_ms.max(self.watermark_ms),
            repair: self.repair(0),
            dump: None,
            control: None,
            merging: self.merging,
            stop: false,
            last: false,
        }
    }

    /// How much an epoch of so many records repairs. A replay's must not depend on how far the epochs before it have come, so
    /// it says nothing of keys; its offers are ripe, which is the same records every time.
    fn repair(&self, records: u64) -> Repair {
        let keys = match self.pace {
            Pace::Live => self.reports().map(|report| report.backlog).sum(),
            Pace::Bounded => 0,
        };
        let at_end = if self.ended() { REPAIR_ROWS_AT_END } else { 0 };
        Repair::of(self.repair_rows_max.max(at_end), records, keys)
    }

    fn reports(&self) -> impl Iterator<Item = &Report> {
        self.reports.iter().flatten()
    }

    fn offers(&self) -> impl Iterator<Item = &Offer> {
        self.reports().flat_map(|report| &report.offers)
    }

    fn events(&self) -> impl Iterator<Item = &Offer> {
        self.offers().filter(|offer| offer.lane.is_events())
    }
}
