//! When epochs have what is kept dumped, and how far a cut has come.

use crate::flow::{Dump, Epoch, Report};

/// The cut that is wanted, or under way. One at a time.
#[derive(Debug)]
pub(super) struct Dumping {
    /// The next epoch is to begin one.
    wanted: bool,
    /// The last one is to have one.
    last: bool,
    phase: Option<Phase>,
    /// How far each worker has come.
    reached: Vec<Reached>,
}

/// How far a cut has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Operators dump piece by piece from the end of this epoch on.
    Begun(Epoch),
    /// It has begun there, is of the end of this epoch, and is being written.
    Ended(Epoch, Epoch),
}

/// How far a worker, or its process, has come with cuts.
#[derive(Clone, Copy, Debug, Default)]
struct Reached {
    /// The last cut on disk.
    written: Option<Epoch>,
    /// The last epoch whose outputs are acknowledged.
    acknowledged: Option<Epoch>,
    /// The last dump that has begun and of which it has given all pieces.
    dumped: Option<Epoch>,
}

impl Dumping {
    /// For so many workers.
    pub fn new(workers: usize) -> Self {
        Dumping { wanted: false, last: false, phase: None, reached: vec![Reached::default(); workers] }
    }

    /// Takes what a worker's report says of it.
    pub fn report(&mut self, report: &Report) {
        let &Report { written, acknowledged, dumped, cut_failed: failed, .. } = report;
        self.reached[report.worker as usize] = Reached { written, acknowledged, dumped };
        if let Some(Phase::Begun(begun) | Phase::Ended(begun, _)) = self.phase
            && failed == Some(begun)
        {
            self.phase = None;
        }
    }

    /// Wants a cut, unless an earlier one is still on its way.
    pub fn want(&mut self) {
        self.wanted = self.phase.is_none();
    }

    /// Wants one of the last epoch.
    pub fn want_last(&mut self, last: bool) {
        self.last = last;
    }

    /// What is dumped at the end of this epoch.
    pub fn of(&mut self, epoch: Epoch, last: bool) -> Option<Dump> {
        let dump = match self.phase {
            None if last => self.last.then_some(Dump::Whole),
            None => self.wanted.then_some(Dump::Begin),
            Some(Phase::Begun(_)) if last => self.last.then_some(Dump::End),
            Some(Phase::Begun(_)) => self.all_dumped().then_some(Dump::End),
            // One that is still being written at the end is not waited for: its successor has more.
            Some(Phase::Ended(..)) => (last && self.last).then_some(Dump::Whole),
        };
        if let Some(dump) = dump {
            self.wanted = false;
            self.phase = Some(match (dump, self.phase) {
                (Dump::Begin, _) => Phase::Begun(epoch),
                (Dump::End, Some(Phase::Begun(begun))) => Phase::Ended(begun, epoch),
                (Dump::End | Dump::Whole, _) => Phase::Ended(epoch, epoch),
            });
        }
        dump
    }

    /// Whether a dump has begun that all workers have given all pieces of.
    pub fn all_dumped(&self) -> bool {
        let Some(Phase::Begun(epoch)) = self.phase else { return false };
        self.reached.iter().all(|reached| reached.dumped >= Some(epoch))
    }

    /// A cut that every process has on disk, and whose outputs are all acknowledged; named once.
    pub fn whole(&mut self) -> Option<Epoch> {
        let Some(Phase::Ended(_, epoch)) = self.phase else { return None };
        let there = |reached: Option<Epoch>| reached >= Some(epoch);
        if !self.reached.iter().all(|reached| there(reached.written) && there(reached.acknowledged)) {
            return None;
        }
        self.phase = None;
        Some(epoch)
    }
}
