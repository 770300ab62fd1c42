//! Which event times are taken for one.

use std::sync::Arc;

use deltawatch::decode::Decoder;
use deltawatch::event::{Limits, Payload, Record, Schema, Stand};
use deltawatch::flow::RejectReason;

fn schema(of_time: &str) -> Result<Schema, String> {
    let text = format!(
        "name = \"t\"\n[[field]]\nname = \"id\"\ntype = \"text\"\nrole = \"id\"\n\
         [[field]]\nname = \"time\"\ntype = \"time\"\nrole = \"time\"\n{of_time}\n\
         [[field]]\nname = \"opened\"\ntype = \"time\"\n"
    );
    Schema::parse("t", &text).map_err(|error| error.to_string())
}

/// The event time that is read, or what the reject says.
fn read(of_time: &str, time: &str) -> Result<i64, String> {
    let schema = Arc::new(schema(of_time).expect("a valid schema"));
    let mut decoder = Decoder::new(schema, Limits::default()).expect("a decoder");
    // Only the event time has bounds by itself.
    let line = format!(r#"{{"id":"a","time":{time},"opened":-9223372036854775808}}"#);
    let (stand, payload) = (Stand::default(), Payload::Json(line.into_bytes()));
    let record = Record { partition: 0, offset: 0, timestamp_ms: 0, arrived_ns: 0, stand, payload };
    decoder.decode(&record).map(|event| event.time).map_err(|reject| {
        assert_eq!(reject.reason, RejectReason::BadValue);
        reject.message
    })
}

#[test]
fn numbers_that_are_no_time_of_this_age_are_refused() {
    let year_2200_ms = 7_258_118_400_000;
    for time in [0, 1_700_000_000_000, year_2200_ms] {
        assert_eq!(read("", &time.to_string()), Ok(time));
    }
    for time in [i64::MIN, -1, year_2200_ms + 1, 1_664_267_577_140_960, i64::MAX] {
        let says = read("", &time.to_string()).expect_err("no time");
        for word in ["'time'", &time.to_string(), "1970-01-01", "2200-01-01", "format", "earliest"] {
            assert!(says.contains(word), "{says}");
        }
    }
    // Milliseconds taken for seconds.
    assert!(read("format = \"seconds\"", "1700000000000").is_err());
    assert_eq!(read("format = \"seconds\"", "1700000000"), Ok(1_700_000_000_000));
    // A text says its year.
    assert!(read("format = \"text\"", "\"1969-12-31T23:59:59.999Z\"").is_ok());
}

#[test]
fn a_schema_may_set_the_bounds() {
    let bounds = "format = \"text\"\nearliest = \"2020-01-01T00:00:00Z\"\nlatest = \"2030-01-01T00:00:00Z\"";
    assert!(read(bounds, "\"2020-01-01T00:00:00Z\"").is_ok());
    assert!(read(bounds, "\"2019-12-31T23:59:59.999Z\"").is_err_and(|says| says.contains("2020-01-01")));
    assert!(read(bounds, "\"2030-01-01T00:00:00.001Z\"").is_err());
    assert_eq!(read("earliest = \"1900-01-01T00:00:00Z\"", "-1"), Ok(-1));

    for (wrong, says) in [
        ("earliest = \"yesterday\"", "earliest = \"yesterday\" is not a time"),
        ("earliest = \"2300-01-01T00:00:00Z\"", "earliest is after latest"),
    ] {
        assert!(schema(wrong).is_err_and(|error| error.contains(says)), "{wrong}");
    }
    let of_text = "[[field]]\nname = \"note\"\ntype = \"text\"\nlatest = \"2030-01-01T00:00:00Z\"";
    assert!(schema(of_text).is_err_and(|error| error.contains("'note' has latest but is not of type time")));
}
