//! Tallies and flags: whatever comes late, twice, otherwise or not at all, and what a spec must not say.

use std::collections::HashMap;

use deltawatch::dataflow::EngineSettings;
use deltawatch::event::{Event, EventBuilder, Id, Op};
use deltawatch::testkit::{Batching, Harness, Plan, arrive, resolve};
use deltawatch::views::Family;
use deltawatch::views::identity::{ClusterMeasure as C, Flag, Identity};
use deltawatch::views::velocity::{Filter, Window};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::operator::{FLAGS, events, identity, people};

const HOUR_MS: i64 = 3_600_000;

/// The same events in another order of arrival; some again, some with the content of others, some taken back.
pub fn mangled(seed: u64, count: usize) -> Vec<Event> {
    let schema = people().1.schema;
    let mut random = StdRng::seed_from_u64(seed);
    let label = schema.kind("label");
    let all: Vec<Event> = events(seed, count).into_iter().filter(|event| Some(event.kind) != label).collect();
    let mut records: Vec<Event> = Vec::new();
    for (place, event) in all.iter().enumerate() {
        records.push(event.clone());
        let mut about = all[random.random_range(place.saturating_sub(30)..=place)].clone();
        match random.random_range(0..10) {
            0 => records.push(about),
            1 => {
                // What someone else did, under this id and at this time.
                let mut other = all[random.random_range(0..all.len())].clone();
                (other.id, other.time, other.kind, other.op) = (about.id, about.time, about.kind, Op::Correct);
                records.push(other);
            }
            2 => {
                about.op = Op::Withdraw;
                records.push(about);
            }
            _ => {}
        }
    }
    arrive::shuffled(&records, 9 * HOUR_MS, seed)
}

/// Late events, repeated, corrected and withdrawn ones, alone in their epochs and with others.
#[test]
fn tallies_hold_however_events_arrive() {
    let names = identity().names();
    let counted = |name: &String| {
        ["_any_", "_declined_", "_refunded_", "_paid_", "_large_", "_night_"].iter().any(|part| name.contains(part))
            || FLAGS.iter().any(|flag| *name == format!("cluster_{flag}_now"))
            || name == "cluster_size"
    };
    let columns: Vec<usize> = (0..names.len()).filter(|&at| counted(&names[at])).collect();
    assert_eq!(columns.len(), 8 + FLAGS.len() + 1);
    let ((dataflow, setup), schema) = (people(), people().1.schema);
    for (per_epoch, expected_up) in [(1, 20), (6, 20), (40, 5)] {
        let (mut compared, mut up) = (0, 0);
        for seed in 10..13 {
            let records = mangled(seed, 260);
            let settings = EngineSettings {
                late_ms: 400 * 24 * HOUR_MS,
                label_ms: 10_000 * 24 * HOUR_MS,
                ..EngineSettings::default()
            };
            let harness = Harness::new(dataflow.clone(), setup.clone()).settings(settings).unscored();
            let plan = Plan::of(&records, Batching::Fixed(per_epoch));
            let rows = harness.workers([1, 2, 4][seed as usize % 3]).run(&plan).expect("it runs").final_rows();
            let mut times: HashMap<_, usize> = HashMap::new();
            records.iter().for_each(|record| *times.entry(record.id).or_default() += 1);
            let mut latest_ms = i64::MIN;
            for (number, epoch) in records.chunks(per_epoch).enumerate() {
                let through = &records[..records.len().min((number + 1) * per_epoch)];
                for (place, record) in epoch.iter().enumerate() {
                    // The row of an event that came once, and after all of the epochs before, is by definition that of
                    // what is before it in event time when its epoch ends.
                    let once = times[&record.id] == 1 && schema.is_scored(record.kind);
                    if record.time <= latest_ms || !once || (number + place) % 2 == 0 {
                        continue;
                    }
                    let mut retained = resolve::retained(through, &schema);
                    retained.retain(|(event, _)| (event.time, event.id) <= (record.time, record.id));
                    let Some(expected) = identity().expected(&schema, &retained).remove(&record.id) else { continue };
                    for &column in &columns {
                        let (name, found) = (&names[column], rows[&record.id][column]);
                        let at = format!("seed {seed}, {per_epoch} per epoch, epoch {number}, {:?}", record.id);
                        assert_eq!(found, expected[column], "{at}: {name}");
                        up += usize::from(name.ends_with("_now") && found == 1.0);
                    }
                    compared += 1;
                }
                latest_ms = epoch.iter().map(|record| record.time).fold(latest_ms, i64::max);
            }
        }
        assert!(compared > 60 && up > expected_up, "{per_epoch} per epoch: {compared} rows, {up} flags up");
    }
}

