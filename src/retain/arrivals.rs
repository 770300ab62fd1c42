//! The rules of arrivals: records of an epoch in, changes of transactions out.
//!
//! For each id, within the retention:
//!
//! * the same content again is a duplicate: counted, nothing else;
//! * other content is a correction: the old event is removed, the new one inserted;
//! * a withdrawal removes the event, also if it comes before it.
//!
//! Between records of one id the operation decides (withdraw over correct over insert), and between equal operations the
//! order of arrival, which sources keep per id. So the outcome does not depend on how ids are interleaved. What loses:
//!
//! * an insert with other content than the correction that came before it was overtaken: counted as `stale`;
//! * an insert or a correction that comes after the withdrawal of its id is a reject `withdrawn`, unless it repeats what the
//!   withdrawal has removed, which is a duplicate. Of an id that was withdrawn before it came the first event is such a
//!   reject, and what repeats that one a duplicate;
//! * the same holds for the records of one label.
//!
//! Two records are about one transaction if their ids are equal, whatever their ranks ([`crate::event::Id::map_key`]).
//!
//! An event that comes and is withdrawn within one epoch leaves no trace: the epoch is the grain of time, and it was not
//! there at either end.
//!
//! A label is joined to its target when both are there; until then it waits. Of several labels of one target the one
//! that became available last holds (ties by the label's id). An event whose time is further behind the watermark than
//! the horizon goes to the side output, with its content.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::records::{Records, Transaction};
use super::verdict::{LabelRecord, Verdict, merge, verdict};
use crate::event::{Event, IdType, MapKey, Op, Role, Schema, Slot};
use crate::flow::{
    Arrival, Cause, Change, Epoch, Facts, Horizons, Label, NO_TICKET, Reject, RejectReason, Touched, Verb,
};
use crate::metrics::Metrics;
use crate::operators::{Expiring, ShardedMap};

/// Expiry lets go of at least this many transactions per epoch, so that an idle engine goes on expiring.
const EXPIRE_MIN: usize = 64;

/// Which id decides where an event is kept: its own, or a label's target.
#[derive(Clone)]
pub(super) struct KeptBy {
    ids: IdType,
    label: Option<u16>,
    schema: Arc<Schema>,
}

impl KeptBy {
    pub fn new(schema: &Arc<Schema>) -> Self {
        let label = schema.kind("label").filter(|_| schema.label_target_slot().is_some());
        KeptBy { ids: schema.id_type(), label, schema: schema.clone() }
    }

    fn target(&self, event: &Event) -> Option<MapKey> {
        let target = if Some(event.kind) == self.label { event.label_target(&self.schema) } else { None };
        target.map(|target| target.map_key(self.ids))
    }

    pub fn of(&self, event: &Event) -> MapKey {
        self.target(event).unwrap_or_else(|| event.id.map_key(self.ids))
    }
}

/// A label without its target yet, and the arrival it is, should the target never come.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct WaitingLabel {
    pub record: LabelRecord,
    pub arrival: Arrival,
}

/// What an epoch makes of the transactions.
#[derive(Default)]
pub(super) struct Effects {
    pub changes: Vec<Change>,
    pub rejects: Vec<Reject>,
    /// Events that the retention has passed.
    pub gone: Vec<Arc<Event>>,
}

/// The rules, and what they remember beside the transactions.
pub(super) struct Arrivals {
    pub(super) schema: Arc<Schema>,
    kept_by: KeptBy,
    value_slot: Option<Slot>,
    available_slot: Option<Slot>,
    horizons: Horizons,
    pub(super) waiting: ShardedMap<Vec<WaitingLabel>>,
    /// Targets of waiting labels.
    pub(super) waiting_until: Expiring,
    pub(super) expiring: Expiring,
    /// Whether someone takes the events: then they go as soon as they have expired, and not as there is time for it.
    pub(super) at_once: bool,
    metrics: Arc<Metrics>,
}

impl Arrivals {
    pub fn new(schema: Arc<Schema>, horizons: Horizons, metrics: Arc<Metrics>) -> Self {
        Arrivals {
            kept_by: KeptBy::new(&schema),
            value_slot: schema.slot_of_role(Role::LabelValue),
            available_slot: schema.slot_of_role(Role::AvailableAt),
            schema,
            horizons,
            waiting: ShardedMap::default(),
            waiting_until: Expiring::new(horizons.by_id_ms),
            expiring: Expiring::new(horizons.by_id_ms),
            at_once: false,
            metrics,
        }
    }

