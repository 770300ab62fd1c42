//! What people do: sessions of customers over day and night, in order of event time.
//!
//! A session is planned whole when it begins and its events wait in a schedule, among those of fraud campaigns. The pace
//! follows the rate asked for: the gap between sessions is stretched by the events that a session has had on average.

use std::collections::BTreeMap;

use super::GeneratorConfig;
use super::campaigns::Campaigns;
use super::draft::{Actor, CHANGES, Channel, Draft, EventKind, HardNegative, PaymentOutcome};
use super::plants::Plants;
use super::population::{
    CATEGORIES, COUNTRIES, Customer, PER_IDENTITY, Population, any_country, branch, hosting_ip, mobile_ip, place_in,
};
use super::random::Random;
use super::schedule::Schedule;

pub(super) const MINUTE_MS: i64 = 60_000;
pub(super) const HOUR_MS: i64 = 3_600_000;
pub(super) const DAY_MS: i64 = 86_400_000;

/// Activity by local hour, thousandths of the busiest.
const BY_HOUR: [u64; 24] = [
    120, 70, 50, 40, 50, 90, 180, 340, 520, 650, 740, 820, 900, 860, 780, 760, 800, 900, 1000, 980, 860, 660, 420, 230,
];

/// The most trips that go on at once; more customers than that stay at home.
const TRIPS_MAX: usize = 16_384;
/// This share of sessions goes through a proxy.
const PROXY_SHARE: f64 = 0.03;

#[derive(Debug)]
struct Trip {
    country: u8,
    place: (i32, i32),
    until_ms: i64,
}

#[derive(Debug)]
pub(super) struct World {
    random: Random,
    population: Population,
    campaigns: Campaigns,
    plants: Plants,
    schedule: Schedule,
    /// By customer.
    trips: BTreeMap<u32, Trip>,
    start_ms: i64,
    /// When the next session begins, nanoseconds after `start_ms`.
    next_session_ns: u64,
    /// Nanoseconds per event asked for.
    event_ns: f64,
    sessions: u64,
    events: u64,
    /// Fraudulent payments owed: grows with every honest payment, a campaign pays off its own.
    owed: f64,
    fraud_share: f64,
    /// Planted events owed: grows with every other event, an instance pays off its own.
    planted_owed: f64,
    pattern_share: f64,
    /// Length of a day for what takes days.
    day_ms: i64,
}

impl World {
    /// `extra` is the number of records the stream adds per event of the world (labels, duplicates, corrections).
    pub fn new(config: &GeneratorConfig, extra: f64) -> Self {
        let population = Population::new(&mut Random::new(config.seed, 0), config.customers, config.merchants);
        let day_ms = config.slow_day_ms();
        World {
            random: Random::new(config.seed, 1),
            campaigns: Campaigns::new(Random::new(config.seed, 2), &population, day_ms),
            plants: Plants::new(Random::new(config.seed, 4), config.seed, config.fraud_share > 0.0),
            population,
            schedule: Schedule::default(),
            trips: BTreeMap::new(),
            start_ms: config.start_ms,
            next_session_ns: 0,
            event_ns: 1e9 / config.rate_per_s * (1.0 + extra),
            sessions: 0,
            events: 0,
            owed: 0.0,
            fraud_share: config.fraud_share,
            planted_owed: 0.0,
            pattern_share: config.pattern_share,
            day_ms,
        }
    }

    /// The next event, in order of event time. Never ends.
    pub fn next(&mut self) -> Draft {
        loop {
            let session_ms = self.start_ms + (self.next_session_ns / 1_000_000) as i64;
            if self.schedule.due_ms().is_some_and(|due_ms| due_ms <= session_ms)
                && let Some(draft) = self.schedule.take()
            {
                return self.number(draft);
            }
            self.session(session_ms);
            // Events per session so far, with a thousand sessions of 1.4 events as a start.
            let per_session = (self.events as f64 + 1_400.0) / (self.sessions as f64 + 1_000.0);
            self.sessions += 1;
            let gap_ns = (self.random.exponential() * self.event_ns * per_session) as u64;
            self.next_session_ns = self.next_session_ns.saturating_add(gap_ns);
        }
    }

