//! The state directory: who may use it, what an earlier run has left in it, and how this one goes on.
//!
//! ```text
//!  DIR/lock-P        held by process P of the cluster that uses it
//!  DIR/journal/      bindings and records ([`crate::epoch::journal`])
//!  DIR/cuts/         what the operators keep, now and then ([`super::cut`])
//!  DIR/MANIFEST      which cuts are whole
//!  DIR/identity      tells it from all others
//!  DIR/outputs-P.json   how far the outputs of process P have come
//! ```
//!
//! A restart loads the newest whole cut and repeats what the journal holds behind it; without a cut it repeats the whole journal.
//!
//! A process locks `lock-P`, P being its number in the cluster; a second run is refused.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::cut::{CutError, CutManifest, Cutter, Cutting, Loaded, load};
use super::renew::Dumps;
use crate::disk::{Disk, DiskLock, Opening};
use crate::epoch::journal::{BindingLog, Inputs, Journal, JournalError, JournalPast, JournalWriter, SEGMENT_BYTES_MAX};
use crate::epoch::{LaneEnd, Pace, Recorded};
use crate::event::Lane;
use crate::flow::{Epoch, Facts};
use crate::metrics::Metrics;
use crate::operators::{EnginePlan, Image, Renewal};
use crate::score::control::{ControlHistory, Deployments};
use crate::sink::transactions::WriterIdentity;
use crate::sink::{OutputMark, OutputMarks, marks};
use crate::source::sealed::Terms;
use crate::source::{Reader, Source, SourceError};

/// How a state directory is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateSettings {
    /// The process's number in its cluster.
    pub process: usize,
    /// Processes of the cluster.
    pub processes: usize,
    /// A replay repeats what a run has written, and adds nothing to it.
    pub pace: Pace,
    /// Whether the journal keeps the records, or offsets alone.
    pub keeps_records: bool,
    /// How often a cut is taken; `None` for never.
    pub cut_every: Option<Duration>,
    /// How much event time the journal keeps behind the watermark though a cut covers it, milliseconds.
    pub kept_ms: i64,
    /// A segment of the journal that has grown to this is closed, bytes.
    pub segment_bytes: u64,
}

/// What a cut takes is not in the journal's way for so long, by default: the longest windows in use, and some days.
pub const KEPT_MS: i64 = 35 * 24 * 3_600_000;

impl StateSettings {
    /// Of a single process, with records kept and no cuts.
    pub fn of(pace: Pace) -> Self {
        StateSettings {
            process: 0,
            processes: 1,
            pace,
            keeps_records: true,
            cut_every: None,
            kept_ms: KEPT_MS,
            segment_bytes: SEGMENT_BYTES_MAX,
        }
    }
}

/// How often a run that stands by looks whether the other one has ended.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A state directory, locked.
#[derive(Debug)]
pub struct State {
    pub(super) disk: Disk,
    pub(super) directory: PathBuf,
    _lock: Option<DiskLock>,
    settings: StateSettings,
    terms: Terms,
    /// What the engine is.
    pub(super) plan: Arc<EnginePlan>,
    /// What the one was that wrote the cut, if it was another.
    pub(super) renewal: Option<Renewal>,
    /// Where a run whose purpose that is dumps to.
    pub(super) dumps: Option<Dumps>,
    manifest: CutManifest,
    past: JournalPast,
    /// Where a run writes on.
    journal: Option<Journal>,
    /// What the cut holds that it goes on from, until it is loaded.
    pub(super) image: Mutex<Option<Arc<Image>>>,
    pub(super) cut: Option<Facts>,
    pub(super) ends: Arc<BTreeMap<Lane, LaneEnd>>,
    /// What has made the deployments up to there.
    control: ControlHistory,
    marks: OutputMarks,
    /// What outputs had acknowledged when this number of processes began.
    bases: BTreeMap<String, Epoch>,
    /// Tells it from all others.
    identity: String,
}

/// Why a state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another run has it, or it cannot be written.
    #[error("{0}")]
    Lock(String),
    /// Another run has it.
    #[error("--state {0}: another run uses it; stop that one, name another directory, or wait for it with --standby")]
    Busy(String),
    /// Its journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Its cuts cannot be used.
    #[error(transparent)]
    Cut(#[from] CutError),
}

