//! W3 (the shipped dataflow `identity_clusters`), and links that come and go: many of them, in giants, around caps.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use cpu_time::ProcessTime;
use deltawatch::dataflow::EngineSettings;
use deltawatch::event::{Event, EventBuilder, Id, Key, Op, Schema};
use deltawatch::flow::{Cause, Change, Verb};
use deltawatch::views::identity::columns::ValueFacts;
use deltawatch::views::identity::links::{LinkRule, LinkRules, Links};
use deltawatch::views::identity::{
    ClusterMeasure as C, ClusterView, EntityRequest, Identity, IdentityImage, IdentityPlan, stride,
};
use deltawatch::views::velocity::Window;
use hdrhistogram::Histogram;

use crate::drive::{run, setup};
use crate::reference::{self, Sighting};

/// Events per epoch, as for the other workloads.
const BATCH: usize = 128;
/// Rows of the workload.
const ROWS: f64 = 1_000_000.0;

/// W3: accounts per cluster, with expiry and caps.
pub fn w3(share: f64) {
    let dataflow = crate::dataflow("identity_clusters");
    let schema = setup(dataflow).schema;
    let Some(rows) = sightings((ROWS * share) as usize) else { return };
    let events = events(&rows, &schema);
    let own = |rows: &[Sighting]| {
        let start = ProcessTime::now();
        std::hint::black_box(reference::w3(rows));
        start.elapsed().as_secs_f64() * 1e6 / rows.len() as f64
    };
    let before_us = own(&rows);
    let cost = run(dataflow, EngineSettings::default(), events, BATCH);
    let own_us = (before_us + own(&rows)) / 2.0;
    let (us, rows) = (cost.us_per_event(), cost.rows);
    println!("{:<28} {us:>7.3} us/tx   own loop {own_us:>6.3}   target 3.00   {rows} rows", "W3 identity_clusters");
    println!("    {:.2} own loops (target 2.91)", us / own_us);
}

fn sightings(count: usize) -> Option<Vec<Sighting>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/workloads/ident.csv.gz");
    let Ok(file) = std::fs::File::open(path) else {
        println!("SKIPPED: the identity workload is not at ../shared/data/workloads");
        return None;
    };
    let lines = BufReader::new(flate2::read::GzDecoder::new(file)).lines().take(count);
    let row = |line: std::io::Result<String>| {
        let line = line.expect("the file is whole");
        let mut numbers = line.split(',').map(|number| number.trim().parse().expect("a number"));
        let [id, time_s, account, values @ ..]: [i64; 6] =
            std::array::from_fn(|_| numbers.next().expect("six columns"));
        Sighting { id, time_s, account, values }
    };
    Some(lines.map(row).collect())
}

fn events(rows: &[Sighting], schema: &Schema) -> Vec<Event> {
    let mut builder = EventBuilder::new(schema);
    let slot = |name| schema.slot(name).expect("the schema has the field");
    let (account, values) = (slot("account"), ["device", "ip", "card"].map(slot));
    let event = |row: &Sighting| {
        let time = row.time_s * 1000;
        builder.set_int(schema.id_slot(), row.id);
        builder.set_int(schema.time_slot(), time);
        builder.set_int(account, row.account);
        values.iter().zip(row.values).for_each(|(&slot, value)| builder.set_int(slot, value));
        builder.finish(Id::from_int(row.id as u64), time, schema.default_kind(), Op::Insert, schema)
    };
    rows.iter().map(event).collect()
}

/// Links of one kind with a cap, which do not expire while a bench lasts.
fn graph(cap: u32) -> Links {
    let rule = LinkRule { strong: true, expiry_ms: 90 * 86_400_000, cap };
    let mut links = Links::new(LinkRules { links: vec![rule], account_cap: u32::MAX });
    links.advance(0, &mut usize::MAX.clone());
    links
}

fn key(number: u64) -> Key {
    Key::from_int(number as i64)
}

/// A link as an event has seen it: account, value, time.
type Seen = (u64, u64, i64);

/// Sees a link a little later than the one before.
fn see(links: &mut Links, (account, value): (u64, u64)) -> Seen {
    let time_ms = links.now_ms() + 1;
    links.advance(time_ms, &mut usize::MAX.clone());
    links.see(key(account), &[(1, key(value))], time_ms);
    (account, value, time_ms)
}

