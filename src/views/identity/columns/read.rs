//! The columns of a transaction, read from its cluster.

use super::facts::{ClusterFacts, Member, Payments, Tallies};
use crate::views::identity::graph::{Component, ComponentPlace};
use crate::views::identity::links::{ACCOUNT, Links};
use crate::views::identity::request::EntityRequest;
use crate::views::identity::spec::{ClusterMeasure, IdentityPlan, SMOOTHING_PAYMENTS, SMOOTHING_RATE, span};

/// A cluster of more members is not searched for its hub.
pub const HUB_MEMBERS_MAX: u32 = 256;
/// More values than this are not searched for frauds near an account.
pub const DISTANCE_VALUES_MAX: usize = 1_000;
/// Shared values that frauds are searched over, at most.
pub const DISTANCE_MAX: usize = 2;

/// What a transaction is compared with.
#[derive(Clone, Debug, Default)]
pub struct Before {
    size: u32,
    /// Values of the event whose clusters had accounts, each with the place of its cluster.
    joined: Vec<(u32, ComponentPlace)>,
    /// What the account's own events add up to, if it has no live link.
    pub tallies: Tallies,
}

/// Reads columns.
#[derive(Debug, Default)]
pub struct ColumnReader {
    size_before: bool,
    merges: bool,
    strong: bool,
    /// The greatest distance at which frauds are looked for.
    farthest: usize,
}

impl ColumnReader {
    /// For the columns of a plan.
    pub fn new(plan: &IdentityPlan) -> Self {
        let asks = |wanted: &ClusterMeasure| plan.columns.iter().any(|(measure, _)| measure == wanted);
        ColumnReader {
            size_before: asks(&ClusterMeasure::SizeBefore),
            merges: asks(&ClusterMeasure::MergesTwo),
            strong: asks(&ClusterMeasure::StrongSize) || asks(&ClusterMeasure::StrongAccounts),
            farthest: plan.columns.iter().map(|(measure, _)| distance(measure)).max().unwrap_or(0),
        }
    }

    /// What there is before the links of an event come.
    pub fn before<P: Member>(&self, links: &Links<P>, request: &EntityRequest) -> Before {
        let mut before = Before::default();
        if !self.size_before && !self.merges {
            return before;
        }
        let account = links.find_value(ACCOUNT, request.account);
        let values = request.values().iter().filter(|_| self.merges);
        let values = values.filter_map(|&(kind, key)| links.find_value(kind, key));
        for value in account.into_iter().chain(values) {
            let place = links.wide().place(value);
            let size = links.wide().size_at(place).size;
            if Some(value) == account {
                before.size = size;
            }
            // Every link has an account, so a cluster without one is a single value.
            if self.merges && (Some(value) == account || size > 1) {
                before.joined.push((value, place));
            }
        }
        before
    }

