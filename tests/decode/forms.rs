//! The forms in which the world writes records: each was met in a public bug report or a real file.

use deltawatch::event::{Event, Op};
use deltawatch::flow::{Reject, RejectReason};

use super::{decode, decode_bytes, decoder, record, schema};
use deltawatch::decode::JsonParser;
use deltawatch::event::{CsvHeader, Payload, Schema};
use std::sync::Arc;

/// An id, a time of a format, a card, and one more field.
fn with(format: &str, field: &str) -> Arc<Schema> {
    schema(&format!(
        "name = 't'\n[[field]]\nname = 'id'\ntype = 'text'\nrole = 'id'\n[[field]]\nname = 'time'\ntype = 'time'\nrole = 'time'\nformat = '{format}'
[[field]]\nname = 'card'\ntype = 'text'\nrole = 'entity'\n[[field]]\nname = 'op'\ntype = 'text'\nrole = 'op'\n[[field]]\nname = 'x'\n{field}\n"
    ))
}

fn int(schema: &Arc<Schema>, event: &Event) -> Option<i64> {
    event.int(schema.slot("x").unwrap())
}

fn csv(schema: &Arc<Schema>, header: &str, line: &str) -> Result<Event, Reject> {
    let header = CsvHeader::parse(header.as_bytes()).unwrap();
    header.check(schema).unwrap();
    let payload = Payload::Csv { header: Arc::new(header), line: line.as_bytes().to_vec() };
    decoder(schema, JsonParser::Sonic).decode(&record(payload))
}

#[test]
fn a_time_says_its_unit() {
    for (format, written, time_ms) in [
        ("micros", "1664267578140960", 1_664_267_578_140),
        ("micros", "\"1664267578140960\"", 1_664_267_578_140),
        ("nanos", "1664267578140960123", 1_664_267_578_140),
        ("hours", "26", 26 * 3_600_000),
        ("days", "19000", 19_000 * 86_400_000),
        ("seconds", "1664267578.5", 1_664_267_578_500),
    ] {
        let schema = with(format, "type = 'int'");
        let event = decode(&schema, &format!("{{\"id\":\"a\",\"time\":{written}}}")).unwrap();
        assert_eq!(event.time, time_ms, "{format}");
    }
    // Another unit than the schema's is no time of a payment.
    for (format, written) in
        [("millis", "1664267578140960"), ("micros", "1664267578140960123"), ("hours", "1664267578")]
    {
        let reject =
            decode(&with(format, "type = 'int'"), &format!("{{\"id\":\"a\",\"time\":{written}}}")).unwrap_err();
        assert_eq!(reject.reason, RejectReason::BadValue);
        assert!(reject.message.contains("correct the field's format in the schema"), "{}", reject.message);
    }
    // What is cut off is cut off towards the past.
    let schema = schema(
        "name = 't'\n[[field]]\nname = 'id'\ntype = 'text'\nrole = 'id'\n[[field]]\nname = 'time'\ntype = 'time'\nrole = 'time'\nformat = 'micros'\nearliest = '1900-01-01T00:00:00Z'",
    );
    assert_eq!(decode(&schema, "{\"id\":\"a\",\"time\":-1}").unwrap().time, -1);
}

#[test]
fn booleans_are_written_as_floats_too() {
    let schema = with("millis", "type = 'bool'");
    for (written, value) in
        [("0.0", 0), ("1.0", 1), ("\"1.00\"", 1), ("\"0.0\"", 0), ("1", 1), ("0", 0), ("\"TRUE\"", 1)]
    {
        let event = decode(&schema, &format!("{{\"id\":\"a\",\"time\":1,\"x\":{written}}}")).unwrap();
        assert_eq!(int(&schema, &event), Some(value), "{written}");
    }
    for wrong in ["10", "0.5", "100", "\".0\"", "\"1.\"", "2.0"] {
        decode(&schema, &format!("{{\"id\":\"a\",\"time\":1,\"x\":{wrong}}}")).expect_err(wrong);
    }
}

