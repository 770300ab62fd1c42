//! Changes are cut to requests, addressed to the owners of their keys.
//!
//! The requests of patterns that look at velocity features wait for those, which come by ticket in the same epoch:
//!
//! ```text
//!  changes ──┬─► [PatternAsker] ───────────────────────────────────────┐
//!            │                                                         ├─► requests
//!            ├─► [VelocityAsker] ─► [VelocityView] ── slices ─┐        │
//!            └────────────────────────────────────────────────┴─► [cut with features]
//! ```
//!
//! An event that is read again, as a late one has touched its features, asks to be set to what it is now
//! ([`Ask::Relabel`]); to the owner that is a change only if it is something else than before. So what goes round comes to
//! rest: a row read again without a change of a feature changes no match, and features do not look at matches.

use std::sync::Arc;

use timely::dataflow::Stream;
use timely::dataflow::operators::vec::Filter;

use super::compile::features::FeatureCell;
use super::compile::plan::{Group, KeySide, PatternPlan};
use super::machine::evaluate::{Around, EventCells, Texts, Whole};
use crate::event::{Event, Key, Schema};
use crate::flow::{Ask, Asker, Block, Change, Changes, Epoch, HEAD, NO_TICKET, Outgoing, Request, Verb};
use crate::operators::with_slices;

/// Asks the groups that look at no features.
pub struct PatternAsker {
    groups: Vec<Arc<Group>>,
    schema: Arc<Schema>,
    texts: Texts,
    columns: Vec<u64>,
}

impl PatternAsker {
    /// For the groups of a plan.
    pub fn new(groups: &[Arc<Group>], schema: Arc<Schema>) -> Self {
        let texts = Texts::new(&schema);
        PatternAsker { groups: groups.to_vec(), schema, texts, columns: Vec::new() }
    }
}

impl Asker for PatternAsker {
    fn plans(&self) -> usize {
        self.groups.len()
    }

    fn ask(&mut self, change: &Change, out: &mut Outgoing) {
        let PatternAsker { groups, schema, texts, columns } = self;
        let whole = Whole::new(&change.event, schema, texts);
        for (index, group) in groups.iter().enumerate().filter(|(_, group)| !group.featured) {
            requests(change, &whole, group, schema, columns, |request| out.push(index, &request));
        }
    }
}

/// Cuts changes for the groups that look at features, once the slices of the epoch's rows are there.
pub fn cut_with_features<'scope>(
    changes: Stream<'scope, Epoch, Vec<Changes>>,
    velocity: Stream<'scope, Epoch, Vec<Block>>,
    plan: &PatternPlan,
    schema: Arc<Schema>,
) -> Stream<'scope, Epoch, Vec<Block>> {
    let (groups, cells) = (plan.groups.clone(), plan.features.clone());
    let worker = changes.scope().worker().clone();
    let mut outgoing = Outgoing::new(worker.index() as u32, worker.peers(), groups.len());
    let looked_at = cells.clone();
    // What no condition looks at is not sent around.
    let velocity = velocity.filter(move |block| looked_at.iter().any(|cell| cell.plan == block.plan));
    let (mut columns, texts) = (Vec::new(), Texts::new(&schema));
    with_slices("Cut patterns with features", changes, velocity, move |changes, slices, out| {
        let tickets = changes.iter().filter(|change| change.ticket != NO_TICKET).count();
        let features = rows(&cells, tickets, slices);
        for change in changes {
            let whole = Whole::new(&change.event, &schema, &texts);
            // A row that was asked for and taken back in this epoch has no ticket: its event goes with it.
            let row = (change.ticket as usize).saturating_mul(cells.len());
            let whole = whole.with_features(features.get(row..row.saturating_add(cells.len())).unwrap_or(&[]));
            for (index, group) in groups.iter().enumerate().filter(|(_, group)| group.featured) {
                requests(change, &whole, group, &schema, &mut columns, |request| outgoing.push(index, &request));
            }
        }
        out.extend(outgoing.take());
    })
}

