//! Identity specs: which fields link accounts, for how long and up to which degree, and which columns come of it.
//!
//! ```
//! use deltawatch::views::identity::{ClusterMeasure as C, Identity};
//! use deltawatch::views::velocity::Window;
//! let identity = Identity::of("account")
//!     .strong("device", 50)                              // at most 50 accounts, or it links none
//!     .strong("card", 50)
//!     .weak("ip", 20).expires(Window::hours(24))         // 90 days unless it says otherwise
//!     .column(C::Size)                                   // cluster_size
//!     .column(C::Members("device".into()))               // cluster_devices
//!     .column(C::StrongSize);                            // cluster_strong_size
//! assert_eq!(identity.names(), ["cluster_size", "cluster_devices", "cluster_strong_size"]);
//! ```

use super::columns::tally::{self, Flag, TalliesPlan, Tally};
use super::columns::{KINDS_MAX, SPANS_MS};
use super::links::{LinkRule, LinkRules};
use super::normalise::{self, Written};
use crate::event::{Event, FieldType, Key, Schema, Slot};
use crate::views::velocity::{Filter, Window};

/// How long a link lives after it was last seen, unless it says otherwise.
pub const EXPIRY_DEFAULT: Window = Window::days(90);
/// The same for fields called `ip`.
pub const EXPIRY_IP: Window = Window::hours(24);

/// One kind of link.
#[derive(Clone, Debug)]
pub struct LinkSpec {
    name: String,
    fields: Vec<String>,
    strong: bool,
    cap: u32,
    expiry_ms: i64,
    written: Written,
}

/// What is read of a transaction's cluster, the links of the transaction itself included. *Missing* is the column's
/// default: 0 for numbers of things, NaN for the rest. `String`s name a link.
#[derive(Clone, Debug, PartialEq)]
pub enum ClusterMeasure {
    /// Members of any kind: `cluster_size`.
    Size,
    /// Accounts: `cluster_accounts`.
    Accounts,
    /// Values of one kind: `cluster_devices`.
    Members(String),
    /// Members that strong links alone connect: `cluster_strong_size`.
    StrongSize,
    /// Accounts that strong links alone connect: `cluster_strong_accounts`.
    StrongAccounts,
    /// Members before this event, 0 for an account without live links: `cluster_size_before`.
    SizeBefore,
    /// 1 if this event joined clusters that had accounts already: `cluster_merges_two`.
    MergesTwo,
    /// Milliseconds since the oldest member was first seen: `cluster_age`.
    Age,
    /// Members first seen in the last 24 hours: `cluster_growth_24h`.
    Growth,
    /// Links that carry: `cluster_links`.
    Links,
    /// Links per member: `cluster_density`.
    Density,
    /// The largest degree per links; missing in a cluster of more than [`super::columns::HUB_MEMBERS_MAX`] members:
    /// `cluster_hub_share`.
    HubShare,
    /// Accounts with a live link to this event's value, whether it carries or not: `device_accounts`.
    Degree(String),
    /// Values of one kind with a live link to the account: `account_devices`.
    AccountDegree(String),
    /// Known frauds of its accounts: `cluster_frauds`.
    Frauds,
    /// Accounts with known frauds: `cluster_fraud_accounts`.
    FraudAccounts,
    /// Known frauds per payment; missing without payments: `cluster_fraud_rate`.
    FraudRate,
    /// The same with `SMOOTHING_PAYMENTS` more payments at a rate of `SMOOTHING_RATE`: `cluster_fraud_rate_smoothed`.
    FraudRateSmoothed,
    /// Milliseconds since the last fraud became known: `cluster_since_fraud`.
    SinceFraud,
    /// Other accounts with known frauds that share a value with this one (1), or share one with such an account (2);
    /// missing if more than [`super::columns::DISTANCE_VALUES_MAX`] values are in reach: `cluster_fraud_accounts_at_1`.
    FraudAccountsAt(u8),
    /// Payments of its accounts before this one in 24 hours, 7 or 30 days, or since they were first seen:
    /// `cluster_count_24h`.
    Count(Window),
    /// Their sum: `cluster_amount_sum_24h`.
    Sum(Window),
    /// Events of its accounts before this one in a tally ([`Identity::tally`]): `cluster_NAME_count_24h`.
    TallyCount(String),
    /// The sum of their amounts: `cluster_NAME_amount_sum_24h`.
    TallySum(String),
    /// 1 if a flag is up, this event counted, else 0; [`Identity::flag`] adds the column: `cluster_NAME_now`.
    Flag(String),
}

/// Payments that smooth a fraud rate.
pub const SMOOTHING_PAYMENTS: f64 = 100.0;
/// The rate they have.
pub const SMOOTHING_RATE: f64 = 0.01;

