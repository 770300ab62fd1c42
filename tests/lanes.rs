//! Lanes have names, in order.

use std::collections::BTreeMap;

use deltawatch::event::{InputStream, Lane};

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