    /// Applies the records of an epoch, and asks for the rows that were touched.
    pub fn apply<S>(
        &mut self,
        records: &mut Records<S>,
        now: &Facts,
        mut arrivals: Vec<Arrival>,
        mut touched: Vec<Touched>,
    ) -> Effects {
        let mut effects = Effects::default();
        effects.changes.reserve(arrivals.len() + touched.len());
        // By the watermark of the epoch before this one, whatever epochs brought this worker something: what is there must
        // not depend on how ids are spread.
        self.expire(records, now, EXPIRE_MIN + 2 * arrivals.len(), &mut effects);
        let place = |arrival: &Arrival| (arrival.partition, arrival.offset);
        if !arrivals.is_sorted_by_key(place) {
            arrivals.sort_unstable_by_key(place);
        }
        self.metrics.events.add(arrivals.len() as u64);
        for arrival in arrivals {
            if let Some(target) = self.kept_by.target(&arrival.event) {
                self.label(records, now, target, arrival, &mut effects);
            } else if arrival.event.op == Op::Withdraw {
                self.withdraw(records, now, arrival, &mut effects);
            } else {
                self.upsert(records, now, arrival, &mut effects);
            }
        }
        // They come from several workers, in an order that is left to chance; of several causes the smallest is given.
        let ids = self.kept_by.ids;
        touched.sort_unstable_by_key(|touched| (touched.id.map_key(ids), touched.cause));
        touched.dedup_by_key(|touched| touched.id.map_key(ids));
        for Touched { id, cause } in touched {
            self.touch(records, now, id.map_key(ids), cause, &mut effects);
        }
        let asking = effects.changes.iter_mut().filter(|change| change.ticket != NO_TICKET);
        asking.zip(0..).for_each(|(change, ticket)| change.ticket = ticket);
        effects
    }

    fn upsert<S>(&mut self, records: &mut Records<S>, now: &Facts, arrival: Arrival, effects: &mut Effects) {
        let key = arrival.event.id.map_key(self.kept_by.ids);
        let Some(number) = self.find(records, now, &key, effects) else {
            return self.insert(records, now, key, arrival, effects);
        };
        let Some(old) = records.get_mut(number) else { return };
        // A withdrawal that came first stands where its event would, and says nothing of its content.
        let same = old.event.op != Op::Withdraw && old.event.same_content(&arrival.event);
        match verdict(old.op, arrival.event.op, same) {
            Verdict::Holds => {}
            Verdict::Repeats => {
                old.op = old.op.max(arrival.event.op);
                return self.metrics.duplicates.add(1);
            }
            Verdict::Overtaken => return self.metrics.stale.add(1),
            Verdict::Withdrawn => {
                // The withdrawal came before anything else: the event is noted in its place, so that what repeats it is a
                // duplicate.
                if old.event.op == Op::Withdraw {
                    self.expiring.put(key, arrival.event.time);
                    old.due_ms = arrival.event.time;
                    old.event = Arc::new(arrival.event.clone());
                }
                let message = "its id was withdrawn, which is final; send it under another id".to_owned();
                return effects.rejects.push(self.reject(arrival, RejectReason::Withdrawn, message));
            }
        }
        self.metrics.corrections.add(1);
        let fresh = void(old, now.epoch, effects);
        effects.changes.push(change(number, old, Verb::Remove, Cause::Correction));
        let cause = if fresh { Cause::Arrival } else { Cause::Correction };
        old.op = arrival.event.op;
        old.event = Arc::new(arrival.event);
        old.arrived_ns = arrival.arrived_ns;
        let (asked, moved) = (effects.changes.len(), old.event.time);
        (old.epoch, old.asked, old.due_ms) = (now.epoch, asked as u32, moved);
        let insert = asking(&self.schema, number, old, Verb::Insert, cause);
        effects.changes.push(insert);
        self.expiring.put(key, moved);
    }

