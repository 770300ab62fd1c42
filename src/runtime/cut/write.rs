//! Writing cuts: a thread per process takes the images of its workers.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::manifest::{CutManifest, WholeCut};
use super::{Block, CutError, FOLDER, FORMAT, Head, folder, part};
use crate::disk::{Disk, DiskFile, Opening};
use crate::epoch::LaneEnd;
use crate::epoch::journal::{BindingLog, Chain, Covered};
use crate::event::{InputStream, Lane};
use crate::flow::{Epoch, Facts};
use crate::metrics::Metrics;
use crate::operators::ShardImage;
use crate::source::sealed::Terms;

/// Zstandard's fastest ordinary level.
const LEVEL: i32 = 1;

enum Message {
    /// The first of each worker's messages about a cut.
    Begin(Facts, BTreeMap<Lane, LaneEnd>),
    Image(ShardImage),
    /// The last one of a worker.
    Whole(Epoch),
    /// Every process has written its part, and all outputs were acknowledged.
    Publish(Epoch),
}

/// What a process's thread knows of cuts.
pub struct Cutting {
    /// Where it is.
    pub disk: Disk,
    /// The state directory.
    pub directory: PathBuf,
    /// The process's number, of how many.
    pub process: (usize, usize),
    /// Its workers.
    pub workers: usize,
    /// What decides the outcome of the run beside the records.
    pub terms: Terms,
    /// Where the lanes were in the cut that the run goes on from.
    pub ends: Arc<BTreeMap<Lane, LaneEnd>>,
    /// What the manifest names.
    pub manifest: CutManifest,
    /// The journal that what is covered is dropped from.
    pub journal: BindingLog,
    /// How far behind the watermark the journal is kept, milliseconds of event time.
    pub kept_ms: i64,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

/// The thread, seen from its process.
pub struct Cutter {
    end: CutterEnd,
    thread: JoinHandle<Result<(), CutError>>,
}

/// A worker's end.
#[derive(Clone)]
pub struct CutterEnd {
    to_disk: Sender<Message>,
    /// The epoch after the last cut that this process has on disk; 0 before the first, [`FAILED`] once writing has failed.
    written: Arc<AtomicU64>,
    /// The epoch after the last cut that was begun; 0 before the first.
    begun: Arc<AtomicU64>,
    /// How long the last cut took, nanoseconds.
    took_ns: Arc<AtomicU64>,
}

/// See [`CutterEnd::written`].
const FAILED: u64 = u64::MAX;

impl Cutter {
    /// Starts the thread.
    pub fn start(cutting: Cutting) -> std::io::Result<Self> {
        let (end, writer) = CutWriter::new(cutting);
        let thread = thread::Builder::new().name("cuts".into()).spawn(move || writer.run())?;
        Ok(Cutter { end, thread })
    }

    /// A worker's end.
    pub fn end(&self) -> CutterEnd {
        self.end.clone()
    }

    /// Waits until everything is written. All ends must be gone. The error is why no more cuts were written.
    pub fn finish(self) -> Result<(), CutError> {
        drop(self.end);
        self.thread.join().unwrap_or_else(|_| Err(CutError::of(Path::new(FOLDER), "the thread panicked")))
    }
}

impl CutterEnd {
    /// A worker has closed the epoch of a cut: here its lanes are.
    pub fn begin(&self, facts: Facts, ends: BTreeMap<Lane, LaneEnd>) {
        self.begun.store(facts.epoch + 1, Ordering::Release);
        self.send(Message::Begin(facts, ends));
    }

    /// An image of a shard.
    pub fn image(&self, image: ShardImage) {
        self.send(Message::Image(image));
    }

    /// A worker's images are all there.
    pub fn whole(&self, epoch: Epoch) {
        self.send(Message::Whole(epoch));
    }

    /// A cut is whole, everywhere.
    pub fn publish(&self, epoch: Epoch) {
        self.send(Message::Publish(epoch));
    }

    /// How long the last cut took, nanoseconds; 0 before the first.
    pub fn took_ns(&self) -> u64 {
        self.took_ns.load(Ordering::Relaxed)
    }

    /// The last cut that this process has begun.
    pub fn begun(&self) -> Option<Epoch> {
        self.begun.load(Ordering::Acquire).checked_sub(1)
    }

    /// The last cut that this process has on disk.
    pub fn written(&self) -> Option<Epoch> {
        match self.written.load(Ordering::Acquire) {
            0 | FAILED => None,
            next => Some(next - 1),
        }
    }

