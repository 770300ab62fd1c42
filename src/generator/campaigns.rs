//! Fraud: each campaign is planned whole when it starts, and its events wait in the schedule among all others.

use super::behaviour::{HOUR_MS, MINUTE_MS};
use super::draft::{Actor, Channel, Draft, EventKind, Pattern, PaymentOutcome};
use super::population::{COUNTRIES, PER_IDENTITY, Population, any_country, branch, hosting_ip, mobile_ip, place_in};
use super::random::Random;
use super::schedule::Schedule;

/// Plans campaigns and numbers what they invent.
#[derive(Debug)]
pub(super) struct Campaigns {
    random: Random,
    /// Campaigns so far.
    number: u64,
    next_identity: u64,
    next_merchant: u64,
    /// Length of a day in the lives of rings and new merchants, milliseconds.
    day_ms: i64,
}

impl Campaigns {
    pub fn new(random: Random, population: &Population, day_ms: i64) -> Self {
        let (next_identity, next_merchant) = (population.customers.len() as u64, population.merchants.len() as u64);
        Campaigns { random, number: 0, next_identity, next_merchant, day_ms }
    }

    /// A number for an identity that did not exist.
    pub fn identity(&mut self) -> u64 {
        self.next_identity += 1;
        self.next_identity - 1
    }

    /// A number for a merchant that did not exist.
    pub fn merchant(&mut self) -> u64 {
        self.next_merchant += 1;
        self.next_merchant - 1
    }

    /// Starts one campaign; returns the number of fraudulent payments in it.
    pub fn start(&mut self, now_ms: i64, population: &Population, schedule: &mut Schedule) -> u64 {
        self.number += 1;
        match self.random.below(100) {
            0..35 => self.card_testing(now_ms, population, schedule),
            35..65 => self.stolen_card(now_ms, population, schedule),
            65..85 => self.account_takeover(now_ms, population, schedule),
            85..94 => self.ring(now_ms, population, schedule),
            _ => self.bust_out(now_ms, population, schedule),
        }
    }

    fn victim(&mut self, population: &Population) -> Actor {
        let number = self.random.below(population.customers.len() as u64) as u32;
        population.actor(&mut self.random, number)
    }

    /// Someone else at the victim's card or account: mostly on a new device, often through a data centre, somewhere else.
    /// Some use the victim's own device or line, from far or in the same household.
    fn thief(&mut self, victim: Actor) -> Actor {
        let device = if self.random.chance(0.3) { victim.device } else { self.identity() * PER_IDENTITY };
        let country = any_country(&mut self.random);
        let ip = match self.random.below(10) {
            0..4 => hosting_ip(&mut self.random),
            4..8 => mobile_ip(&mut self.random, victim.country),
            _ => victim.ip,
        };
        let place = if self.random.chance(0.5) { victim.place } else { place_in(&mut self.random, country) };
        Actor { device, ip, place, ..victim }
    }

    fn pays(&self, pattern: Pattern, at_ms: i64, who: Actor, merchant: u32, cents: i64, of: &Population) -> Draft {
        let shop = &of.merchants[merchant as usize];
        Draft {
            merchant: Some(merchant.into()),
            amount_cents: cents.max(1),
            category: shop.category,
            country: shop.country,
            ..Draft::new(EventKind::Payment, at_ms, who)
        }
        .fraud(pattern, self.number)
    }

    /// 6 to 20 payments of at most 5.00, mostly declined, some seconds apart; then a large one.
    fn card_testing(&mut self, now_ms: i64, population: &Population, schedule: &mut Schedule) -> u64 {
        let victim = self.victim(population);
        let thief = self.thief(victim);
        let merchant = population.any_online(&mut self.random);
        let tries = 6 + self.random.below(15);
        let mut at_ms = now_ms;
        for _ in 0..tries {
            let cents = self.random.between(50, 500);
            let outcome = if self.random.chance(0.75) { PaymentOutcome::Declined } else { PaymentOutcome::Approved };
            let draft = self.pays(Pattern::CardTesting, at_ms, thief, merchant, cents, population).ended(outcome);
            schedule.put(at_ms, draft);
            at_ms += self.random.between(4_000, 40_000);
        }
        at_ms += self.random.between(2 * MINUTE_MS, 15 * MINUTE_MS);
        let (merchant, cents) = (population.any_online(&mut self.random), self.random.between(12_000, 90_000));
        schedule.put(at_ms, self.pays(Pattern::CardTesting, at_ms, thief, merchant, cents, population));
        tries + 1
    }

    /// 1 to 8 payments in another country or online: of rising amounts within two hours, or, by the patient, of such amounts
    /// as the victim spends, over a day.
    fn stolen_card(&mut self, now_ms: i64, population: &Population, schedule: &mut Schedule) -> u64 {
        let victim = self.victim(population);
        let mut thief = self.thief(victim);
        let abroad = any_country(&mut self.random);
        thief.place = place_in(&mut self.random, abroad);
        let in_store = self.random.chance(0.4);
        let patient = self.random.chance(0.5);
        let payments = 1 + self.random.below(8);
        let usual = population.customers[victim.account as usize].typical_cents;
        let mut cents = self.random.between(2_000, 9_000);
        let mut at_ms = now_ms;
        for _ in 0..payments {
            let merchant = if in_store {
                population.merchant_in(&mut self.random, abroad)
            } else {
                population.any_online(&mut self.random)
            };
            let declined = if patient { 0.05 } else { 0.2 };
            let outcome =
                if self.random.chance(declined) { PaymentOutcome::Declined } else { PaymentOutcome::Approved };
            if patient {
                cents = (usual * self.random.log_normal(0.7)) as i64;
            }
            let mut draft = self.pays(Pattern::StolenCard, at_ms, thief, merchant, cents, population).ended(outcome);
            if in_store {
                draft.channel = Channel::Store;
                draft.place = branch(merchant, thief.place);
            }
            schedule.put(at_ms, draft);
            at_ms += self.random.between(MINUTE_MS, if patient { 5 * HOUR_MS } else { 15 * MINUTE_MS });
            cents += if patient { 0 } else { self.random.between(1_000, cents) };
        }
        payments
    }