    fn insert<S>(
        &mut self,
        records: &mut Records<S>,
        now: &Facts,
        key: MapKey,
        arrival: Arrival,
        effects: &mut Effects,
    ) {
        if arrival.event.time < now.before_ms.saturating_sub(self.horizons.late_ms) {
            self.metrics.too_late.add(1);
            let behind = now.before_ms - arrival.event.time;
            let message = format!("event is {behind} ms behind the watermark, beyond the horizon; raise --horizon");
            effects.rejects.push(self.reject(arrival, RejectReason::TooLate, message));
            return;
        }
        let Arrival { event, arrived_ns, .. } = arrival;
        if event.op == Op::Correct {
            self.metrics.corrections_unseen.add(1);
        }
        let time = event.time;
        let waiting = if self.waiting.is_empty() { None } else { self.waiting.remove(&key) };
        let mut labels = Vec::new();
        for WaitingLabel { record, arrival } in waiting.unwrap_or_default() {
            let verdict = merge(&mut labels, record);
            self.judged(verdict, arrival, effects);
        }
        let op = event.op;
        let mut transaction = Transaction::new(key, event, op, arrived_ns);
        (transaction.labels, transaction.epoch, transaction.asked) = (labels, now.epoch, effects.changes.len() as u32);
        let mut insert = asking(&self.schema, 0, &mut transaction, Verb::Insert, Cause::Arrival);
        insert.number = records.insert(transaction);
        effects.changes.push(insert);
        self.expiring.put(key, time);
    }

    fn withdraw<S>(&mut self, records: &mut Records<S>, now: &Facts, arrival: Arrival, effects: &mut Effects) {
        let key = arrival.event.id.map_key(self.kept_by.ids);
        self.metrics.withdrawals.add(1);
        let number = self.find(records, now, &key, effects);
        match number.and_then(|number| Some((number, records.get_mut(number)?))) {
            Some((number, old)) if old.live() => {
                void(old, now.epoch, effects);
                old.arrived_ns = arrival.arrived_ns;
                effects.changes.push(change(number, old, Verb::Remove, Cause::Withdrawal));
                old.op = Op::Withdraw;
            }
            Some(_) => self.metrics.duplicates.add(1),
            None => {
                // It came before its event: remember it, so that the event is not taken in.
                let Arrival { event, arrived_ns, .. } = arrival;
                let time = event.time.max(now.before_ms);
                let mut unseen = Transaction::new(key, event, Op::Withdraw, arrived_ns);
                unseen.due_ms = time;
                records.insert(unseen);
                self.expiring.put(key, time);
            }
        }
    }

    fn label<S>(
        &mut self,
        records: &mut Records<S>,
        now: &Facts,
        target: MapKey,
        arrival: Arrival,
        effects: &mut Effects,
    ) {
        let event = &arrival.event;
        self.metrics.labels.add(1);
        let available_at = self.available_slot.and_then(|slot| event.int(slot)).unwrap_or(event.time);
        let fraud = self.value_slot.and_then(|slot| event.int(slot)).is_some_and(|value| value != 0);
        let record =
            LabelRecord { id: event.id.map_key(self.kept_by.ids), op: event.op, label: Label { available_at, fraud } };
        let number = self.find(records, now, &target, effects);
        let Some((number, retained)) = number.and_then(|number| Some((number, records.get_mut(number)?))) else {
            self.waiting_until.put(target, event.time);
            let waiting = WaitingLabel { record, arrival };
            match self.waiting.get_mut(&target) {
                Some(others) => others.push(waiting),
                None => drop(self.waiting.insert(target, vec![waiting])),
            }
            return;
        };
        let before = retained.label();
        let verdict = merge(&mut retained.labels, record);
        if retained.live() && retained.label() != before {
            retained.arrived_ns = arrival.arrived_ns;
            let verb = if before.is_none() { Verb::Label } else { Verb::Relabel };
            effects.changes.push(change(number, retained, verb, Cause::Label));
        }
        self.judged(verdict, arrival, effects);
    }

    /// Counts, or refuses, a label's record that does not hold.
    fn judged(&self, verdict: Verdict, label: Arrival, effects: &mut Effects) {
        match verdict {
            Verdict::Holds => {}
            Verdict::Repeats => self.metrics.duplicates.add(1),
            Verdict::Overtaken => self.metrics.stale.add(1),
            Verdict::Withdrawn => {
                let message = "this label was withdrawn, which is final; send it under another id".to_owned();
                effects.rejects.push(self.reject(label, RejectReason::Withdrawn, message));
            }
        }
    }

    fn touch<S>(&mut self, records: &mut Records<S>, now: &Facts, key: MapKey, cause: Cause, effects: &mut Effects) {
        let read_from = now.expired_ms.saturating_sub(self.horizons.read_ms);
        let number = self.find(records, now, &key, effects);
        match number.and_then(|number| Some((number, records.get_mut(number)?))) {
            // Part of what its features look at may have expired.
            Some((_, retained)) if retained.event.time < read_from => self.metrics.revisions_missed.add(1),
            Some((number, retained)) if retained.live() && retained.epoch != now.epoch => {
                (retained.epoch, retained.asked) = (now.epoch, effects.changes.len() as u32);
                let read = asking(&self.schema, number, retained, Verb::Read, cause);
                effects.changes.push(read);
            }
            Some(_) => {}
            None => self.metrics.revisions_missed.add(1),
        }
    }

