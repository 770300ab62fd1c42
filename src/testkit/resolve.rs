//! The events that hold in the end, from the records that said so: what the engine's upsert must amount to.

use std::collections::BTreeMap;

use crate::event::{Event, Id, MapKey, Op, Role, Schema};
use crate::flow::Labelled;

/// The retained events and what is known of their labels, in (event time, id) order. Of the records of one id a withdrawal
/// beats a correction beats an insert, and of equals the later counts. Of the labels of one event the one that became
/// available last counts (ties by the label's id).
pub fn retained<'a>(records: impl IntoIterator<Item = &'a Event>, schema: &Schema) -> Vec<Labelled> {
    let label_kind = schema.kind("label").filter(|_| schema.label_target_slot().is_some());
    let mut events: BTreeMap<MapKey, &Event> = BTreeMap::new();
    let mut labels: BTreeMap<MapKey, &Event> = BTreeMap::new();
    for record in records {
        let is_label = Some(record.kind) == label_kind && record.label_target(schema).is_some();
        let kept = if is_label { &mut labels } else { &mut events };
        let held = kept.entry(record.id.map_key(schema.id_type())).or_insert(record);
        if record.op >= held.op {
            *held = record;
        }
    }
    let mut known: BTreeMap<MapKey, (i64, Id, bool)> = BTreeMap::new();
    for label in labels.values().filter(|label| label.op != Op::Withdraw) {
        let Some(target) = label.label_target(schema) else { continue };
        let slot = |role| schema.slot_of_role(role).and_then(|slot| label.int(slot));
        let available_at = slot(Role::AvailableAt).unwrap_or(label.time);
        let says = (available_at, label.id, slot(Role::LabelValue).is_some_and(|value| value != 0));
        let held = known.entry(target.map_key(schema.id_type())).or_insert(says);
        *held = says.max(*held);
    }
    let live = events.into_iter().filter(|(_, event)| event.op != Op::Withdraw);
    let labelled = live.map(|(id, event)| {
        let label = known.get(&id).map(|&(available_at, _, fraud)| (fraud, available_at));
        (event.clone(), label)
    });
    let mut all: Vec<Labelled> = labelled.collect();
    all.sort_by_key(|(event, _)| (event.time, event.id));
    all
}
