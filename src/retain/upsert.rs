//! Retained events by id: arrivals in, changes out.
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
//! Two records are about one transaction if their ids are equal, whatever their ranks ([`Id::map_key`]).
//!
//! An event that comes and is withdrawn within one epoch leaves no trace: the epoch is the grain of time, and it was not
//! there at either end.
//!
//! A label is joined to its target when both are there; until then it waits. Of several labels of one target the one
//! that became available last holds (ties by the label's id). An event whose time is further behind the watermark than
//! the horizon goes to the side output, with its content.

use std::sync::Arc;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use super::verdict::{LabelRecord, Verdict, merge, verdict};
use crate::event::{Event, IdType, MapKey, Op, Role, Schema, Slot};
use crate::flow::shard_of;
use crate::flow::{
    Arrival, Cause, Change, Epoch, EpochFacts, Horizons, Label, NO_TICKET, Reject, RejectReason, Touched, Verb,
};
use crate::metrics::Metrics;
use crate::operators::{Epochs, Expiring, ShardedMap};

/// Changes and rejects of the retained events.
pub struct Upserted<'scope> {
    /// What happened, in an order that depends on the records of the epoch alone.
    pub changes: Stream<'scope, Epoch, Vec<Change>>,
    /// Events beyond the horizon, labels without a target, what came after the withdrawal of its id.
    pub rejects: Stream<'scope, Epoch, Vec<Reject>>,
}

/// Builds the operator. `touched` asks for rows to be read again.
pub fn upsert<'scope>(
    arrivals: Stream<'scope, Epoch, Vec<Arrival>>,
    touched: Stream<'scope, Epoch, Vec<Touched>>,
    schema: Arc<Schema>,
    horizons: Horizons,
    facts: EpochFacts,
    metrics: Arc<Metrics>,
) -> Upserted<'scope> {
    let mut builder = OperatorBuilder::new("Upsert".to_owned(), arrivals.scope());
    let owner = Owner::new(&schema);
    let by_owner = Exchange::new(move |arrival: &Arrival| u64::from(shard_of(owner.of(&arrival.event).route())));
    let ids = schema.id_type();
    let mut arrivals = builder.new_input(arrivals, by_owner);
    let mut touched = builder.new_input(
        touched,
        Exchange::new(move |touched: &Touched| u64::from(shard_of(touched.id.map_key(ids).route()))),
    );
    let (changes_out, changes) = builder.new_output();
    let (rejects_out, rejects) = builder.new_output();
    let mut changes_out = OutputBuilder::<_, CapacityContainerBuilder<Vec<Change>>>::from(changes_out);
    let mut rejects_out = OutputBuilder::<_, CapacityContainerBuilder<Vec<Reject>>>::from(rejects_out);

    builder.build(move |_| {
        let mut epochs: Epochs<(Vec<Arrival>, Vec<Touched>)> = Epochs::new(2);
        let mut events = EventsById::new(schema, horizons, metrics);
        move |frontiers| {
            arrivals.for_each(|capability, data| {
                if let Some(epoch) = epochs.of(&capability) {
                    epoch.0.append(data);
                }
            });
            touched.for_each(|capability, data| {
                if let Some(epoch) = epochs.of(&capability) {
                    epoch.1.append(data);
                }
            });
            while let Some((epoch, capabilities, (arrivals, touched))) = epochs.next_complete(frontiers) {
                let before = facts.before(epoch);
                // By the watermark of the epoch before this one, whatever epochs brought this worker something: what is
                // there must not depend on how keys are spread.
                let expired_to = facts.before(epoch.saturating_sub(1));
                let mut expired = events.expire(expired_to);
                let mut effects = events.apply(epoch, before, expired_to, arrivals, touched);
                effects.rejects.append(&mut expired);
                changes_out.activate().session(&capabilities[0]).give_container(&mut effects.changes);
                if !effects.rejects.is_empty() {
                    rejects_out.activate().session(&capabilities[1]).give_container(&mut effects.rejects);
                }
            }
        }
    });
    Upserted { changes, rejects }
}

