//! One run of the engine, turned by hand: everything that survives is the real thing, the graph is a toy.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};
use deltawatch::epoch::clock::End;
use deltawatch::epoch::journal::{Inputs, JournalWriter};
use deltawatch::epoch::{Authority, Pace, PartitionBounds, Stash};
use deltawatch::event::{Event, Id, Lane, Partition, Record};
use deltawatch::flow::{Arrival, Binding, Decoded, Dump, EVERY_SHARD, Epoch, EpochFacts, Report, Word};
use deltawatch::metrics::Metrics;
use deltawatch::operators::{EnginePlan, GivenImage, Images};
use deltawatch::runtime::cut::{CutWriter, CutterEnd};
use deltawatch::runtime::outlet::{Closing, EpochDelivery, Parcel, Reporting, closing, port};
use deltawatch::runtime::state::{State, StateSettings};
use deltawatch::runtime::worker::Mint;
use deltawatch::sink::file::{Existing, open_on};
use deltawatch::sink::port::Port;
use deltawatch::sink::{Acknowledgements, FileWriter, Headers, OutputRecord, Writer};
use deltawatch::source::sealed::Terms;
use deltawatch::source::{Reader, Ready};
use deltawatch::testkit::disk::SimulatedDisk;
use rand::Rng;
use rand::rngs::StdRng;

use super::world::{Item, Sums, TimedSource, World};

pub const DIRECTORY: &str = "/run/state";
const FLAGS: [&str; 2] = ["--output", "--rejects"];
const BATCHES_MAX: usize = 4;

pub fn settings(world: &World) -> StateSettings {
    StateSettings {
        keeps_records: world.keeps_records,
        cut_every: Some(Duration::from_millis(world.cut_every_ms)),
        kept_ms: world.kept_ms,
        segment_bytes: world.segment_bytes,
        ..StateSettings::of(Pace::Live)
    }
}

type Delivery = (EpochDelivery<Box<dyn Writer>>, Receiver<Parcel<Vec<OutputRecord>>>);

/// A running engine.
pub struct Engine {
    disk: SimulatedDisk,
    journal: JournalWriter,
    cutter: CutWriter,
    cutter_end: CutterEnd,
    mint: Option<Mint>,
    workers: Vec<Worker>,
    /// Reports on their way to the authority.
    reports: VecDeque<Report>,
    sums: Sums,
    images: Images,
    /// Epochs that are bound and have not left: their items, and how many workers have bound them.
    open: BTreeMap<Epoch, (Binding, Vec<Item>, usize)>,
    /// The first epoch that has not left.
    left: Epoch,
    /// Batches that the ports could not take.
    ports: Option<[Port<OutputRecord>; 2]>,
    deliveries: [Result<Delivery, Receiver<Parcel<Vec<OutputRecord>>>>; 2],
    closing: Option<Closing>,
    acknowledgements: Arc<Acknowledgements>,
    pub stop: bool,
    pub failed: Option<String>,
    state: State,
}

struct Worker {
    index: usize,
    reader: Box<dyn Reader>,
    inputs: Inputs,
    stash: Stash,
    facts: EpochFacts,
    /// The epoch at whose end the last dump began.
    dumping: Option<Epoch>,
    next: Epoch,
    partitions: Vec<Partition>,
    ready: Ready,
    closed: bool,
    last: bool,
    reported: Option<Report>,
    words: VecDeque<Word>,
}

