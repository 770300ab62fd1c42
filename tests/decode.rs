//! Records to events and rejects: types, roles, evolution, and the two JSON parsers held equal.

use std::sync::Arc;

use deltawatch::decode::{Decoder, JsonParser};
use deltawatch::event::{CsvHeader, Event, Id, Lane, Limits, Op, Payload, Record, Schema, Stand};
use deltawatch::flow::{Reject, RejectReason};

mod csv;
mod forms;
mod fuzz;
mod speed;
mod times;

pub const PAYMENTS: &str = r#"
name = "payments"
kinds = ["payment", "refund", "label"]
default_kind = "payment"
[[field]]
name = "id"
type = "text"
role = "id"
[[field]]
name = "time"
type = "time"
role = "time"
[[field]]
name = "kind"
type = "text"
role = "kind"
[[field]]
name = "op"
type = "text"
role = "op"
[[field]]
name = "amount"
path = "tx.amount"
type = "decimal"
scale = 2
role = "amount"
required = true
[[field]]
name = "card"
path = "tx.card.number"
aliases = ["card", "pan"]
type = "text"
role = "entity"
[[field]]
name = "count"
type = "int"
default = "7"
[[field]]
name = "ratio"
type = "float"
[[field]]
name = "flag"
type = "bool"
role = "flag"
kinds = ["payment"]
required = true
default = "no"
[[field]]
name = "seen"
type = "time"
format = "text"
[[field]]
name = "at"
type = "time"
format = "seconds"
[[field]]
name = "target"
type = "text"
role = "label_target"
required = true
[[field]]
name = "fraud"
type = "bool"
role = "label_value"
required = true
"#;

pub fn schema(text: &str) -> Arc<Schema> {
    Arc::new(Schema::parse("test", text).unwrap())
}

pub fn decoder(schema: &Arc<Schema>, parser: JsonParser) -> Decoder {
    Decoder::with_parser(schema.clone(), Limits::default(), parser).unwrap()
}

pub fn record(payload: Payload) -> Record {
    Record { partition: 3, offset: 17, timestamp_ms: 5, arrived_ns: 0, stand: Stand::default(), payload }
}

/// Decodes with both parsers, which must agree.
pub fn decode_bytes(schema: &Arc<Schema>, bytes: &[u8]) -> Result<Event, Reject> {
    let record = record(Payload::Json(bytes.to_vec()));
    let fast = decoder(schema, JsonParser::Sonic).decode(&record);
    let slow = decoder(schema, JsonParser::SerdeJson).decode(&record);
    match (&fast, &slow) {
        (Ok(fast), Ok(slow)) => assert_eq!(fast, slow),
        (Err(fast), Err(slow)) => {
            assert_eq!(fast.reason, slow.reason, "{} | {} | {}", fast.message, slow.message, bytes.escape_ascii());
            // What the parsers say of broken JSON is in their own words.
            if fast.reason != RejectReason::Malformed {
                assert_eq!(fast.message, slow.message);
            }
        }
        _ => panic!("sonic-rs {fast:?}\nserde_json {slow:?}\n{}", bytes.escape_ascii()),
    }
    fast
}

fn decode(schema: &Arc<Schema>, text: &str) -> Result<Event, Reject> {
    decode_bytes(schema, text.as_bytes())
}

fn rejected(schema: &Arc<Schema>, text: &str) -> (RejectReason, String) {
    let reject = decode(schema, text).expect_err(text);
    assert_eq!((reject.lane, reject.offset, reject.timestamp_ms), (Lane::of_events(3), 17, 5));
    assert_eq!(*reject.raw.bytes, *text.as_bytes());
    assert!(!reject.message.contains('\n'));
    (reject.reason, reject.message)
}

