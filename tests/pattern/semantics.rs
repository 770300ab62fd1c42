//! What patterns mean, case by case.
//!
//! The cases of sequences are those by which the documentation of a known CEP engine explains its relaxed contiguity
//! (`followedBy`, `notFollowedBy`, `within`, without skipping), where a step of one event can express them. Events are
//! written `name@seconds`, the first letter the kind; they arrive in the order in which they are written.

use deltawatch::event::{Event, Op};
use deltawatch::testkit::{Batching, Harness, Plan};
use deltawatch::views::pattern::Patterns;

use super::flow::{Letters, SCHEMA, compare, emitted, flow};

const START_MS: i64 = 1_700_000_000_000;

/// Events of one account: `p1@3` is an event of kind p at second 3; `p1@3:2.50` has an amount; `-p1@3` withdraws it,
/// `=p1@3:4.00` corrects it. `!p1@3` is an event of another account. Ids go by the order of first mention.
fn events(letters: &mut Letters, text: &str) -> (Vec<Event>, Vec<String>) {
    let mut names: Vec<String> = Vec::new();
    let events = text.split_whitespace().map(|word| {
        let (op, word) = match word.as_bytes()[0] {
            b'-' => (Op::Withdraw, &word[1..]),
            b'=' => (Op::Correct, &word[1..]),
            _ => (Op::Insert, word),
        };
        let (account, word) = word.strip_prefix('!').map_or(("a", word), |word| ("b", word));
        let (word, amount) = word.split_once(':').map_or((word, None), |(word, amount)| (word, Some(amount)));
        let (name, second) = word.split_once('@').expect("name@second");
        let id = names.iter().position(|known| known == name).unwrap_or_else(|| {
            names.push(name.to_owned());
            names.len() - 1
        });
        letters.text("account", account).text("device", "d");
        if let Some(amount) = amount {
            let cents: f64 = amount.parse().expect("an amount");
            letters.int("amount", (cents * 100.0).round() as i64);
        }
        let time = START_MS + (second.parse::<f64>().expect("seconds") * 1_000.0) as i64;
        letters.event(id as u64 + 1, &name[..1], time, op)
    });
    (events.collect(), names)
}

/// The matches after these events, each as the names of its events.
pub fn matches(body: &str, text: &str) -> Vec<String> {
    let mut letters = Letters::new();
    let (events, names) = events(&mut letters, text);
    let events_of = ["p", "q", "r", "s"].map(|kind| format!("[pattern.events.{kind}]\nkind = \"{kind}\"\n")).concat();
    let patterns = format!("[[pattern]]\nname = \"case\"\nkey = \"account\"\n{body}");
    // Tables come last in TOML: the named events stand behind what the case says of the pattern itself.
    let patterns = match patterns.split_once("[[pattern.step]]") {
        Some((head, steps)) => format!("{head}{events_of}[[pattern.step]]{steps}"),
        None => patterns,
    };
    let patterns = Patterns::parse(&patterns).unwrap_or_else(|error| panic!("{error}\n{patterns}"));
    let (dataflow, setup) = flow(SCHEMA, &patterns);
    let mut last = Vec::new();
    for batching in [Batching::One, Batching::EachEvent] {
        let plan = Plan::of(&events, batching);
        let outcome = compare(&Harness::new(dataflow.clone(), setup.clone()), &patterns, &setup.schema, &plan);
        let outcome = outcome.unwrap_or_else(|error| panic!("{batching:?}: {error}"));
        let name = |id: &str| names[id.trim().parse::<usize>().expect("a number") - 1].clone();
        let ids = |text: &str| text.split_once('[').and_then(|(_, ids)| ids.strip_suffix(']')).unwrap_or("").to_owned();
        last = emitted(&outcome)
            .iter()
            .map(|(_, one)| ids(one).split(',').map(name).collect::<Vec<_>>().join(" "))
            .collect();
        last.sort();
    }
    last
}

/// Steps of one event each.
pub fn sequence(within: &str, steps: &[&str]) -> String {
    let steps: Vec<String> = steps.iter().map(|step| format!("[[pattern.step]]\n{step}\n")).collect();
    format!("within = \"{within}\"\n{}", steps.concat())
}

