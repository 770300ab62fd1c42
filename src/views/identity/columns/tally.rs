//! Tallies and flags: what a researcher writes down to count any events of a cluster's accounts, and their limits.
//!
//! ```
//! use deltawatch::views::identity::{ClusterMeasure as C, Flag, Identity};
//! use deltawatch::views::velocity::{Filter, Window};
//! let identity = Identity::of("account")
//!     .strong("device", 50)
//!     .tally("refunded", Filter::kind("refund"), Window::days(30))
//!     .tally("paid", Filter::kind("payment").and(Filter::is("outcome", "approved")), Window::days(30))
//!     .column(C::TallyCount("refunded".into()))          // cluster_refunded_count_30d
//!     .flag(Flag::named("refund_abuse").count("refunded", 4).share("refunded", "paid", 500));
//! assert_eq!(identity.names(), ["cluster_refunded_count_30d", "cluster_refund_abuse_now"]);
//! ```
//!
//! A tally counts the events that pass its filter in `(t - window, t]`, and adds up their amounts, over the accounts that
//! are members as of the transaction, wherever those were at the time. So a merge adds two tallies, and an un-merge takes
//! away what left: nothing is kept under the name of a cluster, which changes. An account without live links is a
//! cluster of its own.
//!
//! The event that is answered counts in no column, as with payments. It does count in flags, where it passes the filter: a
//! flag says whether the pattern is there *now*, this event included.

use super::facts::{Payments, Tallies};
use crate::event::{Event, Schema};
use crate::views::velocity::{Filter, PlannedFilter, Window};

/// Tallies of one spec at most: every member and every cluster has room for all of them.
pub const TALLIES_MAX: usize = 6;
/// Flags of one spec at most: bits in a request.
pub const FLAGS_MAX: usize = 8;

/// Events that are counted.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    pub name: String,
    pub filter: Filter,
    pub window: Window,
}

/// What a tally must reach; the numbers are at least.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Limit<T> {
    /// So many events.
    Count(T, i64),
    /// So much, in minor units.
    Sum(T, i64),
    /// The first sum is so many thousandths of the second.
    Share(T, T, i64),
}

/// A pattern that counts: all its limits are reached, and the event itself passes a filter, if one is set. The column is
/// `cluster_NAME_now`, 1 or 0.
#[derive(Clone, Debug)]
pub struct Flag {
    pub(crate) name: String,
    limits: Vec<Limit<String>>,
    when: Option<Filter>,
}

impl Flag {
    /// A flag without limits, which must get at least one.
    pub fn named(name: &str) -> Self {
        Flag { name: name.into(), limits: Vec::new(), when: None }
    }

    /// The tally counts at least so many events.
    pub fn count(self, tally: &str, at_least: i64) -> Self {
        self.limit(Limit::Count(tally.into(), at_least))
    }

    /// The amounts of the tally add up to at least this, in minor units (cents), as in [`Filter::AtLeast`].
    pub fn sum(self, tally: &str, at_least: i64) -> Self {
        self.limit(Limit::Sum(tally.into(), at_least))
    }

    /// The amounts of one tally are at least so many thousandths of those of another; any are of none.
    pub fn share(self, tally: &str, of: &str, thousandths: i64) -> Self {
        self.limit(Limit::Share(tally.into(), of.into(), thousandths))
    }

    /// The event that is answered passes a filter, too.
    pub fn when(mut self, filter: Filter) -> Self {
        self.when = Some(filter);
        self
    }

    fn limit(mut self, limit: Limit<String>) -> Self {
        self.limits.push(limit);
        self
    }
}

/// A tally with slots for names.
#[derive(Clone, Debug)]
pub struct TallyPlan {
    condition: PlannedFilter,
    /// How long an event counts, milliseconds.
    pub window_ms: i64,
}

/// A [`Flag`] with slots for names and places for tallies.
#[derive(Clone, Debug)]
pub struct FlagPlan {
    pub(crate) limits: Vec<Limit<usize>>,
    when: Option<PlannedFilter>,
}

impl FlagPlan {
    /// Whether tallies reach all limits. Sums are compared in whole thousandths, so nothing is rounded.
    pub fn reached(&self, tallies: &Tallies) -> bool {
        let sum = |tally: usize| tallies.of(tally).sum();
        self.limits.iter().all(|limit| match *limit {
            Limit::Count(tally, least) => tallies.of(tally).count() >= least,
            Limit::Sum(tally, least) => sum(tally) >= i128::from(least),
            Limit::Share(tally, of, thousandths) => {
                sum(tally).saturating_mul(1_000) >= sum(of).saturating_mul(i128::from(thousandths))
            }
        })
    }
}

