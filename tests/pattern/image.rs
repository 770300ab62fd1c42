//! What is kept of patterns, dumped and loaded anywhere, goes on as if nothing had happened.
//!
//! One side is never disturbed. At a random epoch its keys go, through their images as bytes, to the views of one, two and
//! four workers; from there on every outcome of an epoch must be the same on all sides. Later each side moves once more,
//! to another number of workers.

use std::collections::BTreeSet;
use std::sync::Arc;

use deltawatch::event::{Event, Op, Schema};
use deltawatch::flow::Place;
use deltawatch::generator::{Generator, GeneratorConfig};
use deltawatch::views::pattern::Patterns;
use deltawatch::views::pattern::compile::PatternPlan;
use deltawatch::views::pattern::machine::image::KeyImage;
use deltawatch::views::velocity::Velocity;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::feed::Feed;
use super::flow::Letters;
use super::sides::{Damage, Seen, Side};
use super::{features, random};

const HOUR_MS: i64 = 3_600_000;

/// What images held, and what came of it.
#[derive(Debug, Default)]
pub struct Told {
    keys: usize,
    runs: usize,
    matches: usize,
    silent: usize,
    pub cycles: usize,
    came: usize,
    went: usize,
    touched: usize,
}

impl Told {
    pub fn images(&mut self, keys: &[KeyImage]) {
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
    /// What is done to images on their way.
    damage: Option<Damage>,
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
                others = [1, 2, 4].map(|workers| undisturbed.moved(self.plan(), workers, told, self.damage)).into();
                if self.damage.is_none() {
                    others.iter().for_each(|side| assert_eq!(side.kept(), undisturbed.kept(), "nothing is lost"));
                }
            } else if moves == 1 && at >= second {
                moves += 1;
                others = others
                    .iter()
                    .zip([4, 1, 2])
                    .map(|(side, to)| side.moved(self.plan(), to, told, self.damage))
                    .collect();
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

/// Random patterns over random records; every third seed looks at velocity features.
fn seeded(seed: u64, letters: &mut Letters, damage: Option<Damage>, told: &mut Told) -> Result<(), String> {
    let mut random = StdRng::seed_from_u64(seed);
    let looks = seed % 3 == 2;
    let text = if looks { features::patterns(&mut random, 3) } else { random::patterns(&mut random, 4) };
    let text = text + CYCLE;
    let patterns = Patterns::parse(&text).unwrap_or_else(|error| panic!("seed {seed}: {error}\n{text}"));
    let velocities = if looks { features::velocities() } else { Vec::new() };
    let schema = Arc::new(letters.schema.clone());
    let records = days(letters, &mut random);
    let run = Run { patterns: &patterns, velocities: &velocities, schema: &schema, kept_ms: 60_000, batch: 6, damage };
    run.compare(&records, &mut random, told).map_err(|says| format!("seed {seed}: {says}\n{text}"))
}

#[test]
fn what_an_image_lacks_is_missed() {
    let damages: [(&str, Damage); 7] = [
        ("runs", |key| key.automata.iter_mut().for_each(|image| image.kept.runs.clear())),
        ("matches", |key| key.automata.iter_mut().for_each(|image| image.kept.matches.clear())),
        ("what has only begun or is skipped", |key| {
            for kept in key.automata.iter_mut().map(|image| &mut image.kept) {
                let held = std::mem::take(kept);
                (kept.runs, kept.matches) = (held.runs, held.matches);
            }
        }),
        ("what is announced", |key| {
            let matches = key.automata.iter_mut().flat_map(|image| &mut image.kept.matches);
            matches.for_each(|held| held.announced = true);
        }),
        ("what the history says", |key| key.log.entries.iter_mut().for_each(|entry| entry.mask = entry.raw)),
        ("how far it has come", |key| key.reached = Place::default()),
        ("which events have rows", |key| key.log.entries.iter_mut().for_each(|entry| entry.scored = false)),
    ];
    let mut letters = Letters::new();
    for (what, damage) in damages {
        let missed = |seed| seeded(seed, &mut letters, Some(damage), &mut Told::default()).is_err();
        assert!((0..SEEDS).any(missed), "{what}: nothing tells that it is missing");
    }
}

#[test]
fn random_patterns_go_on_wherever_their_keys_are_loaded() {
    let mut letters = Letters::new();
    let times = if std::env::var_os("DELTAWATCH_FULL").is_some() { FULL } else { 1 };
    let (mut told, mut featured) = (Told::default(), Told::default());
    for seed in 0..times * SEEDS {
        let of = if seed % 3 == 2 { &mut featured } else { &mut told };
        seeded(seed, &mut letters, None, of).unwrap_or_else(|says| panic!("{says}"));
    }
    eprintln!("{told:?}, over features {featured:?}");
    for Told { keys, runs, matches, silent, cycles, came, went, touched } in [told, featured] {
        for (what, count) in [("keys", keys), ("runs", runs), ("matches", matches), ("cycles", cycles)] {
            assert!(count > SEEDS as usize, "only {count} {what} in images");
        }
        for (what, count) in [("came", came), ("went", went), ("touched", touched)] {
            assert!(count > SEEDS as usize, "only {count} {what} after loading");
        }
        assert!(silent > 20, "only {silent} matches wait for the watermark");
    }
}

#[test]
fn shipped_patterns_go_on_wherever_their_keys_are_loaded() {
    let patterns = Patterns::parse(include_str!("../../dataflows/patterns.toml")).expect("a file of patterns");
    let text = include_str!("../../dataflows/payments.toml");
    let schema = Arc::new(Schema::parse("payments", text).expect("the schema is valid"));
    let config = GeneratorConfig { customers: 40, merchants: 8, ..GeneratorConfig::default() };
    let generator = Generator::new(config, schema.clone()).expect("a valid configuration");
    let mut random = StdRng::seed_from_u64(1);
    let mut records: Vec<Event> = Vec::new();
    for record in generator.take(12_000) {
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
    let run =
        Run { patterns: &patterns, velocities: &[], schema: &schema, kept_ms: 6 * HOUR_MS, batch: 40, damage: None };
    let mut told = Told::default();
    run.compare(&records, &mut random, &mut told).unwrap_or_else(|says| panic!("{says}"));
    eprintln!("{told:?}");
    assert!(told.keys > 1_000 && told.runs > 100 && told.matches > 100, "{told:?}");
    assert!(told.came > 100 && told.went > 0 && told.touched > 0, "{told:?}");
}
