//! A worker's intake: what its readers hand out, decoded, on its way to epochs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::control::ControlEnd;
use super::cut::CutterEnd;
use super::outlet::Closing;
use super::worker::{DUMP_BYTES_PER_MS, TURN_BYTES, TURN_BYTES_MAX};
use crate::dataflow::Prepare;
use crate::decode::{Counters, Decoder};
use crate::epoch::clock::End;
use crate::epoch::journal::{BindingLog, Inputs};
use crate::epoch::{LaneEnd, PartitionBounds, Stash};
use crate::event::{Lane, Partition, Payload, Raw, Record};
use crate::flow::{
    Arrival, Binding, ControlGroup, Decoded, DeploymentNumber, Dump, Epoch, ReferenceRecord, Reject, RejectReason,
    Report,
};
use crate::metrics::Metrics;
use crate::operators::Images;
use crate::pipeline::Engine;
use crate::score::control::Deployments;
use crate::sink::Acknowledgements;
use crate::source::clock::{now_ns, wall_ms};
use crate::source::services::{HELD_MAX, Stage};
use crate::source::tables::ReferenceReader;
use crate::source::{Reader, Ready, SourceError};

/// So far ahead of the watermark an event may be, milliseconds: of a partition that is ahead of the others.
const AHEAD_MS_MAX: i64 = 2 * 86_400_000;

/// Records taken from the reader in one turn.
const POLL_RECORDS_MAX: usize = 1024;

/// Everything a worker needs beside the graph.
pub struct Feed {
    /// Reads this worker's partitions.
    pub reader: Box<dyn Reader>,
    /// Reads this worker's share of the reference collections.
    pub references: ReferenceReader,
    /// Holds events until services have answered.
    pub stage: Stage,
    /// Decodes what it reads.
    pub decoder: Decoder,
    /// The dataflow's change to every event.
    pub prepare: Option<Prepare>,
    /// Where records are written down as they are read.
    pub inputs: Option<Inputs>,
    /// Where the bindings of another process's authority are written down, from an epoch on; of one worker of each process.
    pub heard: Option<(BindingLog, Epoch)>,
    /// Whether this worker is the one that speaks for its process.
    pub first_of_process: bool,
    /// Where a cut has left the lanes.
    pub ends: Arc<BTreeMap<Lane, LaneEnd>>,
    /// Tells the outlets of this process which epochs are closed; of one of its workers, if there is a state directory.
    pub closing: Option<Closing>,
    /// How far the outlets of this process have come.
    pub acknowledgements: Arc<Acknowledgements>,
    /// Where cuts are written.
    pub cutter: Option<CutterEnd>,
    /// Where deployments are made, if there are any.
    pub control: Option<ControlEnd>,
    /// What keeps the partitions together.
    pub bounds: PartitionBounds,
    /// Whether the wall clock says something about the records: they come in as they happen.
    pub live: bool,
    /// Whether the source ends by itself: a partition that is at its end stays so.
    pub bounded: bool,
    /// Set to stop: what has been read is completed.
    pub stop: Arc<AtomicBool>,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

/// Reads and decodes into the stash, and binds what is in it.
pub(super) struct Intake {
    pub feed: Feed,
    worker: u32,
    pub stash: Stash,
    records: Vec<Record>,
    partitions: Vec<Partition>,
    /// Partitions at their end, with the offset after their last record.
    ends: Vec<(Partition, u64)>,
    ready: Ready,
    closed: bool,
    pub next: Epoch,
    reported: Option<Report>,
    arrivals: Vec<Arrival>,
    rejects: Vec<Reject>,
    references: Vec<ReferenceRecord>,
    /// Initial content of references is still being read, or never will be.
    loading: bool,
    references_failed: bool,
    /// What stood in the way when last looked at.
    trouble: Option<String>,
    /// What the decoder had counted then.
    counted: Counters,
    peers: usize,
    /// The cut whose images are not all there yet, and when its epoch was closed, nanoseconds.
    cutting: Option<(Epoch, u64)>,
    /// The epoch at whose end the last dump began.
    dumping: Option<Epoch>,
    /// What may be dumped.
    allowance: Allowance,
}

/// How much of a cut a worker may dump: it grows with time, and shrinks by what was dumped.
#[derive(Clone, Copy, Debug, Default)]
struct Allowance {
    /// When it was last looked at, and how many bytes had been dumped by then.
    at_ns: u64,
    put: i64,
    bytes: i64,
}

impl Intake {
    pub fn new(feed: Feed, worker: u32, peers: usize, next: Epoch) -> Self {
        let stash = Stash::new(feed.bounds, feed.live).resuming(feed.ends.clone());
        Intake {
            feed,
            worker,
            stash,
            records: Vec::with_capacity(POLL_RECORDS_MAX),
            partitions: Vec::new(),
            ends: Vec::new(),
            ready: Ready::Waiting,
            closed: false,
            next,
            reported: None,
            arrivals: Vec::new(),
            rejects: Vec::new(),
            references: Vec::new(),
            loading: true,
            references_failed: false,
            trouble: None,
            counted: Counters::default(),
            peers,
            cutting: None,
            dumping: None,
            allowance: Allowance::default(),
        }
    }

