//! A trial: runs of the engine on one disk, one after the other, until the source is at its end.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use deltawatch::event::Lane;
use deltawatch::flow::{Epoch, Word};
use deltawatch::testkit::disk::{
    DiskArea, DiskDefect, DiskFault, DiskStep, Outage, PlannedFault, SimulatedDisk, StepKind,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::engine::{DIRECTORY, Engine};
use super::steps;
use super::world::{Item, Sums, World};

/// Runs of a trial at most.
const RUNS_MAX: usize = 60;
/// Turns of a run at most.
const TURNS_MAX: usize = 400_000;

/// What is done to a trial.
#[derive(Clone, Copy, Debug)]
pub struct Disturbed {
    pub faults: bool,
    pub flips: bool,
    pub defect: Option<DiskDefect>,
}

/// What came about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    pub runs: usize,
    pub epochs: u64,
    pub killed: usize,
    pub power_lost: usize,
    pub flips: usize,
    /// Runs that were refused because of one.
    pub refused: usize,
    pub fired: Vec<PlannedFault>,
    pub steps: BTreeMap<DiskStep, u64>,
    pub digest: u64,
    /// What is wrong with the output, or with how it came about.
    pub wrong: Option<String>,
}

/// What was bound, as far as it decides the output.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Bound {
    uppers: BTreeMap<Lane, u64>,
    refused: Vec<(Lane, u64)>,
    watermark_ms: i64,
}

pub struct Trial {
    world: Arc<World>,
    disk: SimulatedDisk,
    random: StdRng,
    disturbed: Disturbed,
    /// Faults that are still to come.
    faults: usize,
    /// One of them, which needs the one before it.
    next_fault: Option<PlannedFault>,
    bound: BTreeMap<Epoch, Bound>,
    identity: Option<String>,
    /// A bit that is flipped.
    flipped: Option<(PathBuf, usize, u8)>,
    told: Told,
}

/// How a run has ended.
enum Ended {
    /// The source is at its end.
    Done,
    /// It was stopped, or has failed and said why.
    Stopped(Option<String>),
    /// There is nothing to be said.
    Down,
}

impl Trial {
    pub fn new(seed: u64, disturbed: Disturbed) -> Self {
        let (world, disk) = (Arc::new(World::new(seed)), SimulatedDisk::new(seed ^ 0x4449_534b));
        disk.disk().create_folder(Path::new("/run/outputs")).expect("nothing fails yet");
        disk.slow(world.slow_ns);
        if let Some(defect) = disturbed.defect {
            disk.spoil(defect);
        }
        let mut random = StdRng::seed_from_u64(seed);
        let faults = if disturbed.faults { random.random_range(3..16) } else { 0 };
        let (bound, told) = (BTreeMap::new(), Told::default());
        let next_fault = None;
        Trial { world, disk, random, disturbed, faults, next_fault, bound, identity: None, flipped: None, told }
    }

    pub fn run(mut self) -> Told {
        self.told.wrong = self.go_on().err();
        self.told.epochs = self.bound.len() as u64;
        self.told.fired = self.disk.fired();
        self.told.steps = self.disk.steps();
        self.told.digest = self.disk.digest();
        self.told
    }

    fn go_on(&mut self) -> Result<(), String> {
        for _ in 0..RUNS_MAX {
            self.told.runs += 1;
            let fired = self.disk.fired().len();
            let ended = self.once()?;
            let disturbed = self.disk.fired().len() > fired;
            if !self.disk.is_down() {
                self.disk.go_down(Outage::Kill);
            }
            match ended {
                Ended::Done => {
                    self.disk.come_up();
                    return self.compare();
                }
                Ended::Stopped(Some(error)) if !disturbed => self.is_named(&error)?,
                Ended::Stopped(_) | Ended::Down => {}
            }
            self.disk.come_up();
            self.flip();
        }
        Err(format!("{RUNS_MAX} runs do not come to the end of the source"))
    }

