//! Patterns 5, 7, 9 and 13 across identity clusters: several accounts act as one, and no key of an event reaches a limit.
//!
//! A cluster is a chain: the second account shares a device with the first, the third a phone with the second, the fourth a
//! device with the third. Everything else is each account's own. What a cluster does shows at a payment of one of its
//! accounts: the third transfer of pattern 9, the deposit on the order of pattern 13, an ordinary one after the others. It
//! comes later than [`crate::generator::GeneratorConfig`] lets events be late by default.

use super::money::refund;
use super::orders::Third;
use super::{Scene, Subject};
use crate::generator::behaviour::{DAY_MS, HOUR_MS, MINUTE_MS};
use crate::generator::draft::{Actor, Draft, EventKind};

/// From the last event that counts to the payment that shows it, minutes.
const SHOWS_MIN: i64 = 15;

/// So many people in a chain. The last one may be an outsider, who shares nothing.
fn chain(s: &mut Scene<'_>, people: usize, outsider: bool) -> Vec<Actor> {
    let mut chain: Vec<Actor> = Vec::new();
    for place in 0..people {
        let mut person = s.person();
        if let Some(before) = chain.last().filter(|_| !outsider || place + 1 < people) {
            if place % 2 == 1 {
                person.device = before.device;
            } else {
                person.phone = before.phone;
            }
        }
        chain.push(person);
    }
    chain
}

fn owner(people: &[Actor]) -> Subject {
    Subject::Cluster(people[0].account as u32)
}

/// A payment of the first account.
fn show(s: &mut Scene<'_>, who: Actor) {
    s.minutes(SHOWS_MIN);
    let cents = s.random.between(500, 2_000);
    let payment = s.payment(who, cents);
    s.deed(payment);
}

/// When accounts are opened, and whether the last one is an outsider's.
#[derive(Clone, Copy)]
pub struct Farm {
    pub at_min: &'static [i64],
    pub outsider: bool,
}

/// Accounts that are opened at these minutes.
pub fn farm(s: &mut Scene<'_>, how: Farm) -> Subject {
    let (people, from_ms) = (chain(s, how.at_min.len(), how.outsider), s.at_ms);
    for (&who, minute) in people.iter().zip(how.at_min) {
        s.at_ms = s.at_ms.max(from_ms + minute * MINUTE_MS);
        let created = s.event(EventKind::AccountCreated, who);
        s.deed(created);
    }
    show(s, people[0]);
    owner(&people)
}

/// What is given back.
#[derive(Clone, Copy)]
pub struct Back {
    pub payments: usize,
    pub refunds: usize,
    /// From one refund to the next, hours.
    pub apart_h: i64,
    /// One of the three accounts is of no cluster.
    pub outsider: bool,
}

impl Default for Back {
    fn default() -> Self {
        Back { payments: 6, refunds: 4, apart_h: 30, outsider: false }
    }
}

/// Equal payments by three accounts in turn, hours apart; then some of them are given back.
pub fn refunds(s: &mut Scene<'_>, how: Back) -> Subject {
    let (people, cents) = (chain(s, 3, how.outsider), s.random.between(3_000, 9_000));
    let mut paid = Vec::new();
    for place in 0..how.payments {
        let payment = s.payment(people[place % people.len()], cents);
        paid.push((s.add(payment), payment));
        s.wait(HOUR_MS, 5 * HOUR_MS);
    }
    for paid in paid.into_iter().take(how.refunds) {
        s.wait(how.apart_h * HOUR_MS, how.apart_h * HOUR_MS + MINUTE_MS);
        refund(s, paid, paid.1.actor.card);
    }
    show(s, people[0]);
    owner(&people)
}

/// Transfers at these minutes, of so many cents, by an account and to a payee each.
pub fn structuring(s: &mut Scene<'_>, transfers: &[(i64, i64)], outsider: bool) -> Subject {
    let (people, from_ms) = (chain(s, transfers.len(), outsider), s.at_ms);
    for (&who, &(minute, cents)) in people.iter().zip(transfers) {
        s.at_ms = s.at_ms.max(from_ms + minute * MINUTE_MS);
        let payee = s.person().account;
        let transfer = s.transfer(who, payee, cents);
        s.deed(transfer);
    }
    owner(&people)
}

/// Two orders on delivery, which come back or are kept, and a third one with a deposit; each by an account of its own. An
/// outsider places the first.
pub fn returned(s: &mut Scene<'_>, back: [bool; 2], third: Third, outsider: bool) -> Subject {
    let mut people = chain(s, 3, outsider);
    people.rotate_right(usize::from(outsider));
    let place = |s: &mut Scene<'_>, who: Actor| {
        let (order, cents) = (s.campaigns.identity(), s.random.between(2_000, 15_000));
        let draft = Draft { order: Some(order), cash_on_delivery: true, ..s.payment(who, cents) };
        s.deed(Draft { kind: EventKind::OrderCreated, ..draft });
        draft
    };
    let place_third = |s: &mut Scene<'_>| {
        let order = place(s, people[2]);
        s.minutes(SHOWS_MIN);
        s.deed(Draft { amount_cents: order.amount_cents / 10, ..order });
    };
    let mut returned_ms = Vec::new();
    for (number, back) in back.into_iter().enumerate() {
        let order = place(s, people[number]);
        s.wait(2 * DAY_MS, 4 * DAY_MS);
        if number == 1 && third == Third::Early {
            place_third(s);
            s.wait(HOUR_MS, 5 * HOUR_MS);
        }
        returned_ms.push(s.at_ms);
        s.deed(Draft { kind: if back { EventKind::OrderReturned } else { EventKind::OrderDelivered }, ..order });
        s.wait(DAY_MS, 2 * DAY_MS);
    }
    match third {
        Third::Early => {}
        Third::Soon => {
            s.wait(0, 20 * DAY_MS);
            place_third(s);
        }
        // The first return is out of the window, the second still in it.
        Third::Late => {
            s.at_ms = s.at_ms.max(returned_ms[0] + 60 * DAY_MS + HOUR_MS);
            place_third(s);
        }
    }
    owner(&people[usize::from(outsider)..])
}
