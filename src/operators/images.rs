//! What is kept, as it is written down and loaded: one image per view and shard.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use timely::worker::Worker;

use super::dumper::{Dates, Turns, dumped_of};
use super::{Copied, Renewal, TRANSACTIONS_IMAGE};
use crate::flow::{EVERY_SHARD, Epoch, Facts, worker_of};

/// What one view keeps of one shard at the end of an epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardImage {
    /// The view.
    pub view: String,
    /// The shard, or [`EVERY_SHARD`].
    pub shard: u32,
    /// The epoch.
    pub epoch: Epoch,
    /// Its content (bincode).
    pub bytes: Vec<u8>,
    /// Whether this is not what was kept but what an epoch asked of it later.
    pub asked: bool,
}

/// An image on its way: some are made on the thread that writes them down.
pub struct GivenImage {
    image: ShardImage,
    later: Option<Box<dyn FnOnce() -> Vec<u8> + Send>>,
}

impl fmt::Debug for GivenImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GivenImage")
            .field("view", &self.image.view)
            .field("shard", &self.image.shard)
            .finish_non_exhaustive()
    }
}

impl GivenImage {
    /// The image, made if it was not yet.
    pub fn made(self) -> ShardImage {
        match self.later {
            Some(make) => ShardImage { bytes: make(), ..self.image },
            None => self.image,
        }
    }
}

/// What all workers have kept at the end of an epoch.
#[derive(Clone, Debug)]
pub struct Image {
    facts: Facts,
    /// What lies between the engine that wrote it and the one that loads it, if they are not alike.
    renewal: Option<Renewal>,
    /// What was built anew comes first.
    parts: BTreeMap<(String, u32), Vec<Written>>,
    /// What epochs asked of a view after some of it was dumped.
    asked: BTreeMap<String, BTreeMap<Epoch, Vec<Vec<u8>>>>,
}

/// What one worker has written down of one shard.
#[derive(Clone, Debug)]
struct Written {
    bytes: Vec<u8>,
    /// Whether an engine of the earlier plan has written it.
    earlier: bool,
}

impl Image {
    /// Of the images of all shards at the end of an epoch, whichever workers they come from.
    pub fn of(facts: Facts, shards: impl IntoIterator<Item = ShardImage>) -> Self {
        let mut parts: BTreeMap<_, Vec<Written>> = BTreeMap::new();
        let mut later: BTreeMap<_, BTreeMap<_, Vec<_>>> = BTreeMap::new();
        for ShardImage { view, shard, epoch, bytes, asked } in shards {
            match asked {
                true => later.entry(view).or_default().entry(epoch).or_default().push(bytes),
                false => parts.entry((view, shard)).or_default().push(Written { bytes, earlier: false }),
            }
        }
        Image { facts, renewal: None, parts, asked: later }
    }

    /// This image, of an engine of an earlier plan, with parts in the place of its own that one of the later plan has built anew:
    /// those that the plans do not share. Of transactions both are taken, the new ones first. Parts that the later plan has not are
    /// left out; what no plan has, as what was said, stays.
    pub fn renewed(self, renewal: Renewal, anew: Option<Image>) -> Self {
        let Renewal { earlier, plan } = &renewal;
        let is_new = plan.new_parts(earlier);
        let mut parts: BTreeMap<_, Vec<Written>> = BTreeMap::new();
        for ((name, shard), written) in anew.into_iter().flat_map(|anew| anew.parts) {
            if is_new.contains(&*name) {
                parts.entry((name, shard)).or_default().extend(written);
            }
        }
        for ((name, shard), written) in self.parts {
            let shared = plan.parts.contains_key(&name) && !is_new.contains(&*name);
            if shared || name == TRANSACTIONS_IMAGE || !earlier.parts.contains_key(&name) {
                let written = written.into_iter().map(|written| Written { earlier: true, ..written });
                parts.entry((name, shard)).or_default().extend(written);
            }
        }
        Image { facts: self.facts, renewal: Some(renewal), parts, asked: self.asked }
    }

    /// Whether it was taken piece by piece, with what was asked meanwhile.
    pub fn is_gradual(&self) -> bool {
        !self.asked.is_empty()
    }

    /// Whether anything is filed under a name that ends like this.
    pub fn has_any(&self, ending: &str) -> bool {
        self.parts.keys().any(|(name, _)| name.ends_with(ending))
    }

    /// The facts of the epoch at whose end this was kept.
    pub fn facts(&self) -> Facts {
        self.facts
    }

