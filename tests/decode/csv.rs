//! CSV: columns, quoting as in the csv crate, and the same meaning as JSON.

use deltawatch::decode::Decoder;
use deltawatch::event::{CsvHeader, Limits, Payload};
use deltawatch::flow::RejectReason;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{PAYMENTS, csv_record, decode_bytes, record, schema};

#[test]
fn a_line_means_what_the_object_means() {
    let schema = schema(PAYMENTS);
    let mut decoder = Decoder::new(schema.clone(), Limits::default()).unwrap();
    let line = csv_record(
        "other, id,time,tx.amount,card,count,flag,seen\r",
        "x,t-1,5,12.340000000000001,\"a,\"\"b\",,1,2018-04-01 00:00:31",
    );
    let event = decoder.decode(&line).unwrap();
    let object =
        br#"{"id":"t-1","time":5,"tx":{"amount":12.34},"card":"a,\"b","flag":true,"seen":"2018-04-01T00:00:31Z"}"#;
    assert_eq!(event, decode_bytes(&schema, object).unwrap());
    assert_eq!(decoder.unknown_fields(), 1);
}

#[test]
fn broken_lines_are_rejects() {
    let schema = schema(PAYMENTS);
    let mut decoder = Decoder::new(schema.clone(), Limits::default()).unwrap();
    let mut reject = |line: &str| {
        let reject = decoder.decode(&csv_record("id,time,tx.amount", line)).unwrap_err();
        assert_eq!(*reject.raw.bytes, *line.as_bytes());
        (reject.reason, reject.message)
    };
    use RejectReason::*;
    assert_eq!(reject("a,1"), (Malformed, "has 2 columns where the header has 3".into()));
    assert_eq!(reject("a,1,2,3").0, Malformed);
    assert_eq!(reject("a,1,\"2"), (Malformed, "cut off inside quotes".into()));
    assert_eq!(reject("  ").0, Empty);
    assert_eq!(reject(",1,2"), (MissingField, "field 'id' is missing".into()));
    assert_eq!(reject("a,1,\"12,5\"").1, "field 'amount': '12,5' is not a decimal number");
    let header = std::sync::Arc::new(CsvHeader::parse(b"id,time").unwrap());
    let bytes = record(Payload::Csv { header, line: b"a\xff,1".to_vec() });
    assert_eq!(decoder.decode(&bytes).unwrap_err().message, "not UTF-8 at byte 1");
}

#[test]
fn quoting_is_that_of_the_csv_crate() {
    let text = "name = \"t\"\nfield = [{ name = \"id\", type = \"text\", role = \"id\" }, { name = \"time\", type = \"time\", role = \"time\" }, { name = \"x\", type = \"text\" }]";
    let schema = schema(text);
    let mut decoder = Decoder::new(schema.clone(), Limits::default()).unwrap();
    let mut random = ChaCha8Rng::seed_from_u64(5);
    let (mut compared, mut quoted) = (0, 0);
    for _ in 0..20_000 {
        let length = random.random_range(0..12);
        let column: String =
            (0..length).map(|_| ["\"", "\"\"", ",", "a", "é", " ", "\n"][random.random_range(0..7)]).collect();
        let line = format!("k,1,{column}");
        // A line end outside quotes would be two records; the file reader never lets it through.
        let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(line.as_bytes());
        let records: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        let [only] = records.as_slice() else { continue };
        if line.ends_with('\n') {
            continue;
        }
        let ours = decoder.decode(&csv_record("id,time,x", &line));
        match ours {
            Ok(event) => {
                assert_eq!(only.len(), 3, "{line:?}");
                assert_eq!(event.text(schema.slot("x").unwrap()).unwrap_or(""), &only[2], "{line:?}");
                compared += 1;
                quoted += usize::from(column.starts_with('"'));
            }
            Err(reject) => {
                let cut = reject.message == "cut off inside quotes";
                assert!(cut || only.len() != 3, "{line:?}: {}", reject.message);
            }
        }
    }
    assert!(compared > 5_000 && quoted > 500, "{compared} {quoted}");
}

#[test]
fn headers_are_checked_against_the_schema() {
    let schema = schema(PAYMENTS);
    let check = |line: &str| CsvHeader::parse(line.as_bytes()).and_then(|header| header.check(&schema));
    assert_eq!(check("id,time"), Ok(()));
    let message = check("ID,time,x").unwrap_err();
    assert!(message.starts_with("no column 'id' for the id field 'id'; the file has ID, time, x."), "{message}");
    assert!(check("id,time,card,card").unwrap_err().contains("'card' stands twice"));
    assert_eq!(check("id,time,other,other"), Ok(()));
}
