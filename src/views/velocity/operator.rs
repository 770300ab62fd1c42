//! Owners of keys: requests in, feature slices out, touched transactions back.
//!
//! For each closed epoch, per key kind:
//!
//! 1. put the requests in (event time, id) order, which they nearly always are in;
//! 2. apply them to the key's log; if the epoch only adds entries, read each at once, as the entries after it come later
//!    and cannot count;
//! 3. else read what is to be read afterwards: a read is as of the event's place in the log, so it does not matter what
//!    has been added behind it;
//! 4. mark what every entry that is not the last of its key has touched, walk the marks as far as the epoch's budget goes
//!    and send the ids of the touched transactions around; the rest stays for the next epoch, unless it would then be too old
//!    to be read;
//! 5. expire, in proportion to what came in.

use std::sync::Arc;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use super::store::{Entry, Store};
use crate::event::Id;
use crate::flow::{Ask, Beyond, Block, Cause, Epoch, EpochFacts, HEAD, NO_TICKET, Replies, Request, Touched};
use crate::metrics::Metrics;
use crate::operators::Epochs;
use crate::operators::backlog::{Backlog, LAST, Stretch};
use crate::views::velocity::KeyPlan;

/// What the operator is built with.
#[derive(Clone, Debug)]
pub struct KeyedSettings {
    /// Entries are kept for the longest window and this, milliseconds: how late an event may be, and how long the rows
    /// after it are then revised.
    pub kept_ms: i64,
    /// A key that was silent for longer begins anew in features over all time, milliseconds.
    pub forget_ms: i64,
}

/// Slices of feature rows, and what was touched.
pub struct Keyed<'scope> {
    /// Rows of `[ticket, feature, ...]` per key kind, addressed to the worker that asked.
    pub slices: Stream<'scope, Epoch, Vec<Block>>,
    /// Transactions to be read again.
    pub touched: Stream<'scope, Epoch, Vec<Touched>>,
    /// Changes that touched rows too old to be revised.
    pub beyond: Stream<'scope, Epoch, Vec<Beyond>>,
}

/// Builds the operator.
pub fn keyed<'scope>(
    requests: Stream<'scope, Epoch, Vec<Block>>,
    plans: Arc<[Arc<KeyPlan>]>,
    settings: KeyedSettings,
    facts: EpochFacts,
    metrics: Arc<Metrics>,
) -> Keyed<'scope> {
    let scope = requests.scope();
    let (here, peers) = (scope.worker().index() as u32, scope.worker().peers());
    let mut builder = OperatorBuilder::new("Keyed".to_owned(), scope);
    let mut requests = builder.new_input(requests, Exchange::new(|block: &Block| u64::from(block.to)));
    let (slices_out, slices) = builder.new_output();
    let (touched_out, touched) = builder.new_output();
    let (beyond_out, beyond) = builder.new_output();
    let mut slices_out = OutputBuilder::<_, CapacityContainerBuilder<Vec<Block>>>::from(slices_out);
    let mut touched_out = OutputBuilder::<_, CapacityContainerBuilder<Vec<Touched>>>::from(touched_out);
    let mut beyond_out = OutputBuilder::<_, CapacityContainerBuilder<Vec<Beyond>>>::from(beyond_out);

    builder.build(move |_| {
        let mut epochs: Epochs<Vec<Block>> = Epochs::new(3);
        let mut keys = Keys::new(plans, settings, metrics, here, peers);
        move |frontiers| {
            requests.for_each(|capability, data| {
                if let Some(epoch) = epochs.of(&capability) {
                    epoch.append(data);
                }
            });
            while let Some((epoch, capabilities, mut blocks)) = epochs.next_complete(frontiers) {
                blocks.sort_by_key(|block| (block.plan, block.from));
                let mut effects = keys.apply(epoch, &facts, &blocks);
                if !effects.slices.is_empty() {
                    slices_out.activate().session(&capabilities[0]).give_container(&mut effects.slices);
                }
                if !effects.touched.is_empty() {
                    touched_out.activate().session(&capabilities[1]).give_container(&mut effects.touched);
                }
                if !effects.beyond.is_empty() {
                    beyond_out.activate().session(&capabilities[2]).give_container(&mut effects.beyond);
                }
                if keys.owes {
                    epochs.keep_open(epoch + 1, capabilities.iter().map(|hold| hold.delayed(&(epoch + 1))).collect());
                }
            }
        }
    });
    Keyed { slices, touched, beyond }
}

