//! What enters the graph of a reference: one version of one row, of one file, of one answer.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::event::{Id, IdType, Key, Lane, MapKey};
use crate::flow::{EVERY_SHARD, owner_of, shard_of};

/// The values of a row, one word per kept field: the bits of a double, a text's fingerprint, or [`MISSING`].
pub type Cells = Arc<[u64]>;

/// The word of a value that is not there: the bits of NaN, which no field holds.
pub const MISSING: u64 = 0x7ff8_0000_0000_0000;

/// A reference record that has no time of its own: it comes before all events of its epoch.
pub const NO_TIME: i64 = i64::MIN;

/// What an answer for an event is addressed by.
pub fn answer_key(id: Id, ids: IdType) -> Key {
    let MapKey { hi, lo } = id.map_key(ids);
    Key { hi, lo }
}

/// One upsert or deletion, bound to an epoch like an event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReferenceRecord {
    /// The worker that it is for.
    pub to: u32,
    /// The look-ups that it is for ([`crate::views::lookup::Enrich::tag`]).
    pub tag: u64,
    /// From when on it is visible within its epoch, milliseconds; [`NO_TIME`]: from the epoch's beginning.
    pub time: i64,
    /// The lane it came by.
    pub lane: Lane,
    /// Its place in the lane.
    pub offset: u64,
    /// What it says.
    pub body: Body,
}

impl ReferenceRecord {
    /// The shard that it is kept in.
    pub fn shard(&self) -> u32 {
        match &self.body {
            Body::Row(key, _) | Body::Gone(key) => shard_of(key.route()),
            Body::Networks(_) => EVERY_SHARD,
        }
    }

    /// Addresses the record to the owner of its key, or a copy to every worker.
    pub fn address(self, peers: usize, into: &mut Vec<ReferenceRecord>) {
        match self.body {
            Body::Row(key, _) | Body::Gone(key) => {
                into.push(ReferenceRecord { to: owner_of(key.route(), peers) as u32, ..self });
            }
            Body::Networks(_) => into.extend((0..peers as u32).map(|to| ReferenceRecord { to, ..self.clone() })),
        }
    }
}

/// What a reference record says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Body {
    /// The row of a key is this from now on.
    Row(Key, Cells),
    /// The key has no row any more.
    Gone(Key),
    /// The whole network file is this from now on.
    Networks(Arc<[u8]>),
}
