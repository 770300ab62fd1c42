//! Patterns of merchants and orders: bust-out, abuse of cash on delivery, an order's life.

use super::{Scene, Subject};
use crate::generator::behaviour::{DAY_MS, HOUR_MS, MINUTE_MS};
use crate::generator::draft::{Actor, Draft, EventKind, PaymentOutcome};

/// Days that a new merchant sells little before its burst.
const QUIET_DAYS: i64 = 5;

/// A merchant opens, so many days before it first sells; sells a little for five days; then twenty cards are charged so
/// many cents each within hours. Two of them dispute it.
pub fn bust_out(s: &mut Scene<'_>, age_days: i64, burst_cents: i64, disputed: bool) -> Subject {
    let (merchant, someone) = (s.new_merchant(), s.person());
    let shop = Draft { merchant: Some(merchant), category: 5, ..s.event(EventKind::MerchantCreated, someone) };
    s.add(shop);
    s.wait(age_days * DAY_MS, age_days * DAY_MS + MINUTE_MS);
    let sells = |s: &mut Scene<'_>, cents| {
        let who = s.person();
        Draft { merchant: Some(merchant), category: 5, country: someone.country, ..s.payment(who, cents) }
    };
    let from_ms = s.at_ms;
    for sale in 0..QUIET_DAYS * 4 {
        s.at_ms = from_ms + sale * 6 * HOUR_MS + s.random.between(0, 2 * HOUR_MS);
        let payment = sells(s, 1_500);
        s.add(payment);
    }
    s.at_ms = from_ms + QUIET_DAYS * DAY_MS;
    let mut charged = Vec::new();
    for _ in 0..20 {
        let payment = sells(s, burst_cents);
        charged.push((s.deed(payment), payment));
        s.wait(5 * MINUTE_MS, 18 * MINUTE_MS);
    }
    if disputed {
        for (target, payment) in charged.into_iter().take(2) {
            s.wait(HOUR_MS, 3 * HOUR_MS);
            let dispute = Draft { kind: EventKind::Dispute, target: Some(target), ..payment };
            s.add(dispute);
        }
    }
    Subject::Merchant(merchant as u32)
}

/// What the orders have in common.
#[derive(Clone, Copy)]
pub enum Same {
    Phone,
    Address,
}

/// When a third order is placed.
#[derive(Clone, Copy, PartialEq)]
pub enum Third {
    Soon,
    /// Before the second one is back.
    Early,
    /// 61 days after the last one came back.
    Late,
}

/// Two orders on delivery by different accounts, which come back or are kept, and a third one.
pub fn returned(s: &mut Scene<'_>, same: Same, back: [bool; 2], third: Third) -> Subject {
    let first = s.person();
    let place = |s: &mut Scene<'_>| {
        let who = match same {
            Same::Phone => Actor { phone: first.phone, ..s.person() },
            Same::Address => Actor { address: first.address, ..s.person() },
        };
        let (order, cents) = (s.campaigns.identity(), s.random.between(2_000, 15_000));
        let draft = Draft { order: Some(order), cash_on_delivery: true, ..s.payment(who, cents) };
        let draft = Draft { kind: EventKind::OrderCreated, ..draft };
        s.deed(draft);
        draft
    };
    for (number, back) in back.into_iter().enumerate() {
        let order = place(s);
        s.wait(2 * DAY_MS, 4 * DAY_MS);
        if number == 1 && third == Third::Early {
            place(s);
            s.wait(HOUR_MS, 5 * HOUR_MS);
        }
        let kind = if back { EventKind::OrderReturned } else { EventKind::OrderDelivered };
        s.deed(Draft { kind, ..order });
        s.wait(DAY_MS, 2 * DAY_MS);
    }
    if third != Third::Early {
        s.wait(0, if third == Third::Late { 0 } else { 20 * DAY_MS });
        s.at_ms += if third == Third::Late { 61 * DAY_MS } else { 0 };
        place(s);
    }
    match same {
        Same::Phone => Subject::Phone(first.phone as u32),
        Same::Address => Subject::Address(first.address as u32),
    }
}

/// An order; attempts that are declined; one that succeeds so many minutes after it was placed, if any; its delivery or
/// return so many days later.
pub fn assembled(s: &mut Scene<'_>, paid_min: Option<i64>, days: i64, kind: EventKind) -> Subject {
    let (who, order, placed_ms) = (s.person(), s.campaigns.identity(), s.at_ms);
    let cents = s.random.between(2_000, 15_000);
    let payment = Draft { order: Some(order), ..s.payment(who, cents) };
    s.add(Draft { kind: EventKind::OrderCreated, ..payment });
    for _ in 0..1 + s.random.below(2) {
        s.minutes(3);
        s.add(payment.ended(PaymentOutcome::Declined));
    }
    if let Some(minutes) = paid_min {
        s.at_ms = s.at_ms.max(placed_ms + minutes * MINUTE_MS);
        s.add(payment);
        s.wait(days * DAY_MS, days * DAY_MS + HOUR_MS);
        s.add(Draft { kind, ..payment });
    }
    Subject::Order(order as u32)
}
