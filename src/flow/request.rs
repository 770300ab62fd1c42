//! The messages between the owner of a transaction and the owners of its keys: flat words, one block per key kind and
//! target worker, so that an epoch costs a handful of messages whatever its size.

use serde::{Deserialize, Serialize};

use super::{Cause, owner_of};
use crate::event::{Id, Key};

/// Rows of one key kind on their way between two workers.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Block {
    /// The worker it is for.
    pub to: u32,
    /// The worker it comes from.
    pub from: u32,
    /// The key kind: an index into the plans.
    pub plan: u16,
    /// Rows of a fixed length, one after the other.
    pub words: Vec<u64>,
}

/// Requests on their way to the owners of their keys: a block per plan and worker.
pub struct Outgoing {
    blocks: Vec<Block>,
    here: u32,
    peers: usize,
}

impl Outgoing {
    /// From this worker to so many, of so many plans.
    pub fn new(here: u32, peers: usize, plans: usize) -> Self {
        Outgoing { blocks: vec![Block::default(); plans * peers], here, peers }
    }

    /// Adds a request to the owner of its key.
    #[inline]
    pub fn push(&mut self, plan: usize, request: &Request<'_>) {
        let to = if self.peers == 1 { 0 } else { owner_of(request.key.route(), self.peers) };
        self.push_to(to as u32, plan, request);
    }

    /// Adds a request to a worker.
    #[inline]
    pub fn push_to(&mut self, to: u32, plan: usize, request: &Request<'_>) {
        let block = &mut self.blocks[plan * self.peers + to as usize];
        (block.to, block.from, block.plan) = (to, self.here, plan as u16);
        request.write(&mut block.words);
    }

    /// The words that go to the worker who keeps what has this hash; for requests of a view's own form.
    #[inline]
    pub fn words(&mut self, plan: usize, route: u64) -> &mut Vec<u64> {
        let to = owner_of(route, self.peers);
        let block = &mut self.blocks[plan * self.peers + to];
        (block.to, block.from, block.plan) = (to as u32, self.here, plan as u16);
        &mut block.words
    }

    /// The worker that asks.
    pub fn here(&self) -> u32 {
        self.here
    }

    /// Takes out what there is to send. The next epoch will need about as much room.
    pub fn take(&mut self) -> impl Iterator<Item = Block> {
        self.blocks.iter_mut().filter(|block| !block.words.is_empty()).map(|block| {
            let room = Block { words: Vec::with_capacity(block.words.len()), ..*block };
            std::mem::replace(block, room)
        })
    }
}

/// What the owner of a key is asked to do with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Ask {
    /// Keep it.
    Insert,
    /// Drop it.
    Remove,
    /// Set mask and availability of its label. To patterns: set mask and columns, as its features were read again.
    Relabel,
    /// Only read.
    Read,
    /// The same as `Relabel`, where there was no label before: what touches fewer rows.
    Label,
}

/// Words before the columns of a request.
pub const HEAD: usize = 8;

/// A request, borrowed from its block: an ask, whether the event is scored, the ticket under which features are wanted,
/// and the entry.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// What to do.
    pub ask: Ask,
    /// Whether the event is of a scored kind.
    pub scored: bool,
    /// Why.
    pub cause: Cause,
    /// The row to fill in at the origin, or `NO_TICKET`.
    pub ticket: u32,
    /// The key.
    pub key: Key,
    /// Event time, milliseconds.
    pub time: i64,
    /// The event.
    pub id: Id,
    /// Bits of the conditions.
    pub mask: u64,
    /// When the label became known, `i64::MAX` without one.
    pub known_at: i64,
    /// Amount columns, then value columns.
    pub columns: &'a [u64],
}

impl<'a> Request<'a> {
    /// Appends the request to a block's words.
    pub fn write(&self, words: &mut Vec<u64>) {
        let tag = self.ask as u64 | (self.scored as u64) << 7 | (self.cause as u64) << 8 | u64::from(self.ticket) << 32;
        let head =
            [tag, self.key.hi, self.key.lo, self.time as u64, self.id.hi, self.id.lo, self.mask, self.known_at as u64];
        words.extend_from_slice(&head);
        words.extend_from_slice(self.columns);
    }

    /// Reads a row of a block.
    #[inline]
    pub fn read(row: &'a [u64]) -> Self {
        Request {
            ask: match row[0] & 0x7f {
                0 => Ask::Insert,
                1 => Ask::Remove,
                2 => Ask::Relabel,
                3 => Ask::Read,
                _ => Ask::Label,
            },
            scored: row[0] >> 7 & 1 == 1,
            cause: Cause::from_u8((row[0] >> 8) as u8),
            ticket: (row[0] >> 32) as u32,
            key: Key { hi: row[1], lo: row[2] },
            time: row[3] as i64,
            id: Id { hi: row[4], lo: row[5] },
            mask: row[6],
            known_at: row[7] as i64,
            columns: &row[HEAD..],
        }
    }
}
