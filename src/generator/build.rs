//! From numbers to an [`Event`] of a schema: which field gets which value.

use std::sync::Arc;

use super::draft::{Actor, CHANGES, Channel, Draft, EventKind, PaymentOutcome};
use super::population::{CATEGORIES, COUNTRIES, bin_of};
use crate::event::{Event, EventBuilder, FieldType, Id, IdType, Schema, Slot};
use crate::source::SourceError;

/// Places of the fields that the generator can fill, `None` where the schema has no such field.
#[derive(Debug)]
struct Slots {
    card: Option<Slot>,
    account: Option<Slot>,
    device: Option<Slot>,
    ip: Option<Slot>,
    ip24: Option<Slot>,
    email: Option<Slot>,
    phone: Option<Slot>,
    address: Option<Slot>,
    merchant: Option<Slot>,
    bin: Option<Slot>,
    payee: Option<Slot>,
    payment_handle: Option<Slot>,
    amount: Option<Slot>,
    currency: Option<Slot>,
    country: Option<Slot>,
    card_country: Option<Slot>,
    merchant_category: Option<Slot>,
    channel: Option<Slot>,
    outcome: Option<Slot>,
    lat: Option<Slot>,
    lon: Option<Slot>,
    recurring: Option<Slot>,
    change: Option<Slot>,
    refund_of: Option<Slot>,
    refund_to: Option<Slot>,
    order: Option<Slot>,
    cash_on_delivery: Option<Slot>,
    target: Option<Slot>,
    fraud: Option<Slot>,
    available_at: Option<Slot>,
    login_ok: Option<Slot>,
    cross_border: Option<Slot>,
}

impl Slots {
    fn find(schema: &Schema) -> Result<Self, SourceError> {
        let find = |name: &str, kind: FieldType| match schema.slot(name) {
            Some(slot) if schema.field(slot).kind != kind => {
                refuse(schema, &format!("declares '{name}' otherwise; the generator needs it as {kind:?}"))
            }
            found => Ok(found),
        };
        use FieldType::{Bool, Decimal, Float, Text, Time};
        let amount = find("amount", Decimal)?;
        if amount.is_some_and(|slot| schema.field(slot).scale != 2) {
            return refuse(schema, "must give 'amount' scale = 2, since the generator counts cents");
        }
        Ok(Slots {
            card: find("card", Text)?,
            account: find("account", Text)?,
            device: find("device", Text)?,
            ip: find("ip", Text)?,
            ip24: find("ip24", Text)?,
            email: find("email", Text)?,
            phone: find("phone", Text)?,
            address: find("address", Text)?,
            merchant: find("merchant", Text)?,
            bin: find("bin", Text)?,
            payee: find("payee", Text)?,
            payment_handle: find("payment_handle", Text)?,
            amount,
            currency: find("currency", Text)?,
            country: find("country", Text)?,
            card_country: find("card_country", Text)?,
            merchant_category: find("merchant_category", Text)?,
            channel: find("channel", Text)?,
            outcome: find("outcome", Text)?,
            lat: find("lat", Float)?,
            lon: find("lon", Float)?,
            recurring: find("recurring", Bool)?,
            change: find("change", Text)?,
            refund_of: find("refund_of", Text)?,
            refund_to: find("refund_to", Text)?,
            order: find("order", Text)?,
            cash_on_delivery: find("cash_on_delivery", Bool)?,
            target: find("target", Text)?,
            fraud: find("fraud", Bool)?,
            available_at: find("available_at", Time)?,
            login_ok: find("login_ok", Bool)?,
            cross_border: find("cross_border", Bool)?,
        })
    }
}

fn refuse<T>(schema: &Schema, what: &str) -> Result<T, SourceError> {
    Err(SourceError::User(format!("generator: schema '{}' {what}", schema.name())))
}

/// Writes drafts as events of one schema.
#[derive(Debug)]
pub(super) struct Build {
    schema: Arc<Schema>,
    builder: EventBuilder,
    slots: Slots,
    kinds: [u16; EventKind::ALL.len()],
    scratch: String,
}

