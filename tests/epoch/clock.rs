//! What the records around a leap say of it.

use deltawatch::epoch::clock::{EVIDENCE_MAX, EVIDENCE_MIN, End, Evidence, PartitionClock};

const MINUTE: i64 = 60_000;

/// A clock at minute 0, with a bound of five minutes.
fn at_zero() -> PartitionClock {
    let mut clock = PartitionClock::new(5 * MINUTE);
    clock.confirm(0);
    clock
}

#[test]
fn most_of_the_records_behind_a_leap_decide() {
    let clock = at_zero();
    let says = |times: &[i64], end| clock.evidence(60 * MINUTE, times.iter().map(|minute| minute * MINUTE), end);
    let (more, ended) = (End::No, End::ForNow);
    assert_eq!(says(&[60, 61, 55, 62], ended), Evidence::For, "five minutes back is still at the leap");
    assert_eq!(says(&[60, 61, 55, 62], more), Evidence::Wait);
    assert_eq!(says(&[1; EVIDENCE_MIN], ended), Evidence::Against);
    let undecided = |outvoted| Evidence::Undecided { outvoted };
    assert_eq!(says(&[1; EVIDENCE_MIN - 1], ended), undecided(true), "a few late events prove nothing");
    assert_eq!(says(&[], ended), undecided(false));
    assert_eq!(says(&[1], ended), undecided(false), "one late event weighs no more than the leap itself");
    assert_eq!(says(&[60, 1, 1], ended), undecided(false));
    assert_eq!(says(&[60; EVIDENCE_MAX / 2 + 1], more), Evidence::For, "what is to come cannot change it");
    assert_eq!(says(&[1; EVIDENCE_MAX / 2], more), Evidence::Against);
    let mut mixed = [60; EVIDENCE_MAX];
    mixed[..EVIDENCE_MAX / 2].fill(1);
    assert_eq!(says(&mixed, more), Evidence::Against, "half is no majority");
}

#[test]
fn a_leap_in_doubt_moves_the_clock_once_later_records_agree() {
    let mut clock = at_zero();
    clock.follow(60 * MINUTE);
    assert_eq!(clock.reached_ms(), Some(0));
    clock.follow(61 * MINUTE);
    // The second record confirms the first, and is near it then.
    assert_eq!(clock.reached_ms(), Some(61 * MINUTE));
}

#[test]
fn a_leap_that_nobody_follows_never_moves_the_clock() {
    let mut clock = at_zero();
    clock.follow(i64::MAX);
    for minute in 1..200 {
        clock.follow(minute * MINUTE);
        assert_eq!(clock.reached_ms(), Some(minute * MINUTE));
    }
    clock.follow(i64::MIN);
    assert_eq!(clock.reached_ms(), Some(199 * MINUTE), "it never goes back");
}

#[test]
fn the_first_record_is_a_leap_like_any_other() {
    let mut clock = PartitionClock::new(5 * MINUTE);
    assert!(!clock.is_near(0));
    clock.follow(1_000_000 * MINUTE);
    assert_eq!(clock.reached_ms(), None);
    clock.follow(0);
    clock.follow(MINUTE);
    assert_eq!(clock.reached_ms(), Some(MINUTE));
}