    /// Whether cuts are still written.
    pub fn works(&self) -> bool {
        self.written.load(Ordering::Acquire) != FAILED
    }

    fn send(&self, message: Message) {
        // Once writing has failed nobody takes it any more, which the thread has said.
        let _ = self.to_disk.send(message);
    }
}

/// A part that is being written.
struct Part {
    facts: Facts,
    path: PathBuf,
    file: BufWriter<DiskFile>,
    chain: Chain,
    ends: BTreeMap<Lane, LaneEnd>,
    images: u64,
    bytes: u64,
    /// Workers that have begun, and that have given everything.
    begun: usize,
    whole: usize,
    started_ns: u64,
}

/// What the thread does.
pub struct CutWriter {
    writing: Writing,
    queue: Receiver<Message>,
    /// What an earlier run has left was removed.
    swept: bool,
    failed: Option<CutError>,
}

impl CutWriter {
    /// With the end that workers get copies of.
    pub fn new(cutting: Cutting) -> (CutterEnd, Self) {
        let (to_disk, queue) = unbounded();
        let end = CutterEnd { to_disk, written: Arc::default(), begun: Arc::default(), took_ns: Arc::default() };
        let (written, took_ns) = (end.written.clone(), end.took_ns.clone());
        let writing = Writing { cutting, written, took_ns, part: None, covered: BTreeMap::new() };
        (end, CutWriter { writing, queue, swept: false, failed: None })
    }

    fn run(mut self) -> Result<(), CutError> {
        self.sweep();
        while let Ok(message) = self.queue.recv() {
            self.take(message);
        }
        self.failed.map_or(Ok(()), Err)
    }

    /// Takes the next message. Says whether there was one.
    pub fn turn(&mut self) -> bool {
        self.sweep();
        self.queue.try_recv().is_ok_and(|message| {
            self.take(message);
            true
        })
    }

    fn sweep(&mut self) {
        if !std::mem::replace(&mut self.swept, true) {
            let swept = self.writing.sweep();
            self.note(swept);
        }
    }

    fn take(&mut self, message: Message) {
        if self.failed.is_none() {
            let taken = self.writing.take(message);
            self.note(taken);
        }
    }

    /// The engine goes on after a failure: it has the journal. But a restart takes longer from then on.
    fn note(&mut self, result: Result<(), CutError>) {
        if let Err(error) = result {
            self.writing.written.store(FAILED, Ordering::Release);
            self.writing.cutting.metrics.vitals.trouble("cuts", Some(format!("cannot write a cut: {error}")));
            tracing::error!(%error, "no more cuts are written");
            self.failed = Some(error);
        }
    }
}

struct Writing {
    cutting: Cutting,
    written: Arc<AtomicU64>,
    took_ns: Arc<AtomicU64>,
    part: Option<Part>,
    /// What the cuts that this run has written cover, by epoch.
    covered: BTreeMap<Epoch, Covered>,
}

impl Writing {
    fn take(&mut self, message: Message) -> Result<(), CutError> {
        match message {
            Message::Begin(facts, ends) => self.begin(facts, ends),
            Message::Image(image) => self.part.as_mut().map_or(Ok(()), |part| part.image(&image)),
            Message::Whole(epoch) => self.whole(epoch),
            Message::Publish(epoch) => self.publish(epoch),
        }
    }

    fn begin(&mut self, facts: Facts, ends: BTreeMap<Lane, LaneEnd>) -> Result<(), CutError> {
        if self.part.as_ref().is_none_or(|part| part.facts.epoch != facts.epoch) {
            let Cutting { disk, directory, process, terms, ends, .. } = &self.cutting;
            let path = part(directory, facts.epoch, process.0);
            let io = |error: std::io::Error| CutError::of(&path, error);
            disk.create_folder(&folder(directory, facts.epoch)).map_err(io)?;
            let file = BufWriter::with_capacity(1 << 20, disk.open(&path, Opening::Empty).map_err(io)?);
            let chain = Chain::first(&path);
            let (ends, started_ns) = ((**ends).clone(), disk.now_ns());
            let mut begun =
                Part { facts, path, file, chain, ends, images: 0, bytes: 0, begun: 0, whole: 0, started_ns };
            begun.write(&Block::Head(Head { format: FORMAT, terms: terms.clone(), facts }))?;
            self.part = Some(begun);
        }
        if let Some(part) = &mut self.part {
            part.ends.extend(ends);
            part.begun += 1;
        }
        Ok(())
    }