#[test]
fn an_empty_text_is_no_name_and_no_number() {
    let schema = with("millis", "type = 'decimal'\nscale = 2");
    for empty in ["\"\"", "\"  \"", "null"] {
        let event = decode(&schema, &format!("{{\"id\":\"a\",\"time\":1,\"card\":{empty}}}")).unwrap();
        assert_eq!(event.text(schema.slot("card").unwrap()), None, "{empty}");
    }
    let event = decode(&schema, "{\"id\":\"a\",\"time\":1,\"card\":\" k \",\"x\":\"\"}").unwrap();
    assert_eq!((event.text(schema.slot("card").unwrap()), int(&schema, &event)), (Some(" k "), None));
    let of_column = csv(&schema, "id,time,card,x", "a,1, ,").unwrap();
    assert_eq!(of_column.text(schema.slot("card").unwrap()), None);
    // A double without a value, as many libraries write it.
    let schema = with("millis", "type = 'float'");
    for none in ["\"NaN\"", "\"nan\"", "\"Infinity\"", "\"-inf\""] {
        let event = decode(&schema, &format!("{{\"id\":\"a\",\"time\":1,\"x\":{none}}}")).unwrap();
        assert!(!event.has(schema.slot("x").unwrap()), "{none}");
    }
}

#[test]
fn amounts_have_signs_and_groups() {
    let schema = with("millis", "type = 'decimal'\nscale = 2\nrole = 'amount'");
    for (written, cents) in [
        ("$134.09", 13_409),
        ("$-8.00", -800),
        ("-$8.00", -800),
        ("$1,234.50", 123_450),
        ("1,234,567", 123_456_700),
        ("12,345,678.905", 1_234_567_891),
        ("€ 3", 300),
        ("3.5 €", 350),
        ("₹1,000.00", 100_000),
    ] {
        let event = decode(&schema, &format!("{{\"id\":\"a\",\"time\":1,\"x\":\"{written}\"}}")).unwrap();
        assert_eq!(int(&schema, &event), Some(cents), "{written}");
    }
    // What could mean two things means nothing.
    for wrong in
        ["1,234", "1.234,50", "12,34.50", "1,2345.00", "$", "--5", "-$-5", "1,,234.00", "5$5", "$1e3", "1 234.00"]
    {
        decode(&schema, &format!("{{\"id\":\"a\",\"time\":1,\"x\":\"{wrong}\"}}")).expect_err(wrong);
    }
}

#[test]
fn minor_units_have_the_digits_of_their_currency() {
    let schema = with(
        "millis",
        "type = 'decimal'\nscale = 3\nrole = 'amount'\nminor_units = 'currency'\n[[field]]\nname = 'currency'\ntype = 'text'",
    );
    for (code, minor, thousandths) in [
        ("jpy", "500", 500_000),
        ("USD", "1999", 19_990),
        ("kwd", "1234", 1_234),
        ("CLF", "12345", 1_235),
        ("usd", "-5", -50),
        ("UYW", "-5", -1),
    ] {
        // In whatever order they come.
        for text in [
            format!("{{\"id\":\"a\",\"time\":1,\"x\":{minor},\"currency\":\"{code}\"}}"),
            format!("{{\"currency\":\"{code}\",\"id\":\"a\",\"time\":1,\"x\":{minor}}}"),
        ] {
            assert_eq!(int(&schema, &decode(&schema, &text).unwrap()), Some(thousandths), "{text}");
        }
    }
    let reject = decode(&schema, "{\"id\":\"a\",\"time\":1,\"x\":5,\"currency\":\"dollars\"}").unwrap_err();
    assert_eq!(reject.message, "field 'currency': 'dollars' is no currency, so the minor units of 'x' are not known");
    decode(&schema, "{\"id\":\"a\",\"time\":1,\"x\":5}").expect_err("no currency");
    decode(&schema, "{\"id\":\"a\",\"time\":1}").unwrap();
    let wrong = Schema::parse(
        "t",
        "name='t'\n[[field]]\nname='id'\ntype='text'\nrole='id'\n[[field]]\nname='time'\ntype='time'\nrole='time'\n[[field]]\nname='x'\ntype='int'\nminor_units='y'",
    );
    assert!(wrong.unwrap_err().to_string().contains("minor_units is for a decimal"));
}

