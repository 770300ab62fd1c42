//! Payments over some weeks, with labels of every kind: on time, before their payments, too late, changed, withdrawn, contradicted.

use deltawatch::event::{Event, EventBuilder, Id, Op, Schema};
use deltawatch::generator::{Generator, GeneratorConfig};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::DAY_MS;

/// How much slower than the generator's slowest stream.
const STRETCH: i64 = 6;
/// A label comes so long after its payment at most: more than the payment is retained.
const LABEL_MS_MAX: i64 = 6 * DAY_MS;

/// So many records of payments and others, late, repeated, corrected and withdrawn ones among them, and labels besides.
pub fn records(seed: u64, count: usize, schema: &Schema) -> Vec<Event> {
    let config = GeneratorConfig {
        seed,
        rate_per_s: 0.001,
        customers: 20,
        merchants: 8,
        fraud_share: 0.2,
        late_share: 0.05,
        late_ms_max: 280_000,
        duplicate_share: 0.03,
        correction_share: 0.1,
        withdrawal_share: 0.1,
        ..GeneratorConfig::default()
    };
    let generator = Generator::new(config, schema.clone().into()).expect("a valid configuration");
    let (label, payment) = (schema.kind("label"), schema.kind("payment"));
    let mut records: Vec<Event> =
        generator.map(|one| one.event).filter(|one| Some(one.kind) != label).take(count).collect();
    let start_ms = records[0].time;
    records.iter_mut().for_each(|record| record.time = start_ms + (record.time - start_ms) * STRETCH);
    let (mut arriving, mut now_ms) = (Vec::new(), i64::MIN);
    for record in records {
        now_ms = now_ms.max(record.time);
        arriving.push((now_ms, record));
    }
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut labels = Vec::new();
    for (number, (_, payment)) in arriving.iter().enumerate().filter(|(_, (_, one))| Some(one.kind) == payment) {
        if payment.op != Op::Insert || !random.random_bool(0.6) {
            continue;
        }
        let after_ms = random.random_range(-DAY_MS / 48..LABEL_MS_MAX);
        let says = |id: u32, fraud: bool, time: i64, op: Op| {
            let made = label_of(payment, &format!("l-{number}-{id}"), fraud, payment.time + time, op, schema);
            (payment.time + time, made)
        };
        let fraud = random.random_bool(0.4);
        labels.push(says(0, fraud, after_ms, Op::Insert));
        let later_ms = after_ms + random.random_range(1..DAY_MS);
        match random.random_range(0..5) {
            0 => labels.push(says(0, !fraud, later_ms, Op::Correct)),
            1 => labels.push(says(0, fraud, later_ms, Op::Withdraw)),
            2 => labels.push(says(1, !fraud, later_ms, Op::Insert)),
            _ => {}
        }
    }
    labels.retain(|(time, _)| *time <= now_ms);
    arriving.extend(labels);
    arriving.sort_by_key(|(arrives_ms, _)| *arrives_ms);
    arriving.into_iter().map(|(_, record)| record).collect()
}

fn label_of(payment: &Event, id: &str, fraud: bool, time: i64, op: Op, schema: &Schema) -> Event {
    let slot = |name: &str| schema.slot(name).expect("a field of labels");
    let mut builder = EventBuilder::new(schema);
    builder.set_text(schema.id_slot(), id);
    builder.set_int(slot("time"), time);
    builder.set_text(slot("target"), &payment.id_text(schema));
    builder.set_int(slot("fraud"), i64::from(fraud));
    builder.set_int(slot("available_at"), time);
    builder.finish(Id::from_text(id), time, schema.kind("label").expect("a kind"), op, schema)
}
