//! Event patterns planted with certainty: instances of the fourteen patterns under their default parameters, and hard
//! negatives that miss by one condition.
//!
//! Every instance acts through accounts, cards, devices, networks and merchants of its own, so that nothing else can make
//! or break it; none of its events is corrected or withdrawn. Variants take turns, so that every one occurs.
//!
//! Patterns 5, 7, 9 and 13 are planted in identity clusters, too: see `clusters.rs`.

mod accounts;
mod cards;
mod clusters;
mod money;
mod orders;

use self::accounts::Takeover;
use self::cards::{From, Trip};
use self::clusters::{Back, Farm};
use self::money::{ChainEnd, Mule};
use self::orders::{Same, Third};
use super::behaviour::MINUTE_MS;
use super::campaigns::Campaigns;
use super::draft::{Actor, Channel, Draft, EventKind, PaymentOutcome};
use super::planted::{Planted, Subject};
use super::population::{PER_IDENTITY, Population, any_country};
use super::random::Random;
use super::schedule::Schedule;

/// One way to satisfy a pattern, or to miss it.
pub(super) struct Variant {
    pub pattern: u8,
    pub name: &'static str,
    pub positive: bool,
    /// Whether it takes more than some hours.
    pub long: bool,
    play: fn(&mut Scene<'_>) -> Subject,
}

const fn hit(pattern: u8, name: &'static str, play: fn(&mut Scene<'_>) -> Subject) -> Variant {
    Variant { pattern, name, positive: true, long: pattern == 7 || pattern >= 11, play }
}

const fn miss(pattern: u8, name: &'static str, play: fn(&mut Scene<'_>) -> Subject) -> Variant {
    Variant { pattern, name, positive: false, long: pattern == 7 || pattern >= 11, play }
}

