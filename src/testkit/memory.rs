//! A source and a writer in memory, for whole jobs.

use std::sync::{Arc, Mutex, PoisonError};

use crate::event::{Event, IdType};
use crate::runtime::clock::now_ns;
use crate::sink::{OutputRecord, SinkError, Writer};
use crate::source::{Partition, Payload, Reader, Ready, Record, Source, SourceError, StartOffsets};

/// Events by partition, as a source.
#[derive(Clone, Debug)]
pub struct MemorySource {
    partitions: Arc<[Vec<Event>]>,
    records_max: Option<usize>,
}

impl MemorySource {
    /// A source of these partitions.
    pub fn new(partitions: Vec<Vec<Event>>) -> Self {
        MemorySource { partitions: partitions.into(), records_max: None }
    }

    /// The events dealt to so many partitions by their ids, which are without ranks.
    pub fn dealt(events: &[Event], partitions: usize) -> Self {
        let mut dealt = vec![Vec::new(); partitions];
        for event in events {
            dealt[(event.id.map_key(IdType::Text).route() % partitions as u64) as usize].push(event.clone());
        }
        Self::new(dealt)
    }

    /// Hands out so many records per partition and then waits for more, for ever.
    pub fn pausing_after(mut self, records_max: usize) -> Self {
        self.records_max = Some(records_max);
        self
    }
}

impl Source for MemorySource {
    fn open(&self, worker: usize, workers: usize, start: &StartOffsets) -> Result<Box<dyn Reader>, SourceError> {
        let mine = (0..self.partitions.len() as Partition).filter(|&partition| partition as usize % workers == worker);
        let places = mine.map(|partition| (partition, start.get(&partition).copied().unwrap_or(0) as usize));
        Ok(Box::new(MemoryReader { source: self.clone(), places: places.collect() }))
    }

    fn describe(&self) -> String {
        format!("{} partitions in memory", self.partitions.len())
    }

    fn bounded(&self) -> bool {
        self.records_max.is_none()
    }
}

struct MemoryReader {
    source: MemorySource,
    places: Vec<(Partition, usize)>,
}

impl Reader for MemoryReader {
    fn poll(&mut self, limit: usize, into: &mut Vec<Record>) -> Result<Ready, SourceError> {
        let share = limit.div_ceil(self.places.len().max(1));
        let mut more = false;
        for (partition, place) in &mut self.places {
            let events = &self.source.partitions[*partition as usize];
            let end = events.len().min(self.source.records_max.unwrap_or(usize::MAX));
            let until = end.min(*place + share);
            for (offset, event) in events.iter().enumerate().take(until).skip(*place) {
                let payload = Payload::Event(Box::new(event.clone()));
                let (partition, offset) = (*partition, offset as u64);
                into.push(Record { partition, offset, timestamp_ms: 0, arrived_ns: now_ns(), payload });
            }
            *place = until.max(*place);
            more |= until < end;
        }
        Ok(match (more, self.source.records_max) {
            (true, _) => Ready::More,
            (false, None) => Ready::Done,
            (false, Some(_)) => Ready::CaughtUp,
        })
    }

    fn partitions(&self) -> Vec<Partition> {
        self.places.iter().map(|&(partition, _)| partition).collect()
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
