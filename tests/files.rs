//! Files in and out: formats, quoting, offsets, errors.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use deltawatch::decode::Decoder;
use deltawatch::event::{Lane, Limits, Origin, Payload, Record, Schema};
use deltawatch::flow::{Reject, RejectReason};
use deltawatch::sink::file::Existing;
use deltawatch::sink::{FileWriter, Headers, OutputRecord, SinkError, Writer, encode_reject};
use deltawatch::source::{FileSource, Reader, Ready, Source, SourceError, StartOffsets};
use flate2::write::GzEncoder;

const SCHEMA: &str = "name = \"t\"\nfield = [{ name = \"id\", type = \"int\", role = \"id\" }, { name = \"time\", type = \"time\", role = \"time\" }, { name = \"note\", type = \"text\" }]";

fn schema() -> Arc<Schema> {
    Arc::new(Schema::parse("t", SCHEMA).unwrap())
}

fn source(paths: &[&Path]) -> Result<FileSource, SourceError> {
    source_with(paths, Limits::default())
}

fn source_with(paths: &[&Path], limits: Limits) -> Result<FileSource, SourceError> {
    let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    FileSource::new(&paths, &schema(), limits)
}

/// Everything a reader gives until it is done or fails.
fn drain(reader: &mut dyn Reader) -> (Vec<Record>, Result<(), SourceError>) {
    let (mut records, start) = (Vec::new(), Instant::now());
    loop {
        assert!(start.elapsed() < Duration::from_secs(20), "the reader hangs");
        let before = records.len();
        match reader.poll(100, &mut records) {
            Ok(Ready::Done) => return (records, Ok(())),
            Ok(Ready::Waiting | Ready::CaughtUp) => std::thread::yield_now(),
            Ok(Ready::More) => assert!(records.len() > before && records.len() <= before + 100),
            Err(error) => return (records, Err(error)),
        }
    }
}

fn read(source: &FileSource) -> Vec<Record> {
    let mut reader = source.open(0, 1, &StartOffsets::new()).unwrap();
    let (records, end) = drain(reader.as_mut());
    end.unwrap();
    records
}