/// Which id decides where an event lives: its own, or a label's target.
#[derive(Clone)]
struct Owner {
    ids: IdType,
    label: Option<u16>,
    schema: Arc<Schema>,
}

impl Owner {
    fn new(schema: &Arc<Schema>) -> Self {
        let label = schema.kind("label").filter(|_| schema.label_target_slot().is_some());
        Owner { ids: schema.id_type(), label, schema: schema.clone() }
    }

    fn target(&self, event: &Event) -> Option<MapKey> {
        let target = if Some(event.kind) == self.label { event.label_target(&self.schema) } else { None };
        target.map(|target| target.map_key(self.ids))
    }

    fn of(&self, event: &Event) -> MapKey {
        self.target(event).unwrap_or_else(|| event.id.map_key(self.ids))
    }
}

#[derive(Debug)]
struct Retained {
    event: Arc<Event>,
    op: Op,
    labels: Vec<LabelRecord>,
    /// The change of `epoch` that asks for this event's row, so that there is one row per transaction and epoch.
    asked: usize,
    epoch: Epoch,
    /// Rows asked for so far.
    rows: u32,
    arrived_ns: u64,
}

impl Retained {
    fn live(&self) -> bool {
        self.op != Op::Withdraw
    }

    fn label(&self) -> Option<Label> {
        let live = self.labels.iter().filter(|record| record.op != Op::Withdraw);
        live.max_by_key(|record| (record.label.available_at, record.id)).map(|record| record.label)
    }
}

/// A label without its target yet, and the arrival it is, should the target never come.
struct WaitingLabel {
    record: LabelRecord,
    arrival: Arrival,
}

#[derive(Default)]
struct Effects {
    changes: Vec<Change>,
    rejects: Vec<Reject>,
}

struct EventsById {
    schema: Arc<Schema>,
    owner: Owner,
    value_slot: Option<Slot>,
    available_slot: Option<Slot>,
    horizons: Horizons,
    events: ShardedMap<Retained>,
    waiting: ShardedMap<Vec<WaitingLabel>>,
    expiring: Expiring,
    metrics: Arc<Metrics>,
}

impl EventsById {
    fn new(schema: Arc<Schema>, horizons: Horizons, metrics: Arc<Metrics>) -> Self {
        EventsById {
            owner: Owner::new(&schema),
            value_slot: schema.slot_of_role(Role::LabelValue),
            available_slot: schema.slot_of_role(Role::AvailableAt),
            schema,
            horizons,
            events: ShardedMap::default(),
            waiting: ShardedMap::default(),
            expiring: Expiring::new(horizons.by_id_ms),
            metrics,
        }
    }

    /// `watermark` is the one before the epoch; `expired_to` the one that the epoch before has expired by.
    fn apply(
        &mut self,
        epoch: Epoch,
        watermark: i64,
        expired_to: i64,
        mut arrivals: Vec<Arrival>,
        mut touched: Vec<Touched>,
    ) -> Effects {
        let place = |arrival: &Arrival| (arrival.partition, arrival.offset);
        if !arrivals.is_sorted_by_key(place) {
            arrivals.sort_unstable_by_key(place);
        }
        let mut effects = Effects { changes: Vec::with_capacity(arrivals.len() + touched.len()), rejects: Vec::new() };
        self.metrics.events.add(arrivals.len() as u64);
        for arrival in arrivals {
            if let Some(target) = self.owner.target(&arrival.event) {
                self.label(target, arrival, &mut effects);
            } else if arrival.event.op == Op::Withdraw {
                self.withdraw(epoch, watermark, arrival, &mut effects);
            } else {
                self.upsert(epoch, watermark, arrival, &mut effects);
            }
        }
        // They come from several workers, in an order that is left to chance; of several causes the smallest is given.
        let ids = self.owner.ids;
        touched.sort_unstable_by_key(|touched| (touched.id.map_key(ids), touched.cause));
        touched.dedup_by_key(|touched| touched.id.map_key(ids));
        for Touched { id, cause } in touched {
            self.touch(epoch, expired_to, id.map_key(ids), cause, &mut effects);
        }
        let asking = effects.changes.iter_mut().filter(|change| change.ticket != NO_TICKET);
        asking.zip(0..).for_each(|(change, ticket)| change.ticket = ticket);
        effects
    }

