//! Planted event patterns: every instance is one by definition, every hard negative is none, whatever else happens.
//!
//! The definitions are written out here once more, naively, over all events of the stream.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use deltawatch::event::{Event, Id, Op, Schema};
use deltawatch::generator::{Generated, Generator, GeneratorConfig, Planted, instances, truth_line};

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;

fn schema() -> Arc<Schema> {
    let text = include_str!("../dataflows/payments.toml");
    Arc::new(Schema::parse("payments", text).expect("the payments schema is valid"))
}

/// So many records, half of them planted, over half a year; some late, corrected or withdrawn.
pub fn dense(schema: Arc<Schema>, records: usize) -> Vec<Generated> {
    let config = GeneratorConfig {
        rate_per_s: 0.005,
        customers: 300,
        merchants: 40,
        pattern_share: 0.5,
        correction_share: 0.02,
        withdrawal_share: 0.02,
        ..GeneratorConfig::default()
    };
    Generator::new(config, schema).expect("a valid configuration").take(records).collect()
}

/// All events of a stream in order of event time, by the values of their fields.
struct Stream {
    schema: Arc<Schema>,
    events: Vec<Event>,
    by_key: HashMap<(&'static str, String), Vec<usize>>,
}

const KEYS: [&str; 11] =
    ["card", "account", "device", "ip", "ip24", "merchant", "phone", "address", "order", "payee", "bin"];

/// What links accounts, and what the keys of the patterns are that clusters have, too.
const LINKS: [&str; 5] = ["device", "card", "phone", "address", "ip"];
const LIMITED: [&str; 5] = ["account", "device", "ip24", "phone", "address"];

impl Stream {
    fn new(records: &[Generated]) -> Self {
        let schema = schema();
        let mut events: Vec<Event> = records.iter().filter(|r| r.first).map(|r| r.event.clone()).collect();
        events.sort_by_key(|event| (event.time, event.id));
        let mut by_key: HashMap<_, Vec<usize>> = HashMap::new();
        for (place, event) in events.iter().enumerate() {
            for key in KEYS {
                if let Some(value) = schema.slot(key).and_then(|slot| event.text(slot)) {
                    by_key.entry((key, value.to_owned())).or_default().push(place);
                }
            }
        }
        Stream { schema, events, by_key }
    }

    fn of(&self, key: &'static str, value: &str) -> Vec<View<'_>> {
        let places = self.by_key.get(&(key, value.to_owned())).map_or(&[][..], Vec::as_slice);
        places.iter().map(|&place| View { event: &self.events[place], schema: &self.schema }).collect()
    }

    fn matches(&self, planted: &Planted) -> bool {
        let (kind, value) = (planted.key_kind(), planted.key_value());
        let of = match kind {
            "cluster" => self.cluster(&value),
            "merchant+bin" => {
                let (merchant, bin) = value.split_once('+').expect("two values");
                let of_bin = self.of("bin", bin);
                of_bin.into_iter().filter(|event| event.text("merchant") == Some(merchant)).collect()
            }
            _ => self.of(KEYS.iter().find(|key| **key == kind).expect("a known key"), &value),
        };
        assert!(!of.is_empty(), "no event has {kind} {value}");
        if kind == "cluster" {
            // None of them is what all of them are.
            for (key, own) in of.iter().flat_map(|event| LIMITED.map(|key| (key, event.text(key)))) {
                let own = own.map(|own| self.of(key, own)).unwrap_or_default();
                assert!(!self.holds(planted, &own, &value), "{} of a cluster: {key} alone", planted.variant());
            }
        }
        self.holds(planted, &of, &value)
    }

    /// The events of the accounts that share a value with this one, with those that do, and so on.
    fn cluster(&self, account: &str) -> Vec<View<'_>> {
        let (mut accounts, mut todo) = (BTreeSet::from([account.to_owned()]), vec![account.to_owned()]);
        while let Some(next) = todo.pop() {
            for event in self.of("account", &next) {
                for (key, value) in LINKS.iter().filter_map(|key| Some((*key, event.text(key)?))) {
                    let others = self.of(key, value);
                    let others = others.iter().filter_map(|other| other.text("account"));
                    todo.extend(others.filter(|other| accounts.insert((*other).to_owned())).map(str::to_owned));
                }
            }
        }
        let mut of: Vec<View<'_>> = accounts.iter().flat_map(|account| self.of("account", account)).collect();
        of.sort_by_key(View::place);
        of
    }

