//! Writing cuts: a thread per process takes the images of its workers.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use cpu_time::ThreadTime;
use crossbeam_channel::{Receiver, Sender, unbounded};

use super::manifest::{CutManifest, WholeCut};
use super::{Block, CutError, FOLDER, FORMAT, Head, Packed, begun_folder, folder};
use crate::epoch::LaneEnd;
use crate::epoch::journal::{BindingLog, Chain, Covered};
use crate::event::{InputStream, Lane};
use crate::flow::{Epoch, Facts};
use crate::metrics::Metrics;
use crate::operators::{EnginePlan, ShardImage};
use crate::source::clock::now_ns;
use crate::source::sealed::Terms;

/// Zstandard's fastest ordinary level.
const LEVEL: i32 = 1;

enum Message {
    /// The first of each worker's messages about a cut: it begins at the end of this epoch.
    Begin(Epoch),
    Image(ShardImage),
    /// It is of the end of an epoch of these facts, and a worker's lanes are there.
    End(Facts, BTreeMap<Lane, LaneEnd>),
    /// The last one of a worker.
    Whole(Epoch),
    /// Every process has written its part, and all outputs were acknowledged.
    Publish(Epoch),
}

/// What a process's thread knows of cuts.
pub struct Cutting {
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
    /// The epoch after the one that the last cut is of; 0 before the first.
    ended: Arc<AtomicU64>,
    /// CPU time that the last cut took, nanoseconds.
    cost_ns: Arc<AtomicU64>,
}

/// See [`CutterEnd::written`].
const FAILED: u64 = u64::MAX;

impl Cutter {
    /// Starts the thread.
    pub fn start(cutting: Cutting) -> std::io::Result<Self> {
        let (to_disk, queue) = unbounded();
        let end = CutterEnd { to_disk, written: Arc::default(), ended: Arc::default(), cost_ns: Arc::default() };
        let (written, cost_ns) = (end.written.clone(), end.cost_ns.clone());
        let thread = thread::Builder::new().name("cuts".into()).spawn(move || {
            let metrics = cutting.metrics.clone();
            let result = Writing { cutting, written: written.clone(), cost_ns, part: None, covered: BTreeMap::new() }
                .run(&queue);
            if let Err(error) = &result {
                // The engine goes on: it has the journal. But a restart takes longer from now on.
                written.store(FAILED, Ordering::Release);
                metrics.vitals.trouble("cuts", Some(format!("cannot write a cut: {error}")));
                tracing::error!(%error, "no more cuts are written");
            }
            result
        })?;
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
    /// The epoch at whose end it began, and the facts of the one that it is of, once that is known.
    begun: Epoch,
    facts: Option<Facts>,
    path: PathBuf,
    file: BufWriter<File>,
    chain: Chain,
    ends: BTreeMap<Lane, LaneEnd>,
    images: u64,
    bytes: u64,
    /// Workers that have given everything.
    whole: usize,
    started_ns: u64,
    started_cpu: ThreadTime,
}

struct Writing {
    cutting: Cutting,
    written: Arc<AtomicU64>,
    cost_ns: Arc<AtomicU64>,
    part: Option<Part>,
    /// What the cuts that this run has written cover, by epoch.
    covered: BTreeMap<Epoch, Covered>,
}

impl Writing {
    fn run(mut self, queue: &Receiver<Message>) -> Result<(), CutError> {
        self.sweep()?;
        for message in queue {
            match message {
                Message::Begin(epoch) => self.begin(epoch)?,
                Message::End(facts, ends) => self.end(facts, ends),
                Message::Image(image) => {
                    if let Some(part) = &mut self.part {
                        part.image(&image)?;
                    }
                }
                Message::Whole(epoch) => self.whole(epoch)?,
                Message::Publish(epoch) => self.publish(epoch)?,
            }
        }
        Ok(())
    }

