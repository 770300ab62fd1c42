//! What is kept of patterns, dumped and loaded anywhere, goes on as if nothing had happened.
//!
//! One side is never disturbed. At a random epoch its keys go, through their images as bytes, to the views of one, two and
//! four workers; from there on every outcome of an epoch must be the same on all sides. Later each side moves once more,
//! to another number of workers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use deltawatch::event::{Event, Id, Key, Op, Schema};
use deltawatch::flow::Place;
use deltawatch::flow::{Block, Cause, Change, NO_TICKET, Outgoing, Replies, Verb};
use deltawatch::generator::{Generator, GeneratorConfig};
use deltawatch::views::pattern::compile::PatternPlan;
use deltawatch::views::pattern::cycles::cut as cycle_cut;
use deltawatch::views::pattern::cycles::image::CycleImage;
use deltawatch::views::pattern::cycles::view::CycleView;
use deltawatch::views::pattern::machine::evaluate::{Texts, Whole};
use deltawatch::views::pattern::machine::image::{GroupImage, KeyImage};
use deltawatch::views::pattern::machine::view::{GroupView, requests};
use deltawatch::views::pattern::outcome::{PatternOutcome, TouchedStretch};
use deltawatch::views::pattern::{Match, Patterns, cut};
use deltawatch::views::velocity::Velocity;
use differential_dataflow::consolidation::consolidate;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::flow::Letters;
use super::{features, random};

const HOUR_MS: i64 = 3_600_000;

/// What an epoch must do.
struct Epoch {
    /// The latest event time before it, and with it, milliseconds.
    watermarks: (i64, i64),
    changes: Vec<Change>,
    /// Velocity features of each ticket.
    features: Vec<Vec<f64>>,
}

/// Gives records to epochs, as the operator that keeps events by id does.
struct Feed {
    schema: Arc<Schema>,
    /// How late an event may be, and how far back rows are read again, milliseconds.
    kept_ms: i64,
    /// Features of a row.
    width: usize,
    held: BTreeMap<Id, Arc<Event>>,
    watermark: i64,
}

impl Feed {
    fn new(schema: &Arc<Schema>, kept_ms: i64, width: usize) -> Self {
        Feed { schema: schema.clone(), kept_ms, width, held: BTreeMap::new(), watermark: i64::MIN }
    }

    /// An epoch with these records, in which the rows of these events are read again, with features of their own choice.
    fn epoch(&mut self, records: &[Event], again: &BTreeSet<Id>, random: &mut StdRng) -> Epoch {
        let bound = self.watermark.saturating_sub(self.kept_ms);
        let before = self.held.clone();
        let mut changed: Vec<(Id, Op)> = Vec::new();
        for record in records {
            let known = self.held.get(&record.id);
            if record.time < bound || known.is_some_and(|known| known.time < bound) {
                continue;
            }
            match (record.op, known) {
                (Op::Withdraw, Some(_)) => drop(self.held.remove(&record.id)),
                (Op::Correct, Some(_)) | (Op::Insert, None) => {
                    self.held.insert(record.id, Arc::new(record.clone()));
                }
                _ => continue,
            }
            changed.retain(|(id, _)| *id != record.id);
            changed.push((record.id, record.op));
        }
        let mut changes = Vec::new();
        for (id, op) in &changed {
            let cause = match op {
                Op::Correct => Cause::Correction,
                Op::Withdraw => Cause::Withdrawal,
                _ => Cause::Arrival,
            };
            let here = self.held.get(id).map(|event| (event, Verb::Insert));
            let gone = before.get(id).map(|event| (event, Verb::Remove));
            changes.extend(gone.into_iter().chain(here).map(|(event, verb)| change(event, verb, cause)));
        }
        for event in again.iter().filter_map(|id| self.held.get(id)) {
            let free = changed.iter().all(|(id, _)| *id != event.id);
            if free && event.time >= bound && self.schema.is_scored(event.kind) {
                changes.push(change(event, Verb::Read, Cause::LateEvent));
            }
        }
        let mut features = Vec::new();
        for change in &mut changes {
            if change.verb != Verb::Remove && self.schema.is_scored(change.event.kind) {
                change.ticket = features.len() as u32;
                let mut value = || [0.0, 1.0, 2.0, 3.0, 6.0, 100.0, f64::NAN][random.random_range(0..7)];
                features.push((0..self.width).map(|_| value()).collect());
            }
        }
        let latest = self.held.values().map(|event| event.time - 1_000).max().unwrap_or(self.watermark);
        self.pass(latest, changes, features)
    }