    fn number(&mut self, mut draft: Draft) -> Draft {
        self.events += 1;
        if let Some(planted) = &draft.truth.planted {
            self.plants.passed(planted);
            return draft;
        }
        draft.number = self.events;
        self.planted_owed += self.pattern_share / (1.0 - self.pattern_share);
        if self.planted_owed >= 1.0 {
            let (campaigns, schedule) = (&mut self.campaigns, &mut self.schedule);
            let (events, frauds) = self.plants.start(draft.time_ms, campaigns, &self.population, schedule);
            self.planted_owed -= events as f64;
            self.owed -= frauds as f64;
        }
        let honest = draft.kind == EventKind::Payment && !draft.truth.fraud;
        if honest {
            self.owed += self.fraud_share / (1.0 - self.fraud_share);
            if self.owed >= 1.0 {
                self.owed -= self.campaigns.start(draft.time_ms, &self.population, &mut self.schedule) as f64;
            }
        }
        if honest && draft.outcome == PaymentOutcome::Approved && draft.merchant.is_some() && self.random.chance(0.02) {
            let at_ms = draft.time_ms + HOUR_MS.min(self.day_ms) + self.random.below(2 * self.day_ms as u64) as i64;
            let amount_cents = if self.random.chance(0.7) { draft.amount_cents } else { draft.amount_cents / 2 + 1 };
            let refund =
                Draft { kind: EventKind::Refund, time_ms: at_ms, amount_cents, target: Some(draft.number), ..draft };
            self.schedule.put(at_ms, refund);
        }
        draft
    }

    /// Someone who is awake: a few tries by the hour of the day where they live.
    fn someone(&mut self, at_ms: i64) -> u32 {
        let customers = self.population.customers.len() as u64;
        for _ in 0..3 {
            let number = self.random.below(customers) as u32;
            let customer = &self.population.customers[number as usize];
            let local_ms = at_ms + COUNTRIES[customer.country as usize].hours_ahead * HOUR_MS;
            let hour = (local_ms.div_euclid(HOUR_MS)).rem_euclid(24) as usize;
            let awake = if customer.night_owl { 700 } else { BY_HOUR[hour] };
            if self.random.below(1000) < awake {
                return number;
            }
        }
        self.random.below(customers) as u32
    }

    fn session(&mut self, at_ms: i64) {
        let number = self.someone(at_ms);
        let mut actor = self.population.actor(&mut self.random, number);
        let abroad = self.trips.get(&number).filter(|trip| at_ms < trip.until_ms);
        let abroad = abroad.map(|trip| (trip.country, trip.place));
        if let Some((country, place)) = abroad {
            actor.place = place;
            actor.ip = mobile_ip(&mut self.random, country);
        } else if self.random.chance(PROXY_SHARE) {
            actor.ip = hosting_ip(&mut self.random);
        }
        match self.random.below(100_000) {
            0..56_000 => {
                self.purchase(at_ms, number, actor, abroad.map(|(country, _)| country));
            }
            56_000..72_000 => {
                self.put(Draft::new(EventKind::Login, at_ms, actor));
                let paid_ms = at_ms + self.random.between(20_000, 8 * MINUTE_MS);
                let merchant = self.population.any_online(&mut self.random);
                self.buy(paid_ms, number, actor, merchant, Channel::Online);
            }
            72_000..84_000 => {
                let outcome =
                    if self.random.chance(0.06) { PaymentOutcome::Declined } else { PaymentOutcome::Approved };
                self.put(Draft::new(EventKind::Login, at_ms, actor).ended(outcome));
            }
            84_000..86_000 => {
                self.put(Draft::new(EventKind::Login, at_ms, actor));
                let changed_ms = at_ms + self.random.between(10_000, 3 * MINUTE_MS);
                let change = self.random.below(CHANGES.len() as u64) as u8;
                self.put(Draft { change, ..Draft::new(EventKind::AccountChange, changed_ms, actor) });
            }
            86_000..98_750 => self.transfer(at_ms, number, actor),
            98_750..99_250 => self.new_phone(at_ms, number, actor),
            99_250..99_650 => self.guest_device(at_ms, number, actor),
            99_650..99_850 => self.small_payments(at_ms, number, actor),
            99_850..99_980 => self.depart(at_ms, number, actor),
            99_980..99_990 => self.payroll(at_ms, number, actor),
            _ => self.flash_sale(at_ms),
        }
    }

    /// Into the schedule, with what is honest but suspicious about the actor marked.
    fn put(&mut self, mut draft: Draft) {
        if let Some(household) = self.population.on_shared_device(&draft.actor) {
            draft.truth.household = Some(household);
            draft.truth.hard_negative.get_or_insert(HardNegative::Family);
        } else if self.population.at_office(&draft.actor) {
            draft.truth.hard_negative.get_or_insert(HardNegative::SharedAddress);
        }
        self.schedule.put(draft.time_ms, draft);
    }

