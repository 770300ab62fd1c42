//! Records by number, in chunks: growth never copies what is there, and the number of a freed record is used again.

use std::ops::{Index, IndexMut};
use std::sync::Arc;

use crate::operators::{CopyOnWrite, prefetch};

/// No record. Number 0 is never given out, so that zeroed records point nowhere.
pub const NIL: u32 = 0;

/// Bytes per chunk at most: few enough that a new chunk, or a copy of one, stalls no one.
const CHUNK_BYTES: usize = 16 << 10;

/// Records by number. Numbers are 32 bits: memory ends before they do.
#[derive(Clone, Debug)]
pub struct Slab<T> {
    chunks: Vec<CopyOnWrite<Box<[T]>>>,
    free: Vec<u32>,
    next: u32,
}

impl<T> Slab<T> {
    /// The highest power of two of records that fit into a chunk.
    const BITS: u32 = (CHUNK_BYTES / if size_of::<T>() == 0 { 1 } else { size_of::<T>() }).ilog2();
    const CHUNK: usize = 1 << Self::BITS;

    /// Chunk and index of a number.
    #[inline]
    fn split(number: u32) -> (usize, usize) {
        (number as usize >> Self::BITS, number as usize & (Self::CHUNK - 1))
    }
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
        while !self.has(number) {
            self.chunks.push(CopyOnWrite::new(vec![T::default(); Self::CHUNK].into_boxed_slice()));
        }
    }

    /// Whether there is room for a number.
    pub fn has(&self, number: u32) -> bool {
        Self::split(number).0 < self.chunks.len()
    }

    /// Brings a record nearer, if there is room for it; does not wait.
    #[inline]
    pub fn prefetch(&self, number: u32) {
        let (chunk, index) = Self::split(number);
        if let Some(chunk) = self.chunks.get(chunk) {
            prefetch(chunk, index);
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
        self.chunks.len() * Self::CHUNK * size_of::<T>() + self.free.capacity() * size_of::<u32>()
    }

    /// Visits every record there is room for, live or not.
    pub fn for_each(&mut self, visit: impl FnMut(&mut T)) {
        self.chunks.iter_mut().flat_map(|chunk| chunk.to_mut().iter_mut()).for_each(visit);
    }

    /// All records as they are now, for another thread: what is written from now on is copied first, chunk by chunk.
    pub fn freeze(&mut self) -> Frozen<T> {
        Frozen { chunks: self.chunks.iter_mut().map(CopyOnWrite::share).collect(), next: self.next }
    }
}

impl<T> Index<u32> for Slab<T> {
    type Output = T;

    #[inline]
    fn index(&self, number: u32) -> &T {
        let (chunk, index) = Self::split(number);
        &self.chunks[chunk][index]
    }
}

impl<T: Clone> IndexMut<u32> for Slab<T> {
    #[inline]
    fn index_mut(&mut self, number: u32) -> &mut T {
        let (chunk, index) = Self::split(number);
        &mut self.chunks[chunk].to_mut()[index]
    }
}

/// Records of a slab, as they were.
#[derive(Debug)]
pub struct Frozen<T> {
    chunks: Vec<Arc<Box<[T]>>>,
    next: u32,
}

impl<T> Frozen<T> {
    /// Every number that had been given out, those of freed records included.
    pub fn numbers(&self) -> std::ops::Range<u32> {
        1..self.next
    }

    /// Whether there is a record of a number, free or not.
    pub fn has(&self, number: u32) -> bool {
        Slab::<T>::split(number).0 < self.chunks.len()
    }
}

impl<T> Index<u32> for Frozen<T> {
    type Output = T;

    #[inline]
    fn index(&self, number: u32) -> &T {
        let (chunk, index) = Slab::<T>::split(number);
        &self.chunks[chunk][index]
    }
}
