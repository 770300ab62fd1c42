//! Events that wait for answers, in the order of their partitions.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use super::AskedService;
use super::desk::{Answer, AnswerState, Desk};
use super::log::{AnswerLog, Answers, Line, RecordedAnswers};
use crate::event::{Lane, Op, Partition, Schema};
use crate::flow::reference::{Body, Cells, answer_key};
use crate::flow::{Arrival, Decoded, ReferenceRecord};
use crate::metrics::Metrics;
use crate::source::SourceError;

/// Events of one worker that may be held at once; beyond it the reader is left alone.
pub const HELD_MAX: usize = 65_536;

/// Look-ups of one dataflow that may ask services: bits of a word.
pub(super) const SERVICES_MAX: usize = 32;

/// Late answers of one worker that may wait for the log at once; beyond it they are dropped, and the fallback stays.
const LATE_MAX: usize = 65_536;

/// An event that waits, or one behind it.
struct HeldRecord {
    offset: u64,
    decoded: Decoded,
    /// Look-ups without an outcome, one bit each.
    open: u32,
    until_ns: u64,
    outcome: Answers,
    /// The outcome stands in the log already.
    logged: bool,
}

/// Who waits for an answer.
#[derive(Clone, Copy)]
struct Waiter {
    partition: Partition,
    offset: u64,
}

/// What is held of one partition.
#[derive(Default)]
struct HeldPartition {
    held: VecDeque<HeldRecord>,
    recorded: RecordedAnswers,
    /// Late answers so far.
    late: u64,
}

/// What leaves the stage.
struct Leaving {
    /// Lines of the log that must be durable first.
    needs: u64,
    lane: Lane,
    offset: u64,
    decoded: Decoded,
}

/// One worker's stage.
pub struct Stage {
    asked: Vec<AskedService>,
    desks: Vec<Desk<(Waiter, ReferenceRecord)>>,
    partitions: BTreeMap<Partition, HeldPartition>,
    held: usize,
    /// Where outcomes were written by an earlier run.
    state: Option<PathBuf>,
    /// Where a run writes its own.
    log: Option<AnswerLog>,
    /// Lines handed to the log, and how many of them are durable.
    appended: u64,
    durable: u64,
    /// Handed to the log, or behind such, in this order.
    leaving: VecDeque<Leaving>,
    late: VecDeque<ReferenceRecord>,
    schema: Arc<Schema>,
    metrics: Arc<Metrics>,
}