#[test]
fn changes_of_rows_are_operations() {
    let schema = with("millis", "type = 'int'");
    for (written, op) in [
        ("c", Op::Insert),
        ("r", Op::Insert),
        ("u", Op::Correct),
        ("d", Op::Withdraw),
        ("delete", Op::Withdraw),
        ("insert", Op::Insert),
    ] {
        let event = decode(&schema, &format!("{{\"id\":\"a\",\"time\":1,\"op\":\"{written}\"}}")).unwrap();
        assert_eq!(event.op, op, "{written}");
    }
    // The row before and the row after, one of which is there.
    let rows = schema_of_rows();
    for text in [
        "{\"before\":null,\"after\":{\"id\":\"a\",\"ts\":7},\"op\":\"c\"}",
        "{\"before\":{\"id\":\"a\",\"ts\":7},\"after\":null,\"op\":\"d\"}",
        "{\"op\":\"u\",\"after\":{\"id\":\"a\",\"ts\":7},\"before\":{\"id\":\"b\",\"ts\":6}}",
    ] {
        let event = decode(&rows, text).unwrap_or_else(|reject| panic!("{text}: {}", reject.message));
        assert_eq!((event.id_text(&rows), event.time), ("a".to_owned(), 7), "{text}");
    }
}

fn schema_of_rows() -> Arc<Schema> {
    schema(
        "name = 't'\n[[field]]\nname = 'id'\ntype = 'text'\nrole = 'id'\npath = 'after.id'\naliases = ['before.id']\n[[field]]\nname = 'time'\ntype = 'time'
role = 'time'\npath = 'after.ts'\naliases = ['before.ts']\n[[field]]\nname = 'op'\ntype = 'text'\nrole = 'op'",
    )
}

#[test]
fn paths_lead_into_arrays_and_through_flattened_names() {
    let schema = with("millis", "type = 'decimal'\nscale = 2\npath = 'units.1.amount.value'");
    let nested = "{\"id\":\"a\",\"time\":1,\"units\":[{\"amount\":{\"value\":\"1\"}},{\"b\":[1,2],\"amount\":{\"value\":\"12.34\"}},{\"amount\":{\"value\":\"3\"}}]}";
    assert_eq!(int(&schema, &decode(&schema, nested).unwrap()), Some(1_234));
    for other in ["[]", "[1]", "[1,2]", "{\"1\":5}", "null", "\"x\""] {
        let event = decode(&schema, &format!("{{\"id\":\"a\",\"time\":1,\"units\":{other}}}")).unwrap();
        assert_eq!(int(&schema, &event), None, "{other}");
    }
    let plain = with("millis", "type = 'int'\npath = 'list.2'");
    assert_eq!(int(&plain, &decode(&plain, "{\"id\":\"a\",\"time\":1,\"list\":[5,6,7,8]}").unwrap()), Some(7));
    // One key with dots in it, or several that are nested.
    for flat in [
        "\"units.1.amount.value\":9.5",
        "\"units.1\":{\"amount.value\":9.5}",
        "\"units\":{\"1.amount\":{\"value\":9.5}}",
    ] {
        let event = decode(&schema, &format!("{{\"id\":\"a\",\"time\":1,{flat}}}")).unwrap();
        assert_eq!(int(&schema, &event), Some(950), "{flat}");
    }
    for other in ["\"units.1.amount\":3", "\"units.1.amount.value.more\":3", "\".\":1", "\"units.\":1", "\"..\":2"] {
        assert_eq!(
            int(&schema, &decode(&schema, &format!("{{\"id\":\"a\",\"time\":1,{other}}}")).unwrap()),
            None,
            "{other}"
        );
    }
}