impl Engine {
    /// As `Job::run` sets it up.
    pub fn start(disk: &SimulatedDisk, world: &Arc<World>, workers: usize) -> Result<Self, String> {
        let medium = disk.disk();
        let mut state =
            State::prepare(&medium, Path::new(DIRECTORY), settings(world), &Terms::default(), EnginePlan::default())
                .map_err(|error| error.to_string())?;
        let journal = state.take_writer().expect("a run writes a journal");
        let (marks, metrics) = (state.marks().clone(), Arc::new(Metrics::default()));
        let existing = if world.overwrites { Existing::Overwrite } else { Existing::Refuse };
        let mut writers: Vec<Box<dyn Writer>> = Vec::new();
        for (flag, path) in FLAGS.into_iter().zip(&world.outputs) {
            let goes_on = marks.get(flag).and_then(|mark| mark.goes_on(&medium, path));
            let opened = open_on(&medium, path, flag, goes_on.map_or(existing, Existing::GoOn));
            writers.push(Box::new(FileWriter::new(opened.map_err(|error| error.to_string())?, Box::new(|_| {}))));
        }
        let done = FLAGS.map(|flag| marks.get(flag).and_then(|mark| mark.acknowledged.epoch));
        state.check_reaches(done.into_iter().flatten().max()).map_err(|error| error.to_string())?;
        let bases = state.bases().clone();
        let acknowledgements = Acknowledgements::new(medium, Some(DIRECTORY.into()), 0, 1, bases);
        let acknowledgements = Arc::new(acknowledgements);
        let (mut ports, mut deliveries, mut closings) = (Vec::new(), Vec::new(), Vec::new());
        for ((flag, done), writer) in FLAGS.into_iter().zip(done).zip(writers) {
            let (sender, receiver) = bounded(BATCHES_MAX);
            let reporting = Reporting { flag, done, to: acknowledgements.clone() };
            closings.push(closing(sender.clone()));
            ports.push(port(sender, done, |_, records: Vec<OutputRecord>| records));
            deliveries.push(Ok((EpochDelivery::new(writer, Some(reporting)), receiver)));
        }
        acknowledgements.settle().map_err(|error| error.to_string())?;
        let (cutter_end, cutter) = CutWriter::new(state.cutting(workers, 1, &metrics).expect("cuts are taken"));
        let to = cutter_end.clone();
        let images = Images::new(state.image(), move |image: GivenImage| to.image(image), 0, 1);
        let sums = Rc::new(RefCell::new(Sums::default()));
        images.load("keys", |part: Vec<(u32, u64)>| {
            sums.borrow_mut().by_key.extend(part);
            Ok(())
        })?;
        images.load("count", |count: u64| {
            sums.borrow_mut().count = count;
            Ok(())
        })?;
        let sums = sums.take();
        let recorded = state.recorded();
        let bounds = PartitionBounds { records_max: 8, idle_ms: 100, ..PartitionBounds::default() };
        let mint = Mint {
            recorded: recorded.until,
            authority: Authority::new(workers, Pace::Live, &bounds, recorded).cutting_last(true),
            log: state.bindings(),
            held: None,
            cut_every_ns: Some(world.cut_every_ms * 1_000_000),
            cut_ns: disk.now_ns(),
            cut_cpu: cpu_time::ProcessTime::now(),
            cutter: Some(cutter_end.clone()),
            control: None,
        };
        let source = TimedSource { world: world.clone(), clock: disk.clone() };
        let mut running = Vec::new();
        for index in 0..workers {
            let facts = EpochFacts::default();
            images.facts().into_iter().for_each(|loaded| facts.resume(loaded));
            running.push(Worker {
                index,
                reader: state.reader(&source, index, workers).map_err(|error| error.to_string())?,
                inputs: state.inputs().expect("a run writes a journal"),
                stash: Stash::new(bounds, true).resuming(state.ends()),
                facts,
                dumping: None,
                next: images.start(),
                partitions: Vec::new(),
                ready: Ready::Waiting,
                closed: false,
                last: false,
                reported: None,
                words: VecDeque::new(),
            });
        }
        state.release_image();
        images.release();
        Ok(Engine {
            disk: disk.clone(),
            journal,
            cutter,
            cutter_end,
            mint: Some(mint),
            workers: running,
            reports: VecDeque::new(),
            sums,
            left: images.start(),
            images,
            open: BTreeMap::new(),
            ports: ports.try_into().ok(),
            deliveries: deliveries.try_into().unwrap_or_else(|_| unreachable!("two flags")),
            closing: Some(Closing::new(closings)),
            acknowledgements,
            stop: false,
            failed: None,
            state,
        })
    }

    /// Tells the directory from all others.
    pub fn identity(&self) -> String {
        self.state.writer().state
    }

    /// Somebody does something. Says when all is done.
    pub fn step(&mut self, random: &mut StdRng, publish: &mut dyn FnMut(&Word)) -> bool {
        match random.random_range(0..10) {
            0 | 1 => {
                let worker = random.random_range(0..self.workers.len());
                self.work(worker, random);
            }
            2 | 3 => self.decide(random, publish),
            4 => _ = self.journal.turn(),
            5 => _ = self.cutter.turn(),
            6 | 7 => {
                let output = random.random_range(0..2);
                self.deliver(output);
            }
            8 => self.leave(),
            _ => return self.is_done(),
        }
        false
    }

    fn is_done(&mut self) -> bool {
        let next = self.workers[0].next;
        self.workers.iter().all(|worker| worker.last)
            && self.open.is_empty()
            && self.left == next
            && next.checked_sub(1).is_none_or(|last| self.closing.as_mut().is_none_or(|closing| closing.close(last)))
    }

    fn fail(&mut self, error: String) {
        self.failed.get_or_insert(error);
        self.stop = true;
    }

