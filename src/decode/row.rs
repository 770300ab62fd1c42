//! From cells to an event: kind, operation, defaults, demands, identity and time.

use std::sync::Arc;

use super::paths::{Target, targets};
use super::value::{Cell, Form, Scalar, complain, quote};
use crate::event::currency::minor_digits;
use crate::event::{Event, EventBuilder, Id, IdType, OF_RECORD, Op, Partition, Role, Schema, SchemaError, Slot};
use crate::flow::RejectReason;

/// Why a record is no event.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Fault {
    /// The class.
    pub reason: RejectReason,
    /// What is wrong, in one line.
    pub message: String,
}

impl Fault {
    /// A fault of a class.
    pub fn new(reason: RejectReason, message: impl Into<String>) -> Self {
        Fault { reason, message: message.into() }
    }
}

/// No path has set the field yet.
const UNSET: u8 = u8::MAX;

/// A record under way; its buffers serve one record after the other.
#[derive(Debug)]
pub(super) struct Row {
    schema: Arc<Schema>,
    builder: EventBuilder,
    forms: Vec<Form>,
    /// Which path of a field has set it; kept only if the schema has aliases.
    ranks: Vec<u8>,
    aliased: bool,
    /// Values that do not fit, until a later value of the same field does.
    faults: Vec<(Slot, String)>,
    /// Per kind, the fields that must be there and those with a default, as bitmaps by slot.
    demanded: Vec<u128>,
    defaulted: Vec<u128>,
    defaults: Vec<Default>,
    kind: Option<Slot>,
    op: Option<Slot>,
    rank: Option<Slot>,
    /// Amounts in minor units, and the fields that say their currency.
    minor: Vec<(Slot, Slot)>,
    /// Fields that read the record itself: its place, its timestamp.
    of_record: [Vec<Target>; OF_RECORD.len()],
}

#[derive(Clone, Debug)]
enum Default {
    None,
    Int(i64),
    Float(f64),
    Text(Box<str>),
}

impl Row {
    /// Resolves the schema; a default that does not fit its field is an error.
    pub fn new(schema: Arc<Schema>) -> Result<Self, SchemaError> {
        let forms: Vec<Form> = schema.fields().iter().map(Form::of).collect();
        let mut defaults = Vec::new();
        for (field, form) in schema.fields().iter().zip(&forms) {
            let refuse = |reason| SchemaError::Invalid { name: schema.name().to_owned(), reason };
            let Some(text) = &field.default else {
                defaults.push(Default::None);
                continue;
            };
            if matches!(field.role, Role::Id | Role::Time) {
                let name = &field.name;
                return Err(refuse(format!("field '{name}' (id or time) cannot have a default; remove it")));
            }
            defaults.push(match form.cell(Scalar::Text(text)) {
                Ok(Cell::Int(value)) => Default::Int(value),
                Ok(Cell::Float(value)) => Default::Float(value),
                Ok(Cell::Text(value)) => Default::Text(value.into()),
                Ok(Cell::Missing) => Default::None,
                Err(misfit) => {
                    let complaint = complain(&field.name, Scalar::Text(text), misfit);
                    return Err(refuse(format!("the default of {complaint}; correct it")));
                }
            });
        }
        let bitmap = |wanted: &dyn Fn(Slot) -> bool| {
            (0..forms.len()).filter(|slot| wanted(Slot(*slot as u16))).fold(0u128, |bits, slot| bits | 1 << slot)
        };
        let kinds = 0..schema.kinds().len() as u16;
        let has_default = |slot: Slot| !matches!(defaults[slot.0 as usize], Default::None);
        // Kind and operation are taken out of the cells, and have their defaults applied, on their own.
        let is_word = |slot: Slot| matches!(schema.field(slot).role, Role::Kind | Role::Op);
        let demanded =
            kinds.clone().map(|kind| bitmap(&|slot| schema.demands(slot, kind) && !has_default(slot))).collect();
        let defaulted = kinds
            .map(|kind| bitmap(&|slot| has_default(slot) && !is_word(slot) && schema.belongs(slot, kind)))
            .collect();
        let minor = schema.fields().iter().enumerate().filter_map(|(slot, field)| {
            let currency = schema.slot(field.minor_units.as_deref()?)?;
            Some((Slot(slot as u16), currency))
        });
        let of_record = OF_RECORD
            .map(|own| targets(&schema).filter(|(path, _)| *path == own).map(|(_, target)| target).collect::<Vec<_>>());
        Ok(Row {
            minor: minor.collect(),
            of_record,
            builder: EventBuilder::new(&schema),
            ranks: vec![UNSET; forms.len()],
            aliased: schema.fields().iter().any(|field| !field.aliases.is_empty()),
            faults: Vec::new(),
            kind: schema.slot_of_role(Role::Kind),
            op: schema.slot_of_role(Role::Op),
            rank: schema.slot_of_role(Role::Rank),
            forms,
            demanded,
            defaulted,
            defaults,
            schema,
        })
    }