    /// An epoch in which event time comes so far.
    fn pass(&mut self, latest: i64, changes: Vec<Change>, features: Vec<Vec<f64>>) -> Epoch {
        let before = self.watermark;
        self.watermark = before.max(latest);
        Epoch { watermarks: (before, self.watermark), changes, features }
    }

    /// A few events whose rows may be read again.
    fn some(&self, random: &mut StdRng) -> BTreeSet<Id> {
        let recent: Vec<Id> = self.held.values().rev().take(200).map(|event| event.id).collect();
        (0..random.random_range(0..3))
            .filter_map(|_| recent.get(random.random_range(0..recent.len().max(1))))
            .copied()
            .collect()
    }
}

fn change(event: &Arc<Event>, verb: Verb, cause: Cause) -> Change {
    Change {
        number: 0,
        event: event.clone(),
        label: None,
        verb,
        ticket: NO_TICKET,
        row_revision: 0,
        cause,
        arrived_ns: 0,
    }
}

/// What an epoch has led to in one group, over all workers.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    matches: Vec<(Match, isize)>,
    /// By key, in the order in which they were told.
    touched: Vec<TouchedStretch>,
    /// The rows that those are about.
    rows: Vec<(i64, Id)>,
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

    fn finish(&mut self, since_ms: i64, visit: impl Fn(Key, Place, i64, &mut dyn FnMut(i64, Id))) {
        consolidate(&mut self.matches);
        self.touched.sort_by_key(|touched| touched.key);
        for touched in &self.touched {
            let from = touched.from.0.max(since_ms) - 1;
            visit(touched.key, (from, Id { hi: u64::MAX, lo: u64::MAX }), touched.until_ms, &mut |time, id| {
                self.rows.push((time, id));
            });
        }
    }
}

/// The views of so many workers.
struct Side {
    plan: PatternPlan,
    schema: Arc<Schema>,
    kept_ms: i64,
    /// By group, then by worker.
    groups: Vec<Vec<GroupView>>,
    cycles: Vec<CycleView>,
}

/// As bytes and back.
fn carried<T: Serialize + DeserializeOwned>(image: &T) -> T {
    bincode::deserialize(&bincode::serialize(image).expect("an image is plain")).expect("it is whole")
}

impl Side {
    fn new(plan: PatternPlan, schema: &Arc<Schema>, kept_ms: i64, workers: usize) -> Self {
        let of_group = |group: &Arc<_>| (0..workers).map(|_| GroupView::new(Arc::clone(group))).collect();
        let groups = plan.groups.iter().map(of_group).collect();
        let cycles = plan.cycles.iter().map(|cycle| CycleView::new(cycle.clone())).collect();
        Side { groups, cycles, plan, schema: schema.clone(), kept_ms }
    }

    fn workers(&self) -> usize {
        self.groups.first().map_or(1, Vec::len)
    }

    /// What is kept, on so many workers and under a plan that was made anew.
    fn moved(&self, plan: PatternPlan, workers: usize, told: &mut Told) -> Side {
        let mut to = Side::new(plan, &self.schema, self.kept_ms, workers);
        for (number, views) in to.groups.iter_mut().enumerate() {
            for (worker, view) in views.iter_mut().enumerate() {
                let mine = |key: Key| key.route() % workers as u64 == worker as u64;
                let mut loaded = GroupImage::default();
                // In two parts, so that some keys are there when others come.
                for from in &self.groups[number] {
                    for part in [0, 1] {
                        let image = from.dump(|key| mine(key) && key.lo % 2 == part);
                        assert!(image.keys.is_sorted_by_key(|image| image.key));
                        told.images(&image.keys);
                        loaded.keys.extend(carried(&image).keys);
                        view.load(carried(&image));
                    }
                }
                loaded.keys.sort_by_key(|image| image.key);
                let again = view.dump(|_| true);
                assert_eq!(again, loaded, "an image of an image is the same");
                let bytes = |image: &GroupImage| bincode::serialize(image).expect("an image is plain");
                assert_eq!(bytes(&again), bytes(&loaded));
            }
            let count = |views: &[GroupView]| {
                let stats = views.iter().map(GroupView::stats);
                stats.fold((0, 0, 0, 0), |sum, of| {
                    (sum.0 + of.keys, sum.1 + of.entries, sum.2 + of.runs, sum.3 + of.matches)
                })
            };
            assert_eq!(count(views), count(&self.groups[number]), "nothing is lost");
        }
        for (from, to) in self.cycles.iter().zip(&mut to.cycles) {
            let image: CycleImage = carried(&from.dump());
            told.cycles += image.cycles.len();
            to.load(image.clone());
            assert_eq!((to.dump(), to.len()), (image, from.len()));
        }
        to
    }