    fn holds(&self, planted: &Planted, of: &[View<'_>], value: &str) -> bool {
        match planted.pattern() {
            1 => card_testing(of),
            2 => enumeration(of),
            3 => takeover(of),
            4 => self.stuffing(of),
            5 => farm(of),
            6 => travel(of),
            7 => refunds(of),
            8 => mule(of, &self.of("payee", value)),
            9 => structuring(of),
            10 => of.iter().any(|first| self.cycle(value, first, first, 1)),
            11 => dormant(of),
            12 => bust_out(of),
            13 => came_back(of),
            _ => assembled(of),
        }
    }

    fn stuffing(&self, of: &[View<'_>]) -> bool {
        let logins = || of.iter().filter(|event| event.is("login"));
        logins().filter(|login| login.int("login_ok") == Some(1)).any(|opened| {
            let account = self.of("account", opened.text("account").expect("an account"));
            let acts = |event: &&View<'_>| event.after(opened) && (event.is("payment") || event.is("account_change"));
            account.iter().filter(acts).any(|last| {
                let failed = logins().filter(|login| {
                    login.int("login_ok") == Some(0) && opened.after(login) && last.time() - login.time() <= HOUR_MS
                });
                let accounts: Vec<_> = failed.map(|login| login.text("account")).collect();
                accounts.len() >= 20 && accounts.iter().collect::<BTreeSet<_>>().len() >= 10
            })
        })
    }

    /// Whether a chain from `start` that has reached `hop` leads back to the account it began with.
    fn cycle(&self, home: &str, start: &View<'_>, hop: &View<'_>, hops: usize) -> bool {
        let (Some(payee), Some(cents)) = (hop.text("payee"), hop.int("amount")) else { return false };
        if payee == home {
            return hops >= 3;
        }
        hops < 6
            && self.of("account", payee).iter().any(|next| {
                let part = next.int("amount").map_or(0.0, |amount| amount as f64 / cents as f64);
                let fits = next.after(hop) && next.time() - start.time() <= 72 * HOUR_MS && (0.7..=1.0).contains(&part);
                fits && self.cycle(home, start, next, hops + 1)
            })
    }
}

#[derive(Clone, Copy)]
struct View<'a> {
    event: &'a Event,
    schema: &'a Schema,
}

impl View<'_> {
    fn text(&self, name: &str) -> Option<&str> {
        self.event.text(self.schema.slot(name).expect("a field"))
    }

    fn int(&self, name: &str) -> Option<i64> {
        self.event.int(self.schema.slot(name).expect("a field"))
    }

    fn float(&self, name: &str) -> Option<f64> {
        self.event.float(self.schema.slot(name).expect("a field"))
    }

    fn cents(&self) -> i64 {
        self.int("amount").unwrap_or(0)
    }

    fn is(&self, kind: &str) -> bool {
        self.schema.kinds()[self.event.kind as usize] == kind
    }

    fn ended(&self, outcome: &str) -> bool {
        self.text("outcome") == Some(outcome)
    }

    fn time(&self) -> i64 {
        self.event.time
    }

    fn place(&self) -> (i64, Id) {
        (self.event.time, self.event.id)
    }

    fn after(&self, other: &View<'_>) -> bool {
        self.place() > other.place()
    }
}

fn distinct<'a>(events: impl IntoIterator<Item = &'a View<'a>>, field: &str) -> usize {
    events.into_iter().filter_map(|event| event.text(field)).collect::<BTreeSet<_>>().len()
}