    /// Plans what is next to go wrong.
    fn plan(&mut self) -> Option<PlannedFault> {
        if let Some(next) = self.next_fault.take() {
            return Some(next);
        }
        self.faults = self.faults.checked_sub(1)?;
        let random = &mut self.random;
        let steps: Vec<DiskStep> = steps().collect();
        let step = steps[random.random_range(0..steps.len())];
        let outage = if random.random_bool(0.3) { Outage::Kill } else { Outage::Power };
        let fault = match random.random_range(0..10) {
            0..4 => DiskFault::Before(outage),
            4..8 => DiskFault::After(outage),
            8 if step.kind == StepKind::Write => DiskFault::Full,
            _ => DiskFault::Fails,
        };
        let often = matches!(step.kind, StepKind::Write | StepKind::Sync) && step.area != DiskArea::Directory;
        let nth = match random.random_range(0..3) {
            0 => 0,
            1 => random.random_range(0..4),
            _ if often => random.random_range(0..60),
            _ => random.random_range(0..8),
        };
        let planned = PlannedFault { step, nth, fault };
        if step == (DiskStep { kind: StepKind::Cut, area: DiskArea::Journal }) {
            // Nothing is cut off a journal unless a run has ended in the middle of a block.
            self.next_fault = Some(PlannedFault { nth: 0, ..planned });
            let step = DiskStep { kind: StepKind::Write, ..step };
            return Some(PlannedFault { step, nth, fault: DiskFault::Before(Outage::Kill) });
        }
        Some(planned)
    }

    /// One run.
    fn once(&mut self) -> Result<Ended, String> {
        let fault = self.plan();
        let faultless = fault.is_none();
        self.disk.plan(fault);
        // Beside the fault at a step, it may end or be stopped in between.
        let end_at = 1 << self.random.random_range(3..13);
        let end_at = self.random.random_range(0..end_at);
        let ends = (!faultless).then(|| self.random.random_range(0..8));
        let workers = self.random.random_range(1..=3);
        let mut engine = match Engine::start(&self.disk, &self.world, workers) {
            Ok(engine) => engine,
            Err(_) if self.disk.is_down() => return Ok(Ended::Down),
            Err(error) => return Ok(Ended::Stopped(Some(error))),
        };
        let identity = engine.identity();
        if *self.identity.get_or_insert(identity.clone()) != identity {
            return Err(format!("the state directory was {:?}, and is {identity:?} now", self.identity));
        }
        for turn in 0..TURNS_MAX {
            if self.disk.is_down() {
                return Ok(Ended::Down);
            }
            match ends {
                Some(0) if turn == end_at => {
                    self.told.killed += 1;
                    self.disk.go_down(Outage::Kill);
                }
                Some(1) if turn == end_at => {
                    self.told.power_lost += 1;
                    self.disk.go_down(Outage::Power);
                }
                Some(2 | 3) if turn == end_at => engine.stop = true,
                _ => {}
            }
            let ns = match self.random.random_range(0..100) {
                0..60 => 0,
                60..97 => self.random.random_range(0..1_000_000),
                97..99 => self.random.random_range(0..20_000_000),
                _ => self.random.random_range(0..200_000_000),
            };
            self.disk.pass(ns);
            let (bound, mut wrong) = (&mut self.bound, None);
            let lenient = self.told.flips > 0;
            let done = engine.step(&mut self.random, &mut |word| {
                if let Word::Bind(binding) = word {
                    let now = Bound {
                        uppers: binding.uppers.clone(),
                        refused: binding.refused.clone(),
                        watermark_ms: binding.watermark_ms,
                    };
                    wrong = wrong.take().or(note(bound, binding.epoch, now, lenient));
                }
            });
            // Nobody hears what is said when nothing works any more.
            if let Some(wrong) = wrong.filter(|_| !self.disk.is_down()) {
                return Err(wrong);
            }
            if done {
                let stopped = engine.stop;
                return Ok(match engine.finish() {
                    _ if self.disk.is_down() => Ended::Down,
                    Ok(()) if stopped => Ended::Stopped(None),
                    Ok(()) => Ended::Done,
                    Err(error) => Ended::Stopped(Some(error)),
                });
            }
        }
        Err(format!("{TURNS_MAX} turns do not come to an end"))
    }

    /// A run that fails by itself says which file is damaged.
    fn is_named(&mut self, error: &str) -> Result<(), String> {
        let Some(flipped) = self.flipped.take() else { return Err(format!("a run fails: {error}")) };
        let name = flipped.0.file_name().expect("a file").to_string_lossy();
        // What is cut off at the end of a journal is only seen by what is missing.
        let missing = error.contains("but the journal ends before") && DiskArea::of(&flipped.0) == DiskArea::Journal;
        // The list of cuts has no seal of its own: what it leads to is not there.
        let led_astray = error.contains("/cuts/") && DiskArea::of(&flipped.0) == DiskArea::Manifest;
        if !error.contains(&*name) && !missing && !led_astray {
            return Err(format!("a flipped bit of {} ends in: {error}", flipped.0.display()));
        }
        self.told.refused += 1;
        self.disk.mend(&flipped);
        Ok(())
    }

