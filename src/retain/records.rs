//! Transactions by number and by id: growth never copies what is there, and the number of a freed record is used again.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use super::verdict::LabelRecord;
use crate::event::{Event, MapKey, Op};
use crate::flow::{Epoch, Label};
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
        let event = Arc::new(event);
        Transaction { key, event, op, labels, asked: 0, epoch: 0, rows: 0, arrived_ns, kept, said: None }
    }

    pub(super) fn live(&self) -> bool {
        self.op != Op::Withdraw
    }

    pub(super) fn label(&self) -> Option<Label> {
        let live = self.labels.iter().filter(|record| record.op != Op::Withdraw);
        live.max_by_key(|record| (record.label.available_at, record.id)).map(|record| record.label)
    }
}

/// Records per chunk: few enough that a new chunk stalls no one.
const CHUNK: usize = 256;

/// The transactions of one worker.
#[derive(Debug)]
pub struct Records<S> {
    index: ShardedMap<u32>,
    chunks: Vec<Vec<Option<Transaction<S>>>>,
    free: Vec<u32>,
    /// Records that no id leads to any more, with the epoch that has let go of them: they are freed once it is judged.
    leaving: VecDeque<(Epoch, u32)>,
}

/// Shared by the two operators of a worker.
pub type SharedRecords<S> = Rc<RefCell<Records<S>>>;

impl<S> Default for Records<S> {
    fn default() -> Self {
        Records { index: ShardedMap::default(), chunks: Vec::new(), free: Vec::new(), leaving: VecDeque::new() }
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
        self.chunks.get(number as usize / CHUNK)?.get(number as usize % CHUNK)?.as_ref()
    }

    /// The same, to change.
    #[inline]
    pub fn get_mut(&mut self, number: u32) -> Option<&mut Transaction<S>> {
        self.chunks.get_mut(number as usize / CHUNK)?.get_mut(number as usize % CHUNK)?.as_mut()
    }

    /// Adds a transaction whose id leads to none.
    pub fn insert(&mut self, transaction: Transaction<S>) -> u32 {
        let key = transaction.key;
        let number = match self.free.pop() {
            Some(number) => {
                self.chunks[number as usize / CHUNK][number as usize % CHUNK] = Some(transaction);
                number
            }
            None => {
                if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
                    self.chunks.push(Vec::with_capacity(CHUNK));
                }
                let chunk = self.chunks.len() - 1;
                self.chunks[chunk].push(Some(transaction));
                (chunk * CHUNK + self.chunks[chunk].len() - 1) as u32
            }
        };
        self.index.insert(key, number);
        number
    }

    /// Lets go of a transaction at the beginning of an epoch.
    pub fn leave(&mut self, key: &MapKey, epoch: Epoch) {
        if let Some(number) = self.index.remove(key) {
            self.leaving.push_back((epoch, number));
        }
    }

    /// Epochs up to this one are judged: frees what they have let go of.
    pub fn free(&mut self, judged: Epoch) {
        while let Some((_, number)) = self.leaving.pop_front_if(|(epoch, _)| *epoch <= judged) {
            self.chunks[number as usize / CHUNK][number as usize % CHUNK] = None;
            self.free.push(number);
        }
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
        self.index.table_bytes() + self.chunks.len() * CHUNK * size_of::<Option<Transaction<S>>>()
    }
}