fn text(record: &Record) -> &str {
    match &record.payload {
        Payload::Json(text) | Payload::Csv { line: text, .. } => str::from_utf8(text).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn json_lines(count: usize) -> String {
    (0..count).map(|id| format!("{{\"id\":{id},\"time\":{id},\"note\":\"{}\"}}\n", "n".repeat(id % 50))).collect()
}

#[test]
fn every_format_gives_the_same_records() {
    let folder = tempfile::tempdir().unwrap();
    let content = json_lines(5_000);
    let plain = folder.path().join("a.jsonl");
    fs::write(&plain, &content).unwrap();
    let expected = read(&source(&[&plain]).unwrap());
    assert_eq!(expected.len(), 5_000);
    assert!(expected.iter().enumerate().all(|(number, record)| record.offset == number as u64));
    assert_eq!(expected.iter().map(|record| text(record).to_owned() + "\n").collect::<String>(), content);
    // Two members one after the other, as `cat a.gz b.gz` makes them.
    let (half, rest) = content.as_bytes().split_at(content.len() / 2);
    let members = [gzip(half), gzip(rest)].concat();
    let frames = [zstd::encode_all(half, 1).unwrap(), zstd::encode_all(rest, 1).unwrap()].concat();
    let windows = format!("\u{feff}\n{}", content.replace('\n', "\r\n\r\n"));
    for (name, bytes) in
        [("a.json.gz", members), ("a.ndjson.zst", frames.clone()), ("A.JSONL.ZSTD", frames), ("b.json", windows.into())]
    {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        let found = read(&source(&[&path]).unwrap());
        let same = found.iter().map(text).eq(expected.iter().map(text));
        assert!(same && found.last().unwrap().offset == 4_999, "{name}");
    }
}

#[test]
fn quoted_line_ends_stay_in_their_record() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.csv");
    fs::write(&path, "note,id,time\r\n\"one\r\ntwo, \"\"three\"\"\n\",1,5\r\n\r\nst\"ray,2,5\r\n\"\",3,5").unwrap();
    let records = read(&source(&[&path]).unwrap());
    let schema = schema();
    let mut decoder = Decoder::new(schema.clone(), Limits::default()).unwrap();
    let events: Vec<_> = records.iter().map(|record| decoder.decode(record).unwrap()).collect();
    let note = |index: usize| events[index].text(schema.slot("note").unwrap());
    assert_eq!(events.iter().map(|event| event.id.lo).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!((note(0), note(1), note(2)), (Some("one\r\ntwo, \"three\"\n"), Some("st\"ray"), None));
    assert_eq!(records.iter().map(|record| record.offset).collect::<Vec<_>>(), [0, 1, 2]);
}

#[test]
fn long_lines_and_open_quotes_cost_a_bounded_stretch() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { record_bytes_max: 1000 };
    let mut decoder = Decoder::new(schema(), limits).unwrap();
    let mut reasons = |source: FileSource| -> Vec<Option<RejectReason>> {
        read(&source).iter().map(|record| decoder.decode(record).err().map(|reject| reject.reason)).collect()
    };
    let json = folder.path().join("a.json");
    let long = "x".repeat(500_000);
    fs::write(&json, format!("{{\"id\":1,\"time\":1}}\n{long}\n{{\"id\":2,\"time\":1}}\n{long}")).unwrap();
    let oversized = Some(RejectReason::Oversized);
    assert_eq!(reasons(source_with(&[&json], limits).unwrap()), [None, oversized, None, oversized]);

    let csv = folder.path().join("a.csv");
    let good = "1,1,n\n".repeat(400);
    fs::write(&csv, format!("id,time,note\n1,1,n\n2,2,\"open\n{good}3,3,\"cut")).unwrap();
    let found = reasons(source_with(&[&csv], limits).unwrap());
    // 1000 bytes are 165 lines of six.
    assert_eq!(found[..3], [None, oversized, None]);
    assert_eq!(found.last(), Some(&Some(RejectReason::Malformed)));
    assert!((230..245).contains(&found.len()), "{}", found.len());
}

#[test]
fn a_reader_serves_its_partitions_from_their_offsets() {
    let folder = tempfile::tempdir().unwrap();
    let paths: Vec<_> = (0..3).map(|index| folder.path().join(format!("{index}.csv"))).collect();
    for (index, path) in paths.iter().enumerate() {
        let lines: String = (0..2_000).map(|id| format!("{id},{index}\n")).collect();
        fs::write(path, format!("id,time\n{lines}")).unwrap();
    }
    let source = source(&paths.iter().map(|path| path.as_path()).collect::<Vec<_>>()).unwrap();
    assert!(source.bounded());
    let start = StartOffsets::from([(0, 1_990), (2, 2_000)]);
    let mut even = source.open(0, 2, &start).unwrap();
    assert_eq!(even.partitions(), [0, 2]);
    let (records, end) = drain(even.as_mut());
    end.unwrap();
    let expected: Vec<(u32, u64, String)> = (1_990..2_000).map(|id| (0, id, format!("{id},0"))).collect();
    let found: Vec<_> = records.iter().map(|r| (r.partition, r.offset, text(r).to_owned())).collect();
    assert_eq!(found, expected);
    let mut odd = source.open(1, 2, &start).unwrap();
    assert_eq!(odd.partitions(), [1]);
    assert_eq!(drain(odd.as_mut()).0.len(), 2_000);
    let mut idle = source.open(3, 4, &start).unwrap();
    assert!(idle.partitions().is_empty() && drain(idle.as_mut()).0.is_empty());

    let beyond = StartOffsets::from([(0, 2_001)]);
    let (_, end) = drain(source.open(0, 3, &beyond).unwrap().as_mut());
    let message = end.unwrap_err().to_string();
    assert!(message.ends_with("has 2000 records, but 2001 were read of it before; name the file that was read then"));
    // A reader dropped half way leaves nothing behind that blocks.
    drop(source.open(0, 1, &StartOffsets::new()).unwrap());
}

#[test]
fn a_cut_file_gives_its_records_then_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let content = json_lines(20_000);
    for (name, bytes) in
        [("a.jsonl.gz", gzip(content.as_bytes())), ("a.jsonl.zst", zstd::encode_all(content.as_bytes(), 1).unwrap())]
    {
        let path = folder.path().join(name);
        fs::write(&path, &bytes[..bytes.len() * 3 / 4]).unwrap();
        let mut reader = source(&[&path]).unwrap().open(0, 1, &StartOffsets::new()).unwrap();
        let (records, end) = drain(reader.as_mut());
        let count = records.len();
        assert!((5_000..20_000).contains(&count), "{name}: {count}");
        assert_eq!(
            records.iter().map(|r| text(r).to_owned() + "\n").collect::<String>(),
            content[..records.iter().map(|r| text(r).len() + 1).sum()]
        );
        let Err(SourceError::External(message)) = end else { panic!("{name}: {end:?}") };
        assert!(message.contains(&format!("{name}: after {count} records: cannot decompress it")), "{message}");
        assert!(message.contains("cut off"), "{message}");
        // The error stays.
        assert!(reader.poll(1, &mut Vec::new()).is_err());
    }
}

