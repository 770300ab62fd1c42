//! From numbers to an [`Event`] of a schema: which field gets which value.

use std::sync::Arc;

use super::draft::{CHANGES, Draft, Kind};
use super::population::{CATEGORIES, COUNTRIES, bin_of};
use crate::event::{Event, EventBuilder, FieldType, Id, IdType, Schema, Slot};
use crate::source::SourceError;

/// Fields that the generator can fill, with the type that a schema must give them. A schema may have fewer.
const FIELDS: [(&str, FieldType); 29] = [
    ("card", FieldType::Text),
    ("account", FieldType::Text),
    ("device", FieldType::Text),
    ("ip", FieldType::Text),
    ("ip24", FieldType::Text),
    ("email", FieldType::Text),
    ("phone", FieldType::Text),
    ("address", FieldType::Text),
    ("merchant", FieldType::Text),
    ("bin", FieldType::Text),
    ("payee", FieldType::Text),
    ("payment_handle", FieldType::Text),
    ("amount", FieldType::Decimal),
    ("currency", FieldType::Text),
    ("country", FieldType::Text),
    ("card_country", FieldType::Text),
    ("merchant_category", FieldType::Text),
    ("channel", FieldType::Text),
    ("outcome", FieldType::Text),
    ("lat", FieldType::Float),
    ("lon", FieldType::Float),
    ("recurring", FieldType::Bool),
    ("change", FieldType::Text),
    ("refund_of", FieldType::Text),
    ("target", FieldType::Text),
    ("fraud", FieldType::Bool),
    ("available_at", FieldType::Time),
    ("login_ok", FieldType::Bool),
    ("cross_border", FieldType::Bool),
];

/// Writes drafts as events of one schema.
#[derive(Debug)]
pub(super) struct Build {
    schema: Arc<Schema>,
    builder: EventBuilder,
    slots: [Option<Slot>; FIELDS.len()],
    kinds: [u16; 5],
    scratch: String,
}

impl Build {
    /// Finds the places of the fields; an error names what the schema lacks.
    pub fn new(schema: Arc<Schema>) -> Result<Self, SourceError> {
        let user = |what: String| SourceError::User(format!("generator: schema '{}' {what}", schema.name()));
        if schema.id_type() != IdType::Text {
            return Err(user("has integer ids; the generator writes text ids, use type = \"text\"".into()));
        }
        let mut slots = [None; FIELDS.len()];
        for (slot, (name, kind)) in slots.iter_mut().zip(FIELDS) {
            *slot = schema.slot(name);
            if let Some(found) = *slot
                && schema.field(found).kind != kind
            {
                return Err(user(format!("declares '{name}' otherwise; the generator needs it as {kind:?}")));
            }
            if name == "amount" && slot.is_some_and(|found| schema.field(found).scale != 2) {
                return Err(user("must give 'amount' scale = 2, since the generator counts cents".into()));
            }
        }
        let mut kinds = [0; 5];
        for (index, kind) in kinds.iter_mut().zip(Kind::ALL) {
            *index = schema
                .kind(kind.name())
                .ok_or_else(|| user(format!("has no kind '{}'; add it to kinds", kind.name())))?;
        }
        let builder = EventBuilder::new(&schema);
        Ok(Build { schema, builder, slots, kinds, scratch: String::with_capacity(32) })
    }

    /// The event of a draft.
    pub fn event(&mut self, draft: &Draft) -> Event {
        let actor = &draft.actor;
        id_text(&mut self.scratch, draft.kind.prefix(), draft.number);
        let id = Id::from_text(&self.scratch);
        self.builder.set_text(self.schema.id_slot(), &self.scratch);
        let kind = self.kinds[draft.kind as usize];
        if draft.kind == Kind::Label {
            if let Some(target) = draft.target {
                self.number(24, "t-", target, 9);
            }
            if let Some(label) = draft.label {
                self.int(25, label.fraud as i64);
                self.int(26, label.available_at_ms);
            }
            return self.builder.finish(id, draft.time_ms, kind, draft.op, &self.schema);
        }
        self.number(1, "a-", actor.account, 8);
        self.number(2, "d-", actor.device, 8);
        self.address(actor.ip);
        self.number(5, "user", actor.email, 0);
        self.number(6, "+", 10_000_000_000 + actor.phone, 0);
        self.float(19, draft.place.0);
        self.float(20, draft.place.1);
        self.text(14, COUNTRIES[draft.country as usize].code);
        match draft.kind {
            Kind::Login => {
                self.text(18, draft.outcome.name());
                self.int(27, (draft.outcome == super::draft::Outcome::Approved) as i64);
            }
            Kind::AccountChange => self.text(22, CHANGES[draft.change as usize]),
            _ => self.paid(draft),
        }
        self.builder.finish(id, draft.time_ms, kind, draft.op, &self.schema)
    }

    /// What payments and refunds have beyond logins.
    fn paid(&mut self, draft: &Draft) {
        let actor = &draft.actor;
        self.number(0, "c-", actor.card, 8);
        self.number(7, "h-", actor.address, 8);
        if let Some(merchant) = draft.merchant {
            self.number(8, "m-", merchant, 6);
        }
        self.number(9, "", bin_of(actor.card, actor.country), 6);
        if let Some(payee) = draft.payee {
            self.number(10, "a-", payee, 8);
        }
        if draft.channel == super::draft::Channel::Wallet {
            self.number(11, "pay.", actor.account, 0);
        }
        self.int(12, draft.amount_cents);
        self.text(13, COUNTRIES[draft.country as usize].currency);
        self.text(15, COUNTRIES[actor.country as usize].code);
        self.text(16, CATEGORIES[draft.category as usize].0);
        self.text(17, draft.channel.name());
        self.text(18, draft.outcome.name());
        self.int(21, draft.recurring as i64);
        if let Some(target) = draft.target {
            self.number(23, "t-", target, 9);
        }
        self.int(28, (draft.country != actor.country) as i64);
    }

    fn text(&mut self, field: usize, text: &str) {
        if let Some(slot) = self.slots[field] {
            self.builder.set_text(slot, text);
        }
    }

    fn int(&mut self, field: usize, value: i64) {
        if let Some(slot) = self.slots[field] {
            self.builder.set_int(slot, value);
        }
    }

    fn float(&mut self, field: usize, ten_thousandths: i32) {
        if let Some(slot) = self.slots[field] {
            self.builder.set_float(slot, f64::from(ten_thousandths) / 10_000.0);
        }
    }

    fn number(&mut self, field: usize, prefix: &str, number: u64, width: usize) {
        if let Some(slot) = self.slots[field] {
            self.scratch.clear();
            self.scratch.push_str(prefix);
            push_number(&mut self.scratch, number, width);
            if field == 5 {
                self.scratch.push_str("@mail.example");
            }
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
        if let Some(slot) = self.slots[3] {
            self.builder.set_text(slot, &self.scratch);
        }
        let network = self.scratch.rfind('.').unwrap_or(0);
        self.scratch.truncate(network);
        self.scratch.push_str(".0/24");
        if let Some(slot) = self.slots[4] {
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
