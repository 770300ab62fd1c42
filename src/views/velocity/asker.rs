//! Asks the stores of all key kinds: one narrow request per key that an event carries.

use std::sync::Arc;

use super::store::{AMOUNT_MISSING, VALUE_MISSING};
use super::{KeyPlan, PlannedFilter};
use crate::event::{Event, Key, Schema, Slot};
use crate::flow::{Ask, Asker, Change, NO_TICKET, Outgoing, Request, Verb};

/// What several key kinds look at, a field's fingerprint or a condition, is found out once per event.
pub struct VelocityAsker {
    plans: Vec<Asking>,
    schema: Arc<Schema>,
    /// Fields whose fingerprints are needed, and those of the event at hand.
    fingerprinted: Vec<Slot>,
    fingerprints: Vec<Option<u64>>,
    /// Fields that keys are made of, and those of the event at hand.
    keyed: Vec<Slot>,
    keys: Vec<Option<Key>>,
    /// The conditions of all key kinds, and which of them hold.
    conditions: Vec<PlannedFilter>,
    held: Vec<u64>,
    columns: Vec<u64>,
}

/// A key kind, by places in the lists that all share.
struct Asking {
    plan: Arc<KeyPlan>,
    key: (usize, Option<usize>),
    values: Vec<usize>,
    conditions: Vec<usize>,
}

impl VelocityAsker {
    /// For the stores of these key kinds.
    pub fn new(plans: &[Arc<KeyPlan>], schema: Arc<Schema>) -> Self {
        let (mut fingerprinted, mut keyed, mut conditions) = (Vec::new(), Vec::new(), Vec::new());
        let asking = |plan: &Arc<KeyPlan>| {
            let key = place(&mut keyed, &plan.fields[0]);
            let second = plan.fields.get(1).map(|field| place(&mut keyed, field));
            plan.conditions.iter().for_each(|condition| {
                condition.each_fingerprint(&mut |slot| _ = place(&mut fingerprinted, &slot));
            });
            Asking {
                plan: plan.clone(),
                key: (key, second),
                values: plan.values.iter().map(|slot| place(&mut fingerprinted, slot)).collect(),
                conditions: plan.conditions.iter().map(|condition| place(&mut conditions, condition)).collect(),
            }
        };
        let plans = plans.iter().map(asking).collect();
        let (fingerprints, keys) = (vec![None; fingerprinted.len()], vec![None; keyed.len()]);
        let held = vec![0; conditions.len()];
        let columns = Vec::new();
        VelocityAsker { plans, schema, fingerprinted, fingerprints, keyed, keys, conditions, held, columns }
    }

    /// Finds out what is shared of an event.
    fn look_at(&mut self, event: &Event, label: Option<bool>) {
        let VelocityAsker { schema, fingerprinted, fingerprints, conditions, held, .. } = self;
        for (slot, fingerprint) in fingerprinted.iter().zip(&mut *fingerprints) {
            *fingerprint = event.fingerprint(*slot, schema);
        }
        let of = |slot: Slot| fingerprinted.iter().position(|known| *known == slot).and_then(|at| fingerprints[at]);
        for (condition, holds) in conditions.iter().zip(held) {
            *holds = u64::from(condition.holds_by(event, label, &of));
        }
    }
}

impl Asker for VelocityAsker {
    fn plans(&self) -> usize {
        self.plans.len()
    }

    fn ask(&mut self, change: &Change, out: &mut Outgoing) {
        let event = &*change.event;
        let scored = self.schema.is_scored(event.kind);
        let ask = match change.verb {
            Verb::Insert => Ask::Insert,
            Verb::Remove => Ask::Remove,
            Verb::Label => Ask::Label,
            Verb::Relabel => Ask::Relabel,
            Verb::Read => Ask::Read,
        };
        let masked = matches!(ask, Ask::Insert | Ask::Label | Ask::Relabel);
        if masked {
            self.look_at(event, change.label.map(|label| label.fraud));
        }
        for (slot, key) in self.keyed.iter().zip(&mut self.keys) {
            *key = event.key(*slot, &self.schema);
        }
        for (index, Asking { plan, key, values, conditions }) in self.plans.iter().enumerate() {
            if matches!(ask, Ask::Label | Ask::Relabel) && !plan.uses_labels {
                continue;
            }
            let key = match *key {
                (first, None) => self.keys[first],
                (first, Some(second)) => self.keys[first].zip(self.keys[second]).map(|(a, b)| a.pair(b)),
            };
            let Some(key) = key else { continue };
            let held = |(bit, &condition): (usize, &usize)| self.held[condition] << bit;
            let mask = if masked { conditions.iter().enumerate().map(held).fold(0, |mask, bit| mask | bit) } else { 0 };
            if ask == Ask::Insert && mask == 0 && change.ticket == NO_TICKET && !scored && !plan.uses_labels {
                continue;
            }
            self.columns.clear();
            if ask == Ask::Insert {
                self.columns.extend(plan.amounts.iter().map(|&slot| event.int(slot).unwrap_or(AMOUNT_MISSING) as u64));
                self.columns.extend(values.iter().map(|&value| self.fingerprints[value].unwrap_or(VALUE_MISSING)));
            } else {
                self.columns.resize(plan.amounts.len() + plan.values.len(), 0);
            }
            let request = Request {
                ask,
                scored,
                cause: change.cause,
                ticket: change.ticket,
                key,
                time: event.time,
                id: event.id,
                mask,
                known_at: change.label.map_or(i64::MAX, |label| label.available_at),
                columns: &self.columns,
            };
            out.push(index, &request);
        }
    }
}

/// The place of an item in a list, which it is added to if it is not there.
fn place<T: Clone + PartialEq>(list: &mut Vec<T>, item: &T) -> usize {
    list.iter().position(|known| known == item).unwrap_or_else(|| {
        list.push(item.clone());
        list.len() - 1
    })
}
