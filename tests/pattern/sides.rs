//! The views of patterns on so many workers, driven an epoch at a time in the way of the operators.

use std::collections::BTreeMap;
use std::sync::Arc;

use deltawatch::event::{Id, Key, Schema};
use deltawatch::flow::{Block, Outgoing, Place, Replies, SHARDS, owner_of};
use deltawatch::views::pattern::compile::PatternPlan;
use deltawatch::views::pattern::cycles::cut as cycle_cut;
use deltawatch::views::pattern::cycles::image::CycleImage;
use deltawatch::views::pattern::cycles::view::CycleView;
use deltawatch::views::pattern::machine::evaluate::{Texts, Whole};
use deltawatch::views::pattern::machine::image::{GroupImage, KeyImage};
use deltawatch::views::pattern::machine::view::{GroupView, requests};
use deltawatch::views::pattern::outcome::{PatternOutcome, TouchedStretch};
use deltawatch::views::pattern::{Match, cut};
use differential_dataflow::consolidation::consolidate;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::feed::Epoch;
use super::image::Told;

/// What an epoch has led to in one group, over all workers.
#[derive(Debug, Default, PartialEq)]
pub struct Seen {
    pub matches: Vec<(Match, isize)>,
    /// By key, in the order in which they were told.
    pub touched: Vec<TouchedStretch>,
    /// The rows that those are about.
    pub rows: Vec<(i64, Id)>,
    /// Answers by ticket, as bits.
    slices: BTreeMap<u64, Vec<u64>>,
}

impl Seen {
    fn add(&mut self, outcome: PatternOutcome, replies: Replies, width: usize) {
        self.matches.extend(outcome.matches);
        self.touched.extend(outcome.touched);
        for block in replies.blocks() {
            for slice in block.words.chunks_exact(1 + width) {
                let twice = self.slices.insert(slice[0], slice[1..].to_vec());
                assert_eq!(twice, None, "one answer for a ticket");
            }
        }
    }

    fn finish<I: Iterator<Item = Place>>(&mut self, since_ms: i64, scored_after: impl Fn(Key, Place) -> I) {
        consolidate(&mut self.matches);
        self.touched.sort_by_key(|touched| touched.key);
        for touched in &self.touched {
            let from = touched.from.0.max(since_ms) - 1;
            let rows = scored_after(touched.key, (from, Id { hi: u64::MAX, lo: u64::MAX }));
            self.rows.extend(rows.take_while(|(time, _)| *time <= touched.until_ms));
        }
    }
}

/// The views of so many workers.
pub struct Side {
    plan: PatternPlan,
    schema: Arc<Schema>,
    kept_ms: i64,
    /// By group, then by worker.
    groups: Vec<Vec<GroupView>>,
    cycles: Vec<CycleView>,
}

/// What is done to the image of a key.
pub type Damage = fn(&mut KeyImage);

/// As bytes and back.
fn carried<T: Serialize + DeserializeOwned>(image: &T) -> T {
    bincode::deserialize(&bincode::serialize(image).expect("an image is plain")).expect("it is whole")
}

impl Side {
    pub fn new(plan: PatternPlan, schema: &Arc<Schema>, kept_ms: i64, workers: usize) -> Self {
        let of_group = |group: &Arc<_>| (0..workers).map(|_| GroupView::new(Arc::clone(group))).collect();
        let groups = plan.groups.iter().map(of_group).collect();
        let cycles = plan.cycles.iter().map(|cycle| CycleView::new(cycle.clone())).collect();
        Side { groups, cycles, plan, schema: schema.clone(), kept_ms }
    }

    pub fn workers(&self) -> usize {
        self.groups.first().map_or(1, Vec::len)
    }

    /// What is kept, on so many workers and under a plan that was made anew; perhaps damaged on its way.
    pub fn moved(&self, plan: PatternPlan, workers: usize, told: &mut Told, damage: Option<Damage>) -> Side {
        let mut to = Side::new(plan, &self.schema, self.kept_ms, workers);
        for (number, views) in to.groups.iter_mut().enumerate() {
            for (worker, view) in views.iter_mut().enumerate() {
                let mine = |key: Key| owner_of(key.route(), workers) == worker;
                let mut loaded = GroupImage::default();
                // In two parts, so that some keys are there when others come.
                for from in &self.groups[number] {
                    for part in [0, 1] {
                        let mut image = dumped(from, |key| mine(key) && key.lo % 2 == part);
                        assert!(image.keys.is_sorted_by_key(|image| image.key));
                        told.images(&image.keys);
                        damage.iter().for_each(|damage| image.keys.iter_mut().for_each(damage));
                        view.load(carried(&image));
                        loaded.keys.extend(image.keys);
                    }
                }
                loaded.keys.sort_by_key(|image| image.key);
                let again = dumped(view, |_| true);
                assert_eq!(again, loaded, "an image of an image is the same");
                let bytes = |image: &GroupImage| bincode::serialize(image).expect("an image is plain");
                assert_eq!(bytes(&again), bytes(&loaded));
            }
        }
        for (from, to) in self.cycles.iter().zip(&mut to.cycles) {
            let image: CycleImage = carried(&from.dump());
            told.cycles += image.cycles.len();
            to.load(image.clone());
            assert_eq!((to.dump(), to.len()), (image, from.len()));
        }
        to
    }