/// The values of the cells for each ticket of an epoch, row by row, from the slices of the velocity store.
fn rows(cells: &[FeatureCell], tickets: usize, slices: &[Block]) -> Vec<f64> {
    let defaults: Vec<f64> = cells.iter().map(|cell| cell.default).collect();
    let mut rows = defaults.repeat(tickets);
    for block in slices {
        for (number, cell) in cells.iter().enumerate().filter(|(_, cell)| cell.plan == block.plan) {
            for slice in block.words.chunks_exact(1 + cell.width) {
                rows[slice[0] as usize * cells.len() + number] = f64::from_bits(slice[1 + cell.place]);
            }
        }
    }
    rows
}

/// The requests that a change makes of a group: one per key that the event carries.
#[inline]
pub fn requests(
    change: &Change,
    content: &Whole<'_>,
    group: &Group,
    schema: &Schema,
    columns: &mut Vec<u64>,
    mut send: impl FnMut(Request<'_>),
) {
    let event = &*change.event;
    let ask = match change.verb {
        Verb::Insert => Ask::Insert,
        Verb::Remove => Ask::Remove,
        Verb::Read if group.featured => Ask::Relabel,
        Verb::Read => Ask::Read,
        Verb::Label | Verb::Relabel => return,
    };
    let scored = schema.is_scored(event.kind);
    let whole = match ask {
        Ask::Read => 0,
        // What its features were is not known any more: it is taken from wherever it may be.
        Ask::Remove if group.featured => may_be(group, event),
        _ => mask_of(group, event, content),
    };
    if whole == 0 && !scored && change.ticket == NO_TICKET {
        return;
    }
    columns.clear();
    if matches!(ask, Ask::Insert | Ask::Relabel) {
        fill(columns, group, whole, content);
    } else {
        columns.push(0);
    }
    // By other features it may have been an event of a key of which it is none now.
    let was = if ask == Ask::Relabel { may_be(group, event) } else { whole };
    let mut first: Option<Key> = None;
    for (number, side) in group.sides.iter().enumerate() {
        let mut mask = whole & side.bits;
        let main = number == 0;
        let read = main && (scored || change.ticket != NO_TICKET);
        if was & side.bits == 0 && !read {
            continue;
        }
        let Some(key) = group.key_of(number, event, schema) else { continue };
        if main {
            first = Some(key);
            // An event that carries one key on both sides is one event of that key.
            let again = |(other, side): &(usize, &KeySide)| {
                whole & side.bits != 0 && group.key_of(*other, event, schema) == Some(key)
            };
            let others = group.sides.iter().enumerate().skip(1).filter(again);
            mask |= others.fold(0, |bits, (_, side)| bits | side.bits) & whole;
        } else if first == Some(key) {
            continue;
        }
        send(Request {
            ask,
            scored: main && scored,
            cause: change.cause,
            ticket: if main { change.ticket } else { NO_TICKET },
            key,
            time: event.time,
            id: event.id,
            mask,
            known_at: i64::MAX,
            columns,
        });
    }
}

/// The named events that an event of its kind may be.
#[inline]
fn may_be(group: &Group, event: &Event) -> u64 {
    group.of_kind.get(usize::from(event.kind)).copied().unwrap_or(0)
}

/// The named events that an event is, as far as it can tell alone.
#[inline]
fn mask_of(group: &Group, event: &Event, content: &Whole<'_>) -> u64 {
    let around = Around { time: event.time, ..Around::default() };
    let mut open = may_be(group, event);
    let mut mask = 0;
    while open != 0 {
        let bit = open.trailing_zeros();
        open &= open - 1;
        mask |= u64::from(group.events[bit as usize].own.holds(content, &around)) << bit;
    }
    mask
}

/// Which columns are there, then those columns: as many as are kept with the named events that the event is.
fn fill(words: &mut Vec<u64>, group: &Group, mask: u64, content: &Whole<'_>) {
    words.push(0);
    let is = |bit: &usize| mask >> bit & 1 == 1;
    let mut kept = (0..group.kept.len()).filter(is).fold(0, |kept, bit| kept | group.kept[bit]);
    while kept != 0 {
        let index = kept.trailing_zeros() as usize;
        kept &= kept - 1;
        let column = &group.columns[index];
        let cell = content.cell(column);
        words[0] |= u64::from(cell.is_some()) << index;
        words.extend(cell);
    }
}

// A request has room for which columns are there behind its head.
const _: () = assert!(HEAD == 8);