    /// Bytes of all shards, by view.
    pub fn bytes(&self) -> BTreeMap<&str, usize> {
        let mut bytes = BTreeMap::new();
        for ((view, _), parts) in &self.parts {
            *bytes.entry(&**view).or_default() += parts.iter().map(|written| written.bytes.len()).sum::<usize>();
        }
        bytes
    }
}

/// Where one worker's images come from and go to.
#[derive(Clone)]
pub struct Images {
    from: Rc<RefCell<Option<Arc<Image>>>>,
    /// The facts of the epoch that what is loaded ends with.
    facts: Option<Facts>,
    to: Rc<RefCell<dyn FnMut(GivenImage)>>,
    /// Operators of this worker that dump, and how many have dumped an epoch.
    dumping: Rc<RefCell<(usize, BTreeMap<Epoch, usize>)>>,
    turns: Rc<Turns>,
    bytes_put: Rc<Cell<usize>>,
    /// The parts of the views that were built.
    parts: Rc<RefCell<BTreeMap<String, u64>>>,
    here: usize,
    peers: usize,
}

impl fmt::Debug for Images {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Images").field("here", &self.here).field("peers", &self.peers).finish_non_exhaustive()
    }
}

impl Images {
    /// Of worker `here` of `peers`: what is loaded, if anything, and who takes what is dumped.
    pub fn new(from: Option<Arc<Image>>, to: impl FnMut(GivenImage) + 'static, here: usize, peers: usize) -> Self {
        let facts = from.as_ref().map(|image| image.facts);
        let (from, to) = (Rc::new(RefCell::new(from)), Rc::new(RefCell::new(to)));
        let (dumping, turns, bytes_put) = Default::default();
        Images { from, facts, to, dumping, turns, bytes_put, parts: Rc::default(), here, peers }
    }

    /// Of this worker: nothing is loaded, and what is dumped is not taken.
    pub fn none(worker: &Worker) -> Self {
        Images::new(None, |_| {}, worker.index(), worker.peers())
    }

    /// The facts of the epoch that what was loaded ends with.
    pub fn facts(&self) -> Option<Facts> {
        self.facts
    }

    /// Whether what is loaded was dumped piece by piece.
    pub fn is_gradual(&self) -> bool {
        self.from.borrow().as_ref().is_some_and(|image| image.is_gradual())
    }

    /// The first epoch that is not in what was loaded.
    pub fn start(&self) -> Epoch {
        self.facts.map_or(0, |facts| facts.epoch + 1)
    }

    /// The parts of the views that were built, with their fingerprints.
    pub fn parts(&self) -> BTreeMap<String, u64> {
        self.parts.borrow().clone()
    }

    /// A part of a view that is built.
    pub fn declare(&self, part: &str, fingerprint: u64) {
        self.parts.borrow_mut().insert(part.to_owned(), fingerprint);
    }

    /// Everything is loaded: what it was loaded from is not needed any more.
    pub fn release(&self) {
        self.from.borrow_mut().take();
    }

    /// Loads what there is of a view, of this worker's shards.
    ///
    /// # Errors
    /// If an image is not one of this view.
    pub fn load<I: DeserializeOwned>(
        &self,
        view: &str,
        mut load: impl FnMut(I) -> Result<(), String>,
    ) -> Result<(), String> {
        self.load_from(view, |image, _| load(image))
    }

    /// The same, where it matters which engine has written an image: if it was one of another plan, what lies between them.
    ///
    /// # Errors
    /// If an image is not one of this view.
    pub fn load_from<I: DeserializeOwned>(
        &self,
        view: &str,
        mut load: impl FnMut(I, Option<&Renewal>) -> Result<(), String>,
    ) -> Result<(), String> {
        let Some(image) = self.from.borrow().clone() else { return Ok(()) };
        let of_view = (view.to_owned(), 0)..=(view.to_owned(), EVERY_SHARD);
        for ((_, shard), parts) in image.parts.range(of_view) {
            if *shard != EVERY_SHARD && worker_of(*shard, self.peers) != self.here {
                continue;
            }
            for written in parts {
                let part = bincode::deserialize(&written.bytes);
                let part =
                    part.map_err(|error| format!("the image of {view}, shard {shard}, cannot be read: {error}"))?;
                load(part, image.renewal.as_ref().filter(|_| written.earlier))?;
            }
        }
        Ok(())
    }

