//! Patterns of money that moves: refunds, mules, structuring, cycles.

use super::cards::second_card;
use super::{Scene, Subject};
use crate::generator::behaviour::{DAY_MS, HOUR_MS, MINUTE_MS};
use crate::generator::draft::{Actor, Draft, EventKind};

/// Gives a payment back.
pub fn refund(s: &mut Scene<'_>, paid: (u64, Draft), to: u64) {
    let (target, paid) = paid;
    let refund = Draft { kind: EventKind::Refund, target: Some(target), refund_to: to, ..paid };
    s.deed(refund);
}

/// So many equal payments, hours apart; then so many of them are given back, `days` apart.
pub fn refunds(s: &mut Scene<'_>, payments: u64, refunds: (i64, i64), days: i64) -> Subject {
    let (who, cents) = (s.person(), s.random.between(3_000, 9_000));
    let mut paid = Vec::new();
    for _ in 0..payments {
        let payment = s.payment(who, cents);
        paid.push((s.add(payment), payment));
        s.wait(HOUR_MS, 5 * HOUR_MS);
    }
    let refunds = s.random.between(refunds.0, refunds.1) as usize;
    for paid in paid.into_iter().take(refunds) {
        refund(s, paid, who.card);
        s.wait(days * DAY_MS, days * DAY_MS + HOUR_MS);
    }
    Subject::Account(who.account as u32)
}

/// A payment that is given back to another card.
pub fn refund_elsewhere(s: &mut Scene<'_>) -> Subject {
    let who = s.person();
    s.habit(who, 2);
    let cents = s.random.between(4_000, 20_000);
    let payment = s.payment(who, cents);
    let number = s.add(payment);
    s.wait(HOUR_MS, 2 * DAY_MS);
    refund(s, (number, payment), second_card(who));
    Subject::Account(who.account as u32)
}

/// What a mule does.
#[derive(Clone, Copy)]
pub struct Mule {
    pub transfers: u64,
    pub payers: usize,
    /// Of each transfer that comes in.
    pub cents: i64,
    /// Share of all that came in, percent, that goes out to so many payees in equal parts.
    pub out_percent: i64,
    pub payees: i64,
    /// From the last that came in to the first that goes out.
    pub hold_min: i64,
}

impl Default for Mule {
    fn default() -> Self {
        Mule { transfers: 5, payers: 5, cents: 30_000, out_percent: 90, payees: 2, hold_min: 60 }
    }
}

/// Transfers in, transfers out.
pub fn mule(s: &mut Scene<'_>, how: Mule) -> Subject {
    let mule = s.person();
    let payers: Vec<Actor> = (0..how.payers).map(|_| s.person()).collect();
    for place in 0..how.transfers as usize {
        let transfer = s.transfer(payers[place % payers.len()], mule.account, how.cents);
        s.deed(transfer);
        s.wait(10 * MINUTE_MS, 60 * MINUTE_MS);
    }
    s.minutes(how.hold_min);
    let out_cents = how.cents * how.transfers as i64 * how.out_percent / 100;
    for _ in 0..how.payees {
        let payee = s.person().account;
        let transfer = s.transfer(mule, payee, out_cents / how.payees);
        s.deed(transfer);
        s.wait(2 * MINUTE_MS, 20 * MINUTE_MS);
    }
    Subject::Account(mule.account as u32)
}

/// Transfers at these minutes, of so many cents, to a payee each.
pub fn structuring(s: &mut Scene<'_>, transfers: &[(i64, i64)]) -> Subject {
    let (who, from_ms) = (s.person(), s.at_ms);
    for &(minute, cents) in transfers {
        s.at_ms = s.at_ms.max(from_ms + minute * MINUTE_MS);
        let payee = s.person().account;
        let transfer = s.transfer(who, payee, cents);
        s.deed(transfer);
    }
    Subject::Account(who.account as u32)
}

/// What becomes of a chain of transfers.
#[derive(Clone, Copy, PartialEq)]
pub enum ChainEnd {
    /// It ends where it began.
    Closed,
    Open,
    /// The second hop is larger than the first.
    Grows,
    /// The second hop is half of the first.
    Shrinks,
    /// The last two hops are against the order of time.
    Backwards,
    /// The last hop comes after the window.
    Slow,
}

/// So many transfers in a chain, each 75 to 98 % of the one before.
pub fn cycle(s: &mut Scene<'_>, hops: (i64, i64), how: ChainEnd) -> Subject {
    let hops = s.random.between(hops.0, hops.1) as usize;
    let people: Vec<Actor> = (0..=hops).map(|_| s.person()).collect();
    let (mut cents, from_ms) = (s.random.between(150_000, 600_000), s.at_ms);
    let mut chain = Vec::new();
    for hop in 0..hops {
        let last = hop + 1 == hops;
        let to = if last && how != ChainEnd::Open { people[0] } else { people[hop + 1] };
        chain.push((people[hop], to.account, cents));
        let percent = match how {
            ChainEnd::Grows if hop == 0 => 115,
            ChainEnd::Shrinks if hop == 0 => 50,
            _ => s.random.between(75, 98),
        };
        cents = cents * percent / 100;
    }
    if how == ChainEnd::Backwards {
        chain.swap(hops - 2, hops - 1);
    }
    for (hop, (from, to, cents)) in chain.into_iter().enumerate() {
        if how == ChainEnd::Slow && hop + 1 == hops {
            s.at_ms = s.at_ms.max(from_ms + 73 * HOUR_MS);
        }
        let transfer = s.transfer(from, to, cents);
        s.deed(transfer);
        s.wait(30 * MINUTE_MS, 8 * HOUR_MS);
    }
    Subject::Account(people[0].account as u32)
}
