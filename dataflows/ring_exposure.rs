//! How much money is at stake in each ring of accounts?
//!
//! Accounts that share a device or a card are a ring. For each ring of two accounts and more: its members, the money approved in the
//! last 7 days of event time, and the part of it that is now assessed as review or block. Built by joins and reductions of
//! differential on what the engine keeps anyway:
//!
//! ```text
//!  events_by("account") ─► approved, 7 days ─┬─ join ─► by account ─┐
//!  scores() ─► review or block ──────────────┘                      ├─ join ─► by ring ─► sums ─► out
//!  clusters(device, card) ──────────────────────────────────────────┘
//! ```
//!
//! A late, corrected or withdrawn payment, a revised score, a link that expires: each moves the sums of the rings it touches, and
//! nothing else is computed again. Scores are those of `payments`, with its features and its model.
//!
//! ```text
//! deltawatch replay --dataflow ring_exposure --input generator --events 20000 --output - | grep ring_exposure
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use deltawatch::dataflow::Hindsight;
use deltawatch::dataflow::prelude::*;
use deltawatch::event::MapKey;
use deltawatch::flow::Action;
use deltawatch::views::identity::IdentityPlan;
use deltawatch::views::identity::propagate::Entity;
use differential_dataflow::operators::CountTotal;
use serde::Serialize;

use super::payments::Payments;

/// How long an approved payment counts.
const WEEK_MS: i64 = 7 * 86_400_000;
/// Rings of fewer accounts are no rings.
const ACCOUNTS_MIN: isize = 2;
/// The number of an account's kind among entities.
const ACCOUNT: u8 = 0;

/// The dataflow.
pub struct RingExposure;

/// What is said of a ring.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, serde::Deserialize)]
struct Ring {
    members: isize,
    accounts: isize,
    payments: isize,
    approved_minor: i64,
    at_risk: isize,
    at_risk_minor: i64,
}

/// What a record adds to its ring: members and accounts; payments and their amount; those at risk, and theirs.
type Part = ((isize, isize), (isize, isize), (isize, isize));

/// A payment that counts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, serde::Deserialize)]
struct Approved {
    account: Entity,
    id: MapKey,
    time_ms: i64,
    amount_minor: i64,
}

