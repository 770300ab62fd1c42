//! Conditions over velocity features: the engine against the definition, and what goes round comes to rest.

use std::fmt::Write;
use std::path::Path;

use deltawatch::event::{Event, Op};
use deltawatch::feature::FeatureSet;
use deltawatch::testkit::invariance::{Options, check};
use deltawatch::testkit::{Batching, Harness, Plan, arrive, cases, random as any};
use deltawatch::views::pattern::Patterns;
use deltawatch::views::velocity::{Filter, Measure, Velocity, Window};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::flow::{Letters, SCHEMA, compare_beside, emitted, flow_beside};
use super::random::records;
use crate::dataflows::folder;
use crate::flows;

/// Seeds; `DELTAWATCH_FULL=1` takes so many times as many.
const SEEDS: u64 = 60;
const FULL: u64 = 40;
const RECORDS: usize = 80;

/// Features that go up and down, are missing at times, have a default, look at events without rows, and at two keys.
pub fn velocities() -> Vec<Velocity> {
    let seconds = |n: i64| Window::Millis(1_000 * n);
    vec![
        Velocity::of("account", &["account"]).over(&[seconds(10)]).count().sum("amount").mean("amount"),
        Velocity::of("device", &["device"])
            .over(&[seconds(30)])
            .distinct("account")
            .only("r", Filter::kind("r"))
            .or(100.0)
            .measure(Measure::SinceLast),
        Velocity::of("both", &["account", "device"]).over(&[seconds(20)]).count(),
        Velocity::of("payee", &["payee"]).over(&[seconds(5)]).including_current().max("amount"),
    ]
}

fn one<'a>(random: &mut StdRng, of: &[&'a str]) -> &'a str {
    of[random.random_range(0..of.len())]
}

/// A file of patterns, nearly all of which look at features: of the event in its own conditions, among those over the
/// history too, and across steps.
pub fn patterns(random: &mut StdRng, count: usize) -> String {
    let mut text = String::new();
    for number in 0..count {
        pattern(random, number, &mut text);
    }
    text
}

fn pattern(random: &mut StdRng, number: usize, text: &mut String) {
    let key = one(random, &["\"account\"", "\"account\"", "\"device\"", "[\"account\", \"device\"]"]);
    let within = random.random_range(3..40);
    let _ = writeln!(text, "[[pattern]]\nname = \"n{number}\"\nkey = {key}\nwithin = \"{within}s\"\nhistory = \"20s\"");
    if random.random_bool(0.3) {
        text.push_str("after_match = \"skip_past_last\"\n");
    }
    for name in ["one", "two"] {
        let kinds = one(random, &["\"p\"", "\"q\"", "[\"p\", \"q\"]"]);
        let mut conditions = Vec::new();
        while random.random_bool(0.5) {
            conditions.push(one(
                random,
                &[
                    "feature(account_count_10s) >= 2",
                    "feature('account_count_10s') <= 2",
                    "amount >= 0.4 * feature(account_amount_sum_10s)",
                    "amount > feature(account_amount_mean_10s) or flag",
                    "not has(feature(account_amount_mean_10s))",
                    "feature(device_distinct_account_30s) = 2",
                    "feature(device_since_last_30s_r) != 100 and flag",
                    "feature(both_count_20s) in [0, 2]",
                    "feature(payee_amount_max_5s_now) > 5.00",
                    "history.count() >= feature(both_count_20s)",
                    "first_seen(device) or feature(account_count_10s) > 1",
                    "flag",
                ],
            ));
        }
        let written: Vec<String> = conditions.iter().map(|condition| format!("\"{condition}\"")).collect();
        let _ = writeln!(text, "[pattern.events.{name}]\nkind = {kinds}\nwhere = [{}]", written.join(", "));
        if key == "\"account\"" && random.random_bool(0.5) {
            text.push_str("key = \"payee\"\n");
        }
    }
    text.push_str("[pattern.events.three]\nkind = [\"p\", \"r\", \"s\"]\nwhere = [\"flag\"]\n");
    let steps = random.random_range(1..=3);
    let mut before: Option<(String, bool, bool)> = None;
    for step in 0..steps {
        let event = one(random, &["one", "two", "two", "three"]);
        let (scored, name) = (event != "three", format!("s{step}"));
        let _ = writeln!(text, "[[pattern.step]]\nevent = \"{event}\"\nas = \"{name}\"");
        let counts = random.random_bool(0.3);
        if let (Some((earlier, had_row, counted)), true) = (&before, random.random_bool(0.7)) {
            let condition = match (scored, *had_row && !counted, random.random_range(0..4)) {
                (true, true, 0) => {
                    format!("feature(account_amount_sum_10s) > {earlier}.feature(account_amount_sum_10s)")
                }
                (true, true, 1) => format!("amount >= 0.5 * {earlier}.feature('account_amount_mean_10s')"),
                (_, true, _) => {
                    format!("2 * {earlier}.feature(both_count_20s) <= {earlier}.feature(account_count_10s)")
                }
                (true, false, _) => "feature(payee_amount_max_5s_now) >= amount".to_owned(),
                (false, false, _) => format!("since({earlier}) >= 2s"),
            };
            let _ = writeln!(text, "where = [\"{condition}\"]");
        }
        if step > 0 && random.random_bool(0.3) {
            let _ = writeln!(text, "not = [\"{}\"]", one(random, &["one", "two", "three"]));
        }
        if counts {
            let _ = writeln!(text, "at_least = {}", random.random_range(1..4));
            if let (Some((earlier, true, false)), true) = (&before, random.random_bool(0.6)) {
                let _ = writeln!(text, "having = [\"sum(amount) >= {earlier}.feature(account_amount_sum_10s)\"]");
            }
        }
        before = Some((name, scored, counts));
    }
    if random.random_bool(0.25) {
        let away = random.random_range(1..15);
        let _ = writeln!(text, "[[pattern.step]]\nabsent = \"two\"\nwithin = \"{away}s\"");
        if random.random_bool(0.5) {
            text.push_str("where = [\"feature(device_distinct_account_30s) <= 2\"]\n");
        }
    }
}