/// Every variant; the truth refers to them by place.
#[rustfmt::skip] // A table: a line per variant.
pub(super) const VARIANTS: [Variant; KEYED + 20] = [
    hit(1, "small tries, then a large payment", |s| cards::testing(s, (5, 9), 0, PaymentOutcome::Approved)),
    miss(1, "one try too few", |s| cards::testing(s, (4, 4), 0, PaymentOutcome::Approved)),
    miss(1, "large payment after the window", |s| cards::testing(s, (5, 5), 31, PaymentOutcome::Approved)),
    miss(1, "large payment declined", |s| cards::testing(s, (6, 6), 0, PaymentOutcome::Declined)),
    miss(1, "large payment first", cards::testing_backwards),
    hit(2, "many cards from one address", |s| cards::enumeration(s, From::Ip, (20, 27), 99, 5, 20_000)),
    hit(2, "many cards from one device", |s| cards::enumeration(s, From::Device, (20, 27), 99, 5, 20_000)),
    hit(2, "many cards of one issuer at one merchant", |s| cards::enumeration(s, From::MerchantBin, (20, 27), 99, 5, 20_000)),
    miss(2, "one payment too few", |s| cards::enumeration(s, From::Ip, (19, 19), 99, 5, 20_000)),
    miss(2, "one card too few", |s| cards::enumeration(s, From::Device, (20, 20), 14, 5, 20_000)),
    miss(2, "too few declined", |s| cards::enumeration(s, From::MerchantBin, (20, 20), 99, 2, 20_000)),
    miss(2, "too slow", |s| cards::enumeration(s, From::Ip, (20, 20), 99, 5, 40_000)),
    hit(3, "change, new device, large payment to a new payee", |s| accounts::takeover(s, Takeover::default())),
    miss(3, "from the device known before", |s| accounts::takeover(s, Takeover { known_device: true, ..Takeover::default() })),
    miss(3, "device seen before the change", |s| accounts::takeover(s, Takeover { seen_before: true, ..Takeover::default() })),
    miss(3, "payee known before", |s| accounts::takeover(s, Takeover { known_payee: true, ..Takeover::default() })),
    miss(3, "payment too small", |s| accounts::takeover(s, Takeover { cents: (15_500, 19_900), ..Takeover::default() })),
    miss(3, "payment after the window", |s| accounts::takeover(s, Takeover { hours: 25, ..Takeover::default() })),
    hit(4, "failed logins on many accounts, then one succeeds and pays", |s| accounts::stuffing(s, (20, 25), 12, 0, true)),
    miss(4, "one failed login too few", |s| accounts::stuffing(s, (19, 19), 12, 0, true)),
    miss(4, "one account too few", |s| accounts::stuffing(s, (20, 20), 9, 0, true)),
    miss(4, "payment after the window", |s| accounts::stuffing(s, (20, 20), 12, 61, true)),
    miss(4, "another account pays", |s| accounts::stuffing(s, (20, 20), 12, 0, false)),
    hit(5, "accounts from one device", |s| accounts::farm(s, true, &[0, 30, 90], 0)),
    hit(5, "accounts from one network", |s| accounts::farm(s, false, &[0, 20, 200, 700], 0)),
    hit(5, "cards added across two accounts of one device", |s| accounts::farm(s, true, &[0, 60], 4)),
    miss(5, "one account too few", |s| accounts::farm(s, true, &[0, 45], 0)),
    miss(5, "one card too few", |s| accounts::farm(s, false, &[0, 60], 3)),
    miss(5, "too slow", |s| accounts::farm(s, true, &[0, 760, 1_500], 0)),
    hit(6, "two continents within an hour", |s| cards::travel(s, Trip::Impossible)),
    miss(6, "travel notice between", |s| cards::travel(s, Trip::Noticed)),
    miss(6, "too near", |s| cards::travel(s, Trip::Near)),
    miss(6, "slow enough", |s| cards::travel(s, Trip::Slow)),
    miss(6, "after the window", |s| cards::travel(s, Trip::Late)),
    hit(7, "most is given back", |s| money::refunds(s, 6, (4, 5), 1)),
    hit(7, "given back to another card", money::refund_elsewhere),
    miss(7, "one refund too few", |s| money::refunds(s, 4, (3, 3), 1)),
    miss(7, "too small a share", |s| money::refunds(s, 10, (4, 4), 1)),
    miss(7, "too slow", |s| money::refunds(s, 5, (4, 4), 11)),
    hit(8, "many payers in, most out at once", |s| money::mule(s, Mule::default())),
    hit(8, "just enough", |s| money::mule(s, Mule { payers: 4, cents: 20_000, out_percent: 81, payees: 3, ..Mule::default() })),
    miss(8, "one transfer too few", |s| money::mule(s, Mule { transfers: 4, payers: 4, ..Mule::default() })),
    miss(8, "one payer too few", |s| money::mule(s, Mule { transfers: 6, payers: 3, ..Mule::default() })),
    miss(8, "too little comes in", |s| money::mule(s, Mule { cents: 19_000, ..Mule::default() })),
    miss(8, "too many payees", |s| money::mule(s, Mule { out_percent: 96, payees: 5, ..Mule::default() })),
    miss(8, "too little goes out", |s| money::mule(s, Mule { out_percent: 75, ..Mule::default() })),
    miss(8, "goes out after the window", |s| money::mule(s, Mule { hold_min: 25 * 60, ..Mule::default() })),
    hit(9, "three below the limit", |s| money::structuring(s, &[(0, 850_000), (700, 990_000), (2_000, 920_000)])),
    miss(9, "one too few", |s| money::structuring(s, &[(0, 950_000), (800, 999_900)])),
    miss(9, "one at the limit", |s| money::structuring(s, &[(0, 900_000), (700, 1_000_000), (1_500, 930_000)])),
    miss(9, "one too small", |s| money::structuring(s, &[(0, 900_000), (700, 799_900), (1_500, 930_000)])),
    miss(9, "too slow", |s| money::structuring(s, &[(0, 900_000), (2_200, 950_000), (4_330, 930_000)])),
    hit(10, "comes back", |s| money::cycle(s, (3, 6), ChainEnd::Closed)),
    miss(10, "does not come back", |s| money::cycle(s, (4, 4), ChainEnd::Open)),
    miss(10, "a hop grows", |s| money::cycle(s, (4, 4), ChainEnd::Grows)),
    miss(10, "a hop loses too much", |s| money::cycle(s, (3, 3), ChainEnd::Shrinks)),
    miss(10, "two hops only", |s| money::cycle(s, (2, 2), ChainEnd::Closed)),
    miss(10, "against the order of time", |s| money::cycle(s, (4, 4), ChainEnd::Backwards)),
    miss(10, "after the window", |s| money::cycle(s, (3, 3), ChainEnd::Slow)),
    hit(11, "asleep, then a new device pays", |s| accounts::dormant(s, 91, true, 30_000, 10)),
    miss(11, "not asleep for long", |s| accounts::dormant(s, 85, true, 30_000, 10)),
    miss(11, "from the device known before", |s| accounts::dormant(s, 91, false, 30_000, 10)),
    miss(11, "payment too small", |s| accounts::dormant(s, 91, true, 19_000, 10)),
    miss(11, "payment after the window", |s| accounts::dormant(s, 91, true, 30_000, 61)),
    hit(12, "a young merchant's burst, then disputes", |s| orders::bust_out(s, 0, 8_000, true)),
    miss(12, "nobody disputes", |s| orders::bust_out(s, 0, 8_000, false)),
    miss(12, "too small a burst", |s| orders::bust_out(s, 0, 1_500, true)),
    miss(12, "merchant too old", |s| orders::bust_out(s, 31, 8_000, true)),
    hit(13, "two came back to one phone, a third is ordered", |s| orders::returned(s, Same::Phone, [true, true], Third::Soon)),
    hit(13, "two came back to one address, a third is ordered", |s| orders::returned(s, Same::Address, [true, true], Third::Soon)),
    miss(13, "one was kept", |s| orders::returned(s, Same::Phone, [true, false], Third::Soon)),
    miss(13, "third ordered before the second came back", |s| orders::returned(s, Same::Phone, [true, true], Third::Early)),
    miss(13, "third ordered after the window", |s| orders::returned(s, Same::Address, [true, true], Third::Late)),
    hit(14, "paid and delivered", |s| orders::assembled(s, Some(20), 5, EventKind::OrderDelivered)),
    hit(14, "paid and returned", |s| orders::assembled(s, Some(15), 9, EventKind::OrderReturned)),
    miss(14, "abandoned", |s| orders::assembled(s, None, 0, EventKind::OrderDelivered)),
    miss(14, "paid after the window", |s| orders::assembled(s, Some(31), 4, EventKind::OrderDelivered)),
    miss(14, "delivered after the window", |s| orders::assembled(s, Some(10), 31, EventKind::OrderDelivered)),
    hit(5, "accounts across a cluster", |s| clusters::farm(s, Farm { at_min: &[0, 30, 90], outsider: false })),
    miss(5, "one account of a cluster too few", |s| clusters::farm(s, Farm { at_min: &[0, 45], outsider: false })),
    miss(5, "one account is of no cluster", |s| clusters::farm(s, Farm { at_min: &[0, 30, 90], outsider: true })),
    miss(5, "too slow in a cluster", |s| clusters::farm(s, Farm { at_min: &[0, 760, 1_450], outsider: false })),
    hit(7, "most is given back to a cluster", |s| clusters::refunds(s, Back::default())),
    miss(7, "one refund of a cluster too few", |s| clusters::refunds(s, Back { refunds: 3, ..Back::default() })),
    miss(7, "too small a share of a cluster", |s| clusters::refunds(s, Back { payments: 9, ..Back::default() })),
    miss(7, "one refund is of no cluster", |s| clusters::refunds(s, Back { outsider: true, ..Back::default() })),
    miss(7, "too slow in a cluster", |s| clusters::refunds(s, Back { apart_h: 241, ..Back::default() })),
    hit(9, "three of a cluster below the limit", |s| clusters::structuring(s, &[(0, 850_000), (700, 990_000), (2_000, 920_000)], false)),
    miss(9, "one of a cluster too few", |s| clusters::structuring(s, &[(0, 950_000), (800, 999_900)], false)),
    miss(9, "one of a cluster at the limit", |s| clusters::structuring(s, &[(0, 900_000), (700, 1_000_000), (1_500, 930_000)], false)),
    miss(9, "one of a cluster too small", |s| clusters::structuring(s, &[(0, 900_000), (700, 799_900), (1_500, 930_000)], false)),
    miss(9, "one transfer is of no cluster", |s| clusters::structuring(s, &[(0, 900_000), (700, 940_000), (1_500, 930_000)], true)),
    miss(9, "too slow in a cluster", |s| clusters::structuring(s, &[(0, 900_000), (2_200, 950_000), (4_335, 930_000)], false)),
    hit(13, "two came back to a cluster, a third is ordered", |s| clusters::returned(s, [true, true], Third::Soon, false)),
    miss(13, "one was kept in a cluster", |s| clusters::returned(s, [true, false], Third::Soon, false)),
    miss(13, "third ordered in a cluster before the second came back", |s| clusters::returned(s, [true, true], Third::Early, false)),
    miss(13, "third ordered in a cluster after the window", |s| clusters::returned(s, [true, true], Third::Late, false)),
    miss(13, "one came back to no cluster", |s| clusters::returned(s, [true, true], Third::Soon, true)),
];