/// A payment with one more field.
fn with(field: &str) -> String {
    format!(r#"{{"id":"a","time":1,"tx":{{"amount":1}},{field}}}"#)
}

#[test]
fn a_record_becomes_an_event() {
    let schema = schema(PAYMENTS);
    let text = r#" {"id":"t-1","time":1711965603123,"kind":"refund","op":"correct","more":[1,{"x":2}],
        "tx":{"amount":19.99,"card":{"number":"4111","bin":411}},"count":3,"ratio":0.25,"seen":"2018-04-01 00:00:31"} "#;
    let event = decode(&schema, text).unwrap();
    let slot = |name: &str| schema.slot(name).unwrap();
    assert_eq!((event.id, event.time), (Id::from_text("t-1"), 1_711_965_603_123));
    assert_eq!((event.kind, event.op), (schema.kind("refund").unwrap(), Op::Correct));
    assert_eq!(event.int(slot("amount")), Some(1999));
    assert_eq!(event.text(slot("card")), Some("4111"));
    assert_eq!((event.int(slot("count")), event.float(slot("ratio"))), (Some(3), Some(0.25)));
    assert_eq!(event.int(slot("seen")), Some(1_522_540_831_000));
    assert!(!event.has(slot("flag")), "a default of payments only");
    assert!(!event.has(slot("kind")) && !event.has(slot("op")));
    assert_eq!(event.id_text(&schema), "t-1");
}

