//! Cycles of transfers by definition: every sequence of transfers is tried.

use super::Found;
use super::candidate::KeyTwin;
use crate::event::{Event, Id, Key, Schema};
use crate::views::pattern::MATCH_IDS_MAX;
use crate::views::pattern::expr::duration_ms;
use crate::views::pattern::spec::{CycleSpec, PatternSpec};

/// A transfer: when, between whom, how much.
struct Transfer {
    place: (i64, Id),
    from: Key,
    to: Key,
    amount: i64,
}

/// All cycles over the events, which are sorted, and who pays in each.
pub fn cycles(spec: &PatternSpec, schema: &Schema, events: &[&Event]) -> Vec<(Found, Vec<Key>)> {
    let (Some(cycle), Some(within)) = (&spec.cycle, spec.within.as_deref()) else { return Vec::new() };
    let Ok(within_ms) = duration_ms(within) else { return Vec::new() };
    let transfers: Vec<Transfer> =
        (0..events.len()).filter_map(|at| transfer(spec, cycle, schema, events, at)).collect();
    let mut found = Vec::new();
    for first in 0..transfers.len() {
        extend(&transfers, cycle, within_ms, &mut vec![first], &mut found);
    }
    let found = found.into_iter().map(|path| {
        let ids: Vec<Id> = path.iter().map(|&at| transfers[at].place.1).collect();
        let payers: Vec<Key> = path.iter().map(|&at| transfers[at].from).collect();
        let last = &transfers[path[path.len() - 1]];
        debug_assert!(ids.len() <= MATCH_IDS_MAX);
        let found = Found {
            pattern: spec.name.clone(),
            key: payers[0],
            at: last.place,
            started_ms: transfers[path[0]].place.0,
            events: ids.len(),
            ids,
            absence: false,
        };
        (found, payers)
    });
    found.collect()
}

/// The transfer that an event is.
fn transfer(spec: &PatternSpec, cycle: &CycleSpec, schema: &Schema, events: &[&Event], at: usize) -> Option<Transfer> {
    let event = events[at];
    let field = |name: &str| schema.slot(name);
    let (from, to) = (event.key(field(&cycle.from)?, schema)?, event.key(field(&cycle.to)?, schema)?);
    let amount = event.int(field(&cycle.amount)?)?;
    let values = &Default::default();
    let twin = KeyTwin { spec, schema, events, values, key: from, known: Default::default() };
    let is = twin.is_alone(&cycle.event, at);
    (is && from != to).then_some(Transfer { place: (event.time, event.id), from, to, amount })
}

/// Who pays if an event is a transfer of the pattern.
pub fn payer(spec: &PatternSpec, schema: &Schema, event: &Event) -> Option<Key> {
    transfer(spec, spec.cycle.as_ref()?, schema, &[event], 0).map(|transfer| transfer.from)
}

fn extend(
    transfers: &[Transfer],
    cycle: &CycleSpec,
    within_ms: i64,
    path: &mut Vec<usize>,
    found: &mut Vec<Vec<usize>>,
) {
    let (first, last) = (&transfers[path[0]], path[path.len() - 1]);
    if transfers[last].to == first.from {
        if path.len() >= cycle.hops[0] as usize {
            found.push(path.clone());
        }
        return;
    }
    if path.len() == cycle.hops[1] as usize {
        return;
    }
    for at in last + 1..transfers.len() {
        let (one, before) = (&transfers[at], &transfers[last]);
        let share = |share: f64| before.amount as i128 * (share * 1_000_000.0).round() as i128;
        let amount = one.amount as i128 * 1_000_000;
        let again = path.iter().any(|&earlier| transfers[earlier].from == one.from);
        let fits = one.from == before.to && share(cycle.share[0]) <= amount && amount <= share(cycle.share[1]);
        if fits && !again && one.place.0 - first.place.0 < within_ms {
            path.push(at);
            extend(transfers, cycle, within_ms, path, found);
            path.pop();
        }
    }
}
