//! What a match skips, case by case.
//!
//! The cases are those by which a known CEP engine explains and tests its strategies, where steps can express them. Its
//! cases of `next` (strict contiguity), `followedByAny` and optional steps are left out. Two of its answers differ here, and
//! say so: `a_count_at_the_end_is_complete_once` and `what_is_complete_first_comes_first`.

use deltawatch::views::Family;
use deltawatch::views::pattern::Patterns;

use super::semantics::{matches, sequence};

/// The same with a strategy.
fn skipping(strategy: &str, body: &str) -> String {
    format!("after_match = \"{strategy}\"\n{body}")
}

#[test]
fn one_or_more_and_then_one() {
    // b+ c over "b1 b2 b3 c", with p for b and q for c.
    let body = sequence("1h", &["event = 'p'\nat_least = 1", "event = 'q'"]);
    let of = |strategy: &str| matches(&skipping(strategy, &body), "p1@1 p2@2 p3@3 q1@4");
    let all = ["p1 p2 p3 q1", "p2 p3 q1", "p3 q1"];
    assert_eq!(matches(&body, "p1@1 p2@2 p3@3 q1@4"), all);
    assert_eq!(of("no_skip"), all);
    assert_eq!(of("skip_to_next"), all);
    assert_eq!(of("skip_past_last"), ["p1 p2 p3 q1"]);
    assert_eq!(of("skip_to_last:p"), ["p1 p2 p3 q1", "p3 q1"]);
    // skip_to_first:p skips nothing, and is refused as it can only be a mistake.
}

#[test]
fn to_the_first_of_a_later_step() {
    // (a | b | c) (b | c) c+.greedy d over "a b c1 c2 c3 d", with p, q, r and s for a, b, c and d.
    let named = "[pattern.events.abc]\nkind = ['p', 'q', 'r']\n[pattern.events.bc]\nkind = ['q', 'r']\n";
    let steps = ["event = 'abc'", "event = 'bc'", "event = 'r'\nat_least = 1", "event = 's'"];
    let body = sequence("1h", &steps).replacen("[[pattern.step]]", &format!("{named}[[pattern.step]]"), 1);
    let of = |strategy: &str| matches(&skipping(strategy, &body), "p1@1 q1@2 r1@3 r2@4 r3@5 s1@6");
    assert_eq!(of("no_skip"), ["p1 q1 r1 r2 r3 s1", "q1 r1 r2 r3 s1", "r1 r2 r3 s1"]);
    assert_eq!(of("skip_to_first:r"), ["p1 q1 r1 r2 r3 s1", "r1 r2 r3 s1"]);
    assert_eq!(of("skip_to_last:r"), ["p1 q1 r1 r2 r3 s1"]);
}

#[test]
fn a_count_at_the_end_is_complete_once() {
    // a b+ over "a b1 b2 b3": the other engine's NO_SKIP goes on to {a b1 b2} and {a b1 b2 b3}; here there is one match per
    // first event with every strategy, as there with SKIP_TO_NEXT.
    let body = sequence("1h", &["event = 'p'", "event = 'q'\nat_least = 1"]);
    for strategy in ["no_skip", "skip_to_next", "skip_past_last", "skip_to_first:q", "skip_to_last:q"] {
        assert_eq!(matches(&skipping(strategy, &body), "p1@1 q1@2 q2@3 q3@4"), ["p1 q1"], "{strategy}");
    }
}

