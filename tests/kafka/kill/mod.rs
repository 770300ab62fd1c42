//! Runs that are killed while events come, on a broker that is killed as well.
//!
//! ```text
//!  producer, 5 k/s ─► topic ─► run of `payments`, 2 workers ─► topic ─► reader of committed records
//!   late, corrected,    │           │ state on a small disk        │
//!   withdrawn         kill -9     kill -9, torn journal, no space   kill -9
//! ```
//!
//! What the reader sees in the end is compared line by line with a replay of the run's journal, which knows nothing of cuts and
//! kills, and once consolidated with a replay of the topic, which knows nothing of the journal either. The two replays bind records to other
//! epochs; what is looked up as of arrival may differ between them, and nothing else.
//!
//! Ten seeds always; `DELTAWATCH_KILL_SEEDS=300`, or `11-40`, for others (`scripts/kill-test.sh`).

mod compare;
mod disk;
mod engine;
mod producer;

use std::io::Write;
use std::ops::RangeInclusive;

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use self::compare::{Compared, reached};
use self::disk::{SmallDisk, tear};
use self::engine::{Engine, Flags};
use self::producer::Producer;
use super::outage::Broker;
use super::*;

/// Records of a stream.
const EVENTS: usize = 12_500;

/// Records per second of the producer.
const PACE: usize = 5_000;

/// What is done to a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blow {
    /// The engine is killed.
    Engine,
    /// The broker is killed; the engine has to go on by itself when it is back.
    Broker,
    /// Both are killed.
    Both,
    /// The disk of the state directory is full for a while.
    FullDisk,
    /// The engine is killed, and the last block of its journal is cut off.
    Torn,
}

/// What became of a seed.
struct Outcome {
    seed: u64,
    delivery: &'static str,
    blows: Vec<Blow>,
    /// How often the engine ended with an error because the broker was away.
    gave_up: usize,
    /// How often a block was cut off of which nothing had come, so that it was never more than half written.
    cut_off: usize,
    compared: Compared,
}

/// One stream from topic to topic, with a blow now and then.
fn struck(seed: u64, broker: &Broker) -> Outcome {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let address = broker.address();
    let (config, input, output) = (config(&address), topic(&address, 2), topic(&address, 2));
    let folder = tempfile::tempdir().unwrap();
    let disk = SmallDisk::new(&folder.path().join("disk"));
    let delivery = if seed % 2 == 1 { "exactly-once" } else { "at-least-once" };
    let flags = Flags { brokers: address.clone(), input, output, state: disk.path().join("state"), delivery };
    let mut blows = vec![Blow::Engine, [Blow::Broker, Blow::Both][seed as usize / 2 % 2], Blow::FullDisk, Blow::Torn];
    blows.shuffle(&mut random);

    let producer = Producer::start(&address, &flags.input, seed, EVENTS, PACE);
    let share = EVENTS / (blows.len() + 1);
    let (mut engine, mut gave_up, mut cut_off) = (Engine::start(&flags), 0, 0);
    let moment = |random: &mut ChaCha8Rng, ms| std::thread::sleep(Duration::from_millis(random.random_range(ms)));
    for &blow in &blows {
        if let Some(error) = engine.gave_up() {
            eprintln!("seed {seed}: the engine ended by itself: {error}");
            gave_up += 1;
            engine = Engine::start(&flags);
        }
        producer.allow(share / 2);
        moment(&mut random, 100..900);
        match blow {
            Blow::Engine => engine.kill(),
            Blow::Broker => broker.run("kill"),
            Blow::Both => {
                let engine_first = random.random_bool(0.5);
                if engine_first {
                    engine.kill();
                }
                broker.run("kill");
                engine.kill();
            }
            Blow::FullDisk => disk.fill(&engine),
            Blow::Torn => {
                engine.kill();
                cut_off += usize::from(tear(&flags.state, reached(&config, &flags), &mut random));
            }
        }
        // It never waits for what is struck.
        producer.allow(share - share / 2);
        moment(&mut random, 0..400);
        match blow {
            Blow::Broker | Blow::Both => broker.run("start"),
            Blow::FullDisk => {
                engine.end_without_space(&flags.state);
                disk.free();
            }
            Blow::Engine | Blow::Torn => {}
        }
        if blow != Blow::Broker {
            engine = Engine::start(&flags);
        }
    }
    producer.allow(EVENTS);
    producer.finish();
    while let Err(error) = engine.read_to_the_end() {
        eprintln!("seed {seed}: the engine ended by itself: {error}");
        gave_up += 1;
        assert!(gave_up < 5, "seed {seed}: it ends again and again");
        engine = Engine::start(&flags);
    }
    let compared = compare::with_undisturbed(&config, &flags, folder.path());
    // A broker that was killed looks into every topic that it has before it is back.
    let topics = [&*flags.input, &flags.output, &format!("{}-progress-0", flags.output)];
    block_on(admin(&address).delete_topics(&topics, &AdminOptions::new())).unwrap();
    Outcome { seed, delivery, blows, gave_up, cut_off, compared }
}