impl State {
    /// Locks a directory and reads what is in it, which must have been written under the same terms, but for what may evolve.
    ///
    /// # Errors
    /// If it is in use, damaged, or was written under terms that these do not go on from.
    pub fn open(
        directory: &Path,
        settings: StateSettings,
        terms: &Terms,
        plan: EnginePlan,
    ) -> Result<Self, StateError> {
        let mut state = Self::prepare(&Disk::real(), directory, settings, terms, plan)?;
        state.journal = state.journal.map(Journal::start).transpose()?;
        Ok(state)
    }

    /// The same on any disk, without the thread that writes the journal: see [`State::take_writer`].
    ///
    /// # Errors
    /// If it is in use, damaged, or was written under terms that these do not go on from.
    pub fn prepare(
        disk: &Disk,
        directory: &Path,
        settings: StateSettings,
        terms: &Terms,
        mut plan: EnginePlan,
    ) -> Result<Self, StateError> {
        let lock = lock(disk, directory, settings.process)?;
        if disk.look(&directory.join("remap.jsonl")).is_some() {
            let shown = directory.display();
            return Err(StateError::Lock(format!(
                "--state {shown}: remap.jsonl was written by a version before journals; name another directory"
            )));
        }
        let manifest = CutManifest::read(disk, directory)?;
        // A replay repeats the whole of a run, if that is still there.
        let whole = settings.pace == Pace::Bounded && JournalPast::is_whole(disk, directory, terms)?;
        let loaded = if whole { None } else { newest(disk, directory, &manifest, terms)? };
        let renewal = loaded.as_ref().and_then(|loaded| {
            plan.remember(&loaded.plan);
            let renewal = Renewal { earlier: Arc::new(loaded.plan.clone()), plan: Arc::new(plan.clone()) };
            (plan != loaded.plan).then_some(renewal)
        });
        let control = loaded.as_ref().map(|loaded| loaded.control.clone()).unwrap_or_default();
        let (image, ends) = loaded.map(|loaded| (loaded.image, loaded.ends)).unzip();
        let cut = image.as_ref().map(Image::facts);
        let ends = ends.unwrap_or_default();
        let of_events = ends.iter().filter(|(lane, _)| lane.is_events());
        let base = of_events.map(|(lane, end)| (lane.partition, end.upper)).collect();
        let past = JournalPast::open(disk, directory, Some(terms), cut.map_or(0, |facts| facts.epoch + 1), base)?;
        let ((marks, bases), identity) = match settings.pace {
            Pace::Live => {
                let marks = marks(disk, directory, settings.process, settings.processes).map_err(StateError::Lock)?;
                (marks, identity(disk, directory).map_err(StateError::Lock)?)
            }
            Pace::Bounded => Default::default(),
        };
        // Before anything is written there: what is damaged at the end of the journal would be cut off.
        let acknowledged = |mark: &OutputMark| mark.acknowledged.epoch;
        check_reaches(directory, past.next(), marks.values().filter_map(acknowledged).max())?;
        let journal = match settings.pace {
            Pace::Live => {
                let StateSettings { process, keeps_records, segment_bytes, .. } = settings;
                Some(past.prepare(process, terms.clone(), keeps_records, segment_bytes)?)
            }
            Pace::Bounded => None,
        };
        Ok(State {
            disk: disk.clone(),
            directory: directory.to_owned(),
            _lock: Some(lock),
            settings,
            terms: terms.clone(),
            plan: Arc::new(plan),
            renewal,
            dumps: None,
            manifest,
            past,
            journal,
            image: Mutex::new(image.map(Arc::new)),
            cut,
            ends: Arc::new(ends),
            control,
            marks,
            bases,
            identity,
        })
    }