fn unsee(links: &mut Links, (account, value, time_ms): Seen) {
    links.unsee(key(account), 1, key(value), time_ms);
}

fn random(seed: &mut u64, below: u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*seed >> 33) % below
}

/// Runs ticks and prints how long they took.
fn ticks(name: &str, count: usize, mut tick: impl FnMut(usize)) {
    let mut times = Histogram::<u64>::new_with_max(60_000_000_000, 3).expect("a valid range");
    for number in 0..count {
        let start = Instant::now();
        tick(number);
        times.saturating_record(start.elapsed().as_nanos() as u64);
    }
    let [p50, p99, p999, max] = [0.5, 0.99, 0.999, 1.0].map(|share| times.value_at_quantile(share) as f64 / 1e6);
    println!("{name:<54} ms per tick: p50 {p50:.3}   p99 {p99:.3}   p99.9 {p999:.3}   max {max:.3}");
}

/// Links come and go: a million of them, a giant's bridges, degrees around their cap.
pub fn links(share: f64) {
    million(share, "small clusters", 12);
    million(share, "one giant", u64::MAX);
    bridges(share, "a tree", 0);
    bridges(share, "cycles in both halves", 1);
    oscillating(share);
}

/// An owner of half a million links written down and read again, in small clusters and in one giant.
pub fn image(share: f64) {
    let schema = setup(crate::dataflow("identity_clusters")).schema;
    let links = Identity::of("account").strong("device", 50).strong("card", 50).weak("ip", 50);
    let columns = [C::Size, C::Age, C::Growth, C::StrongSize, C::Count(Window::hours(24)), C::Count(Window::days(30))];
    let plan = Arc::new(columns.into_iter().fold(links, Identity::column).resolve(&schema).expect("a valid spec"));
    let count = (260_000.0 * share) as u64;
    for (name, near) in [("small clusters", 12), ("one giant", count)] {
        let mut seed = 5;
        let rows: Vec<Sighting> = (0..count as i64)
            .map(|id| {
                let account = random(&mut seed, count / 2);
                let mut value = || (account / near * near + random(&mut seed, near)) as i64;
                let values = [value(), value(), value()];
                // A fortnight of them, of which a day may be withdrawn.
                Sighting { id, time_s: id * 14 * 86_400 / count as i64, account: account as i64, values }
            })
            .collect();
        let mut view = ClusterView::<ValueFacts>::new(plan.clone());
        for request in requests(&events(&rows, &schema), &plan, &schema) {
            while !view.advance(request.time_ms, &mut usize::MAX.clone()) {}
            view.settle(request.time_ms - 86_400_000);
            let mut row = [0.0; 6];
            view.apply(&request, || &mut row);
        }
        let timed = |start: ProcessTime| start.elapsed().as_secs_f64() * 1e3;
        let start = ProcessTime::now();
        let frozen = view.freeze();
        let held = timed(start);
        let start = ProcessTime::now();
        let image = frozen.image();
        let dumped = timed(start);
        let start = ProcessTime::now();
        let bytes = bincode::serialize(&image).expect("it is written");
        let written = timed(start);
        let start = ProcessTime::now();
        let image: IdentityImage = bincode::deserialize(&bytes).expect("it is read");
        let read = timed(start);
        let start = ProcessTime::now();
        let mut again = ClusterView::<ValueFacts>::load(plan.clone(), &image).expect("it fits");
        let loaded = timed(start);
        assert!(again.dump() == image, "the image of an image");
        println!(
            "{} links, {} values, {} sightings, {} clusters, {name}: {:.1} MB; CPU ms: hold {held:.1} (what scoring waits for), dump {dumped:.0}, encode {written:.0}, \
             decode {read:.0}, load {loaded:.0}; held {:.0} MB before, {:.0} MB after",
            image.links.links.len(),
            image.links.values.len(),
            image.links.sightings.len(),
            view.links().wide().components(),
            bytes.len() as f64 / 1e6,
            view.links().bytes() as f64 / 1e6,
            again.links().bytes() as f64 / 1e6,
        );
    }
}