fn total(events: &[&View<'_>]) -> i64 {
    events.iter().map(|event| event.cents()).sum()
}

/// Whether some stretch of at most `within_ms` of the chosen events passes.
fn stretch(
    events: &[View<'_>],
    chosen: impl Fn(&View<'_>) -> bool,
    within_ms: i64,
    pass: impl Fn(&[&View<'_>]) -> bool,
) -> bool {
    let chosen: Vec<&View<'_>> = events.iter().filter(|event| chosen(event)).collect();
    (0..chosen.len()).any(|from| {
        let to = chosen.partition_point(|event| event.time() <= chosen[from].time() + within_ms);
        (from + 1..=to).any(|to| pass(&chosen[from..to]))
    })
}

fn card_testing(of: &[View<'_>]) -> bool {
    let tries = |e: &View<'_>| e.is("payment") && (e.cents() <= 100 || e.cents() <= 500 && e.ended("declined"));
    let large = |e: &&View<'_>| e.is("payment") && e.ended("approved") && e.cents() >= 10_000;
    of.iter().filter(large).any(|large| {
        let near = |e: &&View<'_>| tries(e) && large.after(e) && large.time() - e.time() <= 30 * MINUTE_MS;
        of.iter().filter(near).count() >= 5
    })
}

fn enumeration(of: &[View<'_>]) -> bool {
    stretch(
        of,
        |e| e.is("payment"),
        10 * MINUTE_MS,
        |some| {
            let declined = some.iter().filter(|e| e.ended("declined")).count();
            some.len() >= 20 && distinct(some.iter().copied(), "card") >= 15 && declined * 10 >= some.len() * 7
        },
    )
}

fn takeover(of: &[View<'_>]) -> bool {
    let first_seen = |device: Option<&str>| of.iter().find(|e| e.text("device") == device).map(|e| e.place());
    of.iter().filter(|e| e.is("account_change")).any(|change| {
        let armed = |e: &&View<'_>| {
            (e.is("login") || e.is("payment")) && e.after(change) && first_seen(e.text("device")) > Some(change.place())
        };
        of.iter().filter(armed).any(|armed| {
            of.iter().any(|paid| {
                let before: Vec<&View<'_>> = of.iter().filter(|e| e.is("payment") && paid.after(e)).collect();
                let mean = total(&before) as f64 / before.len() as f64;
                paid.is("payment")
                    && paid.after(armed)
                    && paid.time() - change.time() <= DAY_MS
                    && paid.cents() >= 20_000
                    && paid.cents() as f64 >= 3.0 * mean
                    && paid.text("payee").is_some()
                    && before.iter().all(|e| e.text("payee") != paid.text("payee"))
            })
        })
    })
}

fn farm(of: &[View<'_>]) -> bool {
    let created: BTreeSet<_> = of.iter().filter(|e| e.is("account_created")).map(|e| e.text("account")).collect();
    let accounts =
        stretch(of, |e| e.is("account_created"), DAY_MS, |some| distinct(some.iter().copied(), "account") >= 3);
    let here = |e: &View<'_>| e.is("card_added") && created.contains(&e.text("account"));
    let cards = stretch(of, here, DAY_MS, |some| {
        distinct(some.iter().copied(), "card") >= 4 && distinct(some.iter().copied(), "account") >= 2
    });
    accounts || cards
}

/// Great-circle distance.
fn km(a: (f64, f64), b: (f64, f64)) -> f64 {
    let (a, b) = ((a.0.to_radians(), a.1.to_radians()), (b.0.to_radians(), b.1.to_radians()));
    let h = ((b.0 - a.0) / 2.0).sin().powi(2) + a.0.cos() * b.0.cos() * ((b.1 - a.1) / 2.0).sin().powi(2);
    2.0 * 6_371.0 * h.sqrt().min(1.0).asin()
}

fn travel(of: &[View<'_>]) -> bool {
    let at = |e: &View<'_>| Some((e.float("lat")?, e.float("lon")?));
    of.iter().any(|a| {
        of.iter().filter(|b| b.after(a)).any(|b| {
            let (Some(here), Some(there)) = (at(a), at(b)) else { return false };
            let (far, apart_ms) = (km(here, there), b.time() - a.time());
            let noticed = of.iter().any(|e| e.is("travel_notice") && e.after(a) && b.after(e));
            let fast = far * HOUR_MS as f64 > 900.0 * apart_ms as f64;
            apart_ms <= 12 * HOUR_MS && far >= 100.0 && fast && !noticed
        })
    })
}

fn refunds(of: &[View<'_>]) -> bool {
    let elsewhere = |e: &View<'_>| e.is("refund") && e.text("refund_to") != e.text("card");
    let many = of.iter().any(|now| {
        let recent = |e: &&View<'_>| !e.after(now) && now.time() - e.time() < 30 * DAY_MS;
        let back: Vec<&View<'_>> = of.iter().filter(|e| recent(e) && e.is("refund")).collect();
        let paid: Vec<&View<'_>> = of.iter().filter(|e| recent(e) && e.is("payment") && e.ended("approved")).collect();
        back.len() >= 4 && total(&back) * 2 >= total(&paid)
    });
    many || of.iter().any(elsewhere)
}

fn mule(of: &[View<'_>], incoming: &[View<'_>]) -> bool {
    stretch(
        incoming,
        |e| e.is("payment"),
        DAY_MS,
        |some| {
            let (first, last, sum) = (some[0], some[some.len() - 1], total(some));
            let out =
                of.iter().filter(|e| e.text("payee").is_some() && e.after(last) && e.time() <= first.time() + DAY_MS);
            let mut by_payee: BTreeMap<_, i64> = BTreeMap::new();
            out.for_each(|e| *by_payee.entry(e.text("payee")).or_default() += e.cents());
            let mut sums: Vec<i64> = by_payee.into_values().collect();
            sums.sort_unstable_by(|a, b| b.cmp(a));
            let most: i64 = sums.iter().take(3).sum();
            some.len() >= 5 && distinct(some.iter().copied(), "account") >= 4 && sum >= 100_000 && most * 10 >= sum * 8
        },
    )
}

fn structuring(of: &[View<'_>]) -> bool {
    let band = |e: &View<'_>| e.text("channel") == Some("transfer") && (800_000..1_000_000).contains(&e.cents());
    stretch(of, band, 72 * HOUR_MS, |some| some.len() >= 3 && total(some) >= 2_000_000)
}

fn dormant(of: &[View<'_>]) -> bool {
    of.windows(2).filter(|pair| pair[1].is("login") && pair[1].time() - pair[0].time() >= 90 * DAY_MS).any(|pair| {
        let login = &pair[1];
        let new = of.iter().all(|e| !login.after(e) || e.text("device") != login.text("device"));
        let pays = |e: &View<'_>| e.is("payment") && e.after(login) && e.time() - login.time() <= HOUR_MS;
        new && of.iter().any(|e| pays(e) && e.cents() >= 20_000)
    })
}

fn bust_out(of: &[View<'_>]) -> bool {
    let Some(opened) = of.iter().find(|e| e.is("merchant_created")) else { return false };
    let disputed = |e: &View<'_>| e.is("dispute") || e.is("refund");
    of.iter().filter(|e| e.is("payment") && e.time() - opened.time() < 30 * DAY_MS).any(|now| {
        let sold = |from: i64, to: i64| {
            let sold = of.iter().filter(|e| e.is("payment") && (from + 1..=to).contains(&e.time()));
            sold.map(|e| e.cents()).sum::<i64>()
        };
        let days = (now.time() - opened.time()) / DAY_MS;
        let mut by_day: Vec<i64> =
            (1..=days).map(|day| sold(now.time() - (day + 1) * DAY_MS, now.time() - day * DAY_MS)).collect();
        by_day.sort_unstable();
        let Some(&median) = by_day.get(by_day.len() / 2) else { return false };
        let begins =
            of.iter().find(|e| disputed(e)).is_some_and(|e| e.after(now) && e.time() - now.time() <= 7 * DAY_MS);
        median > 0 && sold(now.time() - DAY_MS, now.time()) >= 10 * median && begins
    })
}

fn came_back(of: &[View<'_>]) -> bool {
    of.iter().filter(|e| e.is("order_created")).any(|new| {
        let near = |e: &&View<'_>| e.is("order_returned") && new.after(e) && new.time() - e.time() <= 60 * DAY_MS;
        of.iter().filter(near).count() >= 2
    })
}

fn assembled(of: &[View<'_>]) -> bool {
    let Some(created) = of.iter().find(|e| e.is("order_created")) else { return false };
    let paid = |e: &&View<'_>| e.is("payment") && e.ended("approved") && e.time() - created.time() <= 30 * MINUTE_MS;
    of.iter().filter(paid).any(|paid| {
        let ends = |e: &View<'_>| e.is("order_delivered") || e.is("order_returned");
        of.iter().any(|e| ends(e) && e.after(paid) && e.time() - created.time() <= 30 * DAY_MS)
    })
}

#[test]
fn every_instance_is_what_its_truth_says() {
    let records = dense(schema(), 80_000);
    let (stream, found) = (Stream::new(&records), instances(&records));
    let mut variants: BTreeMap<(u8, bool, &str), usize> = BTreeMap::new();
    for instance in &found {
        let planted = &instance.planted;
        assert_eq!(instance.ids.len(), usize::from(planted.events));
        *variants.entry((planted.pattern(), planted.positive(), planted.variant())).or_default() += 1;
        let matches = stream.matches(planted);
        let (name, variant, key) = (planted.name(), planted.variant(), planted.key_value());
        assert_eq!(matches, planted.positive(), "{name}, {variant}: {} {key}", planted.key_kind());
    }
    assert_eq!(variants.len(), 98, "{variants:?}");
    assert!(variants.values().all(|&count| count >= 3), "{variants:?}");
    for pattern in 1..=14 {
        let of = |positive| variants.keys().filter(|key| (key.0, key.1) == (pattern, positive)).count();
        assert!(of(true) >= 1 && of(false) >= 3, "pattern {pattern}: {} and {}", of(true), of(false));
    }
}

#[test]
fn planted_events_stay_as_they_are_and_say_so_in_the_truth() {
    let (records, schema) = (dense(schema(), 80_000), schema());
    let planted: Vec<&Generated> = records.iter().filter(|record| record.truth.planted.is_some()).collect();
    let share = planted.len() as f64 / records.len() as f64;
    assert!((0.3..0.6).contains(&share), "{share}");
    assert!(planted.iter().all(|record| record.event.op == Op::Insert));
    for record in planted.iter().take(2_000) {
        let truth = record.truth.planted.expect("planted");
        let mut line = Vec::new();
        truth_line(record, &schema, &mut line);
        let value: serde_json::Value = serde_json::from_slice(&line).expect("JSON");
        let says = &value["planted"];
        assert_eq!(
            (says["number"].as_u64(), says["name"].as_str()),
            (Some(truth.pattern().into()), Some(truth.name()))
        );
        assert_eq!(says["key"].as_str(), Some(&truth.key_value()[..]));
        assert_eq!(says["outcome"], if truth.positive() { "positive" } else { "hard_negative" });
        // What misses is honest, and so is an order.
        assert!(!record.truth.fraud || truth.positive() && truth.pattern() != 14, "{value}");
    }
}

#[test]
fn few_are_planted_by_default_and_none_if_none_are_asked_for() {
    let count = |config: GeneratorConfig| {
        let records = Generator::new(config, schema()).expect("a valid configuration").take(100_000);
        records.filter(|record| record.truth.planted.is_some()).count()
    };
    let few = count(GeneratorConfig::default());
    assert!((50..400).contains(&few), "{few}");
    assert_eq!(count(GeneratorConfig { pattern_share: 0.0, ..GeneratorConfig::default() }), 0);
    let honest = GeneratorConfig { fraud_share: 0.0, pattern_share: 0.1, ..GeneratorConfig::default() };
    let records = Generator::new(honest, schema()).expect("a valid configuration").take(50_000);
    assert!(records.into_iter().all(|record| !record.truth.fraud));
}