    fn cents(&mut self, customer: u32, category: u8) -> i64 {
        let usual = self.population.customers[customer as usize].typical_cents * CATEGORIES[category as usize].1;
        let cents = (usual * self.random.log_normal(0.55)) as i64;
        let cents = cents.clamp(50, 2_000_000);
        if self.random.chance(0.1) { (cents / 500 + 1) * 500 } else { cents }
    }

    fn purchase(&mut self, at_ms: i64, number: u32, actor: Actor, abroad: Option<u8>) {
        let merchant = match abroad {
            Some(country) => self.population.merchant_in(&mut self.random, country),
            None => {
                let customer: &Customer = &self.population.customers[number as usize];
                self.population.merchant_of(&mut self.random, customer)
            }
        };
        let online = self.population.merchants[merchant as usize].online && abroad.is_none();
        let channel = match self.random.below(10) {
            0..2 => Channel::Wallet,
            _ if online => Channel::Online,
            _ => Channel::Store,
        };
        self.buy(at_ms, number, actor, merchant, channel);
    }

    /// A payment; a declined one is tried again up to three times.
    fn buy(&mut self, at_ms: i64, number: u32, actor: Actor, merchant: u32, channel: Channel) {
        let shop = &self.population.merchants[merchant as usize];
        let (category, country) = (shop.category, shop.country);
        let away = country != actor.country && channel != Channel::Online;
        let mut draft = Draft {
            merchant: Some(merchant.into()),
            amount_cents: self.cents(number, category),
            category,
            country,
            channel,
            place: if channel == Channel::Store { branch(merchant, actor.place) } else { actor.place },
            recurring: category == 8 && self.random.chance(0.7),
            ..Draft::new(EventKind::Payment, at_ms, actor)
        };
        if away {
            draft = draft.honest(HardNegative::Traveller);
        }
        let mut declined = 0.04;
        for _ in 0..4 {
            draft.outcome = match self.random.unit() {
                drawn if drawn < declined => PaymentOutcome::Declined,
                drawn if drawn > 0.997 => PaymentOutcome::Blocked,
                _ => PaymentOutcome::Approved,
            };
            self.put(draft);
            if draft.outcome != PaymentOutcome::Declined || self.random.chance(0.5) {
                return;
            }
            draft.time_ms += self.random.between(10_000, 90_000);
            draft = draft.honest(HardNegative::Retry);
            declined = 0.6;
        }
    }

    fn transfer(&mut self, at_ms: i64, number: u32, actor: Actor) {
        // Mostly to one of three people the customer knows.
        let known = (u64::from(number) * 7 + 1 + self.random.below(3)) % self.population.customers.len() as u64;
        let anyone = self.random.below(self.population.customers.len() as u64);
        let payee = if self.random.chance(0.8) { known } else { anyone };
        let cents = self.cents(number, 11);
        let round = self.random.chance(0.6);
        self.put(Draft {
            payee: Some(payee),
            amount_cents: if round { (cents / 1_000 + 1) * 1_000 } else { cents },
            channel: Channel::Transfer,
            category: 11,
            ..Draft::new(EventKind::Payment, at_ms, actor)
        });
    }

    /// What someone buys who seldom does: up to six times the usual, at some merchant that sells online.
    fn large(&mut self, at_ms: i64, number: u32, actor: Actor) -> Draft {
        let merchant = self.population.any_online(&mut self.random);
        let shop = &self.population.merchants[merchant as usize];
        let (category, country) = (shop.category, shop.country);
        let times = if self.random.chance(0.5) { self.random.between(2, 6) } else { 1 };
        let amount_cents = (self.cents(number, category) * times).min(2_000_000);
        let merchant = Some(merchant.into());
        Draft { merchant, amount_cents, category, country, ..Draft::new(EventKind::Payment, at_ms, actor) }
    }

    /// A new device, a login, a change of the phone number, a payment, often a large one: honest.
    fn new_phone(&mut self, at_ms: i64, number: u32, mut actor: Actor) {
        actor.device = self.campaigns.identity() * PER_IDENTITY;
        let why = HardNegative::NewPhone;
        self.put(Draft::new(EventKind::Login, at_ms, actor).honest(why));
        let changed_ms = at_ms + self.random.between(MINUTE_MS, 10 * MINUTE_MS);
        self.put(Draft { change: 2, ..Draft::new(EventKind::AccountChange, changed_ms, actor) }.honest(why));
        let paid_ms = changed_ms + self.random.between(MINUTE_MS, 2 * HOUR_MS);
        let paid = self.large(paid_ms, number, actor);
        self.put(paid.honest(why));
    }

