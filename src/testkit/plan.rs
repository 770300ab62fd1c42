//! What arrives when: events in epochs, with watermarks.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::event::{Event, IdType, Raw};
use crate::flow::{Arrival, EpochInput, ReferenceRecord};

/// How a sequence of events is cut into epochs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Batching {
    /// All in one epoch.
    One,
    /// One event per epoch.
    EachEvent,
    /// So many events per epoch.
    Fixed(usize),
    /// Between one and 200 events per epoch, by a seed.
    Random(u64),
}

/// The most events of an epoch with random batching.
const RANDOM_EVENTS_MAX: usize = 200;

/// A record on its way in.
#[derive(Clone, Debug)]
pub enum Input {
    /// An event.
    Event(Event),
    /// A row of a reference, or a deletion; whom it is for is filled in by the harness.
    Reference(ReferenceRecord),
}

impl Input {
    fn event(&self) -> Option<&Event> {
        if let Input::Event(event) = self { Some(event) } else { None }
    }

    fn reference(&self) -> Option<&ReferenceRecord> {
        if let Input::Reference(record) = self { Some(record) } else { None }
    }
}

/// A sequence of epochs.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The epochs.
    pub epochs: Vec<EpochInput>,
    events: u64,
}

impl Plan {
    /// Cuts events into epochs. The watermark is the largest event time so far.
    pub fn of(events: &[Event], batching: Batching) -> Self {
        Plan::cut(events, batching, |plan, now| plan.push(now.iter().cloned()))
    }

    /// Cuts events and reference records, in order of arrival, into epochs.
    pub fn of_inputs(inputs: &[Input], batching: Batching) -> Self {
        Plan::cut(inputs, batching, |plan, now| {
            plan.push(now.iter().filter_map(Input::event).cloned());
            plan.refer(now.iter().filter_map(Input::reference).cloned());
        })
    }

    fn cut<T>(mut rest: &[T], batching: Batching, mut epoch: impl FnMut(&mut Plan, &[T])) -> Self {
        let mut plan = Plan::default();
        let mut random = ChaCha8Rng::seed_from_u64(match batching {
            Batching::Random(seed) => seed,
            _ => 0,
        });
        while !rest.is_empty() {
            let size = match batching {
                Batching::One => rest.len(),
                Batching::EachEvent => 1,
                Batching::Fixed(size) => size.max(1),
                Batching::Random(_) => random.random_range(1..=RANDOM_EVENTS_MAX),
            };
            let (now, later) = rest.split_at(size.min(rest.len()));
            epoch(&mut plan, now);
            rest = later;
        }
        plan
    }

    /// Adds an epoch with these events. The watermark moves on to the largest event time so far.
    pub fn push(&mut self, events: impl IntoIterator<Item = Event>) {
        let mut watermark_ms = self.watermark_ms();
        let mut arrivals = Vec::new();
        for event in events {
            watermark_ms = watermark_ms.max(event.time);
            arrivals.push(Arrival { event, partition: 0, offset: self.events, arrived_ns: 0, raw: Raw::default() });
            self.events += 1;
        }
        self.epochs.push(EpochInput { arrivals, references: Vec::new(), watermark_ms });
    }

    /// Adds reference records to the last epoch, in order of arrival.
    pub fn refer(&mut self, records: impl IntoIterator<Item = ReferenceRecord>) {
        if self.epochs.is_empty() {
            self.wait_until(i64::MIN);
        }
        let Some(epoch) = self.epochs.last_mut() else { return };
        for record in records {
            epoch.references.push(ReferenceRecord { offset: self.events, ..record });
            self.events += 1;
        }
    }

    /// Adds an epoch without events that moves the watermark on.
    pub fn wait_until(&mut self, watermark_ms: i64) {
        let watermark_ms = watermark_ms.max(self.watermark_ms());
        self.epochs.push(EpochInput { watermark_ms, ..EpochInput::default() });
    }

    /// The watermark after the last epoch; `i64::MIN` before the first.
    pub fn watermark_ms(&self) -> i64 {
        self.epochs.last().map_or(i64::MIN, |epoch| epoch.watermark_ms)
    }

    /// The events, in order of arrival.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.epochs.iter().flat_map(|epoch| &epoch.arrivals).map(|arrival| &arrival.event)
    }

    /// The same epochs with events dealt to so many partitions: all records of an id to one, in order.
    pub(super) fn dealt(mut self, partitions: usize, ids: IdType) -> Self {
        for arrival in self.epochs.iter_mut().flat_map(|epoch| &mut epoch.arrivals) {
            arrival.partition = (arrival.event.id.map_key(ids).route() % partitions as u64) as u32;
        }
        self
    }
}
