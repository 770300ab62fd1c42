//! Patterns of cards: testing, enumeration, impossible travel.

use super::{Scene, Subject, network};
use crate::generator::behaviour::MINUTE_MS;
use crate::generator::draft::{Actor, Channel, Draft, EventKind, PaymentOutcome};
use crate::generator::population::{PER_IDENTITY, bin_of, place_in};

/// A payment of at most 5.00 that is declined, or of at most 1.00.
fn try_card(s: &mut Scene<'_>, who: Actor) {
    let approved = s.random.chance(0.2);
    let cents = s.random.between(30, if approved { 100 } else { 500 });
    let payment =
        s.payment(who, cents).ended(if approved { PaymentOutcome::Approved } else { PaymentOutcome::Declined });
    s.deed(payment);
    s.wait(15_000, 90_000);
}

/// So many tries within minutes, then a large payment at once, or so many minutes after the first try.
pub fn testing(s: &mut Scene<'_>, tries: (i64, i64), after_min: i64, outcome: PaymentOutcome) -> Subject {
    let (who, from_ms) = (s.person(), s.at_ms);
    for _ in 0..s.random.between(tries.0, tries.1) {
        try_card(s, who);
    }
    s.minutes(2);
    s.at_ms = s.at_ms.max(from_ms + after_min * MINUTE_MS);
    let cents = s.random.between(10_000, 90_000);
    let payment = s.payment(who, cents).ended(outcome);
    s.deed(payment);
    Subject::Card(who.card as u32)
}

/// The large payment first, then the tries.
pub fn testing_backwards(s: &mut Scene<'_>) -> Subject {
    let who = s.person();
    let payment = s.payment(who, 25_000);
    s.add(payment);
    s.minutes(2);
    (0..6).for_each(|_| try_card(s, who));
    Subject::Card(who.card as u32)
}

/// What the payments of an enumeration have in common.
#[derive(Clone, Copy)]
pub enum From {
    Ip,
    Device,
    MerchantBin,
}

/// So many payments on at most so many cards, at most `gap_ms` apart; all but one in `declined` are.
pub fn enumeration(
    s: &mut Scene<'_>,
    from: From,
    payments: (i64, i64),
    cards_max: usize,
    approved_each: usize,
    gap_ms: i64,
) -> Subject {
    let (robber, merchant) = (s.person(), s.new_merchant());
    let bin = bin_of(robber.card, robber.country);
    let mut cards: Vec<Actor> = Vec::new();
    for place in 0..s.random.between(payments.0, payments.1) as usize {
        if cards.len() < cards_max {
            let mut victim = s.person();
            while matches!(from, From::MerchantBin) && bin_of(victim.card, robber.country) != bin {
                victim = s.person();
            }
            cards.push(Actor { country: robber.country, ..victim });
        }
        let victim = cards[place % cards.len()];
        let (device, ip) = (s.device(), network(victim.account));
        let who = match from {
            From::Ip => Actor { device, ip: robber.ip, ..victim },
            From::Device => Actor { device: robber.device, ip, ..victim },
            From::MerchantBin => Actor { device, ip, ..victim },
        };
        let cents = s.random.between(500, 4_000);
        let mut payment = s.payment(who, cents);
        if matches!(from, From::MerchantBin) {
            payment.merchant = Some(merchant);
        }
        let approved = place % approved_each == approved_each - 1;
        s.deed(payment.ended(if approved { PaymentOutcome::Approved } else { PaymentOutcome::Declined }));
        s.wait(gap_ms * 4 / 5, gap_ms);
    }
    match from {
        From::Ip => Subject::Ip(robber.ip),
        From::Device => Subject::Device(robber.device as u32),
        From::MerchantBin => Subject::MerchantBin(merchant as u32, bin as u32),
    }
}

/// How a card moves.
#[derive(Clone, Copy, PartialEq)]
pub enum Trip {
    Impossible,
    Noticed,
    Near,
    Slow,
    Late,
}

/// Countries that lie more than 2 000 km from each other, by place in the list of countries; two neighbours; and two that
/// are more than 11 000 km apart, which is too far for twelve hours.
const FAR: [u8; 5] = [0, 1, 5, 6, 7];
const NEIGHBOURS: (u8, u8) = (2, 3);
const FARTHEST: (u8, u8) = (0, 1);

/// A payment in a store here, and one there.
pub fn travel(s: &mut Scene<'_>, trip: Trip) -> Subject {
    let from = s.random.below(FAR.len() as u64) as usize;
    let to = (from + 1 + s.random.below(FAR.len() as u64 - 1) as usize) % FAR.len();
    let (from, to) = match trip {
        Trip::Slow => NEIGHBOURS,
        Trip::Late => FARTHEST,
        _ => (FAR[from], FAR[to]),
    };
    let here = place_in(s.random, from);
    let who = Actor { country: from, place: here, ..s.person() };
    let there = match trip {
        // 67 to 89 km north.
        Trip::Near => (here.0 + s.random.between(6_000, 8_000) as i32, here.1),
        _ => place_in(s.random, to),
    };
    let pay = |s: &mut Scene<'_>, place, country| {
        let cents = s.random.between(1_500, 9_000);
        let payment = Draft { place, country, channel: Channel::Store, ..s.payment(who, cents) };
        s.deed(payment)
    };
    pay(s, here, from);
    match trip {
        Trip::Impossible => s.wait(20 * MINUTE_MS, 60 * MINUTE_MS),
        Trip::Noticed => {
            s.minutes(5);
            let notice = Draft { country: to, ..s.event(EventKind::TravelNotice, who) };
            s.add(notice);
            s.minutes(30);
        }
        Trip::Near => s.minutes(2),
        Trip::Slow => s.minutes(6 * 60),
        Trip::Late => s.minutes(12 * 60 + 10),
    }
    pay(s, there, if trip == Trip::Near { from } else { to });
    Subject::Card(who.card as u32)
}

/// Another card of a person, who pays with his first.
pub fn second_card(who: Actor) -> u64 {
    who.account * PER_IDENTITY + 1
}
