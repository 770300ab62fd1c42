//! Open loop: how long scores of `payments` take with clusters and without, while links come and go.
//!
//! Logins make links of a device each, withdrawn later; payments of the same accounts are scored between them. A tick of
//! [`TICK`] brings [`PER_TICK`] payments, and as many new links and withdrawn ones (fewer in one scenario).

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cpu_time::ProcessTime;
use deltawatch::dataflow::{BuildError, Dataflow, Setup};
use deltawatch::event::{EventBuilder, Id, Op, Schema};
use deltawatch::feature::FeatureSet;
use hdrhistogram::Histogram;

use crate::dataflows::payments::clusters;
use crate::drive::{Cause, EngineSettings, Event, Feed, Metrics, ScoredDiff, engine, setup, unread};
use crate::latency::open_loop;
use crate::pack::scorer;

const PER_TICK: usize = 100;
const TICK: Duration = Duration::from_millis(20);
/// Ticks that are run at full speed first, to see how much there is to spare.
const FULL_SPEED_SHARE: f64 = 0.2;
const PHASE: Duration = Duration::from_secs(8);
/// Runs without and with clusters in turns; the figures are the medians.
const ROUNDS: usize = 3;
const MERCHANTS: u64 = 2_000;
/// As `--reserve-memory` does: state grows during each run, and first touches of pages are not what is compared here.
const RESERVED_BYTES: f64 = 6e9;

/// `payments` as of the event, without or with its clusters.
struct Beside {
    clusters: bool,
}

impl Dataflow for Beside {
    fn name(&self) -> &'static str {
        "payments"
    }

    fn about(&self) -> &'static str {
        "payments with clusters or without"
    }

    fn schema(&self) -> &'static str {
        crate::dataflow("payments").schema()
    }

    fn features(&self, setup: &Setup) -> Result<FeatureSet, BuildError> {
        let features = crate::dataflow("payments").features(setup)?.as_of_event();
        Ok(if self.clusters { features.family(clusters()) } else { features })
    }
}

/// How links come and go.
#[derive(Clone, Copy)]
enum Scenario {
    /// A million links in clusters of about 30.
    Small,
    /// Devices at their cap, which one account more takes above it and back: in clusters of their own.
    Cap,
    /// The same in a single chain: each device shares five accounts with the next.
    Chain,
    /// A component of 300,000 values whose bridges come and go.
    Bridges,
}

/// Scores without and with clusters, for each way in which links come and go.
pub fn scoring(share: f64) {
    deltawatch::runtime::memory::reserve((RESERVED_BYTES * share) as usize).expect("so much memory");
    for (name, scenario, links) in [
        ("a million links in small clusters", Scenario::Small, PER_TICK),
        ("devices around their cap of 50", Scenario::Cap, PER_TICK),
        ("devices around their cap of 50 in a chain of 90,000 accounts", Scenario::Chain, PER_TICK / 5),
        ("devices around their cap of 50 in a chain of 90,000 accounts", Scenario::Chain, PER_TICK),
        ("bridges of 300,000 strongly linked values", Scenario::Bridges, PER_TICK),
    ] {
        println!("{PER_TICK} payments scored, {links} links added and withdrawn per {} ms: {name}", TICK.as_millis());
        let mut runs = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            for (dataflow, runs) in [&WITHOUT, &WITH].into_iter().zip(&mut runs) {
                runs.push(run(dataflow, scenario, links, share));
            }
        }
        let [without, with] = runs.map(medians);
        let [p50, p99, p999] = [0, 1, 2].map(|at| with[at] / without[at]);
        println!(
            "    medians: p50 {:.3} -> {:.3} ({p50:.2} x)   p99 {:.3} -> {:.3} ({p99:.2} x, target 1.2)   p99.9 {:.3} -> {:.3} ({p999:.2} x)",
            without[0], with[0], without[1], with[1], without[2], with[2]
        );
    }
}

static WITHOUT: Beside = Beside { clusters: false };
static WITH: Beside = Beside { clusters: true };