/// Ten, or those that are asked for.
fn seeds() -> RangeInclusive<u64> {
    let asked = std::env::var("DELTAWATCH_KILL_SEEDS").unwrap_or_else(|_| "10".to_owned());
    let number = |text: &str| text.parse().unwrap_or_else(|_| panic!("DELTAWATCH_KILL_SEEDS={asked}: 300, or 11-40"));
    match asked.split_once('-') {
        Some((first, last)) => number(first)..=number(last),
        None => 1..=number(&asked),
    }
}

/// Prints a line though a test that passes prints nothing.
#[allow(clippy::explicit_write, reason = "what is printed otherwise is kept back")]
fn say(line: &str) {
    writeln!(std::io::stderr(), "{line}").unwrap();
}

#[test]
fn what_is_read_in_the_end_is_what_an_undisturbed_run_says() {
    let Some(shared) = brokers() else { return };
    let port: u16 = shared.rsplit(':').next().unwrap().parse().unwrap();
    let broker = Broker(port + 40);
    broker.run("start --fresh");
    let begin = Instant::now();
    let mut outcomes = Vec::new();
    say("seed  delivery       lines  lost  doubled  more  differ  elsewhen  gave up  torn  blows");
    for seed in seeds() {
        let outcome = struck(seed, &broker);
        let Outcome { delivery, blows, gave_up, cut_off, compared, .. } = &outcome;
        let Compared { lines, lost, doubled, more, differ, elsewhen } = compared;
        let (lost, doubled, more, differ) = (lost.len(), doubled.len(), more.len(), differ.len());
        say(&format!(
            "{seed:>4}  {delivery:<13} {lines:>6}  {lost:>4}  {doubled:>7}  {more:>4}  {differ:>6}  {elsewhen:>8}  {gave_up:>7}  {cut_off:>4}  {blows:?}"
        ));
        outcomes.push(outcome);
    }
    let sum = |count: fn(&Outcome) -> usize| outcomes.iter().map(count).sum::<usize>();
    let lost = sum(|outcome| outcome.compared.lost.len());
    let doubled = |delivery| {
        let of = outcomes.iter().filter(|outcome| outcome.delivery == delivery);
        of.map(|outcome| outcome.compared.doubled.len()).sum::<usize>()
    };
    say(&format!(
        "{} seeds, {} blows in {} s: {} lines, {lost} lost, {} doubled of exactly once, {} of at least once, {} blocks cut off",
        outcomes.len(),
        sum(|outcome| outcome.blows.len()),
        begin.elapsed().as_secs(),
        sum(|outcome| outcome.compared.lines),
        doubled("exactly-once"),
        doubled("at-least-once"),
        sum(|outcome| outcome.cut_off),
    ));
    for Outcome { seed, delivery, gave_up, compared, .. } in &outcomes {
        let Compared { lines, lost, doubled, more, differ, .. } = compared;
        assert!(*lines > EVENTS / 3, "seed {seed}: {lines} lines");
        assert!(lost.is_empty(), "seed {seed}: lost {:#?}", &lost[..lost.len().min(3)]);
        assert!(more.is_empty(), "seed {seed}: no run should have written {:#?}", &more[..more.len().min(3)]);
        assert!(differ.is_empty(), "seed {seed}: the topic alone gives {:#?}", &differ[..differ.len().min(3)]);
        let once = *delivery == "at-least-once" || doubled.is_empty();
        assert!(once, "seed {seed}: twice {:#?}", &doubled[..doubled.len().min(3)]);
        assert_eq!(*gave_up, 0, "seed {seed}: the engine did not wait for its broker");
    }
}