    fn upsert(&mut self, epoch: Epoch, watermark: i64, arrival: Arrival, effects: &mut Effects) {
        let key = arrival.event.id.map_key(self.owner.ids);
        let Some(old) = self.events.get_mut(&key) else {
            return self.insert(epoch, watermark, key, arrival, effects);
        };
        // A withdrawal that came first stands where its event would, and says nothing of its content.
        let same = old.event.op != Op::Withdraw && old.event.same_content(&arrival.event);
        match verdict(old.op, arrival.event.op, same) {
            Verdict::Holds => {}
            Verdict::Repeats => {
                old.op = old.op.max(arrival.event.op);
                return self.metrics.duplicates.add(1);
            }
            Verdict::Overtaken => return self.metrics.stale.add(1),
            Verdict::Withdrawn => return self.refuse(key, arrival, effects),
        }
        self.metrics.corrections.add(1);
        let fresh = void(old, epoch, effects);
        effects.changes.push(change(old, Verb::Remove, Cause::Correction));
        let cause = if fresh { Cause::Arrival } else { Cause::Correction };
        old.op = arrival.event.op;
        old.event = Arc::new(arrival.event);
        old.arrived_ns = arrival.arrived_ns;
        let (asked, moved) = (effects.changes.len(), old.event.time);
        (old.epoch, old.asked) = (epoch, asked);
        let insert = asking(&self.schema, old, Verb::Insert, cause);
        effects.changes.push(insert);
        self.expiring.put(key, moved);
    }

    /// Refuses an event whose id was withdrawn. If the withdrawal came before anything else, the event is noted in its
    /// place, so that what repeats it is a duplicate.
    fn refuse(&mut self, key: MapKey, arrival: Arrival, effects: &mut Effects) {
        let message = "its id was withdrawn, which is final; send it under another id".to_owned();
        if let Some(old) = self.events.get_mut(&key)
            && old.event.op == Op::Withdraw
        {
            self.expiring.put(key, arrival.event.time);
            old.event = Arc::new(arrival.event.clone());
        }
        effects.rejects.push(self.reject(arrival, RejectReason::Withdrawn, message));
    }

