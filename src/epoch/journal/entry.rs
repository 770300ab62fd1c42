//! What a journal holds: records as they were read, and bindings.
//!
//! Records are kept as they came, not as they were decoded: a field that is added to the schema later is there for the past, too.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::event::as_bytes;
use crate::event::{CsvHeader, Event, Partition, Payload, Record, Stand};
use crate::flow::Binding;
use crate::source::sealed::Terms;

/// The format of a journal.
pub(super) const FORMAT: u32 = 4;

/// The first block of a segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    /// The format.
    pub format: u32,
    /// What decided the outcome of the run that wrote it, beside the records.
    pub terms: Terms,
    /// Whether records are kept, or offsets alone.
    pub keeps_records: bool,
    /// The last record of each partition in the segments before it.
    pub last: BTreeMap<Partition, LastRecord>,
}

/// Where a partition has come to: its last record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastRecord {
    /// Its offset.
    pub offset: u64,
    /// A hash of what it is.
    pub hash: u64,
}

/// Records of one block.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Batch<'a> {
    /// How many they are.
    pub records: u64,
    /// The last one of each partition.
    pub last: BTreeMap<Partition, LastRecord>,
    /// Bytes before they were compressed.
    pub unpacked_bytes: u64,
    /// The records, compressed; nothing where offsets alone are kept.
    #[serde(borrow)]
    pub packed: &'a [u8],
}

/// A block of a segment.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Block<'a> {
    /// What the segment is; its first block.
    Head(Head),
    /// Records.
    #[serde(borrow)]
    Records(Batch<'a>),
    /// Bindings, in order.
    Bindings(Vec<Binding>),
}

/// A record as it was read back.
#[derive(Deserialize)]
struct Packed {
    partition: Partition,
    offset: u64,
    timestamp_ms: i64,
    stand: Stand,
    content: Content,
}

#[derive(Deserialize)]
enum Content {
    Json(#[serde(with = "as_bytes")] Box<[u8]>),
    Csv(Option<CsvHeader>, #[serde(with = "as_bytes")] Box<[u8]>),
    Tombstone(#[serde(with = "as_bytes")] Box<[u8]>),
    Event(Box<Event>),
}

/// A record as it is packed, which is [`Packed`] without taking it.
#[derive(Serialize)]
struct PackedRef<'a> {
    partition: Partition,
    offset: u64,
    timestamp_ms: i64,
    stand: Stand,
    content: ContentRef<'a>,
}

#[derive(Serialize)]
enum ContentRef<'a> {
    Json(#[serde(serialize_with = "as_bytes::serialize")] &'a [u8]),
    /// The columns are named by the first record of a partition that has them in a batch.
    Csv(Option<&'a CsvHeader>, #[serde(serialize_with = "as_bytes::serialize")] &'a [u8]),
    Tombstone(#[serde(serialize_with = "as_bytes::serialize")] &'a [u8]),
    Event(&'a Event),
}

/// The columns that the last record of a partition had.
pub(super) type Columns = BTreeMap<Partition, Arc<CsvHeader>>;

/// Packs a record.
///
/// # Errors
/// If it cannot be written down at all.
pub(super) fn pack(record: &Record, columns: &mut Columns, into: &mut Vec<u8>) -> Result<(), bincode::Error> {
    let content = match &record.payload {
        Payload::Json(bytes) => ContentRef::Json(bytes),
        Payload::Csv { header, line } => {
            let known = columns.get(&record.partition).is_some_and(|known| Arc::ptr_eq(known, header));
            if !known {
                columns.insert(record.partition, header.clone());
            }
            ContentRef::Csv((!known).then_some(&**header), line)
        }
        Payload::Tombstone { key } => ContentRef::Tombstone(key),
        Payload::Event(event) => ContentRef::Event(event),
    };
    let Record { partition, offset, timestamp_ms, stand, .. } = *record;
    bincode::serialize_into(into, &PackedRef { partition, offset, timestamp_ms, stand, content })
}

/// The next record of what was packed; `arrived_ns` is when it is read.
///
/// # Errors
/// If it is none.
pub(super) fn unpack(packed: &mut &[u8], columns: &mut Columns, arrived_ns: u64) -> Result<Record, bincode::Error> {
    let Packed { partition, offset, timestamp_ms, stand, content } = bincode::deserialize_from(packed)?;
    let payload = match content {
        Content::Json(bytes) => Payload::Json(bytes.into()),
        Content::Csv(named, line) => {
            if let Some(named) = named {
                columns.insert(partition, Arc::new(named));
            }
            let header = columns.get(&partition).cloned().unwrap_or_else(|| Arc::new(CsvHeader::of(Vec::new())));
            Payload::Csv { header, line: line.into() }
        }
        Content::Tombstone(key) => Payload::Tombstone { key: key.into() },
        Content::Event(event) => Payload::Event(event),
    };
    Ok(Record { partition, offset, timestamp_ms, arrived_ns, stand, payload })
}

/// Tells a record from another one at its place: its bytes, or the id and time of what was never bytes.
pub(super) fn hash_of(record: &Record) -> u64 {
    match &record.payload {
        Payload::Json(bytes) | Payload::Csv { line: bytes, .. } | Payload::Tombstone { key: bytes } => {
            xxh3_64_with_seed(bytes, record.offset)
        }
        Payload::Event(event) => {
            let words = [event.id.hi, event.id.lo, event.time as u64].map(u64::to_le_bytes);
            xxh3_64_with_seed(&words.concat(), record.offset)
        }
    }
}
