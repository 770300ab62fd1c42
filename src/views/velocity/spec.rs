//! Feature specs: what a researcher writes down, by field name, before a schema gives the fields their place.
//!
//! A [`Velocity`] lists the features of one key. Its methods set what holds from here on (windows, filter, lag) or add
//! one feature per window:
//!
//! ```
//! use deltawatch::views::velocity::{Filter, Velocity, Window};
//! let card = Velocity::of("card", &["card"])
//!     .over(&[Window::hours(1), Window::days(1)])
//!     .count()                                  // card_count_1h, card_count_24h
//!     .mean("amount")                           // card_amount_mean_1h, ...
//!     .only("declined", Filter::is("outcome", "declined"))
//!     .count();                                 // card_count_1h_declined, ...
//! assert_eq!(card.features().len(), 6);
//! ```

/// How far back a feature looks: `(t - length, t]`, or everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Window {
    /// A length in milliseconds.
    Millis(i64),
    /// No start; kept as an aggregate beyond the retention.
    AllTime,
}

impl Window {
    /// A window of minutes.
    pub const fn minutes(n: i64) -> Self {
        Window::Millis(n * 60_000)
    }

    /// A window of hours.
    pub const fn hours(n: i64) -> Self {
        Window::Millis(n * 3_600_000)
    }

    /// A window of days.
    pub const fn days(n: i64) -> Self {
        Window::Millis(n * 86_400_000)
    }

    /// The name used in features: `5m`, `1h`, `24h`, `7d`, `all`.
    pub fn label(&self) -> String {
        match *self {
            Window::AllTime => "all".into(),
            Window::Millis(ms) => span_label(ms),
        }
    }
}

/// `5m`, `1h`, `24h` (one day is written so), `7d`.
pub(crate) fn span_label(ms: i64) -> String {
    const DAY: i64 = 86_400_000;
    match ms {
        ms if ms > DAY && ms % DAY == 0 => format!("{}d", ms / DAY),
        ms if ms % 3_600_000 == 0 => format!("{}h", ms / 3_600_000),
        ms if ms % 60_000 == 0 => format!("{}m", ms / 60_000),
        ms if ms % 1000 == 0 => format!("{}s", ms / 1000),
        ms => format!("{ms}ms"),
    }
}

/// A condition over one event: its kind, its own fields, its label.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Filter {
    /// Every event of the kinds that are scored (the default).
    Scored,
    /// Events of one of these kinds.
    Kind(Vec<String>),
    /// A field has this value, written as in a record.
    Is(String, String),
    /// An integer, amount or time field is at least this.
    AtLeast(String, i64),
    /// An integer, amount or time field is a positive multiple of this (round amounts).
    MultipleOf(String, i64),
    /// A field is present.
    Has(String),
    /// The label of the event, if it has one, says this (true: fraud).
    Label(bool),
    /// The event has a label.
    Labelled,
    /// The hour of the day, UTC, is in `[from, to)`.
    Hours(u8, u8),
    /// Both hold.
    And(Box<Filter>, Box<Filter>),
    /// It does not hold.
    Not(Box<Filter>),
}

impl Filter {
    /// A field has this value.
    pub fn is(field: &str, value: &str) -> Self {
        Filter::Is(field.into(), value.into())
    }

    /// Events of one kind.
    pub fn kind(kind: &str) -> Self {
        Filter::Kind(vec![kind.into()])
    }

    /// Both hold.
    pub fn and(self, other: Filter) -> Self {
        Filter::And(Box::new(self), Box::new(other))
    }
}

/// What is computed over the events of the key in the window. `String`s are field names.
#[derive(Clone, Debug, PartialEq)]
pub enum Measure {
    /// Number of events.
    Count,
    /// Sum of an amount; 0 when empty.
    Sum(String),
    /// Mean of an amount.
    Mean(String),
    /// Population standard deviation of an amount.
    Std(String),
    /// Smallest amount.
    Min(String),
    /// Largest amount.
    Max(String),
    /// Quantile of an amount, in thousandths: the value at rank `ceil(q * n)` (nearest rank).
    Quantile(String, u16),
    /// Number of different values of a field.
    Distinct(String),
    /// Share of the counted events that also fulfil a condition; missing when none is counted.
    Ratio(Filter),
    /// Different values divided by events.
    DistinctRatio(String),
    /// Milliseconds since the last counted event before the current one.
    SinceLast,
    /// Milliseconds since the first counted event.
    SinceFirst,
    /// Mean of the gaps between consecutive events, milliseconds.
    GapMean,
    /// Population standard deviation of the gaps.
    GapStd,
    /// Smallest gap.
    GapMin,
    /// 1 when the window holds no counted event (a key never seen, or not in the window), else 0.
    IsNew,
    /// Shannon entropy of the values of a field, in bits, rounded to 2^-32.
    Entropy(String),
    /// Share of the most frequent value of a field.
    TopShare(String),
    /// Most events of the window in any span `(s - ms, s]` that ends with one of them.
    Burst(i64),
    /// Length of the run of counted events since the last event that fulfils the reset condition.
    Streak(Filter),
    /// Number of events whose field has the value of the current event.
    Repeat(String),
    /// (current amount - mean) / standard deviation; missing when the deviation is 0 or fewer than two events.
    ZScore(String),
    /// Current amount / mean; missing when the mean is 0.
    RatioToMean(String),
    /// Current amount / largest; missing when it is 0.
    RatioToMax(String),
    /// Share of events whose amount is below the current one.
    PercentRank(String),
}

