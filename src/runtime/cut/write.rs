//! Writing cuts: a thread per process takes the images of its workers.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::manifest::{CutManifest, WholeCut};
use super::{Block, CutError, FOLDER, FORMAT, Head, Packed, folder, part};
use crate::disk::{Disk, DiskFile, Opening};
use crate::epoch::LaneEnd;
use crate::epoch::journal::{BindingLog, Chain, Covered};
use crate::event::{InputStream, Lane};
use crate::flow::{Epoch, Facts};
use crate::metrics::Metrics;
use crate::operators::{EnginePlan, GivenImage, ShardImage};
use crate::score::control::Deployments;
use crate::source::sealed::Terms;

/// Zstandard's fastest ordinary level.
const LEVEL: i32 = 1;

/// So much of a cut is synced at a time. Whatever else is synced on the same file system waits for it, above all the journal.
const SYNC_BYTES: usize = 1 << 20;

enum Message {
    /// The first of each worker's messages about a cut: it begins at the end of this epoch.
    Begin(Epoch),
    Image(GivenImage),
    /// It is of the end of an epoch of these facts, and a worker's lanes are there.
    End(Facts, BTreeMap<Lane, LaneEnd>),
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
    /// What its images are of.
    pub plan: Arc<EnginePlan>,
    /// Where the lanes were in the cut that the run goes on from.
    pub ends: Arc<BTreeMap<Lane, LaneEnd>>,
    /// What the manifest names.
    pub manifest: CutManifest,
    /// The journal that what is covered is dropped from.
    pub journal: BindingLog,
    /// How far behind the watermark the journal is kept, milliseconds of event time.
    pub kept_ms: i64,
    /// What decides, if anything does.
    pub deployments: Option<Deployments>,
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
    /// The epoch after the last cut that this process has on disk; 0 before the first.
    written: Arc<AtomicU64>,
    /// The epoch after the one at whose end the last cut began that could not be written; 0 if there is none.
    failed: Arc<AtomicU64>,
    /// The epoch after the one that the last cut is of; 0 before the first.
    ended: Arc<AtomicU64>,
    /// CPU time that the last cut took, nanoseconds.
    cost_ns: Arc<AtomicU64>,
}

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

    /// Waits until everything is written. All ends must be gone. The error is why the last cut was not written.
    pub fn finish(self) -> Result<(), CutError> {
        drop(self.end);
        self.thread.join().unwrap_or_else(|_| Err(CutError::of(Path::new(FOLDER), "the thread panicked")))
    }
}

impl CutterEnd {
    /// A worker has closed the epoch at whose end a cut begins.
    pub fn begin(&self, epoch: Epoch) {
        self.send(Message::Begin(epoch));
    }

    /// A worker has closed the epoch that the cut is of: here its lanes are.
    pub fn end(&self, facts: Facts, ends: BTreeMap<Lane, LaneEnd>) {
        self.ended.store(facts.epoch + 1, Ordering::Release);
        self.send(Message::End(facts, ends));
    }

    /// An image of a shard.
    pub fn image(&self, image: GivenImage) {
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

    /// CPU time that the last cut took, nanoseconds; 0 before the first.
    pub fn cost_ns(&self) -> u64 {
        self.cost_ns.load(Ordering::Relaxed)
    }

    /// The epoch that the last cut is of, written or not.
    pub fn ended(&self) -> Option<Epoch> {
        self.ended.load(Ordering::Acquire).checked_sub(1)
    }

    /// The last cut that this process has on disk.
    pub fn written(&self) -> Option<Epoch> {
        self.written.load(Ordering::Acquire).checked_sub(1)
    }

    /// The epoch at whose end the last cut began that this process could not write.
    pub fn failed(&self) -> Option<Epoch> {
        self.failed.load(Ordering::Acquire).checked_sub(1)
    }

    fn send(&self, message: Message) {
        // The thread goes on for as long as there are ends.
        let _ = self.to_disk.send(message);
    }
}

/// A part that is being written.
struct Part {
    /// The epoch at whose end it began, and the facts of the one that it is of, once that is known.
    begun: Epoch,
    facts: Option<Facts>,
    path: PathBuf,
    file: DiskFile,
    /// What is not written yet.
    unwritten: Vec<u8>,
    chain: Chain,
    ends: BTreeMap<Lane, LaneEnd>,
    images: u64,
    bytes: u64,
    /// Workers that have given everything.
    whole: usize,
    started_ns: u64,
    /// CPU time that its thread had used by then, nanoseconds.
    started_cpu_ns: u64,
}

/// What the thread does.
pub struct CutWriter {
    writing: Writing,
    queue: Receiver<Message>,
    /// What an earlier run has left was removed.
    swept: bool,
    /// The epoch at whose end the last cut began, and why that one failed.
    begun: Epoch,
    failed: Option<CutError>,
    failed_at: Arc<AtomicU64>,
}

impl CutWriter {
    /// With the end that workers get copies of.
    pub fn new(cutting: Cutting) -> (CutterEnd, Self) {
        let (to_disk, queue) = unbounded();
        let end = CutterEnd {
            to_disk,
            written: Arc::default(),
            failed: Arc::default(),
            ended: Arc::default(),
            cost_ns: Arc::default(),
        };
        let (written, cost_ns, failed_at) = (end.written.clone(), end.cost_ns.clone(), end.failed.clone());
        let writing = Writing { cutting, written, cost_ns, part: None, covered: BTreeMap::new() };
        (end, CutWriter { writing, queue, swept: false, begun: 0, failed: None, failed_at })
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
        if let Message::Begin(epoch) = message
            && epoch != self.begun
        {
            // After a failure the next one is tried.
            (self.begun, self.failed) = (epoch, None);
        }
        if self.failed.is_none() {
            let taken = self.writing.take(message);
            self.note(taken);
        }
    }