#[test]
fn random_conditions_over_features() {
    let mut letters = Letters::new();
    let times = if std::env::var_os("DELTAWATCH_FULL").is_some() { FULL } else { 1 };
    let velocities = velocities();
    let (mut wrong, mut matches, mut retracted, mut featured) = (Vec::new(), 0, 0, 0);
    for seed in 0..times * SEEDS {
        let mut random = StdRng::seed_from_u64(seed);
        let text = patterns(&mut random, 1 + seed as usize % 3);
        let patterns = Patterns::parse(&text).unwrap_or_else(|error| panic!("seed {seed}: {error}\n{text}"));
        featured += u64::from(patterns.look_at_features());
        let (dataflow, setup) = flow_beside(SCHEMA, &patterns, &velocities);
        let records = records(&mut letters, &mut random, RECORDS);
        let harness = Harness::new(dataflow, setup.clone());
        let other = arrive::shuffled(&records, 60_000, seed);
        let runs: [(&[Event], Batching, usize); 5] = [
            (&records, Batching::One, 1),
            (&records, Batching::EachEvent, 1),
            (&records, Batching::Fixed(7), 2),
            (&records, Batching::Fixed(3), 4),
            (&other, Batching::Fixed(5), 2),
        ];
        for (number, (records, batching, workers)) in runs.into_iter().enumerate() {
            let mut plan = Plan::of(records, batching);
            let end = plan.watermark_ms();
            plan.wait_until(end + 3_000);
            let harness = harness.clone().workers(workers);
            match compare_beside(&harness, &patterns, &velocities, &setup.schema, &plan) {
                Ok(outcome) => {
                    matches += outcome.collections.iter().filter(|update| update.diff > 0).count();
                    retracted += outcome.collections.iter().filter(|update| update.diff < 0).count();
                }
                Err(error) => wrong.push(format!("seed {seed}, run {number}: {error}\n{text}")),
            }
        }
    }
    eprintln!("{featured} files look at features, {matches} matches, {retracted} of them taken back");
    // The shortest pattern is the easiest to look into.
    wrong.sort_by_key(String::len);
    wrong.iter().for_each(|one| eprintln!("{}", one.lines().next().unwrap_or_default()));
    assert!(wrong.is_empty(), "{} runs are wrong; the first: {}", wrong.len(), wrong[0]);
    let seeds = (times * SEEDS) as usize;
    assert!(featured as usize > seeds / 2 && matches > 20 * seeds && retracted > 5 * seeds);
}