#[test]
fn so_many_of_one_kind() {
    // a{3} over a1 to a6.
    let body = sequence("1h", &["event = 'p'\nat_least = 3"]);
    let six = "p1@1 p2@2 p3@3 p4@4 p5@5 p6@6";
    assert_eq!(matches(&body, six), ["p1 p2 p3", "p2 p3 p4", "p3 p4 p5", "p4 p5 p6"]);
    assert_eq!(matches(&skipping("skip_past_last", &body), six), ["p1 p2 p3", "p4 p5 p6"]);
    assert_eq!(matches(&skipping("skip_to_last:p", &body), six), ["p1 p2 p3", "p3 p4 p5"]);
    // a{2} b{2} where every event is both.
    let twice = sequence("1h", &["event = 'p'\nat_least = 2", "event = 'p'\nas = 'end'\nat_least = 2"]);
    assert_eq!(matches(&skipping("skip_to_first:end", &twice), six), ["p1 p2 p3 p4", "p3 p4 p5 p6"]);
    let seven = format!("{six} p7@7");
    assert_eq!(matches(&skipping("skip_to_last:end", &twice), &seven), ["p1 p2 p3 p4", "p4 p5 p6 p7"]);
    // All at one time: what is skipped goes by the place in the order, not by the time.
    assert_eq!(matches(&skipping("skip_past_last", &body), "p1@1 p2@1 p3@1 p4@1 p5@1 p6@1"), ["p1 p2 p3", "p4 p5 p6"]);
}

#[test]
fn completed_by_one_event() {
    let body = sequence("1h", &["event = 'p'", "event = 'q'", "event = 'r'", "event = 's'"]);
    let text = "p1@1 p2@2 q1@3 q2@4 r1@5 r2@6 s1@7 s2@7";
    assert_eq!(matches(&body, text), ["p1 q1 r1 s1", "p2 q1 r1 s1"]);
    assert_eq!(matches(&skipping("skip_past_last", &body), text), ["p1 q1 r1 s1"]);
    // What begins at the skipped-to event is not skipped.
    let pairs = sequence("1h", &["event = 'p'", "event = 'p'\nas = 'again'"]);
    assert_eq!(matches(&skipping("skip_to_first:again", &pairs), "p1@1 p2@2 p3@3"), ["p1 p2", "p2 p3"]);
    assert_eq!(matches(&skipping("skip_past_last", &pairs), "p1@1 p2@2 p3@3 p4@4"), ["p1 p2", "p3 p4"]);
}

#[test]
fn what_is_complete_first_comes_first() {
    // The other engine waits for what began earlier and has both matches; here none waits for what may never come.
    let steps = ["event = 'p'", "event = 'r'", "event = 'q'\nwhere = ['amount = p.amount']"];
    let body = sequence("1h", &steps);
    let text = "p1@1:0 r1@2 p2@3:1 r2@4 q1@5:1 q2@6:0";
    assert_eq!(matches(&body, text), ["p1 r1 q2", "p2 r2 q1"]);
    assert_eq!(matches(&skipping("skip_to_first:r", &body), text), ["p2 r2 q1"]);
}

#[test]
fn a_target_may_be_the_own_first_event() {
    // One p alone is the first and the last: what began before it is skipped, and it is not a match again.
    let steps = ["event = 'p'\nat_least = 1", "event = 'q'\nwhere = ['amount >= p.sum(amount)']"];
    let body = skipping("skip_to_last:p", &sequence("1h", &steps));
    assert_eq!(matches(&body, "p1@1:5 p2@2:1 q1@3:1 q2@4:6"), ["p2 q1"]);
    assert_eq!(matches(&body, "p1@1:1 q1@2:1 q2@3:1 p2@4:1 q3@5:1"), ["p1 q1", "p2 q3"]);
}

#[test]
fn an_absence_is_complete_before_the_events_of_its_time() {
    let steps = ["event = 'p'", "event = 'p'\nas = 'again'", "absent = 'q'\nwithin = '10s'"];
    let body = skipping("skip_past_last", &sequence("1h", &steps));
    assert_eq!(matches(&body, "p1@1 p2@2 p3@3 r1@30"), ["p1 p2"]);
    // Complete at second 12, before the q, which keeps {p2 p3} from being complete.
    assert_eq!(matches(&body, "p1@1 p2@2 p3@3 q1@12 p4@13 p5@14 r1@30"), ["p1 p2", "p3 p4"]);
    assert_eq!(matches(&body, "p1@1 p2@2 p3@3 q1@12 p4@13 p5@14 r1@30 q2@11"), ["p3 p4"]);
    // The watermark of others completes them; then an earlier one comes and moves both.
    assert_eq!(matches(&body, "p1@1 p2@2 p3@3 p4@4 !r1@30"), ["p1 p2", "p3 p4"]);
    assert_eq!(matches(&body, "p1@1 p2@2 p3@3 p4@4 !r1@30 p0@0"), ["p0 p1", "p2 p3"]);
    assert_eq!(matches(&body, "p1@1 p2@2 p3@3 p4@4 !r1@30 p0@0 -p0@0"), ["p1 p2", "p3 p4"]);
    // A correction takes the first match, and with it what followed, and gives both again.
    assert_eq!(matches(&body, "p1@1 p2@2 p3@3 p4@4 !r1@30 =p1@1:5"), ["p1 p2", "p3 p4"]);
}