/// Which accounts share values; see the module documentation.
#[derive(Clone, Debug)]
pub struct Identity {
    account: String,
    account_cap: u32,
    amount: String,
    links: Vec<LinkSpec>,
    tallies: Vec<Tally>,
    flags: Vec<Flag>,
    columns: Vec<ClusterMeasure>,
}

impl Identity {
    /// Clusters of the accounts in a field.
    pub fn of(account: &str) -> Self {
        Identity {
            account: account.into(),
            account_cap: u32::MAX,
            amount: "amount".into(),
            links: Vec::new(),
            tallies: Vec::new(),
            flags: Vec::new(),
            columns: Vec::new(),
        }
    }

    /// An account with more live links than this links no one.
    pub fn account_cap(mut self, cap: u32) -> Self {
        self.account_cap = cap;
        self
    }

    /// The field of amounts that are summed; `amount` unless set.
    pub fn amount(mut self, field: &str) -> Self {
        self.amount = field.into();
        self
    }

    /// Links accounts by a field, in wide and in strong clusters, while at most `cap` live accounts share its value.
    pub fn strong(self, field: &str, cap: u32) -> Self {
        self.link(field, &[field], cap, true)
    }

    /// Links accounts by a field, in wide clusters only.
    pub fn weak(self, field: &str, cap: u32) -> Self {
        self.link(field, &[field], cap, false)
    }

    /// Links accounts by several fields at once: all must be there and agree.
    pub fn link(mut self, name: &str, fields: &[&str], cap: u32, strong: bool) -> Self {
        let expiry = if name == "ip" { EXPIRY_IP } else { EXPIRY_DEFAULT };
        let fields = fields.iter().map(|&field| field.into()).collect();
        let written = Written::by_name(name);
        self.links.push(LinkSpec { name: name.into(), fields, strong, cap, expiry_ms: millis(expiry), written });
        self
    }

    /// How long the last link lives after it was last seen.
    pub fn expires(mut self, after: Window) -> Self {
        if let Some(link) = self.links.last_mut() {
            link.expiry_ms = millis(after);
        }
        self
    }

    /// How the values of the last link are written, if its name does not say.
    pub fn written(mut self, written: Written) -> Self {
        if let Some(link) = self.links.last_mut() {
            link.written = written;
        }
        self
    }

    /// Counts events of a cluster's accounts that pass a filter, and adds up their amounts, over any window that ends. A
    /// filter that names no kind holds for scored kinds only. At most [`tally::TALLIES_MAX`].
    pub fn tally(mut self, name: &str, filter: Filter, window: Window) -> Self {
        self.tallies.push(Tally { name: name.into(), filter, window });
        self
    }

    /// Adds limits on tallies, and their column. At most [`tally::FLAGS_MAX`].
    pub fn flag(mut self, flag: Flag) -> Self {
        self.columns.push(ClusterMeasure::Flag(flag.name.clone()));
        self.flags.push(flag);
        self
    }

    /// Adds a column.
    pub fn column(mut self, measure: ClusterMeasure) -> Self {
        self.columns.push(measure);
        self
    }

    /// The columns, in order.
    pub fn measures(&self) -> &[ClusterMeasure] {
        &self.columns
    }

    /// The links, in a line.
    pub(super) fn describe(&self) -> String {
        let links = self.links.iter().map(|link| {
            let (strength, lives) =
                (if link.strong { "strong" } else { "weak" }, Window::Millis(link.expiry_ms).label());
            format!("{} ({strength}, {lives}, at most {})", link.name, link.cap)
        });
        format!("{} linked by {}", self.account, links.collect::<Vec<_>>().join(", "))
    }

    /// The names of the columns.
    pub fn names(&self) -> Vec<String> {
        self.columns.iter().map(|measure| self.name(measure)).collect()
    }

    fn name(&self, measure: &ClusterMeasure) -> String {
        use ClusterMeasure as C;
        let label = |name: &str| self.tallies.iter().find(|tally| tally.name == name).map(|tally| tally.window.label());
        match measure {
            C::TallyCount(name) => format!("cluster_{name}_count_{}", label(name).unwrap_or_default()),
            C::TallySum(name) => format!("cluster_{name}_amount_sum_{}", label(name).unwrap_or_default()),
            _ => measure.name(&self.account),
        }
    }

