//! The velocity store against the oracle, and what it holds before and after expiry.

use std::sync::Arc;

use deltawatch::event::{Event, EventBuilder, Id, Key, Op, Schema};
use deltawatch::views::velocity::store::{AMOUNT_MISSING, Entry, Store, VALUE_MISSING};
use deltawatch::views::velocity::{Filter, KeyPlan, Measure, Velocity, Window, twin};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const SCHEMA: &str = r#"
name = "test"
kinds = ["payment", "refund"]
scored = ["payment"]
[[field]]
name = "id"
type = "int"
role = "id"
[[field]]
name = "time"
type = "time"
role = "time"
[[field]]
name = "card"
type = "int"
role = "entity"
required = true
[[field]]
name = "amount"
type = "decimal"
scale = 2
role = "amount"
required = true
[[field]]
name = "tip"
type = "decimal"
scale = 2
[[field]]
name = "shop"
type = "int"
[[field]]
name = "outcome"
type = "text"
"#;

fn schema() -> Schema {
    Schema::parse("test", SCHEMA).unwrap()
}

fn finite_measures() -> Vec<Measure> {
    let (amount, tip, shop) = ("amount".to_string(), "tip".to_string(), "shop".to_string());
    vec![
        Measure::Count,
        Measure::Sum(amount.clone()),
        Measure::Sum(tip.clone()),
        Measure::Mean(amount.clone()),
        Measure::Std(amount.clone()),
        Measure::Std(tip.clone()),
        Measure::Min(tip.clone()),
        Measure::Max(amount.clone()),
        Measure::Quantile(amount.clone(), 500),
        Measure::Quantile(tip.clone(), 1),
        Measure::Distinct(shop.clone()),
        Measure::DistinctRatio(shop.clone()),
        Measure::Ratio(Filter::is("outcome", "no")),
        Measure::Ratio(Filter::Label(true)),
        Measure::SinceLast,
        Measure::SinceFirst,
        Measure::GapMean,
        Measure::GapStd,
        Measure::GapMin,
        Measure::IsNew,
        Measure::Entropy(shop.clone()),
        Measure::TopShare(shop.clone()),
        Measure::Burst(20),
        Measure::Streak(Filter::is("outcome", "yes")),
        Measure::Repeat(shop),
        Measure::ZScore(amount.clone()),
        Measure::ZScore(tip.clone()),
        Measure::RatioToMean(amount.clone()),
        Measure::RatioToMax(tip),
        Measure::PercentRank(amount),
    ]
}

fn add(mut velocity: Velocity, measures: &[Measure]) -> Velocity {
    for measure in measures {
        velocity = velocity.measure(measure.clone());
    }
    velocity
}

/// Every measure, in windows short and long, with every way to count.
fn everything(all_time: bool) -> Velocity {
    let windows = [Window::Millis(15), Window::Millis(400), Window::Millis(3000)];
    let measures = finite_measures();
    let mut velocity = add(Velocity::of("card", &["card"]).over(&windows), &measures);
    velocity = add(velocity.including_current(), &measures);
    velocity = add(velocity.only("refund", Filter::kind("refund")).or(-1.0), &measures);
    velocity = add(velocity.all().only("no", Filter::is("outcome", "no")), &measures);
    velocity = add(velocity.all().lagged(Window::Millis(10)), &measures);
    velocity = add(velocity.as_known(), &measures);
    velocity = add(velocity.only("fraud", Filter::Label(true)), &measures);
    velocity = add(velocity.all().as_known().including_current(), &measures);
    if all_time {
        let lasting: Vec<Measure> = measures
            .into_iter()
            .filter(|measure| {
                use Measure as M;
                !matches!(measure, M::Quantile(..) | M::Distinct(_) | M::DistinctRatio(_) | M::GapMean | M::GapStd)
                    && !matches!(measure, M::GapMin | M::Entropy(_) | M::TopShare(_) | M::Burst(_) | M::Streak(_))
                    && !matches!(measure, M::Repeat(_) | M::PercentRank(_))
            })
            .collect();
        velocity = add(velocity.all().over(&[Window::AllTime]), &lasting);
        velocity = add(velocity.all().including_current(), &lasting);
        velocity = add(velocity.all().lagged(Window::Millis(10)), &lasting);
        velocity = add(velocity.all().only("no", Filter::is("outcome", "no")), &lasting);
    }
    velocity
}

struct Feed {
    schema: Schema,
    builder: EventBuilder,
    random: StdRng,
    /// Amounts of any size up to the edges of 64 bits.
    extreme: bool,
}

