//! All deployments that something refers to, shared by the workers of a process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use serde::{Deserialize, Serialize};

use super::change::Workshop;
use super::message::{ControlChange, ControlMessage, MESSAGE_VERSION, WantedModel};
use super::names::Names;
use crate::flow::{ControlGroup, ControlRecord, DeploymentNumber};
use crate::score::rules::WrittenList;
use crate::score::scorer::Scorer;

/// Deployments by number. A copy is another handle of the same ones.
#[derive(Clone)]
pub struct Deployments {
    workshop: Option<Arc<Workshop>>,
    /// What is known where a deployment is made: what takes long is done without `known` locked.
    making: Arc<Mutex<Making>>,
    known: Arc<RwLock<Known>>,
}

/// The names as they will be, and the number of the last deployment that was tried: one that was given up has its number for ever.
struct Making {
    names: AllNames,
    last: DeploymentNumber,
}

/// What rules and models are called, by number.
#[derive(Clone, Default)]
struct AllNames {
    rules: Names,
    models: Names,
}

struct Known {
    /// Those that retained transactions may refer to, and the newest.
    by_number: BTreeMap<DeploymentNumber, Kept>,
    names: AllNames,
    /// What has made them, but the oldest.
    groups: Vec<ControlGroup>,
    /// A deployment that could not be made, and why.
    failed: Option<(DeploymentNumber, String)>,
}

struct Kept {
    scorer: Arc<Scorer>,
    /// The offset after the last message that it was made of.
    upper: u64,
    /// The watermark when the next one took its place, milliseconds.
    until_ms: i64,
    /// Rules and models that had names before it.
    names_before: (usize, usize),
}

/// What a restart needs to make the same deployments again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlHistory {
    /// The groups of messages that make the deployments to which something refers; the first one says all of the oldest.
    pub groups: Vec<ControlGroup>,
    /// What rules are called, by number.
    pub rules: Vec<String>,
    /// What models are called, by number.
    pub models: Vec<String>,
}

/// What became of messages that were tried: by offset, why it was refused, if it was.
pub type Tried = Vec<(u64, Option<String>)>;

impl From<Scorer> for Deployments {
    fn from(scorer: Scorer) -> Self {
        Deployments::new(scorer, None)
    }
}

impl Deployments {
    /// Begins with what a run was started with. Without a workshop nothing changes it.
    pub fn new(scorer: Scorer, workshop: Option<Workshop>) -> Self {
        let names = AllNames { rules: Names::of(scorer.rules().labels()), models: Names::of(scorer.labels()) };
        let first = Kept { scorer: Arc::new(scorer), upper: 0, until_ms: i64::MAX, names_before: (0, 0) };
        let by_number = BTreeMap::from([(0, first)]);
        let making = Arc::new(Mutex::new(Making { names: names.clone(), last: 0 }));
        let known = Known { by_number, names, groups: Vec::new(), failed: None };
        Deployments { workshop: workshop.map(Arc::new), making, known: Arc::new(RwLock::new(known)) }
    }

    /// A deployment; where it has been let go of, the oldest that is left.
    pub fn of(&self, number: DeploymentNumber) -> Arc<Scorer> {
        let known = self.read();
        let kept = known.by_number.range(number..).next().or_else(|| known.by_number.last_key_value());
        kept.map(|(_, kept)| kept.scorer.clone()).unwrap_or_default()
    }

    /// The newest one that was made, whether or not an epoch has it yet.
    pub fn newest(&self) -> DeploymentNumber {
        self.read().last().0
    }

    /// The offset after the last message that any of them was made of, or that was refused before it.
    pub fn upper(&self) -> u64 {
        self.read().by_number.last_key_value().map_or(0, |(_, kept)| kept.upper)
    }

    /// Deployments that are kept.
    pub fn kept(&self) -> usize {
        self.read().by_number.len()
    }

    /// `id@version` of rules, by number.
    pub fn rule_names(&self, numbers: &[u32], mut each: impl FnMut(&str)) {
        if numbers.is_empty() {
            return;
        }
        let known = self.read();
        numbers.iter().for_each(|number| each(known.names.rules.name(*number).unwrap_or("unknown")));
    }

    /// `id@version` of all rules that ever were, by number, from one on.
    pub fn rules_from(&self, first: usize) -> Vec<String> {
        self.read().names.rules.all().get(first..).map_or_else(Vec::new, <[String]>::to_vec)
    }

    /// `name@version` of a model.
    pub fn model(&self, number: u16) -> Option<String> {
        self.read().names.models.name(number.into()).map(str::to_owned)
    }

