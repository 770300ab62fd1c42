//! Clusters by differential iteration against clusters from scratch: links come, go, expire, cross their caps; on several
//! workers, in other batches, and built anew from what is retained.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use deltawatch::dataflow::{BuildError, Context, Dataflow, Parameters, Setup};
use deltawatch::event::{Event, EventBuilder, Id, Op, Schema};
use deltawatch::testkit::{Batching, Harness, Outcome, Plan};
use deltawatch::views::identity::Identity;
use deltawatch::views::identity::links::{LinkRule, LinkRules};
use deltawatch::views::identity::propagate::{Entity, propagate};
use deltawatch::views::velocity::Window;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::scratch::{Clusters, Seen};

const SCHEMA: &str = r#"
name = "clusters"
field = [
  { name = "id", type = "int", role = "id" },
  { name = "time", type = "time", role = "time" },
  { name = "account", type = "int", role = "entity" },
  { name = "device", type = "int", role = "entity" },
  { name = "card", type = "int", role = "entity" },
]
"#;

const EXPIRY_MS: i64 = 4_000;
const CAP: u32 = 4;

struct Flow {
    rounds_max: usize,
    /// Epochs between two versions; 0 takes the links themselves, epoch by epoch.
    every: u64,
}

impl Dataflow for Flow {
    fn name(&self) -> &'static str {
        "clusters"
    }

    fn about(&self) -> &'static str {
        "clusters as a collection"
    }

    fn schema(&self) -> &'static str {
        SCHEMA
    }

    fn build(&self, context: &mut Context<'_>) -> Result<(), BuildError> {
        let linked = |identity: Identity, field| identity.strong(field, CAP).expires(Window::Millis(EXPIRY_MS));
        let spec = ["device", "card"].into_iter().fold(Identity::of("account"), linked);
        let name = |(kind, key): Entity| format!("{kind}:{}", key.lo);
        if self.every > 0 {
            let clusters = context.propagated_clusters(&spec, self.every)?;
            context.output("clusters", clusters.map(move |(entity, cluster)| (name(entity), name(cluster))));
            return Ok(());
        }
        let clusters = propagate(context.live_links(&spec)?, self.rounds_max);
        context.output("clusters", clusters.clusters.map(move |(entity, cluster)| (name(entity), name(cluster))));
        context.output("unfinished", clusters.unfinished.map(move |entity| (name(entity), 1)));
        Ok(())
    }
}

fn setup() -> Setup {
    let schema = Schema::parse("clusters", SCHEMA).expect("a valid schema");
    Setup { schema: Arc::new(schema), parameters: Parameters::default() }
}

fn event(id: u64, seen: &Seen, op: Op) -> Event {
    let schema = setup().schema;
    let mut builder = EventBuilder::new(&schema);
    builder.set_int(schema.id_slot(), id as i64);
    builder.set_int(schema.time_slot(), seen.time_ms);
    builder.set_int(schema.slot("account").expect("a field"), seen.account as i64);
    for &(kind, value) in &seen.values {
        let field = ["device", "card"][kind as usize - 1];
        builder.set_int(schema.slot(field).expect("a field"), value as i64);
    }
    builder.finish(Id::from_int(id), seen.time_ms, schema.default_kind(), op, &schema)
}

/// Events and withdrawals of some, in the order of their arrival; and what is left in the end.
fn arrivals(seed: u64) -> (Vec<Event>, Vec<Seen>) {
    let mut random = StdRng::seed_from_u64(seed);
    let (mut arrivals, mut left, mut now_ms) = (Vec::new(), BTreeMap::new(), 1_000_000);
    for id in 1..400 {
        now_ms += random.random_range(0..30);
        let values = (1..=2).map(|kind| (kind, random.random_range(0..250))).collect();
        let seen = Seen { time_ms: now_ms, account: random.random_range(0..300), values };
        arrivals.push(event(id, &seen, Op::Insert));
        left.insert(id, seen);
        // The last event stays: it says what time it is.
        if id < 399 && random.random_bool(0.3) {
            let withdrawn = random.random_range(1..=id);
            if let Some(seen) = left.remove(&withdrawn) {
                arrivals.push(event(withdrawn, &seen, Op::Withdraw));
            }
        }
    }
    (arrivals, left.into_values().collect())
}

