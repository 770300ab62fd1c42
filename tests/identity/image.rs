//! The owner of all links written down in the middle of a run and read again: what it answers from then on is what the one
//! says that went on undisturbed.

use std::collections::BTreeMap;
use std::sync::Arc;

use deltawatch::event::{Event, EventBuilder, Id, Op, Schema};
use deltawatch::flow::{Cause, Change, Label, NO_TICKET, Verb};
use deltawatch::views::identity::columns::{Bare, Member, Tallied, ValueFacts};
use deltawatch::views::identity::graph::SMALL_MAX;
use deltawatch::views::identity::propagate::Entity;
use deltawatch::views::identity::{
    ClusterMeasure as C, ClusterView, EntityRequest, FrozenIdentity, Identity, IdentityImage, IdentityPlan, stride,
};
use deltawatch::views::velocity::Window;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::operator::{identity, people};
use super::tally::mangled;

const HOUR_MS: i64 = 3_600_000;
/// How late events come, and how long they may be withdrawn; a few are later than that.
const LATE_MS: i64 = 9 * HOUR_MS;
const KEPT_MS: i64 = 3 * 24 * HOUR_MS;

struct Epoch {
    watermark_ms: i64,
    requests: Vec<EntityRequest>,
}

/// What the owner is told of records, a few to an epoch, and of labels between them: some known only later.
fn epochs(records: &[Event], plan: &IdentityPlan, schema: &Schema, seed: u64) -> Vec<Epoch> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut held: BTreeMap<Id, (Arc<Event>, Option<Label>)> = BTreeMap::new();
    let (mut epochs, mut watermark_ms, mut rest) = (Vec::new(), i64::MIN, records);
    while !rest.is_empty() {
        let (epoch, after) = rest.split_at(random.random_range(1..8).min(rest.len()));
        let (mut words, mut latest_ms) = (Vec::new(), watermark_ms);
        let mut write = |event: &Arc<Event>, label: Option<Label>, verb: Verb, ticket: u32| {
            let event = event.clone();
            let change =
                Change { number: 0, event, label, verb, ticket, row_revision: 0, cause: Cause::Arrival, arrived_ns: 0 };
            EntityRequest::write(&change, plan, true, schema, &mut words);
        };
        for (ticket, record) in epoch.iter().enumerate() {
            latest_ms = latest_ms.max(record.time - LATE_MS);
            let before = held.get(&record.id).cloned();
            if record.op != Op::Withdraw && before.as_ref().is_some_and(|(event, _)| event.same_content(record)) {
                continue;
            }
            if let Some((event, label)) = &before {
                write(event, *label, Verb::Remove, NO_TICKET);
                held.remove(&record.id);
            }
            if record.op != Op::Withdraw {
                let (event, label) = (Arc::new(record.clone()), before.and_then(|(_, label)| label));
                let ticket = if schema.is_scored(event.kind) { ticket as u32 } else { NO_TICKET };
                write(&event, label, Verb::Insert, ticket);
                held.insert(record.id, (event, label));
            }
            if random.random_bool(0.3) && !held.is_empty() {
                let back = random.random_range(0..held.len().min(60));
                let (event, label) = held.values_mut().rev().nth(back).expect("it is there");
                let available_at = record.time + random.random_range(-20..400) * HOUR_MS;
                let verb = if label.is_some() { Verb::Relabel } else { Verb::Label };
                *label = Some(Label { available_at, fraud: random.random_bool(0.8) });
                write(&event.clone(), *label, verb, NO_TICKET);
            }
        }
        let mut rows: Vec<&[u64]> = words.chunks_exact(stride(plan)).collect();
        rows.sort_by_key(|row| EntityRequest::place(row));
        let requests = rows.into_iter().map(EntityRequest::read).collect();
        epochs.push(Epoch { watermark_ms, requests });
        (watermark_ms, rest) = (latest_ms, after);
    }
    epochs
}

/// The rows of an epoch, bit by bit, and which links carry more or less by it.
type Answers = (Vec<(Id, Vec<u64>)>, BTreeMap<(Entity, Entity), i32>);

