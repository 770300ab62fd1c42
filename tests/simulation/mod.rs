//! Everything that survives, simulated: journal, cuts, marks and file outputs on a disk that fails by a seed, turned by hand
//! on a clock of its own. After all faults the output is the one of a run that was never disturbed: every line once.
//!
//! `DELTAWATCH_FULL=1` runs 1000 seeds, else 200.

mod disk;
mod engine;
mod trial;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use deltawatch::testkit::disk::{DiskArea, DiskDefect, DiskFault, DiskStep, StepKind};

use trial::{Disturbed, Told, Trial};

/// Steps at which everything must have ended in some seed, before and after.
const STEPS: [(StepKind, DiskArea); 24] = [
    (StepKind::Create, DiskArea::Journal),
    (StepKind::Write, DiskArea::Journal),
    (StepKind::Sync, DiskArea::Journal),
    (StepKind::SyncFolder, DiskArea::Journal),
    (StepKind::Cut, DiskArea::Journal),
    (StepKind::Remove, DiskArea::Journal),
    (StepKind::Create, DiskArea::Cuts),
    (StepKind::Write, DiskArea::Cuts),
    (StepKind::Sync, DiskArea::Cuts),
    (StepKind::SyncFolder, DiskArea::Cuts),
    (StepKind::Remove, DiskArea::Cuts),
    (StepKind::Create, DiskArea::Manifest),
    (StepKind::Write, DiskArea::Manifest),
    (StepKind::Sync, DiskArea::Manifest),
    (StepKind::Rename, DiskArea::Manifest),
    (StepKind::Create, DiskArea::Marks),
    (StepKind::Write, DiskArea::Marks),
    (StepKind::Sync, DiskArea::Marks),
    (StepKind::Rename, DiskArea::Marks),
    (StepKind::SyncFolder, DiskArea::Directory),
    (StepKind::Write, DiskArea::Directory),
    (StepKind::Write, DiskArea::Outputs),
    (StepKind::Sync, DiskArea::Outputs),
    (StepKind::Cut, DiskArea::Outputs),
];

fn steps() -> impl Iterator<Item = DiskStep> {
    STEPS.into_iter().map(|(kind, area)| DiskStep { kind, area })
}

fn seeds() -> u64 {
    if std::env::var_os("DELTAWATCH_FULL").is_some() { 1000 } else { 200 }
}

/// What came about over all seeds, for people.
#[derive(Default)]
struct Tally {
    runs: usize,
    epochs: u64,
    killed: usize,
    power_lost: usize,
    flips: usize,
    refused: usize,
    by_step: BTreeMap<DiskStep, [usize; 4]>,
    steps: BTreeMap<DiskStep, u64>,
}

impl Tally {
    fn add(&mut self, told: &Told) {
        let Told { runs, epochs, killed, power_lost, flips, refused, .. } = told;
        self.runs += runs;
        self.epochs += epochs;
        self.killed += killed;
        self.power_lost += power_lost;
        self.flips += flips;
        self.refused += refused;
        for fired in &told.fired {
            let column = match fired.fault {
                DiskFault::Before(_) => 0,
                DiskFault::After(_) => 1,
                DiskFault::Full => 2,
                DiskFault::Fails => 3,
            };
            self.by_step.entry(fired.step).or_default()[column] += 1;
        }
        for (step, times) in &told.steps {
            *self.steps.entry(*step).or_default() += times;
        }
    }

    fn say(&self, seeds: u64, since: Instant) {
        let Tally { runs, epochs, killed, power_lost, flips, refused, .. } = self;
        eprintln!(
            "{seeds} seeds, {runs} runs, {epochs} epochs, {killed} kills and {power_lost} failures of power between steps, \
             {flips} flipped bits ({refused} found by an error), {:.1} s",
            since.elapsed().as_secs_f64()
        );
        eprintln!("{:<24} {:>9} {:>7} {:>7} {:>7} {:>7}", "step", "taken", "before", "after", "full", "fails");
        for (step, times) in &self.steps {
            let [before, after, full, fails] = self.by_step.get(step).copied().unwrap_or_default();
            eprintln!("{:<24} {times:>9} {before:>7} {after:>7} {full:>7} {fails:>7}", step.to_string());
        }
    }
}

#[test]
fn whatever_fails_every_line_is_there_once() {
    let (mut tally, since) = (Tally::default(), Instant::now());
    let mut wrong = Vec::new();
    for seed in 0..seeds() {
        let told = Trial::new(seed, Disturbed { faults: true, flips: false, defect: None }).run();
        tally.add(&told);
        wrong.extend(told.wrong.map(|wrong| format!("seed {seed}: {wrong}")));
    }
    tally.say(seeds(), since);
    assert!(wrong.is_empty(), "{} seeds fail:\n{}", wrong.len(), wrong[..wrong.len().min(20)].join("\n"));
    let never: Vec<String> = steps()
        .filter(|step| tally.by_step.get(step).is_none_or(|counts| counts[0] == 0 || counts[1] == 0))
        .map(|step| step.to_string())
        .collect();
    assert!(never.is_empty(), "nothing ended before and after {}", never.join(", "));
}

#[test]
fn a_flipped_bit_is_named_or_does_no_harm() {
    let (mut tally, since) = (Tally::default(), Instant::now());
    let mut wrong = Vec::new();
    for seed in 0..seeds() / 2 {
        let told = Trial::new(seed ^ 0xF11B, Disturbed { faults: true, flips: true, defect: None }).run();
        tally.add(&told);
        wrong.extend(told.wrong.map(|wrong| format!("seed {seed}: {wrong}")));
    }
    tally.say(seeds() / 2, since);
    assert!(wrong.is_empty(), "{} seeds fail:\n{}", wrong.len(), wrong[..wrong.len().min(20)].join("\n"));
    assert!(tally.flips > 50 && tally.refused > 5 && tally.refused < tally.flips);
}

#[test]
fn a_seed_is_the_same_run_every_time() {
    let mut digests = BTreeSet::new();
    for seed in 0..8 {
        let run = || Trial::new(seed, Disturbed { faults: true, flips: true, defect: None }).run();
        let (first, second) = (run(), run());
        assert_eq!(first, second, "seed {seed}");
        digests.insert(first.digest);
    }
    assert_eq!(digests.len(), 8, "every seed is another run");
}

#[test]
fn a_disk_that_breaks_its_promises_is_found() {
    let defects = [
        DiskDefect::NoSync(DiskArea::Journal),
        DiskDefect::NoSync(DiskArea::Cuts),
        DiskDefect::NoSync(DiskArea::Manifest),
        DiskDefect::NoSync(DiskArea::Marks),
        DiskDefect::NoSync(DiskArea::Outputs),
        DiskDefect::NoFolderSync(DiskArea::Journal),
        DiskDefect::NoFolderSync(DiskArea::Cuts),
        DiskDefect::NoFolderSync(DiskArea::Directory),
        DiskDefect::NoFolderSync(DiskArea::Outputs),
        DiskDefect::NoCut(DiskArea::Outputs),
        DiskDefect::NoCut(DiskArea::Journal),
    ];
    let mut missed = Vec::new();
    for defect in defects {
        let found = (0..200).find_map(|seed| {
            let told = Trial::new(seed, Disturbed { faults: true, flips: false, defect: Some(defect) }).run();
            Some((seed, told.wrong?))
        });
        match found {
            Some((seed, wrong)) => eprintln!("{defect:?} is found by seed {seed}: {wrong}"),
            None => missed.push(defect),
        }
    }
    assert!(missed.is_empty(), "200 seeds do not find {missed:?}");
}
