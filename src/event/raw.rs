//! A record as it was read, kept beside what was made of it: what a reject shows, and what can be sent again.

use serde::{Deserialize, Serialize};

/// Where a record stands in its file, and what was cut off it when it was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Stand {
    /// The number of its first line, from 1; 0 if it stands in no file.
    pub line: u64,
    /// Bytes beyond the limit, which were not kept.
    pub cut_bytes: u64,
}

/// The bytes of a record and where they stood. Empty for what was never bytes: events of the generator.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Raw {
    /// The record as it was read, without its line end.
    #[serde(with = "as_bytes")]
    pub bytes: Box<[u8]>,
    /// Its place in its file.
    pub stand: Stand,
}

impl Raw {
    /// How long the record was in its source, bytes.
    pub fn true_bytes(&self) -> u64 {
        self.bytes.len() as u64 + self.stand.cut_bytes
    }
}

impl From<Vec<u8>> for Raw {
    fn from(bytes: Vec<u8>) -> Self {
        Raw { bytes: bytes.into(), stand: Stand::default() }
    }
}

/// In one piece, where serde would take one byte after the other.
pub(crate) mod as_bytes {
    use std::fmt;

    use serde::de::{Deserializer, SeqAccess, Visitor};
    use serde::ser::Serializer;

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Box<[u8]>, D::Error> {
        deserializer.deserialize_byte_buf(Bytes)
    }

    struct Bytes;

    impl<'de> Visitor<'de> for Bytes {
        type Value = Box<[u8]>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("bytes")
        }

        fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Self::Value, E> {
            Ok(bytes.into())
        }

        fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Self::Value, E> {
            Ok(bytes.into())
        }

        // JSON has no bytes: an array of numbers.
        fn visit_seq<A: SeqAccess<'de>>(self, mut bytes: A) -> Result<Self::Value, A::Error> {
            let mut all = Vec::with_capacity(bytes.size_hint().unwrap_or(0).min(1 << 20));
            while let Some(byte) = bytes.next_element()? {
                all.push(byte);
            }
            Ok(all.into())
        }
    }
}