impl Dataflow for RingExposure {
    fn name(&self) -> &'static str {
        "ring_exposure"
    }

    fn about(&self) -> &'static str {
        "How much money is at stake in each ring of accounts? Clusters, payments and scores, joined."
    }

    fn schema(&self) -> &'static str {
        Payments.schema()
    }

    fn model(&self) -> Option<&'static str> {
        Payments.model()
    }

    fn parameters(&self) -> Vec<Parameter> {
        vec![
            Parameter { key: "days", about: "a link lives so many days after it was last seen", default: "30" },
            Parameter { key: "cap", about: "a device or card with more live accounts links none", default: "20" },
        ]
    }

    fn features(&self, setup: &Setup) -> Result<FeatureSet, BuildError> {
        Payments.features(setup)
    }

    fn retention_ms(&self) -> i64 {
        WEEK_MS
    }

    fn build(&self, context: &mut Context<'_>) -> Result<(), BuildError> {
        let features = context.features()?;
        context.score(&features)?;
        let counted = Counted::new(context.setup())?;

        // 1. What is kept, arranged: payments by account, standings by id, clusters by entity.
        let by_account = context.events_by("account")?;
        let scores = context.scores(&features);
        let clusters = context.clusters(&rings(context.setup())?)?;

        // 2. Approved payments of the last week.
        let approved = by_account.as_collection(|_, event| event.clone()).flat_map(move |event| counted.of(&event));
        let approved = context.within("Approved this week", approved, |payment| payment.time_ms, WEEK_MS);

        // 3. Those of them that are not simply allowed now.
        let suspected = scores.as_collection(|id, standing| (*id, *standing));
        let suspected = suspected.filter(|(_, standing)| standing.action != Action::Allow).map(|(id, _)| (id, ()));
        let by_id = approved.clone().map(|payment| (payment.id, (payment.account, payment.amount_minor)));
        let at_risk = by_id.join_map(suspected, |_, (account, amount_minor), ()| (*account, *amount_minor));

        // 4. By ring: what each record adds stands in its diff, so that only sums are kept.
        let approved = approved.map(|payment| (payment.account, payment.amount_minor));
        let of_payments = approved.join_core(clusters.clone(), |_, amount, ring| Some((*ring, *amount)));
        let of_payments = of_payments.explode(|(ring, amount)| Some((ring, part(None, Some(amount), None))));
        let of_risk = at_risk.join_core(clusters.clone(), |_, amount, ring| Some((*ring, *amount)));
        let of_risk = of_risk.explode(|(ring, amount)| Some((ring, part(None, None, Some(amount)))));
        let members = clusters.as_collection(|entity, ring| (*ring, *entity));
        let of_members = members.explode(|(ring, entity)| Some((ring, part(Some(entity), None, None))));
        let totals = of_members.concat(of_payments).concat(of_risk).count_total();

        // 5. Out.
        let rings = totals.flat_map(|(ring, total)| Some((name(ring), Ring::of(total)?)));
        context.output("ring_exposure", rings);
        Ok(())
    }

    fn oracle_with(&self, setup: &Setup, hindsight: &Hindsight) -> Vec<(String, String)> {
        let events = &hindsight.events;
        let (Ok(counted), Ok(rings)) = (Counted::new(setup), rings(setup)) else { return Vec::new() };
        let Some(now_ms) = events.iter().map(|event| event.time).max() else { return Vec::new() };
        let ring_of = ring_of(setup, &rings, events, now_ms);
        let mut totals: BTreeMap<Entity, Part> = BTreeMap::new();
        let mut add = |ring: Entity, more: Part| {
            let ((members, accounts), (payments, approved), (at_risk, risk)) = totals.entry(ring).or_default();
            (*members, *accounts) = (*members + more.0.0, *accounts + more.0.1);
            (*payments, *approved) = (*payments + more.1.0, *approved + more.1.1);
            (*at_risk, *risk) = (*at_risk + more.2.0, *risk + more.2.1);
        };
        ring_of.iter().for_each(|(entity, ring)| add(*ring, part(Some(*entity), None, None)));
        for payment in events.iter().filter_map(|event| counted.of(event)) {
            let Some(&ring) = ring_of.get(&payment.account).filter(|_| payment.time_ms > now_ms - WEEK_MS) else {
                continue;
            };
            add(ring, part(None, Some(payment.amount_minor), None));
            if hindsight.findings.get(&payment.id).is_some_and(|found| found.opinion.action != Action::Allow) {
                add(ring, part(None, None, Some(payment.amount_minor)));
            }
        }
        let json = |ring: &Ring| serde_json::to_string(ring).unwrap_or_default();
        totals.into_iter().filter_map(|(ring, total)| Some((name(ring), json(&Ring::of(total)?)))).collect()
    }
}

/// What makes a ring.
fn rings(setup: &Setup) -> Result<Identity, BuildError> {
    let (days, cap) = (Window::days(setup.parameters.parsed("days")?), setup.parameters.parsed("cap")?);
    let linked = |identity: Identity, field| identity.strong(field, cap).expires(days);
    let identity = ["device", "card"].into_iter().fold(Identity::of("account"), linked);
    Ok(identity.column(ClusterMeasure::Size))
}

/// What a member, an approved payment, or one at risk adds to its ring.
fn part(member: Option<Entity>, approved_minor: Option<i64>, at_risk_minor: Option<i64>) -> Part {
    let money = |amount: Option<i64>| (isize::from(amount.is_some()), amount.unwrap_or(0) as isize);
    let account = member.is_some_and(|(kind, _)| kind == ACCOUNT);
    ((isize::from(member.is_some()), isize::from(account)), money(approved_minor), money(at_risk_minor))
}