    /// The worker loop.
    fn work(&mut self, index: usize, random: &mut StdRng) {
        let (now_ns, stop) = (self.disk.now_ns(), self.stop);
        let worker = &mut self.workers[index];
        if worker.last {
            return;
        }
        if let Err(error) = worker.read(now_ns, random.random_range(1..20)) {
            worker.closed = true;
            return self.fail(error);
        }
        if index == 0
            && let (Some(closing), Some(last)) = (&mut self.closing, self.left.checked_sub(1))
        {
            closing.close(last);
        }
        let written = self.cutter_end.written();
        let acknowledged = written.and_then(|_| self.acknowledgements.reached());
        let worker = &mut self.workers[index];
        self.reports.extend(worker.report(now_ns, stop, written, acknowledged, self.cutter_end.failed()));
        while let Some(word) = worker.words.pop_front() {
            match word {
                Word::Reach(epoch, reach) if epoch == worker.next => worker.stash.reach(reach),
                Word::Reach(..) => {}
                Word::Whole(epoch) if index == 0 => self.cutter_end.publish(epoch),
                // Sums have no deployments.
                Word::Whole(_) | Word::Prepare(_) | Word::GiveUp(_) => {}
                Word::End => worker.last = true,
                Word::Bind(binding) => {
                    worker.last |= binding.last;
                    let items = worker.bind(&binding, &self.cutter_end);
                    let open = self.open.entry(binding.epoch).or_insert_with(|| (binding, Vec::new(), 0));
                    open.1.extend(items);
                    open.2 += 1;
                }
            }
        }
    }

    /// The authority.
    fn decide(&mut self, random: &mut StdRng, publish: &mut dyn FnMut(&Word)) {
        let Some(mint) = self.mint.as_mut().filter(|_| !self.workers[0].last) else { return };
        let some = random.random_range(0..=self.reports.len());
        self.reports.drain(..some).for_each(|report| mint.authority.report(report));
        let mut said = Vec::new();
        if let Err(error) = mint.advance(self.disk.now_ns(), self.left, |word| said.push(word)) {
            said.push(mint.authority.end());
            self.mint = None;
            self.fail(error.to_string());
        }
        for word in said {
            publish(&word);
            self.workers.iter_mut().for_each(|worker| worker.words.push_back(word.clone()));
        }
    }

    /// The graph.
    fn leave(&mut self) {
        let workers = self.workers.len();
        let Some(ports) = &mut self.ports else { return };
        let whole = self.open.first_entry().filter(|open| open.get().2 == workers);
        if let Some(open) = whole {
            let (binding, items, _) = open.remove();
            let epoch = binding.epoch;
            let lines = self.sums.take(epoch, binding.watermark_ms, items);
            for (port, lines) in ports.iter_mut().zip(lines) {
                port(Some((epoch, lines.into_iter().map(|line| output(epoch, line)).collect())));
            }
            if matches!(binding.dump, Some(Dump::End | Dump::Whole)) {
                for (key, sum) in &self.sums.by_key {
                    self.images.put("keys", *key, epoch, &vec![(*key, *sum)]);
                }
                self.images.put("count", EVERY_SHARD, epoch, &self.sums.count);
                (0..workers).for_each(|_| self.cutter_end.whole(epoch));
            }
        }
        let passed_on = ports.each_mut().map(|port| port(None)) == [true, true];
        if passed_on {
            self.left = self
                .open
                .keys()
                .next()
                .copied()
                .unwrap_or(self.workers.iter().map(|worker| worker.next).min().unwrap_or(0));
        }
    }

    /// The thread of an output.
    fn deliver(&mut self, output: usize) {
        let result = match &mut self.deliveries[output] {
            Ok((delivery, receiver)) => delivery.report().and_then(|()| match receiver.try_recv() {
                Ok(parcel) => delivery.take(parcel),
                Err(_) => delivery.idle(),
            }),
            Err(receiver) => {
                receiver.try_iter().for_each(drop);
                Ok(())
            }
        };
        if let Err(error) = result {
            self.break_off(output);
            self.fail(error.to_string());
        }
    }

    /// An output that failed takes nothing any more; what comes is discarded.
    fn break_off(&mut self, output: usize) {
        let (_, none) = bounded(0);
        let delivery = std::mem::replace(&mut self.deliveries[output], Err(none));
        self.deliveries[output] = delivery.map_or_else(Err, |(_, receiver)| Err(receiver));
    }

