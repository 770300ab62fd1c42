//! One lane's records on their way to epochs.
//!
//! ```text
//!  push ─► [ waiting, unsettled ] ─settle─► [ waiting, settled: merge time, clock, refused? ] ─take─► epoch
//! ```
//!
//! A record is *settled* once it is known whether its time is believed ([`super::clock`]). Only settled records are offered.
//! Its *merge time* is the largest event time taken in up to it, so that it never goes back: partitions are merged by it.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::PartitionBounds;
use super::clock::{End, Evidence, PartitionClock};
use crate::event::{InputStream, Lane, Op};
use crate::flow::{Decoded, Offer, Reach};

/// A record that waits.
#[derive(Debug)]
struct Waiting {
    offset: u64,
    /// Its own event time, if it says anything about time.
    time_ms: Option<i64>,
    /// The wall clock at its arrival in a run.
    wall_ms: Option<i64>,
    /// Once settled: the merge time, else `i64::MAX`.
    merge_ms: i64,
    /// Once settled: the partition's clock up to here; `i64::MIN` before its first record.
    clock_ms: i64,
    /// Once settled: its time is not believed.
    refused: bool,
    decoded: Decoded,
}

/// The records of one lane that are not bound yet, and how far it has come.
#[derive(Debug)]
pub struct Queue {
    lane: Lane,
    waiting: VecDeque<Waiting>,
    /// So many of them are settled.
    settled: usize,
    /// Refused records among them, by offset.
    refused: VecDeque<u64>,
    clock: PartitionClock,
    /// The merge time of the last settled record.
    merge_ms: i64,
    /// The last record bound: offset after it, merge time, clock.
    bound: (u64, i64, i64),
    /// The offset after the last record that came.
    next: u64,
    /// The source has no more for now.
    at_end: bool,
    heard_ns: u64,
}

/// Where a lane has come to at the end of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneEnd {
    /// The offset after the last record that was bound.
    pub upper: u64,
    /// Its merge time, milliseconds.
    pub merge_ms: i64,
    /// The lane's clock there, milliseconds; `i64::MIN` before it has one.
    pub clock_ms: i64,
}

impl Queue {
    /// Of a lane that was just found.
    pub fn new(lane: Lane, future_ms: i64, now_ns: u64) -> Self {
        Queue {
            lane,
            waiting: VecDeque::new(),
            settled: 0,
            refused: VecDeque::new(),
            clock: PartitionClock::new(future_ms),
            merge_ms: i64::MIN,
            bound: (0, i64::MIN, i64::MIN),
            next: 0,
            at_end: false,
            heard_ns: now_ns,
        }
    }

    /// Goes on where an earlier run was: what came before is not taken in again. Leaps that were in doubt then are forgotten.
    pub fn resume(&mut self, end: LaneEnd) {
        let LaneEnd { upper, merge_ms, clock_ms } = end;
        self.bound = (upper, merge_ms, clock_ms);
        self.next = self.next.max(upper);
        self.merge_ms = merge_ms;
        if clock_ms > i64::MIN {
            self.clock.confirm(clock_ms);
        }
    }

    /// Where the last epoch has brought it.
    pub fn end(&self) -> LaneEnd {
        let (upper, merge_ms, clock_ms) = self.bound;
        LaneEnd { upper, merge_ms, clock_ms }
    }

    /// Adds a record; `wall_ms` is the wall clock at its arrival in a run. Says whether it is new.
    pub fn push(&mut self, offset: u64, now_ns: u64, wall_ms: Option<i64>, decoded: Decoded) -> bool {
        if offset < self.bound.0 {
            return false;
        }
        (self.next, self.heard_ns) = (offset + 1, now_ns);
        let time_ms = self.time_of(&decoded);
        self.waiting.push_back(Waiting {
            offset,
            time_ms,
            wall_ms,
            merge_ms: i64::MAX,
            clock_ms: i64::MIN,
            refused: false,
            decoded,
        });
        self.settle(End::No);
        true
    }

    /// The event time that a record states, if the clock is to hear of it.
    fn time_of(&self, decoded: &Decoded) -> Option<i64> {
        let event = match decoded {
            Decoded::Event(arrival) => &arrival.event,
            Decoded::Answered(answered) => &answered.0.event,
            // A late answer's time is its event's.
            Decoded::Reference(record) => return (self.lane.stream != InputStream::LateAnswers).then_some(record.time),
            Decoded::Reject(_) => return None,
        };
        // A withdrawal may carry no time at all: it follows the others.
        let silent = event.op == Op::Withdraw && !self.clock.is_near(event.time);
        (!silent).then_some(event.time)
    }

    /// Settles as many records as can be.
    fn settle(&mut self, end: End) {
        while self.settled < self.waiting.len() {
            if self.settled == 0 && self.lane.is_events() {
                // A leap in doubt that has been bound holds up nothing behind it.
                self.merge_ms = self.clock.reached_ms().unwrap_or(i64::MIN);
            }
            let (time_ms, wall_ms) = (self.waiting[self.settled].time_ms, self.waiting[self.settled].wall_ms);
            let mut refused = false;
            match time_ms {
                // Rows of references keep their order, whatever times they carry; they move no clock.
                Some(time_ms) if self.is_reference() => self.merge_ms = self.merge_ms.max(time_ms),
                Some(time_ms) => {
                    match self.judge(time_ms, wall_ms, end) {
                        Some(Evidence::Wait) => return,
                        Some(Evidence::Against) => refused = true,
                        Some(Evidence::For) => self.clock.confirm(time_ms),
                        Some(Evidence::Undecided { .. }) | None => self.clock.follow(time_ms),
                    }
                    if !refused {
                        self.merge_ms = self.merge_ms.max(time_ms);
                    }
                }
                None => {}
            }
            let (merge_ms, clock_ms) = (self.merge_ms, self.clock.reached_ms().unwrap_or(i64::MIN));
            let record = &mut self.waiting[self.settled];
            (record.merge_ms, record.clock_ms, record.refused) = (merge_ms, clock_ms, refused);
            if let Decoded::Reference(row) = &mut record.decoded
                && time_ms.is_some()
            {
                row.time = merge_ms;
            }
            if refused {
                self.refused.push_back(record.offset);
            }
            self.settled += 1;
        }
    }