    /// Tries messages one after the other and makes the next deployment of those that are right; `None` if none is. `upper` is the offset
    /// after the last message that was looked at.
    pub fn try_next(&self, messages: Vec<(u64, ControlMessage)>, upper: u64) -> (Option<ControlGroup>, Tried) {
        let Some(workshop) = &self.workshop else {
            let refused = "this run takes no control messages".to_owned();
            return (None, messages.into_iter().map(|(offset, _)| (offset, Some(refused.clone()))).collect());
        };
        let mut making = self.making();
        let Making { names, last: number } = &mut *making;
        let (names_before, (_, last)) = (names.count(), self.read().last());
        let (mut scorer, mut records, mut tried) = ((*last).clone(), Vec::new(), Vec::new());
        for (offset, mut message) in messages {
            let mark = names.count();
            self.restored(&mut message.change);
            let AllNames { rules, models } = names;
            match workshop.apply(&scorer, &mut message.change, (rules, models)) {
                Ok(next) => {
                    scorer = next;
                    records.push(ControlRecord { offset, message: message.to_json() });
                    tried.push((offset, None));
                }
                Err(reason) => {
                    names.truncate(mark);
                    tried.push((offset, Some(reason)));
                }
            }
        }
        if records.is_empty() {
            return (None, tried);
        }
        *number += 1;
        let group = ControlGroup { number: *number, upper, records };
        self.write().add(group.clone(), scorer, names, names_before);
        (Some(group), tried)
    }

    /// Writes out what a message refers to that only this process may know.
    fn restored(&self, change: &mut ControlChange) {
        if let ControlChange::RulesRestore { deployment } = change
            && let Some(kept) = self.read().by_number.get(deployment)
        {
            let rules = kept.scorer.rules();
            let (thresholds, rules) = (rules.thresholds(), rules.iter().map(|checked| checked.rule.clone()).collect());
            *change = ControlChange::Rules { rules, thresholds };
        }
    }

    /// Makes the deployment of a group, unless it is made. What goes wrong is noted, see [`Deployments::failed`].
    pub fn make(&self, group: &ControlGroup) {
        let mut making = self.making();
        let Making { names, last: number } = &mut *making;
        let (names_before, (newest, last)) = (names.count(), self.read().last());
        if group.number <= newest {
            return;
        }
        *number = group.number.max(*number);
        let made = match &self.workshop {
            Some(workshop) => names.make(workshop, &last, group),
            None => Err("this run takes no control messages".to_owned()),
        };
        match made {
            Ok(scorer) => self.write().add(group.clone(), scorer, names, names_before),
            Err(reason) => {
                names.truncate(names_before);
                self.write().failed = Some((group.number, reason));
            }
        }
    }

    /// A deployment that could not be made, and why.
    pub fn failed(&self) -> Option<(DeploymentNumber, String)> {
        self.read().failed.clone()
    }

    /// Gives up the newest one, which no epoch will have.
    pub fn give_up(&self, number: DeploymentNumber) {
        let (mut making, mut known) = (self.making(), self.write());
        known.failed.take_if(|(failed, _)| *failed == number);
        if number == known.last().0
            && let Some(kept) = known.by_number.remove(&number)
        {
            known.groups.pop();
            known.names.truncate(kept.names_before);
            making.names.truncate(kept.names_before);
        }
    }

    /// Takes note that an epoch has this one, the watermark being there, and lets those go that took their leave before `forget_ms`: no
    /// transaction refers to them any more.
    pub fn switched(&self, number: DeploymentNumber, watermark_ms: i64, forget_ms: i64) {
        let mut known = self.write();
        known.by_number.range_mut(..number).for_each(|(_, kept)| kept.until_ms = kept.until_ms.min(watermark_ms));
        known.by_number.retain(|_, kept| kept.until_ms >= forget_ms);
        let oldest = known.oldest();
        known.groups.retain(|group| group.number > oldest);
    }

    /// What makes the deployments up to this one again.
    pub fn history(&self, last: DeploymentNumber) -> ControlHistory {
        let known = self.read();
        let (oldest, later) = (known.oldest(), known.by_number.range(last + 1..).next());
        let (rules, models) = later.map_or(known.names.count(), |(_, later)| later.names_before);
        let first = known.by_number.get(&oldest).filter(|_| oldest > 0);
        let first = first.map(|kept| written_out(oldest, kept.upper, &kept.scorer));
        let groups = known.groups.iter().filter(|group| (oldest + 1..=last).contains(&group.number)).cloned();
        ControlHistory {
            groups: first.into_iter().chain(groups).collect(),
            rules: known.names.rules.all()[..rules].to_vec(),
            models: known.names.models.all()[..models].to_vec(),
        }
    }