/// What leaves windows in a gap of the data goes in turns, and all of it has gone when the next event is answered.
#[test]
fn a_gap_is_worked_off_before_the_next_event() {
    let (dataflow, setup) = people();
    let schema = setup.schema.clone();
    let mut builder = EventBuilder::new(&schema);
    let slot = |name: &str| schema.slot(name).expect("a field");
    let mut payment = |number: u64, time_ms: i64| {
        let time = 1_700_000_000_000 + time_ms;
        builder.set_int(slot("id"), number as i64);
        builder.set_int(slot("time"), time);
        builder.set_text(slot("kind"), "payment");
        builder.set_text(slot("account"), &format!("a-{}", number % 3));
        builder.set_text(slot("device"), "d");
        builder.set_text(slot("outcome"), "approved");
        builder.set_int(slot("amount"), 100);
        builder.finish(Id::from_int(number), time, schema.kind("payment").expect("a kind"), Op::Insert, &schema)
    };
    // Each is counted over three spans of time and two tallies: more steps than the operator does in a turn.
    let many = 9_000;
    let mut records: Vec<Event> = (1..=many).map(|number| payment(number, number as i64)).collect();
    records.push(payment(many + 1, 19 * 24 * HOUR_MS));
    records.push(payment(many + 2, 19 * 24 * HOUR_MS + 1));
    let names = identity().names();
    let harness = Harness::new(dataflow, setup).unscored();
    let rows = harness.run(&Plan::of(&records, Batching::Fixed(500))).expect("it runs").final_rows();
    let found = |number: u64, name: &str| {
        rows[&Id::from_int(number)][names.iter().position(|column| column == name).expect("a column")]
    };
    let windows = ["cluster_count_24h", "cluster_count_7d", "cluster_count_30d", "cluster_paid_amount_sum_10d"];
    let before = many as f64 - 1.0;
    assert_eq!(windows.map(|name| found(many, name)), [before, before, before, before]);
    assert_eq!(windows.map(|name| found(many + 1, name)), [0.0, 0.0, many as f64, 0.0]);
    assert_eq!(windows.map(|name| found(many + 2, name)), [1.0, 1.0, many as f64 + 1.0, 1.0]);
}

#[test]
fn tallies_come_and_go_with_the_accounts() {
    let (dataflow, setup) = people();
    let schema = setup.schema.clone();
    let mut builder = EventBuilder::new(&schema);
    let slot = |name: &str| schema.slot(name).expect("a field");
    let mut event = |number: u64, kind: &str, account: &str, device: Option<&str>| {
        let time = 1_700_000_000_000 + number as i64 * HOUR_MS;
        builder.set_int(slot("id"), number as i64);
        builder.set_int(slot("time"), time);
        builder.set_text(slot("kind"), kind);
        builder.set_text(slot("account"), account);
        device.into_iter().for_each(|device| builder.set_text(slot("device"), device));
        let kind = schema.kind(kind).expect("a kind");
        builder.finish(Id::from_int(number), time, kind, Op::Insert, &schema)
    };
    let linking = event(6, "login", "a", Some("d"));
    let mut withdrawn = linking.clone();
    withdrawn.op = Op::Withdraw;
    let records = [
        // Without live links an account is a cluster of its own.
        event(1, "refund", "a", None),
        event(2, "refund", "a", None),
        event(3, "order", "a", None),
        event(4, "refund", "b", Some("d")),
        event(5, "order", "b", Some("d")),
        // It brings what happened before it was a member, and takes it along.
        linking,
        event(7, "order", "b", Some("d")),
        withdrawn,
        event(8, "order", "b", Some("d")),
    ];
    let names = identity().names();
    let column = |name: &str| names.iter().position(|column| column == name).expect("a column");
    let (refunded, flag) = (column("cluster_refunded_count_10d"), column("cluster_order_after_refunds_now"));
    let harness = Harness::new(dataflow, setup).unscored();
    let rows = harness.run(&Plan::of(&records, Batching::EachEvent)).expect("it runs").final_rows();
    let found = [3, 5, 7, 8].map(|number| &rows[&Id::from_int(number)]).map(|row| (row[refunded], row[flag]));
    assert_eq!(found, [(2.0, 1.0), (1.0, 0.0), (3.0, 1.0), (1.0, 0.0)]);
}

#[test]
fn a_spec_says_what_is_wrong_with_it() {
    let schema = people().1.schema;
    let base = || Identity::of("account").strong("device", 9);
    let refusal = |identity: Identity| identity.check(&schema).expect_err("it must be refused");
    let refund = || Filter::kind("refund");
    let seven = (0..7).fold(base(), |identity, n| identity.tally(&format!("t{n}"), refund(), Window::days(1)));
    assert!(refusal(seven).contains("at most 6"));
    let tally = || base().tally("back", refund(), Window::days(1));
    assert!(tally().check(&schema).is_ok());
    assert!(refusal(tally().tally("back", refund(), Window::days(2))).contains("'back'"));
    assert!(refusal(base().tally("back", refund(), Window::AllTime)).contains("window"));
    assert!(refusal(base().tally("back", Filter::kind("gone"), Window::days(1))).contains("no kind 'gone'"));
    assert!(refusal(base().tally("bad", Filter::Label(true), Window::days(1))).contains("labels"));
    assert!(refusal(tally().column(C::TallyCount("forth".into()))).contains("no tally is called 'forth'"));
    assert!(refusal(tally().column(C::Flag("none".into()))).contains("no flag is called 'none'"));
    assert!(refusal(tally().flag(Flag::named("empty"))).contains("no limit"));
    assert!(refusal(tally().flag(Flag::named("f").share("back", "forth", 1))).contains("no tally is called 'forth'"));
    assert!(refusal(tally().amount("price").flag(Flag::named("f").sum("back", 1))).contains("'price'"));
    let nine = (0..9).fold(tally(), |identity, n| identity.flag(Flag::named(&format!("f{n}")).count("back", n)));
    assert!(refusal(nine).contains("at most 6 and 8"));
}
