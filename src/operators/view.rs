//! What is kept per key, as the operator that runs it sees it.

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::backlog::Stretch;
use crate::event::{Id, Key};
use crate::flow::{Block, Facts, Place, ReferenceRecord, shard_of};
use crate::metrics::Metrics;

/// What an epoch asks of a view.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Asks {
    /// Requests, in the order of their plan and the worker that they come from.
    pub blocks: Vec<Block>,
    /// Records of reference collections, as they came.
    pub records: Vec<ReferenceRecord>,
}

/// Rows of a key that a change has touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The key kind.
    pub plan: u16,
    /// The key.
    pub key: Key,
    /// Its rows.
    pub stretch: Stretch,
    /// The event that was changed.
    pub id: Id,
    /// Its event time, milliseconds.
    pub time_ms: i64,
}

/// What an epoch makes of a view.
#[derive(Debug)]
pub struct Out<U> {
    /// Rows of `[ticket, feature, ...]`, addressed to the workers that asked.
    pub slices: Vec<Block>,
    /// What the view publishes beside, with diff.
    pub updates: Vec<(U, isize)>,
    /// Rows that are not any more what they were. Those that are too old to be revised are published, the others read again.
    pub marks: Vec<Mark>,
}

impl<U> Default for Out<U> {
    fn default() -> Self {
        Out { slices: Vec::new(), updates: Vec::new(), marks: Vec::new() }
    }
}

/// How far a view has come with an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It is done with it.
    Done,
    /// Others are to have their turn; then it goes on.
    More,
}

/// A piece of what a view keeps: written down, loaded and built anew by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ViewPart {
    /// What tells it from the other parts of its view; empty where there is one alone.
    pub name: String,
    /// A hash of all that decides what it keeps, beside what the whole view is built from.
    pub fingerprint: u64,
}

/// Makes an image of what was copied.
pub type Copied<I> = Box<dyn FnOnce() -> I + Send>;

/// State that is kept per key, in shards, and answers the requests of epochs. [`super::own`] runs it; what it does depends on the
/// facts of the epochs and on what they ask, in their order, and on nothing else.
pub trait View: 'static {
    /// What it publishes beside slices.
    type Update: Clone + Ord + fmt::Debug + 'static;

    /// What a part of it keeps of a shard, as it is written down: the requests that would rebuild it, and what cannot be derived.
    type Image: Serialize + DeserializeOwned;

    /// Takes in an epoch: applies what is asked in the order of events, answers tickets, and marks what was touched.
    fn apply(&mut self, now: &Facts, asks: Asks, out: &mut Out<Self::Update>) -> Turn;

    /// Goes on with the epoch that [`View::apply`] has said [`Turn::More`] of.
    fn go_on(&mut self, now: &Facts, out: &mut Out<Self::Update>) -> Turn {
        let _ = (now, out);
        Turn::Done
    }

    /// The scored rows of a key after a place, in order.
    fn scored_after(&self, plan: u16, key: Key, after: Place) -> Box<dyn Iterator<Item = Place> + '_> {
        let _ = (plan, key, after);
        Box::new(std::iter::empty())
    }

    /// Rows of a key kind that are younger than this are revised, milliseconds, and what is revised, as messages call it.
    fn revised(&self, plan: u16) -> (i64, String) {
        let _ = plan;
        (0, String::new())
    }

    /// What stands of what it has published, once it was loaded: those who take its updates have nothing of it yet.
    fn published(&mut self) -> Vec<(Self::Update, isize)> {
        Vec::new()
    }

    /// Whether the passing of event time alone may publish something.
    fn waits(&self) -> bool {
        false
    }

    /// Event time has come this far, milliseconds.
    fn pass(&mut self, watermark_ms: i64, updates: &mut Vec<(Self::Update, isize)>) {
        let _ = (watermark_ms, updates);
    }

    /// Drops what retention has passed, in proportion to what the epoch has asked.
    fn expire(&mut self, now: &Facts);

    /// Sets the gauges; `whole`: also what costs a look at every key.
    fn report(&self, metrics: &Metrics, whole: bool);

    /// The shard that a key is kept in: where one owner has all keys, its own.
    fn shard_of(&self, key: Key) -> u32 {
        shard_of(key.route())
    }

    /// The parts that it is written down in: one, unless it says otherwise.
    fn parts(&self) -> Vec<ViewPart> {
        vec![ViewPart::default()]
    }

    /// What a part keeps of a shard; `None` if that is nothing, or [`View::copy`] gives it.
    fn dump(&self, part: usize, shard: u32) -> Option<Self::Image>;

    /// The same in two steps, for what takes long: holds what is kept of a shard as it is ([`super::CopyOnWrite`]); another thread makes an
    /// image of it.
    fn copy(&mut self, part: usize, shard: u32) -> Option<Copied<Self::Image>> {
        let _ = (part, shard);
        None
    }

    /// Leaves out what asks of other parts and shards than these. Where one owner has all keys, all of it stays or goes.
    fn retain_asks(&self, asks: &mut Asks, of: &dyn Fn(usize, u32) -> bool);

    /// Takes what [`View::dump`] has given of a part and of a shard that it keeps nothing of yet. The error says what does not
    /// fit.
    fn load(&mut self, part: usize, image: Self::Image) -> Result<(), String>;
}
