//! Cluster columns by definition: every link, degree and cluster from the events alone, anew for each transaction.
//!
//! What the operator gives for input in (event time, id) order of which nothing is corrected or withdrawn, and whose
//! labels come when they are available. Cost: every row looks at every event before it.

use std::collections::{BTreeMap, BTreeSet};

use super::columns::tally::Limit;
use super::columns::{DISTANCE_VALUES_MAX, FRAUD_MEMORY_MS, HUB_MEMBERS_MAX, SPANS_MS};
use super::spec::{ClusterMeasure as C, Identity, IdentityPlan, SMOOTHING_PAYMENTS, SMOOTHING_RATE, span};
use crate::event::{Id, Key, Schema};
use crate::flow::Labelled;

/// A value: kind (0 is the account) and key.
type Value = (u8, Key);
type Neighbours = BTreeMap<Value, BTreeSet<Value>>;

/// An event as identity sees it.
struct Seen {
    id: Id,
    time_ms: i64,
    scored: bool,
    account: Key,
    values: Vec<Value>,
    amount: i64,
    fraud_at_ms: Option<i64>,
    counted: u8,
    raised: u8,
}

/// The columns of every scored event that has an account.
pub fn expected(spec: &Identity, schema: &Schema, events: &[Labelled]) -> BTreeMap<Id, Vec<f64>> {
    let Ok(plan) = spec.resolve(schema) else { return BTreeMap::new() };
    let seen: Vec<Seen> = events
        .iter()
        .filter_map(|(event, label)| {
            let values =
                (0..plan.links.len()).filter_map(|link| Some((link as u8 + 1, plan.value_of(link, event, schema)?)));
            Some(Seen {
                id: event.id,
                time_ms: event.time,
                scored: schema.is_scored(event.kind),
                account: plan.account_of(event, schema)?,
                values: values.collect(),
                amount: plan.amount.and_then(|slot| event.int(slot)).unwrap_or(0),
                fraud_at_ms: label.filter(|(fraud, _)| *fraud).map(|(_, at)| at),
                counted: plan.tallies.counted(event, schema),
                raised: plan.tallies.raised(event, schema),
            })
        })
        .collect();
    let scored = (0..seen.len()).filter(|&at| seen[at].scored);
    scored.map(|at| (seen[at].id, row(&plan, &seen, at))).collect()
}

