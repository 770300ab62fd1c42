//! The view of event patterns: the groups of one worker, run by [`crate::operators::own`].

use std::sync::Arc;

use super::Match;
use super::compile::plan::Group;
use super::machine::image::GroupImage;
use super::machine::keys::KeyStats;
use super::machine::view::{GroupView, requests, retained};
use super::outcome::TouchedStretch;
use crate::event::Key;
use crate::flow::{Facts, Place, Replies, before, shard_of};
use crate::metrics::Metrics;
use crate::operators::backlog::Stretch;
use crate::operators::{Asks, Mark, Out, Turn, View};

/// Where an owner stands: the first [`crate::flow::Block::plan`] of its slices, its worker, and how many there are.
#[derive(Clone, Copy)]
pub struct Seat {
    /// The plan of its first slices.
    pub index: u16,
    /// This worker.
    pub here: u32,
    /// Workers.
    pub peers: usize,
}

/// The groups of one worker.
pub struct PatternView {
    groups: Vec<GroupView>,
    /// Requests that the epoch has made of each: expiry is in proportion.
    asked: Vec<usize>,
    /// Events are kept for the longest reach of a pattern and this, milliseconds.
    kept_ms: i64,
    seat: Seat,
}

/// Expiry visits at least this many keys per epoch and group, so that an idle engine goes on expiring.
const EXPIRE_KEYS_MIN: usize = 16;

impl PatternView {
    /// Nothing is kept yet. `kept_ms`: how late an event may be, and how long the rows after it are then revised.
    pub fn new(groups: &[Arc<Group>], kept_ms: i64, seat: Seat) -> Self {
        let groups: Vec<GroupView> = groups.iter().cloned().map(GroupView::new).collect();
        PatternView { asked: vec![0; groups.len()], groups, kept_ms, seat }
    }
}

impl View for PatternView {
    type Update = Match;
    type Image = Vec<(String, GroupImage)>;

    fn apply(&mut self, now: &Facts, asks: Asks, out: &mut Out<Match>) -> Turn {
        let Seat { index, here, peers } = self.seat;
        for (number, group) in self.groups.iter_mut().enumerate() {
            let of_group = asks.blocks.iter().filter(|block| usize::from(block.plan) == number);
            let asked = of_group.flat_map(|block| requests(block).map(|request| (request, block.from)));
            let asked: Vec<_> = asked.collect();
            self.asked[number] = asked.len();
            let mut replies = Replies::new(index + number as u16, here, peers, 2 * group.group().programs.len(), 0);
            let mut outcome = group.apply(now.watermark_ms, &asked, &mut replies);
            out.slices.extend(replies.blocks());
            out.updates.append(&mut outcome.matches);
            out.marks.extend(outcome.touched.iter().map(|touched| mark(number as u16, touched)));
        }
        Turn::Done
    }

    fn scored_after(&self, plan: u16, key: Key, after: Place) -> Box<dyn Iterator<Item = Place> + '_> {
        Box::new(self.groups[usize::from(plan)].scored_after(key, after))
    }

    fn revised(&self, plan: u16) -> (i64, String) {
        let group = self.groups[usize::from(plan)].group();
        (group.revise_ms, format!("pattern matches of key '{}'", group.name))
    }

    fn waits(&self) -> bool {
        self.groups.iter().any(GroupView::waits)
    }

    fn pass(&mut self, watermark_ms: i64, updates: &mut Vec<(Match, isize)>) {
        self.groups.iter_mut().for_each(|group| group.pass(watermark_ms, updates));
    }

    fn expire(&mut self, now: &Facts) {
        let bound_ms = now.before_ms.saturating_sub(self.kept_ms);
        for (group, asked) in self.groups.iter_mut().zip(&self.asked) {
            group.expire(bound_ms, EXPIRE_KEYS_MIN + 2 * asked);
        }
    }

    fn report(&self, metrics: &Metrics, whole: bool) {
        let stats = if whole { GroupView::stats } else { GroupView::stats_lately };
        let stats: Vec<KeyStats> = self.groups.iter().map(stats).collect();
        let sum = |of: fn(&KeyStats) -> usize| stats.iter().map(of).sum::<usize>() as u64;
        metrics.pattern_keys.set_own(sum(|stats| stats.keys));
        metrics.pattern_entries.set_own(sum(|stats| stats.entries));
        metrics.pattern_runs.set_own(sum(|stats| stats.runs));
        metrics.pattern_matches.set_own(sum(|stats| stats.matches));
        metrics.pattern_bytes.set_own(sum(|stats| stats.bytes));
    }

    fn dump(&self, _part: usize, shard: u32) -> Option<Self::Image> {
        let groups = self.groups.iter().map(|group| (group.group().name.clone(), group.dump(shard)));
        let groups: Self::Image = groups.filter(|(_, image)| !image.keys.is_empty()).collect();
        (!groups.is_empty()).then_some(groups)
    }

    fn retain_asks(&self, asks: &mut Asks, of: &dyn Fn(usize, u32) -> bool) {
        for block in &mut asks.blocks {
            block.words = retained(block, |key| of(0, shard_of(key.route())));
        }
    }

    fn load(&mut self, _part: usize, images: Self::Image) -> Result<(), String> {
        for (name, image) in images {
            if let Some(group) = self.groups.iter_mut().find(|group| group.group().name == name) {
                group.load(image);
            }
        }
        Ok(())
    }
}

/// The mark of a touched stretch of a group.
pub(super) fn mark(plan: u16, touched: &TouchedStretch) -> Mark {
    let TouchedStretch { key, from, until_ms, cause, id } = *touched;
    Mark { plan, key, stretch: Stretch { after: before(from), until_ms, cause }, id, time_ms: from.0 }
}