/// What the owner is told of new events.
fn requests(events: &[Event], plan: &IdentityPlan, schema: &Schema) -> Vec<EntityRequest> {
    let mut words = Vec::new();
    for event in events {
        let (event, verb, cause) = (Arc::new(event.clone()), Verb::Insert, Cause::Arrival);
        let change = Change { number: 0, event, label: None, verb, ticket: 0, row_revision: 0, cause, arrived_ns: 0 };
        EntityRequest::write(&change, plan, false, schema, &mut words);
    }
    words.chunks_exact(stride(plan)).map(EntityRequest::read).collect()
}

/// `near` accounts at most share values with each other.
fn million(share: f64, name: &str, near: u64) {
    let (count, mut seed) = ((1_000_000.0 * share) as u64, 1);
    let mut links = graph(50);
    let mut live: Vec<Seen> = Vec::with_capacity(count as usize);
    let mut link = move || {
        let account = random(&mut seed, count / 3);
        let near = near.min(count / 3);
        let value = (account / near * near + random(&mut seed, near)) * 3 / 2 + random(&mut seed, 2);
        (account, value)
    };
    let start = Instant::now();
    for _ in 0..count {
        let new = link();
        live.push(see(&mut links, new));
    }
    let per_s = count as f64 / start.elapsed().as_secs_f64();
    let bytes = links.bytes() as f64 / links.len() as f64;
    let largest = live.iter().step_by(997).filter_map(|&(account, ..)| links.find_value(0, key(account)));
    let largest = largest.map(|number| links.wide().size(number).size).max().unwrap_or(0);
    println!(
        "{count} links: {per_s:.0} links/s, {bytes:.0} bytes/link, {} clusters, one of {largest}",
        links.wide().components()
    );
    let mut oldest = 0;
    ticks(&format!("100 links added and 100 withdrawn, {name}"), (20_000.0 * share).max(50.0) as usize, |_| {
        for _ in 0..100 {
            let (new, at) = (link(), oldest % live.len());
            unsee(&mut links, live[at]);
            live[at] = see(&mut links, new);
            oldest += 1;
        }
    });
}

/// Two halves of 150,000 values; one bridge between random places of both goes and another comes with each tick.
fn bridges(share: f64, name: &str, cycles: u64) {
    let half = (75_000.0 * share) as u64;
    let (mut links, mut seed) = (graph(u32::MAX), 2);
    for side in 0..2 {
        let base = side * half;
        for at in 1..half {
            see(&mut links, (base + at, base + at));
            see(&mut links, (base + random(&mut seed, at), base + at));
            for _ in 0..cycles {
                see(&mut links, (base + random(&mut seed, half), base + random(&mut seed, half)));
            }
        }
    }
    let mut place = move || (random(&mut seed, half), half + 1 + random(&mut seed, half - 1));
    let mut bridge = see(&mut links, place());
    let size = links.find_value(0, key(0)).map_or(0, |number| links.wide().size(number).size);
    ticks(&format!("the only bridge in {size}, {name}"), (20_000.0 * share).max(50.0) as usize, |_| {
        unsee(&mut links, bridge);
        bridge = see(&mut links, place());
    });
    let mut second = see(&mut links, place());
    ticks(&format!("two bridges in turns, {name}"), (20_000.0 * share).max(50.0) as usize, |_| {
        unsee(&mut links, bridge);
        (bridge, second) = (second, see(&mut links, place()));
    });
}

/// Values at their cap of 50 that one account more and less takes above it and back, within a large cluster.
fn oscillating(share: f64) {
    let hubs = (2_000.0 * share).max(20.0) as u64;
    let (mut links, mut seed) = (graph(50), 3);
    for hub in 0..hubs {
        for at in 0..50 {
            see(&mut links, (hub * 45 + at, hub));
        }
    }
    ticks("a degree goes above its cap of 50 and back", (20_000.0 * share).max(50.0) as usize, |_| {
        let hub = random(&mut seed, hubs);
        let more = see(&mut links, (u64::MAX >> 1, hub));
        unsee(&mut links, more);
    });
    println!("    {} values above their caps, {} links", links.capped(), links.len());
}