fn row(plan: &IdentityPlan, seen: &[Seen], at: usize) -> Vec<f64> {
    let (now, past) = (&seen[at], &seen[..=at]);
    let live = live(plan, past, now.time_ms);
    let (wide, strong) = (carrying(plan, &live, false), carrying(plan, &live, true));
    let account = (0, now.account);
    let members = reach(&wide, account);
    let of_kind = |members: &BTreeSet<Value>, kind: u8| members.iter().filter(|member| member.0 == kind).count() as f64;
    let links: usize =
        members.iter().filter(|member| member.0 == 0).map(|member| wide.get(member).map_or(0, BTreeSet::len)).sum();
    let known = |member: &Value| {
        let frauds = seen.iter().filter(|other| (0, other.account) == *member).filter_map(|other| other.fraud_at_ms);
        frauds.filter(|&known| known <= now.time_ms && known > now.time_ms - FRAUD_MEMORY_MS).collect::<Vec<_>>()
    };
    let accounts: Vec<&Value> = members.iter().filter(|member| member.0 == 0 && live.contains_key(*member)).collect();
    let frauds: Vec<i64> = accounts.iter().flat_map(|member| known(member)).collect();
    let payments = |window_ms: Option<i64>| {
        let counted = |(position, other): &(usize, &Seen)| {
            let start =
                accounts.iter().find(|member| ***member == (0, other.account)).map(|member| began(plan, past, member));
            let in_window = window_ms.is_none_or(|window_ms| other.time_ms > now.time_ms - window_ms);
            other.scored && in_window && start.is_some_and(|(first, _)| first <= *position)
        };
        let counted: Vec<_> = seen[..at].iter().enumerate().filter(counted).collect();
        (counted.len() as f64, counted.iter().map(|(_, other)| i128::from(other.amount)).sum::<i128>() as f64)
    };
    // The accounts that are members now, wherever they were when it happened.
    let tally = |place: usize, events: &[Seen]| {
        let window_ms = plan.tallies.tallies[place].window_ms;
        let counted = events.iter().filter(|other| {
            let counts = other.counted >> place & 1 == 1 && other.time_ms > now.time_ms - window_ms;
            counts && members.contains(&(0, other.account))
        });
        counted.fold((0, 0), |(count, sum), other| (count + 1, sum + i128::from(other.amount)))
    };
    let reached = |limit: &Limit<usize>| match *limit {
        Limit::Count(place, least) => tally(place, past).0 >= least,
        Limit::Sum(place, least) => tally(place, past).1 >= i128::from(least),
        Limit::Share(place, of, thousandths) => {
            1_000 * tally(place, past).1 >= i128::from(thousandths) * tally(of, past).1
        }
    };
    let first_seen =
        members.iter().filter(|member| live.contains_key(*member)).map(|member| began(plan, past, member).1);
    let oldest = first_seen.clone().min();
    let window_ms = |window| span(window).and_then(|span| SPANS_MS.get(span)).copied();
    let value = |measure: &C, kind: u8| match measure {
        C::Size => members.len() as f64,
        C::Accounts => of_kind(&members, 0),
        C::Members(_) => of_kind(&members, kind),
        C::StrongSize => reach(&strong, account).len() as f64,
        C::StrongAccounts => of_kind(&reach(&strong, account), 0),
        C::SizeBefore | C::MergesTwo => {
            let live = self::live(plan, &seen[..at], now.time_ms);
            let before = carrying(plan, &live, false);
            if *measure == C::SizeBefore {
                return if live.contains_key(&account) { reach(&before, account).len() as f64 } else { 0.0 };
            }
            let values = now.values.iter().copied().chain([account]).filter(|value| live.contains_key(value));
            let clusters: BTreeSet<BTreeSet<Value>> =
                values.filter(|value| members.contains(value)).map(|value| reach(&before, value)).collect();
            let with_accounts = clusters.iter().filter(|cluster| cluster.iter().any(|member| member.0 == 0)).count();
            f64::from(u8::from(with_accounts > 1))
        }
        C::Age => oldest.map_or(0.0, |oldest| (now.time_ms - oldest) as f64),
        C::Growth => first_seen.clone().filter(|&first| first > now.time_ms - SPANS_MS[0]).count() as f64,
        C::Links => links as f64,
        C::Density => links as f64 / members.len() as f64,
        C::HubShare if links == 0 || members.len() > HUB_MEMBERS_MAX as usize => f64::NAN,
        C::HubShare => {
            members.iter().map(|member| wide.get(member).map_or(0, BTreeSet::len)).max().unwrap_or(0) as f64
                / links as f64
        }
        C::Degree(_) => {
            let value = now.values.iter().find(|value| value.0 == kind);
            value.and_then(|value| live.get(value)).map_or(0.0, |ends| ends.len() as f64)
        }
        C::AccountDegree(_) => {
            live.get(&account).map_or(0.0, |ends| ends.iter().filter(|end| end.0 == kind).count() as f64)
        }
        C::Frauds => frauds.len() as f64,
        C::FraudAccounts => accounts.iter().filter(|member| !known(member).is_empty()).count() as f64,
        C::FraudRate => {
            let (count, _) = payments(None);
            if count > 0.0 { frauds.len() as f64 / count } else { f64::NAN }
        }
        C::FraudRateSmoothed => {
            (frauds.len() as f64 + SMOOTHING_RATE * SMOOTHING_PAYMENTS) / (payments(None).0 + SMOOTHING_PAYMENTS)
        }
        C::SinceFraud => frauds.iter().max().map_or(f64::NAN, |last| (now.time_ms - last) as f64),
        C::FraudAccountsAt(_) if frauds.is_empty() => 0.0,
        C::FraudAccountsAt(distance) => {
            let within = |steps: u8| {
                let mut seen = BTreeSet::from([account]);
                for _ in 0..steps {
                    let next: Vec<Value> = seen.iter().filter_map(|value| wide.get(value)).flatten().copied().collect();
                    seen.extend(next);
                }
                seen
            };
            let (near, all) = (within(2 * distance - 1), within(2 * distance));
            if all.len() > DISTANCE_VALUES_MAX {
                return f64::NAN;
            }
            let nearer = within(2 * distance - 2);
            all.iter()
                .filter(|value| !near.contains(value) && !nearer.contains(value) && !known(value).is_empty())
                .count() as f64
        }
        C::Count(window) => payments(window_ms(*window)).0,
        C::Sum(window) => payments(window_ms(*window)).1 / plan.unit,
        C::TallyCount(_) => tally(kind.into(), &seen[..at]).0 as f64,
        C::TallySum(_) => tally(kind.into(), &seen[..at]).1 as f64 / plan.unit,
        C::Flag(_) => {
            let flag = &plan.tallies.flags[usize::from(kind)];
            f64::from(u8::from(now.raised >> kind & 1 == 1 && flag.limits.iter().all(reached)))
        }
    };
    plan.columns.iter().map(|(measure, kind)| value(measure, *kind)).collect()
}

