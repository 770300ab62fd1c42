//! Decode speed; run with `cargo test --release decode::speed -- --ignored --nocapture`.

use std::time::Instant;

use deltawatch::decode::JsonParser;
use deltawatch::event::{Payload, Schema};

use super::{decoder, record};

/// A record of `total` fields of which the schema reads `read`; of five fields two are texts, one is an integer, one a
/// decimal and one a float.
fn sample(total: usize, read: usize, padding: usize) -> (std::sync::Arc<Schema>, Vec<Vec<u8>>) {
    let mut text = String::from("name = \"speed\"\n");
    let mut field = |name: &str, rest: &str| text.push_str(&format!("[[field]]\nname = \"{name}\"\n{rest}\n"));
    field("transaction_id", "type = \"text\"\nrole = \"id\"");
    field("created_at", "type = \"time\"\nrole = \"time\"");
    for index in 2..read {
        let kind = ["text", "text", "int", "decimal\"\nscale = 2\ndefault = \"0", "float"][index % 5];
        field(&format!("parameter_{index}"), &format!("type = \"{kind}\""));
    }
    let records = (0..1000u64)
        .map(|number| {
            let mut record =
                format!("{{\"transaction_id\":\"t-{number:08}\",\"created_at\":{}", 1_700_000_000_000 + number);
            for index in 2..total {
                let salt = number.wrapping_mul(0x9e37_79b9).wrapping_add(index as u64 * 7919) % 100_000;
                let value = match index % 5 {
                    0 | 1 => format!("\"value-{salt}{}\"", "x".repeat(padding)),
                    2 => salt.to_string(),
                    3 => format!("{}.{:02}", salt / 10, salt % 100),
                    _ => format!("0.{salt:05}"),
                };
                record.push_str(&format!(",\"parameter_{index}\":{value}"));
            }
            (record + "}").into_bytes()
        })
        .collect();
    (super::schema(&text), records)
}

#[test]
#[ignore = "prints timings"]
fn nanoseconds_per_record() {
    for (total, read, padding) in [(100, 100, 0), (100, 25, 0), (25, 25, 8)] {
        let (schema, texts) = sample(total, read, padding);
        let bytes = texts.iter().map(Vec::len).sum::<usize>() / texts.len();
        let records: Vec<_> = texts.into_iter().map(|text| record(Payload::Json(text))).collect();
        for parser in [JsonParser::Sonic, JsonParser::SerdeJson] {
            let mut decoder = decoder(&schema, parser);
            let best_ns = (0..60)
                .map(|_| {
                    let start = Instant::now();
                    for record in &records {
                        std::hint::black_box(decoder.decode(record).unwrap());
                    }
                    start.elapsed().as_nanos() as u64 / records.len() as u64
                })
                .min()
                .unwrap();
            println!("{read:3} of {total:3} fields, {bytes} bytes, {parser:?}: {best_ns} ns per record");
        }
    }
}