#[derive(Default)]
struct Effects {
    slices: Vec<Block>,
    touched: Vec<Touched>,
    beyond: Vec<Beyond>,
}

/// The stores of one worker, one per key kind.
struct Keys {
    stores: Vec<(Arc<KeyPlan>, Store)>,
    settings: KeyedSettings,
    backlog: Backlog,
    /// Whether another epoch must come for rows to be read again.
    owes: bool,
    metrics: Arc<Metrics>,
    here: u32,
    peers: usize,
    amounts: Vec<i64>,
    epochs_since_report: u32,
}

/// Gauges cost a walk over the stores' shards, so they are not set in every epoch.
const EPOCHS_PER_REPORT: u32 = 256;

/// Rows whose keys are looked up ahead: few enough that what they touch stays in the first-level cache.
const ROWS_AHEAD: usize = 16;

/// Expiry visits at least this many keys per epoch and kind, so that an idle engine goes on expiring.
const EXPIRE_KEYS_MIN: usize = 16;

impl Keys {
    fn new(
        plans: Arc<[Arc<KeyPlan>]>,
        settings: KeyedSettings,
        metrics: Arc<Metrics>,
        here: u32,
        peers: usize,
    ) -> Self {
        let store = |plan: &Arc<KeyPlan>| Store::new(plan.clone()).forgetting_after(settings.forget_ms);
        let stores = plans.iter().map(|plan| (plan.clone(), store(plan))).collect();
        Keys {
            stores,
            settings,
            backlog: Backlog::default(),
            owes: false,
            metrics,
            here,
            peers,
            amounts: Vec::new(),
            epochs_since_report: 0,
        }
    }

    fn apply(&mut self, epoch: Epoch, facts: &EpochFacts, blocks: &[Block]) -> Effects {
        let (watermark, reached) = (facts.before(epoch), facts.at(epoch));
        let mut effects = Effects::default();
        for of_plan in blocks.chunk_by(|a, b| a.plan == b.plan) {
            self.apply_plan(watermark, of_plan[0].plan, of_plan, &mut effects);
        }
        let stores = &self.stores;
        // What is sent in the next epoch must not lie before `reached` less what is kept: it goes now, whatever the budget is.
        let readable_from = reached.saturating_sub(self.settings.kept_ms);
        self.backlog.hasten(readable_from, |plan, key, Stretch { after, until_ms, cause }| {
            let mut visit = |_, id| effects.touched.push(Touched { id, cause });
            stores[plan as usize].1.visit_scored(key, after, until_ms, usize::MAX, &mut visit);
        });
        self.backlog.repair(epoch, facts.repair(epoch), |plan, key, stretch, limit| {
            let before = effects.touched.len();
            let mut visit = |_, id| effects.touched.push(Touched { id, cause: stretch.cause });
            let store = &stores[plan as usize].1;
            let stopped = store.visit_scored(key, stretch.after, stretch.until_ms, limit, &mut visit);
            (effects.touched.len() - before, stopped)
        });
        // Rows that were just touched are read in the next epoch, which must come even if no event does.
        self.owes = !(self.backlog.is_empty() && effects.touched.is_empty());
        self.metrics.backlog.set_own(self.backlog.len().max(usize::from(self.owes)) as u64);
        self.expire(watermark, blocks);
        effects
    }

    fn apply_plan(&mut self, watermark: i64, plan: u16, blocks: &[Block], effects: &mut Effects) {
        let (key_plan, store) = &mut self.stores[plan as usize];
        let stride = HEAD + key_plan.amounts.len() + key_plan.values.len();
        let mut rows: Vec<(&[u64], u32)> =
            blocks.iter().flat_map(|block| block.words.chunks_exact(stride).map(|row| (row, block.from))).collect();
        let place = |row: &(&[u64], u32)| (row.0[3] as i64, row.0[4], row.0[5]);
        if !rows.is_sorted_by_key(place) {
            rows.sort_by_key(place);
        }
        // In this order a row is read as soon as its turn comes: what comes after it does not count in it.
        let mut replies = Replies::new(plan, self.here, self.peers, key_plan.features.len(), rows.len());
        let mut marks = Vec::new();
        let amounts = key_plan.amounts.len();
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
        effects.slices.extend(replies.blocks());
        for (request, cause) in marks {
            effects.beyond.extend(self.mark(watermark, plan, request, cause));
        }
    }

