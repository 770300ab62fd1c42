//! What the owner of all links is told of an event: flat words, cut at the owner of the event's id.

use super::columns::KINDS_MAX;
use super::spec::IdentityPlan;
use crate::event::{Id, Key, Schema};
use crate::flow::{Change, NO_TICKET, Verb};

/// Words before the keys of the links.
const HEAD: usize = 9;

/// Words per request of a plan.
pub fn stride(plan: &IdentityPlan) -> usize {
    HEAD + 2 * plan.links.len()
}

/// What is to be done with an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum EntityAsk {
    /// It is gone.
    Remove,
    /// It is new.
    Insert,
    /// Its label has changed.
    Label,
}

/// A request, read from its words.
#[derive(Clone, Copy, Debug)]
pub struct EntityRequest {
    /// What to do.
    pub ask: EntityAsk,
    /// Whether the event is of a scored kind: a payment.
    pub scored: bool,
    /// The tallies that it counts in, one bit each.
    pub counted: u8,
    /// The flags that it may raise, one bit each.
    pub raised: u8,
    /// The row to fill in at the origin, or `NO_TICKET`.
    pub ticket: u32,
    /// Event time, milliseconds.
    pub time_ms: i64,
    /// The event.
    pub id: Id,
    /// The account.
    pub account: Key,
    /// Amount in minor units; 0 if it is missing or no one asks.
    pub amount: i64,
    /// When it became known that the event is fraud; `i64::MAX` if that is not known.
    pub fraud_at_ms: i64,
    values: [(u8, Key); KINDS_MAX],
    count: usize,
}

impl EntityRequest {
    /// The values that the event links with its account, each with its kind, from 1.
    pub fn values(&self) -> &[(u8, Key)] {
        &self.values[..self.count]
    }

    /// Reads one; `row` has [`stride`] words.
    pub fn read(row: &[u64]) -> Self {
        let present = row[6];
        let (mut values, mut count) = ([(0, Key::default()); KINDS_MAX], 0);
        for (link, key) in row[HEAD..].chunks_exact(2).enumerate() {
            if present >> link & 1 == 1 {
                values[count] = (link as u8 + 1, Key { hi: key[0], lo: key[1] });
                count += 1;
            }
        }
        EntityRequest {
            ask: match row[0] & 0x7f {
                0 => EntityAsk::Remove,
                1 => EntityAsk::Insert,
                _ => EntityAsk::Label,
            },
            scored: row[0] >> 7 & 1 == 1,
            counted: (row[0] >> 8) as u8,
            raised: (row[0] >> 16) as u8,
            ticket: (row[0] >> 32) as u32,
            time_ms: row[1] as i64,
            id: Id { hi: row[2], lo: row[3] },
            account: Key { hi: row[4], lo: row[5] },
            amount: row[7] as i64,
            fraud_at_ms: row[8] as i64,
            values,
            count,
        }
    }

    /// Its place among the requests of an epoch: event time, id. Those of one event keep the order they were sent in: it may
    /// come and go again within the epoch, or go and come back corrected.
    pub fn place(row: &[u64]) -> (i64, u64, u64) {
        (row[1] as i64, row[2], row[3])
    }

    /// Appends what a change asks for, if it concerns identity.
    pub fn write(change: &Change, plan: &IdentityPlan, labels: bool, schema: &Schema, words: &mut Vec<u64>) {
        let ask = match change.verb {
            Verb::Insert => EntityAsk::Insert,
            Verb::Remove => EntityAsk::Remove,
            Verb::Label | Verb::Relabel if labels => EntityAsk::Label,
            Verb::Label | Verb::Relabel | Verb::Read => return,
        };
        let event = &*change.event;
        let Some(account) = plan.account_of(event, schema) else { return };
        let scored = schema.is_scored(event.kind);
        let ticket = if ask == EntityAsk::Insert { change.ticket } else { NO_TICKET };
        let (counted, raised) = (plan.tallies.counted(event, schema), plan.tallies.raised(event, schema));
        let tag = ask as u64 | u64::from(scored) << 7 | u64::from(counted) << 8 | u64::from(raised) << 16;
        let tag = tag | u64::from(ticket) << 32;
        let amount = plan.amount.and_then(|slot| event.int(slot)).unwrap_or(0);
        let fraud = change.label.filter(|label| label.fraud && labels);
        let fraud_at_ms = fraud.map_or(i64::MAX, |label| label.available_at);
        let start = words.len();
        let head = [tag, event.time as u64, event.id.hi, event.id.lo, account.hi, account.lo, 0];
        words.extend_from_slice(&head);
        words.extend_from_slice(&[amount as u64, fraud_at_ms as u64]);
        for link in 0..plan.links.len() {
            let key = plan.value_of(link, event, schema);
            words[start + 6] |= u64::from(key.is_some()) << link;
            let Key { hi, lo } = key.unwrap_or_default();
            words.extend_from_slice(&[hi, lo]);
        }
    }
}