    fn insert(&mut self, epoch: Epoch, watermark: i64, key: MapKey, arrival: Arrival, effects: &mut Effects) {
        if arrival.event.time < watermark.saturating_sub(self.horizons.late_ms) {
            self.metrics.too_late.add(1);
            let behind = watermark - arrival.event.time;
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
        let asked = effects.changes.len();
        let mut retained = Retained { op: event.op, event: Arc::new(event), labels, asked, epoch, rows: 0, arrived_ns };
        effects.changes.push(asking(&self.schema, &mut retained, Verb::Insert, Cause::Arrival));
        self.events.insert(key, retained);
        self.expiring.put(key, time);
    }

    fn withdraw(&mut self, epoch: Epoch, watermark: i64, arrival: Arrival, effects: &mut Effects) {
        let key = arrival.event.id.map_key(self.owner.ids);
        self.metrics.withdrawals.add(1);
        match self.events.get_mut(&key) {
            Some(old) if old.live() => {
                void(old, epoch, effects);
                old.arrived_ns = arrival.arrived_ns;
                effects.changes.push(change(old, Verb::Remove, Cause::Withdrawal));
                old.op = Op::Withdraw;
            }
            Some(_) => self.metrics.duplicates.add(1),
            None => {
                // It came before its event: remember it, so that the event is not taken in.
                let Arrival { event, arrived_ns, .. } = arrival;
                let time = event.time.max(watermark);
                let labels = Vec::new();
                let retained =
                    Retained { op: Op::Withdraw, event: Arc::new(event), labels, asked: 0, epoch, rows: 0, arrived_ns };
                self.events.insert(key, retained);
                self.expiring.put(key, time);
            }
        }
    }

    fn label(&mut self, target: MapKey, arrival: Arrival, effects: &mut Effects) {
        let event = &arrival.event;
        self.metrics.labels.add(1);
        let available_at = self.available_slot.and_then(|slot| event.int(slot)).unwrap_or(event.time);
        let fraud = self.value_slot.and_then(|slot| event.int(slot)).is_some_and(|value| value != 0);
        let record =
            LabelRecord { id: event.id.map_key(self.owner.ids), op: event.op, label: Label { available_at, fraud } };
        let Some(retained) = self.events.get_mut(&target) else {
            self.expiring.put(target, event.time);
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
            effects.changes.push(change(retained, verb, Cause::Label));
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

    fn touch(&mut self, epoch: Epoch, expired_to: i64, key: MapKey, cause: Cause, effects: &mut Effects) {
        let read_from = expired_to.saturating_sub(self.horizons.read_ms);
        match self.events.get_mut(&key) {
            // Part of what its features look at may have expired.
            Some(retained) if retained.event.time < read_from => self.metrics.revisions_missed.add(1),
            Some(retained) if retained.live() && retained.epoch != epoch => {
                (retained.epoch, retained.asked) = (epoch, effects.changes.len());
                let read = asking(&self.schema, retained, Verb::Read, cause);
                effects.changes.push(read);
            }
            Some(_) => {}
            None => self.metrics.revisions_missed.add(1),
        }
    }

    /// Drops what the retention has passed; returns the labels that have waited in vain.
    fn expire(&mut self, watermark: i64) -> Vec<Reject> {
        let (bound, mut expired, mut rejects) = (self.expiring.bound(watermark), false, Vec::new());
        while let Some(keys) = self.expiring.take(watermark) {
            expired = true;
            for key in keys {
                // A corrected event may have moved to a later slice.
                if self.events.get(&key).is_some_and(|retained| retained.event.time < bound) {
                    self.events.remove(&key);
                }
                for WaitingLabel { record, arrival } in self.waiting.remove(&key).unwrap_or_default() {
                    if record.op == Op::Withdraw {
                        continue;
                    }
                    self.metrics.orphan_labels.add(1);
                    let message = "the labelled event never came within the retention".to_owned();
                    rejects.push(self.reject(arrival, RejectReason::OrphanLabel, message));
                }
            }
        }
        if expired {
            self.metrics.event_table_bytes.set_own(self.events.table_bytes() as u64);
        }
        self.metrics.retained_events.set_own(self.events.len() as u64);
        rejects
    }

    /// An arrival that is not taken in, as it was read. What was never bytes is written as the schema says.
    fn reject(&self, arrival: Arrival, reason: RejectReason, message: String) -> Reject {
        arrival.refuse(&self.schema, reason, message)
    }
}

/// Takes back the row that this epoch asked for; says whether it was the first of this event.
fn void(old: &mut Retained, epoch: Epoch, effects: &mut Effects) -> bool {
    if old.epoch != epoch || old.rows == 0 {
        return false;
    }
    old.rows -= 1;
    effects.changes[old.asked].ticket = NO_TICKET;
    old.rows == 0
}

/// A change that asks for the event's row, if the event is of a scored kind. Tickets are numbered at the end.
fn asking(schema: &Schema, retained: &mut Retained, verb: Verb, cause: Cause) -> Change {
    let mut change = change(retained, verb, cause);
    if schema.is_scored(retained.event.kind) {
        change.ticket = 0;
        retained.rows += 1;
    }
    change
}

fn change(retained: &Retained, verb: Verb, cause: Cause) -> Change {
    Change {
        event: retained.event.clone(),
        label: retained.label(),
        verb,
        ticket: NO_TICKET,
        row_revision: retained.rows,
        cause,
        arrived_ns: retained.arrived_ns,
    }
}