    /// Takes what the reader has. Says whether there was something.
    pub fn read(&mut self) -> Result<bool, SourceError> {
        let referred = self.refer()?;
        let turned = self.turn()?;
        self.measure();
        let room = self.feed.inputs.as_mut().is_none_or(Inputs::hand_over);
        if self.closed || !room || self.stash.is_full() || self.feed.stage.len() >= HELD_MAX {
            return Ok(referred || turned);
        }
        if let Some(held) = self.stash.hold() {
            self.feed.reader.hold(held);
        }
        self.ready = self.feed.reader.poll(POLL_RECORDS_MAX, &mut self.records)?;
        self.tell();
        let (now, wall) = (now_ns(), self.feed.live.then(wall_ms));
        let partitions = self.feed.reader.partitions();
        if partitions != self.partitions {
            for &partition in &partitions {
                self.stash.queue(Lane::of_events(partition), now);
                for late in self.feed.stage.begin(partition)? {
                    if let Decoded::Reference(record) = &late {
                        self.stash.push(record.lane, record.offset, now, None, late);
                    }
                }
            }
            self.partitions = partitions;
        }
        let read = referred || !self.records.is_empty();
        if let Some(inputs) = &mut self.feed.inputs {
            let noted = self.records.iter().try_for_each(|record| inputs.note(record));
            noted.map_err(SourceError::External)?;
            inputs.hand_over();
        }
        for record in self.records.drain(..) {
            let (partition, offset, arrived_ns) = (record.partition, record.offset, record.arrived_ns);
            let (event, raw) = match record.payload {
                Payload::Event(event) => (Ok(*event), Raw::default()),
                _ => (self.feed.decoder.decode(&record), record.into_raw()),
            };
            let decoded = match event {
                Ok(mut event) => {
                    if let Some(prepare) = &self.feed.prepare {
                        prepare(&mut event);
                    }
                    Decoded::Event(Arrival { event, partition, offset, arrived_ns, raw })
                }
                Err(reject) => Decoded::Reject(reject),
            };
            match self.feed.stage.is_through() {
                true => self.stash.push(Lane::of_events(partition), offset, now, wall, decoded),
                false => self.feed.stage.take(partition, offset, decoded, now),
            }
        }
        let read = self.turn()? || read;
        self.look();
        if self.ready == Ready::Done {
            self.close();
        }
        self.measure();
        Ok(read)
    }

    /// Takes note of which partitions have no more for now.
    fn look(&mut self) {
        self.ends.clear();
        self.feed.reader.ends(&mut self.ends);
        let all = match self.ready {
            _ if !self.feed.stage.is_empty() => End::No,
            Ready::Done => End::ForGood,
            // What is quiet for now may go on: a replay waits for it, or its epochs would depend on the timing.
            Ready::CaughtUp if self.feed.live => End::ForNow,
            _ => End::No,
        };
        self.stash.look(all, &self.ends, if self.feed.bounded { End::ForGood } else { End::ForNow });
    }

    /// Sets what the metrics say of the input.
    fn measure(&mut self) {
        let (metrics, counters) = (&self.feed.metrics, self.feed.decoder.counters());
        let stashed = self.stash.len() as u64;
        metrics.stashed.set_own(stashed);
        metrics.lag.set_own(self.feed.reader.lag().unwrap_or(0) + stashed + self.feed.stage.len() as u64);
        metrics.unknown_fields.add(counters.unknown_fields - self.counted.unknown_fields);
        metrics.duplicate_keys.add(counters.duplicate_keys - self.counted.duplicate_keys);
        self.counted = counters;
    }

    /// Says what stands in the way, if that has changed.
    fn tell(&mut self) {
        let loading = self.loading.then(|| "the first content of the references is being read".to_owned());
        let trouble = loading.or_else(|| self.feed.reader.trouble());
        if trouble != self.trouble {
            self.feed.metrics.vitals.trouble(&format!("worker {}", self.worker), trouble.clone());
            self.trouble = trouble;
        }
    }

    /// Lets events that have waited long enough go on. Says whether there were any.
    fn turn(&mut self) -> Result<bool, SourceError> {
        if self.feed.stage.is_through() {
            return Ok(false);
        }
        let (stash, now, wall, mut any) = (&mut self.stash, now_ns(), self.feed.live.then(wall_ms), false);
        self.feed.stage.turn(now, |lane, offset, decoded| {
            stash.push(lane, offset, now, wall, decoded);
            any = true;
        })?;
        Ok(any)
    }