    /// Makes the deployments of a history again.
    ///
    /// # Errors
    /// If one cannot be made any more.
    pub fn restore(&self, history: &ControlHistory) -> Result<(), String> {
        let Some(oldest) = history.groups.first().map(|group| group.number) else { return Ok(()) };
        let names = AllNames { rules: Names::of(history.rules.clone()), models: Names::of(history.models.clone()) };
        self.write().names = names.clone();
        self.making().names = names;
        for group in &history.groups {
            self.make(group);
            if let Some((number, reason)) = self.failed() {
                return Err(format!("deployment {number} cannot be made again: {reason}"));
            }
        }
        // The one before it, which it may have been made of, is what the run was started with.
        if oldest > 1 {
            self.write().by_number.remove(&0);
        }
        Ok(())
    }

    fn making(&self) -> MutexGuard<'_, Making> {
        self.making.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn oldest(&self) -> DeploymentNumber {
        self.by_number.first_key_value().map_or(0, |(&number, _)| number)
    }

    fn last(&self) -> (DeploymentNumber, Arc<Scorer>) {
        self.by_number.last_key_value().map(|(&number, kept)| (number, kept.scorer.clone())).unwrap_or_default()
    }

    fn add(&mut self, group: ControlGroup, scorer: Scorer, names: &AllNames, names_before: (usize, usize)) {
        let (scorer, upper) = (Arc::new(scorer), group.upper);
        let kept = Kept { scorer, upper, until_ms: i64::MAX, names_before };
        self.by_number.insert(group.number, kept);
        self.groups.push(group);
        self.names.follow(names);
        self.failed = None;
    }
}

/// What makes a deployment of any other.
fn written_out(number: DeploymentNumber, upper: u64, scorer: &Scorer) -> ControlGroup {
    let rules = scorer.rules();
    let lists = rules.lists().names().map(|name| ControlChange::List(WrittenList::of(rules.lists(), name)));
    let all = ControlChange::Rules {
        rules: rules.iter().map(|checked| checked.rule.clone()).collect(),
        thresholds: rules.thresholds(),
    };
    let snoozes = rules.iter().filter_map(|checked| {
        let until = jiff::Timestamp::from_millisecond(checked.snoozed_until_ms?).ok()?;
        Some(ControlChange::RuleSnooze { rule: checked.rule.id.clone(), until })
    });
    let models = scorer.models().iter().map(|deployed| WantedModel {
        model: deployed.model.label().to_owned(),
        role: deployed.role,
        share: deployed.share,
        files: deployed.files.as_ref().map(|files| files.to_string()),
    });
    let models = ControlChange::Models { models: models.collect() };
    let record = |change| {
        let (id, by) = Default::default();
        let message = ControlMessage { version: MESSAGE_VERSION, id, by, time: None, change };
        ControlRecord { offset: upper, message: message.to_json() }
    };
    ControlGroup { number, upper, records: lists.chain([all]).chain(snoozes).chain([models]).map(record).collect() }
}

impl AllNames {
    fn count(&self) -> (usize, usize) {
        (self.rules.all().len(), self.models.all().len())
    }

    fn truncate(&mut self, (rules, models): (usize, usize)) {
        self.rules.truncate(rules);
        self.models.truncate(models);
    }

    /// Takes over what another one has beyond this one.
    fn follow(&mut self, other: &AllNames) {
        let (rules, models) = self.count();
        for name in &other.rules.all()[rules..] {
            self.rules.number(name);
        }
        for name in &other.models.all()[models..] {
            self.models.number(name);
        }
    }

    fn make(&mut self, workshop: &Workshop, before: &Scorer, group: &ControlGroup) -> Result<Scorer, String> {
        let mut scorer = before.clone();
        for ControlRecord { offset, message } in &group.records {
            let at = |reason: String| format!("control message {offset}: {reason}");
            let mut message = ControlMessage::parse(message).map_err(at)?;
            scorer = workshop.apply(&scorer, &mut message.change, (&mut self.rules, &mut self.models)).map_err(at)?;
        }
        Ok(scorer)
    }
}

impl std::fmt::Debug for Deployments {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Deployments").field("newest", &self.newest()).finish_non_exhaustive()
    }
}