/// Variants of the keys that an event names; those of clusters stand behind them.
const KEYED: usize = 78;
/// Steps from one keyed variant to the next: prime to their number, so that every one has its turn and neighbours differ.
const STRIDE: usize = 11;
/// Planted events of long variants that wait at most; while so many do, only short ones begin.
const WAITING_MAX: usize = 20_000;
/// Planted events are numbered from here on: their numbers are known when they are planned.
const FIRST_NUMBER: u64 = 900_000_000_000;

/// Plants instances and knows whose turn it is.
#[derive(Debug)]
pub(super) struct Plants {
    random: Random,
    /// Where the rounds begin.
    first: usize,
    turn: usize,
    instances: u32,
    number: u64,
    /// Events of long variants that wait.
    waiting: usize,
    /// Whether instances that are fraud are planted.
    fraud: bool,
}

impl Plants {
    pub fn new(random: Random, seed: u64, fraud: bool) -> Self {
        let first = (seed % KEYED as u64) as usize;
        Plants { random, first, turn: 0, instances: 0, number: FIRST_NUMBER, waiting: 0, fraud }
    }

    /// A planted event has happened.
    pub fn passed(&mut self, planted: &Planted) {
        self.waiting -= usize::from(VARIANTS[usize::from(planted.variant)].long);
    }