/// Of each quantile.
fn medians(runs: Vec<[f64; 3]>) -> [f64; 3] {
    [0, 1, 2].map(|at| {
        let mut of: Vec<f64> = runs.iter().map(|run| run[at]).collect();
        of.sort_by(f64::total_cmp);
        of[of.len() / 2]
    })
}

/// Runs a scenario; returns the scores' p50, p99 and p99.9, milliseconds.
fn run(dataflow: &'static Beside, scenario: Scenario, links_per_tick: usize, share: f64) -> [f64; 3] {
    let (setup, phase) = (setup(dataflow), PHASE.mul_f64(share.max(0.02)));
    let ticks = (phase.as_secs_f64() / TICK.as_secs_f64() / (1.0 - FULL_SPEED_SHARE)) as usize;
    let rate_per_s = (PER_TICK + 2 * links_per_tick) as f64 / TICK.as_secs_f64();
    let (events, preloaded) = Script::new(&setup.schema).events(scenario, links_per_tick, share, ticks);
    let events_count = events.len();
    let columns = dataflow.features(&setup).expect("its features are valid").columns();
    let settings =
        EngineSettings { deployments: Some(scorer("payments@1", &columns).into()), ..EngineSettings::default() };
    timely::execute_directly(move |worker| {
        let start = Instant::now();
        let latencies: Rc<RefCell<Option<Histogram<u64>>>> = Rc::default();
        let measured = latencies.clone();
        let scored = Box::new(move |batches: Option<(u64, Vec<ScoredDiff>)>| {
            let batches = batches.map_or_else(Vec::new, |(_, batches)| batches);
            if let Some(histogram) = measured.borrow_mut().as_mut() {
                let now_ns = start.elapsed().as_nanos() as u64;
                let fresh = batches.iter().filter(|diff| diff.cause == Cause::Arrival && diff.diff > 0);
                fresh.for_each(|diff| histogram.saturating_record(now_ns.saturating_sub(diff.arrived_ns)));
            }
            true
        });
        let metrics = Arc::new(Metrics::default());
        let engine = engine(worker, dataflow, &settings, &metrics, Some(scored), None);
        let mut feed = Feed::new(engine, &settings, unread(events));
        feed.at_full_speed(worker, preloaded);
        let full_speed = (FULL_SPEED_SHARE * (events_count - preloaded) as f64) as usize;
        let cpu = ProcessTime::now();
        feed.at_full_speed(worker, full_speed);
        let us = cpu.elapsed().as_secs_f64() * 1e6 / full_speed.max(1) as f64;
        *latencies.borrow_mut() = Some(Histogram::new_with_max(60_000_000_000, 3).expect("a valid range"));
        open_loop(&mut feed, worker, start, rate_per_s, phase);
        let histogram = latencies.borrow_mut().take().expect("it was put there");
        feed.finish(worker);
        let [p50, p99, p999, max] =
            [0.5, 0.99, 0.999, 1.0].map(|share| histogram.value_at_quantile(share) as f64 / 1e6);
        let (what, links) = (if dataflow.clusters { "with clusters" } else { "without" }, metrics.identity_links.get());
        let busy = rate_per_s * us / 1e4;
        println!(
            "    {what:<14} p50 {p50:>6.3}   p99 {p99:>6.3}   p99.9 {p999:>6.3}   max {max:>7.3} ms   CPU {us:>5.1} us/event: {busy:.0} % of a core   {} scores, {links} links",
            histogram.len()
        );
        [p50, p99, p999]
    })
}

/// Writes events, a millisecond apart.
struct Script<'a> {
    schema: &'a Schema,
    builder: EventBuilder,
    events: Vec<Event>,
    seed: u64,
}

impl<'a> Script<'a> {
    fn new(schema: &'a Schema) -> Self {
        Script { schema, builder: EventBuilder::new(schema), events: Vec::new(), seed: 7 }
    }

