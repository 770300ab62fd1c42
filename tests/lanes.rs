//! Lanes have names, in order, and logs keep them.

use std::collections::BTreeMap;
use std::thread;

use deltawatch::epoch::{Firsts, RemapLog};
use deltawatch::event::{InputStream, Lane};
use deltawatch::flow::{Binding, Repair};
use deltawatch::source::sealed::{Seal, Terms};

/// In the order in which an epoch takes its records.
fn lanes() -> Vec<Lane> {
    vec![
        Lane::of_events(0),
        Lane::of_events(u32::MAX),
        Lane::of_table(0, 0),
        Lane::of_table(0, 12),
        Lane::of_table(3, 1),
        Lane::of_late_answers(0),
        Lane::of_late_answers(7),
        Lane::NOWHERE,
    ]
}

#[test]
fn lanes_are_ordered_by_stream_and_written_as_texts() {
    let lanes = lanes();
    assert!(lanes.is_sorted());
    assert!(lanes.iter().all(|lane| lane.is_events() == (lane.stream == InputStream::Events)));
    let texts: Vec<String> = lanes.iter().map(Lane::to_string).collect();
    let expected = "events/0 events/4294967295 table-0/0 table-0/12 table-3/1 late-answers/0 late-answers/7 nowhere";
    assert_eq!(texts.join(" "), expected);
    // As keys of a JSON object, and between processes.
    let by_lane: BTreeMap<Lane, u64> = lanes.iter().copied().zip(0..).collect();
    let json = serde_json::to_string(&by_lane).expect("texts are keys");
    assert!(json.starts_with(r#"{"events/0":0,"#), "{json}");
    assert_eq!(serde_json::from_str::<BTreeMap<Lane, u64>>(&json).expect("the same"), by_lane);
    let bytes = bincode::serialize(&by_lane).expect("bytes");
    assert_eq!(bincode::deserialize::<BTreeMap<Lane, u64>>(&bytes).expect("the same"), by_lane);
    for wrong in ["", "0", "events", "events/-1", "events/4294967296", "table/0", "table-x/0", "late/0", "nowhere/0"] {
        let error = wrong.parse::<Lane>().expect_err(wrong).to_string();
        assert!(error.contains(&format!("'{wrong}'")) && error.contains("events/0"), "{error}");
    }
}

#[test]
fn a_log_keeps_lanes_and_one_of_another_format_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let (terms, lanes) = (Terms::default(), lanes());
    let binding = Binding {
        epoch: 0,
        uppers: lanes.iter().copied().zip(5..).collect(),
        refused: vec![(lanes[1], 3)],
        watermark_ms: 17,
        repair: Repair::default(),
        merging: true,
        dump: None,
        stop: false,
        last: false,
    };
    let firsts: Firsts = [(lanes[0], 71)].into();
    let (mut log, recorded) = RemapLog::open(folder.path(), &terms).expect("an empty log");
    assert!(recorded.bindings.is_empty());
    assert!(log.note(&firsts));
    log.append(binding.clone()).expect("room");
    let durable = std::iter::repeat_with(|| log.durable()).find_map(|durable| {
        thread::yield_now();
        durable
    });
    assert_eq!(durable, Some(Ok(binding.clone())));
    drop(log);
    let (_, recorded) = RemapLog::open(folder.path(), &terms).expect("the same log");
    assert_eq!((recorded.bindings, recorded.firsts), (vec![binding], firsts));

    let old = tempfile::tempdir().expect("a folder");
    let path = old.path().join("remap.jsonl");
    let mut line = Vec::new();
    let header = serde_json::json!({ "header": { "format": 2, "terms": terms } });
    Seal::first(&path).line(&header, &mut line).expect("a line");
    std::fs::write(&path, line).expect("a file");
    let error = RemapLog::open(old.path(), &terms).expect_err("another format").to_string();
    assert!(error.contains("its format is 2, this binary's is 3; name another directory"), "{error}");
}
