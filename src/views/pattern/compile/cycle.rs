//! A pattern of cycles, resolved.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::condition::Condition;
use super::expr::duration_ms;
use super::features::FeatureNames;
use super::plan::Group;
use super::resolve::Names;
use crate::event::{FieldType, Schema, Slot};
use crate::views::pattern::PatternError;
use crate::views::pattern::spec::{KeySpec, PatternSpec};
use crate::views::velocity::REVISE_MS_DEFAULT;

/// Hops of a cycle, at most.
pub const HOPS_MAX: u32 = 8;

/// Shares are kept in millionths.
pub const MILLION: i128 = 1_000_000;

/// A pattern of cycles, resolved.
#[derive(Clone, Debug, PartialEq)]
pub struct CyclePlan {
    /// Its name.
    pub name: Arc<str>,
    /// How long a row is revised after its event time, milliseconds.
    pub revise_ms: i64,
    /// From the first transfer to the last it is less than this, milliseconds.
    pub within_ms: i64,
    /// The kinds of a transfer.
    pub kinds: Vec<u16>,
    /// Its conditions, over itself only.
    pub condition: Condition,
    /// Who pays.
    pub from: Slot,
    /// Who is paid.
    pub to: Slot,
    /// How much.
    pub amount: Slot,
    /// Transfers of a cycle, fewest and most.
    pub hops: (usize, usize),
    /// Each amount is at least and at most this share of the one before, millionths.
    pub share: (i128, i128),
}

impl CyclePlan {
    /// Resolves a pattern of cycles.
    pub fn resolve(spec: &PatternSpec, schema: &Schema) -> Result<Self, PatternError> {
        let invalid = |place: &str, reason: String| PatternError::invalid(&spec.name, place, reason);
        let Some(cycle) = &spec.cycle else { return Err(invalid("cycle", "is missing".into())) };
        if !spec.steps.is_empty() || spec.key.is_some() || !spec.keys.is_empty() {
            return Err(invalid("cycle", "stands instead of steps and key; remove those".into()));
        }
        if spec.after_match.is_some() {
            return Err(invalid("after_match", "belongs to a pattern of steps; remove it".into()));
        }
        let within =
            spec.within.as_deref().ok_or_else(|| invalid("within", "is missing; write one, like \"72h\"".into()))?;
        let within_ms = duration_ms(within).map_err(|reason| invalid("within", reason))?;
        let [least, most] = cycle.hops;
        if least < 2 || most < least || most > HOPS_MAX {
            return Err(invalid("cycle", format!("hops [{least}, {most}] must be from 2 to {HOPS_MAX}, fewest first")));
        }
        let [low, high] = cycle.share;
        if !(0.0..=1000.0).contains(&low) || !(low..=1000.0).contains(&high) {
            return Err(invalid("cycle", format!("share [{low}, {high}] must be from 0 to 1000, smallest first")));
        }
        let slot = |name: &String| {
            let unknown =
                || format!("the schema '{}' has no field '{name}'; add it there or use another", schema.name());
            schema.slot(name).ok_or_else(|| invalid("cycle", unknown()))
        };
        let (from, to, amount) = (slot(&cycle.from)?, slot(&cycle.to)?, slot(&cycle.amount)?);
        if !matches!(schema.field(amount).kind, FieldType::Int | FieldType::Decimal) {
            return Err(invalid("cycle", format!("'{}' is not an amount; declare it as decimal", cycle.amount)));
        }
        let event = spec.events.get(&cycle.event).ok_or_else(|| {
            invalid("cycle", format!("there is no event '{0}'; write [pattern.events.{0}]", cycle.event))
        })?;
        // A group of its own, for one named event.
        let mut group = Group::default();
        let key = KeySpec::One(cycle.from.clone());
        let main = group.side(&key, schema).map_err(|reason| invalid("cycle", reason))?;
        let location = ["lat".to_owned(), "lon".to_owned()];
        let (bits, steps) = (BTreeMap::new(), Vec::new());
        let features = &mut FeatureNames::new(&[]);
        let mut names = Names {
            schema,
            features,
            group: &mut group,
            bits,
            steps,
            kinds: Vec::new(),
            location,
            base: None,
            alone: false,
            here: None,
        };
        let in_event = |reason: String| invalid(&format!("event '{}'", cycle.event), reason);
        if event.looks_back() || event.looks_at_features() || event.key.is_some() {
            return Err(in_event("a cycle's event has conditions over itself only, and no key".into()));
        }
        let bit = names.event(event, main, 0).map_err(in_event)?;
        let named = group.events.swap_remove(usize::from(bit));
        let millionths = |share: f64| (share * MILLION as f64).round() as i128;
        Ok(CyclePlan {
            name: spec.name.as_str().into(),
            revise_ms: REVISE_MS_DEFAULT,
            within_ms,
            kinds: named.kinds,
            condition: named.own,
            from,
            to,
            amount,
            hops: (least as usize, most as usize),
            share: (millionths(low), millionths(high)),
        })
    }
}