    /// Marks the rows that a change at `request`'s place has touched, as far as they are still revised. Returns a record
    /// for the side output if some of them are not.
    fn mark(&mut self, watermark: i64, plan: u16, request: Request<'_>, cause: Cause) -> Option<Beyond> {
        self.metrics.late.add((cause == Cause::LateEvent) as u64);
        let key_plan = &self.stores[plan as usize].0;
        let time = request.time;
        let first = match request.ask {
            Ask::Label => key_plan.label_touches_from(time, request.known_at)?,
            _ => time.saturating_add(key_plan.lag_ms_min),
        };
        let mut after = match request.ask {
            // A label may change its own event's row, where that counts itself.
            _ if first > time => (first - 1, LAST),
            Ask::Label | Ask::Relabel => (first - 1, LAST),
            _ => (first, request.id),
        };
        let all_time = key_plan.features.iter().any(|feature| feature.window_ms.is_none());
        let reach = if all_time { i64::MAX } else { time.saturating_add(key_plan.window_ms_max) };
        // No row of the key lies beyond its last entry.
        let until_ms = reach.min(self.stores[plan as usize].1.last_time(request.key).unwrap_or(i64::MIN));
        let revised_from = watermark.saturating_sub(key_plan.revise_ms);
        let mut beyond = None;
        if after.0 < revised_from {
            beyond = self.beyond(plan, &request, cause, after, until_ms.min(revised_from - 1));
            after = (revised_from - 1, LAST);
        }
        if after.0 <= until_ms {
            self.backlog.mark(plan, request.key, Stretch { after, until_ms, cause });
        }
        beyond
    }

    /// The record of a change that touched rows which are not revised any more; `None` if there is no such row.
    fn beyond(
        &self,
        plan: u16,
        request: &Request<'_>,
        cause: Cause,
        after: (i64, Id),
        until_ms: i64,
    ) -> Option<Beyond> {
        let (key_plan, store) = &self.stores[plan as usize];
        let mut touched = None;
        store.visit_scored(request.key, after, until_ms, 1, &mut |time, _| touched = Some(time));
        let (id, time_ms, what) = (request.id, request.time, format!("features of key '{}'", key_plan.name));
        touched.map(|from_ms| Beyond { id, what, cause, time_ms, from_ms, until_ms })
    }

    fn expire(&mut self, watermark: i64, blocks: &[Block]) {
        let mut rows = vec![0; self.stores.len()];
        for block in blocks {
            rows[block.plan as usize] += block.words.len() / HEAD;
        }
        for ((plan, store), rows) in self.stores.iter_mut().zip(rows) {
            let kept_ms = plan.window_ms_max.saturating_add(self.settings.kept_ms);
            store.expire(watermark.saturating_sub(kept_ms), EXPIRE_KEYS_MIN + 2 * rows);
        }
        self.epochs_since_report += 1;
        if self.epochs_since_report >= EPOCHS_PER_REPORT {
            self.report();
        }
    }

    fn report(&mut self) {
        self.epochs_since_report = 0;
        let stats: Vec<_> = self.stores.iter().map(|(_, store)| store.stats()).collect();
        self.metrics.retained_entries.set_own(stats.iter().map(|s| s.entries as u64).sum());
        self.metrics.retained_keys.set_own(stats.iter().map(|s| s.keys as u64).sum());
        self.metrics.retained_bytes.set_own(stats.iter().map(|s| s.bytes as u64).sum());
        for ((plan, _), stats) in self.stores.iter().zip(&stats) {
            self.metrics.retained_bytes_by_key.set_own(&plan.name, stats.bytes as u64);
        }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        // The last figures are the ones that the summary shows.
        self.report();
    }
}