impl Build {
    /// Finds the places of the fields; an error names what the schema lacks.
    pub fn new(schema: Arc<Schema>) -> Result<Self, SourceError> {
        if schema.id_type() != IdType::Text {
            return refuse(&schema, "has integer ids; the generator writes text ids, use type = \"text\"");
        }
        let slots = Slots::find(&schema)?;
        let mut kinds = [0; EventKind::ALL.len()];
        for (index, kind) in kinds.iter_mut().zip(EventKind::ALL) {
            *index = match schema.kind(kind.name()) {
                Some(found) => found,
                None => return refuse(&schema, &format!("has no kind '{}'; add it to kinds", kind.name())),
            };
        }
        let builder = EventBuilder::new(&schema);
        Ok(Build { schema, builder, slots, kinds, scratch: String::with_capacity(32) })
    }

    /// The event of a draft: what a decoder makes of its JSON line.
    pub fn event(&mut self, draft: &Draft) -> Event {
        let actor = &draft.actor;
        id_text(&mut self.scratch, draft.kind.prefix(), draft.number);
        let id = Id::from_text(&self.scratch);
        self.builder.set_text(self.schema.id_slot(), &self.scratch);
        self.builder.set_int(self.schema.time_slot(), draft.time_ms);
        let kind = self.kinds[draft.kind as usize];
        match draft.kind {
            EventKind::Label => self.label(draft),
            EventKind::MerchantCreated => {
                self.shop(draft);
                self.text(self.slots.country, COUNTRIES[draft.country as usize].code);
            }
            _ => {
                self.who(actor);
                self.text(self.slots.country, COUNTRIES[draft.country as usize].code);
                self.what(draft);
            }
        }
        self.builder.finish(id, draft.time_ms, kind, draft.op, &self.schema)
    }

    fn label(&mut self, draft: &Draft) {
        if let Some(target) = draft.target {
            self.number(self.slots.target, "t-", target, 9);
        }
        if let Some(label) = draft.label {
            self.int(self.slots.fraud, label.fraud as i64);
            self.int(self.slots.available_at, label.available_at_ms);
        }
    }

    /// Whoever acts, and from where.
    fn who(&mut self, actor: &Actor) {
        self.number(self.slots.account, "a-", actor.account, 8);
        self.number(self.slots.device, "d-", actor.device, 8);
        self.address(actor.ip);
        self.email(actor.email);
        self.number(self.slots.phone, "+", 10_000_000_000 + actor.phone, 0);
    }

    /// What the kinds of events have beyond that.
    fn what(&mut self, draft: &Draft) {
        let actor = &draft.actor;
        match draft.kind {
            EventKind::Payment => {
                self.located(draft);
                self.paid(draft);
                if draft.channel == Channel::Wallet {
                    self.number(self.slots.payment_handle, "pay.", actor.account, 0);
                }
                self.text(self.slots.channel, draft.channel.name());
                self.text(self.slots.outcome, draft.outcome.name());
                self.int(self.slots.recurring, draft.recurring as i64);
                self.int(self.slots.cross_border, (draft.country != actor.country) as i64);
            }
            EventKind::Refund => {
                self.paid(draft);
                self.number(self.slots.refund_to, "c-", draft.refund_to, 8);
            }
            EventKind::Dispute => self.paid(draft),
            EventKind::Login => {
                self.located(draft);
                self.text(self.slots.outcome, draft.outcome.name());
                self.int(self.slots.login_ok, (draft.outcome == PaymentOutcome::Approved) as i64);
            }
            EventKind::AccountChange => self.text(self.slots.change, CHANGES[draft.change as usize]),
            EventKind::AccountCreated => self.number(self.slots.address, "h-", actor.address, 8),
            EventKind::CardAdded | EventKind::TravelNotice => self.card(actor),
            EventKind::OrderCreated | EventKind::OrderDelivered | EventKind::OrderReturned => {
                self.number(self.slots.address, "h-", actor.address, 8);
                self.int(self.slots.amount, draft.amount_cents);
                self.int(self.slots.cash_on_delivery, draft.cash_on_delivery as i64);
                self.shop(draft);
            }
            EventKind::Label | EventKind::MerchantCreated => {}
        }
        if let Some(order) = draft.order {
            self.number(self.slots.order, "o-", order, 8);
        }
    }

