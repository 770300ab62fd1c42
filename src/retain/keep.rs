//! Values looked up on arrival, kept with their transaction until its row can no longer be read again.
//!
//! What is looked up as of arrival is never revised, but the row that it stands in may be: a late event changes a velocity
//! feature, and the rescore must see the same look-ups as the first score. This operator sits between the look-ups and
//! the assembly. A fresh row's slices pass through and are noted; a row that is read again gets them from here.
//!
//! Cost: one or two bytes per small integer or missing value, nine per other value, and one map entry per transaction with
//! look-ups.

use std::collections::HashMap;
use std::sync::Arc;

use timely::dataflow::Stream;

use crate::event::{IdType, MapKey};
use crate::flow::{Block, Change, Epoch, EpochFacts, NO_TICKET, Verb};
use crate::metrics::Metrics;
use crate::operators::{Expiring, ShardedMap, with_slices};

/// Builds the operator: changes and the slices of all look-ups in; slices for every ticket of theirs out. `widths` has the
/// values per slice of each [`Block::plan`]; `kept_ms` says how long behind the watermark a row may be read again.
pub fn keep<'scope>(
    changes: Stream<'scope, Epoch, Vec<Change>>,
    slices: Stream<'scope, Epoch, Vec<Block>>,
    widths: HashMap<u16, usize>,
    kept_ms: i64,
    ids: IdType,
    facts: EpochFacts,
    metrics: Arc<Metrics>,
) -> Stream<'scope, Epoch, Vec<Block>> {
    let here = changes.scope().worker().index() as u32;
    let mut kept =
        Kept { values: ShardedMap::default(), expiring: Expiring::new(kept_ms), bytes: 0, widths, ids, here };
    with_slices("Keep", changes, slices, move |epoch, changes, mut blocks, out| {
        kept.note(&changes, &blocks);
        kept.recall(&changes, &mut blocks);
        kept.expire(facts.before(epoch));
        metrics.kept_bytes.set_own(kept.bytes as u64);
        *out = blocks;
    })
}

/// What a transaction's look-ups answered: per family its number and its values, packed.
#[derive(Debug, Default)]
struct Values {
    time: i64,
    packed: Vec<u8>,
}

struct Kept {
    values: ShardedMap<Values>,
    expiring: Expiring,
    bytes: usize,
    widths: HashMap<u16, usize>,
    ids: IdType,
    /// This worker: the rows to be filled in are its own.
    here: u32,
}

impl Kept {
    /// Notes the answers to fresh rows, forgets what is gone.
    fn note(&mut self, changes: &[Change], blocks: &[Block]) {
        let mut fresh = vec![None; changes.len()];
        for change in changes {
            let key = change.event.id.map_key(self.ids);
            if matches!(change.verb, Verb::Insert | Verb::Remove) {
                self.forget(key);
            }
            if change.verb == Verb::Insert && change.ticket != NO_TICKET {
                fresh[change.ticket as usize] = Some((key, change.event.time));
            }
        }
        for block in blocks {
            let Some(&width) = self.widths.get(&block.plan) else { continue };
            for slice in block.words.chunks_exact(1 + width) {
                let Some(&Some((key, time))) = fresh.get(slice[0] as usize) else { continue };
                if self.values.get(&key).is_none() {
                    self.values.insert(key, Values { time, packed: Vec::new() });
                    self.expiring.put(key, time);
                }
                let Some(values) = self.values.get_mut(&key) else { continue };
                let before = values.packed.capacity();
                values.packed.extend(block.plan.to_le_bytes());
                slice[1..].iter().for_each(|&word| pack(f64::from_bits(word), &mut values.packed));
                self.bytes = self.bytes + values.packed.capacity() - before;
            }
        }
    }

    /// Adds the slices of rows that are read again.
    fn recall(&self, changes: &[Change], blocks: &mut Vec<Block>) {
        let again = changes.iter().filter(|change| change.verb == Verb::Read && change.ticket != NO_TICKET);
        for change in again {
            let Some(values) = self.values.get(&change.event.id.map_key(self.ids)) else { continue };
            let mut packed = &values.packed[..];
            while let Some((plan, rest)) = packed.split_first_chunk() {
                let plan = u16::from_le_bytes(*plan);
                packed = rest;
                let mut words = vec![u64::from(change.ticket)];
                words.extend((0..self.widths[&plan]).map(|_| unpack(&mut packed).to_bits()));
                blocks.push(Block { to: self.here, from: self.here, plan, words });
            }
        }
    }

    fn forget(&mut self, key: MapKey) {
        if let Some(values) = self.values.remove(&key) {
            self.bytes -= values.packed.capacity();
        }
    }

    fn expire(&mut self, watermark: i64) {
        let bound = self.expiring.bound(watermark);
        while let Some(keys) = self.expiring.take(watermark) {
            for key in keys {
                // A corrected transaction may have moved to a later time.
                if self.values.get(&key).is_some_and(|values| values.time < bound) {
                    self.forget(key);
                }
            }
        }
    }
}

/// First bytes that do not stand for themselves.
const MISSING: u8 = 255;
const FLOAT: u8 = 254;
const INT16: u8 = 253;

/// Packs a value: small non-negative integers in one byte, others up to 65 535 in three, the rest in nine, bit for bit.
/// All missing values become one.
fn pack(value: f64, into: &mut Vec<u8>) {
    let whole = value as u16;
    if value.is_nan() {
        into.push(MISSING);
    } else if f64::from(whole).to_bits() != value.to_bits() {
        into.push(FLOAT);
        into.extend(value.to_le_bytes());
    } else if whole < u16::from(INT16) {
        into.push(whole as u8);
    } else {
        into.push(INT16);
        into.extend(whole.to_le_bytes());
    }
}

/// Takes a value off the front; what [`pack`] wrote is whole.
fn unpack(packed: &mut &[u8]) -> f64 {
    fn take<const N: usize>(packed: &mut &[u8]) -> [u8; N] {
        let (head, rest) = packed.split_first_chunk().map_or(([0; N], &[][..]), |(head, rest)| (*head, rest));
        *packed = rest;
        head
    }
    match take::<1>(packed)[0] {
        MISSING => f64::NAN,
        FLOAT => f64::from_le_bytes(take(packed)),
        INT16 => f64::from(u16::from_le_bytes(take(packed))),
        small => f64::from(small),
    }
}
