//! A source and a writer in memory, for whole jobs.

use std::sync::{Arc, Mutex, PoisonError};

use crate::event::{Event, IdType, Partition, Payload, Record, Stand};
use crate::sink::{OutputRecord, SinkError, Writer};
use crate::source::clock::now_ns;
use crate::source::{Reader, Ready, Source, SourceError, StartOffsets};

/// Events by partition, as a source.
#[derive(Clone, Debug)]
pub struct MemorySource {
    partitions: Arc<[Vec<Event>]>,
    until_ms: Option<i64>,
}

impl MemorySource {
    /// A source of these partitions.
    pub fn new(partitions: Vec<Vec<Event>>) -> Self {
        MemorySource { partitions: partitions.into(), until_ms: None }
    }

    /// The events dealt to so many partitions by their ids, which are without ranks.
    pub fn dealt(events: &[Event], partitions: usize) -> Self {
        let mut dealt = vec![Vec::new(); partitions];
        for event in events {
            dealt[(event.id.map_key(IdType::Text).route() % partitions as u64) as usize].push(event.clone());
        }
        Self::new(dealt)
    }

    /// Hands out the records of each partition up to the first that is later, and then waits for more, for ever.
    pub fn pausing_at(mut self, until_ms: i64) -> Self {
        self.until_ms = Some(until_ms);
        self
    }

    /// Records handed out in all.
    pub fn records(&self) -> usize {
        (0..self.partitions.len()).map(|partition| self.end(partition as Partition)).sum()
    }

    /// Offset after the last record of a partition that is handed out.
    fn end(&self, partition: Partition) -> usize {
        let (events, until_ms) = (&self.partitions[partition as usize], self.until_ms.unwrap_or(i64::MAX));
        events.iter().position(|event| event.time > until_ms).unwrap_or(events.len())
    }
}

impl Source for MemorySource {
    fn open(&self, worker: usize, workers: usize, start: &StartOffsets) -> Result<Box<dyn Reader>, SourceError> {
        let mine = (0..self.partitions.len() as Partition).filter(|&partition| partition as usize % workers == worker);
        let place = |partition| start.get(&partition).copied().unwrap_or(0) as usize;
        let places = mine.map(|partition| Cursor { partition, next: place(partition), end: self.end(partition) });
        Ok(Box::new(MemoryReader { source: self.clone(), places: places.collect() }))
    }

    fn describe(&self) -> String {
        format!("{} partitions in memory", self.partitions.len())
    }

    fn bounded(&self) -> bool {
        self.until_ms.is_none()
    }
}

struct MemoryReader {
    source: MemorySource,
    places: Vec<Cursor>,
}

struct Cursor {
    partition: Partition,
    next: usize,
    end: usize,
}

impl Reader for MemoryReader {
    fn poll(&mut self, limit: usize, into: &mut Vec<Record>) -> Result<Ready, SourceError> {
        let share = limit.div_ceil(self.places.len().max(1));
        let mut more = false;
        for Cursor { partition, next, end } in &mut self.places {
            let events = &self.source.partitions[*partition as usize];
            let until = (*end).min(*next + share);
            for (offset, event) in events.iter().enumerate().take(until).skip(*next) {
                let payload = Payload::Event(Box::new(event.clone()));
                let (partition, offset) = (*partition, offset as u64);
                let stand = Stand::default();
                into.push(Record { partition, offset, timestamp_ms: 0, arrived_ns: now_ns(), stand, payload });
            }
            *next = until.max(*next);
            more |= until < *end;
        }
        Ok(match (more, self.source.until_ms) {
            (true, _) => Ready::More,
            (false, None) => Ready::Done,
            (false, Some(_)) => Ready::CaughtUp,
        })
    }

    fn partitions(&self) -> Vec<Partition> {
        self.places.iter().map(|place| place.partition).collect()
    }

    fn ends(&self, into: &mut Vec<(Partition, u64)>) {
        into.extend(self.places.iter().map(|place| (place.partition, place.end as u64)));
    }
}

/// Keeps what is written.
#[derive(Clone, Debug, Default)]
pub struct MemoryWriter(Arc<Mutex<Vec<OutputRecord>>>);

impl MemoryWriter {
    /// Everything written so far, in order.
    pub fn records(&self) -> Vec<OutputRecord> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Writer for MemoryWriter {
    fn write(&mut self, record: OutputRecord) -> Result<(), SinkError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(record);
        Ok(())
    }

    fn poll(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
}