#[test]
fn wrong_inputs_are_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |name: &str, content: Option<&[u8]>| {
        let path = folder.path().join(name);
        if let Some(content) = content {
            fs::write(&path, content).unwrap();
        }
        let Err(SourceError::User(message)) = source(&[&path]) else { panic!("{name} was taken") };
        assert!(!message.contains('\n'));
        message.replace(&format!("{}/", folder.path().display()), "")
    };
    let ending = "--input data.parquet: unknown ending; use .csv, .jsonl or .json, optionally with .gz or .zst";
    assert_eq!(refused("data.parquet", None), ending);
    assert!(refused("none.csv", None).starts_with("--input none.csv: cannot open it: No such file"));
    assert!(refused("no.json.gz", Some(b"{\"id\":1}")).contains("cannot decompress it"));
    assert!(refused("no.csv.zst", Some(b"id,time\n")).contains("the file is cut off, damaged or no zstd"));
    assert!(refused("empty.csv", Some(b"")).ends_with("the file is empty; a CSV file needs a header line"));
    let header = refused("header.csv", Some(b"ID,time\n"));
    assert!(header.starts_with("--input header.csv: no column 'id' for the id field 'id'; the file has ID, time"));
    fs::create_dir(folder.path().join("folder.json")).unwrap();
    assert!(refused("folder.json", None).ends_with("is a directory; name the files in it"));
    let json = folder.path().join("a.json");
    fs::write(&json, "").unwrap();
    assert!(source(&[&json, Path::new("-")]).unwrap_err().to_string().contains("standard input"));
    assert!(read(&source(&[&json]).unwrap()).is_empty());
    assert!(source(&[]).is_err());
}

fn output(key: &str, payload: Option<&str>, arrived_ns: u64) -> OutputRecord {
    OutputRecord {
        key: key.into(),
        payload: payload.map(|text| text.as_bytes().to_vec()),
        last_line: if payload.is_none() { b"{\"id\":\"a\",\"diff\":0}".to_vec() } else { Vec::new() },
        headers: Headers::default(),
        arrived_ns,
    }
}

#[test]
fn written_files_read_back() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["out.jsonl", "out.json.gz", "out.json.zst"] {
        let path = folder.path().join(name);
        let acknowledged = Arc::new(Mutex::new(Vec::new()));
        let log = acknowledged.clone();
        let on_acknowledged = Box::new(move |arrived_ns| log.lock().unwrap().push(arrived_ns));
        let mut writer =
            FileWriter::create(&path.display().to_string(), "--output", Existing::Refuse, on_acknowledged).unwrap();
        for number in 0..10_000 {
            writer.write(output("k", Some(&format!("{{\"id\":{number},\"time\":1}}")), number)).unwrap();
        }
        writer.write(output("a\"\n", None, 10_000)).unwrap();
        assert!(acknowledged.lock().unwrap().len() < 10_000, "not before the system has them");
        writer.flush().unwrap();
        assert_eq!(*acknowledged.lock().unwrap(), (0..=10_000).collect::<Vec<u64>>());
        drop(writer);
        let records = read(&source(&[&path]).unwrap());
        assert_eq!(records.len(), 10_001, "{name}");
        assert_eq!(text(&records[9_999]), "{\"id\":9999,\"time\":1}");
        assert_eq!(text(&records[10_000]), r#"{"id":"a","diff":0}"#);
    }
    let Err(SinkError::User(message)) =
        FileWriter::create("/no/such/folder/x", "--rejects", Existing::Append, Box::new(|_| ()))
    else {
        panic!("written to nowhere");
    };
    assert!(message.starts_with("--rejects /no/such/folder/x: cannot write it: No such file"));
}