#[test]
fn a_change_goes_on_as_far_as_it_matters() {
    let body = skipping("skip_past_last", &sequence("1h", &["event = 'p'\nat_least = 2"]));
    let six = "p1@1 p2@2 p3@3 p4@4 p5@5 p6@6";
    assert_eq!(matches(&body, six), ["p1 p2", "p3 p4", "p5 p6"]);
    assert_eq!(matches(&body, &format!("{six} p0@0")), ["p0 p1", "p2 p3", "p4 p5"]);
    assert_eq!(matches(&body, &format!("{six} -p1@1")), ["p2 p3", "p4 p5"]);
    assert_eq!(matches(&body, &format!("{six} -p3@3 p7@3.5")), ["p1 p2", "p5 p6", "p7 p4"]);
    // A correction that is no p any more by its amount, and back.
    let large = "[pattern.events.large]\nkind = 'p'\nwhere = ['amount > 1.00']\n";
    let steps = sequence("1h", &["event = 'large'\nat_least = 2"]).replacen("[[", &format!("{large}[["), 1);
    let body = skipping("skip_past_last", &steps);
    let five = "p1@1:2 p2@2:2 p3@3:2 p4@4:2 p5@5:2";
    assert_eq!(matches(&body, &format!("{five} =p2@2:1")), ["p1 p3", "p4 p5"]);
    assert_eq!(matches(&body, &format!("{five} =p2@2:1 =p2@2:3")), ["p1 p2", "p3 p4"]);
}

#[test]
fn skipping_begins_anew_with_each_period() {
    // Second 6400 is midnight.
    let body = skipping("skip_past_last", &sequence("1h", &["event = 'p'\nat_least = 3"]));
    let text = "p1@6396 p2@6397 p3@6398 p4@6399 p5@6400 p6@6401";
    assert_eq!(matches(&body, text), ["p1 p2 p3", "p3 p4 p5"]);
    assert_eq!(matches(&body, "p1@6395 p2@6396 p3@6397 p4@6398 p5@6399 p6@6399.999"), ["p1 p2 p3", "p4 p5 p6"]);
    // Of a pattern of more than a day, with every second day since 1970: this midnight is one, the next is none. Of more
    // than six days, with every seventh: the next is one.
    let next = "p1@92796 p2@92797 p3@92798 p4@92799 p5@92800 p6@92801";
    let (anew, on) = (["p1 p2 p3", "p3 p4 p5"], ["p1 p2 p3", "p4 p5 p6"]);
    for (within, of_this, of_next) in [("24h", anew, anew), ("25h", anew, on), ("7d", on, anew)] {
        let body = body.replace("1h", within);
        assert_eq!(
            (matches(&body, text), matches(&body, next)),
            (of_this.map(String::from).into(), of_next.map(String::from).into()),
            "{within}"
        );
    }
}

#[test]
fn the_strategy_is_described() {
    let of = |name: &str, strategy: &str| {
        format!(
            "[[pattern]]\nname = '{name}'\n{strategy}key = 'account'\nevents = {{ p = {{ kind = 'p' }} }}\nstep = [{{ event = 'p' }}]\n"
        )
    };
    let text = of("one", "after_match = 'skip_past_last'\n") + &of("two", "");
    assert_eq!(Patterns::parse(&text).expect("patterns").about(), "event patterns: one (skip_past_last), two");
}