#[test]
fn values_are_read_by_type() {
    let schema = schema(PAYMENTS);
    // Field, value as in JSON, cell.
    let good: &[(&str, &str, i64)] = &[
        ("count", "12", 12),
        ("count", "-12", -12),
        ("count", "\"12\"", 12),
        ("count", "\" +12 \"", 12),
        ("count", "1e3", 1000),
        ("count", "12.0", 12),
        ("count", "1200e-2", 12),
        ("count", "0e999999999999999999999", 0),
        ("count", "9223372036854775807", i64::MAX),
        ("count", "-9223372036854775808", i64::MIN),
        // Through a double this would end in 2.
        ("count", "9007199254740993.0", 9_007_199_254_740_993),
        ("tx.amount", "12.340000000000001", 1234),
        ("tx.amount", "\"12.34\"", 1234),
        ("tx.amount", "12.345", 1235),
        ("tx.amount", "-12.345", -1235),
        ("tx.amount", "1.005", 101),
        ("tx.amount", "0.12499999999999999999999", 12),
        ("tx.amount", "0.00499999999999999999999999999", 0),
        ("tx.amount", "0.5e-2", 1),
        ("tx.amount", "0.04e-1", 0),
        ("tx.amount", "4e-3", 0),
        ("tx.amount", "9e-4", 0),
        ("tx.amount", "1.5E+2", 15_000),
        ("tx.amount", "92233720368547758.07", i64::MAX),
        ("flag", "true", 1),
        ("flag", "\"No\"", 0),
        ("flag", "1", 1),
        ("seen", "\"2018-04-01T02:00:31+02:00\"", 1_522_540_831_000),
        ("seen", "\"2018-04-01T00:00:31.1239Z\"", 1_522_540_831_123),
        ("seen", "\"1969-12-31 23:59:59.9999\"", -1),
        ("seen", "\"2000-02-29 12:00:00\"", 951_825_600_000),
        ("seen", "\"0001-01-01T00:00:00Z\"", -62_135_596_800_000),
        ("seen", "\"2016-12-31T23:59:60Z\"", 1_483_228_799_000),
        ("seen", "\"2018-04-01T02:00+02\"", 1_522_540_800_000),
        ("at", "1522540831", 1_522_540_831_000),
        ("at", "1522540831.1235", 1_522_540_831_124),
    ];
    for (path, value, cell) in good {
        let (text, name) = match path.strip_prefix("tx.") {
            Some(name) => (format!(r#"{{"id":"a","time":1,"tx":{{"{name}":{value}}}}}"#), name),
            None => (with(&format!("\"{path}\":{value}")), *path),
        };
        let event = decode(&schema, &text).unwrap_or_else(|reject| panic!("{text}: {}", reject.message));
        assert_eq!(event.int(schema.slot(name).unwrap()), Some(*cell), "{text}");
    }
    let bad: &[(&str, &str, &str)] = &[
        ("count", "12.5", "field 'count': 12.5 is not an integer; it has digits after the point"),
        ("count", "9223372036854775808", "field 'count': 9223372036854775808 is out of range for an integer"),
        ("count", "-9223372036854775809", "field 'count': -9223372036854775809 is out of range for an integer"),
        ("count", "1e300", "field 'count': 1e300 is out of range for an integer"),
        ("count", "1e999999999999999999999", "field 'count': 1e999999999999999999999 is out of range for an integer"),
        ("count", "\"1_000\"", "field 'count': '1_000' is not an integer"),
        ("count", "true", "field 'count': true is not an integer"),
        ("count", "[1]", "field 'count': [1] is not an integer"),
        ("ratio", "\"none\"", "field 'ratio': 'none' is not a float"),
        ("ratio", "1e999", "field 'ratio': 1e999 is out of range for a float"),
        ("flag", "2", "field 'flag': 2 is not a boolean (true, false, yes, no, 1, 0)"),
        ("seen", "1522540831", "field 'seen': 1522540831 is not a time (RFC 3339, or YYYY-MM-DD HH:MM:SS in UTC)"),
        (
            "seen",
            "\"2018-02-29 00:00:00\"",
            "field 'seen': '2018-02-29 00:00:00' is not a time (RFC 3339, or YYYY-MM-DD HH:MM:SS in UTC)",
        ),
        ("card", "{\"a\":1}", "field 'card': {\"a\":1} is not a text"),
        ("card", "\"\\ud800\"", "field 'card': \"\\ud800\" is not a text"),
        ("op", "\"up\\nsert\"", "field 'op': 'up\\nsert' is not insert, correct or withdraw"),
    ];
    for (name, value, message) in bad {
        let text = with(&format!("\"{name}\":{value}"));
        assert_eq!(rejected(&schema, &text), (RejectReason::BadValue, (*message).to_owned()));
    }
    let long = rejected(&schema, &with(&format!("\"count\":\"{}\"", "x".repeat(500)))).1;
    assert!(long.len() < 120 && long.contains("xxx...'"), "{long}");
}

#[test]
fn rejects_say_why() {
    let schema = schema(PAYMENTS);
    use RejectReason::*;
    let table: &[(&str, RejectReason, &str)] = &[
        ("", Empty, "the record is empty"),
        (" \r\n", Empty, "the record is empty"),
        ("[1]", Malformed, "not a JSON object"),
        ("{\"id\":\"a\"", Malformed, "not JSON: "),
        ("{\"id\":\"a\"} x", Malformed, "not JSON: "),
        ("{\"x\":\"\\q\"}", Malformed, "not JSON: invalid escape at byte 6"),
        ("{\"x\":\"\\u12\"}", Malformed, "not JSON: invalid escape at byte 6"),
        ("{\"time\":1,\"tx\":{\"amount\":1}}", MissingField, "field 'id' is missing"),
        ("{\"id\":\"a\",\"tx\":{\"amount\":1}}", MissingField, "field 'time' is missing"),
        ("{\"id\":\"a\",\"time\":1}", MissingField, "field 'amount' (path 'tx.amount') is missing"),
        ("{\"id\":\"a\",\"time\":1,\"tx\":7}", MissingField, "field 'amount' (path 'tx.amount') is missing"),
        (
            "{\"id\":\"a\",\"time\":1,\"tx\":{\"amount\":null}}",
            MissingField,
            "field 'amount' (path 'tx.amount') is missing",
        ),
        ("{\"id\":\"\",\"time\":1}", BadValue, "field 'id': '' is not a name; it is empty"),
        (
            "{\"id\":\"a\",\"time\":1,\"kind\":\"chat\"}",
            UnknownKind,
            "kind 'chat' is not in the schema; it has payment, refund, label",
        ),
    ];
    for (text, reason, message) in table {
        let (found, said) = rejected(&schema, text);
        assert_eq!(found, *reason, "{text}: {said}");
        assert!(said.starts_with(message), "{text}: {said}");
    }
    assert_eq!(decode_bytes(&schema, b"{\"id\":\"\xff\"}").unwrap_err().message, "not UTF-8 at byte 7");
    let deep = format!("{{\"x\":{}", "[".repeat(900_000));
    assert_eq!(rejected(&schema, &deep).1, "nested deeper than 64 levels");
    // Brackets inside text do not nest.
    assert!(decode(&schema, &with(&format!("\"x\":\"{}\"", "[{\\\"".repeat(1000)))).is_ok());
    let mut decoder = Decoder::new(schema.clone(), Limits { record_bytes_max: 100 }).unwrap();
    let long = decoder.decode(&record(Payload::Json(with(&"\"x\":1,".repeat(20)).into_bytes()))).unwrap_err();
    assert_eq!((long.reason, long.message.as_str()), (Oversized, "longer than the limit of 100 bytes"));
    let gone = decoder.decode(&record(Payload::Tombstone { key: Vec::new() })).unwrap_err();
    assert_eq!(gone.reason, Empty);
    assert!(gone.message.contains("tombstone"));
    assert_eq!(decoder.counters().rejects, 2);
}

#[test]
fn the_last_value_of_a_field_counts_and_its_own_path_before_aliases() {
    let schema = schema(PAYMENTS);
    let count = schema.slot("count").unwrap();
    assert_eq!(decode(&schema, &with("\"count\":1,\"count\":2")).unwrap().int(count), Some(2));
    assert_eq!(decode(&schema, &with("\"count\":\"bad\",\"count\":2")).unwrap().int(count), Some(2));
    assert_eq!(rejected(&schema, &with("\"count\":2,\"count\":\"bad\"")).0, RejectReason::BadValue);
    assert_eq!(decode(&schema, &with("\"count\":1,\"count\":null")).unwrap().int(count), Some(7), "the default");
    let card = |fields: &str| {
        let event = decode(&schema, &format!(r#"{{"id":"a","time":1,{fields}}}"#)).unwrap();
        event.text(schema.slot("card").unwrap()).map(str::to_owned)
    };
    let own = r#""tx":{"amount":1,"card":{"number":"own"}}"#;
    assert_eq!(card(&format!(r#"{own},"card":"old","pan":"older""#)).as_deref(), Some("own"));
    assert_eq!(card(&format!(r#""pan":"older","card":"old",{own}"#)).as_deref(), Some("own"));
    let none = r#""tx":{"amount":1,"card":{"number":null}}"#;
    assert_eq!(card(&format!(r#""pan":"older",{none},"card":"old""#)).as_deref(), Some("old"));
    assert_eq!(card(&format!(r#""pan":"older",{none}"#)).as_deref(), Some("older"));
}

#[test]
fn repeats_are_the_same_content_whatever_their_form() {
    let schema = schema(PAYMENTS);
    let plain = decode(&schema, r#"{"id":"é","time":1,"tx":{"amount":1,"card":{"number":"x"}}}"#).unwrap();
    let other = r#"{"op":"correct","kind":"payment","card":"x","tx":{"amount":"1.00"},"time":1,"id":"\u00e9"}"#;
    let other = decode(&schema, other).unwrap();
    assert!(plain.same_content(&other));
    assert_eq!(plain.id, other.id);
}

#[test]
fn withdrawals_need_an_id_and_labels_their_own_fields() {
    let schema = schema(PAYMENTS);
    let event = decode(&schema, r#"{"id":"a","op":"withdraw"}"#).unwrap();
    assert_eq!((event.op, event.time, event.id), (Op::Withdraw, 0, Id::from_text("a")));
    assert!(!event.has(schema.slot("count").unwrap()));
    assert_eq!(decode(&schema, r#"{"id":"a","op":"withdraw","time":9}"#).unwrap().time, 9);
    assert_eq!(rejected(&schema, r#"{"op":"withdraw","time":9}"#).1, "field 'id' is missing");

    let label = decode(&schema, r#"{"id":"l","kind":"label","time":5,"target":"a","fraud":true}"#).unwrap();
    assert_eq!(label.label_target(&schema), Some(event.id));
    assert_eq!(rejected(&schema, r#"{"id":"l","kind":"label","time":5,"fraud":true}"#).1, "field 'target' is missing");
    let payment = decode(&schema, &with("\"count\":1")).unwrap();
    assert_eq!(payment.label_target(&schema), None);
}

#[test]
fn ids_follow_the_type_of_the_schema() {
    let ints = "name = \"t\"\n[[field]]\nname = \"n\"\ntype = \"int\"\nrole = \"id\"\n[[field]]\nname = \"t\"\ntype = \"time\"\nrole = \"time\"\n";
    let ranked = schema(&format!("{ints}[[field]]\nname = \"r\"\ntype = \"int\"\nrole = \"rank\"\n"));
    let id = |text: &str| decode(&ranked, text).unwrap().id;
    assert_eq!(id(r#"{"n":18446744073709551615,"t":1}"#), Id::from_int(u64::MAX));
    assert_eq!(id(r#"{"n":"5","t":1,"r":2}"#), Id::from_ranked(2, 5));
    assert!(rejected(&ranked, r#"{"n":-5,"t":1}"#).1.contains("from 0 to 18446744073709551615"));
    assert_eq!(decode(&ranked, r#"{"n":18446744073709551615,"t":1}"#).unwrap().id_text(&ranked), u64::MAX.to_string());

    let texts = schema(&ints.replacen("\"int\"", "\"text\"", 1));
    let event = decode(&texts, r#"{"n":12345678901234567890123,"t":1}"#).unwrap();
    assert_eq!(event.id, Id::from_text("12345678901234567890123"));
    assert_eq!(event.id_text(&texts), "12345678901234567890123");

    let label = schema(&format!("{ints}[[field]]\nname = \"l\"\ntype = \"text\"\nrole = \"label_target\"\n"));
    assert_eq!(decode(&label, r#"{"n":1,"t":1,"l":7}"#).unwrap().label_target(&label), Some(Id::from_int(7)));
}

#[test]
fn a_newer_schema_reads_old_records() {
    let old = r#"{"id":7,"time":"2018-04-01 00:00:31","amount":12,"device":"d-1","level":3,"gone":{"x":[1]}}"#;
    let newer = schema(
        r#"
name = "newer"
field = [
  { name = "id", type = "text", role = "id" },                                      # widened from int
  { name = "time", type = "time", format = "text", role = "time" },
  { name = "amount_minor", path = "amount", type = "decimal", scale = 2 },          # renamed and widened
  { name = "amount", type = "float" },                                              # one path, two fields
  { name = "device", path = "device.id", aliases = ["device"], type = "text" },     # moved into an object
  { name = "level", type = "text" },                                                # widened
  { name = "channel", type = "text", default = "web", required = true },            # added
  { name = "note", type = "text" },                                                 # added
]
"#,
    );
    let event = decode(&newer, old).unwrap();
    let slot = |name: &str| newer.slot(name).unwrap();
    assert_eq!(event.id, Id::from_text("7"));
    assert_eq!((event.int(slot("amount_minor")), event.float(slot("amount"))), (Some(1200), Some(12.0)));
    assert_eq!((event.text(slot("device")), event.text(slot("level"))), (Some("d-1"), Some("3")));
    assert_eq!((event.text(slot("channel")), event.text(slot("note"))), (Some("web"), None));
    let new = r#"{"id":"7","time":"2018-04-01T00:00:31Z","amount":12.00,"device":{"id":"d-1","os":"x"},"level":"3"}"#;
    assert_eq!(decode(&newer, new).unwrap(), event);
    let mut decoder = decoder(&newer, JsonParser::Sonic);
    for text in [old, new, old] {
        decoder.decode(&record(Payload::Json(text.into()))).unwrap();
    }
    assert_eq!(decoder.unknown_fields(), 3, "gone, device.os, gone");
}

#[test]
fn schemas_that_cannot_work_are_refused() {
    let refused = |field: &str| {
        let text = PAYMENTS.to_owned() + "[[field]]\nname = \"more\"\n" + field;
        match Schema::parse("s.toml", &text) {
            Err(error) => error.to_string(),
            Ok(schema) => Decoder::new(Arc::new(schema), Limits::default()).unwrap_err().to_string(),
        }
    };
    assert_eq!(
        refused("type = \"int\"\ndefault = \"x\""),
        "schema payments: the default of field 'more': 'x' is not an integer; correct it"
    );
    assert_eq!(
        refused("type = \"int\"\nkinds = [\"chat\"]"),
        "schema s.toml: field 'more' belongs to kind 'chat', which is not in kinds; add it there"
    );
}

#[test]
fn events_that_need_no_decoding_pass() {
    let schema = schema(PAYMENTS);
    let event = decode(&schema, &with("\"count\":1")).unwrap();
    let mut decoder = decoder(&schema, JsonParser::Sonic);
    assert_eq!(decoder.decode(&record(Payload::Event(Box::new(event.clone())))), Ok(event));
    assert_eq!(decoder.counters().events, 1);
}

pub fn csv_record(header: &str, line: &str) -> Record {
    let header = Arc::new(CsvHeader::parse(header.as_bytes()).unwrap());
    record(Payload::Csv { header, line: line.as_bytes().to_vec() })
}
