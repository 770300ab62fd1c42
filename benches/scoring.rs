//! Open loop: how long scores of `payments` take with clusters and without, while links come and go.
//!
//! Logins make links of a device each, withdrawn later; payments of the same accounts are scored between them. A tick of
//! [`TICK`] brings [`PER_TICK`] new links, as many withdrawn ones and as many payments.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use deltawatch::arrange::change::Cause;
use deltawatch::dataflow::{BuildError, Dataflow, Setup};
use deltawatch::event::{Event, EventBuilder, Id, Op, Schema};
use deltawatch::feature::FeatureSet;
use deltawatch::pipeline::{self, EngineSettings, Ports};
use deltawatch::runtime::metrics::Metrics;
use deltawatch::score::assessment::ScoredDiff;
use hdrhistogram::Histogram;

use crate::dataflows::payments::clusters;
use crate::drive::setup;
use crate::latency::Feed;
use crate::pack::scorer;

const PER_TICK: usize = 100;
const TICK: Duration = Duration::from_millis(20);
const PHASE: Duration = Duration::from_secs(20);
const MERCHANTS: u64 = 2_000;

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
    /// Devices at their cap, which one account more takes above it and back.
    Cap,
    /// A component of 300,000 values whose bridges come and go.
    Bridges,
}

/// Scores without and with clusters, for each way in which links come and go.
pub fn scoring(share: f64) {
    for (name, scenario) in [
        ("a million links in small clusters", Scenario::Small),
        ("devices around their cap of 50", Scenario::Cap),
        ("bridges of 300,000 strongly linked values", Scenario::Bridges),
    ] {
        println!("scores of payments, {name}, {PER_TICK} links added and withdrawn per {} ms", TICK.as_millis());
        let without = run(&Beside { clusters: false }, scenario, share);
        let with = run(&Beside { clusters: true }, scenario, share);
        println!("    p99 with clusters {:.2} x that without (target 1.2)", with / without);
    }
}

/// Runs a scenario; returns the scores' p99, milliseconds.
fn run(dataflow: &'static Beside, scenario: Scenario, share: f64) -> f64 {
    let (setup, phase) = (setup(dataflow), PHASE.mul_f64(share.max(0.02)));
    let ticks = (phase.as_secs_f64() / TICK.as_secs_f64()) as usize;
    let (events, preloaded) = Script::new(&setup.schema).events(scenario, share, ticks);
    let columns = dataflow.features(&setup).expect("its features are valid").columns();
    let settings = EngineSettings { scorer: Some(scorer("payments@1", &columns)), ..EngineSettings::default() };
    timely::execute_directly(move |worker| {
        let start = Instant::now();
        let latencies: Rc<RefCell<Option<Histogram<u64>>>> = Rc::default();
        let measured = latencies.clone();
        let scored = Box::new(move |batches: Vec<ScoredDiff>| {
            if let Some(histogram) = measured.borrow_mut().as_mut() {
                let now_ns = start.elapsed().as_nanos() as u64;
                let fresh = batches.iter().filter(|diff| diff.cause == Cause::Arrival && diff.diff > 0);
                fresh.for_each(|diff| histogram.saturating_record(now_ns.saturating_sub(diff.arrived_ns)));
            }
            true
        });
        let ports =
            Ports { scored: Some(scored), rejects: Some(Box::new(|_| true)), features: None, collections: None };
        let metrics = Arc::new(Metrics::default());
        let engine = pipeline::build(worker, dataflow, &setup, &settings, ports, &metrics).expect("it builds");
        let mut feed = Feed::new(engine, events, start);
        feed.warm_up(worker, preloaded);
        *latencies.borrow_mut() = Some(Histogram::new_with_max(60_000_000_000, 3).expect("a valid range"));
        feed.open_loop(worker, 3.0 * PER_TICK as f64 / TICK.as_secs_f64(), phase);
        let histogram = latencies.borrow_mut().take().expect("it was put there");
        let Feed { engine, .. } = feed;
        let probe = engine.finish();
        while !probe.done() {
            worker.step();
        }
        let [p50, p99, p999, max] =
            [0.5, 0.99, 0.999, 1.0].map(|share| histogram.value_at_quantile(share) as f64 / 1e6);
        let (what, links) = (if dataflow.clusters { "with clusters" } else { "without" }, metrics.identity_links.get());
        println!(
            "    {what:<14} p50 {p50:>6.3}   p99 {p99:>6.3}   p99.9 {p999:>6.3}   max {max:>7.3} ms   {} scores, {links} links",
            histogram.len()
        );
        p99
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
    fn events(mut self, scenario: Scenario, share: f64, ticks: usize) -> (Vec<Event>, usize) {
        let many = |count: f64| (count * share) as u64;
        let accounts = match scenario {
            Scenario::Small => many(333_333.0),
            Scenario::Cap => many(2_000.0) * 45,
            Scenario::Bridges => many(150_000.0),
        };
        let half = accounts / 2;
        match scenario {
            Scenario::Small => (0..3 * accounts).for_each(|_| {
                let link = self.near(accounts);
                self.login(link);
            }),
            Scenario::Cap => (0..accounts / 45).for_each(|hub| (0..50).for_each(|at| self.login((hub * 45 + at, hub)))),
            Scenario::Bridges => [0, half].into_iter().for_each(|base| {
                for at in 1..half {
                    self.login((base + at, base + at));
                    let to = self.random(at);
                    self.login((base + to, base + at));
                }
            }),
        }
        let preloaded = self.events.len();
        let mut oldest = 0;
        for tick in 0..ticks {
            for number in 0..PER_TICK as u64 {
                let link = match scenario {
                    Scenario::Small => self.near(accounts),
                    Scenario::Cap => (2 * accounts + number, self.random(accounts / 45)),
                    Scenario::Bridges => (self.random(half), half + 1 + self.random(half - 1)),
                };
                // Many links: the oldest goes. Else the one that came in the tick before.
                let goes = match scenario {
                    Scenario::Small => Some(oldest),
                    _ => (tick > 0).then(|| preloaded + oldest - 3 * PER_TICK),
                };
                let gone = goes.map(|at| self.events[at].clone());
                self.login(link);
                if let Some(mut gone) = gone {
                    gone.op = Op::Withdraw;
                    self.events.push(gone);
                } else {
                    self.payment(accounts);
                }
                self.payment(accounts);
                oldest += if matches!(scenario, Scenario::Small) { 1 } else { 3 };
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