    /// Failed logins, one that succeeds from a new device, a change of contact data, 1 to 4 payments.
    fn account_takeover(&mut self, now_ms: i64, population: &Population, schedule: &mut Schedule) -> u64 {
        let victim = self.victim(population);
        let thief = self.thief(victim);
        let campaign = self.number;
        let mut at_ms = now_ms;
        let failed = self.random.below(5);
        for attempt in 0..=failed {
            let outcome = if attempt < failed { PaymentOutcome::Declined } else { PaymentOutcome::Approved };
            let login = Draft::new(EventKind::Login, at_ms, thief).ended(outcome);
            schedule.put(at_ms, login.fraud(Pattern::AccountTakeover, campaign));
            at_ms += self.random.between(3_000, 60_000);
        }
        let change = self.random.below(3) as u8;
        let changed = Draft { change, ..Draft::new(EventKind::AccountChange, at_ms, thief) };
        schedule.put(at_ms, changed.fraud(Pattern::AccountTakeover, campaign));
        let payments = 1 + self.random.below(4);
        let payee = self.identity();
        for _ in 0..payments {
            at_ms += self.random.between(MINUTE_MS, 40 * MINUTE_MS);
            let cents = self.random.between(20_000, 150_000);
            let merchant = population.any_online(&mut self.random);
            let mut draft = self.pays(Pattern::AccountTakeover, at_ms, thief, merchant, cents, population);
            if self.random.chance(0.5) {
                draft.channel = Channel::Transfer;
                draft.merchant = None;
                draft.payee = Some(payee);
                draft.country = thief.country;
            }
            schedule.put(at_ms, draft);
        }
        payments
    }

    /// 4 to 8 invented accounts with two devices, one address and one line between them, some with one card; they pay
    /// modestly for days, then all at once.
    fn ring(&mut self, now_ms: i64, population: &Population, schedule: &mut Schedule) -> u64 {
        let country = any_country(&mut self.random);
        let members = 4 + self.random.below(5);
        let (devices, address) = ([self.identity(), self.identity()], self.identity());
        let ip = hosting_ip(&mut self.random);
        let days = 1 + self.random.below(4) as i64;
        let (mut payments, mut card) = (0, None);
        for _ in 0..members {
            let number = self.identity();
            let mut actor = population.invented(&mut self.random, number, country);
            (actor.address, actor.ip) = (address, ip);
            if self.random.chance(0.3) {
                actor.card = card.unwrap_or(actor.card);
            }
            card = Some(actor.card);
            let modest = 2 + self.random.below(3);
            for i in 0..modest + 2 {
                actor.device = devices[self.random.below(2) as usize] * PER_IDENTITY;
                let last = i >= modest;
                let within_ms = if last { HOUR_MS } else { days * self.day_ms };
                let from_ms = if last { now_ms + days * self.day_ms } else { now_ms };
                let at_ms = from_ms + self.random.below(within_ms as u64) as i64;
                let cents = if last { self.random.between(15_000, 80_000) } else { self.random.between(800, 6_000) };
                let merchant = population.any_online(&mut self.random);
                schedule.put(at_ms, self.pays(Pattern::Ring, at_ms, actor, merchant, cents, population));
                payments += 1;
            }
        }
        payments
    }

    /// A new merchant: small payments by a few helpers, then one hour in which 15 to 40 cards are charged.
    fn bust_out(&mut self, now_ms: i64, population: &Population, schedule: &mut Schedule) -> u64 {
        let merchant = self.merchant();
        let country = self.random.below(COUNTRIES.len() as u64) as u8;
        let helpers: [Actor; 3] = std::array::from_fn(|_| {
            let number = self.identity();
            population.invented(&mut self.random, number, country)
        });
        let quiet = 5 + self.random.below(10);
        let cards = 15 + self.random.below(26);
        for i in 0..quiet + cards {
            let burst = i >= quiet;
            let who = if burst { self.victim(population) } else { helpers[self.random.below(3) as usize] };
            let from_ms = if burst { now_ms + self.day_ms } else { now_ms };
            let within_ms = if burst { HOUR_MS } else { self.day_ms };
            let at_ms = from_ms + self.random.below(within_ms as u64) as i64;
            let cents = if burst { self.random.between(20_000, 60_000) } else { self.random.between(500, 4_000) };
            let draft = Draft {
                merchant: Some(merchant),
                amount_cents: cents,
                category: 5,
                country,
                ..Draft::new(EventKind::Payment, at_ms, who)
            };
            schedule.put(at_ms, draft.fraud(Pattern::BustOut, self.number));
        }
        quiet + cards
    }
}
