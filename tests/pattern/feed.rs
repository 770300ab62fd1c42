//! Records in epochs, cut to what the views of patterns are asked, without the operators around.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use deltawatch::event::{Event, Id, Op, Schema};
use deltawatch::flow::{Cause, Change, NO_TICKET, Verb};
use rand::Rng;
use rand::rngs::StdRng;

/// The watermark is so far behind the latest event.
const LAG_MS: i64 = 6_000;

/// What an epoch must do.
pub struct Epoch {
    /// The latest event time before it, and with it, milliseconds.
    pub watermarks: (i64, i64),
    pub changes: Vec<Change>,
    /// Velocity features of each ticket.
    pub features: Vec<Vec<f64>>,
}

/// Gives records to epochs, as the operator that keeps events by id does.
pub struct Feed {
    schema: Arc<Schema>,
    /// How late an event may be, and how far back rows are read again, milliseconds.
    kept_ms: i64,
    /// Features of a row.
    width: usize,
    held: BTreeMap<Id, Arc<Event>>,
    pub watermark: i64,
}

impl Feed {
    pub fn new(schema: &Arc<Schema>, kept_ms: i64, width: usize) -> Self {
        Feed { schema: schema.clone(), kept_ms, width, held: BTreeMap::new(), watermark: i64::MIN }
    }

    /// An epoch with these records, in which the rows of these events are read again, with features of their own choice.
    pub fn epoch(&mut self, records: &[Event], again: &BTreeSet<Id>, random: &mut StdRng) -> Epoch {
        let bound = self.watermark.saturating_sub(self.kept_ms);
        let mut before: BTreeMap<Id, Option<Arc<Event>>> = BTreeMap::new();
        let mut changed: Vec<(Id, Op)> = Vec::new();
        for record in records {
            let known = self.held.get(&record.id);
            if record.time < bound || known.is_some_and(|known| known.time < bound) {
                continue;
            }
            let known = known.cloned();
            match (record.op, &known) {
                (Op::Withdraw, Some(_)) => drop(self.held.remove(&record.id)),
                (Op::Correct, Some(_)) | (Op::Insert, None) => {
                    self.held.insert(record.id, Arc::new(record.clone()));
                }
                _ => continue,
            }
            before.entry(record.id).or_insert(known);
            changed.retain(|(id, _)| *id != record.id);
            changed.push((record.id, record.op));
        }
        let mut changes = Vec::new();
        for (id, op) in &changed {
            let cause = match op {
                Op::Correct => Cause::Correction,
                Op::Withdraw => Cause::Withdrawal,
                _ => Cause::Arrival,
            };
            let here = self.held.get(id).map(|event| (event, Verb::Insert));
            let gone = before.get(id).and_then(Option::as_ref).map(|event| (event, Verb::Remove));
            changes.extend(gone.into_iter().chain(here).map(|(event, verb)| change(event, verb, cause)));
        }
        for event in again.iter().filter_map(|id| self.held.get(id)) {
            let free = changed.iter().all(|(id, _)| *id != event.id);
            if free && event.time >= bound && self.schema.is_scored(event.kind) {
                changes.push(change(event, Verb::Read, Cause::LateEvent));
            }
        }
        let mut features = Vec::new();
        for change in &mut changes {
            if change.verb != Verb::Remove && self.schema.is_scored(change.event.kind) {
                change.ticket = features.len() as u32;
                let mut value = || [0.0, 1.0, 2.0, 3.0, 6.0, 100.0, f64::NAN][random.random_range(0..7)];
                features.push((0..self.width).map(|_| value()).collect());
            }
        }
        let latest = changes.iter().map(|change| change.event.time - LAG_MS).max().unwrap_or(self.watermark);
        self.pass(latest, changes, features)
    }

    /// An epoch in which event time comes so far.
    pub fn pass(&mut self, latest: i64, changes: Vec<Change>, features: Vec<Vec<f64>>) -> Epoch {
        let before = self.watermark;
        self.watermark = before.max(latest);
        Epoch { watermarks: (before, self.watermark), changes, features }
    }

    /// A few events whose rows may be read again.
    pub fn some(&self, random: &mut StdRng) -> BTreeSet<Id> {
        let recent: Vec<Id> = self.held.values().rev().take(200).map(|event| event.id).collect();
        (0..random.random_range(0..3))
            .filter_map(|_| recent.get(random.random_range(0..recent.len().max(1))))
            .copied()
            .collect()
    }
}

fn change(event: &Arc<Event>, verb: Verb, cause: Cause) -> Change {
    Change {
        number: 0,
        event: event.clone(),
        label: None,
        verb,
        ticket: NO_TICKET,
        row_revision: 0,
        cause,
        arrived_ns: 0,
    }
}