    /// Flips a bit of the state, now and then.
    fn flip(&mut self) {
        if self.disturbed.flips && self.flipped.is_none() && self.faults > 0 && self.random.random_bool(0.5) {
            let may = |path: &Path| path.starts_with(DIRECTORY) && DiskArea::of(path) != DiskArea::Directory;
            self.flipped = self.disk.flip(may);
            self.told.flips += usize::from(self.flipped.is_some());
        }
    }

    /// What is written, beside what a run over the same epochs gives that nothing ever disturbed.
    fn compare(&self) -> Result<(), String> {
        let mut sums = Sums::default();
        let (mut reached, mut expected) = (BTreeMap::new(), [Vec::new(), Vec::new()]);
        for (&epoch, bound) in &self.bound {
            let mut items = Vec::new();
            for (lane, &upper) in &bound.uppers {
                let from = reached.insert(lane.partition, upper).unwrap_or(0);
                items.extend((from..upper).map(|offset| Item {
                    partition: lane.partition,
                    offset,
                    refused: bound.refused.contains(&(*lane, offset)),
                    bytes: self.world.bytes(lane.partition, offset),
                }));
            }
            let lines = sums.take(epoch, bound.watermark_ms, items);
            expected.iter_mut().zip(lines).for_each(|(all, lines)| all.extend(lines));
        }
        if reached != self.world.ends() {
            return Err(format!("records were bound up to {reached:?}, there are {:?}", self.world.ends()));
        }
        let outputs = self.world.outputs.iter().zip(expected);
        outputs.into_iter().try_for_each(|(path, expected)| {
            let content = self.disk.content(Path::new(path)).ok_or_else(|| format!("{path} is not there"))?;
            let text = plain(path, &content).map_err(|error| format!("{path}: {error}"))?;
            differ(&expected, &text.lines().collect::<Vec<_>>()).map_or(Ok(()), |how| Err(format!("{path}: {how}")))
        })
    }
}

/// Notes what an epoch has. What was said once holds for ever, unless a bit was flipped before all of it had come of it.
fn note(bound: &mut BTreeMap<Epoch, Bound>, epoch: Epoch, now: Bound, lenient: bool) -> Option<String> {
    match bound.get(&epoch) {
        Some(before) if *before == now => None,
        Some(before) if !lenient => Some(format!("epoch {epoch} was bound as {before:?}, and now as {now:?}")),
        _ if epoch > bound.last_key_value().map_or(0, |(&last, _)| last + 1) => {
            Some(format!("epoch {epoch} is bound, and the one before it was not"))
        }
        _ => {
            bound.split_off(&epoch);
            bound.insert(epoch, now);
            None
        }
    }
}

/// How lines differ, if they do.
fn differ(expected: &[String], found: &[&str]) -> Option<String> {
    if expected.iter().eq(found) {
        return None;
    }
    let mut counts: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    expected.iter().for_each(|line| counts.entry(line).or_default().0 += 1);
    found.iter().for_each(|line| counts.entry(line).or_default().1 += 1);
    let of = |test: fn(usize, usize) -> bool| counts.iter().filter(move |(_, (wanted, there))| test(*wanted, *there));
    let lost: Vec<_> = of(|wanted, there| there < wanted).collect();
    let doubled: Vec<_> = of(|wanted, there| wanted > 0 && there > wanted).collect();
    let strange: Vec<_> = of(|wanted, _| wanted == 0).collect();
    let first = lost.iter().chain(&doubled).chain(&strange).next().map(|(line, _)| **line);
    let (lost, doubled, strange) = (lost.len(), doubled.len(), strange.len());
    Some(format!("{lost} lines lost, {doubled} doubled, {strange} that should not be there, such as {first:?}"))
}

fn plain(path: &str, content: &[u8]) -> std::io::Result<String> {
    let mut text = String::new();
    match path.rsplit('.').next() {
        _ if content.is_empty() => {}
        Some("gz") => drop(flate2::read::MultiGzDecoder::new(content).read_to_string(&mut text)?),
        Some("zst") => drop(zstd::Decoder::new(content)?.read_to_string(&mut text)?),
        _ => text = String::from_utf8_lossy(content).into_owned(),
    }
    Ok(text)
}