    /// Forgets the record under way.
    pub fn clear(&mut self) {
        self.builder.clear();
        self.faults.clear();
        if self.aliased {
            self.ranks.fill(UNSET);
        }
    }

    /// Takes a value for a field.
    #[inline]
    pub fn put(&mut self, target: Target, value: Scalar<'_>) {
        let Target { slot, rank } = target;
        let index = slot.0 as usize;
        if self.aliased {
            let set_by = self.ranks[index];
            // A better path has set it; or this one is null, and what another path has set stays.
            if set_by < rank || (set_by != rank && matches!(value, Scalar::Null)) {
                return;
            }
        }
        if !self.faults.is_empty() {
            self.faults.retain(|(faulty, _)| *faulty != slot);
        }
        let mut taken = rank;
        match self.forms[index].cell(value) {
            Ok(Cell::Int(value)) => self.builder.set_int(slot, value),
            Ok(Cell::Float(value)) => self.builder.set_float(slot, value),
            Ok(Cell::Text(value)) => self.builder.set_text(slot, value),
            Ok(Cell::Missing) => {
                self.builder.unset(slot);
                taken = UNSET;
            }
            Err(misfit) => {
                self.builder.unset(slot);
                self.faults.push((slot, complain(&self.schema.field(slot).name, value, misfit)));
            }
        }
        if self.aliased {
            self.ranks[index] = taken;
        }
    }

    /// Takes the record's own place and timestamp (0: it has none) for the fields that read them and were not in the record.
    pub fn put_record(&mut self, partition: Partition, offset: u64, timestamp_ms: i64) {
        let [places, timestamps] = &self.of_record;
        if places.is_empty() && timestamps.is_empty() {
            return;
        }
        let own = [Some(format!("{partition}:{offset}")), (timestamp_ms > 0).then(|| timestamp_ms.to_string())];
        for (which, text) in own.iter().enumerate() {
            for index in 0..self.of_record[which].len() {
                let (target, Some(text)) = (self.of_record[which][index], text) else { continue };
                let said = self.builder.has(target.slot) || self.faults.iter().any(|(slot, _)| *slot == target.slot);
                if !said {
                    self.put(target, Scalar::Text(text));
                }
            }
        }
    }

    /// Amounts in minor units become amounts of their scale.
    fn convert_minor(&mut self) -> Result<(), Fault> {
        for &(amount, currency) in &self.minor {
            let Some(value) = self.builder.int(amount) else { continue };
            let code = self.builder.text(currency).unwrap_or_default();
            let Some(digits) = minor_digits(code) else {
                let (amount, currency) = (&self.schema.field(amount).name, &self.schema.field(currency).name);
                let message = format!(
                    "field '{currency}': {} is no currency, so the minor units of '{amount}' are not known",
                    quote(code, "'")
                );
                return Err(Fault::new(RejectReason::BadValue, message));
            };
            // Half away from zero, as everywhere.
            let unit = 10_i64.pow(u32::from(digits));
            let half = unit / 2 * value.signum();
            self.builder.set_int(amount, value.saturating_add(half) / unit);
        }
        Ok(())
    }