/// One feature of one key.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureSpec {
    /// The column name.
    pub name: String,
    /// What is computed.
    pub measure: Measure,
    /// Which events count.
    pub filter: Filter,
    /// How far back.
    pub window: Window,
    /// The window ends this many milliseconds before the event: `(t - lag - length, t - lag]`.
    pub lag_ms: i64,
    /// Whether the current event counts, if it fulfils the filter. Without lag only.
    pub include_current: bool,
    /// Whether an event counts only once its label is available (`available_at <= t`).
    pub as_known: bool,
    /// The value that stands for missing; NaN leaves it missing.
    pub default: f64,
}

/// The features of one key; see the module documentation.
#[derive(Clone, Debug)]
pub struct Velocity {
    key: String,
    fields: Vec<String>,
    features: Vec<FeatureSpec>,
    windows: Vec<Window>,
    filter: Option<(String, Filter)>,
    lag_ms: i64,
    include_current: bool,
    as_known: bool,
    default: f64,
    revise_ms: i64,
}

/// How long a row is revised after its event time, unless the key says otherwise.
pub const REVISE_MS_DEFAULT: i64 = 3_600_000;
/// The same for keys that many events share (merchant, ip).
pub const REVISE_MS_HOT: i64 = 600_000;

impl Velocity {
    /// Features of the key made of one entity field, or of two (a pair).
    pub fn of(key: &str, fields: &[&str]) -> Self {
        Velocity {
            key: key.into(),
            fields: fields.iter().map(|&field| field.into()).collect(),
            features: Vec::new(),
            windows: vec![Window::AllTime],
            filter: None,
            lag_ms: 0,
            include_current: false,
            as_known: false,
            default: f64::NAN,
            revise_ms: REVISE_MS_DEFAULT,
        }
    }

    /// A key shared by many events: its rows are revised for ten minutes only.
    pub fn hot(mut self) -> Self {
        self.revise_ms = REVISE_MS_HOT;
        self
    }

    /// Sets the windows of the measures that follow.
    pub fn over(mut self, windows: &[Window]) -> Self {
        self.windows = windows.to_vec();
        self
    }

    /// Counts only events that fulfil a condition, from here on; `label` ends the names.
    pub fn only(mut self, label: &str, filter: Filter) -> Self {
        self.filter = Some((label.into(), filter));
        self
    }

    /// Counts every scored event again, in time windows that end now.
    pub fn all(mut self) -> Self {
        self.filter = None;
        self.lag_ms = 0;
        self.include_current = false;
        self.as_known = false;
        self.default = f64::NAN;
        self
    }

    /// Counts the current event too, from here on.
    pub fn including_current(mut self) -> Self {
        self.include_current = true;
        self
    }

    /// Ends the windows that follow this long before the event.
    pub fn lagged(mut self, lag: Window) -> Self {
        self.lag_ms = match lag {
            Window::Millis(ms) => ms,
            Window::AllTime => 0,
        };
        self
    }

    /// Counts an event only once its label is available, from here on.
    pub fn as_known(mut self) -> Self {
        self.as_known = true;
        self
    }

    /// The value that stands for missing, from here on.
    pub fn or(mut self, default: f64) -> Self {
        self.default = default;
        self
    }

    /// Adds a measure in every window that is set.
    pub fn measure(mut self, measure: Measure) -> Self {
        for window in self.windows.clone() {
            let name = self.feature_name(&measure, window);
            self.push(name, measure.clone(), window);
        }
        self
    }

    /// Adds one feature with a name of its own.
    pub fn named(mut self, name: &str, measure: Measure, window: Window) -> Self {
        self.push(name.into(), measure, window);
        self
    }

    fn push(&mut self, name: String, measure: Measure, window: Window) {
        self.features.push(FeatureSpec {
            name,
            measure,
            filter: self.filter.as_ref().map_or(Filter::Scored, |(_, filter)| filter.clone()),
            window,
            lag_ms: self.lag_ms,
            include_current: self.include_current,
            as_known: self.as_known,
            default: self.default,
        });
    }

