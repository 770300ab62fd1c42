//! Records by number, in chunks: growth never copies what is there, and the number of a freed record is used again.

use std::ops::{Index, IndexMut};

use crate::operators::prefetch;

/// No record. Number 0 is never given out, so that zeroed records point nowhere.
pub const NIL: u32 = 0;

/// Records per chunk: few enough that a new chunk stalls no one.
const CHUNK: usize = 1 << CHUNK_BITS;
const CHUNK_BITS: u32 = 10;

/// Records by number. Numbers are 32 bits: memory ends before they do.
#[derive(Clone, Debug)]
pub struct Slab<T> {
    chunks: Vec<Box<[T]>>,
    free: Vec<u32>,
    next: u32,
}

impl<T: Copy + Default> Default for Slab<T> {
    fn default() -> Self {
        Slab { chunks: Vec::new(), free: Vec::new(), next: 1 }
    }
}

impl<T: Copy + Default> Slab<T> {
    /// A number for a new record, which holds the default.
    pub fn take(&mut self) -> u32 {
        if let Some(number) = self.free.pop() {
            self[number] = T::default();
            return number;
        }
        let number = self.next;
        self.reach(number);
        self.next += 1;
        number
    }

    /// Frees a record.
    pub fn release(&mut self, number: u32) {
        self.free.push(number);
        if self.is_empty() {
            *self = Self::default();
        }
    }

    /// Makes room for a number that the caller has chosen.
    #[inline]
    pub fn reach(&mut self, number: u32) {
        while self.chunks.len() << CHUNK_BITS <= number as usize {
            self.chunks.push(vec![T::default(); CHUNK].into_boxed_slice());
        }
    }

    /// Whether there is room for a number.
    pub fn has(&self, number: u32) -> bool {
        (number as usize) < self.chunks.len() << CHUNK_BITS
    }

    /// Brings a record nearer, if there is room for it; does not wait.
    #[inline]
    pub fn prefetch(&self, number: u32) {
        if let Some(chunk) = self.chunks.get(number as usize >> CHUNK_BITS) {
            prefetch(chunk, number as usize & (CHUNK - 1));
        }
    }

    /// Records taken and not released.
    pub fn len(&self) -> usize {
        self.next as usize - 1 - self.free.len()
    }

    /// Every number that has been given out, those of freed records included.
    pub fn numbers(&self) -> std::ops::Range<u32> {
        1..self.next
    }

    /// Whether every record has been released.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.chunks.len() * CHUNK * size_of::<T>() + self.free.capacity() * size_of::<u32>()
    }

    /// Visits every record there is room for, live or not.
    pub fn for_each(&mut self, visit: impl FnMut(&mut T)) {
        self.chunks.iter_mut().flat_map(|chunk| chunk.iter_mut()).for_each(visit);
    }
}

impl<T> Index<u32> for Slab<T> {
    type Output = T;

    #[inline]
    fn index(&self, number: u32) -> &T {
        &self.chunks[number as usize >> CHUNK_BITS][number as usize & (CHUNK - 1)]
    }
}

impl<T> IndexMut<u32> for Slab<T> {
    #[inline]
    fn index_mut(&mut self, number: u32) -> &mut T {
        &mut self.chunks[number as usize >> CHUNK_BITS][number as usize & (CHUNK - 1)]
    }
}