    fn whole(&mut self, epoch: Epoch) -> Result<(), CutError> {
        let Some(part) = self.part.as_mut().filter(|part| part.facts.epoch == epoch) else { return Ok(()) };
        part.whole += 1;
        if part.whole < self.cutting.workers {
            return Ok(());
        }
        let Some(mut part) = self.part.take() else { return Ok(()) };
        let (ends, images) = (std::mem::take(&mut part.ends), part.images);
        let upper = |(lane, end): (&Lane, &LaneEnd)| {
            (lane.stream == InputStream::Events).then_some((lane.partition, end.upper))
        };
        let kept_from_ms = part.facts.watermark_ms.saturating_sub(self.cutting.kept_ms);
        let uppers = ends.iter().filter_map(upper).collect();
        self.covered.insert(epoch, Covered { epoch, uppers, kept_from_ms });
        part.write(&Block::End(ends, images))?;
        let io = |error: std::io::Error| CutError::of(&part.path, error);
        part.file.flush().and_then(|()| part.file.get_ref().sync()).map_err(io)?;
        let Cutting { disk, directory, .. } = &self.cutting;
        let folder = folder(directory, epoch);
        disk.sync_folder(&folder).and_then(|()| disk.sync_folder_of(&folder)).map_err(io)?;
        let took_ns = disk.now_ns().saturating_sub(part.started_ns);
        self.took_ns.store(took_ns, Ordering::Relaxed);
        let ms = took_ns as f64 / 1e6;
        tracing::info!(epoch, images, bytes = part.bytes, ms, "a cut is on disk");
        self.written.store(epoch + 1, Ordering::Release);
        Ok(())
    }

    fn publish(&mut self, epoch: Epoch) -> Result<(), CutError> {
        let named = self.cutting.manifest.cuts.first().is_some_and(|cut| cut.epoch == epoch);
        if named || self.written.load(Ordering::Acquire) != epoch + 1 {
            return Ok(());
        }
        let Cutting { disk, directory, process, manifest, metrics, .. } = &mut self.cutting;
        if process.0 == 0 {
            manifest.add(disk, directory, WholeCut { epoch, processes: process.1 })?;
            metrics.cuts.add(1);
        } else {
            manifest.cuts.insert(0, WholeCut { epoch, processes: process.1 });
            manifest.cuts.truncate(2);
        }
        self.sweep()?;
        // What the older of the two covers, neither needs.
        let oldest = self.cutting.manifest.cuts.last().map_or(0, |cut| cut.epoch);
        if let Some(covered) = self.covered.get(&oldest) {
            self.cutting.journal.release(covered.clone());
        }
        self.covered.retain(|&epoch, _| epoch >= oldest);
        Ok(())
    }

    /// Removes what the manifest does not name: older cuts, and some that were never finished.
    fn sweep(&self) -> Result<(), CutError> {
        let Cutting { disk, directory, process, manifest, .. } = &self.cutting;
        if process.0 > 0 {
            return Ok(());
        }
        let cuts = directory.join(FOLDER);
        let failed = |error: std::io::Error| CutError::of(&cuts, error);
        let newest = manifest.cuts.first().map_or(0, |cut| cut.epoch);
        for name in disk.list(&cuts).map_err(failed)? {
            let epoch: Option<Epoch> = name.to_str().and_then(|name| name.parse().ok());
            let named = |epoch: Epoch| manifest.cuts.iter().any(|cut| cut.epoch == epoch);
            // A newer one may be on its way, of another process.
            if epoch
                .is_some_and(|epoch| !named(epoch) && (epoch <= newest || self.written.load(Ordering::Acquire) == 0))
            {
                disk.remove_folder(&cuts.join(&name)).map_err(failed)?;
            }
        }
        Ok(())
    }
}

impl Part {
    fn image(&mut self, image: &ShardImage) -> Result<(), CutError> {
        let packed = zstd::bulk::compress(&image.bytes, LEVEL).map_err(|error| CutError::of(&self.path, error))?;
        self.images += 1;
        self.write(&Block::Image(&image.view, image.shard, image.bytes.len() as u64, &packed))
    }

    fn write(&mut self, block: &Block) -> Result<(), CutError> {
        let mut bytes = Vec::new();
        let written = self.chain.write(block, &mut bytes).and_then(|()| self.file.write_all(&bytes));
        self.bytes += bytes.len() as u64;
        written.map_err(|error| CutError::of(&self.path, error))
    }
}
