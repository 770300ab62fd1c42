//! The velocity view: the stores of all key kinds, run by [`crate::operators::own`].
//!
//! The requests of a key kind are put in (event time, id) order, which they nearly always are in, and applied to the keys' logs. An
//! entry that is added is read at once, as the entries after it come later and cannot count; any other read is as of the event's
//! place in the log, so it does not matter what has been added behind it. Every entry that is not the last of its key marks the
//! rows behind it.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::KeyPlan;
use super::profiles::{Profile, Profiles, WantedProfiles};
use super::store::{Entry, Store, StoreImage};
use crate::event::Key;
use crate::flow::{Ask, Block, Cause, Facts, HEAD, LAST, NO_TICKET, Place, Replies, Request};
use crate::metrics::Metrics;
use crate::operators::ViewPart;
use crate::operators::backlog::Stretch;
use crate::operators::{Asks, Mark, Out, Turn, View};

/// What the view is built with.
#[derive(Clone, Debug)]
pub struct VelocitySettings {
    /// Entries are kept for the longest window and this, milliseconds: how late an event may be, and how long the rows
    /// after it are then revised.
    pub kept_ms: i64,
    /// A key that was silent for longer begins anew in features over all time, milliseconds.
    pub forget_ms: i64,
}

/// The stores of one worker, one per key kind.
pub struct VelocityView {
    stores: Vec<(Arc<KeyPlan>, Store)>,
    kept_ms: i64,
    metrics: Arc<Metrics>,
    here: u32,
    peers: usize,
    amounts: Vec<i64>,
    /// Rows that the epoch has asked of each key kind: expiry is in proportion.
    asked: Vec<usize>,
    wanted: WantedProfiles,
    profiles: Profiles,
}

/// Rows whose keys are looked up ahead: few enough that what they touch stays in the first-level cache.
const ROWS_AHEAD: usize = 16;

/// Expiry visits at least this many keys per epoch and kind, so that an idle engine goes on expiring.
const EXPIRE_KEYS_MIN: usize = 16;

impl VelocityView {
    /// Nothing yet, of worker `here` of `peers`.
    pub fn new(
        plans: &[Arc<KeyPlan>],
        settings: VelocitySettings,
        wanted: WantedProfiles,
        metrics: Arc<Metrics>,
        (here, peers): (u32, usize),
    ) -> Self {
        let store = |plan: &Arc<KeyPlan>| Store::new(plan.clone()).forgetting_after(settings.forget_ms);
        let stores: Vec<_> = plans.iter().map(|plan| (plan.clone(), store(plan))).collect();
        let asked = vec![0; stores.len()];
        let (kept_ms, amounts, profiles) = (settings.kept_ms, Vec::new(), Profiles::default());
        VelocityView { stores, kept_ms, metrics, here, peers, amounts, asked, wanted, profiles }
    }

    fn apply_plan(&mut self, plan: u16, blocks: &[Block], out: &mut Out<Profile>) {
        let (key_plan, store) = &mut self.stores[plan as usize];
        let stride = HEAD + key_plan.amounts.len() + key_plan.values.len();
        let mut rows: Vec<(&[u64], u32)> =
            blocks.iter().flat_map(|block| block.words.chunks_exact(stride).map(|row| (row, block.from))).collect();
        self.asked[plan as usize] = rows.len();
        let place = |row: &(&[u64], u32)| (row.0[3] as i64, row.0[4], row.0[5]);
        if !rows.is_sorted_by_key(place) {
            rows.sort_by_key(place);
        }
        // In this order a row is read as soon as its turn comes: what comes after it does not count in it.
        let mut replies = Replies::new(plan, self.here, self.peers, key_plan.features.len(), rows.len());
        let amounts = key_plan.amounts.len();
        let mut marks = Vec::new();
        for (index, &(row, from)) in rows.iter().enumerate() {
            if index % ROWS_AHEAD == 0 {
                let next = &rows[index..rows.len().min(index + ROWS_AHEAD)];
                store.look_ahead(next.iter().map(|(row, _)| Request::read(row).key));
            }
            let request = Request::read(row);
            let Request { key, time, id, .. } = request;
            match request.ask {
                Ask::Insert => {
                    self.amounts.clear();
                    self.amounts.extend(request.columns[..amounts].iter().map(|&word| word as i64));
                    let entry = Entry {
                        key,
                        time,
                        id,
                        mask: request.mask,
                        known_at: request.known_at,
                        scored: request.scored,
                        amounts: &self.amounts,
                        values: &request.columns[amounts..],
                    };
                    let last = if request.ticket != NO_TICKET {
                        store.insert_and_read(&entry, replies.row(from, request.ticket))
                    } else {
                        store.insert(&entry)
                    };
                    if !last {
                        let cause = if request.cause == Cause::Arrival { Cause::LateEvent } else { request.cause };
                        marks.push((request, cause));
                    }
                }
                Ask::Remove => {
                    if store.remove(key, time, id) {
                        marks.push((request, request.cause));
                    }
                }
                Ask::Label | Ask::Relabel => {
                    if store.relabel(key, time, id, request.mask, request.known_at) {
                        marks.push((request, request.cause));
                    }
                }
                Ask::Read => store.read(key, time, id, replies.row(from, request.ticket)),
            }
        }
        out.slices.extend(replies.blocks());
        if self.wanted.borrow().contains(&plan) {
            let changes = rows.iter().map(|(row, _)| Request::read(row)).filter(|request| request.ask != Ask::Read);
            let keys: BTreeSet<Key> = changes.map(|request| request.key).collect();
            keys.into_iter().for_each(|key| self.profiles.update(plan, key, store, &mut out.updates));
        }
        for (request, cause) in marks {
            self.metrics.late.add((cause == Cause::LateEvent) as u64);
            out.marks.extend(self.touched(plan, &request, cause));
        }
    }