/// Values with live links at a time, and the other ends of those.
fn live(plan: &IdentityPlan, past: &[Seen], now_ms: i64) -> Neighbours {
    let mut graph = Neighbours::new();
    for event in past {
        for &value in &event.values {
            if event.time_ms > now_ms.saturating_sub(plan.rules.links[value.0 as usize - 1].expiry_ms) {
                graph.entry((0, event.account)).or_default().insert(value);
                graph.entry(value).or_default().insert((0, event.account));
            }
        }
    }
    graph
}

/// The links that carry.
fn carrying(plan: &IdentityPlan, live: &Neighbours, strong_only: bool) -> Neighbours {
    let open = |value: &Value| {
        let cap = if value.0 == 0 { plan.rules.account_cap } else { plan.rules.links[value.0 as usize - 1].cap };
        live[value].len() <= cap as usize
    };
    let mut graph = Neighbours::new();
    for (value, ends) in live.iter().filter(|(value, _)| value.0 > 0 && open(value)) {
        for end in ends.iter().filter(|end| open(end)) {
            if !strong_only || plan.rules.links[value.0 as usize - 1].strong {
                graph.entry(*value).or_default().insert(*end);
                graph.entry(*end).or_default().insert(*value);
            }
        }
    }
    graph
}

fn reach(graph: &Neighbours, from: Value) -> BTreeSet<Value> {
    let (mut seen, mut todo) = (BTreeSet::from([from]), vec![from]);
    while let Some(value) = todo.pop() {
        let next = graph.get(&value).into_iter().flatten();
        todo.extend(next.copied().filter(|&next| seen.insert(next)));
    }
    seen
}

/// Where and when a value began to have live links without a break up to the end of the events.
fn began(plan: &IdentityPlan, past: &[Seen], value: &Value) -> (usize, i64) {
    let (mut began, mut until_ms) = ((0, i64::MAX), i64::MIN);
    for (position, event) in past.iter().enumerate() {
        for &(kind, key) in &event.values {
            if *value == (0, event.account) || *value == (kind, key) {
                if until_ms <= event.time_ms {
                    began = (position, event.time_ms);
                }
                let expiry_ms = plan.rules.links[kind as usize - 1].expiry_ms;
                until_ms = until_ms.max(event.time_ms.saturating_add(expiry_ms));
            }
        }
    }
    began
}