    /// The variant whose turn it is: in each round first the keyed ones, then those of clusters.
    fn next(&mut self) -> usize {
        let turn = self.turn;
        self.turn = (turn + 1) % VARIANTS.len();
        if turn < KEYED { (self.first + STRIDE * turn) % KEYED } else { turn }
    }

    /// Plants the next instance; returns its events, and its fraudulent payments.
    pub fn start(
        &mut self,
        now_ms: i64,
        campaigns: &mut Campaigns,
        population: &Population,
        schedule: &mut Schedule,
    ) -> (usize, usize) {
        let mut variant = self.next();
        while VARIANTS[variant].long && self.waiting >= WAITING_MAX
            || !self.fraud && VARIANTS[variant].positive && VARIANTS[variant].pattern != 14
        {
            variant = self.next();
        }
        let chosen = &VARIANTS[variant];
        let random = &mut self.random;
        let guilty = chosen.positive && chosen.pattern != 14;
        let mut scene = Scene { random, campaigns, population, drafts: Vec::new(), at_ms: now_ms, number: self.number };
        let owner = (chosen.play)(&mut scene);
        let mut drafts = scene.drafts;
        self.instances += 1;
        self.number += drafts.len() as u64;
        self.waiting += if chosen.long { drafts.len() } else { 0 };
        let (instance, events) = (self.instances, drafts.len() as u16);
        let planted = Some(Planted { instance, events, variant: variant as u8, owner });
        let mut frauds = 0;
        for draft in &mut drafts {
            draft.truth.planted = planted;
            draft.truth.fraud &= guilty;
            frauds += usize::from(draft.truth.fraud && draft.kind == EventKind::Payment);
            schedule.put(draft.time_ms, *draft);
        }
        (drafts.len(), frauds)
    }
}