#[test]
fn a_pipe_that_was_closed_ends_the_output() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    let name = path.display().to_string();
    let reader = std::thread::spawn(move || drop(fs::File::open(name).unwrap()));
    let mut writer =
        FileWriter::create(&path.display().to_string(), "--output", Existing::Refuse, Box::new(|_| ())).unwrap();
    reader.join().unwrap();
    writer.write(output("k", Some("{}"), 0)).unwrap();
    assert!(matches!(writer.flush(), Err(SinkError::Closed)));
    assert!(matches!(writer.write(output("k", Some("{}"), 0)), Err(SinkError::Closed)));
}

#[test]
fn rejects_are_written_with_their_bytes() {
    let mut reject = Reject {
        lane: Lane::of_events(1),
        offset: 2,
        timestamp_ms: 3,
        reason: RejectReason::BadValue,
        message: "it's \"bad\"".into(),
        id: String::new(),
        raw: "{\"é\n".as_bytes().to_vec().into(),
    };
    let origin = Origin::File("a.jsonl".into());
    let line = |reject: &Reject| String::from_utf8(encode_reject(reject, &origin, 4, 5).payload.unwrap()).unwrap();
    assert_eq!(
        line(&reject),
        r#"{"file":"a.jsonl","partition":1,"offset":2,"timestamp_ms":3,"reason":"bad_value","message":"it's \"bad\"","raw":"{\"é\n"}"#
    );
    reject.raw = b"\xff\xfe{".to_vec().into();
    assert!(line(&reject).ends_with(r#","raw_base64":"//57"}"#));
    let of_reference = Reject { lane: Lane::of_table(1, 3), ..reject.clone() };
    assert!(line(&of_reference).contains(r#""partition":3,"offset":2"#), "{}", line(&of_reference));
    // Its key is another one than that of an event at the same place.
    assert_eq!(encode_reject(&of_reference, &origin, 4, 5).key, b"table-1/3:2");
    let record = encode_reject(&reject, &origin, 4, 5);
    assert_eq!((record.key.as_slice(), record.headers.epoch, record.arrived_ns), (&b"1:2"[..], 4, 5));
}

/// The first rows of the handbook's transactions, if they are there.
#[test]
fn handbook_transactions_are_read() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/handbook/transactions.csv.gz");
    if !path.exists() {
        eprintln!("SKIPPED: {} is not there", path.display());
        return;
    }
    let schema = "name = \"handbook\"\nfield = [\
        { name = \"id\", path = \"TRANSACTION_ID\", type = \"int\", role = \"id\" },\
        { name = \"time\", path = \"TX_DATETIME\", type = \"time\", format = \"text\", role = \"time\" },\
        { name = \"customer\", path = \"CUSTOMER_ID\", type = \"int\", role = \"entity\", required = true },\
        { name = \"amount\", path = \"TX_AMOUNT\", type = \"decimal\", scale = 2, role = \"amount\", required = true },\
        { name = \"fraud\", path = \"TX_FRAUD\", type = \"bool\", role = \"label_value\", required = true }]";
    let schema = Arc::new(Schema::parse("handbook", schema).unwrap());
    let source = FileSource::new(&[path.display().to_string()], &schema, Limits::default()).unwrap();
    let mut reader = source.open(0, 1, &StartOffsets::new()).unwrap();
    let mut decoder = Decoder::new(schema.clone(), Limits::default()).unwrap();
    let mut records = Vec::new();
    while records.len() < 100_000 {
        reader.poll(100_000 - records.len(), &mut records).unwrap();
    }
    let events: Vec<_> = records.iter().map(|record| decoder.decode(record).unwrap()).collect();
    let (customer, amount) = (schema.slot("customer").unwrap(), schema.slot("amount").unwrap());
    let second = &events[1];
    assert_eq!((second.id.lo, second.time), (1, 1_522_540_930_000));
    assert_eq!((second.int(customer), second.int(amount)), (Some(4961), Some(8151)));
    assert_eq!(decoder.unknown_fields(), 400_000);
}
