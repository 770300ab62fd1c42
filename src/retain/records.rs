//! Transactions by number and by id: growth never copies what is there, and the number of a freed record is used again.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use super::verdict::LabelRecord;
use crate::event::{Event, MapKey, Op};
use crate::flow::{Epoch, Label, SHARDS};
use crate::operators::ShardedMap;

/// One retained transaction: what came, and what was made of it.
///
/// The halves have an owner each. What came is written by the operator of arrivals ([`super::retain`]), which may be some epochs
/// ahead; what was made of it by the one that judges, which comes to the same epochs later.
#[derive(Debug)]
pub struct Transaction<S> {
    /// What it is kept by.
    pub key: MapKey,
    /// What holds of it now.
    pub event: Arc<Event>,
    /// The operation that holds.
    pub op: Op,
    /// Its labels.
    pub(super) labels: Vec<LabelRecord>,
    /// The change of `epoch` that asks for its row, so that there is one row per transaction and epoch.
    pub(super) asked: u32,
    pub(super) epoch: Epoch,
    /// The event time by which it expires, milliseconds.
    pub(super) due_ms: i64,
    /// Rows asked for so far.
    pub rows: u32,
    /// When the last record of it was taken in, nanoseconds on the process's clock.
    pub arrived_ns: u64,
    /// What its look-ups answered, packed ([`super::kept`]).
    pub kept: Vec<u8>,
    /// What was last said of it.
    pub said: Option<S>,
}

impl<S> Transaction<S> {
    /// One that has just come.
    pub(super) fn new(key: MapKey, event: Event, op: Op, arrived_ns: u64) -> Self {
        let (labels, kept) = (Vec::new(), Vec::new());
        let (due_ms, event) = (event.time, Arc::new(event));
        Transaction { key, event, op, labels, asked: 0, epoch: 0, due_ms, rows: 0, arrived_ns, kept, said: None }
    }

    pub(super) fn live(&self) -> bool {
        self.op != Op::Withdraw
    }

    /// What is known of its label.
    pub(crate) fn label(&self) -> Option<Label> {
        let live = self.labels.iter().filter(|record| record.op != Op::Withdraw);
        live.max_by_key(|record| (record.label.available_at, record.id)).map(|record| record.label)
    }
}

/// Records per chunk: few enough that a new chunk stalls no one.
const CHUNK: usize = 256;

/// Records that are side by side in memory. One that has become empty gives its memory back: what comes together mostly expires
/// together.
#[derive(Debug)]
struct Chunk<S> {
    records: Vec<Option<Transaction<S>>>,
    /// Places that are free again.
    free: Vec<u8>,
    /// Whether it stands among those with room.
    listed: bool,
}

/// The transactions of one worker.
#[derive(Debug)]
pub struct Records<S> {
    index: ShardedMap<u32>,
    chunks: Vec<Chunk<S>>,
    /// The chunk that is filled now.
    filled: Option<u32>,
    /// Chunks that had room when they were put here, and were not empty: they are filled before any that is, or what is let go of in
    /// pieces would leave a hole in each.
    roomy: Vec<u32>,
    /// Empty ones.
    empty: Vec<u32>,
    /// Records that no id leads to any more, with the epoch that has let go of them: they are freed once it is judged.
    leaving: VecDeque<(Epoch, u32)>,
    /// Bytes of what look-ups answered.
    kept_bytes: usize,
}

/// Shared by the two operators of a worker.
pub type SharedRecords<S> = Rc<RefCell<Records<S>>>;

impl<S> Chunk<S> {
    fn new() -> Self {
        Chunk { records: Vec::new(), free: Vec::new(), listed: false }
    }

    fn has_room(&self) -> bool {
        self.records.len() < CHUNK || !self.free.is_empty()
    }

    fn put(&mut self, transaction: Transaction<S>) -> usize {
        match self.free.pop() {
            Some(place) => {
                self.records[usize::from(place)] = Some(transaction);
                usize::from(place)
            }
            None => {
                self.records.reserve_exact(CHUNK - self.records.len());
                self.records.push(Some(transaction));
                self.records.len() - 1
            }
        }
    }

    fn take(&mut self, place: usize) -> Option<Transaction<S>> {
        let taken = self.records[place].take();
        self.free.push(place as u8);
        if self.free.len() == self.records.len() {
            (self.records, self.free) = Default::default();
        }
        taken
    }
}

