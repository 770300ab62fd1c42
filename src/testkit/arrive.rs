//! Orders of arrival: which records keep the output exact, and how they may be shuffled.
//!
//! The engine corrects rows that are younger than the revise horizon, so outputs are equal for all orders of arrival in
//! which no record touches an older row.

use std::collections::HashMap;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::event::{Event, Id, Op, Role, Schema};
use crate::views::velocity::KeyPlan;

/// The records, in order of arrival, that touch no row older than `horizon_ms` behind the watermark at their arrival (the
/// largest event time so far): late events, corrections, withdrawals and labels that come later are left out.
pub fn within(records: &[Event], schema: &Schema, plans: &[impl AsRef<KeyPlan>], horizon_ms: i64) -> Vec<Event> {
    let slot = schema.slot_of_role(Role::AvailableAt);
    let mut times: HashMap<Id, i64> = HashMap::new();
    for record in records.iter().filter(|record| record.op != Op::Withdraw) {
        let first = times.entry(record.id).or_insert(record.time);
        *first = record.time.min(*first);
    }
    let mut watermark_ms = i64::MIN;
    let mut kept = Vec::with_capacity(records.len());
    for record in records {
        let now_ms = watermark_ms.max(record.time);
        let touches_from_ms = match record.label_target(schema) {
            Some(target) => {
                let available_at = slot.and_then(|slot| record.int(slot)).unwrap_or(record.time);
                let time = times.get(&target).copied().unwrap_or(record.time);
                let from = |plan: &KeyPlan| plan.label_touches_from(time, available_at);
                plans.iter().filter_map(|plan| from(plan.as_ref())).min().unwrap_or(i64::MAX)
            }
            None => times.get(&record.id).map_or(record.time, |&first| first.min(record.time)),
        };
        if touches_from_ms >= now_ms.saturating_sub(horizon_ms) {
            watermark_ms = now_ms;
            kept.push(record.clone());
        }
    }
    kept
}

/// Another order of arrival: every record comes up to `slack_ms` of event time later than it did, records of one id in
/// their order. No record is later behind the watermark than it was, plus the slack.
pub fn shuffled(records: &[Event], slack_ms: i64, seed: u64) -> Vec<Event> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let (mut now_ms, mut due_by_id) = (i64::MIN, HashMap::new());
    let mut due: Vec<(i64, usize)> = Vec::with_capacity(records.len());
    for (place, record) in records.iter().enumerate() {
        now_ms = now_ms.max(record.time);
        let due_ms = due_by_id.entry(record.id).or_insert(i64::MIN);
        *due_ms = now_ms.saturating_add(random.random_range(0..=slack_ms)).max(*due_ms);
        due.push((*due_ms, place));
    }
    due.sort_unstable();
    due.into_iter().map(|(_, place)| records[place].clone()).collect()
}

/// A withdrawal of every event and label among the records, in the order of their first record.
pub fn withdrawals(records: &[Event]) -> Vec<Event> {
    let mut seen = std::collections::HashSet::new();
    let first = records.iter().filter(|record| seen.insert(record.id));
    let withdrawal = |record: &Event| {
        let mut withdrawal = record.clone();
        withdrawal.op = Op::Withdraw;
        withdrawal
    };
    first.map(withdrawal).collect()
}