    /// What was asked of a view after some of it was dumped, epoch by epoch, in order; `fresh` says of a part, by its number, and a
    /// shard whether its image has not seen the epoch, and it is this worker's. Nothing if all was dumped at once.
    ///
    /// # Errors
    /// If it is not of this view.
    pub fn replay_asked<A: DeserializeOwned>(
        &self,
        view: &str,
        mut replay: impl FnMut(Vec<A>, &dyn Fn(usize, u32) -> bool) -> Result<(), String>,
    ) -> Result<(), String> {
        let Some(image) = self.from.borrow().clone() else { return Ok(()) };
        let Some(asked) = image.asked.get(view) else { return Ok(()) };
        let mut dates: BTreeMap<(u32, u32), Epoch> = BTreeMap::new();
        self.load(&dumped_of(view), |of_worker: Dates| {
            dates.extend(of_worker.0);
            Ok(())
        })?;
        for (&epoch, of_workers) in asked {
            let parse = |bytes: &Vec<u8>| bincode::deserialize(bytes);
            let all = of_workers.iter().map(parse).collect::<Result<Vec<A>, _>>();
            let all = all.map_err(|error| format!("what epoch {epoch} asked of {view} cannot be read: {error}"))?;
            let fresh = |part: usize, shard: u32| {
                let mine = shard == EVERY_SHARD || worker_of(shard, self.peers) == self.here;
                mine && dates.get(&(part as u32, shard)).is_some_and(|dumped| epoch > *dumped)
            };
            replay(all, &fresh)?;
        }
        Ok(())
    }

    /// Gives away what a view keeps of a shard.
    pub fn put(&self, view: &str, shard: u32, epoch: Epoch, image: &impl Serialize) {
        // Writing to a vector cannot fail, and images are plain data.
        let Ok(bytes) = bincode::serialize(image) else { return };
        self.give(ShardImage { view: view.to_owned(), shard, epoch, bytes, asked: false });
    }

    /// Gives away what an epoch asks of a view.
    pub(super) fn put_asked(&self, view: &str, epoch: Epoch, asked: &impl Serialize) {
        let Ok(bytes) = bincode::serialize(asked) else { return };
        self.give(ShardImage { view: view.to_owned(), shard: EVERY_SHARD, epoch, bytes, asked: true });
    }

    fn give(&self, image: ShardImage) {
        if !image.asked {
            self.bytes_put.set(self.bytes_put.get() + image.bytes.len());
        }
        (self.to.borrow_mut())(GivenImage { image, later: None });
    }

    /// Gives away what a view has copied of a shard.
    pub fn put_copy<I: Serialize + 'static>(&self, view: &str, shard: u32, epoch: Epoch, copied: Copied<I>) {
        let image = ShardImage { view: view.to_owned(), shard, epoch, bytes: Vec::new(), asked: false };
        // Writing to a vector cannot fail, and images are plain data.
        let later = Box::new(move || bincode::serialize(&copied()).unwrap_or_default());
        (self.to.borrow_mut())(GivenImage { image, later: Some(later) });
    }

    /// Bytes of what was kept that were given away so far.
    pub fn bytes_put(&self) -> usize {
        self.bytes_put.get()
    }

    /// Lets the next operator of this worker that waits for it dump so many bytes, or one shard of one part if that is more. Says
    /// whether there is one.
    pub fn grant(&self, bytes: usize) -> bool {
        self.turns.grant(bytes)
    }

    pub(super) fn turns(&self) -> &Turns {
        &self.turns
    }

    /// One more operator that dumps; returns its number.
    pub(super) fn register(&self) -> usize {
        let mut dumping = self.dumping.borrow_mut();
        dumping.0 += 1;
        dumping.0
    }

    /// One operator has dumped all that an epoch says.
    pub(super) fn note_dumped(&self, epoch: Epoch) {
        *self.dumping.borrow_mut().1.entry(epoch).or_default() += 1;
    }

    /// Whether all operators of this worker have dumped an epoch; where a dump begins, whether all pieces were dumped.
    pub fn is_whole(&self, epoch: Epoch) -> bool {
        let dumping = self.dumping.borrow();
        dumping.1.get(&epoch).copied().unwrap_or(0) == dumping.0
    }

    /// This worker's shards among some; the first worker has those that all have.
    pub(super) fn mine(&self, shards: impl Iterator<Item = u32>) -> impl Iterator<Item = u32> {
        let (here, peers) = (self.here, self.peers);
        shards.filter(move |&shard| match shard {
            EVERY_SHARD => here == 0,
            _ => worker_of(shard, peers) == here,
        })
    }
}