impl Feed {
    fn event(&mut self, id: u64, time: i64, cards: i64) -> Event {
        let schema = &self.schema;
        let slot = |name: &str| schema.slot(name).unwrap();
        let random = &mut self.random;
        self.builder.set_int(slot("card"), random.random_range(0..cards));
        self.builder.set_int(slot("amount"), random.random_range(-50..5000));
        if random.random_bool(0.6) {
            self.builder.set_int(slot("tip"), random.random_range(-3..4) * 1_000_000_007);
        }
        if self.extreme && random.random_bool(0.8) {
            // The smallest of all stands for an amount that is missing where this event's is compared.
            let edges = [
                i64::MAX,
                i64::MIN + 2,
                90_000_000_000_000_000,
                1 << 55,
                -(1 << 55),
                1 << 62,
                5_000_000_000_000_000_000,
            ];
            self.builder
                .set_int(slot("amount"), edges[random.random_range(0..edges.len())] - random.random_range(0..2));
            self.builder.set_int(slot("tip"), random.random_range(i64::MIN + 1..i64::MAX));
        }
        if random.random_bool(0.9) {
            let shop: i64 = random.random_range(0..12);
            self.builder.set_int(slot("shop"), if shop < 4 { random.random_range(0..200) } else { shop - 4 });
        }
        if random.random_bool(0.9) {
            self.builder.set_text(slot("outcome"), if random.random_bool(0.4) { "no" } else { "yes" });
        }
        let kind = u16::from(random.random_bool(0.2));
        self.builder.finish(Id::from_int(id), time, kind, Op::Insert, schema)
    }

    fn label(&mut self, time: i64) -> Option<(bool, i64)> {
        let random = &mut self.random;
        random.random_bool(0.5).then(|| (random.random_bool(0.5), time + random.random_range(0..200)))
    }
}

