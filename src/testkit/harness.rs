//! Runs a dataflow in memory: epochs in, outputs out, nothing else.
//!
//! ```no_run
//! # use std::sync::Arc;
//! # use deltawatch::dataflow::{Dataflow, Setup};
//! # use deltawatch::testkit::{Batching, Harness, Plan};
//! # fn example(dataflow: Arc<dyn Dataflow>, setup: Setup, events: Vec<deltawatch::event::Event>) {
//! let outcome = Harness::new(dataflow, setup).workers(2).run(&Plan::of(&events, Batching::Random(7)));
//! # }
//! ```

use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex, PoisonError};
use std::time::Duration;

use timely::Config;
use timely::communication::Config as Communication;
use timely::worker::Worker;

use super::{Plan, TestModel};
use crate::dataflow::{BuildError, Dataflow, EngineSettings, Setup};
use crate::event::Id;
use crate::feature::rows::{RowHead, Rows};
use crate::flow::{Cause, Dump, Epoch, Facts, Reject, Repair};
use crate::metrics::{Metrics, set_worker};
use crate::operators::{GivenImage, Image, Images, ShardImage};
use crate::pipeline;
use crate::pipeline::Engine;
use crate::runtime::outlet::discard;
use crate::score::assessment::ScoredDiff;
use crate::sink::port::{CollectionUpdate, Port, Ports};

/// Epochs that are on their way at once, unless every epoch is drained.
const IN_FLIGHT: u64 = 3;

/// Runs a dataflow in memory.
#[derive(Clone)]
pub struct Harness {
    dataflow: Arc<dyn Dataflow>,
    setup: Setup,
    settings: EngineSettings,
    workers: usize,
    partitions: Option<usize>,
    drain: bool,
    scored: bool,
    captured: bool,
    gradual: usize,
}

/// The feature row of a transaction, as it was assembled in an epoch; `None` after a withdrawal.
#[derive(Clone, Debug)]
pub struct RowRecord {
    /// The epoch; exact if every epoch was drained.
    pub epoch: Epoch,
    /// The transaction.
    pub id: Id,
    /// Why it was assembled.
    pub cause: Cause,
    /// Its row.
    pub row: Option<Vec<f64>>,
}

/// What came out.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Scored diffs, in order per transaction.
    pub scored: Vec<ScoredDiff>,
    /// Assembled rows, in order per transaction.
    pub rows: Vec<RowRecord>,
    /// Rejects.
    pub rejects: Vec<Reject>,
    /// Updates of the collections that the dataflow emits.
    pub collections: Vec<CollectionUpdate>,
    /// What the engine counted.
    pub metrics: Arc<Metrics>,
    /// If every epoch was drained: the engine's epoch in which each planned one was complete with all its revisions.
    pub closed: Vec<Epoch>,
}

impl Outcome {
    /// The last row of every transaction that was not withdrawn.
    pub fn final_rows(&self) -> BTreeMap<Id, Vec<f64>> {
        self.rows_as_of(Epoch::MAX)
    }

    /// The same as of the end of an epoch.
    pub fn rows_as_of(&self, epoch: Epoch) -> BTreeMap<Id, Vec<f64>> {
        let mut rows = BTreeMap::new();
        for record in self.rows.iter().filter(|record| record.epoch <= epoch) {
            match &record.row {
                Some(row) => drop(rows.insert(record.id, row.clone())),
                None => drop(rows.remove(&record.id)),
            }
        }
        rows
    }
}

/// What the workers write to.
#[derive(Clone, Default)]
struct Captured {
    scored: Arc<Mutex<Vec<ScoredDiff>>>,
    rows: Arc<Mutex<Vec<RowRecord>>>,
    rejects: Arc<Mutex<Vec<Reject>>>,
    collections: Arc<Mutex<Vec<CollectionUpdate>>>,
    dumped: Arc<Mutex<Vec<ShardImage>>>,
    epoch: Arc<AtomicU64>,
    /// What had come when the run was cut.
    held: Arc<Mutex<Option<Came>>>,
}