    /// Fills in the columns of an event whose links have come. `account` is `None` if the account has no live link.
    pub fn read<P: Member>(
        &self,
        links: &mut Links<P>,
        plan: &IdentityPlan,
        request: &EntityRequest,
        account: Option<u32>,
        before: Before,
        row: &mut [f64],
    ) {
        use ClusterMeasure as C;
        let (wide, tallies) = match account {
            Some(account) => {
                let held = links.wide_mut().component(account);
                let tallies = P::tallies(&held.total);
                (held.map(Into::into), tallies)
            }
            None => (alone(), before.tallies),
        };
        let now_ms = links.now_ms();
        let strong = match account {
            Some(account) if self.strong => links.strong_cluster(account),
            _ => alone().map(drop),
        };
        let near = self.frauds_near(links, account, &wide);
        let ClusterFacts { members, fresh, frauds, fraud_members, payments, recent, .. } = wide.total;
        for (at, (measure, kind)) in plan.columns.iter().enumerate() {
            row[at] = match measure {
                C::Size => f64::from(wide.size),
                C::Accounts => f64::from(wide.accounts),
                C::Members(_) => f64::from(members[*kind as usize]),
                C::StrongSize => f64::from(strong.size),
                C::StrongAccounts => f64::from(strong.accounts),
                C::SizeBefore => f64::from(before.size),
                C::MergesTwo => f64::from(u8::from(merged(links, account, &before.joined))),
                C::Age if wide.total.first_seen_ms == i64::MAX => 0.0,
                C::Age => (request.time_ms - wide.total.first_seen_ms).max(0) as f64,
                C::Growth => f64::from(fresh),
                C::Links => f64::from(wide.links),
                C::Density => f64::from(wide.links) / f64::from(wide.size),
                C::HubShare => hub_share(links, account, &wide),
                C::Degree(_) => {
                    let key = request.values().iter().find(|(own, _)| own == kind);
                    let value = key.and_then(|&(kind, key)| links.find_value(kind, key));
                    value.map_or(0.0, |value| f64::from(links.values().get(value).degree))
                }
                C::AccountDegree(_) => account.map_or(0.0, |account| {
                    let of_kind = links.links_of(account).filter(|&(end, _)| links.values().get(end).kind == *kind);
                    of_kind.count() as f64
                }),
                C::Frauds => f64::from(frauds),
                C::FraudAccounts => f64::from(fraud_members),
                C::FraudRate if payments.count() <= 0 => f64::NAN,
                C::FraudRate => f64::from(frauds) / payments.count() as f64,
                C::FraudRateSmoothed => {
                    let smoothed = f64::from(frauds) + SMOOTHING_RATE * SMOOTHING_PAYMENTS;
                    smoothed / (payments.count().max(0) as f64 + SMOOTHING_PAYMENTS)
                }
                C::SinceFraud if frauds == 0 => f64::NAN,
                C::SinceFraud => (request.time_ms - wide.total.fraud_last_ms).max(0) as f64,
                C::FraudAccountsAt(distance) => near[usize::from(*distance) - 1].map_or(f64::NAN, f64::from),
                C::Count(window) => recent_or_all(&recent, &payments, *window).count() as f64,
                C::Sum(window) => recent_or_all(&recent, &payments, *window).sum() as f64 / plan.unit,
                C::TallyCount(_) => tallies.of(usize::from(*kind)).count() as f64,
                C::TallySum(_) => tallies.of(usize::from(*kind)).sum() as f64 / plan.unit,
                C::Flag(_) if request.raised >> kind & 1 == 0 => 0.0,
                C::Flag(_) => {
                    let mut with_this = tallies;
                    with_this.add(&plan.tallies.adds(request.counted, request.amount, request.time_ms, now_ms));
                    f64::from(u8::from(plan.tallies.flags[usize::from(*kind)].reached(&with_this)))
                }
            };
        }
    }

    /// Accounts with known frauds whose shortest way from an account is over one shared value, two and so on.
    fn frauds_near<P: Member>(
        &self,
        links: &mut Links<P>,
        account: Option<u32>,
        wide: &Component<ClusterFacts>,
    ) -> [Option<u32>; DISTANCE_MAX] {
        let mut near = [Some(0); DISTANCE_MAX];
        let others = |account: &u32| {
            let own = u32::from(links.facts(*account).frauds > 0);
            wide.total.fraud_members > own || (wide.total.frauds > 0 && wide.size as usize > DISTANCE_VALUES_MAX)
        };
        if self.farthest > 0
            && let Some(account) = account.filter(others)
        {
            links.wide_mut().sought_at(account, DISTANCE_VALUES_MAX, &mut near[..self.farthest]);
        }
        near
    }
}

/// How far a measure looks for frauds.
fn distance(measure: &ClusterMeasure) -> usize {
    if let ClusterMeasure::FraudAccountsAt(distance) = measure { usize::from(*distance) } else { 0 }
}

fn hub_share<P: Member>(links: &mut Links<P>, account: Option<u32>, wide: &Component<ClusterFacts>) -> f64 {
    let Some(account) = account.filter(|_| wide.links > 0 && wide.size <= HUB_MEMBERS_MAX) else { return f64::NAN };
    f64::from(links.wide_mut().largest_degree(account)) / f64::from(wide.links)
}

/// The cluster of an account that has no live link.
fn alone() -> Component<ClusterFacts> {
    let mut total = ClusterFacts::default();
    total.members[ACCOUNT as usize] = 1;
    Component::alone(true, total)
}

/// Whether values whose clusters were apart are in one with the account now.
fn merged<P: Member>(links: &Links<P>, account: Option<u32>, joined: &[(u32, ComponentPlace)]) -> bool {
    let Some((account, &(_, first))) = account.zip(joined.first()) else { return false };
    if joined.iter().all(|&(_, place)| place == first) {
        return false;
    }
    let mut here = joined.iter().filter(|(value, _)| links.wide().connected(*value, account)).map(|&(_, place)| place);
    here.next().is_some_and(|first| here.any(|other| other != first))
}

fn recent_or_all(recent: &[Payments; 3], all: &Payments, window: crate::views::velocity::Window) -> Payments {
    span(window).and_then(|span| recent.get(span)).copied().unwrap_or(*all)
}
