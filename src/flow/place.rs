//! Places in the order of events.

use crate::event::Id;

/// Event time, milliseconds, and the id that breaks ties: the order of events.
pub type Place = (i64, Id);

/// After every id of a millisecond.
pub const LAST: Id = Id { hi: u64::MAX, lo: u64::MAX };

/// The place right before another.
pub fn before((time, id): Place) -> Place {
    let whole = u128::from(id.hi) << 64 | u128::from(id.lo);
    match whole.checked_sub(1) {
        Some(less) => (time, Id { hi: (less >> 64) as u64, lo: less as u64 }),
        None => (time.saturating_sub(1), LAST),
    }
}

/// The place right after another.
pub fn after((time, id): Place) -> Place {
    let whole = u128::from(id.hi) << 64 | u128::from(id.lo);
    match whole.checked_add(1) {
        Some(more) => (time, Id { hi: (more >> 64) as u64, lo: more as u64 }),
        None => (time.saturating_add(1), Id::default()),
    }
}