/// After each record the rows are those of the definition; other orders, more workers, everything withdrawn. Labels change
/// features, too, and a key may be missing.
#[test]
fn in_any_order_with_labels() {
    let patterns = r#"
    [[pattern]]
    name = "after_fraud"
    key = "card"
    within = "10m"
    [pattern.events.risky]
    kind = "payment"
    where = ["feature(device_ratio_fraud_1h_labelled) >= 0.5"]
    [pattern.events.more]
    kind = "payment"
    [[pattern.step]]
    event = "risky"
    [[pattern.step]]
    event = "more"
    where = ["feature(card_amount_sum_1h) >= 1.5 * risky.feature(card_amount_sum_1h)", "has(feature(ip_count_24h))"]
    [[pattern]]
    name = "plain"
    key = "card"
    within = "10m"
    events = { payment = { kind = "payment" } }
    step = [{ event = "payment", at_least = 3 }]
    "#;
    let patterns = Patterns::parse(patterns).expect("patterns");
    let hour = [Window::hours(1)];
    let labelled = Velocity::of("device", &["device"]).over(&hour).only("labelled", Filter::Labelled);
    let features = FeatureSet::new()
        .family(patterns)
        .velocity(labelled.measure(Measure::Ratio(Filter::Label(true))))
        .velocity(Velocity::of("card", &["card"]).over(&hour).sum("amount"))
        .velocity(Velocity::of("ip", &["ip"]).over(&[Window::days(1)]).count());
    let (dataflow, setup) = flows::of("labelled", include_str!("../../dataflows/payments.toml"), features);
    let records = any::records(&setup.schema, 5, 500);
    let options = Options { each_epoch: 80, ..Options::default() };
    let report = check(dataflow, &setup, &records, &options).unwrap_or_else(|says| panic!("{says}"));
    eprintln!("{report}");
    assert!(report.records > 250, "{report}");
}

const CASE: &str = r#"
[[pattern]]
name = "spree"
key = "card"
within = "20s"
[pattern.events.first]
kind = "payment"
where = ["feature(card_count_10s) = 0"]
[pattern.events.next]
kind = "payment"
[[pattern.step]]
event = "first"
[[pattern.step]]
event = "next"
where = ["feature('card_amount_sum_10s') >= 2 * first.amount"]
[[pattern]]
name = "bad_shop"
key = "shop"
[pattern.events.payment]
kind = "payment"
where = ['feature("shop_ratio_fraud_1m_labelled") > 0']
[[pattern.step]]
event = "payment"
[[pattern]]
name = "cardless"
key = "shop"
[pattern.events.payment]
kind = "payment"
where = ["feature(card_count_10s) = -1"]
[[pattern.step]]
event = "payment"
"#;

#[test]
fn what_changes_a_feature_changes_matches() {
    let features = FeatureSet::new()
        .velocity(Velocity::of("card", &["card"]).over(&[Window::Millis(10_000)]).or(-1.0).count().sum("amount"))
        .velocity(
            Velocity::of("shop", &["shop"])
                .over(&[Window::minutes(1)])
                .only("labelled", Filter::Labelled)
                .measure(Measure::Ratio(Filter::Label(true))),
        )
        .family(Patterns::parse(CASE).expect("patterns"));
    let (dataflow, setup) = flows::of("tiny", crate::cases::TINY, features);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pattern/cases/features.txt");
    cases::check(&path, dataflow, &setup).unwrap_or_else(|says| panic!("{says}"));
}

