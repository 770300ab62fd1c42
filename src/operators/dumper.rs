//! When an operator dumps what it keeps: all at once, or piece by piece while it goes on.
//!
//! ```text
//!  epoch F: begin        F+1 ...                                   E: end
//!  ────────┬──────────────────────────────────────────────────────┬────────►
//!          │ piece by piece, whenever the worker grants a turn:    │ what is small is dumped as it is now;
//!          │ an image of a part's shard as it is by then           │ pieces that are left, too
//!          └─ from its first piece on: what each epoch asks ───────┘
//! ```
//!
//! An image of a shard as of some epoch and what was asked of it from then on give the shard as of `E`; so no one waits for more
//! than one piece, and the cut is still of one epoch. Operators say how what they were asked is written down; those that find
//! it easier write what it made of a key ("a state later than its shard's"). What was dumped when is written down with it.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use serde::{Deserialize, Serialize};
use timely::scheduling::Activator;

use super::Images;
use crate::flow::{Dump, EVERY_SHARD, Epoch, EpochFacts, SHARDS};

/// Who of a worker's operators may dump a piece next.
#[derive(Default)]
pub(super) struct Turns {
    waiting: RefCell<VecDeque<(usize, Activator)>>,
    granted: Cell<Option<Turn>>,
}

impl fmt::Debug for Turns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turns").field("granted", &self.granted).finish_non_exhaustive()
    }
}

/// The number of the operator whose turn it is, and how many bytes it dumps at least.
type Turn = (usize, usize);

impl Turns {
    /// Gives the next one its turn. Says whether there is one.
    pub fn grant(&self, bytes: usize) -> bool {
        if self.granted.get().is_some() {
            return true;
        }
        let Some((number, activator)) = self.waiting.borrow_mut().pop_front() else { return false };
        activator.activate();
        self.granted.set(Some((number, bytes)));
        true
    }
}

/// What is filed under this name says which shard of which part was dumped at the end of which epoch; what is filed under the
/// other, what was asked since.
pub(super) fn dumped_of(view: &str) -> String {
    format!("{view} dumped")
}

/// What an operator dumps, when it is time.
pub struct Dumper {
    images: Images,
    /// What the operator's dates of dumping are filed under.
    name: String,
    number: usize,
    activator: Activator,
    dumped: Option<Epoch>,
    under_way: Option<UnderWay>,
}

impl fmt::Debug for Dumper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dumper").field("name", &self.name).field("under_way", &self.under_way).finish_non_exhaustive()
    }
}

/// A dump that has begun and not ended.
#[derive(Debug)]
struct UnderWay {
    begun: Epoch,
    /// Parts and shards that are left, the next one last.
    left: Vec<(usize, u32)>,
    dates: Dates,
}

/// At the end of which epoch each shard of a part was dumped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Dates(pub BTreeMap<(u32, u32), Epoch>);

impl Dumper {
    /// Of one more operator that dumps, called like this.
    pub fn new(images: Images, name: &str, activator: Activator) -> Self {
        let number = images.register();
        Dumper { images, name: name.to_owned(), number, activator, dumped: None, under_way: None }
    }

    /// The first epoch before `until` at whose end something is to be done that was not yet.
    pub fn due(&self, until: Epoch, facts: &EpochFacts) -> Option<(Epoch, Dump)> {
        facts.dump_before(until, self.dumped)
    }

    /// Does what is [`Dumper::due`], of so many parts; `put` puts the image of a part's shard. Says whether it was the end: then
    /// what is small is to be put, too.
    pub fn pass(&mut self, (epoch, dump): (Epoch, Dump), parts: usize, put: impl FnMut(&Images, usize, u32)) -> bool {
        self.dumped = Some(epoch);
        if dump != Dump::End {
            let mut shards: Vec<u32> = self.images.mine((0..SHARDS).chain([EVERY_SHARD])).collect();
            shards.reverse();
            let left = (0..parts).rev().flat_map(|part| shards.iter().map(move |&shard| (part, shard))).collect();
            self.under_way = Some(UnderWay { begun: epoch, left, dates: Dates::default() });
        }
        if dump == Dump::Begin {
            self.wait();
            return false;
        }
        self.put_some(epoch, usize::MAX, put);
        let ended = self.under_way.take();
        if let Some(UnderWay { dates, .. }) = ended.as_ref().filter(|ended| ended.begun < epoch) {
            self.images.put(&dumped_of(&self.name), EVERY_SHARD, epoch, dates);
        }
        self.images.note_dumped(epoch);
        ended.is_some()
    }

    /// Dumps a piece as of the end of an epoch, if it is this operator's turn.
    pub fn turn(&mut self, now: Epoch, put: impl FnMut(&Images, usize, u32)) {
        let Some((_, bytes)) = self.images.turns().granted.get().filter(|(number, _)| *number == self.number) else {
            return;
        };
        self.images.turns().granted.set(None);
        self.put_some(now, bytes, put);
        match &self.under_way {
            Some(under_way) if under_way.left.is_empty() => self.images.note_dumped(under_way.begun),
            Some(_) => self.wait(),
            None => {}
        }
    }

    /// Whether what epochs ask is to be written down.
    pub fn logs(&self) -> bool {
        self.under_way.as_ref().is_some_and(|under_way| !under_way.dates.0.is_empty())
    }

    /// Writes down what an epoch asks, or what it has made of it.
    pub fn log(&self, epoch: Epoch, asked: &impl Serialize) {
        self.images.put_asked(&self.name, epoch, asked);
    }

    fn wait(&self) {
        self.images.turns().waiting.borrow_mut().push_back((self.number, self.activator.clone()));
    }

    fn put_some(&mut self, epoch: Epoch, bytes_max: usize, mut put: impl FnMut(&Images, usize, u32)) {
        let (images, Some(under_way)) = (&self.images, &mut self.under_way) else { return };
        let before = images.bytes_put();
        while images.bytes_put() - before < bytes_max {
            let Some((part, shard)) = under_way.left.pop() else { break };
            put(images, part, shard);
            under_way.dates.0.insert((part as u32, shard), epoch);
        }
    }
}
