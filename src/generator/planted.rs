//! The truth of planted event patterns: which instance an event belongs to, and whether that instance is one.

use std::collections::BTreeMap;

use super::Generated;
use super::plants::VARIANTS;
use crate::event::Id;

/// Names of the fourteen event patterns, in their order.
const NAMES: [&str; 14] = [
    "card_testing",
    "enumeration",
    "account_takeover",
    "credential_stuffing",
    "account_farm",
    "impossible_travel",
    "refund_abuse",
    "mule",
    "structuring",
    "cycle",
    "dormant_awakening",
    "bust_out_merchant",
    "cash_on_delivery_abuse",
    "assembled_order",
];

/// Whose pattern it is, by the numbers of the generator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    Card(u32),
    Account(u32),
    Device(u32),
    Ip(u32),
    Ip24(u32),
    Merchant(u32),
    /// Merchant and issuer.
    MerchantBin(u32, u32),
    Phone(u32),
    Address(u32),
    Order(u32),
    /// The identity cluster of an account.
    Cluster(u32),
}

/// What is known of an event that was planted: it belongs to an instance of one of the fourteen event patterns under their
/// default parameters, or to a hard negative that misses the pattern by one condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planted {
    /// The instance; all its events have the same.
    pub instance: u32,
    /// Events of the instance in all.
    pub events: u16,
    pub(super) variant: u8,
    pub(super) owner: Subject,
}

impl Planted {
    /// The pattern's number, from 1 to 14.
    pub fn pattern(&self) -> u8 {
        VARIANTS[usize::from(self.variant)].pattern
    }

    /// The pattern's name.
    pub fn name(&self) -> &'static str {
        NAMES[usize::from(self.pattern()) - 1]
    }

    /// How the instance satisfies the pattern, or by what it misses.
    pub fn variant(&self) -> &'static str {
        VARIANTS[usize::from(self.variant)].name
    }

    /// Whether the instance satisfies the pattern; else it is a hard negative.
    pub fn positive(&self) -> bool {
        VARIANTS[usize::from(self.variant)].positive
    }

    /// The field of the key: `account` also stands for the account that a cycle begins with; `merchant+bin` is two fields;
    /// `cluster` is the accounts that share devices or phones, in chains, with the one that is the value.
    pub fn key_kind(&self) -> &'static str {
        match self.owner {
            Subject::Card(_) => "card",
            Subject::Account(_) => "account",
            Subject::Device(_) => "device",
            Subject::Ip(_) => "ip",
            Subject::Ip24(_) => "ip24",
            Subject::Merchant(_) => "merchant",
            Subject::MerchantBin(..) => "merchant+bin",
            Subject::Phone(_) => "phone",
            Subject::Address(_) => "address",
            Subject::Order(_) => "order",
            Subject::Cluster(_) => "cluster",
        }
    }

    /// The value of the key as the events have it; two fields are joined by `+`.
    pub fn key_value(&self) -> String {
        match self.owner {
            Subject::Card(card) => format!("c-{card:08}"),
            Subject::Account(account) | Subject::Cluster(account) => format!("a-{account:08}"),
            Subject::Device(device) => format!("d-{device:08}"),
            Subject::Ip(ip) => std::net::Ipv4Addr::from(ip).to_string(),
            Subject::Ip24(ip) => format!("{}/24", std::net::Ipv4Addr::from(ip & !0xff)),
            Subject::Merchant(merchant) => format!("m-{merchant:06}"),
            Subject::MerchantBin(merchant, bin) => format!("m-{merchant:06}+{bin:06}"),
            Subject::Phone(phone) => format!("+{}", 10_000_000_000 + u64::from(phone)),
            Subject::Address(address) => format!("h-{address:08}"),
            Subject::Order(order) => format!("o-{order:08}"),
        }
    }
}

/// A planted instance with all its events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Which pattern, which key, whether it is one.
    pub planted: Planted,
    /// Its events, in order of event time.
    pub ids: Vec<Id>,
}

/// The planted instances whose events are all among these records.
pub fn instances<'a>(records: impl IntoIterator<Item = &'a Generated>) -> Vec<Instance> {
    let mut found: BTreeMap<u32, (Planted, Vec<(i64, Id)>)> = BTreeMap::new();
    for record in records.into_iter().filter(|record| record.first) {
        if let Some(planted) = record.truth.planted {
            found.entry(planted.instance).or_insert((planted, Vec::new())).1.push((record.event.time, record.event.id));
        }
    }
    let whole = found.into_values().filter(|(planted, events)| events.len() == usize::from(planted.events));
    whole
        .map(|(planted, mut events)| {
            events.sort_unstable();
            Instance { planted, ids: events.into_iter().map(|(_, id)| id).collect() }
        })
        .collect()
}