/// What a late event does to a payment's features makes it an event of its payee, and none again.
#[test]
fn events_that_carry_the_key_elsewhere() {
    let text = r#"
    [[pattern]]
    name = "used"
    key = "account"
    within = "60s"
    [pattern.events.paid]
    kind = "p"
    key = "payee"
    where = ["feature(account_count_1h) = 1"]
    [pattern.events.used]
    kind = "q"
    [[pattern.step]]
    event = "paid"
    [[pattern.step]]
    event = "used"
    "#;
    let patterns = Patterns::parse(text).expect("patterns");
    let velocities = [Velocity::of("account", &["account"]).over(&[Window::hours(1)]).count()];
    let (dataflow, setup) = flow_beside(SCHEMA, &patterns, &velocities);
    let mut letters = Letters::new();
    let mut event = |id: u64, kind: &str, (account, payee), time, op| {
        letters.text("account", account).text("payee", payee);
        letters.event(id, kind, time, op)
    };
    let (insert, withdraw) = (Op::Insert, Op::Withdraw);
    let steps = [
        // The first payment of its account.
        (event(1, "p", ("a", "b"), 10_000, insert), 0),
        // It becomes the second, and an event of b, of which nothing is known yet.
        (event(2, "p", ("a", "c"), 5_000, insert), 0),
        (event(3, "q", ("b", "c"), 20_000, insert), 1),
        // The third, and the second again.
        (event(4, "p", ("a", "c"), 6_000, insert), 0),
        (event(4, "p", ("a", "c"), 6_000, withdraw), 1),
        (event(1, "p", ("a", "b"), 10_000, withdraw), 0),
    ];
    let mut plan = Plan::default();
    for (place, (event, matches)) in steps.into_iter().enumerate() {
        plan.push([event]);
        for workers in [1, 2] {
            // Drained, what is read again comes to a payee of which nothing else is asked in that epoch.
            let harness = Harness::new(dataflow.clone(), setup.clone()).workers(workers).drained();
            let outcome = compare_beside(&harness, &patterns, &velocities, &setup.schema, &plan);
            let outcome = outcome.unwrap_or_else(|says| panic!("step {place}: {says}"));
            assert_eq!(emitted(&outcome).len(), matches, "step {place}");
        }
    }
}

/// A late event touches every later row of its key; where no feature that is looked at changes, that is all.
#[test]
fn rows_read_again_come_to_rest() {
    let text = r#"
    [[pattern]]
    name = "pair"
    key = "account"
    within = "60s"
    [pattern.events.p]
    kind = "p"
    where = ["feature(account_count_1h) < 100", "feature(account_count_1h_r) = 0"]
    [[pattern.step]]
    event = "p"
    [[pattern.step]]
    event = "p"
    as = "again"
    "#;
    let patterns = Patterns::parse(text).expect("patterns");
    let account = Velocity::of("account", &["account"]).over(&[Window::hours(1)]).count();
    let velocities = [account.only("r", Filter::kind("r")).count()];
    let (dataflow, setup) = flow_beside(SCHEMA, &patterns, &velocities);
    let mut letters = Letters::new();
    let mut event = |id: u64, kind: &str, time| {
        letters.text("account", "a");
        letters.event(id, kind, time, Op::Insert)
    };
    const ROWS: u64 = 30;
    let mut plan = Plan::default();
    for id in 1..=ROWS {
        plan.push([event(id, "p", 1_000_000 + id as i64)]);
    }
    let before = plan.clone();
    // It changes a feature of every row, but none so that an event becomes one of the pattern's, or ceases to be.
    plan.push([event(1_000, "q", 1_000_000)]);
    let harness = Harness::new(dataflow, setup.clone());
    let run = |plan: &Plan| compare_beside(&harness, &patterns, &velocities, &setup.schema, plan);
    let (first, late) = (run(&before).unwrap_or_else(|says| panic!("{says}")), run(&plan));
    let late = late.unwrap_or_else(|says| panic!("{says}"));
    assert_eq!(first.rows.len(), ROWS as usize, "in order, each row is assembled once");
    assert_eq!(late.rows.len(), 2 * ROWS as usize + 1, "the late row, and all others once more");
    assert_eq!(late.collections.len(), first.collections.len(), "no match came or went");
    plan.push([event(1_001, "r", 1_000_001)]);
    let gone = run(&plan).unwrap_or_else(|says| panic!("{says}"));
    let left: isize = gone.collections.iter().map(|update| update.diff).sum();
    assert_eq!(left, 0, "with another r before it no p is one of the pattern's");
    // Once for the late event, once more for the matches that it undoes.
    assert!(gone.rows.len() <= late.rows.len() + 2 * (ROWS as usize + 1), "{} rows", gone.rows.len());
}