    /// Keys, entries, runs and matches of each group.
    pub fn kept(&self) -> Vec<[usize; 4]> {
        let of_view = |view: &GroupView| {
            let stats = view.stats();
            [stats.keys, stats.entries, stats.runs, stats.matches]
        };
        let add = |sum: [usize; 4], of: [usize; 4]| std::array::from_fn(|at| sum[at] + of[at]);
        self.groups.iter().map(|views| views.iter().map(of_view).fold([0; 4], add)).collect()
    }

    /// Does an epoch in the way of the operators.
    pub fn epoch(&mut self, epoch: &Epoch) -> Vec<Seen> {
        let blocks = self.cut(epoch);
        let bound = epoch.watermarks.0.saturating_sub(self.kept_ms);
        let mut all = Vec::new();
        for (number, views) in self.groups.iter_mut().enumerate() {
            let (mut seen, width) = (Seen::default(), 2 * self.plan.groups[number].programs.len());
            for (worker, view) in views.iter_mut().enumerate() {
                let mine = |block: &&Block| (block.plan as usize, block.to as usize) == (number, worker);
                let asked: Vec<_> = blocks.iter().filter(mine).flat_map(requests).map(|request| (request, 0)).collect();
                let mut replies = Replies::new(0, 0, 1, width, 0);
                let outcome = view.apply(epoch.watermarks.1, &asked, &mut replies);
                view.expire(bound, 16 + 2 * asked.len());
                seen.add(outcome, replies, width);
            }
            seen.finish(bound, |key, after| views[owner_of(key.route(), views.len())].scored_after(key, after));
            all.push(seen);
        }
        let texts = Texts::new(&self.schema);
        for (view, plan) in self.cycles.iter_mut().zip(&self.plan.cycles) {
            let mut block = Block::default();
            for change in &epoch.changes {
                cycle_cut::request(change, plan, &self.schema, &texts, &mut block.words);
            }
            let asked: Vec<_> = cycle_cut::requests(&block).map(|request| (request, 0)).collect();
            let (mut seen, mut replies) = (Seen::default(), Replies::new(0, 0, 1, 2, 0));
            let outcome = view.apply(&asked, &mut replies);
            seen.add(outcome, replies, 2);
            seen.finish(bound, |key, after| view.scored_after(key, after));
            view.expire(bound, 16 + 2 * asked.len());
            all.push(seen);
        }
        all
    }

    fn cut(&self, epoch: &Epoch) -> Vec<Block> {
        let mut outgoing = Outgoing::new(0, self.workers(), self.plan.groups.len());
        let (texts, mut columns) = (Texts::new(&self.schema), Vec::new());
        for change in &epoch.changes {
            let features = epoch.features.get(change.ticket as usize).map_or(&[][..], |row| row);
            let whole = Whole::new(&change.event, &self.schema, &texts).with_features(features);
            for (number, group) in self.plan.groups.iter().enumerate() {
                cut::requests(change, &whole, group, &self.schema, &mut columns, |request| {
                    outgoing.push(number, &request);
                });
            }
        }
        outgoing.take().collect()
    }

    /// What is left once nothing reaches it any more.
    pub fn left(&mut self, watermark: i64) -> usize {
        let views = self.groups.iter_mut().flatten();
        let keys = views.map(|view| {
            view.expire(watermark, 100_000);
            view.expire(watermark, 100_000);
            view.stats().keys
        });
        let keys: usize = keys.sum();
        self.cycles.iter_mut().for_each(|view| view.expire(watermark, 100_000));
        keys + self.cycles.iter().map(|view| view.len().0 + view.len().1).sum::<usize>()
    }
}

/// What a view keeps of some keys, shard by shard.
fn dumped(view: &GroupView, of: impl Fn(Key) -> bool) -> GroupImage {
    let mut keys: Vec<_> = (0..SHARDS).flat_map(|shard| view.dump(shard).keys).filter(|image| of(image.key)).collect();
    keys.sort_by_key(|image| image.key);
    GroupImage { keys }
}