/// Calls `then` with the entry of an event.
fn with_entry<R>(
    plan: &KeyPlan,
    schema: &Schema,
    (event, label): &deltawatch::flow::Labelled,
    then: impl FnOnce(&Entry<'_>) -> R,
) -> R {
    let amounts: Vec<i64> = plan.amounts.iter().map(|&slot| event.int(slot).unwrap_or(AMOUNT_MISSING)).collect();
    let values: Vec<u64> =
        plan.values.iter().map(|&slot| event.fingerprint(slot, schema).unwrap_or(VALUE_MISSING)).collect();
    then(&Entry {
        key: plan.key_of(event, schema).unwrap(),
        time: event.time,
        id: event.id,
        mask: plan.mask_of(event, label.map(|(says, _)| says), schema),
        known_at: label.map_or(i64::MAX, |(_, at)| at),
        scored: schema.is_scored(event.kind),
        amounts: &amounts,
        values: &values,
    })
}

fn assert_same(velocity: &Velocity, store: &[f64], oracle: &[f64], what: &str) {
    for ((spec, got), want) in velocity.features().iter().zip(store).zip(oracle) {
        let same = got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan();
        assert!(same, "{what}: {} {:?} is {got}, by definition {want}", spec.name, spec.measure);
    }
}

/// Random insertions (in order, late, tied), removals, relabels and expiry; rows are compared on the way and at the end.
fn against_oracle(seed: u64, events: u64, cards: i64, all_time: bool, checks: usize) {
    against_oracle_with(false, seed, events, cards, all_time, checks);
}

fn against_oracle_with(extreme: bool, seed: u64, events: u64, cards: i64, all_time: bool, checks: usize) {
    let schema = schema();
    let velocity = everything(all_time);
    let plan = Arc::new(KeyPlan::resolve(&velocity, &schema).unwrap());
    let mut feed = Feed { builder: EventBuilder::new(&schema), random: StdRng::seed_from_u64(seed), schema, extreme };
    let mut store = Store::new(plan.clone());
    let mut live: Vec<deltawatch::flow::Labelled> = Vec::new();
    let (mut out, mut clock) = (vec![0.0; plan.features.len()], 10_000_000i64);
    for number in 0..events {
        clock += feed.random.random_range(0..9) / 2;
        let late = if feed.random.random_bool(0.15) { feed.random.random_range(0..300) } else { 0 };
        // Ids in no order, so that a tie may be late too.
        let id = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 8;
        let one = (feed.event(id, clock - late, cards), feed.label(clock));
        let key = plan.key_of(&one.0, &feed.schema);
        let behind = |(other, _): &deltawatch::flow::Labelled| {
            plan.key_of(other, &feed.schema) == key && (other.time, other.id) > (one.0.time, one.0.id)
        };
        let is_last = !live.iter().any(behind);
        live.push(one);
        let (one, velocities) = (&live[live.len() - 1], std::slice::from_ref(&velocity));
        assert_eq!(with_entry(&plan, &feed.schema, one, |e| store.insert_and_read(e, &mut out)), is_last);
        if number % (events / checks as u64).max(1) == 0 {
            assert_same(&velocity, &out, &twin::row(velocities, &feed.schema, &live, live.len() - 1), "fresh");
        }
        if number % 7 == 3 {
            let at = live.len() - 1 - feed.random.random_range(0..live.len().min(150));
            let label = feed.label(clock);
            live[at].1 = label;
            let (event, mask) = (&live[at].0, plan.mask_of(&live[at].0, label.map(|(says, _)| says), &feed.schema));
            let key = plan.key_of(event, &feed.schema).unwrap();
            assert!(store.relabel(key, event.time, event.id, mask, label.map_or(i64::MAX, |(_, at)| at)));
        }
        if number % 9 == 5 {
            let at = live.len() - 1 - feed.random.random_range(0..live.len().min(150));
            let (event, _) = live.swap_remove(at);
            let key = plan.key_of(&event, &feed.schema).unwrap();
            assert!(store.remove(key, event.time, event.id));
            assert!(!store.remove(key, event.time, event.id));
        }
        if number % 50 == 0 {
            // Everything that a row of the last 400 ms can look at stays.
            store.expire(clock - plan.window_ms_max - 500, 37);
        }
    }
    let recent: Vec<usize> = (0..live.len()).filter(|&at| live[at].0.time >= clock - 400).collect();
    for step in 0..checks {
        let at = recent[step * recent.len() / checks];
        let want = twin::row(std::slice::from_ref(&velocity), &feed.schema, &live, at);
        let (event, _) = &live[at];
        store.read(plan.key_of(event, &feed.schema).unwrap(), event.time, event.id, &mut out);
        assert_same(&velocity, &out, &want, "again");
    }
}

#[test]
fn every_measure_equals_the_oracle_for_short_logs() {
    for seed in 0..4 {
        against_oracle(seed, 1500, 60, seed % 2 == 0, 40);
    }
}

#[test]
fn every_measure_equals_the_oracle_for_long_logs() {
    for seed in 10..13 {
        against_oracle(seed, 2400, 2, seed % 2 == 0, 16);
    }
}

/// Sums beyond 64 bits and squares beyond 128, with some small amounts between: in short logs, long ones, in what has expired.
#[test]
fn amounts_up_to_the_edges_of_64_bits_are_exact() {
    for seed in 20..23 {
        against_oracle_with(true, seed, 1200, 40, seed % 2 == 0, 40);
        against_oracle_with(true, seed, 2000, 2, seed % 2 == 0, 16);
    }
}

#[test]
fn what_has_expired_keeps_sums_and_squares_of_any_size() {
    let schema = schema();
    let velocity =
        Velocity::of("card", &["card"]).including_current().sum("amount").mean("amount").std("amount").min("amount");
    let plan = Arc::new(KeyPlan::resolve(&velocity, &schema).unwrap());
    let mut store = Store::new(plan);
    let mut out = [0.0; 4];
    let amounts = [i64::MAX, i64::MIN + 1];
    // Long enough for a long log whose chunks are dropped, at times all of them.
    for number in 0..2_000u64 {
        let amount = [amounts[number as usize % 2]];
        let entry = Entry { amounts: &amount, ..hot_entry(store.plan(), number as i64, number) };
        store.insert_and_read(&entry, &mut out);
        let (sum, n) = (if number % 2 == 0 { i64::MAX as f64 } else { 0.0 }, (number + 1) as f64);
        assert_eq!(out[..2], [sum / 100.0, sum / (n * 100.0)], "after {n}");
        if number % 2 == 1 {
            assert_eq!(out[2], i64::MAX as f64 / 100.0, "as many of each: the deviation is the amount");
        }
        if number % 37 == 0 {
            while store.expire(number as i64 - 20, 1_000) > 0 {}
        }
    }
    assert!(store.stats().entries < 200, "{} entries are left", store.stats().entries);
}

fn spend() -> (Schema, Arc<KeyPlan>) {
    let schema = schema();
    let velocity = Velocity::of("card", &["card"])
        .over(&[Window::hours(1), Window::days(1), Window::days(7)])
        .count()
        .sum("amount")
        .std("amount")
        .min("amount")
        .max("amount")
        .including_current()
        .distinct("shop");
    let plan = Arc::new(KeyPlan::resolve(&velocity, &schema).unwrap());
    (schema, plan)
}

#[test]
fn a_hot_key_equals_direct_computation() {
    const EVENTS: usize = 200_000;
    let (_, plan) = spend();
    let mut store = Store::new(plan.clone());
    let mut random = StdRng::seed_from_u64(7);
    let mut all: Vec<(i64, u64, i64, u64)> = Vec::with_capacity(EVENTS);
    let mut out = vec![0.0; plan.features.len()];
    for number in 0..EVENTS as u64 {
        let late = if number % 20 == 0 { random.random_range(0..3_000_000) } else { 0 };
        let (time, amount) = (number as i64 * 4_000 + 10_000_000 - late, random.random_range(0..100_000));
        let shop = if random.random_bool(0.5) { random.random_range(0..5) } else { random.random_range(0..50_000) };
        all.push((time, number, amount, shop));
        store.insert_and_read(&hot(&plan, time, number, amount, shop), &mut out);
    }
    all.sort();
    for at in (0..EVENTS).step_by(4_999).chain([EVENTS - 1, EVENTS - 70]) {
        let (time, id, ..) = all[at];
        store.read(Key::from_int(1), time, Id::from_int(id), &mut out);
        for (window, ms) in [3_600_000, 86_400_000, 604_800_000].into_iter().enumerate() {
            let start = all.partition_point(|&(other, ..)| other <= time - ms);
            let amounts = || all[start..at].iter().map(|&(.., amount, _)| amount);
            let mut shops: Vec<u64> = all[start..=at].iter().map(|&(.., shop)| shop).collect();
            shops.sort();
            shops.dedup();
            let extreme = |value: Option<i64>| value.map_or(f64::NAN, |value| value as f64 / 100.0);
            let want = [
                (0, (at - start) as f64),
                (3, amounts().sum::<i64>() as f64 / 100.0),
                (9, extreme(amounts().min())),
                (12, extreme(amounts().max())),
                (15, shops.len() as f64),
            ];
            for (feature, want) in want {
                let got = out[feature + window];
                assert!(
                    got == want || got.is_nan() && want.is_nan(),
                    "row {at}, window {window}, {feature}: {got} {want}"
                );
            }
        }
    }
    let bytes = store.stats().bytes as f64 / EVENTS as f64;
    assert!(bytes < 200.0, "{bytes} bytes per entry");
    while store.expire(i64::MAX, 10_000) > 0 {}
    assert_eq!((store.stats().entries, store.stats().keys), (0, 0));
}

fn hot(plan: &KeyPlan, time: i64, id: u64, amount: i64, shop: u64) -> Entry<'static> {
    let (amounts, values) = (Box::leak(Box::new([amount])), Box::leak(Box::new([shop])));
    let mask = (1 << plan.conditions.len()) - 1;
    Entry { key: Key::from_int(1), time, id: Id::from_int(id), mask, known_at: i64::MAX, scored: true, amounts, values }
}