    /// The events, and how many of them come before the ticks.
    fn events(mut self, scenario: Scenario, links: usize, share: f64, ticks: usize) -> (Vec<Event>, usize) {
        let many = |count: f64| (count * share) as u64;
        let accounts = match scenario {
            Scenario::Small => many(333_333.0),
            Scenario::Cap => many(2_000.0) * 50,
            Scenario::Chain => many(2_000.0) * 45,
            Scenario::Bridges => many(150_000.0),
        };
        let half = accounts / 2;
        match scenario {
            Scenario::Small => (0..3 * accounts).for_each(|_| {
                let link = self.near(accounts);
                self.login(link);
            }),
            Scenario::Cap => (0..accounts).for_each(|account| self.login((account, account / 50))),
            Scenario::Chain => {
                (0..accounts / 45).for_each(|hub| (0..50).for_each(|at| self.login((hub * 45 + at, hub))))
            }
            Scenario::Bridges => [0, half].into_iter().for_each(|base| {
                for at in 1..half {
                    self.login((base + at, base + at));
                    let to = self.random(at);
                    self.login((base + to, base + at));
                }
            }),
        }
        let preloaded = self.events.len();
        // Many links: the oldest goes. Else the one that came in the tick before.
        let mut logins: VecDeque<usize> = match scenario {
            Scenario::Small => (0..preloaded).collect(),
            _ => VecDeque::new(),
        };
        for tick in 0..ticks {
            for number in 0..PER_TICK {
                self.payment(accounts);
                if number >= links {
                    continue;
                }
                let link = match scenario {
                    Scenario::Small => self.near(accounts),
                    Scenario::Cap => (2 * accounts + number as u64, self.random(accounts / 50)),
                    Scenario::Chain => (2 * accounts + number as u64, self.random(accounts / 45)),
                    Scenario::Bridges => (self.random(half), half + 1 + self.random(half - 1)),
                };
                logins.push_back(self.events.len());
                self.login(link);
                let goes = (tick > 0 || matches!(scenario, Scenario::Small)).then(|| logins.pop_front()).flatten();
                if let Some(mut gone) = goes.map(|at| self.events[at].clone()) {
                    gone.op = Op::Withdraw;
                    self.events.push(gone);
                } else {
                    self.payment(accounts);
                }
            }
        }
        (self.events, preloaded)
    }

    fn random(&mut self, below: u64) -> u64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) % below.max(1)
    }

    /// An account and a device of its dozen.
    fn near(&mut self, accounts: u64) -> (u64, u64) {
        let account = self.random(accounts);
        let device = (account / 12 * 12 + self.random(12)) * 3 / 2 + self.random(2);
        (account, device)
    }

    fn login(&mut self, (account, device): (u64, u64)) {
        self.event("login", &[("account", format!("a-{account}")), ("device", format!("d-{device}"))]);
    }

    fn payment(&mut self, accounts: u64) {
        let (account, merchant) = (self.random(accounts), self.random(MERCHANTS));
        let amount = self.schema.slot("amount").expect("a field");
        let cents = 100 + self.random(20_000) as i64;
        self.builder.set_int(amount, cents);
        let texts = [
            ("account", format!("a-{account}")),
            ("card", format!("c-{account}")),
            ("merchant", format!("m-{merchant}")),
        ];
        self.event("payment", &texts);
    }

    fn event(&mut self, kind: &str, texts: &[(&str, String)]) {
        let (schema, number) = (self.schema, self.events.len());
        let (id, time) = (format!("e-{number}"), 1_700_000_000_000 + number as i64);
        self.builder.set_text(schema.id_slot(), &id);
        self.builder.set_int(schema.time_slot(), time);
        for (field, text) in texts.iter().map(|(field, text)| (*field, text.as_str())).chain([("kind", kind)]) {
            self.builder.set_text(schema.slot(field).expect("a field"), text);
        }
        let kind = schema.kind(kind).expect("a kind");
        self.events.push(self.builder.finish(Id::from_text(&id), time, kind, Op::Insert, schema));
    }
}