fn answers<P: Member>(view: &mut ClusterView<P>, epoch: &Epoch, columns: usize) -> Answers {
    view.settle(epoch.watermark_ms.saturating_sub(KEPT_MS));
    let mut rows = Vec::new();
    for request in &epoch.requests {
        while !view.advance(request.time_ms.max(epoch.watermark_ms), &mut 5) {}
        let mut row = vec![0.0; columns];
        view.apply(request, || &mut row);
        rows.extend(
            (request.ticket != NO_TICKET).then(|| (request.id, row.iter().map(|value| value.to_bits()).collect())),
        );
    }
    while !view.advance(epoch.watermark_ms, &mut 5) {}
    let mut links: BTreeMap<_, i32> = BTreeMap::new();
    for (link, carries) in view.links_mut().take_changes() {
        *links.entry(link).or_default() += if carries { 1 } else { -1 };
    }
    links.retain(|_, change| *change != 0);
    (rows, links)
}

/// What a run came by, so that none of it shows too little.
#[derive(Debug, Default)]
struct Met {
    rows: usize,
    links: usize,
    capped: usize,
    /// Where it was written down: frauds, payments and sightings in the image, the largest cluster.
    frauds: usize,
    payments: usize,
    sightings: usize,
    largest: u32,
}

/// Writes an owner down at several places, reads each image into a new owner, and lets all go on side by side.
fn check<P: Member>(spec: &Identity, records: &[Event], seed: u64, met: &mut Met) {
    let schema = people().1.schema;
    let plan = Arc::new(spec.resolve(&schema).expect("a valid spec"));
    let epochs = epochs(records, &plan, &schema, seed);
    let mut random = StdRng::seed_from_u64(seed);
    let mut places: Vec<usize> = (0..3).map(|_| random.random_range(0..epochs.len())).collect();
    places.extend([0, epochs.len() - 1]);
    let mut whole = ClusterView::<P>::new(plan.clone());
    whole.links_mut().note_changes();
    let mut others: Vec<(usize, ClusterView<P>)> = Vec::new();
    let mut held: Vec<(usize, FrozenIdentity<P>, IdentityImage)> = Vec::new();
    let mut carried: BTreeMap<(Entity, Entity), i32> = BTreeMap::new();
    for (number, epoch) in epochs.iter().enumerate() {
        if places.contains(&number) {
            let image = whole.dump();
            let bytes = bincode::serialize(&image).expect("it is written");
            let read: IdentityImage = bincode::deserialize(&bytes).expect("it is read");
            assert_eq!(read, image);
            let mut again = ClusterView::<P>::load(plan.clone(), &read).expect("it fits");
            assert!(again.dump() == image, "seed {seed}, epoch {number}: the image of an image");
            assert!(others.iter_mut().all(|(_, other)| other.dump() == image), "seed {seed}, epoch {number}: images");
            let all: Vec<_> = carried.keys().copied().collect();
            assert_eq!(again.links().carried(), all, "seed {seed}, epoch {number}");
            again.links_mut().note_changes();
            others.push((number, again));
            held.push((number, whole.freeze(), image.clone()));
            met.frauds = met.frauds.max(image.frauds.len());
            met.payments = met.payments.max(image.payments.len());
            met.sightings = met.sightings.max(image.links.sightings.len());
            let links = whole.links();
            let sizes = image.links.values.iter().filter_map(|&(kind, key)| links.find_value(kind, key));
            met.largest = sizes.map(|number| links.wide().size(number).size).fold(met.largest, u32::max);
        }
        let wanted = answers(&mut whole, epoch, plan.columns.len());
        for (place, other) in &mut others {
            let found = answers(other, epoch, plan.columns.len());
            assert!(found == wanted, "seed {seed}, written at {place}, epoch {number}:\n{found:?}\n{wanted:?}");
            let counts = |view: &ClusterView<P>| {
                let links = view.links();
                let strong = links.strong().map(|graph| graph.components());
                (links.values().len(), links.len(), links.capped(), links.missed(), links.wide().components(), strong)
            };
            assert_eq!(counts(other), counts(&whole), "seed {seed}, written at {place}, epoch {number}");
        }
        for (link, change) in &wanted.1 {
            *carried.entry(*link).or_default() += change;
        }
        carried.retain(|_, count| *count != 0);
        met.rows += wanted.0.len();
        met.links += wanted.1.len();
        met.capped = met.capped.max(whole.links().capped());
    }
    for (number, frozen, image) in held {
        assert!(frozen.image() == image, "seed {seed}, epoch {number}: what was held has changed");
    }
    let last = whole.dump();
    assert!(others.iter_mut().all(|(_, other)| other.dump() == last), "seed {seed}: the last images");
}

/// Links of every kind, as in [`identity`], with other columns.
fn linked(columns: &[C]) -> Identity {
    let base = Identity::of("account").account_cap(9).strong("device", 4).expires(Window::days(20)).strong("card", 3);
    let base = base.expires(Window::days(40)).weak("ip", 5).link("address", &["street", "town"], 6, false);
    columns.iter().cloned().fold(base.expires(Window::days(10)), Identity::column)
}