#[test]
fn relaxed_contiguity_takes_the_next_that_fits() {
    let p_then_q = sequence("1h", &["event = 'p'", "event = 'q'"]);
    // a followedBy b over "a c b1 b2": {a b1}.
    assert_eq!(matches(&p_then_q, "p1@1 r1@2 q1@3 q2@4"), ["p1 q1"]);
    // Without skipping, each a begins a match.
    assert_eq!(matches(&p_then_q, "p1@1 p2@2 q1@3"), ["p1 q1", "p2 q1"]);
    assert_eq!(matches(&p_then_q, "q1@1 p1@2"), Vec::<String>::new());
    let three = sequence("1h", &["event = 'p'", "event = 'q'", "event = 'r'"]);
    assert_eq!(matches(&three, "p1@1 s1@2 q1@3 q2@4 r1@5 r2@6"), ["p1 q1 r1"]);
    // The same event again is another step's only if it comes again.
    let twice = sequence("1h", &["event = 'p'", "event = 'p'\nas = 'again'"]);
    assert_eq!(matches(&twice, "p1@1 p2@2 p3@3"), ["p1 p2", "p2 p3"]);
}

#[test]
fn within_is_from_the_first_event_to_the_last_and_less() {
    let body = sequence("10s", &["event = 'p'", "event = 'q'"]);
    assert_eq!(matches(&body, "p1@1 q1@10.999"), ["p1 q1"]);
    assert_eq!(matches(&body, "p1@1 q1@11"), Vec::<String>::new());
    // A step in between does not extend it.
    let three = sequence("10s", &["event = 'p'", "event = 'q'", "event = 'r'"]);
    assert_eq!(matches(&three, "p1@1 q1@9 r1@12 p2@12 q2@13 r2@14"), ["p2 q2 r2"]);
}

#[test]
fn equal_times_are_ordered_by_id() {
    let body = sequence("10s", &["event = 'p'", "event = 'q'"]);
    assert_eq!(matches(&body, "p1@1 q1@1"), ["p1 q1"]);
    assert_eq!(matches(&body, "q1@1 p1@1"), Vec::<String>::new());
}

#[test]
fn negation_lies_strictly_between_two_steps() {
    let body = sequence("1h", &["event = 'p'", "event = 'q'\nnot = ['r']"]);
    // a notFollowedBy c followedBy b.
    assert_eq!(matches(&body, "p1@1 r1@2 q1@3"), Vec::<String>::new());
    assert_eq!(matches(&body, "p1@1 q1@2 r1@3"), ["p1 q1"]);
    assert_eq!(matches(&body, "r1@1 p1@2 q1@3"), ["p1 q1"]);
    assert_eq!(matches(&body, "p1@1 r1@2 p2@3 q1@4"), ["p2 q1"]);
    // It comes late and takes the match back; it is withdrawn and gives it again.
    assert_eq!(matches(&body, "p1@1 q1@3 r1@2"), Vec::<String>::new());
    assert_eq!(matches(&body, "p1@1 q1@3 r1@2 -r1@2"), ["p1 q1"]);
}

#[test]
fn counts_go_on_until_the_next_step() {
    let body = sequence("10s", &["event = 'p'\nat_least = 2", "event = 'q'"]);
    assert_eq!(matches(&body, "p1@1 q1@2"), Vec::<String>::new());
    assert_eq!(matches(&body, "p1@1 p2@2 q1@3"), ["p1 p2 q1"]);
    // Every start with enough behind it matches, once.
    assert_eq!(matches(&body, "p1@1 p2@2 p3@3 q1@4 q2@5"), ["p1 p2 p3 q1", "p2 p3 q1"]);
    // The last step is complete as soon as there is enough; the next match begins after the first event.
    let last = sequence("10s", &["event = 'p'\nat_least = 3"]);
    assert_eq!(matches(&last, "p1@1 p2@2 p3@3 p4@4"), ["p1 p2 p3", "p2 p3 p4"]);
    assert_eq!(matches(&last, "p1@1 p2@2 p3@11 p4@11.5"), ["p2 p3 p4"]);
}

