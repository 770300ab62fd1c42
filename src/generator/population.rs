//! Who there is: countries, merchants, customers with their homes, cards and devices.
//!
//! All of it is drawn once from the seed, with numbers for names: customer `i` owns account `i`, cards `4 i ..`, devices
//! `4 i ..`. Numbers from `customers` on belong to what campaigns invent.

use super::draft::Actor;
use super::random::Random;

/// A country: code, currency, hours ahead of UTC, a box of latitudes and longitudes, weight, first octet of addresses.
pub(super) struct Country {
    pub code: &'static str,
    pub currency: &'static str,
    pub hours_ahead: i64,
    latitude: (i32, i32),
    longitude: (i32, i32),
    weight: u64,
    octet: u32,
}

const fn country(
    code: &'static str,
    currency: &'static str,
    hours_ahead: i64,
    latitude: (i32, i32),
    longitude: (i32, i32),
    weight: u64,
    octet: u32,
) -> Country {
    Country { code, currency, hours_ahead, latitude, longitude, weight, octet }
}

/// Countries, the commonest first.
pub(super) const COUNTRIES: [Country; 8] = [
    country("IN", "INR", 5, (12, 28), (73, 85), 30, 49),
    country("US", "USD", -6, (32, 44), (-118, -75), 24, 66),
    country("GB", "GBP", 0, (51, 54), (-3, 0), 12, 81),
    country("DE", "EUR", 1, (48, 53), (7, 13), 10, 84),
    country("FR", "EUR", 1, (44, 49), (0, 6), 8, 90),
    country("BR", "BRL", -3, (-27, -10), (-52, -38), 7, 177),
    country("SG", "SGD", 8, (1, 2), (103, 104), 5, 116),
    country("NG", "NGN", 1, (6, 9), (3, 8), 4, 105),
];

/// Merchant categories with the factor on what is usually spent there.
pub(super) const CATEGORIES: [(&str, f64); 12] = [
    ("grocery", 0.8),
    ("restaurant", 0.7),
    ("fuel", 1.0),
    ("transport", 0.3),
    ("fashion", 1.5),
    ("electronics", 4.0),
    ("travel", 6.0),
    ("games", 0.5),
    ("subscriptions", 0.3),
    ("health", 1.0),
    ("gift_cards", 1.2),
    ("utilities", 1.8),
];

/// Cards and devices of one identity are numbered from four times its number.
pub(super) const PER_IDENTITY: u64 = 4;

#[derive(Debug)]
pub(super) struct Merchant {
    pub category: u8,
    pub country: u8,
    pub online: bool,
}

#[derive(Debug)]
pub(super) struct Customer {
    pub country: u8,
    pub place: (i32, i32),
    pub cards: u8,
    devices: u8,
    /// The first member of the household; its first device, its address and its line are shared.
    pub household: u32,
    /// Whether others live in the household.
    pub shares: bool,
    /// The address of an office that many work in; 0 for none.
    office_ip: u32,
    pub typical_cents: f64,
    /// Shops at night too.
    pub night_owl: bool,
    favourites: [u32; 6],
}

#[derive(Debug)]
pub(super) struct Population {
    pub customers: Vec<Customer>,
    pub merchants: Vec<Merchant>,
    /// Merchants that sell online.
    pub online: Vec<u32>,
    /// Merchants of each country with cumulated Zipf weights.
    by_country: Vec<Vec<(u64, u32)>>,
}

impl Population {
    pub fn new(random: &mut Random, customers: u32, merchants: u32) -> Self {
        let merchants: Vec<Merchant> = (0..merchants)
            .map(|i| {
                // The first few cover every country; the rest follow the weights.
                let country = if (i as usize) < COUNTRIES.len() { i as u8 } else { any_country(random) };
                let category = random.below(CATEGORIES.len() as u64) as u8;
                let online = i % 3 == 0 || matches!(category, 7 | 8);
                Merchant { category, country, online }
            })
            .collect();
        let online = (0..merchants.len() as u32).filter(|&m| merchants[m as usize].online).collect();
        let mut by_country = vec![Vec::new(); COUNTRIES.len()];
        for (i, merchant) in merchants.iter().enumerate() {
            let list: &mut Vec<(u64, u32)> = &mut by_country[merchant.country as usize];
            let before = list.last().map_or(0, |last| last.0);
            list.push((before + (1 << 32) / (list.len() as u64 + 1), i as u32));
        }
        let mut population = Population { customers: Vec::new(), merchants, online, by_country };
        for i in 0..customers {
            let customer = population.customer(random, i);
            if customer.household != i {
                population.customers[customer.household as usize].shares = true;
            }
            population.customers.push(customer);
        }
        population
    }

    fn customer(&self, random: &mut Random, number: u32) -> Customer {
        let joins = number > 0 && random.chance(0.08);
        let household = if joins { self.customers[number as usize - 1].household } else { number };
        let country = if joins { self.customers[household as usize].country } else { any_country(random) };
        let place = if joins { self.customers[household as usize].place } else { place_in(random, country) };
        let office = random.below(40) as u32;
        Customer {
            country,
            place,
            cards: 1 + random.chance(0.4) as u8 + random.chance(0.1) as u8,
            devices: 1 + random.chance(0.4) as u8,
            household,
            shares: joins,
            office_ip: if random.chance(0.1) { octet(country) | 0xe0_00_00 | office << 4 } else { 0 },
            typical_cents: 2_500.0 * random.log_normal(0.6),
            night_owl: random.chance(0.08),
            favourites: std::array::from_fn(|_| self.merchant_in(random, country)),
        }
    }