    /// Waits until no run has a directory as this process, and says whether that came before `stop`. What the last cut holds is read
    /// meanwhile, again and again, so that it is in memory when it is needed.
    ///
    /// # Errors
    /// If the directory cannot be locked for another reason.
    pub fn wait_until_free(directory: &Path, process: usize, stop: &AtomicBool) -> Result<bool, StateError> {
        let (disk, mut read) = (Disk::real(), None);
        while !stop.load(Ordering::Relaxed) {
            match lock(&disk, directory, process) {
                Ok(_) => return Ok(true),
                Err(StateError::Busy(_)) => {}
                Err(error) => return Err(error),
            }
            let newest = CutManifest::read(&disk, directory).ok().and_then(|manifest| manifest.cuts.first().copied());
            if let Some(cut) = newest.filter(|cut| read != Some(*cut)) {
                // One that goes while it is read is followed by another.
                let _ = load(&disk, directory, cut, None);
                read = newest;
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(false)
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The disk that it is on.
    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    /// The process's number in its cluster.
    pub fn process(&self) -> usize {
        self.settings.process
    }

    /// Whether the journal reaches as far as outputs were written.
    ///
    /// # Errors
    /// If it does not: what they say could not be taken back.
    pub fn check_reaches(&self, written: Option<Epoch>) -> Result<(), StateError> {
        check_reaches(&self.directory, self.past.next(), written)
    }

    /// Who writes to topics in transactions.
    pub fn writer(&self) -> WriterIdentity {
        let StateSettings { process, processes, .. } = self.settings;
        WriterIdentity { state: self.identity.clone(), process, processes }
    }

    /// Where the outputs of the run before this one were.
    pub fn marks(&self) -> &OutputMarks {
        &self.marks
    }

    /// What outputs had acknowledged when this number of processes began, by flag.
    pub fn bases(&self) -> &BTreeMap<String, Epoch> {
        &self.bases
    }

    /// The first epoch that is repeated: all before it are in the cut.
    pub fn first(&self) -> Epoch {
        self.cut.map_or(0, |facts| facts.epoch + 1)
    }

    /// The epoch after the last one that is bound.
    pub fn next(&self) -> Epoch {
        self.past.next()
    }

    /// What is bound already; process 0 repeats it.
    pub fn recorded(&self) -> Recorded {
        match &self.dumps {
            None => Recorded::in_journal(self.past.bindings(), self.cut, self.past.next()),
            Some(dumps) => Recorded::in_journal(self.past.bindings(), self.cut, dumps.epoch + 1).dumping_last(),
        }
    }

    /// The columns of feature rows, and those that what was said still names.
    pub fn columns(&self) -> &[String] {
        &self.plan.columns
    }

    /// Where a cut has left the lanes.
    pub fn ends(&self) -> Arc<BTreeMap<Lane, LaneEnd>> {
        self.ends.clone()
    }

    /// What has made the deployments up to the cut.
    pub fn control(&self) -> &ControlHistory {
        &self.control
    }

    /// What the operators load, if there is a cut.
    pub fn image(&self) -> Option<Arc<Image>> {
        self.image.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All workers of this process have loaded it.
    pub fn release_image(&self) {
        self.image.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// The reader of one worker: what the journal keeps, then the source from there on.
    ///
    /// # Errors
    /// If the source cannot be read, or lacks what is needed.
    pub fn reader(&self, source: &dyn Source, worker: usize, workers: usize) -> Result<Box<dyn Reader>, SourceError> {
        let live = source.open(worker, workers, &self.past.starts().live)?;
        Ok(Box::new(self.past.resume(worker, workers, live)))
    }

    /// Where a worker's records are written down.
    pub fn inputs(&self) -> Option<Inputs> {
        self.journal.as_ref().map(Journal::inputs)
    }

    /// Where bindings are written down.
    pub fn bindings(&self) -> Option<BindingLog> {
        self.journal.as_ref().map(Journal::bindings)
    }

    /// Where the first worker of a process without the authority writes down what it hears, from which epoch on.
    pub fn heard(&self) -> Option<(BindingLog, Epoch)> {
        self.bindings().filter(|_| self.settings.process > 0).map(|log| (log, self.past.next()))
    }

    /// How often a cut is taken.
    pub fn cut_every(&self) -> Option<Duration> {
        self.settings.cut_every.filter(|_| self.journal.is_some())
    }

    /// Starts the thread that writes cuts, of a process with so many workers, one of so many processes.
    ///
    /// # Errors
    /// If the system has no thread.
    pub fn start_cutter(
        &self,
        workers: usize,
        processes: usize,
        deployments: Option<Deployments>,
        metrics: &Arc<Metrics>,
    ) -> io::Result<Option<Cutter>> {
        let cutting = self.cutting(workers, processes, metrics).map(|cutting| Cutting { deployments, ..cutting });
        cutting.map(Cutter::start).transpose()
    }

    /// What that thread must know.
    pub fn cutting(&self, workers: usize, processes: usize, metrics: &Arc<Metrics>) -> Option<Cutting> {
        let (journal, _) = (self.bindings()?, self.cut_every()?);
        Some(Cutting {
            disk: self.disk.clone(),
            directory: self.directory.clone(),
            process: (self.settings.process, processes),
            workers,
            terms: self.terms.clone(),
            plan: self.plan.clone(),
            ends: self.ends.clone(),
            manifest: self.manifest.clone(),
            journal,
            kept_ms: self.settings.kept_ms,
            deployments: None,
            metrics: metrics.clone(),
        })
    }

    /// What the thread that writes the journal would do, of a directory that was only prepared.
    pub fn take_writer(&mut self) -> Option<JournalWriter> {
        self.journal.as_mut().and_then(Journal::take_writer)
    }

    /// A state of this directory that only repeats what `past` holds, from a point on where nothing is kept.
    pub(super) fn repeating(&self, past: JournalPast, from: Option<Facts>, dumps: Dumps) -> State {
        let before = from.map(|facts| Arc::new(Image::of(facts, [])));
        State {
            disk: self.disk.clone(),
            directory: self.directory.clone(),
            _lock: None,
            settings: StateSettings::of(Pace::Bounded),
            terms: self.terms.clone(),
            plan: self.plan.clone(),
            renewal: None,
            dumps: Some(dumps),
            manifest: CutManifest::default(),
            past,
            journal: None,
            image: Mutex::new(before),
            cut: from,
            ends: Arc::default(),
            control: ControlHistory::default(),
            marks: OutputMarks::default(),
            bases: BTreeMap::new(),
            identity: String::new(),
        }
    }

    /// Waits until everything is written.
    pub fn finish(self) {
        if let Some(journal) = self.journal {
            journal.finish();
        }
    }
}

fn check_reaches(directory: &Path, next: Epoch, written: Option<Epoch>) -> Result<(), StateError> {
    match written.filter(|written| *written >= next) {
        None => Ok(()),
        Some(written) => Err(StateError::Lock(format!(
            "--state {}: outputs were written up to epoch {written}, but the journal ends before {next}: it was cut off or is \
             another one; restore it, or name another directory",
            directory.display()
        ))),
    }
}

/// The directory's own number, which is made with the first run. Which process makes it does not matter.
fn identity(disk: &Disk, directory: &Path) -> Result<String, String> {
    let path = directory.join("identity");
    let failed = |error: io::Error| format!("--state {}: {error}", path.display());
    let nanoseconds = std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos());
    let beside = directory.join(format!("identity-{}", std::process::id()));
    if disk.look(&path).is_none() {
        let mut file = disk.open(&beside, Opening::Empty).map_err(failed)?;
        let text = format!("{nanoseconds:x}-{:x}", std::process::id());
        file.write_all(text.as_bytes()).and_then(|()| file.sync()).map_err(failed)?;
        // Whoever comes second finds the first one's.
        match disk.link(&beside, &path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
            _ => disk.remove(&beside).map_err(failed)?,
        }
    }
    disk.sync_folder(directory).map_err(failed)?;
    disk.read(&path).map(|text| String::from_utf8_lossy(&text).into_owned()).map_err(failed)
}

/// The newest cut that can be read. One that is damaged is passed over, if there is another.
fn newest(disk: &Disk, directory: &Path, manifest: &CutManifest, terms: &Terms) -> Result<Option<Loaded>, CutError> {
    let mut damaged = None;
    for &cut in &manifest.cuts {
        match load(disk, directory, cut, Some(terms)) {
            Ok(loaded) => return Ok(Some(loaded)),
            Err(error) => {
                tracing::error!(%error, "a cut cannot be used; the one before it is tried");
                damaged.get_or_insert(error);
            }
        }
    }
    damaged.map_or(Ok(None), Err)
}

/// Locks a directory for all processes that have ever used it. The error says why not.
pub(super) fn lock_all(disk: &Disk, directory: &Path) -> Result<Vec<DiskLock>, StateError> {
    let failed = |error: io::Error| StateError::Lock(format!("--state {}: {error}", directory.display()));
    let names = disk.list(directory).map_err(failed)?;
    let processes = names.iter().filter_map(|name| name.to_str()?.strip_prefix("lock-")?.parse().ok());
    processes.map(|process| lock(disk, directory, process)).collect()
}

/// Creates the directory if it is missing, and locks it for a process of a cluster: free again when the lock is dropped, or the
/// process ends however it does. The error says why not.
fn lock(disk: &Disk, directory: &Path, process: usize) -> Result<DiskLock, StateError> {
    let shown = directory.display();
    let failed = |error: io::Error| StateError::Lock(format!("--state {shown}: {error}"));
    disk.create_folder(directory).map_err(failed)?;
    let held = disk.lock(&directory.join(format!("lock-{process}"))).map_err(failed)?;
    held.ok_or_else(|| StateError::Busy(shown.to_string()))
}