impl Stage {
    pub(super) fn open(
        asked: &[AskedService],
        state: Option<PathBuf>,
        live: bool,
        schema: Arc<Schema>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, SourceError> {
        let desks = asked.iter().map(|one| Desk::open(one, live, metrics.clone())).collect::<Result<_, _>>()?;
        let state = state.filter(|_| !asked.is_empty());
        // A replay has what a run was answered and adds nothing to it: its fallbacks are no answers.
        let log = state.as_deref().filter(|_| live).map(AnswerLog::open).transpose()?;
        let (partitions, leaving, late) = Default::default();
        Ok(Stage {
            asked: asked.to_vec(),
            desks,
            partitions,
            held: 0,
            state,
            log,
            appended: 0,
            durable: 0,
            leaving,
            late,
            schema,
            metrics,
        })
    }

    /// Whether events pass without being looked at.
    pub fn is_through(&self) -> bool {
        self.asked.is_empty()
    }

    /// Events held.
    pub fn len(&self) -> usize {
        self.held + self.leaving.len()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes a partition known, and gives back the late answers that an earlier run logged.
    pub fn begin(&mut self, partition: Partition) -> Result<Vec<Decoded>, SourceError> {
        if self.is_through() || self.partitions.contains_key(&partition) {
            return Ok(Vec::new());
        }
        let mut recorded = match (&self.log, &self.state) {
            (Some(log), _) => log.begin(partition)?,
            (None, Some(state)) => RecordedAnswers::read(state, partition)?,
            (None, None) => RecordedAnswers::default(),
        };
        let late = std::mem::take(&mut recorded.late);
        let next = late.back().map_or(0, |record| record.offset + 1);
        self.partitions.insert(partition, HeldPartition { held: VecDeque::new(), recorded, late: next });
        Ok(late.into_iter().map(Decoded::Reference).collect())
    }

    /// Takes a record in, and asks.
    pub fn take(&mut self, partition: Partition, offset: u64, decoded: Decoded, now_ns: u64) {
        let mut held = HeldRecord { offset, decoded, open: 0, until_ns: now_ns, outcome: Vec::new(), logged: true };
        let waiting = self.partitions.entry(partition).or_default();
        if let Decoded::Event(arrival) = &held.decoded
            && self.schema.is_scored(arrival.event.kind)
            && arrival.event.op != Op::Withdraw
        {
            match waiting.recorded.outcomes.remove(&offset) {
                Some(outcome) => held.outcome = outcome,
                None => {
                    held.logged = false;
                    for (index, (asked, desk)) in self.asked.iter().zip(&mut self.desks).enumerate() {
                        let Some(key) = asked.question.ask(&arrival.event) else { continue };
                        let record = record(asked.tag, arrival, &self.schema);
                        match desk.ask(key, (Waiter { partition, offset }, record), now_ns) {
                            AnswerState::Now(answer) => held.outcome.push((asked.tag, answer)),
                            AnswerState::Fallback => self.metrics.service_fallbacks.add(1),
                            AnswerState::Wait => {
                                held.open |= 1 << index;
                                let budget_ns = asked.settings.budget_ms.saturating_mul(1_000_000);
                                held.until_ns = held.until_ns.max(now_ns.saturating_add(budget_ns));
                            }
                        }
                    }
                }
            }
        }
        waiting.held.push_back(held);
        self.held += 1;
    }

    /// Hands out what may go: answered or past its budget, and all before it in its partition too. Never blocks.
    pub fn turn(&mut self, now_ns: u64, mut leave: impl FnMut(Lane, u64, Decoded)) -> Result<(), SourceError> {
        self.receive(now_ns);
        self.release(now_ns, &mut leave);
        self.release_late(&mut leave);
        self.durable += self.log.as_ref().map_or(Ok(0), AnswerLog::durable)? as u64;
        let ready = self.leaving.partition_point(|leaving| leaving.needs <= self.durable);
        for Leaving { lane, offset, decoded, .. } in self.leaving.drain(..ready) {
            leave(lane, offset, decoded);
        }
        Ok(())
    }

    fn receive(&mut self, now_ns: u64) {
        for (index, desk) in self.desks.iter_mut().enumerate() {
            let (partitions, late, metrics) = (&mut self.partitions, &mut self.late, &self.metrics);
            desk.receive(now_ns, |(waiter, record), answer: Option<&Answer>| {
                let Some(waiting) = partitions.get_mut(&waiter.partition) else { return };
                let at = waiting.held.partition_point(|held| held.offset < waiter.offset);
                match waiting.held.get_mut(at).filter(|held| held.offset == waiter.offset) {
                    Some(held) => {
                        held.open &= !(1 << index);
                        match answer {
                            Some(answer) => held.outcome.push((record.tag, answer.clone())),
                            None => metrics.service_fallbacks.add(1),
                        }
                    }
                    // Gone with the fallback. That nothing is known is what the fallback says already.
                    None => {
                        if let Some(Some(cells)) = answer
                            && late.len() < LATE_MAX
                        {
                            metrics.service_late.add(1);
                            let Body::Row(key, _) = record.body else { return };
                            let lane = Lane::of_late_answers(waiter.partition);
                            let offset = waiting.late;
                            waiting.late += 1;
                            late.push_back(ReferenceRecord {
                                lane,
                                offset,
                                body: Body::Row(key, cells.clone()),
                                ..record
                            });
                        }
                    }
                }
            });
        }
    }

    fn release(&mut self, now_ns: u64, leave: &mut impl FnMut(Lane, u64, Decoded)) {
        for (&partition, waiting) in &mut self.partitions {
            let lane = Lane::of_events(partition);
            while let Some(held) = waiting.held.front_mut() {
                if held.open != 0 && now_ns < held.until_ns {
                    break;
                }
                if !held.logged
                    && let Some(log) = &self.log
                {
                    if log.append(partition, Line::Event(held.offset, held.outcome.clone())).is_err() {
                        // The log's queue is full: at the next turn.
                        return;
                    }
                    self.appended += 1;
                }
                let Some(held) = waiting.held.pop_front() else { break };
                self.held -= 1;
                self.metrics.service_fallbacks.add(held.open.count_ones().into());
                let HeldRecord { offset, decoded, outcome, .. } = held;
                let decoded = answered(decoded, outcome, &self.schema);
                if self.appended == self.durable && self.leaving.is_empty() {
                    leave(lane, offset, decoded);
                } else {
                    self.leaving.push_back(Leaving { needs: self.appended, lane, offset, decoded });
                }
            }
        }
    }

    fn release_late(&mut self, leave: &mut impl FnMut(Lane, u64, Decoded)) {
        while let Some(record) = self.late.front() {
            if let Some(log) = &self.log {
                if log.append(record.lane.partition, Line::Late(record.clone())).is_err() {
                    return;
                }
                self.appended += 1;
            }
            let Some(record) = self.late.pop_front() else { return };
            let (lane, offset, decoded) = (record.lane, record.offset, Decoded::Reference(record));
            match self.log {
                None => leave(lane, offset, decoded),
                Some(_) => self.leaving.push_back(Leaving { needs: self.appended, lane, offset, decoded }),
            }
        }
    }
}

/// The record of an answer to an event, with no answer in it yet.
fn record(tag: u64, arrival: &Arrival, schema: &Schema) -> ReferenceRecord {
    let key = answer_key(arrival.event.id, schema.id_type());
    let (time, lane, offset) = (arrival.event.time, Lane::of_events(arrival.partition), arrival.offset);
    ReferenceRecord { to: 0, tag, time, lane, offset, body: Body::Row(key, Cells::default()) }
}

/// An event with what it was answered.
fn answered(decoded: Decoded, outcome: Answers, schema: &Schema) -> Decoded {
    let Decoded::Event(arrival) = decoded else { return decoded };
    let answers = outcome.into_iter().filter_map(|(tag, answer)| {
        let Body::Row(key, _) = record(tag, &arrival, schema).body else { return None };
        Some(ReferenceRecord { body: Body::Row(key, answer?), ..record(tag, &arrival, schema) })
    });
    let answers: Vec<ReferenceRecord> = answers.collect();
    if answers.is_empty() { Decoded::Event(arrival) } else { Decoded::Answered(Box::new((arrival, answers))) }
}