    /// The engine goes on after a failure: it has the journal. But a restart takes longer until a cut is whole again.
    fn note(&mut self, result: Result<(), CutError>) {
        if let Err(error) = result {
            self.writing.part = None;
            self.failed_at.store(self.begun + 1, Ordering::Release);
            self.writing.cutting.metrics.vitals.trouble("cuts", Some(format!("cannot write a cut: {error}")));
            tracing::error!(%error, "a cut cannot be written; the next one is tried");
            self.failed = Some(error);
        }
    }
}

struct Writing {
    cutting: Cutting,
    written: Arc<AtomicU64>,
    cost_ns: Arc<AtomicU64>,
    part: Option<Part>,
    /// Where the cuts begun that this run has written, and what they cover, by epoch.
    covered: BTreeMap<Epoch, (Epoch, Covered)>,
}

impl Writing {
    fn take(&mut self, message: Message) -> Result<(), CutError> {
        match message {
            Message::Begin(epoch) => self.begin(epoch),
            Message::Image(image) => self.part.as_mut().map_or(Ok(()), |part| part.image(&image.made())),
            Message::End(facts, ends) => {
                self.end(facts, ends);
                Ok(())
            }
            Message::Whole(epoch) => self.whole(epoch),
            Message::Publish(epoch) => self.publish(epoch),
        }
    }

    fn begin(&mut self, epoch: Epoch) -> Result<(), CutError> {
        if self.part.as_ref().is_some_and(|part| part.begun == epoch) {
            return Ok(());
        }
        let Cutting { disk, directory, process, terms, plan, ends, .. } = &self.cutting;
        let (folder, path) = (folder(directory, epoch), part(directory, epoch, process.0));
        let io = |error: std::io::Error| CutError::of(&path, error);
        disk.create_folder(&folder).map_err(io)?;
        let file = disk.open(&path, Opening::Empty).map_err(io)?;
        let chain = Chain::first(&path);
        let (ends, started_ns, started_cpu_ns) = ((**ends).clone(), disk.now_ns(), disk.cpu_ns());
        let mut part = Part {
            begun: epoch,
            facts: None,
            path,
            file,
            unwritten: Vec::new(),
            chain,
            ends,
            images: 0,
            bytes: 0,
            whole: 0,
            started_ns,
            started_cpu_ns,
        };
        part.write(&Block::Head(Head { format: FORMAT, terms: terms.clone(), plan: (**plan).clone() }))?;
        self.part = Some(part);
        Ok(())
    }

    fn end(&mut self, facts: Facts, ends: BTreeMap<Lane, LaneEnd>) {
        if let Some(part) = &mut self.part {
            part.facts = Some(facts);
            part.ends.extend(ends);
        }
    }

    fn whole(&mut self, epoch: Epoch) -> Result<(), CutError> {
        let is_it = |part: &Part| part.facts.is_some_and(|facts| facts.epoch == epoch);
        let Some(part) = self.part.as_mut().filter(|part| is_it(part)) else { return Ok(()) };
        part.whole += 1;
        if part.whole < self.cutting.workers {
            return Ok(());
        }
        let Some((mut part, facts)) = self.part.take().and_then(|part| part.facts.map(|facts| (part, facts))) else {
            return Ok(());
        };
        let (ends, images) = (std::mem::take(&mut part.ends), part.images);
        let upper = |(lane, end): (&Lane, &LaneEnd)| {
            (lane.stream == InputStream::Events).then_some((lane.partition, end.upper))
        };
        let kept_from_ms = facts.watermark_ms.saturating_sub(self.cutting.kept_ms);
        let uppers = ends.iter().filter_map(upper).collect();
        let begun = part.begun;
        self.covered.insert(epoch, (begun, Covered { epoch, uppers, kept_from_ms }));
        if let Some(deployments) = &self.cutting.deployments {
            part.write(&Block::Control(deployments.history(facts.deployment)))?;
        }
        part.write(&Block::End(facts, ends, images))?;
        part.flush()?;
        let io = |error: std::io::Error| CutError::of(&part.path, error);
        let Cutting { disk, directory, .. } = &self.cutting;
        let folder = folder(directory, part.begun);
        disk.sync_folder(&folder).and_then(|()| disk.sync_folder_of(&folder)).map_err(io)?;
        // What operators do for it costs about as much as this thread.
        let cost_ns = 2 * disk.cpu_ns().saturating_sub(part.started_cpu_ns);
        self.cost_ns.store(cost_ns, Ordering::Relaxed);
        let (ms, cpu_ms) = (disk.now_ns().saturating_sub(part.started_ns) as f64 / 1e6, cost_ns as f64 / 1e6);
        tracing::info!(epoch, images, bytes = part.bytes, ms, cpu_ms, "a cut is on disk");
        self.written.store(epoch + 1, Ordering::Release);
        self.cutting.metrics.vitals.trouble("cuts", None);
        Ok(())
    }