    /// Takes what the references have. Says whether there was something.
    fn refer(&mut self) -> Result<bool, SourceError> {
        if self.references_failed {
            return Ok(false);
        }
        let mut records = Vec::new();
        if let Err(error) = self.feed.references.poll(&mut records) {
            self.references_failed = true;
            // The others must not go on without this share of the rows.
            self.feed.stop.store(true, Ordering::Relaxed);
            return Err(error);
        }
        let taken = !records.is_empty();
        self.loading = !self.feed.references.is_loaded();
        for record in records {
            let (lane, offset) = match &record {
                Decoded::Reference(record) => (record.lane, record.offset),
                Decoded::Reject(reject) => {
                    self.feed.metrics.reference_errors.add(1);
                    (reject.lane, reject.offset)
                }
                Decoded::Event(_) | Decoded::Answered(_) => continue,
            };
            self.stash.push(lane, offset, now_ns(), None, record);
        }
        Ok(taken)
    }

    pub fn close(&mut self) {
        self.closed = true;
    }

    /// Lets the operators of this worker dump a piece, if a dump is under way and the last piece is long enough ago. Says whether
    /// they may.
    pub fn grant(&mut self, images: &Images) -> bool {
        let Some(begun) = self.dumping else { return false };
        if images.is_whole(begun) {
            return false;
        }
        let (now, put) = (now_ns(), images.bytes_put() as i64);
        let earned = (now.saturating_sub(self.allowance.at_ns) / 1_000) as i64 * DUMP_BYTES_PER_MS / 1_000;
        let bytes = self.allowance.bytes + earned - (put - self.allowance.put);
        // A worker that comes round seldom dumps more at a time, in the same share of its time.
        let bytes = bytes.clamp(-TURN_BYTES, TURN_BYTES_MAX);
        self.allowance = Allowance { at_ns: now, put, bytes };
        if bytes < TURN_BYTES {
            return false;
        }
        images.grant(bytes as usize)
    }

    /// Says when all operators of this worker have dumped a cut; returns whether none is waited for.
    pub fn give_images(&mut self, images: &Images) -> bool {
        if let Some((epoch, closed_ns)) = self.cutting.filter(|(epoch, _)| images.is_whole(*epoch)) {
            if let Some(cutter) = &self.feed.cutter {
                cutter.whole(epoch);
            }
            let ms = now_ns().saturating_sub(closed_ns) as f64 / 1e6;
            tracing::info!(worker = self.worker, epoch, ms, "a cut is copied out: scoring waited for that");
            self.cutting = None;
        }
        self.cutting.is_none()
    }

    /// A cut is whole: one worker of each process says so.
    pub fn publish(&self, epoch: Epoch) {
        if let Some(cutter) = self.feed.cutter.as_ref().filter(|_| self.feed.first_of_process) {
            cutter.publish(epoch);
        }
    }

    /// The last epoch whose output is acknowledged, if someone waits for that.
    fn acknowledged(&self) -> Option<Epoch> {
        self.feed.cutter.as_ref()?.written()?;
        self.feed.acknowledgements.reached()
    }

    /// Tells the outlets which epochs are closed. Says whether they all know.
    pub fn close_epochs(&mut self, left: Epoch) -> bool {
        let (Some(closing), Some(last)) = (&mut self.feed.closing, left.checked_sub(1)) else { return true };
        closing.close(last)
    }

    /// What the authority should know, if it does not know it yet.
    pub fn report(&mut self, engine: &Engine) -> Option<Report> {
        // What is bound must be in the journal: nothing is offered that is not on its way there.
        if self.feed.inputs.as_mut().is_some_and(|inputs| !inputs.hand_over()) {
            return None;
        }
        let closed = self.closed && self.feed.stage.is_empty();
        if closed {
            self.stash.close();
        }
        let (mut offers, reach) = self.stash.offers(closed, now_ns());
        let at_end = closed || self.feed.reader.is_log();
        offers.iter_mut().for_each(|offer| offer.spent &= at_end);
        let deployments = || self.feed.control.as_ref().map(ControlEnd::deployments);
        let report = Report {
            worker: self.worker,
            next: self.next,
            offers,
            reach,
            done: closed && self.stash.is_empty(),
            loading: self.loading,
            stopping: self.feed.stop.load(Ordering::Relaxed),
            backlog: engine.owed.keys(),
            written: self.feed.cutter.as_ref().and_then(CutterEnd::written),
            acknowledged: self.acknowledged(),
            cut_failed: self.feed.cutter.as_ref().and_then(CutterEnd::failed),
            dumped: self.dumping.filter(|&begun| engine.images.is_whole(begun)),
            // A graph that does not score waits for none.
            deployment: deployments().map_or(DeploymentNumber::MAX, Deployments::newest),
            deployment_failed: deployments().and_then(Deployments::failed),
        };
        if self.reported.as_ref() == Some(&report) {
            return None;
        }
        self.reported = Some(report.clone());
        Some(report)
    }