/// The records on which every dataflow is tried (`dataflows.rs`) have matches of the shipped one, and some come and go.
#[test]
fn drained_cards_are_drained() {
    let dataflow = folder::all().into_iter().find(|one| one.name() == "drained_cards").expect("it is shipped");
    let setup = flows::setup(dataflow.schema());
    let plan = Plan::of(&any::records(&setup.schema, 1, 600), Batching::EachEvent);
    let outcome = Harness::new(dataflow, setup).run(&plan).expect("it builds");
    let gone = outcome.collections.iter().filter(|update| update.diff < 0).count();
    let left = outcome.collections.len() - 2 * gone;
    eprintln!("{left} matches, {gone} taken back");
    assert!(left >= 10 && gone >= 5, "{left} matches, {gone} taken back");
}

#[test]
fn errors_say_what_can_be_written() {
    let errors: [(&str, &str, &[&str]); 8] = [
        ("'p'", "feature(account_coun_10s) > 1", &["event 'e'", "'account_coun_10s'", "account_count_10s"]),
        ("'p'", "feature(amount) > 1", &["no velocity feature 'amount'"]),
        ("'r'", "feature(account_count_10s) > 1", &["event 'e'", "'r' is not scored", "p, q"]),
        ("['p', 's']", "feature(account_count_10s) > 1", &["'s' is not scored"]),
        ("'p'", "feature(account_count_10s, p) > 1", &["one velocity feature"]),
        ("'p'", "feature() > 1", &["one velocity feature"]),
        ("'p'", "feature(account_count_10s)", &["neither yes nor no"]),
        ("'p'", "feature(account_count_10s) = device", &["text with a number"]),
    ];
    for (kind, condition, words) in errors {
        let text = format!(
            "[[pattern]]\nname = 'wrong'\nkey = 'account'\n[pattern.events.e]\nkind = {kind}\nwhere = ['{condition}']\n\
             [[pattern.step]]\nevent = 'e'\n"
        );
        says(&text, &velocities(), words);
    }
    let steps = |first: &str, condition: &str| {
        format!(
            "[[pattern]]\nname = 'wrong'\nkey = 'account'\nwithin = '1m'\nevents = {{ p = {{ kind = 'p' }}, \
             r = {{ kind = 'r' }} }}\n[[pattern.step]]\n{first}\n[[pattern.step]]\nevent = 'p'\nas = 'b'\n\
             where = ['{condition}']\n"
        )
    };
    let all = velocities();
    says(&steps("event = 'r'", "r.feature(account_count_10s) > 1"), &all, &["step 2", "'r' is not scored"]);
    says(&steps("event = 'p'\nat_least = 2", "p.feature(account_count_10s) > 1"), &all, &["step 2", "step 'p' counts"]);
    let having =
        steps("event = 'p'", "flag").replace("where", "having").replace("flag", "feature(account_count_10s) > 1");
    says(&having, &all, &["step 2", "'having'"]);
    says(&steps("event = 'p'", "feature(account_count_10s) > 1"), &[], &["there are none", "add a Velocity"]);
    let cycle = "[[pattern]]\nname = 'wrong'\nwithin = '1h'\ncycle = { event = 'e', from = 'account', to = 'payee', \
                 amount = 'amount', hops = [3, 3], share = [0.5, 1.0] }\n[pattern.events.e]\nkind = 'p'\n\
                 where = ['feature(account_count_10s) > 1']\n";
    says(cycle, &all, &["event 'e'", "itself only"]);
}

/// Building the dataflow fails, in one line that names the pattern.
fn says(text: &str, velocities: &[Velocity], words: &[&str]) {
    let patterns = Patterns::parse(text).expect("patterns");
    let (dataflow, setup) = flow_beside(SCHEMA, &patterns, velocities);
    let error = Harness::new(dataflow, setup).run(&Plan::default()).expect_err(text).to_string();
    assert!(!error.contains('\n') && error.contains("pattern 'wrong'"), "{error}");
    for word in words {
        assert!(error.contains(word), "{text}\nsays: {error}\nwithout: {word}");
    }
}