impl Ring {
    /// `None` if there are too few accounts.
    fn of(((members, accounts), (payments, approved), (at_risk, risk)): Part) -> Option<Self> {
        let (approved_minor, at_risk_minor) = (approved as i64, risk as i64);
        let ring = Ring { members, accounts, payments, approved_minor, at_risk, at_risk_minor };
        (accounts >= ACCOUNTS_MIN).then_some(ring)
    }
}

/// A ring is called by its smallest entity: an account, as their kind comes first.
fn name((kind, key): Entity) -> String {
    format!("{kind}-{:016x}{:016x}", key.hi, key.lo)
}

/// Which events count, and as what.
#[derive(Clone)]
struct Counted {
    plan: Arc<IdentityPlan>,
    schema: Arc<Schema>,
    payment: u16,
    outcome: Slot,
    amount: Slot,
}

impl Counted {
    fn new(setup: &Setup) -> Result<Self, BuildError> {
        let (outcome, amount) = (setup.slot("outcome")?, setup.slot("amount")?);
        let payment = setup.schema.kind("payment").unwrap_or(setup.schema.default_kind());
        let plan = Arc::new(rings(setup)?.resolve(&setup.schema)?);
        Ok(Counted { plan, schema: setup.schema.clone(), payment, outcome, amount })
    }

    fn of(&self, event: &Event) -> Option<Approved> {
        let approved = event.kind == self.payment && event.text(self.outcome) == Some("approved");
        let account = (ACCOUNT, self.plan.account_of(event, &self.schema).filter(|_| approved)?);
        let (id, amount_minor) = (event.id.map_key(self.schema.id_type()), event.int(self.amount)?);
        Some(Approved { account, id, time_ms: event.time, amount_minor })
    }
}

/// The ring of each entity by looking at all links again and again until nothing changes.
fn ring_of(setup: &Setup, rings: &Identity, events: &[Event], now_ms: i64) -> BTreeMap<Entity, Entity> {
    let Ok(plan) = rings.resolve(&setup.schema) else { return BTreeMap::new() };
    let mut seen: BTreeMap<(Entity, Entity), i64> = BTreeMap::new();
    for event in events {
        let Some(account) = plan.account_of(event, &setup.schema) else { continue };
        for link in 0..plan.links.len() {
            let Some(key) = plan.value_of(link, event, &setup.schema) else { continue };
            let last = seen.entry(((ACCOUNT, account), (link as u8 + 1, key))).or_insert(i64::MIN);
            *last = event.time.max(*last);
        }
    }
    let expiry_ms = |value: &Entity| plan.rules.links[usize::from(value.0) - 1].expiry_ms;
    seen.retain(|(_, value), last| *last > now_ms.saturating_sub(expiry_ms(value)));
    let cap = |end: &Entity| match end.0 {
        ACCOUNT => plan.rules.account_cap,
        kind => plan.rules.links[usize::from(kind) - 1].cap,
    };
    let mut degree: BTreeMap<Entity, u32> = BTreeMap::new();
    seen.keys().flat_map(|(a, b)| [*a, *b]).for_each(|end| *degree.entry(end).or_default() += 1);
    let carries = |(a, b): &(Entity, Entity)| [a, b].into_iter().all(|end| degree[end] <= cap(end));
    let links: BTreeSet<(Entity, Entity)> = seen.into_keys().filter(carries).collect();
    let mut ring_of: BTreeMap<Entity, Entity> = links.iter().flat_map(|(a, b)| [(*a, *a), (*b, *b)]).collect();
    loop {
        let mut changed = false;
        for (a, b) in &links {
            let smallest = ring_of[a].min(ring_of[b]);
            for end in [a, b] {
                changed |= ring_of.insert(*end, smallest) != Some(smallest);
            }
        }
        if !changed {
            return ring_of;
        }
    }
}