/// What the workers have written.
struct Came {
    scored: Vec<ScoredDiff>,
    rows: Vec<RowRecord>,
    rejects: Vec<Reject>,
    collections: Vec<CollectionUpdate>,
    dumped: Vec<ShardImage>,
}

impl Harness {
    /// One worker, the engine's default settings, scored by a [`TestModel`] over all columns.
    pub fn new(dataflow: Arc<dyn Dataflow>, setup: Setup) -> Self {
        let settings = EngineSettings::default();
        Harness {
            dataflow,
            setup,
            settings,
            workers: 1,
            partitions: None,
            drain: false,
            scored: true,
            captured: true,
            gradual: 0,
        }
    }

    /// Runs on so many workers.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// Deals events to so many partitions, whatever the number of workers, which otherwise decides: between records of several
    /// partitions their numbers say what comes first.
    pub fn partitions(mut self, partitions: usize) -> Self {
        self.partitions = Some(partitions);
        self
    }

    /// Lets every epoch and the revisions it causes leave before the next one: what has come out then is exact.
    pub fn drained(mut self) -> Self {
        self.drain = true;
        self
    }

    /// Other engine settings. Deployments among them take the place of the test model.
    pub fn settings(mut self, settings: EngineSettings) -> Self {
        self.settings = settings;
        self
    }

    /// Leaves rows unscored.
    pub fn unscored(mut self) -> Self {
        self.scored = false;
        self
    }

    /// Has [`Harness::run_until`] dump piece by piece, over so many epochs.
    pub fn gradually(mut self, epochs: usize) -> Self {
        self.gradual = epochs;
        self
    }

    /// Throws the output away: for runs whose metrics are all that counts.
    pub fn uncaptured(mut self) -> Self {
        self.captured = false;
        self
    }

    /// Runs a plan to its end, and on until no row waits to be repaired.
    ///
    /// # Errors
    /// If the dataflow cannot be built.
    pub fn run(&self, plan: &Plan) -> Result<Outcome, BuildError> {
        Ok(self.part(plan, 0..plan.epochs.len(), None, false)?.0)
    }

    /// Runs a plan up to an epoch, as if it were to go on, and dumps what is kept at its end. Returns what has come out by then.
    ///
    /// # Errors
    /// If the dataflow cannot be built.
    pub fn run_until(&self, plan: &Plan, epoch: usize) -> Result<(Outcome, Image), BuildError> {
        let (outcome, image) = self.part(plan, 0..epoch + 1, None, true)?;
        Ok((outcome, image.ok_or_else(|| BuildError("nothing was dumped".into()))?))
    }

    /// Goes on with a plan from an image on, to its end and until no row waits to be repaired. The number of workers may be
    /// another one. Returns what comes out from there on.
    ///
    /// # Errors
    /// If the dataflow cannot be built, or the image is of another one.
    pub fn resume(&self, plan: &Plan, image: Image) -> Result<Outcome, BuildError> {
        let next = image.facts().epoch as usize + 1;
        Ok(self.part(plan, next..plan.epochs.len(), Some(Arc::new(image)), false)?.0)
    }