    /// Has the deployment of a group made, once in a process.
    pub fn prepare(&self, group: ControlGroup) {
        if let Some(control) = self.feed.control.as_ref().filter(|_| self.feed.first_of_process) {
            control.prepare(group);
        }
    }

    /// No epoch will have this deployment.
    pub fn give_up(&self, number: DeploymentNumber) {
        if let Some(control) = self.feed.control.as_ref().filter(|_| self.feed.first_of_process) {
            control.deployments().give_up(number);
        }
    }

    /// An epoch has this deployment.
    fn switched(&self, number: DeploymentNumber, epoch: Epoch, engine: &Engine) {
        let Some(control) = self.feed.control.as_ref().filter(|_| self.feed.first_of_process) else { return };
        let watermark_ms = engine.facts.at(epoch);
        let forget_ms = watermark_ms.saturating_sub(engine.retained_ms).saturating_sub(AHEAD_MS_MAX);
        control.deployments().switched(number, watermark_ms, forget_ms);
        self.feed.metrics.rule_hits.name(|known| control.deployments().rules_from(known));
        self.feed.metrics.deployment.set(number.into());
        control.bound(number, epoch);
    }

    /// Puts the records of a binding into the graph and closes the epoch.
    pub fn bind(&mut self, binding: &Binding, engine: &mut Engine) {
        if binding.stop {
            self.close();
        }
        let (arrivals, rejects, references) = (&mut self.arrivals, &mut self.rejects, &mut self.references);
        let (peers, decoder) = (self.peers, &self.feed.decoder);
        self.stash.take(binding, |decoded, refused| match decoded {
            Decoded::Event(arrival) if refused => rejects.push(from_the_future(decoder, arrival)),
            Decoded::Answered(answered) if refused => rejects.push(from_the_future(decoder, answered.0)),
            Decoded::Event(arrival) => arrivals.push(arrival),
            Decoded::Reject(reject) => rejects.push(reject),
            Decoded::Answered(answered) => {
                let (arrival, answers) = *answered;
                arrivals.push(arrival);
                answers.into_iter().for_each(|answer| answer.address(peers, references));
            }
            Decoded::Reference(record) => record.address(peers, references),
        });
        if !self.references.is_empty() {
            engine.references.send_batch(&mut self.references);
            self.references.clear();
        }
        if !self.arrivals.is_empty() {
            engine.arrivals.send_batch(&mut self.arrivals);
            self.arrivals.clear();
        }
        if !self.rejects.is_empty() {
            engine.rejects.send_batch(&mut self.rejects);
            self.rejects.clear();
        }
        let deployment = binding.control.as_ref().map(|group| group.number);
        engine.close(binding.epoch, binding.watermark_ms, binding.repair, binding.dump, deployment);
        if let Some(number) = deployment {
            self.switched(number, binding.epoch, engine);
        }
        if let Some(dump) = binding.dump {
            if let Some(cutter) = self.feed.cutter.as_ref().filter(|_| dump != Dump::End) {
                cutter.begin(binding.epoch);
            }
            if dump == Dump::Begin {
                self.dumping = Some(binding.epoch);
                let put = engine.images.bytes_put() as i64;
                self.allowance = Allowance { at_ns: now_ns(), put, bytes: 0 };
            } else {
                if let Some(cutter) = &self.feed.cutter {
                    cutter.end(engine.facts.of(binding.epoch), self.stash.ends().collect());
                }
                self.cutting = Some((binding.epoch, now_ns()));
            }
        }
        self.next = binding.epoch + 1;
        if let Some((log, from)) = &self.feed.heard
            && binding.epoch >= *from
        {
            // One that is lost is written down by the authority.
            let _ = log.hear(binding.clone());
        }
        self.feed.metrics.epochs.add((self.worker == 0) as u64);
        self.feed.metrics.bound.add(1);
        self.feed.metrics.merging.set(binding.merging.into());
        if binding.watermark_ms > i64::MIN {
            self.feed.metrics.watermark_ms.set(binding.watermark_ms);
        }
    }
}

/// The reject of an event whose time is not believed.
fn from_the_future(decoder: &Decoder, arrival: Arrival) -> Reject {
    let message = format!(
        "event time {} is ahead of what the other records of its partition say; mend the sender's clock, or raise --future",
        arrival.event.time
    );
    arrival.refuse(decoder.schema(), RejectReason::FromTheFuture, message)
}