    fn feature_name(&self, measure: &Measure, window: Window) -> String {
        let what = match measure {
            Measure::Count => "count".into(),
            Measure::Sum(field) => format!("{field}_sum"),
            Measure::Mean(field) => format!("{field}_mean"),
            Measure::Std(field) => format!("{field}_std"),
            Measure::Min(field) => format!("{field}_min"),
            Measure::Max(field) => format!("{field}_max"),
            Measure::Quantile(field, 500) => format!("{field}_median"),
            Measure::Quantile(field, permille) if permille % 10 == 0 => format!("{field}_p{}", permille / 10),
            Measure::Quantile(field, permille) => format!("{field}_q{permille}"),
            Measure::Distinct(field) => format!("distinct_{field}"),
            Measure::Ratio(filter) => format!("ratio_{}", filter_label(filter)),
            Measure::DistinctRatio(field) => format!("distinct_{field}_ratio"),
            Measure::SinceLast => "since_last".into(),
            Measure::SinceFirst => "since_first".into(),
            Measure::GapMean => "gap_mean".into(),
            Measure::GapStd => "gap_std".into(),
            Measure::GapMin => "gap_min".into(),
            Measure::IsNew => "is_new".into(),
            Measure::Entropy(field) => format!("{field}_entropy"),
            Measure::TopShare(field) => format!("{field}_top_share"),
            Measure::Burst(ms) => format!("burst_{}", span_label(*ms)),
            Measure::Streak(_) => "streak".into(),
            Measure::Repeat(field) => format!("{field}_repeat"),
            Measure::ZScore(field) => format!("{field}_zscore"),
            Measure::RatioToMean(field) => format!("{field}_to_mean"),
            Measure::RatioToMax(field) => format!("{field}_to_max"),
            Measure::PercentRank(field) => format!("{field}_percent_rank"),
        };
        let mut name = format!("{}_{what}_{}", self.key, window.label());
        if let Some((label, _)) = &self.filter {
            name = format!("{name}_{label}");
        }
        if self.lag_ms > 0 {
            name = format!("{name}_lag{}", span_label(self.lag_ms));
        }
        if self.as_known {
            name.push_str("_known");
        }
        if self.include_current {
            name.push_str("_now");
        }
        name
    }

    /// Number of events.
    pub fn count(self) -> Self {
        self.measure(Measure::Count)
    }

    /// Sum of an amount.
    pub fn sum(self, field: &str) -> Self {
        self.measure(Measure::Sum(field.into()))
    }

    /// Mean of an amount.
    pub fn mean(self, field: &str) -> Self {
        self.measure(Measure::Mean(field.into()))
    }

    /// Population standard deviation of an amount.
    pub fn std(self, field: &str) -> Self {
        self.measure(Measure::Std(field.into()))
    }

    /// Smallest amount.
    pub fn min(self, field: &str) -> Self {
        self.measure(Measure::Min(field.into()))
    }

    /// Largest amount.
    pub fn max(self, field: &str) -> Self {
        self.measure(Measure::Max(field.into()))
    }

    /// Number of different values of a field.
    pub fn distinct(self, field: &str) -> Self {
        self.measure(Measure::Distinct(field.into()))
    }

    /// Share of the counted events that fulfil a condition.
    pub fn ratio(self, filter: Filter) -> Self {
        self.measure(Measure::Ratio(filter))
    }

    /// The key's name.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The fields that make up the key.
    pub fn fields(&self) -> &[String] {
        &self.fields
    }

    /// The features, in the order they were added.
    pub fn features(&self) -> &[FeatureSpec] {
        &self.features
    }

    /// How long a row is revised after its event time, milliseconds.
    pub fn revise_ms(&self) -> i64 {
        self.revise_ms
    }
}

/// A short name for a condition inside a ratio's name.
fn filter_label(filter: &Filter) -> String {
    match filter {
        Filter::Scored => "all".into(),
        Filter::Kind(kinds) => kinds.join("_"),
        Filter::Is(_, value) => value.clone(),
        Filter::AtLeast(field, _) => format!("high_{field}"),
        Filter::MultipleOf(field, _) => format!("round_{field}"),
        Filter::Has(field) => format!("has_{field}"),
        Filter::Label(true) => "fraud".into(),
        Filter::Label(false) => "genuine".into(),
        Filter::Labelled => "labelled".into(),
        Filter::Hours(from, to) => format!("hours_{from}_{to}"),
        Filter::And(a, b) => format!("{}_{}", filter_label(a), filter_label(b)),
        Filter::Not(inner) => format!("not_{}", filter_label(inner)),
    }
}