#[test]
fn a_million_one_off_keys_leave_nothing_after_expiry() {
    let (_, plan) = spend();
    let mut store = Store::new(plan.clone());
    let before = store.stats();
    for number in 0..1_000_000u64 {
        let entry = Entry { amounts: &[5], values: &[6], ..hot_key(&plan, number) };
        assert!(store.insert(&entry));
    }
    let full = store.stats();
    assert_eq!((full.keys, full.entries), (1_000_000, 1_000_000));
    assert!(full.bytes < 200_000_000, "{} bytes per one-entry key", full.bytes as f64 / 1e6);
    let (mut calls, mut work) = (0, 1);
    while work > 0 {
        work = store.expire(2_000_000, 10_000);
        assert!(work <= 10_001, "{work} is more than asked for");
        calls += 1;
    }
    assert!(calls > 100);
    let after = store.stats();
    assert_eq!((after.keys, after.entries), (0, 0));
    assert!(after.map_capacity <= before.map_capacity + 256 * 16, "{after:?}");
    assert!(after.bytes <= before.bytes + 256 * 1024, "{after:?}, before {before:?}");
}

fn hot_key(plan: &KeyPlan, number: u64) -> Entry<'static> {
    Entry { key: Key::from_int(number as i64), ..hot_entry(plan, number as i64, number) }
}

fn hot_entry(plan: &KeyPlan, time: i64, id: u64) -> Entry<'static> {
    let mask = (1 << plan.conditions.len()) - 1;
    let (key, id) = (Key::from_int(1), Id::from_int(id));
    Entry { key, time, id, mask, known_at: i64::MAX, scored: true, amounts: &[0], values: &[0] }
}