    /// Resolves the spec. The error names the field and says what to do.
    pub fn resolve(&self, schema: &Schema) -> Result<IdentityPlan, String> {
        use ClusterMeasure as C;
        let slot = |field: &str, what: &str| {
            schema.slot(field).ok_or_else(|| {
                format!("identity: the schema '{}' has no field '{field}' for {what}; add it there", schema.name())
            })
        };
        let account = slot(&self.account, "accounts")?;
        if self.links.is_empty() || self.links.len() >= KINDS_MAX {
            return Err(format!(
                "identity of '{}' has {} links; give it 1 to {}",
                self.account,
                self.links.len(),
                KINDS_MAX - 1
            ));
        }
        let mut links = Vec::new();
        for (index, link) in self.links.iter().enumerate() {
            if self.links[..index].iter().any(|other| other.name == link.name) || link.name == self.account {
                return Err(format!("identity: '{}' is linked twice; give each link a name of its own", link.name));
            }
            if link.expiry_ms <= 0 {
                return Err(format!("identity: link '{}' must expire after more than 0 ms", link.name));
            }
            let fields = link.fields.iter().map(|field| slot(field, &format!("link '{}'", link.name)));
            links.push(LinkPlan { fields: fields.collect::<Result<_, _>>()?, written: link.written });
        }
        let kind = |name: &String| {
            let at = self.links.iter().position(|link| link.name == *name);
            at.map(|at| at as u8 + 1)
                .ok_or_else(|| format!("identity: no link is called '{name}', which a column names"))
        };
        let tallies = TalliesPlan::resolve(&self.tallies, &self.flags, schema)?;
        let mut kinds = Vec::new();
        for measure in &self.columns {
            kinds.push(match measure {
                C::Members(name) | C::Degree(name) | C::AccountDegree(name) => kind(name)?,
                C::FraudAccountsAt(distance) if !(1..=2).contains(distance) => {
                    return Err(format!("identity: distance {distance} to fraud is not kept; ask for 1 or 2"));
                }
                C::Count(window) | C::Sum(window) if span(*window).is_none() => {
                    return Err(format!(
                        "identity: payments are kept for 24h, 7d, 30d and all, not {}",
                        window.label()
                    ));
                }
                C::TallyCount(name) | C::TallySum(name) => {
                    tally::position(&self.tallies, name).map_err(|reason| format!("identity: {reason}"))? as u8
                }
                C::Flag(name) => {
                    let at = self.flags.iter().position(|flag| flag.name == *name);
                    at.ok_or_else(|| format!("identity: no flag is called '{name}'; add it with `flag`"))? as u8
                }
                _ => 0,
            });
        }
        let sums = tallies.sums || self.columns.iter().any(|measure| matches!(measure, C::Sum(_) | C::TallySum(_)));
        let amount = if sums { Some(slot(&self.amount, "sums of amounts")?) } else { None };
        let unit = amount.map(|slot| schema.field(slot)).filter(|field| field.kind == FieldType::Decimal);
        Ok(IdentityPlan {
            name: self.names().into_iter().next().unwrap_or_default(),
            account,
            amount,
            unit: unit.map_or(1.0, |field| 10f64.powi(i32::from(field.scale))),
            links,
            tallies,
            rules: LinkRules {
                links: self
                    .links
                    .iter()
                    .map(|link| LinkRule { strong: link.strong, expiry_ms: link.expiry_ms, cap: link.cap })
                    .collect(),
                account_cap: self.account_cap,
            },
            columns: self.columns.iter().cloned().zip(kinds).collect(),
        })
    }
}

impl ClusterMeasure {
    /// The column's name.
    fn name(&self, account: &str) -> String {
        use ClusterMeasure as C;
        match self {
            C::Size => "cluster_size".into(),
            C::Accounts => format!("cluster_{}", plural(account)),
            C::Members(link) => format!("cluster_{}", plural(link)),
            C::StrongSize => "cluster_strong_size".into(),
            C::StrongAccounts => format!("cluster_strong_{}", plural(account)),
            C::SizeBefore => "cluster_size_before".into(),
            C::MergesTwo => "cluster_merges_two".into(),
            C::Age => "cluster_age".into(),
            C::Growth => "cluster_growth_24h".into(),
            C::Links => "cluster_links".into(),
            C::Density => "cluster_density".into(),
            C::HubShare => "cluster_hub_share".into(),
            C::Degree(link) => format!("{link}_{}", plural(account)),
            C::AccountDegree(link) => format!("{account}_{}", plural(link)),
            C::Frauds => "cluster_frauds".into(),
            C::FraudAccounts => format!("cluster_fraud_{}", plural(account)),
            C::FraudRate => "cluster_fraud_rate".into(),
            C::FraudRateSmoothed => "cluster_fraud_rate_smoothed".into(),
            C::SinceFraud => "cluster_since_fraud".into(),
            C::FraudAccountsAt(distance) => format!("cluster_fraud_{}_at_{distance}", plural(account)),
            C::Count(window) => format!("cluster_count_{}", window.label()),
            C::Sum(window) => format!("cluster_amount_sum_{}", window.label()),
            // Only the spec knows the window of a tally.
            C::TallyCount(name) | C::TallySum(name) => format!("cluster_{name}"),
            C::Flag(name) => format!("cluster_{name}_now"),
        }
    }

