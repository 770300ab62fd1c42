//! Identifiers and keys: sixteen bytes each, compared and hashed without touching text.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::IdType;

/// The identity of an event, and its place among events of the same millisecond.
///
/// Two forms share the sixteen bytes, one per schema:
///
/// * an integer id: `hi` is the rank (0 unless the schema has a rank column), `lo` the integer. The order is
///   (rank, integer), which is how ties on event time are broken.
/// * a text id of at most 15 bytes: the bytes themselves, big endian and zero padded, the last byte the length, so that
///   the order is the order of the text. A longer text keeps its first eight bytes and a 56-bit hash of the whole, with
///   255 as the last byte: unique for all practical purposes, and ordered by its first eight bytes, then by hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Id {
    /// High half: rank of an integer id, or the first eight bytes of a text id.
    pub hi: u64,
    /// Low half: the integer, or the rest of a text id.
    pub lo: u64,
}

impl Id {
    /// An integer id of rank 0.
    pub fn from_int(id: u64) -> Self {
        Id { hi: 0, lo: id }
    }

    /// An integer id with a rank, which decides among events of the same millisecond.
    pub fn from_ranked(rank: u64, id: u64) -> Self {
        Id { hi: rank, lo: id }
    }

    /// A text id.
    pub fn from_text(text: &str) -> Self {
        let bytes = text.as_bytes();
        let mut packed = [0u8; 16];
        if bytes.len() <= 15 {
            packed[..bytes.len()].copy_from_slice(bytes);
            packed[15] = bytes.len() as u8;
        } else {
            packed[..8].copy_from_slice(&bytes[..8]);
            packed[8..].copy_from_slice(&xxh3_64(bytes).to_be_bytes());
            packed[15] = u8::MAX;
        }
        let whole = u128::from_be_bytes(packed);
        Id { hi: (whole >> 64) as u64, lo: whole as u64 }
    }

    /// The id as it was written, for messages. Of a text longer than 15 bytes only the first eight are known; the hash
    /// follows them.
    pub fn written(&self, kind: IdType) -> String {
        if kind == IdType::Int {
            return self.lo.to_string();
        }
        let packed = (u128::from(self.hi) << 64 | u128::from(self.lo)).to_be_bytes();
        match packed[15] as usize {
            length @ 0..=15 => String::from_utf8_lossy(&packed[..length]).into_owned(),
            _ => format!("{}…{:014x}", String::from_utf8_lossy(&packed[..8]), self.lo >> 8),
        }
    }

    /// What everything about this transaction is kept by: **the one id rule**. The rank of an integer id says where an event
    /// stands among those of its millisecond, not which it is, so a correction may change it; a text id has no rank.
    ///
    /// Places in the order of events are `(event time, Id)`, with the rank. Maps, expiry and routing of transactions go by
    /// this; they take nothing else ([`crate::operators::ShardedMap`]).
    #[inline]
    pub fn map_key(self, kind: IdType) -> MapKey {
        match kind {
            IdType::Int => MapKey { hi: 0, lo: self.lo },
            IdType::Text => MapKey { hi: self.hi, lo: self.lo },
        }
    }
}

/// Sixteen bytes that something is kept by: a transaction ([`Id::map_key`]), or the value of an entity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MapKey {
    /// High half.
    pub hi: u64,
    /// Low half.
    pub lo: u64,
}

impl MapKey {
    /// A stable hash that spreads what is kept over workers and shards.
    #[inline]
    pub fn route(&self) -> u64 {
        mix(self.hi, self.lo)
    }
}

/// The value of an entity (a card, a device, a pair of both) as sixteen bytes.
///
/// Integers are kept as they are; text is hashed with the 128-bit xxh3, whose values are documented as stable, so a key
/// is the same on every machine and after every restart. Keys of different kinds are never compared with each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// High half.
    pub hi: u64,
    /// Low half.
    pub lo: u64,
}

impl Key {
    /// The key of an integer value.
    pub fn from_int(value: i64) -> Self {
        Key { hi: 0, lo: value as u64 }
    }

    /// The key of a text value.
    pub fn from_text(text: &str) -> Self {
        let hash = xxh3_128(text.as_bytes());
        // The top bit keeps hashed text apart from integers.
        Key { hi: (hash >> 64) as u64 | 1 << 63, lo: hash as u64 }
    }

    /// The key of a pair, which depends on the order of the two.
    pub fn pair(self, other: Key) -> Key {
        let mut bytes = [0u8; 32];
        for (chunk, half) in bytes.chunks_exact_mut(8).zip([self.hi, self.lo, other.hi, other.lo]) {
            chunk.copy_from_slice(&half.to_le_bytes());
        }
        let hash = xxh3_128(&bytes);
        Key { hi: (hash >> 64) as u64 | 1 << 63, lo: hash as u64 }
    }

    /// A stable hash that spreads keys over workers and shards.
    pub fn route(&self) -> u64 {
        mix(self.hi, self.lo)
    }

    /// Sixty-four bits that stand for the value where equality is all that counts (distinct counts).
    pub fn fingerprint(&self) -> u64 {
        self.route()
    }
}

/// Mixes two words into one, so that every bit of the input reaches every bit of the output (a 64 x 64 -> 128 bit
/// multiplication folded, as in wyhash).
fn mix(hi: u64, lo: u64) -> u64 {
    let product = u128::from(lo ^ 0x9e37_79b9_7f4a_7c15) * u128::from(hi ^ 0xa076_1d64_78bd_642f | 1);
    let folded = (product >> 64) as u64 ^ product as u64;
    let again = u128::from(folded ^ 0xe703_7ed1_a0b4_28db) * u128::from(0x8ebc_6af0_9c88_c6e3_u64);
    (again >> 64) as u64 ^ again as u64
}

impl From<Key> for MapKey {
    fn from(Key { hi, lo }: Key) -> MapKey {
        MapKey { hi, lo }
    }
}
