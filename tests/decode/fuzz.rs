//! sonic-rs and serde_json give the same event, or the same class of reject, for any bytes.

use deltawatch::decode::{Decoder, JsonParser};
use deltawatch::event::{Limits, Payload};
use deltawatch::flow::RejectReason;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{PAYMENTS, csv_record, decoder, record, schema};

const NAMES: [&str; 17] = [
    "id",
    "time",
    "kind",
    "op",
    "tx",
    "card",
    "pan",
    "count",
    "ratio",
    "flag",
    "seen",
    "at",
    "target",
    "fraud",
    "unknown",
    "i\\u0064",
    "c\\u006funt",
];

const VALUES: [&str; 40] = [
    "1",
    "-0",
    "0.5",
    "1e3",
    "12.340000000000001",
    "1e400",
    "-1e-400",
    "18446744073709551616",
    "123456789012345678901234567890.5e-20",
    "null",
    "true",
    "false",
    "\"\"",
    "\"a\"",
    "\"12\"",
    "\"1e2\"",
    "\"payment\"",
    "\"refund\"",
    "\"label\"",
    "\"chat\"",
    "\"insert\"",
    "\"withdraw\"",
    "\"correct\"",
    "\"\\u00e9\\n\\\"\"",
    "\"\\ud83d\\ude00\"",
    "\"\\ud800\"",
    "\"\\udc00x\"",
    "\"é😀\"",
    "\"2018-04-01 00:00:31\"",
    "\"2018-04-01T00:00:31.5+05:30\"",
    "[]",
    "[1,[2,{}],\"]\"]",
    "{}",
    "{\"a\":{\"b\":[null]}}",
    "{\"amount\":12.345}",
    "{\"amount\":\"7\",\"card\":{\"number\":\"4111\"}}",
    "{\"card\":5,\"amount\":1}",
    "{\"amount\":1,\"amount\":2}",
    "\"a long text that goes over the thirty-two bytes of a vector register, \\\\ and on\"",
    "1522540831123",
];

fn object(random: &mut ChaCha8Rng) -> String {
    let mut text = String::from("{");
    let mut put = |name: &str, value: &str, random: &mut ChaCha8Rng| {
        let space = ["", "", "", " ", "\n\t"][random.random_range(0..5)];
        let comma = if text.len() > 1 { "," } else { "" };
        text.push_str(&format!("{comma}{space}\"{name}\"{space}:{space}{value}{space}"));
    };
    // Three in four have what a payment needs, or nearly all would be the same reject.
    if random.random_range(0..4) > 0 {
        put("id", "\"t-1\"", random);
        put("time", "1522540831123", random);
        put("tx", "{\"amount\":19.99}", random);
    }
    for _ in 0..random.random_range(0..8) {
        let name = NAMES[random.random_range(0..NAMES.len())];
        let value = VALUES[random.random_range(0..VALUES.len())];
        put(name, value, random);
    }
    text.push('}');
    text
}

fn mutate(bytes: &mut Vec<u8>, random: &mut ChaCha8Rng) {
    const BYTES: &[u8] = b"\"\\{}[]:,0123456789eE+-.untrfl \n\x00\x1f\x7f\xc3\xff";
    for _ in 0..random.random_range(1..4) {
        if bytes.is_empty() {
            return;
        }
        let at = random.random_range(0..bytes.len());
        let byte = BYTES[random.random_range(0..BYTES.len())];
        match random.random_range(0..4) {
            0 => bytes[at] = byte,
            1 => bytes.insert(at, byte),
            2 => drop(bytes.remove(at)),
            _ => bytes.truncate(at),
        }
    }
}

#[test]
fn the_parsers_agree_on_whole_and_broken_records() {
    let schema = schema(PAYMENTS);
    let (mut fast, mut slow) = (decoder(&schema, JsonParser::Sonic), decoder(&schema, JsonParser::SerdeJson));
    let mut reasons = std::collections::BTreeMap::new();
    let mut random = ChaCha8Rng::seed_from_u64(1);
    for round in 0..60_000 {
        let mut bytes = object(&mut random).into_bytes();
        if round % 2 == 1 {
            mutate(&mut bytes, &mut random);
        }
        let record = record(Payload::Json(bytes));
        let before = (fast.unknown_fields(), slow.unknown_fields());
        let (from_fast, from_slow) = (fast.decode(&record), slow.decode(&record));
        let unknown = (fast.unknown_fields() - before.0, slow.unknown_fields() - before.1);
        let (fast, slow) = (from_fast, from_slow);
        if fast.is_ok() {
            assert_eq!(unknown.0, unknown.1);
        }
        let reason = fast.as_ref().err().map(|reject| reject.reason);
        *reasons.entry(reason).or_insert(0) += 1;
        match (fast, slow) {
            (Ok(fast), Ok(slow)) => assert_eq!(fast, slow),
            (Err(mut fast), Err(slow)) => {
                if fast.reason == RejectReason::Malformed {
                    fast.message = slow.message.clone();
                }
                assert_eq!(fast, slow, "{}", fast.raw.bytes.escape_ascii());
            }
            (fast, slow) => {
                let Payload::Json(bytes) = record.payload else { unreachable!() };
                panic!("sonic-rs {fast:?}\nserde_json {slow:?}\n{}", bytes.escape_ascii());
            }
        }
    }
    assert!(fast.unknown_fields() > 1_000);
    for reason in [None, Some(RejectReason::Malformed), Some(RejectReason::BadValue), Some(RejectReason::MissingField)]
    {
        assert!(reasons.get(&reason).is_some_and(|count| *count > 2_000), "{reasons:?}");
    }
    assert!(reasons.get(&Some(RejectReason::UnknownKind)).is_some_and(|count| *count > 100), "{reasons:?}");
}

#[test]
fn no_bytes_panic() {
    let schema = schema(PAYMENTS);
    let mut decoder = Decoder::new(schema, Limits::default()).unwrap();
    let mut random = ChaCha8Rng::seed_from_u64(2);
    for _ in 0..20_000 {
        let mut bytes = vec![0u8; random.random_range(0..80)];
        random.fill(bytes.as_mut_slice());
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let _ = decoder.decode(&csv_record("id,time,tx.amount,seen", &text));
        bytes.insert(0, b'{');
        assert!(decoder.decode(&record(Payload::Json(bytes))).is_err());
    }
}

/// Rounding from the digits, against arithmetic on integers.
#[test]
fn decimals_are_rounded_half_away_from_zero() {
    let schema = schema(PAYMENTS);
    let mut decoder = decoder(&schema, JsonParser::Sonic);
    let amount = schema.slot("amount").unwrap();
    let mut random = ChaCha8Rng::seed_from_u64(3);
    for _ in 0..20_000 {
        let digits = random.random_range(0..7u32);
        let mantissa = random.random_range(-10i64.pow(12)..10i64.pow(12));
        let power = 10i64.pow(digits);
        let sign = if mantissa < 0 { "-" } else { "" };
        let (whole, part) = (mantissa.abs() / power, mantissa.abs() % power);
        let text = match digits {
            0 => format!("{sign}{whole}"),
            _ => format!("{sign}{whole}.{part:0width$}", width = digits as usize),
        };
        // mantissa / 10^digits in hundredths: add half, cut.
        let expected = (mantissa.abs() * 100 + power / 2) / power * mantissa.signum();
        let event = decoder
            .decode(&record(Payload::Json(format!(r#"{{"id":"a","time":1,"tx":{{"amount":{text}}}}}"#).into_bytes())))
            .unwrap();
        assert_eq!(event.int(amount), Some(expected), "{text}");
    }
}