    fn located(&mut self, draft: &Draft) {
        self.float(self.slots.lat, draft.place.0);
        self.float(self.slots.lon, draft.place.1);
    }

    fn card(&mut self, actor: &Actor) {
        self.number(self.slots.card, "c-", actor.card, 8);
        self.number(self.slots.bin, "", bin_of(actor.card, actor.country), 6);
        self.text(self.slots.card_country, COUNTRIES[actor.country as usize].code);
    }

    fn shop(&mut self, draft: &Draft) {
        if let Some(merchant) = draft.merchant {
            self.number(self.slots.merchant, "m-", merchant, 6);
        }
        self.text(self.slots.currency, COUNTRIES[draft.country as usize].currency);
        self.text(self.slots.merchant_category, CATEGORIES[draft.category as usize].0);
    }

    /// What payments, refunds and disputes have.
    fn paid(&mut self, draft: &Draft) {
        let actor = &draft.actor;
        self.card(actor);
        self.shop(draft);
        self.number(self.slots.address, "h-", actor.address, 8);
        if let Some(payee) = draft.payee {
            self.number(self.slots.payee, "a-", payee, 8);
        }
        self.int(self.slots.amount, draft.amount_cents);
        if let Some(target) = draft.target {
            self.number(self.slots.refund_of, "t-", target, 9);
        }
    }

    fn text(&mut self, slot: Option<Slot>, text: &str) {
        if let Some(slot) = slot {
            self.builder.set_text(slot, text);
        }
    }

    fn int(&mut self, slot: Option<Slot>, value: i64) {
        if let Some(slot) = slot {
            self.builder.set_int(slot, value);
        }
    }

    fn float(&mut self, slot: Option<Slot>, ten_thousandths: i32) {
        if let Some(slot) = slot {
            self.builder.set_float(slot, f64::from(ten_thousandths) / 10_000.0);
        }
    }

    fn number(&mut self, slot: Option<Slot>, prefix: &str, number: u64, width: usize) {
        if let Some(slot) = slot {
            self.scratch.clear();
            self.scratch.push_str(prefix);
            push_number(&mut self.scratch, number, width);
            self.builder.set_text(slot, &self.scratch);
        }
    }

    fn email(&mut self, number: u64) {
        if let Some(slot) = self.slots.email {
            self.scratch.clear();
            self.scratch.push_str("user");
            push_number(&mut self.scratch, number, 0);
            self.scratch.push_str("@mail.example");
            self.builder.set_text(slot, &self.scratch);
        }
    }

    /// The address and its network of 256.
    fn address(&mut self, ip: u32) {
        self.scratch.clear();
        for (i, octet) in ip.to_be_bytes().into_iter().enumerate() {
            if i > 0 {
                self.scratch.push('.');
            }
            push_number(&mut self.scratch, octet.into(), 0);
        }
        if let Some(slot) = self.slots.ip {
            self.builder.set_text(slot, &self.scratch);
        }
        let network = self.scratch.rfind('.').unwrap_or(0);
        self.scratch.truncate(network);
        self.scratch.push_str(".0/24");
        if let Some(slot) = self.slots.ip24 {
            self.builder.set_text(slot, &self.scratch);
        }
    }
}

/// Writes the id of an event.
pub(super) fn id_text(into: &mut String, prefix: &str, number: u64) {
    into.clear();
    into.push_str(prefix);
    push_number(into, number, 9);
}

/// Decimal digits, padded with zeros to a width.
fn push_number(into: &mut String, mut number: u64, width: usize) {
    let mut digits = [b'0'; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    at = at.min(digits.len().saturating_sub(width));
    // Digits are ASCII.
    into.extend(digits[at..].iter().map(|&digit| digit as char));
}
