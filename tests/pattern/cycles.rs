//! Cycles of transfers: the engine gives what trying every sequence gives.

use deltawatch::event::{Event, Op};
use deltawatch::testkit::{Batching, Harness, Plan};
use deltawatch::views::pattern::Patterns;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::flow::{Letters, SCHEMA, compare, emitted, flow};

const START_MS: i64 = 1_700_000_000_000;

fn pattern(hops: [u32; 2]) -> Patterns {
    let text = format!(
        "[[pattern]]\nname = 'cycle'\nwithin = '30s'\n\
         cycle = {{ event = 'transfer', from = 'account', to = 'payee', amount = 'amount', hops = {hops:?}, share = [0.7, 1.0] }}\n\
         [pattern.events.transfer]\nkind = ['p', 'r']\nwhere = ['amount > 0.00']\n"
    );
    Patterns::parse(&text).expect("it is a pattern")
}

fn transfer(letters: &mut Letters, id: u64, second: i64, from: &str, to: &str, cents: i64) -> Event {
    letters.text("account", from).text("payee", to).int("amount", cents);
    letters.event(id, "p", START_MS + 1_000 * second, Op::Insert)
}

fn cycles(events: &[Event]) -> usize {
    let patterns = pattern([3, 6]);
    let (dataflow, setup) = flow(SCHEMA, &patterns);
    let plan = Plan::of(events, Batching::EachEvent);
    let outcome = compare(&Harness::new(dataflow, setup.clone()), &patterns, &setup.schema, &plan);
    emitted(&outcome.expect("the engine agrees with the definition")).len()
}

#[test]
fn a_cycle_comes_back_in_time_with_shrinking_amounts() {
    let mut letters = Letters::new();
    let mut chain = |hops: &[(i64, &str, &str, i64)]| {
        let mut number = 0;
        let events = hops.iter().map(|(second, from, to, cents)| {
            number += 1;
            transfer(&mut letters, number, *second, from, to, *cents)
        });
        cycles(&events.collect::<Vec<_>>())
    };
    assert_eq!(chain(&[(1, "a", "b", 1000), (2, "b", "c", 700), (3, "c", "a", 700)]), 1);
    // The edges: 0.7 of the one before, the same, and not a cent less or more.
    assert_eq!(chain(&[(1, "a", "b", 1000), (2, "b", "c", 699), (3, "c", "a", 650)]), 0);
    assert_eq!(chain(&[(1, "a", "b", 1000), (2, "b", "c", 1001), (3, "c", "a", 900)]), 0);
    // Two hops are too few; the window ends before 30 s; time must rise, or the id at equal times.
    assert_eq!(chain(&[(1, "a", "b", 1000), (2, "b", "a", 900)]), 0);
    assert_eq!(chain(&[(1, "a", "b", 1000), (2, "b", "c", 900), (31, "c", "a", 900)]), 0);
    assert_eq!(chain(&[(1, "a", "b", 1000), (1, "b", "c", 900), (1, "c", "a", 900)]), 1);
    assert_eq!(chain(&[(1, "a", "b", 1000), (3, "b", "c", 900), (2, "c", "a", 900)]), 0);
    // Nobody pays twice; the last hop comes late.
    assert_eq!(chain(&[(1, "a", "b", 100), (2, "b", "c", 100), (3, "c", "b", 100), (4, "b", "a", 100)]), 0);
    assert_eq!(chain(&[(1, "a", "b", 100), (9, "c", "a", 100), (5, "b", "c", 100)]), 1);
}

#[test]
fn random_transfers() {
    let mut letters = Letters::new();
    let mut found = 0;
    for seed in 0..40 {
        let mut random = StdRng::seed_from_u64(seed);
        let names = ["a", "b", "c", "d", "e"];
        let mut events: Vec<Event> = Vec::new();
        let mut now = 0;
        for id in 1..=60 {
            now += random.random_range(0..3);
            let (from, to) = (names[random.random_range(0..5)], names[random.random_range(0..5)]);
            let cents = random.random_range(6..12);
            let earlier = events.len().checked_sub(1 + random.random_range(0..10));
            match (random.random_range(0..10), earlier) {
                (0, _) => events.push(transfer(&mut letters, id, now - random.random_range(1..20), from, to, cents)),
                (1, Some(at)) => {
                    let mut gone = events[at].clone();
                    gone.op = Op::Withdraw;
                    events.push(gone);
                }
                (2, Some(at)) => {
                    let other = events[at].clone();
                    let mut corrected = transfer(&mut letters, other.id.lo, now, from, to, cents);
                    (corrected.op, corrected.time) = (Op::Correct, other.time);
                    events.push(corrected);
                }
                _ => events.push(transfer(&mut letters, id, now, from, to, cents)),
            }
        }
        let patterns = pattern([3, 5]);
        let (dataflow, setup) = flow(SCHEMA, &patterns);
        for (batching, workers) in [(Batching::One, 1), (Batching::EachEvent, 2), (Batching::Fixed(5), 4)] {
            let harness = Harness::new(dataflow.clone(), setup.clone()).workers(workers);
            let outcome = compare(&harness, &patterns, &setup.schema, &Plan::of(&events, batching));
            let outcome =
                outcome.unwrap_or_else(|error| panic!("seed {seed}, {batching:?}, {workers} workers: {error}"));
            found += emitted(&outcome).len();
        }
    }
    assert!(found > 100, "only {found} cycles");
}
