//! Positions in the order of events.

use crate::event::Id;

/// A position in (event time, id) order, milliseconds.
pub type Place = (i64, Id);

/// The position right before another.
pub fn before((time, id): Place) -> Place {
    match whole(id).checked_sub(1) {
        Some(less) => (time, id_of(less)),
        None => (time.saturating_sub(1), id_of(u128::MAX)),
    }
}

/// The position right after another.
pub fn after((time, id): Place) -> Place {
    match whole(id).checked_add(1) {
        Some(more) => (time, id_of(more)),
        None => (time.saturating_add(1), Id::default()),
    }
}

fn whole(id: Id) -> u128 {
    u128::from(id.hi) << 64 | u128::from(id.lo)
}

fn id_of(whole: u128) -> Id {
    Id { hi: (whole >> 64) as u64, lo: whole as u64 }
}
