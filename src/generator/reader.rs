//! The generator as a source: four partitions of one stream, the same for every number of workers.
//!
//! Each reader runs the whole stream in numbers and writes out only the records of its partitions; a record that is
//! skipped costs a fraction of one that is written. Nothing is shared between readers but the moment the pace started.

use std::sync::{Arc, OnceLock};

use super::{Build, EventStream, GeneratorConfig, PARTITIONS};
use crate::event::{Partition, Payload, Record, Schema, Stand};
use crate::source::clock::now_ns;
use crate::source::{Reader, Ready, Source, SourceError, StartOffsets};

/// The most records of other partitions, or before the start offsets, that one poll skips.
const SKIP_MAX: usize = 4_096;

/// The generator as a [`Source`].
#[derive(Debug)]
pub struct GeneratorSource {
    config: GeneratorConfig,
    schema: Arc<Schema>,
    events: Option<u64>,
    pace_per_s: Option<f64>,
    started_ns: Arc<OnceLock<u64>>,
}

impl GeneratorSource {
    /// A source of `events` records in all (`None`: endless), handed out at `pace_per_s` records per second of wall time
    /// over all partitions (`None`: as fast as they are taken).
    ///
    /// A paced record counts as arrived when it is due, not when it is taken: a stall shows as latency (open loop).
    pub fn new(
        config: GeneratorConfig,
        schema: Arc<Schema>,
        events: Option<u64>,
        pace_per_s: Option<f64>,
    ) -> Result<Self, SourceError> {
        config.check()?;
        Build::new(schema.clone())?;
        if pace_per_s.is_some_and(|pace| !(pace > 0.0 && pace.is_finite())) {
            return Err(SourceError::User("generator: the pace must be above 0 events per second".into()));
        }
        Ok(GeneratorSource { config, schema, events, pace_per_s, started_ns: Arc::default() })
    }
}

impl Source for GeneratorSource {
    fn open(&self, worker: usize, workers: usize, start: &StartOffsets) -> Result<Box<dyn Reader>, SourceError> {
        let mut partitions = [const { None }; PARTITIONS as usize];
        for (p, partition) in partitions.iter_mut().enumerate() {
            if p % workers.max(1) == worker {
                *partition = Some(start.get(&(p as Partition)).copied().unwrap_or(0));
            }
        }
        Ok(Box::new(GeneratorReader {
            stream: EventStream::new(&self.config),
            build: Build::new(self.schema.clone())?,
            starts: partitions,
            offsets: [0; PARTITIONS as usize],
            position: 0,
            events: self.events.unwrap_or(u64::MAX),
            pace_per_s: self.pace_per_s,
            started_ns: self.started_ns.clone(),
            pace_from: None,
        }))
    }

    fn describe(&self) -> String {
        let bound = self.events.map_or("endless".into(), |events| format!("{events} events"));
        let pace = self.pace_per_s.map_or("unpaced".into(), |pace| format!("{pace} events/s"));
        format!("generator, seed {}, {bound}, {pace}", self.config.seed)
    }

    fn identity(&self) -> String {
        format!("generator with {:?}", self.config)
    }

    fn bounded(&self) -> bool {
        self.events.is_some()
    }

    fn is_decoded(&self) -> bool {
        true
    }
}

struct GeneratorReader {
    stream: EventStream,
    build: Build,
    /// First offset wanted, of each partition served here.
    starts: [Option<u64>; PARTITIONS as usize],
    /// Records passed, of every partition.
    offsets: [u64; PARTITIONS as usize],
    /// Records passed of the whole stream.
    position: u64,
    events: u64,
    pace_per_s: Option<f64>,
    started_ns: Arc<OnceLock<u64>>,
    /// Position in the stream at which the pace began: what a restart skips is not waited for.
    pace_from: Option<u64>,
}

impl GeneratorReader {
    /// When the next record is due; the pace starts with the first record that is not skipped.
    fn due_ns(&mut self, pace_per_s: f64) -> u64 {
        let from = *self.pace_from.get_or_insert(self.position);
        let started_ns = *self.started_ns.get_or_init(now_ns);
        started_ns + ((self.position - from) as f64 * 1e9 / pace_per_s) as u64
    }

    fn skipping(&self) -> bool {
        self.starts.iter().zip(self.offsets).any(|(start, offset)| start.is_some_and(|start| offset < start))
    }
}

impl Reader for GeneratorReader {
    fn poll(&mut self, limit: usize, into: &mut Vec<Record>) -> Result<Ready, SourceError> {
        let (mut taken, mut skipped) = (0, 0);
        if self.starts.iter().all(Option::is_none) {
            return Ok(Ready::Done);
        }
        let now = now_ns();
        while taken < limit {
            if self.position >= self.events {
                return Ok(Ready::Done);
            }
            let mut arrived_ns = now;
            if let Some(pace_per_s) = self.pace_per_s
                && !self.skipping()
            {
                arrived_ns = self.due_ns(pace_per_s);
                if arrived_ns > now {
                    return Ok(if taken > 0 { Ready::More } else { Ready::CaughtUp });
                }
            }
            let draft = self.stream.next();
            let partition = (draft.number % u64::from(PARTITIONS)) as Partition;
            let offset = self.offsets[partition as usize];
            self.position += 1;
            self.offsets[partition as usize] += 1;
            if self.starts[partition as usize].is_none_or(|start| offset < start) {
                skipped += 1;
                if skipped == SKIP_MAX {
                    return Ok(if taken > 0 { Ready::More } else { Ready::Waiting });
                }
                continue;
            }
            let event = Box::new(self.build.event(&draft));
            let (stand, payload) = (Stand::default(), Payload::Event(event));
            into.push(Record { partition, offset, timestamp_ms: 0, arrived_ns, stand, payload });
            taken += 1;
        }
        Ok(Ready::More)
    }

    fn partitions(&self) -> Vec<Partition> {
        (0..PARTITIONS).filter(|&p| self.starts[p as usize].is_some()).collect()
    }
}