#[test]
fn what_is_counted_is_known_to_later_steps() {
    let steps = [
        "event = 'p'\nat_least = 2\nhaving = ['sum(amount) >= 10.00']",
        "event = 'q'\nwhere = ['amount >= 0.8 * p.sum(amount)']",
    ];
    let body = sequence("1h", &steps);
    assert_eq!(matches(&body, "p1@1:4.00 p2@2:5.99 q1@3:50"), Vec::<String>::new());
    assert_eq!(matches(&body, "p1@1:4 p2@2:6 q1@3:7.99 q2@4:8"), ["p1 p2 q2"]);
    // More is counted until the step takes its event, so more is asked of it.
    assert_eq!(matches(&body, "p1@1:4 p2@2:6 p3@3:10 q1@4:8"), Vec::<String>::new().as_slice());
    assert_eq!(matches(&body, "p1@1:4 p2@2:6 p3@3:10 q1@4:16"), ["p1 p2 p3 q1", "p2 p3 q1"]);
}

#[test]
fn a_late_and_a_withdrawn_event_move_a_match() {
    let body = sequence("1h", &["event = 'p'", "event = 'q'"]);
    assert_eq!(matches(&body, "p1@1 q1@5 q2@3"), ["p1 q2"]);
    assert_eq!(matches(&body, "p1@1 q1@3 q2@5 -q1@3"), ["p1 q2"]);
    assert_eq!(matches(&body, "p1@1 q1@3 -p1@1"), Vec::<String>::new());
    let large = sequence("1h", &["event = 'p'", "event = 'q'\nwhere = ['amount > p.amount']"]);
    assert_eq!(matches(&large, "p1@1:5 q1@2:4 q2@3:6"), ["p1 q2"]);
    assert_eq!(matches(&large, "p1@1:5 q1@2:4 q2@3:6 =q1@2:5.01"), ["p1 q1"]);
}

#[test]
fn what_a_withdrawn_event_ended_goes_on() {
    let body = sequence("10s", &["event = 'p'", "event = 'q'"]);
    assert_eq!(matches(&body, "p1@1 p2@30 -p2@30 q1@5"), ["p1 q1"]);
    let silence = sequence("10s", &["event = 'p'", "event = 'q'", "absent = 's'\nwithin = '2s'"]);
    assert_eq!(matches(&silence, "p1@1 r1@12 -r1@12 q1@5"), ["p1 q1"]);
}

#[test]
fn absence_completes_when_the_watermark_passes() {
    let body = sequence("1h", &["event = 'p'", "absent = 'q'\nwithin = '10s'"]);
    assert_eq!(matches(&body, "p1@1 r1@10.999"), Vec::<String>::new());
    assert_eq!(matches(&body, "p1@1 r1@11"), ["p1"]);
    // At the very end it is too late to be in time.
    assert_eq!(matches(&body, "p1@1 q1@11"), ["p1"]);
    assert_eq!(matches(&body, "p1@1 q1@10.999 r1@30"), Vec::<String>::new());
    // It comes late, and is withdrawn again.
    assert_eq!(matches(&body, "p1@1 r1@30 q1@5"), Vec::<String>::new());
    assert_eq!(matches(&body, "p1@1 r1@30 q1@5 -q1@5"), ["p1"]);
    // The watermark of others completes it; then it comes late, the account's last event all the same.
    assert_eq!(matches(&body, "p1@1 !r1@30 q1@5"), Vec::<String>::new());
}

#[test]
fn a_median_day_counts_days_without_events() {
    let large = "event = 'large'";
    let body = format!(
        "within = '1d'\n[pattern.events.large]\nkind = 'p'\nwhere = ['amount >= 10 * history.median_day(amount)']\n{}",
        sequence("1h", &[large]).replace("within = \"1h\"\n", "")
    );
    let day = 86_400;
    let at = |days: i64, seconds: i64| days * day + seconds;
    // Days before the last: 2.00, 2.00, 4.00; the lower median is 2.00.
    let three = format!("p1@{}:4 p2@{}:2 p3@{}:2", at(0, 10), at(1, 10), at(2, 10));
    assert_eq!(matches(&body, &format!("{three} p4@{}:19.99", at(3, 20))), Vec::<String>::new());
    assert_eq!(matches(&body, &format!("{three} p4@{}:20", at(3, 20))), ["p4"]);
    // Two silent days lower it to 0.
    assert_eq!(matches(&body, &format!("p1@{}:4 p2@{}:1", at(0, 10), at(3, 20))), ["p2"]);
    // No day before the last: there is no median, and nothing is large against it.
    assert_eq!(matches(&body, "p1@10:4 p2@20:1000"), Vec::<String>::new());
}
