//! Decoded records that wait for the epoch they will belong to, per lane.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::PartitionBounds;
use super::clock::End;
use super::queue::{LaneEnd, Queue};
use crate::event::{Lane, Partition};
use crate::flow::{Binding, Decoded, Offer, Reach};

/// Records that wait, over all partitions of events: beyond it the reader is left alone, so that its queue fills and it
/// stops fetching.
pub const STASH_RECORDS_MAX: usize = 65_536;

/// Shares of an epoch that a partition may be ahead before it is held, at least.
const SHARES_AHEAD_MIN: usize = 2;

/// A partition of a run that has not been heard of for so many idle bounds is given up for now, even if its source does not
/// say that it is at its end: its broker may be away for long, and the others must not wait for it.
const SILENT_IDLES: u64 = 60;

/// What a worker has decoded and not bound yet.
#[derive(Debug)]
pub struct Stash {
    queues: BTreeMap<Lane, Queue>,
    len: usize,
    /// Records of references among them.
    references: usize,
    bounds: PartitionBounds,
    /// Records come in as they happen: a partition may be silent for long.
    live: bool,
    /// What the authority has asked the next offers to end before.
    reach: Option<Reach>,
    /// Partitions are merged: a record whose time is in doubt may wait for the ones behind it.
    merging: bool,
    /// Partitions that are so far ahead of the others that their reader should leave them alone.
    held: Vec<Partition>,
    /// Where an earlier run has brought the lanes.
    resumed: Arc<BTreeMap<Lane, LaneEnd>>,
}

impl Stash {
    /// Nothing waits yet. `live`: records come in as they happen.
    pub fn new(bounds: PartitionBounds, live: bool) -> Self {
        let (queues, held) = Default::default();
        Stash { queues, len: 0, references: 0, bounds, live, reach: None, merging: true, held, resumed: Arc::default() }
    }

    /// Has lanes go on where an earlier run was, whenever they are found.
    pub fn resuming(mut self, ends: Arc<BTreeMap<Lane, LaneEnd>>) -> Self {
        self.resumed = ends;
        self
    }

    /// Makes a lane known.
    pub fn queue(&mut self, lane: Lane, now_ns: u64) -> &mut Queue {
        let (future_ms, resumed) = (self.bounds.future_ms, &self.resumed);
        self.queues.entry(lane).or_insert_with(|| {
            let mut queue = Queue::new(lane, future_ms, now_ns);
            if let Some(end) = resumed.get(&lane) {
                queue.resume(*end);
            }
            queue
        })
    }

    /// Where the last epoch has brought the lanes.
    pub fn ends(&self) -> impl Iterator<Item = (Lane, LaneEnd)> {
        self.queues.iter().map(|(&lane, queue)| (lane, queue.end()))
    }

    /// Adds a record; `wall_ms` is the wall clock at its arrival in a run.
    pub fn push(&mut self, lane: Lane, offset: u64, now_ns: u64, wall_ms: Option<i64>, decoded: Decoded) {
        let queue = self.queue(lane, now_ns);
        let reference = queue.is_reference();
        if queue.push(offset, now_ns, wall_ms, decoded) {
            self.len += 1;
            self.references += usize::from(reference);
        }
    }

    /// Notes which partitions of the input have no more, by the offset after their last record, and whether that is for good. `all`: of
    /// those that are not named.
    pub fn look(&mut self, all: End, ends: &[(Partition, u64)], named: End) {
        for (lane, queue) in &mut self.queues {
            let here = |ended: Partition| Lane::of_events(ended) == *lane;
            let end = ends.iter().find(|&&(ended, end)| here(ended) && queue.next() >= end);
            queue.look(if end.is_some() { named } else { all }, self.merging);
        }
    }

    /// Nothing more will be added.
    pub fn close(&mut self) {
        self.queues.values_mut().for_each(Queue::close);
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

    /// Whether the reader is to be left alone for now: enough waits, and no partition lacks records.
    pub fn is_full(&self) -> bool {
        self.events() >= STASH_RECORDS_MAX
            && !self.queues.values().any(|queue| queue.wants_more(self.bounds.records_max))
    }

    /// Partitions that are far ahead of the others, if there are others than last time. One that is held stays so until half
    /// of what waits of it is bound.
    pub fn hold(&mut self) -> Option<&[Partition]> {
        let partitions = self.queues.keys().filter(|lane| lane.is_events()).count();
        let ahead = (STASH_RECORDS_MAX / partitions.max(1)).max(SHARES_AHEAD_MIN * self.bounds.records_max);
        let far = |(lane, queue): (&Lane, &Queue)| {
            let held = self.held.binary_search(&lane.partition).is_ok();
            let limit = if held { ahead / 2 } else { ahead };
            (lane.is_events() && queue.len() >= limit).then_some(lane.partition)
        };
        let held: Vec<Partition> = self.queues.iter().filter_map(far).collect();
        (held != self.held).then(|| {
            self.held = held;
            &self.held[..]
        })
    }

    /// Has the next offers end before a reach.
    pub fn reach(&mut self, reach: Reach) {
        self.reach = Some(reach);
    }

    /// What is offered of each lane, and the reach that it ends before. `closed`: nothing more will be added.
    pub fn offers(&self, closed: bool, now_ns: u64) -> (Vec<Offer>, Option<Reach>) {
        let silent_ns = if self.live { self.bounds.idle_ns().saturating_mul(SILENT_IDLES) } else { u64::MAX };
        let offer = |queue: &Queue| queue.offer(&self.bounds, self.reach, closed, queue.quiet_ns(now_ns), silent_ns);
        (self.queues.values().map(offer).collect(), self.reach)
    }

    /// Takes out the records of an epoch, in the order of lanes and offsets; with each whether its time is refused.
    pub fn take(&mut self, binding: &Binding, mut take: impl FnMut(Decoded, bool)) {
        self.reach = None;
        self.merging = binding.merging;
        for (lane, upper) in &binding.uppers {
            let Some(queue) = self.queues.get_mut(lane) else { continue };
            let (reference, before) = (queue.is_reference(), queue.len());
            let refused = |offset| binding.refused.contains(&(*lane, offset));
            queue.take(*upper, refused, &mut take);
            let taken = before - queue.len();
            self.len -= taken;
            self.references -= if reference { taken } else { 0 };
        }
    }
}
