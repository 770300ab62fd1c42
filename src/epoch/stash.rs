//! Decoded records that wait for the epoch they will belong to, per partition.

use std::collections::{BTreeMap, VecDeque};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{Bound, Offer};
use crate::arrange::enrich::ReferenceRecord;
use crate::arrange::upsert::Arrival;
use crate::decode::Reject;
use crate::runtime::service::LATE_BASE;
use crate::source::Partition;
use crate::source::reference::PARTITION_BASE;

/// A record after decoding.
#[derive(Debug)]
pub enum Decoded {
    /// An event.
    Event(Arrival),
    /// Not an event.
    Reject(Reject),
    /// An event with the answers of services, which enter the same epoch.
    Answered(Box<(Arrival, Vec<ReferenceRecord>)>),
    /// A row of a reference collection, or a late answer.
    Reference(ReferenceRecord),
}

#[derive(Debug)]
struct Waiting {
    offset: u64,
    /// The largest event time of the partition up to here.
    time_ms: i64,
    decoded: Decoded,
}

#[derive(Debug, Default)]
struct Lane {
    waiting: VecDeque<Waiting>,
    /// Offset after the last record bound.
    bound: u64,
    /// The largest event time of what is bound.
    bound_ms: Option<i64>,
    /// The largest event time of all that came.
    time_ms: Option<i64>,
    last_ns: u64,
    /// Of a reference, not of events.
    reference: bool,
    /// A hash of the first record that came; 0 before it.
    first: u64,
}

/// A partition with nothing new for this long, that its source has caught up with, holds nobody back, nanoseconds.
const IDLE_NS: u64 = 500_000_000;

/// Tells a record from another one at its place: its bytes, or the id and time of what was never bytes. Never 0.
fn fingerprint(offset: u64, decoded: &Decoded) -> u64 {
    let of_arrival = |arrival: &Arrival| match &*arrival.raw.bytes {
        [] => {
            let event = &arrival.event;
            let words = [event.id.hi, event.id.lo, event.time as u64].map(u64::to_le_bytes);
            xxh3_64_with_seed(&words.concat(), offset)
        }
        bytes => xxh3_64_with_seed(bytes, offset),
    };
    let hash = match decoded {
        Decoded::Event(arrival) => of_arrival(arrival),
        Decoded::Answered(answered) => of_arrival(&answered.0),
        Decoded::Reject(reject) => xxh3_64_with_seed(&reject.raw.bytes, offset),
        Decoded::Reference(_) => offset,
    };
    hash | 1
}

/// What a worker has decoded and not bound yet.
#[derive(Debug)]
pub struct Stash {
    lanes: BTreeMap<Partition, Lane>,
    len: usize,
    /// Records of references among them.
    references: usize,
    /// Records of a partition that an epoch takes at most.
    share: usize,
    through_ms: i64,
}

impl Stash {
    /// For epochs of at most so many records per partition.
    pub fn new(share: usize) -> Self {
        Stash { lanes: BTreeMap::new(), len: 0, references: 0, share, through_ms: i64::MIN }
    }

    /// Makes a partition known.
    pub fn lane(&mut self, partition: Partition, now_ns: u64) {
        self.lanes.entry(partition).or_insert_with(|| Lane { last_ns: now_ns, ..Lane::default() });
    }

    /// Adds a record.
    pub fn push(&mut self, partition: Partition, offset: u64, now_ns: u64, decoded: Decoded) {
        let reference = partition >= PARTITION_BASE;
        let lane = self.lanes.entry(partition).or_insert_with(|| Lane { reference, ..Lane::default() });
        if lane.first == 0 && !reference {
            lane.first = fingerprint(offset, &decoded);
        }
        let time = match &decoded {
            Decoded::Event(arrival) => arrival.event.time,
            Decoded::Answered(answered) => answered.0.event.time,
            // A late answer's time is its event's.
            Decoded::Reference(_) if partition >= LATE_BASE => i64::MIN,
            Decoded::Reject(_) => i64::MIN,
            Decoded::Reference(record) => record.time,
        };
        let time_ms = lane.time_ms.unwrap_or(i64::MIN).max(time);
        let mut decoded = decoded;
        if let Decoded::Reference(record) = &mut decoded
            && partition < LATE_BASE
        {
            // Records of one partition keep their order, whatever times they carry.
            record.time = time_ms;
        }
        (lane.time_ms, lane.last_ns) = (Some(time_ms), now_ns);
        lane.waiting.push_back(Waiting { offset, time_ms, decoded });
        self.len += 1;
        self.references += usize::from(reference);
    }

