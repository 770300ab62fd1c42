//! How rows of words stand in an image: `#[serde(with = "words")]` on a `Vec<u64>` without padding.
//!
//! Plain builds write them as bincode does. With the cargo feature `abomonation` they are written as memory, behind a header that is
//! verified before anything is made of them: magic, a fingerprint of build and layout, checksum. Reading is then a copy. That is
//! for state on a trusted local disk which the same build reads again (RUSTSEC-2021-0120: what was tampered with so that the
//! checksum fits is not found out). A build with the feature reads both; one without says what it lacks.

use serde::de::{Error, Unexpected};
use serde::ser::SerializeTuple;
use serde::{Deserialize, Deserializer, Serializer};

/// What comes first.
const PLAIN: u8 = 0;
const AS_MEMORY: u8 = 1;

/// Writes the words.
pub fn serialize<S: Serializer>(words: &[u64], serializer: S) -> Result<S::Ok, S::Error> {
    let mut tuple = serializer.serialize_tuple(2)?;
    if cfg!(feature = "abomonation") {
        tuple.serialize_element(&AS_MEMORY)?;
        tuple.serialize_element(&memory::Bytes(memory::encode(words)))?;
    } else {
        tuple.serialize_element(&PLAIN)?;
        tuple.serialize_element(words)?;
    }
    tuple.end()
}

/// Reads words, however they were written.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u64>, D::Error> {
    match Tagged::deserialize(deserializer)? {
        Tagged::Plain(words) => Ok(words),
        Tagged::AsMemory(bytes) => memory::decode(&bytes).map_err(D::Error::custom),
    }
}

enum Tagged {
    Plain(Vec<u64>),
    AsMemory(Vec<u8>),
}

impl<'de> Deserialize<'de> for Tagged {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Tagged;

            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("words")
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut tuple: A) -> Result<Tagged, A::Error> {
                let missing = || A::Error::custom("words are missing");
                match tuple.next_element::<u8>()?.ok_or_else(missing)? {
                    PLAIN => tuple.next_element()?.map(Tagged::Plain).ok_or_else(missing),
                    AS_MEMORY => {
                        let bytes = tuple.next_element::<memory::Bytes>()?.ok_or_else(missing)?;
                        Ok(Tagged::AsMemory(bytes.0))
                    }
                    other => Err(A::Error::invalid_value(Unexpected::Unsigned(other.into()), &"0 or 1")),
                }
            }
        }
        deserializer.deserialize_tuple(2, Visitor)
    }
}

/// Words as memory.
mod memory {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// Bytes that are written as such, and not one by one.
    pub struct Bytes(pub Vec<u8>);

    impl Serialize for Bytes {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_bytes(&self.0)
        }
    }

    impl<'de> Deserialize<'de> for Bytes {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Visitor;
            impl serde::de::Visitor<'_> for Visitor {
                type Value = Bytes;

                fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                    f.write_str("bytes")
                }

                fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Bytes, E> {
                    Ok(Bytes(bytes))
                }

                fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Bytes, E> {
                    Ok(Bytes(bytes.to_vec()))
                }
            }
            deserializer.deserialize_byte_buf(Visitor)
        }
    }

    pub use codec::{decode, encode};

    #[cfg(not(feature = "abomonation"))]
    mod codec {
        pub fn encode(_words: &[u64]) -> Vec<u8> {
            Vec::new()
        }

        pub fn decode(_bytes: &[u8]) -> Result<Vec<u64>, String> {
            Err("it was written by a build with the feature abomonation; build with it, or name another directory"
                .into())
        }
    }

    #[cfg(feature = "abomonation")]
    #[allow(unsafe_code, reason = "the library works on memory")]
    mod codec {
        use xxhash_rust::xxh3::xxh3_64;

        const MAGIC: [u8; 8] = *b"dw-words";
        /// Magic, fingerprint, checksum.
        const HEADER: usize = 24;

        /// What must be the same for memory to mean the same: the program, its target, and how the library lays out a vector.
        fn fingerprint() -> u64 {
            let layout =
                (size_of::<Vec<u64>>(), align_of::<Vec<u64>>(), size_of::<usize>(), cfg!(target_endian = "little"));
            xxh3_64(format!("{} {} {layout:?}", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH).as_bytes())
        }

        pub fn encode(words: &[u64]) -> Vec<u8> {
            let (words, mut bytes) = (words.to_vec(), Vec::with_capacity(HEADER + 24 + 8 * words.len()));
            bytes.extend(MAGIC);
            bytes.extend(fingerprint().to_le_bytes());
            bytes.extend([0; 8]);
            // Words have no padding. Writing to a vector cannot fail.
            let written = unsafe { abomonation::encode(&words, &mut bytes) };
            debug_assert!(written.is_ok());
            let checksum = xxh3_64(&bytes[HEADER..]);
            bytes[16..HEADER].copy_from_slice(&checksum.to_le_bytes());
            bytes
        }

        pub fn decode(bytes: &[u8]) -> Result<Vec<u64>, String> {
            let (header, body) = bytes.split_at_checked(HEADER).ok_or("its words are cut off")?;
            let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| header[at + byte]));
            if header[..8] != MAGIC {
                return Err("its words do not begin as they should".into());
            }
            if word(8) != fingerprint() {
                return Err("its words were written by another build with the feature abomonation; use that one, or name another \
                            directory"
                    .into());
            }
            if word(16) != xxh3_64(body) {
                return Err("its words are damaged: their checksum does not fit".into());
            }
            // The library reads in place, and in places of eight bytes.
            let mut aligned = vec![0_u64; body.len().div_ceil(8)];
            let place = &mut bytemuck::cast_slice_mut::<u64, u8>(&mut aligned)[..body.len()];
            place.copy_from_slice(body);
            match unsafe { abomonation::decode::<Vec<u64>>(place) } {
                Some((words, [])) => Ok(words.clone()),
                _ => Err("its words are not as long as they say".into()),
            }
        }
    }
}