    fn publish(&mut self, epoch: Epoch) -> Result<(), CutError> {
        let named = self.cutting.manifest.cuts.first().is_some_and(|cut| cut.epoch == epoch);
        if named || self.written.load(Ordering::Acquire) != epoch + 1 {
            return Ok(());
        }
        let Some(&(begun, _)) = self.covered.get(&epoch) else { return Ok(()) };
        let Cutting { disk, directory, process, manifest, metrics, .. } = &mut self.cutting;
        if process.0 == 0 {
            manifest.add(disk, directory, WholeCut { epoch, begun, processes: process.1 })?;
            metrics.cuts.add(1);
        } else {
            manifest.cuts.insert(0, WholeCut { epoch, begun, processes: process.1 });
            manifest.cuts.truncate(2);
        }
        self.sweep()?;
        // What the older of the two covers, neither needs.
        let oldest = self.cutting.manifest.cuts.last().map_or(0, |cut| cut.epoch);
        if let Some((_, covered)) = self.covered.get(&oldest) {
            self.cutting.journal.release(covered.clone());
        }
        self.covered.retain(|&epoch, _| epoch >= oldest);
        Ok(())
    }

    /// Removes older cuts, and some that were never finished.
    fn sweep(&self) -> Result<(), CutError> {
        let Cutting { disk, directory, process, manifest, .. } = &self.cutting;
        if process.0 > 0 {
            return Ok(());
        }
        let newest = manifest.cuts.first().map_or(0, |cut| cut.begun);
        let first = self.written.load(Ordering::Acquire) == 0;
        // A newer one may be on its way, of another process.
        let over = |begun| (begun <= newest || first) && self.part.as_ref().is_none_or(|part| part.begun != begun);
        sweep(disk, directory, manifest, over)
    }
}

/// Removes what the manifest does not name of the cuts that are `over`.
pub fn sweep(
    disk: &Disk,
    directory: &Path,
    manifest: &CutManifest,
    over: impl Fn(Epoch) -> bool,
) -> Result<(), CutError> {
    let cuts = directory.join(FOLDER);
    let failed = |error: std::io::Error| CutError::of(&cuts, error);
    for name in disk.list(&cuts).map_err(failed)? {
        let Some(begun) = name.to_str().and_then(|name| name.parse::<Epoch>().ok()) else { continue };
        if !manifest.cuts.iter().any(|cut| cut.begun == begun) && over(begun) {
            disk.remove_folder(&cuts.join(&name)).map_err(failed)?;
        }
    }
    Ok(())
}

impl Part {
    fn image(&mut self, image: &ShardImage) -> Result<(), CutError> {
        let packed = zstd::bulk::compress(&image.bytes, LEVEL).map_err(|error| CutError::of(&self.path, error))?;
        self.images += 1;
        let ShardImage { view, shard, epoch, asked, bytes } = image;
        let (bytes, packed) = (bytes.len() as u64, &*packed);
        self.write(&Block::Image(Packed { view, shard: *shard, epoch: *epoch, asked: *asked, bytes, packed }))
    }

    fn write(&mut self, block: &Block) -> Result<(), CutError> {
        let before = self.unwritten.len();
        let written = self.chain.write(block, &mut self.unwritten);
        self.bytes += (self.unwritten.len() - before) as u64;
        written.map_err(|error| CutError::of(&self.path, error))?;
        if self.unwritten.len() < SYNC_BYTES { Ok(()) } else { self.flush() }
    }

    /// Writes and syncs what is not written yet, piece by piece.
    fn flush(&mut self) -> Result<(), CutError> {
        for piece in self.unwritten.chunks(SYNC_BYTES) {
            let begin = Instant::now();
            let written = self.file.write_all(piece).and_then(|()| self.file.sync());
            // As long as that took, the disk is left to others.
            thread::sleep(begin.elapsed());
            written.map_err(|error| CutError::of(&self.path, error))?;
        }
        self.unwritten.clear();
        Ok(())
    }
}