#[test]
fn scored_entries_are_found_after_any_of_them() {
    let (_, plan) = spend();
    let mut store = Store::new(plan.clone());
    for number in 0..300u64 {
        store.insert(&Entry { scored: number % 3 != 0, ..hot_entry(&plan, (number / 2) as i64, number) });
    }
    for first in [0u64, 1, 41, 42, 299, 300] {
        let after = ((first as i64 - 1).div_euclid(2), Id::from_int(first.wrapping_sub(1)));
        let after = if first == 0 { (i64::MIN, Id::default()) } else { after };
        let seen: Vec<(i64, u64)> =
            store.scored_after(Key::from_int(1), after).map(|(time, id)| (time, id.lo)).collect();
        let want: Vec<(i64, u64)> = (first..300).filter(|id| id % 3 != 0).map(|id| (id as i64 / 2, id)).collect();
        assert_eq!(seen, want, "after {after:?}");
    }
    assert_eq!(store.scored_after(Key::from_int(2), (i64::MIN, Id::default())).count(), 0, "an unknown key");
}

#[test]
fn an_image_of_other_sums_over_all_time_is_refused() {
    let schema = schema();
    let of = |velocity: Velocity| Store::new(Arc::new(KeyPlan::resolve(&velocity.count(), &schema).unwrap()));
    let all_time = || of(Velocity::of("card", &["card"]).including_current());
    let mut store = all_time();
    for (time, id) in (0..40).zip(1..) {
        let (key, id, known_at) = (Key::from_int(1), Id::from_int(id), i64::MAX);
        store.insert(&Entry { key, time, id, mask: u64::MAX, known_at, scored: true, amounts: &[], values: &[] });
    }
    store.expire(30, 10_000);
    let images: Vec<_> = (0..256).map(|shard| store.dump(shard)).filter(|image| !image.is_empty()).collect();
    assert_eq!(images.len(), 1);
    all_time().load(images[0].clone()).expect("the same features");
    let mut other = of(Velocity::of("card", &["card"]).over(&[Window::hours(1)]).including_current());
    let error = other.load(images[0].clone()).expect_err("other features");
    assert_eq!(error, "the image of key 'card' has 1 sums over all time, its features 0");
}

#[test]
fn how_long_a_key_must_be_silent_to_begin_anew_is_set() {
    let schema = schema();
    let velocity = Velocity::of("card", &["card"]).including_current().count();
    let plan = Arc::new(KeyPlan::resolve(&velocity, &schema).unwrap());
    let day = 86_400_000;
    for (forget_days, wanted) in [(400, [1.0, 2.0, 3.0, 4.0]), (30, [1.0, 2.0, 1.0, 2.0]), (5, [1.0, 1.0, 1.0, 1.0])] {
        let mut store = Store::new(plan.clone()).forgetting_after(forget_days * day);
        let mut out = [0.0];
        let counts = [0, 6, 37, 50].map(|at| {
            store.insert_and_read(&hot_entry(&plan, at * day, at as u64), &mut out);
            while store.expire((at - 1) * day, 100) > 0 {}
            out[0]
        });
        assert_eq!(counts, wanted, "{forget_days} days");
        // What is older than that leaves nothing behind.
        while store.expire((52 + forget_days) * day, 100) > 0 {}
        assert_eq!(store.stats().keys, 0, "{forget_days} days");
    }
}

#[test]
fn all_time_survives_expiry_and_begins_anew_after_silence() {
    let schema = schema();
    let velocity = Velocity::of("card", &["card"]).including_current().count().sum("amount").min("amount");
    let plan = Arc::new(KeyPlan::resolve(&velocity, &schema).unwrap());
    let day = 86_400_000;
    for expiring in [false, true] {
        let mut store = Store::new(plan.clone());
        let mut out = [0.0; 3];
        for (number, at) in [0, 10, 300, 690, 1091, 1092].into_iter().enumerate() {
            let entry = Entry { amounts: &[-7], ..hot_entry(&plan, at * day, number as u64) };
            store.insert_and_read(&entry, &mut out);
            let count = [1.0, 2.0, 3.0, 4.0, 1.0, 2.0][number];
            assert_eq!(out, [count, count * -7.0 / 100.0, -7.0 / 100.0], "day {at}");
            while expiring && store.expire(at * day, 3) > 0 {}
        }
        if expiring {
            while store.expire(1_500 * day, 1000) > 0 {}
            assert_eq!(store.stats().keys, 0);
        }
    }
}