    fn begin(&mut self, epoch: Epoch) -> Result<(), CutError> {
        if self.part.as_ref().is_some_and(|part| part.begun == epoch) {
            return Ok(());
        }
        let Cutting { directory, process, terms, plan, ends, .. } = &self.cutting;
        let folder = begun_folder(directory, epoch);
        let path = folder.join(format!("{:04}", process.0));
        let io = |error: std::io::Error| CutError::of(&path, error);
        std::fs::create_dir_all(&folder).map_err(io)?;
        let file = BufWriter::with_capacity(1 << 20, File::create(&path).map_err(io)?);
        let chain = Chain::first(&path);
        let (ends, started_ns, started_cpu) = ((**ends).clone(), now_ns(), ThreadTime::now());
        let mut part = Part {
            begun: epoch,
            facts: None,
            path,
            file,
            chain,
            ends,
            images: 0,
            bytes: 0,
            whole: 0,
            started_ns,
            started_cpu,
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
        self.covered.insert(epoch, Covered { epoch, uppers, kept_from_ms });
        part.write(&Block::End(facts, ends, images))?;
        let io = |error: std::io::Error| CutError::of(&part.path, error);
        part.file.flush().and_then(|()| part.file.get_ref().sync_all()).map_err(io)?;
        let Cutting { directory, process, .. } = &self.cutting;
        let (begun, folder) = (begun_folder(directory, part.begun), folder(directory, epoch));
        std::fs::create_dir_all(&folder).map_err(io)?;
        std::fs::rename(&part.path, super::part(directory, epoch, process.0)).map_err(io)?;
        let synced = |path: &Path| File::open(path).and_then(|folder| folder.sync_all());
        synced(&folder).and_then(|()| synced(&directory.join(FOLDER))).map_err(io)?;
        // Other processes may still have theirs in it; the last one out removes it.
        let _ = std::fs::remove_dir(begun);
        // What operators do for it costs about as much as this thread.
        let cost_ns = 2 * part.started_cpu.elapsed().as_nanos() as u64;
        self.cost_ns.store(cost_ns, Ordering::Relaxed);
        let (ms, cpu_ms) = (now_ns().saturating_sub(part.started_ns) as f64 / 1e6, cost_ns as f64 / 1e6);
        tracing::info!(epoch, images, bytes = part.bytes, ms, cpu_ms, "a cut is on disk");
        self.written.store(epoch + 1, Ordering::Release);
        Ok(())
    }

    fn publish(&mut self, epoch: Epoch) -> Result<(), CutError> {
        let named = self.cutting.manifest.cuts.first().is_some_and(|cut| cut.epoch == epoch);
        if named || self.written.load(Ordering::Acquire) != epoch + 1 {
            return Ok(());
        }
        let Cutting { directory, process, manifest, metrics, .. } = &mut self.cutting;
        if process.0 == 0 {
            manifest.add(directory, WholeCut { epoch, processes: process.1 })?;
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
        let Cutting { directory, process, manifest, .. } = &self.cutting;
        if process.0 > 0 {
            return Ok(());
        }
        let cuts = directory.join(FOLDER);
        let failed = |error: std::io::Error| CutError::of(&cuts, error);
        let entries = match std::fs::read_dir(&cuts) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
        let newest = manifest.cuts.first().map_or(0, |cut| cut.epoch);
        let first = self.written.load(Ordering::Acquire) == 0;
        for entry in entries {
            let path = entry.map_err(failed)?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let (epoch, begun) = name.strip_suffix(".begun").map_or((name, false), |epoch| (epoch, true));
            let Ok(epoch) = epoch.parse::<Epoch>() else { continue };
            let named = !begun && manifest.cuts.iter().any(|cut| cut.epoch == epoch);
            // A newer one may be on its way, of another process.
            if !named && (epoch <= newest || first) && self.part.as_ref().is_none_or(|part| part.begun != epoch) {
                std::fs::remove_dir_all(&path).map_err(failed)?;
            }
        }
        Ok(())
    }
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
        let mut bytes = Vec::new();
        let written = self.chain.write(block, &mut bytes).and_then(|()| self.file.write_all(&bytes));
        self.bytes += bytes.len() as u64;
        written.map_err(|error| CutError::of(&self.path, error))
    }
}
