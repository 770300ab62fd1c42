//! The candidates of one key: for every event that may begin a match, each later one is tried in turn.

use std::cell::RefCell;
use std::collections::HashMap;

use super::condition::Situation;
use super::{Found, VelocityValues, key_of};
use crate::event::{Event, Id, Key, Schema};
use crate::views::pattern::MATCH_IDS_MAX;
use crate::views::pattern::expr::duration_ms;
use crate::views::pattern::spec::{PatternSpec, StepSpec};

/// One pattern over the events of one key.
pub(super) struct KeyTwin<'a> {
    /// The pattern.
    pub spec: &'a PatternSpec,
    /// The schema of the events.
    pub schema: &'a Schema,
    /// The events, in (event time, id) order.
    pub events: &'a [&'a Event],
    /// Velocity features of the events.
    pub values: &'a VelocityValues,
    /// The key.
    pub key: Key,
    /// What [`KeyTwin::is`] has said before.
    pub known: RefCell<HashMap<(String, usize), bool>>,
}

/// The events that each step has taken, by index.
pub(super) type StepEvents = Vec<Vec<usize>>;

impl KeyTwin<'_> {
    fn steps(&self) -> (&[StepSpec], Option<&StepSpec>) {
        match self.spec.steps.split_last() {
            Some((last, steps)) if last.absent.is_some() => (steps, Some(last)),
            _ => (&self.spec.steps, None),
        }
    }

    pub(super) fn within_ms(&self) -> i64 {
        self.spec.within.as_deref().and_then(|text| duration_ms(text).ok()).unwrap_or(1)
    }

    /// Whether an event is a named event of this key.
    pub(super) fn is(&self, name: &str, at: usize) -> bool {
        let asked = (name.to_owned(), at);
        if let Some(known) = self.known.borrow().get(&asked) {
            return *known;
        }
        let (event, named) = (self.events[at], &self.spec.events[name]);
        let key = named.key.as_ref().or(self.spec.key.as_ref()).and_then(|key| key_of(key, event, self.schema));
        let is = key == Some(self.key) && self.is_alone(name, at);
        self.known.borrow_mut().insert(asked, is);
        is
    }

    /// The same, whatever the key.
    pub(super) fn is_alone(&self, name: &str, at: usize) -> bool {
        let (event, named) = (self.events[at], &self.spec.events[name]);
        let kind = &self.schema.kinds()[event.kind as usize];
        let asked = Situation { at, taken: &Vec::new(), counted: None, named: Some(named) };
        named.kind.fields().contains(kind) && self.all_hold(&named.conditions, &asked)
    }

    fn takes(&self, step: &StepSpec, at: usize, taken: &StepEvents) -> bool {
        let asked = Situation { at, taken, counted: None, named: None };
        self.is(step.event.as_deref().unwrap_or_default(), at) && self.all_hold(&step.conditions, &asked)
    }

    fn enough(&self, step: &StepSpec, counted: &[usize], taken: &StepEvents) -> bool {
        let asked = Situation { at: counted[counted.len() - 1], taken, counted: Some(counted), named: None };
        counted.len() >= step.at_least.unwrap_or(1) as usize && self.all_hold(&step.having, &asked)
    }

    /// The candidate that begins at an event, and the events that its steps take.
    pub(super) fn match_from(&self, start: usize) -> Option<(Found, StepEvents)> {
        let (steps, absent) = self.steps();
        let started_ms = self.events[start].time;
        let in_time = |at: &usize| self.events[*at].time - started_ms < self.within_ms();
        if !self.is(steps[0].event.as_deref()?, start) {
            return None;
        }
        let mut taken: StepEvents = vec![vec![start]];
        for (number, step) in steps.iter().enumerate().skip(1) {
            let before = &steps[number - 1];
            let first = *taken.last()?.first()?;
            let next = (first + 1..self.events.len()).filter(in_time).find_map(|at| {
                let mut so_far = taken.clone();
                if before.counts() {
                    so_far[number - 1] = self.counted(before, first, at, &taken);
                    if !self.enough(before, &so_far[number - 1], &so_far) {
                        return None;
                    }
                }
                let last = *so_far[number - 1].last()?;
                let between = (last + 1..at).any(|at| step.not.iter().any(|name| self.is(name, at)));
                (!between && self.takes(step, at, &so_far)).then_some((so_far, at))
            });
            let (so_far, at) = next?;
            taken = so_far;
            taken.push(vec![at]);
        }
        let last_step = &steps[steps.len() - 1];
        if last_step.counts() {
            let first = taken.last()?[0];
            let counted = (first..self.events.len()).filter(in_time).find_map(|at| {
                let counted = self.counted(last_step, first, at + 1, &taken);
                let complete = counted.last() == Some(&at) && self.enough(last_step, &counted, &taken);
                let window = |earlier: &usize| self.events[at].time - self.events[*earlier].time < self.within_ms();
                let whole = (0..start).filter(window).all(|earlier| !self.takes(last_step, earlier, &taken));
                let complete = complete && (whole || !last_step.whole_window);
                complete.then_some(counted)
            })?;
            *taken.last_mut()? = counted;
        }
        let last = *taken.last()?.last()?;
        let mut at = (self.events[last].time, self.events[last].id);
        if let Some(absent) = absent {
            let until_ms = at.0 + absent.within.as_deref().and_then(|text| duration_ms(text).ok())?;
            let name = absent.absent.as_deref()?;
            let comes = (last + 1..self.events.len()).any(|at| {
                let asked = Situation { at, taken: &taken, counted: None, named: None };
                self.events[at].time < until_ms && self.is(name, at) && self.all_hold(&absent.conditions, &asked)
            });
            if comes {
                return None;
            }
            at = (until_ms, Id::default());
        }
        let mut ids: Vec<Id> = taken.iter().flatten().map(|&at| self.events[at].id).collect();
        let events = ids.len();
        if events > MATCH_IDS_MAX {
            ids.drain(MATCH_IDS_MAX - 1..events - 1);
        }
        let pattern = self.spec.name.clone();
        let found = Found { pattern, key: self.key, at, started_ms, ids, events, absence: absent.is_some() };
        Some((found, taken))
    }

    /// The events that a counting step counts from its first event up to (not with) another.
    fn counted(&self, step: &StepSpec, first: usize, until: usize, taken: &StepEvents) -> Vec<usize> {
        let earlier: StepEvents = taken[..taken.len() - 1].to_vec();
        let more = (first + 1..until).filter(|&at| self.takes(step, at, &earlier));
        std::iter::once(first).chain(more).collect()
    }
}