/// The tallies and flags of a spec, with slots for names.
#[derive(Clone, Debug, Default)]
pub struct TalliesPlan {
    /// The tallies; a flag names them by place.
    pub tallies: Vec<TallyPlan>,
    /// The flags.
    pub flags: Vec<FlagPlan>,
    /// Whether a flag looks at amounts.
    pub(crate) sums: bool,
}

impl TalliesPlan {
    /// Resolves tallies and flags. The error names the one and says what to do.
    pub(crate) fn resolve(tallies: &[Tally], flags: &[Flag], schema: &Schema) -> Result<Self, String> {
        if tallies.len() > TALLIES_MAX || flags.len() > FLAGS_MAX {
            return Err(format!(
                "identity has {} tallies and {} flags; at most {TALLIES_MAX} and {FLAGS_MAX} are kept, so drop some, or \
                 let flags share a tally",
                tallies.len(),
                flags.len()
            ));
        }
        let mut plan = TalliesPlan::default();
        for (index, tally) in tallies.iter().enumerate() {
            let named = |reason: String| format!("identity: tally '{}': {reason}", tally.name);
            if tallies[..index].iter().any(|other| other.name == tally.name) {
                return Err(named("there are two of this name; give each a name of its own".into()));
            }
            let Window::Millis(window_ms @ 1..) = tally.window else {
                return Err(named(
                    "it needs a window that is longer than 0 and ends: events leave it one by one".into(),
                ));
            };
            plan.tallies.push(TallyPlan { condition: condition(&tally.filter, schema).map_err(named)?, window_ms });
        }
        let place = |name: &String| position(tallies, name);
        for (index, flag) in flags.iter().enumerate() {
            let named = |reason: String| format!("identity: flag '{}': {reason}", flag.name);
            if flags[..index].iter().any(|other| other.name == flag.name) {
                return Err(named("there are two of this name; give each a name of its own".into()));
            }
            if flag.limits.is_empty() {
                return Err(named("it has no limit; give it a count, a sum or a share".into()));
            }
            let limits = flag.limits.iter().map(|limit| {
                Ok(match limit {
                    Limit::Count(tally, least) => Limit::Count(place(tally)?, *least),
                    Limit::Sum(tally, least) => Limit::Sum(place(tally)?, *least),
                    Limit::Share(tally, of, thousandths) => Limit::Share(place(tally)?, place(of)?, *thousandths),
                })
            });
            let limits: Vec<Limit<usize>> = limits.collect::<Result<_, String>>().map_err(named)?;
            plan.sums |= limits.iter().any(|limit| !matches!(limit, Limit::Count(..)));
            let when = flag.when.as_ref().map(|filter| condition(filter, schema)).transpose().map_err(named)?;
            plan.flags.push(FlagPlan { limits, when });
        }
        Ok(plan)
    }

    /// The tallies that an event counts in, one bit each.
    pub fn counted(&self, event: &Event, schema: &Schema) -> u8 {
        bits(self.tallies.iter().map(|tally| tally.condition.holds(event, None, schema)))
    }

    /// The flags that an event may raise, one bit each.
    pub fn raised(&self, event: &Event, schema: &Schema) -> u8 {
        bits(self.flags.iter().map(|flag| flag.when.as_ref().is_none_or(|when| when.holds(event, None, schema))))
    }

    /// What an event adds to each tally at a time: nothing to those it is not counted in, or too old for.
    pub fn adds(&self, counted: u8, amount: i64, time_ms: i64, now_ms: i64) -> Tallies {
        let mut adds = Tallies::default();
        for (place, tally) in self.tallies.iter().enumerate() {
            if counted >> place & 1 == 1 && time_ms > now_ms.saturating_sub(tally.window_ms) {
                adds.add_one(place, Payments::new(1, amount));
            }
        }
        adds
    }
}

/// The place of a tally.
pub(crate) fn position(tallies: &[Tally], name: &str) -> Result<usize, String> {
    let at = tallies.iter().position(|tally| tally.name == name);
    at.ok_or_else(|| format!("no tally is called '{name}'; add it with `tally`"))
}

fn condition(filter: &Filter, schema: &Schema) -> Result<PlannedFilter, String> {
    let condition = PlannedFilter::resolve(filter, schema)?;
    if condition.uses_labels() {
        return Err("labels come after their events; use the columns of known frauds".into());
    }
    Ok(condition)
}

fn bits(holds: impl Iterator<Item = bool>) -> u8 {
    holds.enumerate().fold(0, |bits, (bit, holds)| bits | u8::from(holds) << bit)
}