    /// A merchant of a country, by popularity (Zipf).
    pub fn merchant_in(&self, random: &mut Random, country: u8) -> u32 {
        let list = &self.by_country[country as usize];
        let total = list.last().map_or(0, |last| last.0);
        let drawn = random.below(total);
        list[list.partition_point(|entry| entry.0 <= drawn)].1
    }

    /// Where a customer shops next: a favourite as a rule.
    pub fn merchant_of(&self, random: &mut Random, customer: &Customer) -> u32 {
        if random.chance(0.7) {
            customer.favourites[random.below(6) as usize]
        } else {
            self.any_merchant(random, customer)
        }
    }

    fn any_merchant(&self, random: &mut Random, customer: &Customer) -> u32 {
        if random.chance(0.2) { self.any_online(random) } else { self.merchant_in(random, customer.country) }
    }

    /// A merchant that sells online, anywhere.
    pub fn any_online(&self, random: &mut Random) -> u32 {
        self.online[random.below(self.online.len() as u64) as usize]
    }

    /// A customer with one of his cards and devices, at home, at work or on a mobile line.
    pub fn actor(&self, random: &mut Random, number: u32) -> Actor {
        let customer = &self.customers[number as usize];
        let number = u64::from(number);
        let own = number * PER_IDENTITY;
        let card = own + if random.chance(0.8) { 0 } else { random.below(customer.cards.into()) };
        let device = match random.below(10) {
            0..4 if customer.shares => u64::from(customer.household) * PER_IDENTITY,
            0..8 => own + customer.shares as u64,
            _ => own + customer.shares as u64 + random.below(customer.devices.into()),
        };
        let first = octet(customer.country);
        let ip = match random.below(10) {
            0..3 => mobile_ip(random, customer.country),
            3..5 if customer.office_ip != 0 => customer.office_ip,
            _ => first | customer.household.wrapping_mul(0x9e37_79b1) >> 9,
        };
        Actor {
            account: number,
            card,
            device,
            email: number,
            phone: number,
            address: u64::from(customer.household),
            ip,
            country: customer.country,
            place: customer.place,
        }
    }

    /// Whether the actor uses the household's device though another one belongs to the customer too.
    pub fn on_shared_device(&self, actor: &Actor) -> Option<u64> {
        let customer = &self.customers[actor.account as usize];
        let household = u64::from(customer.household);
        (customer.shares && actor.device == household * PER_IDENTITY).then_some(household)
    }

    /// Whether the actor is behind the address of an office.
    pub fn at_office(&self, actor: &Actor) -> bool {
        let office_ip = self.customers[actor.account as usize].office_ip;
        office_ip != 0 && actor.ip == office_ip
    }

    /// An identity that a campaign invents.
    pub fn invented(&self, random: &mut Random, number: u64, country: u8) -> Actor {
        Actor {
            account: number,
            card: number * PER_IDENTITY,
            device: number * PER_IDENTITY,
            email: number,
            phone: number,
            address: number,
            ip: hosting_ip(random),
            country,
            place: place_in(random, country),
        }
    }
}

/// The issuer's number: six digits, a dozen issuers per country.
pub(super) fn bin_of(card: u64, country: u8) -> u64 {
    400_000 + u64::from(country) * 100 + card / PER_IDENTITY % 12
}

/// A country by weight.
pub(super) fn any_country(random: &mut Random) -> u8 {
    let mut drawn = random.below(COUNTRIES.iter().map(|country| country.weight).sum());
    for (i, country) in COUNTRIES.iter().enumerate() {
        if drawn < country.weight {
            return i as u8;
        }
        drawn -= country.weight;
    }
    0
}

/// A place in a country, in ten-thousandths of a degree.
pub(super) fn place_in(random: &mut Random, country: u8) -> (i32, i32) {
    let country = &COUNTRIES[country as usize];
    let mut within = |(from, to): (i32, i32)| random.between(i64::from(from) * 10_000, i64::from(to) * 10_000) as i32;
    (within(country.latitude), within(country.longitude))
}

/// The branch of a merchant that is next to a place: within 6 km.
pub(super) fn branch(merchant: u32, place: (i32, i32)) -> (i32, i32) {
    let hash = merchant.wrapping_mul(0x9e37_79b1) >> 12;
    (place.0 + (hash & 0x3ff) as i32 - 512, place.1 + (hash >> 10 & 0x3ff) as i32 - 512)
}

/// A line of a country's mobile network.
pub(super) fn mobile_ip(random: &mut Random, country: u8) -> u32 {
    octet(country) | 0xf0_00_00 | random.below(64) as u32
}

/// An address in a data centre, as proxies have.
pub(super) fn hosting_ip(random: &mut Random) -> u32 {
    185 << 24 | random.below(1 << 24) as u32
}

/// The network that a country's mobile lines, offices and homes are in.
pub(super) fn octet(country: u8) -> u32 {
    COUNTRIES[country as usize].octet << 24
}
