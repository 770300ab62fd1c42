//! The columns of a look-up by definition: for each transaction all reference records that it sees, one after the other.
//!
//! A look-up as of arrival sees the records of epochs before the one that brought the event as it is now, and of that
//! epoch those whose time is not later than the event's. A live join sees all records up to its epoch's end, and those of
//! later epochs as long as the event is younger than the revise horizon, measured against the watermark before the epoch.
//! That horizon is exact if every epoch is drained: else what is read again may see records of the epochs meanwhile.
//!
//! Cost: every row looks at every record.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use super::network::Networks;
use super::spec::{Enrich, Picked};
use crate::event::{Event, Id, IdType, Key, Op, Schema};
use crate::flow::reference::{Body, MISSING, answer_key};
use crate::flow::{EpochInput, Labelled, ReferenceRecord};
use crate::source::tables::{ReferenceKind, fingerprint};
use crate::views::Family;

/// The columns of every scored event that has what is asked by.
pub(super) fn expected(
    spec: &Enrich,
    schema: &Schema,
    events: &[Labelled],
    epochs: &[EpochInput],
) -> BTreeMap<Id, Vec<f64>> {
    let records = records(spec, epochs);
    let brought = brought(schema, epochs);
    let scored = events.iter().map(|(event, _)| event).filter(|event| schema.is_scored(event.kind));
    let row = |event: &Event| {
        let arrived = *brought.get(&event.id)?;
        let sees = |record: &Placed<'_>| {
            if spec.live {
                record.epoch <= arrived || event.time >= record.watermark_ms.saturating_sub(spec.revise_ms)
            } else {
                record.epoch < arrived || record.epoch == arrived && record.record.time <= event.time
            }
        };
        let seen = records.iter().filter(|record| sees(record)).map(|record| &record.record.body);
        Some((event.id, columns(spec, cells(spec, schema, event, seen)?.as_deref())))
    };
    scored.filter_map(row).collect()
}

/// A record and what it was bound to.
struct Placed<'a> {
    epoch: usize,
    /// The watermark before the epoch.
    watermark_ms: i64,
    record: &'a ReferenceRecord,
}

/// The records for a look-up, in the order in which they hold.
fn records<'a>(spec: &Enrich, epochs: &'a [EpochInput]) -> Vec<Placed<'a>> {
    let mut watermark_ms = i64::MIN;
    let mut placed = Vec::new();
    for (epoch, planned) in epochs.iter().enumerate() {
        let mine = planned.references.iter().filter(|record| record.tag == spec.tag());
        placed.extend(mine.map(|record| Placed { epoch, watermark_ms, record }));
        watermark_ms = planned.watermark_ms;
    }
    placed.sort_by_key(|one| (one.epoch, one.record.time, one.record.lane, one.record.offset));
    placed
}

/// The epoch that brought each event as it is in the end: of the records of one id, the one that was not a repetition.
fn brought(schema: &Schema, epochs: &[EpochInput]) -> HashMap<Id, usize> {
    let mut held: HashMap<Id, (Op, &Event, usize)> = HashMap::new();
    for (epoch, planned) in epochs.iter().enumerate() {
        for event in planned.arrivals.iter().map(|arrival| &arrival.event) {
            let id = if schema.id_type() == IdType::Int { Id::from_int(event.id.lo) } else { event.id };
            match held.get_mut(&id) {
                Some((op, _, _)) if event.op < *op => {}
                Some((op, before, _)) if before.same_content(event) => *op = event.op,
                _ => drop(held.insert(id, (event.op, event, epoch))),
            }
        }
    }
    held.into_values().map(|(_, event, epoch)| (event.id, epoch)).collect()
}

/// What the records say of an event in the end: `None` if it lacks what it is asked by, `Some(None)` if there is no row.
fn cells<'a>(
    spec: &Enrich,
    schema: &Schema,
    event: &Event,
    seen: impl Iterator<Item = &'a Body>,
) -> Option<Option<Vec<u64>>> {
    let slots: Vec<_> = spec.fields.iter().filter_map(|name| schema.slot(name)).collect();
    let key = match (spec.reference.kind(), &slots[..], spec.prefix) {
        (ReferenceKind::Networks, ..) => {
            let address: IpAddr = event.text(*slots.first()?)?.trim().parse().ok()?;
            let whole = seen.filter_map(|body| match body {
                Body::Networks(content) => Networks::new(content.clone()).ok(),
                _ => None,
            });
            let fields = spec.reference.kept_fields();
            let paths: Vec<_> =
                fields.map(|field| (field.path.split('.').map(str::to_owned).collect(), field.kind)).collect();
            return Some(whole.last().and_then(|file| file.cells(address.to_canonical(), &paths)));
        }
        (ReferenceKind::Service(_), ..) => answer_key(event.id, schema.id_type()),
        (ReferenceKind::Table, [slot], Some(characters)) => {
            Key::from_text(&event.text(*slot)?.chars().take(characters).collect::<String>())
        }
        (ReferenceKind::Table, [slot], None) => event.key(*slot, schema)?,
        (ReferenceKind::Table, [first, second], _) => event.key(*first, schema)?.pair(event.key(*second, schema)?),
        (ReferenceKind::Table, ..) => return None,
    };
    Some(seen.fold(None, |row, body| match body {
        Body::Row(of, cells) if *of == key => Some(cells.to_vec()),
        Body::Gone(of) if *of == key => None,
        _ => row,
    }))
}

fn columns(spec: &Enrich, row: Option<&[u64]>) -> Vec<f64> {
    let value = |column: &super::spec::EnrichColumn| {
        let cell = spec.reference.cell_of(column.field.as_deref()?);
        let cell = row?.get(cell?).copied().filter(|&cell| cell != MISSING)?;
        Some(match &column.pick {
            Picked::Number => f64::from_bits(cell),
            Picked::Code => (cell >> 12) as f64,
            Picked::Category(values) => {
                values.iter().position(|value| fingerprint(value) == cell).map_or(0.0, |place| place as f64 + 1.0)
            }
            Picked::OneHot(value) => f64::from(fingerprint(value) == cell),
            Picked::Known => 1.0,
        })
    };
    let with_default = spec.columns.iter().zip(Family::columns(spec));
    with_default
        .map(|(column, (_, default))| match column.pick {
            Picked::Known => f64::from(row.is_some()),
            _ => value(column).unwrap_or(default),
        })
        .collect()
}