/// An instance while it is planned.
pub(super) struct Scene<'a> {
    pub random: &'a mut Random,
    campaigns: &'a mut Campaigns,
    population: &'a Population,
    drafts: Vec<Draft>,
    /// When the next event happens, milliseconds.
    at_ms: i64,
    /// The number of the next event.
    number: u64,
}

impl Scene<'_> {
    /// Someone who did not exist, with a network of his own.
    fn person(&mut self) -> Actor {
        let number = self.campaigns.identity();
        let country = any_country(self.random);
        Actor { ip: network(number), ..self.population.invented(self.random, number, country) }
    }

    /// A device that did not exist.
    fn device(&mut self) -> u64 {
        self.campaigns.identity() * PER_IDENTITY
    }

    fn merchant(&mut self) -> u64 {
        self.population.any_online(self.random).into()
    }

    fn new_merchant(&mut self) -> u64 {
        self.campaigns.merchant()
    }

    fn wait(&mut self, from_ms: i64, to_ms: i64) {
        self.at_ms += self.random.between(from_ms, to_ms).max(1);
    }

    fn minutes(&mut self, minutes: i64) {
        self.wait(minutes * MINUTE_MS, minutes * MINUTE_MS + 20_000);
    }

    /// Adds an event that happens now; returns its number. Events of one instance never share a millisecond.
    fn add(&mut self, draft: Draft) -> u64 {
        let number = self.number;
        self.number += 1;
        self.drafts.push(Draft { number, time_ms: self.at_ms, ..draft });
        self.at_ms += 1;
        number
    }

    /// The same as part of the deed: fraud, if the instance is one.
    fn deed(&mut self, mut draft: Draft) -> u64 {
        draft.truth.fraud = true;
        self.add(draft)
    }

    fn event(&self, kind: EventKind, who: Actor) -> Draft {
        Draft::new(kind, self.at_ms, who)
    }

    /// A payment at some online merchant.
    fn payment(&mut self, who: Actor, cents: i64) -> Draft {
        let merchant = self.merchant();
        let shop = &self.population.merchants[merchant as usize];
        let (category, country) = (shop.category, shop.country);
        Draft {
            merchant: Some(merchant),
            amount_cents: cents,
            category,
            country,
            ..self.event(EventKind::Payment, who)
        }
    }

    fn transfer(&mut self, from: Actor, to: u64, cents: i64) -> Draft {
        let channel = Channel::Transfer;
        Draft { payee: Some(to), amount_cents: cents, channel, category: 11, ..self.event(EventKind::Payment, from) }
    }

    /// Some ordinary payments of 20.00 to 40.00, hours apart.
    fn habit(&mut self, who: Actor, payments: u64) {
        for _ in 0..payments {
            let cents = self.random.between(2_000, 4_000);
            let payment = self.payment(who, cents);
            self.add(payment);
            self.wait(60 * MINUTE_MS, 180 * MINUTE_MS);
        }
    }
}

/// A network of an identity's own.
fn network(identity: u64) -> u32 {
    100 << 24 | (identity as u32 & 0xffff) << 8 | 1
}
