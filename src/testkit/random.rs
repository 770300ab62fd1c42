//! Seeded random records of any schema: late, repeated, corrected and withdrawn ones, and labels, over few enough
//! values that keys meet.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::event::{Event, EventBuilder, FieldType, Id, IdType, Op, Role, Schema, Slot};

/// Different values of a field.
const VALUES: i64 = 12;
/// Event time between two records at most, milliseconds.
const STEP_MS_MAX: i64 = 4_000;
/// How late a record is at most, milliseconds.
const LATE_MS_MAX: i64 = 200_000;

/// So many records, in the order of their arrival.
pub fn records(schema: &Schema, seed: u64, count: usize) -> Vec<Event> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut builder = EventBuilder::new(schema);
    let mut records: Vec<Event> = Vec::with_capacity(count);
    let mut now_ms = 1_700_000_000_000;
    for number in 1..=count as u64 {
        now_ms += random.random_range(0..STEP_MS_MAX);
        let earlier = records.len().checked_sub(1 + random.random_range(0..6)).map(|at| records[at].clone());
        let record = match (random.random_range(0..100), earlier) {
            (0..5, _) => {
                let late_ms = random.random_range(1..LATE_MS_MAX);
                record(schema, &mut builder, &mut random, number, now_ms - late_ms, Op::Insert)
            }
            (5..8, Some(earlier)) => earlier,
            (8..12, Some(earlier)) if Some(earlier.kind) != schema.kind("label") => {
                let mut corrected =
                    record(schema, &mut builder, &mut random, number_of(&earlier, schema), earlier.time, Op::Correct);
                corrected.kind = earlier.kind;
                corrected
            }
            (12..15, Some(mut earlier)) if Some(earlier.kind) != schema.kind("label") => {
                earlier.op = Op::Withdraw;
                earlier
            }
            _ => record(schema, &mut builder, &mut random, number, now_ms, Op::Insert),
        };
        records.push(record);
    }
    records
}

/// The number that an id was made of.
fn number_of(event: &Event, schema: &Schema) -> u64 {
    event.id_text(schema).trim_start_matches("e-").parse().unwrap_or(0)
}

fn record(schema: &Schema, builder: &mut EventBuilder, random: &mut StdRng, number: u64, time: i64, op: Op) -> Event {
    let kind = random.random_range(0..schema.kinds().len()) as u16;
    let kind = if random.random_bool(0.8) { schema.default_kind() } else { kind };
    let text = |number: u64| format!("e-{number:06}");
    for (index, field) in schema.fields().iter().enumerate() {
        let slot = Slot(index as u16);
        if !schema.belongs(slot, kind) || !(schema.demands(slot, kind) || random.random_bool(0.9)) {
            continue;
        }
        match (field.role, field.kind) {
            (Role::Kind | Role::Op | Role::Rank, _) => {}
            (Role::Id, FieldType::Text) => builder.set_text(slot, &text(number)),
            (Role::Id, _) => builder.set_int(slot, number as i64),
            (Role::Time, _) => builder.set_int(slot, time),
            (Role::LabelTarget, kind) => {
                let target = number.saturating_sub(random.random_range(1..40)).max(1);
                match kind {
                    FieldType::Text => builder.set_text(slot, &text(target)),
                    _ => builder.set_int(slot, target as i64),
                }
            }
            (Role::AvailableAt, _) => builder.set_int(slot, time + random.random_range(0..LATE_MS_MAX)),
            (_, FieldType::Text) => builder.set_text(slot, &format!("v{}", random.random_range(0..VALUES))),
            (_, FieldType::Bool) => builder.set_int(slot, i64::from(random.random_bool(0.2))),
            (_, FieldType::Float) => builder.set_float(slot, random.random_range(0..VALUES) as f64 / 4.0),
            (Role::Amount, _) => builder.set_int(slot, random.random_range(1..100_000)),
            _ => builder.set_int(slot, random.random_range(0..VALUES)),
        }
    }
    let id = match schema.id_type() {
        IdType::Int => Id::from_int(number),
        IdType::Text => Id::from_text(&text(number)),
    };
    builder.finish(id, time, kind, op, schema)
}