    /// The event, once every value was put.
    pub fn finish(&mut self) -> Result<Event, Fault> {
        if let Some((_, message)) = self.faults.iter().min_by_key(|(slot, _)| *slot) {
            return Err(Fault::new(RejectReason::BadValue, message.as_str()));
        }
        self.convert_minor()?;
        let present = self.builder.present();
        let op = self.op()?;
        let kind = self.kind()?;
        let mut demanded = self.demanded[kind as usize];
        if op == Op::Withdraw {
            demanded &= 1 << self.schema.id_slot().0;
        } else {
            self.fill_in(kind);
        }
        let missing = demanded & !present;
        if missing != 0 {
            let field = self.schema.field(Slot(missing.trailing_zeros() as u16));
            let place = if field.path == field.name { String::new() } else { format!(" (path '{}')", field.path) };
            return Err(Fault::new(RejectReason::MissingField, format!("field '{}'{place} is missing", field.name)));
        }
        let id_slot = self.schema.id_slot();
        let id = match self.schema.id_type() {
            IdType::Int => {
                let rank = self.rank.and_then(|slot| self.builder.int(slot)).unwrap_or(0);
                Id::from_ranked(rank as u64, self.builder.int(id_slot).unwrap_or(0) as u64)
            }
            IdType::Text => Id::from_text(self.builder.text(id_slot).unwrap_or("")),
        };
        let time = self.builder.int(self.schema.time_slot()).unwrap_or(0);
        Ok(self.builder.finish(id, time, kind, op, &self.schema))
    }

    fn kind(&mut self) -> Result<u16, Fault> {
        let Some((slot, text)) = self.word(self.kind) else { return Ok(self.schema.default_kind()) };
        let Some(kind) = self.schema.kind(text) else {
            let known = self.schema.kinds().join(", ");
            let message = format!("kind {} is not in the schema; it has {known}", quote(text, "'"));
            return Err(Fault::new(RejectReason::UnknownKind, message));
        };
        self.builder.unset(slot);
        Ok(kind)
    }

    fn op(&mut self) -> Result<Op, Fault> {
        let Some((slot, text)) = self.word(self.op) else { return Ok(Op::Insert) };
        let op = match text {
            // The others are what databases call the changes of their rows (create, read, update, delete).
            "insert" | "c" | "r" | "create" | "read" => Op::Insert,
            "correct" | "u" | "update" => Op::Correct,
            "withdraw" | "d" | "delete" => Op::Withdraw,
            other => {
                let name = &self.schema.field(slot).name;
                let message = format!("field '{name}': {} is not insert, correct or withdraw", quote(other, "'"));
                return Err(Fault::new(RejectReason::BadValue, message));
            }
        };
        self.builder.unset(slot);
        Ok(op)
    }

    /// The text of the kind or operation field, or its default.
    fn word(&self, slot: Option<Slot>) -> Option<(Slot, &str)> {
        let slot = slot?;
        match (self.builder.text(slot), &self.defaults[slot.0 as usize]) {
            (Some(text), _) => Some((slot, text)),
            (None, Default::Text(text)) => Some((slot, text)),
            _ => None,
        }
    }

    fn fill_in(&mut self, kind: u16) {
        let mut open = self.defaulted[kind as usize] & !self.builder.present();
        while open != 0 {
            let slot = Slot(open.trailing_zeros() as u16);
            open &= open - 1;
            match &self.defaults[slot.0 as usize] {
                Default::None => {}
                Default::Int(value) => self.builder.set_int(slot, *value),
                Default::Float(value) => self.builder.set_float(slot, *value),
                Default::Text(value) => self.builder.set_text(slot, value),
            }
        }
    }
}