    /// The value of a transaction without an account.
    pub fn default(&self) -> f64 {
        use ClusterMeasure as C;
        match self {
            C::Age | C::Density | C::HubShare | C::FraudRate | C::FraudRateSmoothed | C::SinceFraud => f64::NAN,
            _ => 0.0,
        }
    }
}

fn plural(name: &str) -> String {
    if name.ends_with('s') { format!("{name}es") } else { format!("{name}s") }
}

fn millis(window: Window) -> i64 {
    match window {
        Window::Millis(ms) => ms,
        Window::AllTime => i64::MAX,
    }
}

/// The place of a window in [`SPANS_MS`]; behind them for all time.
pub(super) fn span(window: Window) -> Option<usize> {
    match window {
        Window::AllTime => Some(SPANS_MS.len()),
        Window::Millis(ms) => SPANS_MS.iter().position(|&span| span == ms),
    }
}

/// A link with slots for names.
#[derive(Clone, Debug)]
pub struct LinkPlan {
    fields: Vec<Slot>,
    written: Written,
}

/// An [`Identity`] with slots for names.
#[derive(Clone, Debug)]
pub struct IdentityPlan {
    /// What tells it from others: the name of its first column. Its owner is found by it.
    pub name: String,
    /// The field of the account.
    pub account: Slot,
    /// The field of the amount, if sums are asked for.
    pub amount: Option<Slot>,
    /// Minor units per unit of the amount.
    pub unit: f64,
    /// The links, kind 1 first.
    pub links: Vec<LinkPlan>,
    /// The tallies and their flags.
    pub tallies: TalliesPlan,
    /// Expiry and caps.
    pub rules: LinkRules,
    /// The columns, each with the kind, or the place of the tally or flag, that it names.
    pub columns: Vec<(ClusterMeasure, u8)>,
}

impl IdentityPlan {
    /// Whether a column looks at known frauds.
    pub fn uses_labels(&self) -> bool {
        uses_labels(self.columns.iter().map(|(measure, _)| measure))
    }

    /// Whether payments must be counted per account.
    pub fn uses_payments(&self) -> bool {
        use ClusterMeasure as C;
        let asks = |measure: &C| matches!(measure, C::Count(_) | C::Sum(_) | C::FraudRate | C::FraudRateSmoothed);
        self.columns.iter().any(|(measure, _)| asks(measure))
    }

    /// Whether any events are counted per account.
    pub fn uses_tallies(&self) -> bool {
        !self.tallies.tallies.is_empty()
    }

    /// Whether the number of members and accounts is all that must be known.
    pub fn is_plain(&self) -> bool {
        use ClusterMeasure as C;
        let asks = |measure: &C| matches!(measure, C::Members(_) | C::Age | C::Growth);
        let told = self.columns.iter().any(|(measure, _)| asks(measure));
        !told && !self.uses_labels() && !self.uses_payments() && !self.uses_tallies()
    }

    /// The account of an event, normalised.
    pub fn account_of(&self, event: &Event, schema: &Schema) -> Option<Key> {
        value(event, self.account, Written::Text, schema)
    }

    /// The value of a link of an event, normalised; `None` if a field is missing or a placeholder.
    pub fn value_of(&self, link: usize, event: &Event, schema: &Schema) -> Option<Key> {
        let LinkPlan { fields, written } = &self.links[link];
        let (first, rest) = fields.split_first()?;
        rest.iter().try_fold(value(event, *first, *written, schema)?, |key, &slot| {
            Some(key.pair(value(event, slot, *written, schema)?))
        })
    }
}

pub(super) fn uses_labels<'a>(mut measures: impl Iterator<Item = &'a ClusterMeasure>) -> bool {
    use ClusterMeasure as C;
    measures.any(|measure| {
        matches!(measure, C::Frauds | C::FraudAccounts | C::FraudRate | C::FraudRateSmoothed)
            || matches!(measure, C::SinceFraud | C::FraudAccountsAt(_))
    })
}

fn value(event: &Event, slot: Slot, written: Written, schema: &Schema) -> Option<Key> {
    match schema.field(slot).kind {
        FieldType::Text => normalise::key(written, event.text(slot)?),
        _ => event.int(slot).map(Key::from_int),
    }
}