    /// The rows that a change at `request`'s place has touched, if there may be any.
    fn touched(&self, plan: u16, request: &Request<'_>, cause: Cause) -> Option<Mark> {
        let (key_plan, store) = &self.stores[plan as usize];
        let time = request.time;
        let first = match request.ask {
            Ask::Label => key_plan.label_touches_from(time, request.known_at)?,
            _ => time.saturating_add(key_plan.lag_ms_min),
        };
        let after = match request.ask {
            // A label may change its own event's row, where that counts itself.
            _ if first > time => (first - 1, LAST),
            Ask::Label | Ask::Relabel => (first - 1, LAST),
            _ => (first, request.id),
        };
        let all_time = key_plan.features.iter().any(|feature| feature.window_ms.is_none());
        let reach = if all_time { i64::MAX } else { time.saturating_add(key_plan.window_ms_max) };
        // No row of the key lies beyond its last entry.
        let until_ms = reach.min(store.last_time(request.key).unwrap_or(i64::MIN));
        let stretch = Stretch { after, until_ms, cause };
        Some(Mark { plan, key: request.key, stretch, id: request.id, time_ms: time })
    }
}

impl View for VelocityView {
    type Update = Profile;
    type Image = StoreImage;

    fn apply(&mut self, now: &Facts, asks: Asks, out: &mut Out<Profile>) -> Turn {
        self.asked.fill(0);
        for of_plan in asks.blocks.chunk_by(|a, b| a.plan == b.plan) {
            self.apply_plan(of_plan[0].plan, of_plan, out);
        }
        self.pass(now.watermark_ms, &mut out.updates);
        Turn::Done
    }

    fn scored_after(&self, plan: u16, key: Key, after: Place) -> Box<dyn Iterator<Item = Place> + '_> {
        Box::new(self.stores[plan as usize].1.scored_after(key, after))
    }

    fn revised(&self, plan: u16) -> (i64, String) {
        let plan = &self.stores[plan as usize].0;
        (plan.revise_ms, format!("features of key '{}'", plan.name))
    }

    fn published(&mut self) -> Vec<(Profile, isize)> {
        let mut updates = Vec::new();
        for &plan in self.wanted.clone().borrow().iter() {
            let store = &mut self.stores[plan as usize].1;
            for key in store.keys() {
                self.profiles.update(plan, key, store, &mut updates);
            }
        }
        updates
    }

    fn waits(&self) -> bool {
        !self.profiles.is_empty()
    }

    fn pass(&mut self, watermark_ms: i64, updates: &mut Vec<(Profile, isize)>) {
        if self.profiles.is_empty() {
            return;
        }
        for (number, (plan, _)) in (0..).zip(&self.stores) {
            let kept_ms = plan.window_ms_max.saturating_add(self.kept_ms);
            self.profiles.expire(number, watermark_ms.saturating_sub(kept_ms), updates);
        }
    }

    fn expire(&mut self, now: &Facts) {
        for ((plan, store), asked) in self.stores.iter_mut().zip(&self.asked) {
            let kept_ms = plan.window_ms_max.saturating_add(self.kept_ms);
            store.expire(now.before_ms.saturating_sub(kept_ms), EXPIRE_KEYS_MIN + 2 * asked);
        }
    }

    fn report(&self, metrics: &Metrics, _whole: bool) {
        let stats: Vec<_> = self.stores.iter().map(|(_, store)| store.stats()).collect();
        metrics.retained_entries.set_own(stats.iter().map(|s| s.entries as u64).sum());
        metrics.retained_keys.set_own(stats.iter().map(|s| s.keys as u64).sum());
        metrics.retained_bytes.set_own(stats.iter().map(|s| s.bytes as u64).sum());
        for ((plan, _), stats) in self.stores.iter().zip(&stats) {
            metrics.retained_bytes_by_key.set_own(&plan.name, stats.bytes as u64);
        }
    }

    fn parts(&self) -> Vec<ViewPart> {
        let part =
            |(plan, _): &(Arc<KeyPlan>, Store)| ViewPart { name: plan.name.clone(), fingerprint: plan.fingerprint };
        self.stores.iter().map(part).collect()
    }

    fn dump(&self, part: usize, shard: u32) -> Option<Self::Image> {
        let image = self.stores[part].1.dump(shard);
        (!image.is_empty()).then_some(image)
    }

    fn retain_asks(&self, asks: &mut Asks, of: &dyn Fn(usize, u32) -> bool) {
        for block in &mut asks.blocks {
            let (part, plan) = (usize::from(block.plan), &self.stores[usize::from(block.plan)].0);
            let rows = block.words.chunks_exact(HEAD + plan.amounts.len() + plan.values.len());
            block.words =
                rows.filter(|row| of(part, self.shard_of(Request::read(row).key))).flatten().copied().collect();
        }
    }

    fn load(&mut self, part: usize, image: Self::Image) -> Result<(), String> {
        self.stores[part].1.load(image)
    }
}