    /// The end of `Job::run`. The error is the run's.
    pub fn finish(mut self) -> Result<(), String> {
        (self.ports, self.closing) = (None, None);
        let mut failed = self.failed.take();
        for delivery in self.deliveries {
            let Ok((mut delivery, receiver)) = delivery else { continue };
            let ended = receiver.try_iter().try_for_each(|parcel| delivery.take(parcel));
            let ended = ended.and_then(|()| delivery.end(|_| {}));
            failed = failed.or(ended.err().map(|error| error.to_string()));
        }
        while self.cutter.turn() {}
        if let Some(last) = self.cutter_end.ended().filter(|_| failed.is_none())
            && self.acknowledgements.reached() >= Some(last)
        {
            self.cutter_end.publish(last);
        }
        while self.cutter.turn() {}
        while self.journal.turn() {}
        failed.map_or(Ok(()), Err)
    }
}

impl Worker {
    /// As `Intake::read`.
    fn read(&mut self, now_ns: u64, limit: usize) -> Result<(), String> {
        let room = self.inputs.hand_over();
        if self.closed || !room || self.stash.is_full() {
            return Ok(());
        }
        if let Some(held) = self.stash.hold() {
            self.reader.hold(held);
        }
        let mut records: Vec<Record> = Vec::new();
        self.ready = self.reader.poll(limit, &mut records).map_err(|error| error.to_string())?;
        let partitions = self.reader.partitions();
        if partitions != self.partitions {
            for &partition in &partitions {
                self.stash.queue(Lane::of_events(partition), now_ns);
            }
            self.partitions = partitions;
        }
        records.iter().try_for_each(|record| self.inputs.note(record))?;
        self.inputs.hand_over();
        for record in records {
            let Record { partition, offset, arrived_ns, timestamp_ms, .. } = record;
            let mut event = Event::default();
            (event.id, event.time) = (Id::from_int(offset), timestamp_ms);
            let arrival = Arrival { event, partition, offset, arrived_ns, raw: record.into_raw() };
            self.stash.push(Lane::of_events(partition), offset, now_ns, None, Decoded::Event(arrival));
        }
        let mut ends = Vec::new();
        self.reader.ends(&mut ends);
        let all = match self.ready {
            Ready::Done => End::ForGood,
            Ready::CaughtUp => End::ForNow,
            Ready::More | Ready::Waiting => End::No,
        };
        self.stash.look(all, &ends, End::ForGood);
        self.closed |= self.ready == Ready::Done;
        Ok(())
    }

    /// As `Intake::report`.
    fn report(
        &mut self,
        now_ns: u64,
        stopping: bool,
        written: Option<Epoch>,
        acknowledged: Option<Epoch>,
        cut_failed: Option<Epoch>,
    ) -> Option<Report> {
        if !self.inputs.hand_over() {
            return None;
        }
        if self.closed {
            self.stash.close();
        }
        let (mut offers, reach) = self.stash.offers(self.closed, now_ns);
        let at_end = self.closed || self.reader.is_log();
        offers.iter_mut().for_each(|offer| offer.spent &= at_end);
        let report = Report {
            worker: self.index as u32,
            next: self.next,
            offers,
            reach,
            done: self.closed && self.stash.is_empty(),
            loading: false,
            stopping,
            backlog: 0,
            written,
            acknowledged,
            dumped: self.dumping,
            cut_failed,
            deployment: 0,
            deployment_failed: None,
        };
        if self.reported.as_ref() == Some(&report) {
            return None;
        }
        self.reported = Some(report.clone());
        Some(report)
    }

    /// As `Intake::bind`.
    fn bind(&mut self, binding: &Binding, cutter: &CutterEnd) -> Vec<Item> {
        self.closed |= binding.stop;
        let mut items = Vec::new();
        self.stash.take(binding, |decoded, refused| {
            if let Decoded::Event(Arrival { partition, offset, raw, .. }) = decoded {
                items.push(Item { partition, offset, refused, bytes: raw.bytes.into() });
            }
        });
        self.facts.set(binding.epoch, binding.watermark_ms, binding.repair, binding.dump, None);
        if matches!(binding.dump, Some(Dump::Begin | Dump::Whole)) {
            cutter.begin(binding.epoch);
        }
        match binding.dump {
            // Sums are small: all of them are dumped at the end.
            Some(Dump::Begin) => self.dumping = Some(binding.epoch),
            Some(_) => cutter.end(self.facts.of(binding.epoch), self.stash.ends().collect()),
            None => {}
        }
        self.next = binding.epoch + 1;
        items
    }
}

fn output(epoch: Epoch, line: String) -> OutputRecord {
    let headers = Headers { epoch, diff: 1, cause: "" };
    OutputRecord { key: Vec::new(), payload: Some(line.into_bytes()), last_line: Vec::new(), headers, arrived_ns: 0 }
}
