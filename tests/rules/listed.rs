//! Lists for random programs: as the collection that rules read, and as what an interpreter is given.

use deltawatch::score::lists::{ListEntry, Lists};
use jiff::Timestamp;

/// A name and its values, with the millisecond at which they end.
type Listed = (&'static str, &'static [(&'static str, Option<i64>)]);

/// What is on both ends at different times.
pub const LISTED: [Listed; 2] = [
    (
        "blocked",
        &[
            ("", Some(5)),
            ("a", None),
            ("ab", Some(4)),
            ("abc", Some(6)),
            ("12", None),
            ("-7", Some(5)),
            ("true", Some(7)),
            ("0", None),
            ("2", Some(6)),
            ("-1", Some(3)),
            ("9223372036854775807", Some(5)),
            ("7.0", None),
        ],
    ),
    (
        "seen",
        &[
            ("payment", Some(6)),
            ("é🐱", None),
            ("a", Some(4)),
            ("abcc", None),
            ("false", Some(5)),
            ("1", Some(7)),
            ("0", Some(3)),
            ("1000", None),
            ("-9223372036854775808", Some(6)),
            ("007", None),
        ],
    ),
];

/// The same as a collection.
pub fn lists() -> Lists {
    LISTED.into_iter().fold(Lists::default(), |lists, (name, entries)| {
        entries.iter().fold(lists.create(name).expect("a name"), |lists, (value, until_ms)| {
            let until = until_ms.map(|ms| Timestamp::from_millisecond(ms).expect("a time"));
            lists.put(name, value, ListEntry { until, reason: "random".to_owned() }).expect("a value")
        })
    })
}

/// The values that hold at a time.
pub fn listed(list: usize, time_ms: i64) -> impl Iterator<Item = &'static str> {
    let entries = LISTED[list].1.iter();
    entries.filter(move |(_, until_ms)| until_ms.is_none_or(|until_ms| time_ms < until_ms)).map(|(value, _)| *value)
}
