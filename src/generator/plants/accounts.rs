//! Patterns of accounts: takeover, credential stuffing, farms, the dormant that awake.

use super::{Scene, Subject, network};
use crate::generator::behaviour::{DAY_MS, HOUR_MS, MINUTE_MS};
use crate::generator::draft::{Actor, Draft, EventKind, PaymentOutcome};

/// How a takeover goes.
#[derive(Clone, Copy)]
pub struct Takeover {
    /// The payment comes from a device that the account had before.
    pub known_device: bool,
    /// The new device has logged in before the change.
    pub seen_before: bool,
    /// The account has paid the payee before.
    pub known_payee: bool,
    /// From and to.
    pub cents: (i64, i64),
    /// From the change to the payment.
    pub hours: i64,
}

impl Default for Takeover {
    fn default() -> Self {
        let (known_device, seen_before, known_payee) = (false, false, false);
        Takeover { known_device, seen_before, known_payee, cents: (30_000, 90_000), hours: 0 }
    }
}

/// Habits; a change of contact data by phone call, so to say from the victim's own device; a login and a transfer from
/// another device.
pub fn takeover(s: &mut Scene<'_>, how: Takeover) -> Subject {
    let (victim, payee) = (s.person(), s.person().account);
    s.habit(victim, 5);
    let known = s.transfer(victim, payee, 2_500);
    if how.known_payee {
        s.add(known);
        s.wait(HOUR_MS, 2 * HOUR_MS);
    }
    let device = if how.known_device { victim.device } else { s.device() };
    let thief = Actor { device, ip: if how.known_device { victim.ip } else { network(device) }, ..victim };
    if how.seen_before {
        let login = s.event(EventKind::Login, thief);
        s.add(login);
        s.minutes(20);
    }
    let changed_ms = s.at_ms;
    let change = s.random.below(4) as u8;
    let change = Draft { change, ..s.event(EventKind::AccountChange, victim) };
    s.deed(change);
    s.minutes(4);
    let login = s.event(EventKind::Login, thief);
    s.deed(login);
    s.minutes(6);
    s.at_ms = s.at_ms.max(changed_ms + how.hours * HOUR_MS);
    let cents = s.random.between(how.cents.0, how.cents.1);
    let transfer = s.transfer(thief, payee, cents);
    s.deed(transfer);
    Subject::Account(victim.account as u32)
}

/// So many failed logins on so many accounts from one address; one of the accounts, or nobody, lets them in. A payment
/// follows, by that account or by another one, at once or so many minutes after the first login.
pub fn stuffing(s: &mut Scene<'_>, failed: (i64, i64), accounts: usize, after_min: i64, same: bool) -> Subject {
    let (robber, from_ms) = (s.person(), s.at_ms);
    let victims: Vec<Actor> =
        (0..accounts).map(|_| Actor { device: robber.device, ip: robber.ip, ..s.person() }).collect();
    for place in 0..s.random.between(failed.0, failed.1) as usize {
        let login = s.event(EventKind::Login, victims[place % accounts]).ended(PaymentOutcome::Declined);
        s.deed(login);
        s.wait(10_000, 60_000);
    }
    let opened = victims[s.random.below(accounts as u64) as usize];
    let login = s.event(EventKind::Login, opened);
    s.deed(login);
    s.minutes(3);
    s.at_ms = s.at_ms.max(from_ms + after_min * MINUTE_MS);
    let payer = if same { opened } else { s.person() };
    let cents = s.random.between(5_000, 40_000);
    let payment = s.payment(payer, cents);
    s.deed(payment);
    Subject::Ip(robber.ip)
}

/// Accounts that are opened at these minutes on one device (each from a network of its own) or in one network (each on a
/// device of its own), and so many cards added to them in turn.
pub fn farm(s: &mut Scene<'_>, on_device: bool, at_min: &[i64], cards: u64) -> Subject {
    let (farmer, from_ms) = (s.person(), s.at_ms);
    let mut accounts = Vec::new();
    for (place, minute) in at_min.iter().enumerate() {
        s.at_ms = s.at_ms.max(from_ms + minute * MINUTE_MS);
        let person = s.person();
        let account = match on_device {
            true => Actor { device: farmer.device, ..person },
            false => Actor { ip: farmer.ip + place as u32, ..person },
        };
        let created = s.event(EventKind::AccountCreated, account);
        s.deed(created);
        accounts.push(account);
    }
    for place in 0..cards {
        s.wait(MINUTE_MS, 10 * MINUTE_MS);
        let account = accounts[place as usize % accounts.len()];
        let card = account.card + place / accounts.len() as u64;
        let added = s.event(EventKind::CardAdded, Actor { card, ..account });
        s.deed(added);
    }
    if on_device { Subject::Device(farmer.device as u32) } else { Subject::Ip24(farmer.ip) }
}

/// Some payments; nothing for so many days; a login, from another device or the one known, and a payment so many minutes
/// after it.
pub fn dormant(s: &mut Scene<'_>, days: i64, new_device: bool, cents: i64, after_min: i64) -> Subject {
    let owner = s.person();
    s.habit(owner, 2);
    s.wait(days * DAY_MS, days * DAY_MS + 20 * HOUR_MS);
    let device = if new_device { s.device() } else { owner.device };
    let who = Actor { device, ip: network(device), ..owner };
    let login = s.event(EventKind::Login, who);
    s.deed(login);
    s.minutes(after_min);
    let payment = s.payment(who, cents);
    s.deed(payment);
    Subject::Account(owner.account as u32)
}