impl<S> Default for Records<S> {
    fn default() -> Self {
        let (index, chunks, filled, roomy, empty, leaving) = Default::default();
        Records { index, chunks, filled, roomy, empty, leaving, kept_bytes: 0 }
    }
}

impl<S> Records<S> {
    /// The number of a transaction.
    pub fn find(&self, key: &MapKey) -> Option<u32> {
        self.index.get(key).copied()
    }

    /// A transaction by number.
    #[inline]
    pub fn get(&self, number: u32) -> Option<&Transaction<S>> {
        self.chunks.get(number as usize / CHUNK)?.records.get(number as usize % CHUNK)?.as_ref()
    }

    /// The same, to change.
    #[inline]
    pub fn get_mut(&mut self, number: u32) -> Option<&mut Transaction<S>> {
        self.chunks.get_mut(number as usize / CHUNK)?.records.get_mut(number as usize % CHUNK)?.as_mut()
    }

    /// Adds a transaction whose id leads to none.
    pub fn insert(&mut self, transaction: Transaction<S>) -> u32 {
        let key = transaction.key;
        let chunk = self.chunk_with_room();
        let place = self.chunks[chunk as usize].put(transaction);
        let number = chunk * CHUNK as u32 + place as u32;
        self.index.insert(key, number);
        number
    }

    /// The chunk that takes the next transaction.
    fn chunk_with_room(&mut self) -> u32 {
        if let Some(chunk) = self.filled.filter(|&chunk| self.chunks[chunk as usize].has_room()) {
            return chunk;
        }
        while let Some(chunk) = self.roomy.pop() {
            let found = &mut self.chunks[chunk as usize];
            found.listed = false;
            if found.records.is_empty() {
                self.empty.push(chunk);
            } else if found.has_room() {
                self.filled = Some(chunk);
                return chunk;
            }
        }
        let chunk = self.empty.pop().unwrap_or_else(|| {
            self.chunks.push(Chunk::new());
            self.chunks.len() as u32 - 1
        });
        self.filled = Some(chunk);
        chunk
    }

    /// Lets go of a transaction at the beginning of an epoch.
    pub fn leave(&mut self, key: &MapKey, epoch: Epoch) {
        if let Some(number) = self.index.remove(key) {
            self.leaving.push_back((epoch, number));
        }
    }

    /// Epochs up to this one are judged: frees what they have let go of.
    pub fn free(&mut self, judged: Epoch) {
        while let Some(&(_, number)) = self.leaving.front().filter(|(epoch, _)| *epoch <= judged) {
            self.leaving.pop_front();
            let place = number / CHUNK as u32;
            let chunk = &mut self.chunks[place as usize];
            let gone = chunk.take(number as usize % CHUNK);
            self.kept_bytes -= gone.map_or(0, |gone| gone.kept.capacity());
            if !chunk.listed && self.filled != Some(place) {
                chunk.listed = true;
                self.roomy.push(place);
            }
        }
    }

    /// Changes what the look-ups of a transaction have answered.
    pub fn keep(&mut self, number: u32, change: impl FnOnce(&mut Vec<u8>)) {
        let Some(transaction) = self.get_mut(number) else { return };
        let before = transaction.kept.capacity();
        change(&mut transaction.kept);
        let after = transaction.kept.capacity();
        self.kept_bytes = self.kept_bytes + after - before;
    }

    /// Bytes of what look-ups answered.
    pub fn kept_bytes(&self) -> usize {
        self.kept_bytes
    }

    /// Transactions that ids lead to, in the order of shards.
    pub fn all(&self) -> impl Iterator<Item = &Transaction<S>> {
        (0..SHARDS).flat_map(|shard| self.of_shard(shard))
    }

    /// Transactions of a shard that ids lead to, in no order.
    pub fn of_shard(&self, shard: u32) -> impl Iterator<Item = &Transaction<S>> {
        self.index.of_shard(shard).filter_map(|(_, number)| self.get(*number))
    }

    /// Transactions that were let go of and are not freed yet.
    pub fn leaving(&self) -> impl Iterator<Item = &Transaction<S>> {
        self.leaving.iter().filter_map(|(_, number)| self.get(*number))
    }

    /// Transactions that ids lead to.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Bytes of the tables, without what transactions have on the heap.
    pub fn table_bytes(&self) -> usize {
        let records: usize = self.chunks.iter().map(|chunk| chunk.records.capacity()).sum();
        self.index.table_bytes() + records * size_of::<Option<Transaction<S>>>()
    }
}