    /// The keys that an epoch may change.
    pub fn keys_of(&self, arrivals: &[Arrival], touched: &[Touched]) -> BTreeSet<MapKey> {
        let ids = self.kept_by.ids;
        let touched = touched.iter().map(|touched| touched.id.map_key(ids));
        arrivals.iter().map(|arrival| self.kept_by.of(&arrival.event)).chain(touched).collect()
    }

    /// A transaction that has not expired. One that has is let go of, should its turn not have come yet: what is there must not depend on
    /// how far expiry has come.
    fn find<S>(&self, records: &mut Records<S>, now: &Facts, key: &MapKey, effects: &mut Effects) -> Option<u32> {
        let number = records.find(key)?;
        if !self.expiring.has_passed(records.get(number)?.due_ms, now.expired_ms) {
            return Some(number);
        }
        let_go(records, now.epoch, key, effects);
        None
    }

    /// Lets go of what the retention has passed, of so many transactions at most, and of the labels that have waited in vain. What is left
    /// of a slice comes later, so that no epoch waits for a whole one, or for all of them after a pause.
    pub fn expire<S>(&mut self, records: &mut Records<S>, now: &Facts, most: usize, effects: &mut Effects) {
        let most = if self.at_once { usize::MAX } else { most };
        let mut taken = 0;
        while taken < most
            && let Some(key) = self.expiring.next(now.expired_ms)
        {
            taken += 1;
            // A corrected event may have moved to a later slice.
            let due_ms = records.find(&key).and_then(|number| records.get(number)).map(|one| one.due_ms);
            if due_ms.is_some_and(|due_ms| self.expiring.has_passed(due_ms, now.expired_ms)) {
                let_go(records, now.epoch, &key, effects);
            }
        }
        while let Some(key) = self.waiting_until.next(now.expired_ms) {
            for WaitingLabel { record, arrival } in self.waiting.remove(&key).unwrap_or_default() {
                if record.op == Op::Withdraw {
                    continue;
                }
                self.metrics.orphan_labels.add(1);
                let message = "the labelled event never came within the retention".to_owned();
                effects.rejects.push(self.reject(arrival, RejectReason::OrphanLabel, message));
            }
        }
        if taken > 0 {
            self.metrics.event_table_bytes.set_own(records.table_bytes() as u64);
        }
        self.metrics.retained_events.set_own(records.len() as u64);
    }

    /// An arrival that is not taken in, as it was read. What was never bytes is written as the schema says.
    fn reject(&self, arrival: Arrival, reason: RejectReason, message: String) -> Reject {
        arrival.refuse(&self.schema, reason, message)
    }
}

/// Lets go of a transaction; its event goes if it is there.
fn let_go<S>(records: &mut Records<S>, epoch: Epoch, key: &MapKey, effects: &mut Effects) {
    let known = records.find(key).and_then(|number| records.get(number));
    effects.gone.extend(known.filter(|one| one.live()).map(|one| one.event.clone()));
    records.leave(key, epoch);
}

/// Takes back the row that this epoch asked for; says whether it was the first of this event.
fn void<S>(old: &mut Transaction<S>, epoch: Epoch, effects: &mut Effects) -> bool {
    if old.epoch != epoch || old.rows == 0 {
        return false;
    }
    old.rows -= 1;
    effects.changes[old.asked as usize].ticket = NO_TICKET;
    old.rows == 0
}

/// A change that asks for the event's row, if the event is of a scored kind. Tickets are numbered at the end.
fn asking<S>(schema: &Schema, number: u32, retained: &mut Transaction<S>, verb: Verb, cause: Cause) -> Change {
    let mut change = change(number, retained, verb, cause);
    if schema.is_scored(retained.event.kind) {
        change.ticket = 0;
        retained.rows += 1;
    }
    change
}

fn change<S>(number: u32, retained: &Transaction<S>, verb: Verb, cause: Cause) -> Change {
    Change {
        number,
        event: retained.event.clone(),
        label: retained.label(),
        verb,
        ticket: NO_TICKET,
        row_revision: retained.rows,
        cause,
        arrived_ns: retained.arrived_ns,
    }
}
