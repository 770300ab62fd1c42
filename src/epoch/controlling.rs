//! Which control messages are bound next: a group waits until every process has made its deployment.

use crate::flow::{ControlGroup, DeploymentNumber, Offer, Reach, Report, Word};

/// What comes next on the control stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ControlNext {
    /// There is none, or for now nothing more.
    #[default]
    Nothing,
    /// It is not known yet. A replay waits for it.
    Unknown,
    /// This group; in a replay before the first event whose time is not before this, milliseconds (`i64::MIN`: at once).
    Group(ControlGroup, i64),
}

/// The group that is next, and how far the processes are with it.
#[derive(Debug, Default)]
pub(super) struct Controlling {
    next: ControlNext,
    /// The last deployment that all were asked to make.
    asked: DeploymentNumber,
    /// By worker: the last deployment that its process has.
    made: Vec<DeploymentNumber>,
    /// A deployment that a process could not make, and why.
    failed: Option<(DeploymentNumber, String)>,
}

impl Controlling {
    /// For so many workers.
    pub fn new(workers: usize) -> Self {
        Controlling { made: vec![0; workers], ..Controlling::default() }
    }

    /// Takes note of what comes next.
    pub fn set(&mut self, next: ControlNext) {
        self.next = next;
    }

    /// Takes what a worker's report says of it.
    pub fn report(&mut self, report: &Report) {
        self.made[report.worker as usize] = report.deployment;
        if let Some(failed) = &report.deployment_failed {
            self.failed = Some(failed.clone());
        }
    }

    /// Asks the processes for the deployment of a group, once.
    pub fn ask(&mut self, group: &ControlGroup) -> Option<Word> {
        let fresh = group.number > self.asked;
        self.asked = self.asked.max(group.number);
        fresh.then(|| Word::Prepare(group.clone()))
    }

    /// Asks for that of the group that is next, if there is one.
    pub fn ask_next(&mut self) -> Option<Word> {
        let ControlNext::Group(group, _) = &self.next else { return None };
        let group = group.clone();
        self.ask(&group)
    }

    /// Whether every process has a deployment.
    pub fn is_made(&self, number: DeploymentNumber) -> bool {
        self.made.iter().all(|made| *made >= number)
    }

    /// Why a deployment cannot be made, if that is so.
    pub fn fault(&self, number: DeploymentNumber) -> Option<&str> {
        self.failed.as_ref().filter(|(failed, _)| *failed == number).map(|(_, reason)| &**reason)
    }

    /// Gives up the group that is next if a process could not make its deployment: its number, and why.
    pub fn give_up(&mut self) -> Option<(DeploymentNumber, String)> {
        let ControlNext::Group(group, _) = &self.next else { return None };
        let failed = self.failed.take_if(|(number, _)| *number == group.number)?;
        self.next = ControlNext::Unknown;
        Some(failed)
    }

    /// Whether the next group is not known yet, or not made everywhere.
    pub fn is_waited_for(&self) -> bool {
        match &self.next {
            ControlNext::Nothing => false,
            ControlNext::Unknown => true,
            ControlNext::Group(group, _) => !self.is_made(group.number),
        }
    }

    /// When the next group takes effect, if it is ready; milliseconds.
    pub fn due_ms(&self) -> Option<i64> {
        match &self.next {
            ControlNext::Group(group, ms) if self.is_made(group.number) => Some(*ms),
            _ => None,
        }
    }

    /// The next group, to be bound now, if it is ready.
    pub fn take(&mut self) -> Option<ControlGroup> {
        self.due_ms()?;
        match std::mem::replace(&mut self.next, ControlNext::Unknown) {
            ControlNext::Group(group, _) => Some(group),
            ControlNext::Nothing | ControlNext::Unknown => None,
        }
    }
}

/// Where an epoch of a replay ends that takes nothing which comes behind control messages of this time, with the watermark there: it
/// would end at `reach`, or take all that is offered, event time having come to `latest_ms` with that.
pub(super) fn before_control<'a>(
    ms: i64,
    reach: Option<(Reach, i64)>,
    latest_ms: i64,
    mut offers: impl Iterator<Item = &'a Offer>,
) -> Option<(Reach, i64)> {
    match reach {
        Some((Reach { before_ms, .. }, _)) if before_ms <= ms => reach,
        None if offers.all(|offer| offer.records == 0 || offer.merge_ms < ms) => None,
        _ => Some((Reach { before_ms: ms, ties_of: None }, latest_ms.min(ms.saturating_sub(1)))),
    }
}