    /// What is to be thought of the next record's time; `None`: it is no leap.
    fn judge(&self, time_ms: i64, wall_ms: Option<i64>, end: End) -> Option<Evidence> {
        if self.clock.is_near(time_ms) {
            return None;
        }
        let following = self.waiting.range(self.settled + 1..).filter_map(|record| record.time_ms);
        let evidence = self.clock.evidence(time_ms, following, end);
        let beyond = wall_ms.is_some_and(|wall_ms| self.clock.is_beyond(time_ms, wall_ms));
        Some(match evidence {
            Evidence::Undecided { .. } if beyond => Evidence::Against,
            // Nobody is left whom it could make late but the last one or two.
            Evidence::Undecided { outvoted: false } if end == End::ForGood => Evidence::For,
            evidence => evidence,
        })
    }

    /// Notes whether the source has more. `patient`: a leap may wait for the records behind it.
    pub fn look(&mut self, end: End, patient: bool) {
        self.at_end = end != End::No;
        if self.settled < self.waiting.len() {
            self.settle(if patient { end } else { end.max(End::ForNow) });
        }
    }

    /// Gives up waiting for records behind a leap: none will come.
    pub fn close(&mut self) {
        self.settle(End::ForNow);
    }

    /// The offset after the last record that came.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Records waiting.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether rows of a reference wait here, or late answers.
    pub fn is_reference(&self) -> bool {
        !self.lane.is_events()
    }

    /// Whether more records must come before its offer is ripe.
    pub fn wants_more(&self, share: usize) -> bool {
        self.lane.is_events() && !self.at_end && self.settled < share
    }

    /// How long nothing has come, nanoseconds.
    pub fn quiet_ns(&self, now_ns: u64) -> u64 {
        now_ns.saturating_sub(self.heard_ns)
    }

    /// What is offered for the next epoch. `closed`: nothing more will ever be added. Nothing has come for `quiet_ns`; after
    /// `silent_ns` the partition is given up for now.
    pub fn offer(
        &self,
        bounds: &PartitionBounds,
        reach: Option<Reach>,
        closed: bool,
        quiet_ns: u64,
        silent_ns: u64,
    ) -> Offer {
        // A new version of a collection comes in as a whole.
        let share = if self.is_reference() { usize::MAX } else { bounds.records_max };
        let records = match reach {
            None => self.settled.min(share),
            Some(Reach { ties_of: Some(lane), before_ms }) if lane == self.lane => {
                self.waiting.partition_point(|record| record.merge_ms <= before_ms).min(share)
            }
            Some(Reach { before_ms, .. }) => self.waiting.partition_point(|record| record.merge_ms < before_ms),
        };
        let last = records.checked_sub(1).map(|last| &self.waiting[last]);
        let (upper, merge_ms, clock_ms) =
            last.map_or(self.bound, |last| (last.offset + 1, last.merge_ms, last.clock_ms));
        let whole = records == self.waiting.len();
        let silent = quiet_ns >= silent_ns;
        Offer {
            lane: self.lane,
            upper,
            records: records as u64,
            first_ms: self.waiting.front().map_or(i64::MAX, |first| first.merge_ms),
            merge_ms,
            clock_ms,
            ripe: self.is_reference() || records >= share,
            whole,
            at_end: whole && (self.at_end || silent),
            idle: records == 0 && (self.at_end && quiet_ns >= bounds.idle_ns() || silent),
            end: closed && whole,
            came: self.next,
            spent: self.at_end || closed,
            refused: self.refused.iter().copied().filter(|&offset| offset < upper).collect(),
        }
    }

    /// Takes out the records before an offset. `refused` says of an offset whether its record's time is not believed, as the
    /// epoch has it: a restart takes what an earlier run decided.
    pub fn take(&mut self, upper: u64, refused: impl Fn(u64) -> bool, mut take: impl FnMut(Decoded, bool)) {
        while self.waiting.front().is_some_and(|record| record.offset < upper) {
            let Some(record) = self.waiting.pop_front() else { break };
            let refused = refused(record.offset);
            if self.settled > 0 {
                self.settled -= 1;
                self.bound = (record.offset + 1, record.merge_ms, record.clock_ms);
            } else {
                if let (false, false, Some(time_ms)) = (refused, self.is_reference(), record.time_ms) {
                    self.clock.follow(time_ms);
                }
                let clock_ms = self.clock.reached_ms().unwrap_or(i64::MIN);
                self.bound = (record.offset + 1, clock_ms, clock_ms);
            }
            take(record.decoded, refused);
        }
        while self.refused.front().is_some_and(|&offset| offset < upper) {
            self.refused.pop_front();
        }
    }
}
