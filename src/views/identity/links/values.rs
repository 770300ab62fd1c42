//! Values by kind and key: the vertices of the link graph.

use crate::event::Key;
use crate::views::identity::graph::{Frozen, NIL, Numbers, Slab};

/// A value that has live links.
#[derive(Clone, Copy, Debug, Default)]
pub struct LinkedValue {
    /// What it is: an account, a card.
    pub key: Key,
    /// Its kind, counted from 0; the account's is 0.
    pub kind: u8,
    /// Its live links, whether they carry or not.
    pub degree: u32,
    /// The first of them.
    pub first: u32,
    /// How often its number has been given out: tells it from an earlier value of the same number.
    pub generation: u32,
}

/// All values.
#[derive(Clone, Debug, Default)]
pub struct Values {
    records: Slab<LinkedValue>,
    by_key: Numbers,
    generation: u32,
}

fn hash(kind: u8, key: Key) -> u64 {
    key.route() ^ (u64::from(kind) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl Values {
    /// The number of a value, if it is there.
    #[inline]
    pub fn find(&self, kind: u8, key: Key) -> Option<u32> {
        self.by_key.find(hash(kind, key), |number| {
            let value = &self.records[number];
            value.key == key && value.kind == kind
        })
    }

    /// The number of a value that is not there yet.
    pub fn add(&mut self, kind: u8, key: Key) -> u32 {
        let number = self.records.take();
        self.generation = self.generation.wrapping_add(1);
        self.records[number] = LinkedValue { key, kind, degree: 0, first: NIL, generation: self.generation };
        let records = &self.records;
        self.by_key.insert(hash(kind, key), number, |number| hash(records[number].kind, records[number].key));
        number
    }

    /// Removes a value.
    pub fn remove(&mut self, number: u32) {
        let LinkedValue { key, kind, .. } = self.records[number];
        let records = &self.records;
        self.by_key.remove(hash(kind, key), number, |number| hash(records[number].kind, records[number].key));
        self.records[number].generation = 0;
        self.records.release(number);
    }

    /// A value.
    #[inline]
    pub fn get(&self, number: u32) -> &LinkedValue {
        &self.records[number]
    }

    /// A value.
    #[inline]
    pub fn get_mut(&mut self, number: u32) -> &mut LinkedValue {
        &mut self.records[number]
    }

    /// Whether a number still stands for the value that it stood for in a generation.
    pub fn is(&self, number: u32, generation: u32) -> bool {
        self.records.has(number) && self.records[number].generation == generation
    }

    /// All values as they are now, for another thread.
    pub fn freeze(&mut self) -> FrozenValues {
        FrozenValues(self.records.freeze())
    }

    /// Values that are there.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.records.bytes() + self.by_key.bytes()
    }
}

/// All values, as they were.
#[derive(Debug)]
pub struct FrozenValues(Frozen<LinkedValue>);

impl FrozenValues {
    /// A value.
    pub fn get(&self, number: u32) -> &LinkedValue {
        &self.0[number]
    }

    /// Whether a number still stood for the value that it stood for in a generation.
    pub fn is(&self, number: u32, generation: u32) -> bool {
        self.0.has(number) && self.0[number].generation == generation
    }

    /// The numbers of all values.
    pub fn numbers(&self) -> impl Iterator<Item = u32> {
        self.0.numbers().filter(|&number| self.0[number].generation != 0)
    }
}