    /// Does an epoch in the way of the operators.
    fn epoch(&mut self, epoch: &Epoch) -> Vec<Seen> {
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
            seen.finish(bound, |key, after, until_ms, visit| {
                let view = &views[(key.route() % views.len() as u64) as usize];
                assert_eq!(view.visit_scored(key, after, until_ms, usize::MAX, visit), None);
            });
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
            seen.finish(bound, |key, after, until_ms, visit| {
                assert_eq!(view.visit_scored(key, after, until_ms, usize::MAX, visit), None);
            });
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
    fn left(&mut self, watermark: i64) -> usize {
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

/// What the images held, and what came of it.
#[derive(Debug, Default)]
struct Told {
    keys: usize,
    runs: usize,
    matches: usize,
    silent: usize,
    cycles: usize,
    came: usize,
    went: usize,
    touched: usize,
}

impl Told {
    fn images(&mut self, keys: &[KeyImage]) {
        self.keys += keys.len();
        for kept in keys.iter().flat_map(|key| &key.automata).map(|image| &image.kept) {
            self.runs += kept.runs.len();
            self.matches += kept.matches.len();
            self.silent += kept.matches.iter().filter(|held| !held.announced).count();
        }
    }

    fn outcome(&mut self, seen: &[Seen]) {
        for seen in seen {
            self.came += seen.matches.iter().filter(|(_, diff)| *diff > 0).count();
            self.went += seen.matches.iter().filter(|(_, diff)| *diff < 0).count();
            self.touched += seen.touched.len();
        }
    }
}

/// Patterns over records, moved in between.
struct Run<'a> {
    patterns: &'a Patterns,
    velocities: &'a [Velocity],
    schema: &'a Arc<Schema>,
    kept_ms: i64,
    /// Records of an epoch at most.
    batch: usize,
}

impl Run<'_> {
    fn plan(&self) -> PatternPlan {
        self.patterns.resolve_beside(self.schema, self.velocities).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The error says where the sides part.
    fn compare(&self, records: &[Event], random: &mut StdRng, told: &mut Told) -> Result<(), String> {
        let plan = self.plan();
        assert_eq!(plan, self.plan(), "a plan is a function of what is written");
        let mut feed = Feed::new(self.schema, self.kept_ms, plan.features.len());
        let mut undisturbed = Side::new(plan, self.schema, self.kept_ms, 1);
        let mut others: Vec<Side> = Vec::new();
        let (first, second) =
            (random.random_range(0..records.len() / 2), random.random_range(records.len() / 2..records.len()));
        let (mut at, mut moves) = (0, 0);
        let mut again = BTreeSet::new();
        // Once all has come, time goes on for absences.
        let mut idle = [1_000, 2_000, 5_000, 20_000, 60_000, 40 * HOUR_MS].into_iter();
        loop {
            if moves == 0 && at >= first {
                moves += 1;
                others = [1, 2, 4].map(|workers| undisturbed.moved(self.plan(), workers, told)).into();
            } else if moves == 1 && at >= second {
                moves += 1;
                others = others.iter().zip([4, 1, 2]).map(|(side, to)| side.moved(self.plan(), to, told)).collect();
            }
            let epoch = if at < records.len() {
                let until = records.len().min(at + random.random_range(1..=self.batch));
                again.append(&mut feed.some(random));
                let epoch = feed.epoch(&records[at..until], &again, random);
                at = until;
                epoch
            } else {
                let Some(on) = idle.next() else { break };
                feed.pass(feed.watermark + on, Vec::new(), Vec::new())
            };
            let wanted = undisturbed.epoch(&epoch);
            for side in &mut others {
                let seen = side.epoch(&epoch);
                if let Some((wanted, seen)) = wanted.iter().zip(&seen).find(|(wanted, seen)| wanted != seen) {
                    return Err(format!(
                        "epoch with record {at} of {} on {} workers:\n{seen:?}\nnot\n{wanted:?}",
                        records.len(),
                        side.workers()
                    ));
                }
            }
            if moves > 0 {
                told.outcome(&wanted);
            }
            again = wanted.iter().flat_map(|seen| &seen.rows).map(|(_, id)| *id).collect();
        }
        let end = feed.watermark + 400 * 24 * HOUR_MS;
        let left: Vec<usize> = others.iter_mut().chain([&mut undisturbed]).map(|side| side.left(end)).collect();
        if left == [0; 4] { Ok(()) } else { Err(format!("{left:?} are left in the end")) }
    }
}

const CYCLE: &str = "
[[pattern]]
name = 'cycle'
within = '30s'
cycle = { event = 'transfer', from = 'account', to = 'payee', amount = 'amount', hops = [2, 4], share = [0.2, 5.0] }
[pattern.events.transfer]
kind = ['p', 'r']
";

/// Seeds; `DELTAWATCH_FULL=1` takes so many times as many.
const SEEDS: u64 = 60;
const FULL: u64 = 40;

/// Random records of some days, of which the first expire.
fn days(letters: &mut Letters, random: &mut StdRng) -> Vec<Event> {
    let mut all = Vec::new();
    for day in 0..3i64 {
        for mut record in random::records(letters, random, 60) {
            record.time += day * 30 * HOUR_MS;
            record.id.lo += 1_000 * day as u64;
            all.push(record);
        }
    }
    all
}

#[test]
fn random_patterns_go_on_wherever_their_keys_are_loaded() {
    let mut letters = Letters::new();
    let schema = Arc::new(letters.schema.clone());
    let times = if std::env::var_os("DELTAWATCH_FULL").is_some() { FULL } else { 1 };
    let (mut told, mut featured) = (Told::default(), Told::default());
    for seed in 0..times * SEEDS {
        let mut random = StdRng::seed_from_u64(seed);
        let looks = seed % 3 == 2;
        let text = if looks { features::patterns(&mut random, 3) } else { random::patterns(&mut random, 4) };
        let text = text + CYCLE;
        let patterns = Patterns::parse(&text).unwrap_or_else(|error| panic!("seed {seed}: {error}\n{text}"));
        let velocities = if looks { features::velocities() } else { Vec::new() };
        let records = days(&mut letters, &mut random);
        let run = Run { patterns: &patterns, velocities: &velocities, schema: &schema, kept_ms: 60_000, batch: 6 };
        let of = if looks { &mut featured } else { &mut told };
        run.compare(&records, &mut random, of).unwrap_or_else(|says| panic!("seed {seed}: {says}\n{text}"));
    }
    eprintln!("{told:?}, over features {featured:?}");
    for told in [&told, &featured] {
        let Told { keys, runs, matches, silent, cycles, came, went, touched } = *told;
        for (what, count) in [("keys", keys), ("runs", runs), ("matches", matches), ("cycles", cycles)] {
            assert!(count > SEEDS as usize, "only {count} {what} in images");
        }
        for (what, count) in [("came", came), ("went", went), ("touched", touched)] {
            assert!(count > SEEDS as usize, "only {count} {what} after loading");
        }
        // Patterns over features have no absences.
        assert!(silent > 20 || std::ptr::eq(told, &featured), "only {silent} matches wait for the watermark");
    }
}

#[test]
fn shipped_patterns_go_on_wherever_their_keys_are_loaded() {
    let patterns = Patterns::parse(include_str!("../../dataflows/patterns.toml")).expect("a file of patterns");
    let text = include_str!("../../dataflows/payments.toml");
    let schema = Arc::new(Schema::parse("payments", text).expect("the schema is valid"));
    let config = GeneratorConfig { customers: 60, merchants: 12, ..GeneratorConfig::default() };
    let generator = Generator::new(config, schema.clone()).expect("a valid configuration");
    let mut random = StdRng::seed_from_u64(1);
    let mut records: Vec<Event> = Vec::new();
    for record in generator.take(4_000) {
        if let (0..2, Some(back)) = (random.random_range(0..40), records.len().checked_sub(random.random_range(1..300)))
        {
            let mut gone = records[back].clone();
            gone.op = Op::Withdraw;
            records.push(gone);
        }
        records.push(record.event);
    }
    // Some come late.
    for at in (0..records.len()).step_by(17) {
        let to = (at + random.random_range(1..400)).min(records.len() - 1);
        let late = records.remove(at);
        records.insert(to, late);
    }
    let run = Run { patterns: &patterns, velocities: &[], schema: &schema, kept_ms: 6 * HOUR_MS, batch: 40 };
    let mut told = Told::default();
    run.compare(&records, &mut random, &mut told).unwrap_or_else(|says| panic!("{says}"));
    eprintln!("{told:?}");
    assert!(told.keys > 1_000 && told.runs > 100 && told.came > 100, "{told:?}");
}