    /// Runs some epochs of a plan, with what was kept before them. With `cut` it stops there, and dumps what is kept.
    fn part(
        &self,
        plan: &Plan,
        epochs: Range<usize>,
        from: Option<Arc<Image>>,
        cut: bool,
    ) -> Result<(Outcome, Option<Image>), BuildError> {
        let columns = self.dataflow.features(&self.setup)?.columns();
        let mut run = self.clone();
        if self.scored && self.settings.deployments.is_none() {
            run.settings.deployments = Some(TestModel::scorer(columns).into());
        }
        let (plan, captured, metrics) = (
            plan.clone().dealt(self.partitions.unwrap_or(self.workers), self.setup.schema.id_type()),
            Captured::default(),
            Arc::default(),
        );
        let barrier = Barrier::new(self.workers);
        let owed: Vec<AtomicU64> = (0..self.workers).map(|_| AtomicU64::new(0)).collect();
        let shared = (captured.clone(), Arc::clone(&metrics));
        let communication =
            if self.workers == 1 { Communication::Thread } else { Communication::Process(self.workers) };
        let config = Config { communication, worker: pipeline::worker_config() };
        let now = epochs.clone();
        let guards = timely::execute(config, move |worker| {
            let (captured, metrics) = &shared;
            set_worker(worker.index());
            let ports = if run.captured { captured.ports() } else { to_nowhere() };
            let dumped = captured.dumped.clone();
            let dump =
                move |image: GivenImage| dumped.lock().unwrap_or_else(PoisonError::into_inner).push(image.made());
            let images = Images::new(from.clone(), dump, worker.index(), worker.peers());
            let engine = pipeline::build(worker, &*run.dataflow, &run.setup, &run.settings, ports, images, metrics)?;
            let (repair_rows_max, next) = (run.settings.repair_rows_max, now.start as Epoch);
            let mut feeder = Feeder {
                worker,
                engine,
                next,
                barrier: &barrier,
                captured,
                owed: &owed,
                repair_rows_max,
                gradual: run.gradual,
            };
            Ok::<_, BuildError>(feeder.feed(&plan, now.clone(), run.drain, cut))
        });
        let (mut closed, mut facts) = (Vec::new(), None);
        for result in guards.map_err(BuildError)?.join() {
            (closed, facts) = result.map_err(BuildError)??;
        }
        let held = captured.held.lock().unwrap_or_else(PoisonError::into_inner).take();
        let came = held.unwrap_or_else(|| captured.take());
        let Came { scored, rows, rejects, mut collections, dumped } = came;
        // What stood at the end of the epoch that was loaded comes anew, as of that epoch: it has been given out already.
        collections.retain(|update| update.epoch >= epochs.start as Epoch);
        let image = facts.map(|facts| Image::of(facts, dumped));
        Ok((Outcome { scored, rows, rejects, collections, metrics, closed }, image))
    }
}

struct Feeder<'a> {
    worker: &'a mut Worker,
    engine: Engine,
    next: Epoch,
    barrier: &'a Barrier,
    captured: &'a Captured,
    /// What each worker owes.
    owed: &'a [AtomicU64],
    repair_rows_max: usize,
    /// Epochs over which a cut is taken.
    gradual: usize,
}