    /// Events and rejects waiting, without the references'.
    pub fn events(&self) -> usize {
        self.len - self.references
    }

    /// Records waiting.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What is offered of each partition. `closed`: nothing more will be added; `caught_up`: the source has no more for
    /// now.
    pub fn offers(&self, closed: bool, caught_up: bool, now_ns: u64) -> Vec<Offer> {
        self.lanes.iter().map(|(&partition, lane)| self.offer(partition, lane, closed, caught_up, now_ns)).collect()
    }

    fn offer(&self, partition: Partition, lane: &Lane, closed: bool, caught_up: bool, now_ns: u64) -> Offer {
        // A new version of a collection comes in as a whole.
        let share = if lane.reference { usize::MAX } else { self.share };
        let mut records = lane.waiting.len().min(share);
        // The share must lead beyond the last common event time, or merging partitions would not advance.
        while records > 0 && records < lane.waiting.len() && lane.waiting[records - 1].time_ms <= self.through_ms {
            records += 1;
        }
        let whole = records == lane.waiting.len();
        let last = records.checked_sub(1).map(|last| &lane.waiting[last]);
        let quiet = now_ns.saturating_sub(lane.last_ns) >= IDLE_NS;
        let beyond = last.is_some_and(|last| last.time_ms > self.through_ms);
        Offer {
            partition,
            upper: last.map_or(lane.bound, |last| last.offset + 1),
            records: records as u64,
            time_ms: last.map_or(lane.bound_ms.unwrap_or(i64::MIN), |last| last.time_ms),
            ripe: lane.reference || closed && whole || records >= self.share && beyond,
            idle: records == 0 && caught_up && quiet,
            end: closed && whole,
            reference: lane.reference,
            first: lane.first,
            spent: closed || caught_up,
        }
    }

    /// Whether some partition needs more records before its offer is ripe, however many wait.
    pub fn wants_more(&self) -> bool {
        let mut lanes = self.lanes.values().filter(|lane| !lane.reference);
        lanes.any(|lane| lane.waiting.back().is_none_or(|last| last.time_ms <= self.through_ms))
    }

    /// Takes out the records of a bound, in partition and offset order.
    pub fn take(&mut self, bound: &Bound, mut take: impl FnMut(Decoded)) {
        if let Bound::Through(through_ms) = bound {
            self.through_ms = *through_ms;
        }
        for (partition, lane) in &mut self.lanes {
            let belongs = |waiting: &Waiting| match bound {
                Bound::Offsets(uppers) => uppers.get(partition).is_some_and(|upper| waiting.offset < *upper),
                Bound::Through(through_ms) => waiting.time_ms <= *through_ms,
            };
            while lane.waiting.front().is_some_and(belongs) {
                let Some(waiting) = lane.waiting.pop_front() else { break };
                (lane.bound, lane.bound_ms) = (waiting.offset + 1, Some(waiting.time_ms));
                self.len -= 1;
                self.references -= usize::from(lane.reference);
                take(waiting.decoded);
            }
        }
    }

    /// The offset after the last record bound, per partition that has any.
    pub fn bound(&self) -> BTreeMap<Partition, u64> {
        let begun = self.lanes.iter().filter(|(_, lane)| lane.bound_ms.is_some());
        begun.map(|(&partition, lane)| (partition, lane.bound)).collect()
    }
}