#[test]
fn the_frame_of_a_schema_registry_is_no_part_of_the_record() {
    let schema = with("millis", "type = 'int'");
    let framed = [&[0, 0, 0, 1, 42][..], b"{\"id\":\"a\",\"time\":1,\"x\":3}"].concat();
    assert_eq!(int(&schema, &decode_bytes(&schema, &framed).unwrap()), Some(3));
    for other in [
        &b"\0\0\0\0\x01[1]"[..],
        b"\0\0{\"id\":\"a\",\"time\":1}",
        b"\x01\0\0\0\x01{\"id\":\"a\",\"time\":1}",
        b"\0\0\0\0\x01",
    ] {
        assert_eq!(decode_bytes(&schema, other).unwrap_err().reason, RejectReason::Malformed, "{other:?}");
    }
}

#[test]
fn the_second_column_of_a_name_has_a_number() {
    let schema = with("millis", "type = 'text'\npath = 'card.1'");
    let event = csv(&schema, "id,time,card,other,card,card", "a,1,one,o,two,three").unwrap();
    let text = |name: &str| event.text(schema.slot(name).unwrap()).map(str::to_owned);
    assert_eq!((text("card"), text("x")), (Some("one".into()), Some("two".into())));
}

#[test]
fn a_record_can_be_named_by_its_place() {
    let schema = schema(
        "name = 't'\n[[field]]\nname = 'id'\ntype = 'text'\nrole = 'id'\npath = '@place'\n[[field]]\nname = 'time'\ntype = 'time'\nrole = 'time'\npath = '@timestamp'",
    );
    let event = decode(&schema, "{\"amount\":1}").unwrap();
    assert_eq!((event.id_text(&schema), event.time), ("3:17".to_owned(), 5));
    // A field that is called so comes first.
    let event = decode(&schema, "{\"@timestamp\":9,\"@place\":\"p\"}").unwrap();
    assert_eq!((event.id_text(&schema), event.time), ("p".to_owned(), 9));
    assert!(decode(&schema, "{\"@timestamp\":\"soon\"}").unwrap_err().message.contains("'soon' is not a time"));
    let columns = csv(&schema, "V1,Amount", "1,2").unwrap();
    assert_eq!(columns.id_text(&schema), "3:17");
}

#[test]
fn columns_are_separated_by_what_the_header_shows() {
    let schema = with("millis", "type = 'decimal'\nscale = 2\nrole = 'amount'");
    for (header, line, cents) in [
        ("id;time;card;x", "a;1;k;1.234,50", 123_450),
        ("id;time;card;x", "a;1;\"k;k\";0,75", 75),
        ("id\ttime\tx", "a\t1\t-12.5", -1_250),
        ("id\ttime\tx", "a\t1\t1,234.5", 123_450),
        ("id;time;x", "a;1;-12,5", -1_250),
        ("id|time|x", "a|1|2.5", 250),
        ("\"id\";\"time\";\"x\"", "a;1;\"3\"", 300),
        ("id,time,a;b,x", "a,1,2,4.5", 450),
    ] {
        let event = csv(&schema, header, line).unwrap_or_else(|reject| panic!("{line}: {}", reject.message));
        assert_eq!(int(&schema, &event), Some(cents), "{line}");
    }
    for wrong in ["a;1;1,2,3", "a;1;1.23,5", "a;1;1234.567,5", "a;1;x,5"] {
        csv(&schema, "id;time;x", wrong).expect_err(wrong);
    }
    // A file without a header.
    let named = CsvHeader::named(&["id".to_owned(), "time".to_owned(), "x".to_owned()], b"a;1;2,50");
    let payload = Payload::Csv { header: Arc::new(named), line: b"b;2;3,50".to_vec() };
    let event = decoder(&schema, JsonParser::Sonic).decode(&record(payload)).unwrap();
    assert_eq!((event.id_text(&schema), int(&schema, &event)), ("b".to_owned(), Some(350)));
}