impl Feeder<'_> {
    /// Returns where each planned epoch was complete, if they are drained, and the facts of the last one if it is cut.
    fn feed(&mut self, plan: &Plan, epochs: Range<usize>, drain: bool, cut: bool) -> (Vec<Epoch>, Option<Facts>) {
        let (mut closed, here, peers) = (Vec::new(), self.worker.index(), self.worker.peers());
        let (mut watermark_ms, last) = (i64::MIN, epochs.end.saturating_sub(1));
        for (number, epoch) in epochs.clone().zip(&plan.epochs[epochs]) {
            let mine = epoch.arrivals.iter().filter(|arrival| arrival.partition as usize % peers == here);
            let mut mine: Vec<_> = mine.cloned().collect();
            self.engine.arrivals.send_batch(&mut mine);
            if here == 0 {
                let mut references = Vec::new();
                epoch.references.iter().for_each(|record| record.clone().address(peers, &mut references));
                self.engine.references.send_batch(&mut references);
            }
            watermark_ms = epoch.watermark_ms;
            self.close(watermark_ms, epoch.arrivals.len(), self.dump(cut, number, last));
            if drain {
                self.leave(0);
                self.drain(epoch.watermark_ms);
                closed.push(self.next - 1);
            } else {
                self.leave(IN_FLIGHT);
            }
        }
        self.leave(0);
        if cut {
            return (closed, Some(self.cut()));
        }
        self.drain(plan.watermark_ms().max(watermark_ms));
        (closed, None)
    }

    /// What is dumped at the end of an epoch.
    fn dump(&self, cut: bool, number: usize, last: usize) -> Option<Dump> {
        match (cut, self.gradual.min(last)) {
            (true, 0) if number == last => Some(Dump::Whole),
            (true, gradual) if number == last - gradual => Some(Dump::Begin),
            (true, _) if number == last => Some(Dump::End),
            _ => None,
        }
    }

    /// Waits until everyone has dumped the last epoch, and holds what has come out by then: what comes now, as operators finish
    /// what they owe, does not count.
    fn cut(&mut self) -> Facts {
        let epoch = self.next - 1;
        while !self.engine.images.is_whole(epoch) {
            self.worker.step_or_park(Some(Duration::from_micros(50)));
        }
        self.barrier.wait();
        if self.worker.index() == 0 {
            let came = self.captured.take();
            *self.captured.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(came);
        }
        self.barrier.wait();
        self.engine.facts.of(epoch)
    }

    /// The facts are the same on all workers: how many records the epoch has, not how many are this worker's.
    fn close(&mut self, watermark_ms: i64, records: usize, dump: Option<Dump>) {
        self.captured.epoch.store(self.next, Ordering::Relaxed);
        let repair = Repair::of(self.repair_rows_max, records as u64, 0);
        self.engine.close(self.next, watermark_ms, repair, dump, None);
        self.next += 1;
    }

    /// Steps until at most so many epochs are on their way.
    fn leave(&mut self, in_flight: u64) {
        let reached = self.next.saturating_sub(in_flight);
        while self.engine.probe.less_than(&reached) {
            // The smallest pieces, so that shards are dumped at the ends of as many epochs as possible.
            if self.next.is_multiple_of(3) {
                self.engine.images.grant(1);
            }
            self.worker.step_or_park(Some(Duration::from_micros(50)));
        }
    }

    /// Closes epochs without events until no key waits to be repaired. A revision leaves one epoch after its cause, so at
    /// least one.
    fn drain(&mut self, watermark_ms: i64) {
        loop {
            self.owed[self.worker.index()].store(self.engine.owed.keys(), Ordering::Relaxed);
            // Between the two barriers nobody works, so everyone reads the same.
            self.barrier.wait();
            let waiting = self.owed.iter().any(|keys| keys.load(Ordering::Relaxed) > 0);
            self.barrier.wait();
            self.close(watermark_ms, 0, None);
            self.leave(0);
            if !waiting {
                return;
            }
        }
    }
}

impl Captured {
    fn take(&self) -> Came {
        Came {
            scored: taken(&self.scored),
            rows: taken(&self.rows),
            rejects: taken(&self.rejects),
            collections: taken(&self.collections),
            dumped: taken(&self.dumped),
        }
    }

    fn ports(&self) -> Ports {
        let (rows, epoch) = (self.rows.clone(), self.epoch.clone());
        let features: Port<Rows> = Box::new(move |batch| {
            let (mut all, epoch) = (rows.lock().unwrap_or_else(PoisonError::into_inner), epoch.load(Ordering::Relaxed));
            for rows in batch.into_iter().flat_map(|(_, batch)| batch) {
                let kept = |one: &RowHead, row| RowRecord { epoch, id: one.event.id, cause: one.cause, row };
                all.extend(rows.iter().map(|(one, row)| kept(one, Some(row.to_vec()))));
                all.extend(rows.withdrawn.iter().map(|one| kept(one, None)));
            }
            true
        });
        let collections = self.collections.clone();
        Ports {
            scored: Some(capture(&self.scored)),
            rejects: Some(capture(&self.rejects)),
            features: Some(features),
            collections: Some(Rc::new(move || capture(&collections))),
        }
    }
}

fn to_nowhere() -> Ports {
    Ports {
        scored: Some(discard()),
        rejects: Some(discard()),
        features: Some(discard()),
        collections: Some(Rc::new(discard)),
    }
}

fn capture<T: 'static>(into: &Arc<Mutex<Vec<T>>>) -> Port<T> {
    let into = into.clone();
    Box::new(move |items| {
        into.lock().unwrap_or_else(PoisonError::into_inner).extend(items.into_iter().flat_map(|(_, items)| items));
        true
    })
}

fn taken<T>(from: &Mutex<Vec<T>>) -> Vec<T> {
    std::mem::take(&mut from.lock().unwrap_or_else(PoisonError::into_inner))
}