/// All columns that need neither payments nor labels nor the time that a value was first seen.
fn plain() -> Vec<C> {
    let named = [C::Degree("card".into()), C::AccountDegree("ip".into())];
    let all = [C::Size, C::Accounts, C::StrongSize, C::SizeBefore, C::MergesTwo, C::Links, C::HubShare];
    all.into_iter().chain(named).collect()
}

/// What tells values apart, without tallies.
fn told() -> Vec<C> {
    let facts = [
        C::Age,
        C::Growth,
        C::Frauds,
        C::FraudAccounts,
        C::FraudRate,
        C::SinceFraud,
        C::FraudAccountsAt(1),
        C::FraudAccountsAt(2),
        C::Members("device".into()),
        C::Count(Window::hours(24)),
        C::Sum(Window::days(7)),
        C::Count(Window::days(30)),
        C::Sum(Window::AllTime),
    ];
    plain().into_iter().chain(facts).collect()
}

#[test]
fn an_owner_that_is_read_again_goes_on_as_if_nothing_had_happened() {
    let mut met = Met::default();
    for seed in 0..6 {
        check::<Tallied>(&identity(), &mangled(seed, 300), seed, &mut met);
        check::<ValueFacts>(&linked(&told()), &mangled(10 + seed, 300), seed, &mut met);
        check::<Bare>(&linked(&plain()), &mangled(20 + seed, 300), seed, &mut met);
    }
    assert!(met.rows > 3_000 && met.links > 3_000 && met.capped > 3, "{met:?}");
    assert!(met.frauds > 20 && met.payments > 50 && met.sightings > 100, "{met:?}");
}