fn run(arrivals: &[Event], batching: Batching, workers: usize, rounds_max: usize) -> Outcome {
    run_flow(Flow { rounds_max, every: 0 }, arrivals, batching, workers)
}

fn run_flow(flow: Flow, arrivals: &[Event], batching: Batching, workers: usize) -> Outcome {
    let harness = Harness::new(Arc::new(flow), setup()).workers(workers).unscored();
    harness.run(&Plan::of(arrivals, batching)).expect("it runs")
}

/// The members of each cluster in the end.
fn clusters(outcome: &Outcome, name: &str) -> BTreeSet<BTreeSet<String>> {
    let mut of: BTreeMap<(&String, &String), isize> = BTreeMap::new();
    for update in outcome.collections.iter().filter(|update| update.name == name) {
        *of.entry((&update.key, &update.value)).or_default() += update.diff;
    }
    let mut clusters: BTreeMap<&String, BTreeSet<String>> = BTreeMap::new();
    for ((entity, cluster), _) in of.into_iter().filter(|(_, diff)| *diff != 0) {
        clusters.entry(cluster).or_default().insert(entity.clone());
    }
    clusters.into_values().collect()
}

/// Clusters of more than one value, from scratch.
fn from_scratch(left: &[Seen], now_ms: i64) -> BTreeSet<BTreeSet<String>> {
    let rule = LinkRule { strong: true, expiry_ms: EXPIRY_MS, cap: CAP };
    let rules = LinkRules { links: vec![rule; 2], account_cap: u32::MAX };
    let mut clusters: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
    for (value, cluster) in Clusters::at(&rules, left, now_ms, false).all() {
        clusters.entry(*cluster).or_default().insert(format!("{}:{}", value.0, value.1));
    }
    clusters.into_values().filter(|members| members.len() > 1).collect()
}

#[test]
fn equals_clusters_from_scratch() {
    for seed in 0..4 {
        let (arrivals, left) = arrivals(seed);
        let now_ms = arrivals.iter().map(|event| event.time).max().expect("events");
        let expected = from_scratch(&left, now_ms);
        assert!(expected.len() > 5);
        for (batching, workers) in [(Batching::One, 1), (Batching::Fixed(9), 2), (Batching::Random(seed), 4)] {
            let outcome = run(&arrivals, batching, workers, 1_000);
            assert_eq!(clusters(&outcome, "clusters"), expected, "seed {seed}, {batching:?}, {workers} workers");
            assert!(clusters(&outcome, "unfinished").is_empty());
        }
        // On a cadence of its own: fewer versions, the last one the same.
        let outcome = run_flow(Flow { rounds_max: 0, every: 5 }, &arrivals, Batching::Fixed(3), 2);
        assert_eq!(clusters(&outcome, "clusters"), expected, "seed {seed}, every fifth epoch");
        assert!(outcome.collections.iter().all(|update| update.epoch.is_multiple_of(5)));
        assert_eq!(outcome.metrics.identity_unfinished.get(), 0);
        // A restart: the operator is built anew and sees what is retained, once, in any order.
        let mut retained: Vec<Event> = left.iter().zip(1..).map(|(seen, id)| event(id, seen, Op::Insert)).collect();
        retained.rotate_left(seed as usize * 7);
        let outcome = run(&retained, Batching::One, 2, 1_000);
        assert_eq!(clusters(&outcome, "clusters"), expected, "seed {seed}, built anew");
    }
}

/// A path longer than the rounds is cut off, and says so.
#[test]
fn too_long_a_path_is_reported() {
    let values = |at: u64| vec![(1, at), (1, at + 1)];
    let links: Vec<Event> = (0..20)
        .flat_map(|at| values(at).into_iter().map(move |value| (at, value)))
        .zip(1..)
        .map(|((account, value), id)| event(id, &Seen { time_ms: 1_000, account, values: vec![value] }, Op::Insert))
        .collect();
    let whole = run(&links, Batching::One, 1, 100);
    assert_eq!(clusters(&whole, "clusters").len(), 1);
    assert!(clusters(&whole, "unfinished").is_empty());
    let cut = run(&links, Batching::One, 1, 10);
    assert!(clusters(&cut, "clusters").len() > 1);
    assert!(!clusters(&cut, "unfinished").is_empty());
}