    /// One to three payments from a device of someone else, perhaps large ones.
    fn guest_device(&mut self, at_ms: i64, number: u32, mut actor: Actor) {
        actor.device = self.campaigns.identity() * PER_IDENTITY;
        let mut paid_ms = at_ms;
        for _ in 0..1 + self.random.below(3) {
            let paid = self.large(paid_ms, number, actor);
            let outcome = if self.random.chance(0.1) { PaymentOutcome::Declined } else { PaymentOutcome::Approved };
            self.put(paid.ended(outcome).honest(HardNegative::GuestDevice));
            paid_ms += self.random.between(MINUTE_MS, 30 * MINUTE_MS);
        }
    }

    /// Five to fourteen payments of at most 5.00 within minutes, as games and tickets bring; sometimes a larger one after.
    fn small_payments(&mut self, at_ms: i64, number: u32, actor: Actor) {
        let mut paid_ms = at_ms;
        for _ in 0..5 + self.random.below(10) {
            let outcome = if self.random.chance(0.08) { PaymentOutcome::Declined } else { PaymentOutcome::Approved };
            let amount_cents = self.random.between(50, 500);
            let paid = Draft { amount_cents, ..self.large(paid_ms, number, actor) };
            self.put(paid.ended(outcome).honest(HardNegative::SmallPayments));
            paid_ms += self.random.between(5_000, 90_000);
        }
        if self.random.chance(0.4) {
            let paid = self.large(paid_ms, number, actor);
            self.put(paid.honest(HardNegative::SmallPayments));
        }
    }

    /// A trip abroad begins with a notice to the issuers of all cards and a payment there; the customer's sessions take
    /// place there until it ends, which is noticed too.
    fn depart(&mut self, at_ms: i64, number: u32, mut actor: Actor) {
        self.trips.retain(|_, trip| at_ms < trip.until_ms);
        if self.trips.len() >= TRIPS_MAX || self.trips.contains_key(&number) {
            return self.transfer(at_ms, number, actor);
        }
        let (home, country) = (actor.country, any_country(&mut self.random));
        let place = place_in(&mut self.random, country);
        let until_ms = at_ms + (1 + self.random.below(7) as i64) * self.day_ms;
        actor.place = place;
        actor.ip = mobile_ip(&mut self.random, country);
        for (noticed_ms, to) in [(at_ms, country), (until_ms, home)] {
            for card in 0..u64::from(self.population.customers[number as usize].cards) {
                let holder = Actor { card: u64::from(number) * PER_IDENTITY + card, ..actor };
                let notice = Draft { country: to, ..Draft::new(EventKind::TravelNotice, noticed_ms, holder) };
                self.put(notice.honest(HardNegative::Traveller));
            }
        }
        let mut paid_ms = at_ms + self.random.between(1, MINUTE_MS);
        for _ in 0..1 + self.random.below(5) {
            if paid_ms < until_ms {
                let merchant = self.population.merchant_in(&mut self.random, country);
                self.buy(paid_ms, number, actor, merchant, Channel::Store);
            }
            paid_ms += self.random.between(20 * MINUTE_MS, 5 * HOUR_MS);
        }
        self.trips.insert(number, Trip { country, place, until_ms });
    }

    /// 20 to 60 transfers of like amounts within minutes.
    fn payroll(&mut self, at_ms: i64, number: u32, actor: Actor) {
        let wage_cents = self.random.between(80_000, 300_000);
        let mut paid_ms = at_ms;
        for payee in 0..20 + self.random.below(41) {
            let amount_cents = wage_cents + self.random.between(-20_000, 20_000);
            let payee = (u64::from(number) * 31 + payee) % self.population.customers.len() as u64;
            let paid = Draft {
                payee: Some(payee),
                amount_cents,
                channel: Channel::Transfer,
                category: 11,
                ..Draft::new(EventKind::Payment, paid_ms, actor)
            };
            self.put(paid.honest(HardNegative::Payroll));
            paid_ms += self.random.between(200, 8_000);
        }
    }

    /// 40 to 80 customers buy at one online merchant within an hour.
    fn flash_sale(&mut self, at_ms: i64) {
        let merchant = self.population.any_online(&mut self.random);
        let shop = &self.population.merchants[merchant as usize];
        let (category, country) = (shop.category, shop.country);
        for i in 0..40 + self.random.below(41) {
            let number = self.someone(at_ms);
            let actor = self.population.actor(&mut self.random, number);
            let paid_ms = at_ms + if i == 0 { 0 } else { self.random.below(HOUR_MS as u64) as i64 };
            let paid = Draft {
                merchant: Some(merchant.into()),
                amount_cents: self.cents(number, category),
                category,
                country,
                ..Draft::new(EventKind::Payment, paid_ms, actor)
            };
            self.put(paid.honest(HardNegative::FlashSale));
        }
    }
}