/// A part of an image, and how to spoil it.
type Part = (&'static str, fn(&mut IdentityImage));

/// Without any part of an image later answers are others: so the runs above do come by what each part is for.
#[test]
fn every_part_of_an_image_counts() {
    let schema = people().1.schema;
    let plan = Arc::new(identity().resolve(&schema).expect("a valid spec"));
    let parts: [Part; 8] = [
        ("payments", |image| image.payments.clear()),
        ("frauds", |image| image.frauds.clear()),
        ("tallies", |image| image.tallies.iter_mut().for_each(|tally| tally.events.clear())),
        ("what may be withdrawn", |image| image.links.sightings.iter_mut().for_each(|one| one.link = None)),
        ("what is settled", |image| image.links.links.iter_mut().for_each(|link| link.settled_ms = i64::MIN)),
        ("when values came", |image| image.links.facts.iter_mut().for_each(|facts| facts.first_seen_ms -= HOUR_MS)),
        ("all payments", |image| image.links.facts.iter_mut().for_each(|facts| facts.payments = Default::default())),
        ("time", |image| image.links.now_ms -= 40 * 24 * HOUR_MS),
    ];
    let mut shows = [0; 8];
    for seed in 0..6 {
        let epochs = epochs(&mangled(seed, 300), &plan, &schema, seed);
        let (before, after) = epochs.split_at(epochs.len() / 2);
        let mut whole = ClusterView::<Tallied>::new(plan.clone());
        before.iter().for_each(|epoch| drop(answers(&mut whole, epoch, plan.columns.len())));
        let image = whole.dump();
        let wanted: Vec<Answers> = after.iter().map(|epoch| answers(&mut whole, epoch, plan.columns.len())).collect();
        for (place, (_, spoil)) in parts.iter().enumerate() {
            let mut less = image.clone();
            spoil(&mut less);
            let mut view = ClusterView::<Tallied>::load(plan.clone(), &less).expect("it fits");
            let found = after.iter().map(|epoch| answers(&mut view, epoch, plan.columns.len()));
            shows[place] += found.zip(&wanted).filter(|(found, wanted)| found.0 != wanted.0).count();
        }
    }
    for ((name, _), shows) in parts.iter().zip(shows) {
        assert!(shows > 0, "{name}: nothing shows that it is gone");
    }
}

/// Events of many accounts that share much, so that most are in one cluster; some withdrawn, some late; a few cards that
/// come above their cap and back.
fn crowded(seed: u64, count: u64) -> Vec<Event> {
    let schema = people().1.schema;
    let mut random = StdRng::seed_from_u64(seed);
    let mut builder = EventBuilder::new(&schema);
    let slot = |name: &str| schema.slot(name).expect("a field");
    let (mut records, mut now_ms): (Vec<Event>, i64) = (Vec::new(), 1_700_000_000_000);
    for number in 1..=count {
        now_ms += random.random_range(0..HOUR_MS / 2);
        let time = now_ms - if random.random_bool(0.1) { random.random_range(0..LATE_MS) } else { 0 };
        builder.set_int(slot("id"), number as i64);
        builder.set_int(slot("time"), time);
        builder.set_text(slot("kind"), "payment");
        builder.set_text(slot("account"), &format!("a-{}", random.random_range(0..500)));
        builder.set_text(slot("device"), &format!("d-{}", random.random_range(0..400)));
        builder.set_int(slot("card"), if random.random_bool(0.1) { random.random_range(0..3) } else { number as i64 });
        builder.set_int(slot("amount"), random.random_range(1..10_000));
        records.push(builder.finish(
            Id::from_int(number),
            time,
            schema.kind("payment").expect("a kind"),
            Op::Insert,
            &schema,
        ));
        if random.random_bool(0.3) {
            let mut gone = records[random.random_range(records.len().saturating_sub(200)..records.len())].clone();
            gone.op = Op::Withdraw;
            records.push(gone);
        }
    }
    records
}

#[test]
fn giants_and_values_at_their_caps_are_read_again() {
    let giant = |columns: &[C]| {
        let links = Identity::of("account").strong("device", 50).expires(Window::days(15)).weak("card", 20);
        columns.iter().cloned().fold(links.expires(Window::days(9)), Identity::column)
    };
    let of_links = |columns: Vec<C>| {
        let known = |measure: &C| !matches!(measure, C::AccountDegree(_));
        columns.into_iter().filter(known).collect::<Vec<C>>()
    };
    let mut met = Met::default();
    for seed in 0..3 {
        check::<ValueFacts>(&giant(&of_links(told())), &crowded(seed, 1_500), seed, &mut met);
        check::<Bare>(&giant(&of_links(plain())), &crowded(10 + seed, 1_500), seed, &mut met);
    }
    assert!(met.largest > 2 * SMALL_MAX && met.capped > 0 && met.rows > 8_000, "{met:?}");
}

#[test]
fn an_image_that_does_not_fit_is_refused() {
    let schema = people().1.schema;
    let plan = Arc::new(identity().resolve(&schema).expect("a valid spec"));
    let epochs = epochs(&mangled(3, 200), &plan, &schema, 3);
    let mut view = ClusterView::<Tallied>::new(plan.clone());
    epochs.iter().for_each(|epoch| drop(answers(&mut view, epoch, plan.columns.len())));
    let image = view.dump();
    let refusal = |change: &dyn Fn(&mut IdentityImage)| {
        let mut other = image.clone();
        change(&mut other);
        let says = ClusterView::<Tallied>::load(plan.clone(), &other).expect_err("it must be refused");
        assert!(says.starts_with("identity image ") && says.contains("; load it with"), "{says}");
        says
    };
    assert!(refusal(&|image| image.links.values.last_mut().expect("a value").0 = 7).contains("7 kinds"));
    assert!(refusal(&|image| image.links.facts.clear()).contains("of 0 values"));
    assert!(refusal(&|image| image.links.links[0].ends[1] = 0).contains("no account"));
    assert!(refusal(&|image| image.links.links[0].ends[1] = u32::MAX).contains("no account"));
    assert!(refusal(&|image| image.links.links.swap(0, 1)).contains("in order"));
    assert!(refusal(&|image| image.links.links.truncate(1)).contains("in order"));
    assert!(refusal(&|image| image.links.values.swap(0, 1)).contains("in order"));
    assert!(refusal(&|image| image.links.sightings[0].link = Some(9_999_999)).contains("in order"));
    assert!(refusal(&|image| image.payments[0].1 = u32::MAX).contains("no account"));
    assert!(refusal(&|image| image.tallies[1].window_ms += 1).contains("windows"));
    let bare = ClusterView::<Bare>::load(plan.clone(), &image).map(drop);
    assert!(bare.expect_err("it must be refused").contains("says something of"));
    // Whatever a damaged image says, it is refused or read, and nothing panics.
    let bytes = bincode::serialize(&image).expect("it is written");
    let mut random = StdRng::seed_from_u64(1);
    for _ in 0..300 {
        let mut damaged = bytes.clone();
        let at = random.random_range(0..damaged.len());
        damaged[at] ^= 1 << random.random_range(0..8);
        let read: Result<IdentityImage, _> = bincode::deserialize(&damaged);
        let _ = read.map(|image| ClusterView::<Tallied>::load(plan.clone(), &image).map(drop));
    }
}
