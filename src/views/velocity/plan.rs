//! Specs resolved against a schema: what one key keeps per event, and what is read from it.
//!
//! Every condition of a key becomes one bit of an entry's *mask*, every amount and every compared field a column. The
//! same bit serves all features with the same condition, so a key with a hundred features keeps a few columns.

use xxhash_rust::xxh3::xxh3_64;

use super::{Filter, Measure, Velocity, Window};
use crate::event::{Event, FieldType, Key, Schema, Slot};

/// The most conditions a key may have: bits of a `u64`, one of which is kept for whether the entry is scored.
pub const CONDITIONS_MAX: usize = 63;

/// What one key keeps per event (an *entry*) and which features are read from it.
#[derive(Clone, Debug)]
pub struct KeyPlan {
    /// The key's name.
    pub name: String,
    /// A hash of its specs: of all that decides what is kept of it.
    pub fingerprint: u64,
    /// The field, or the two fields, that make up the key.
    pub fields: Vec<Slot>,
    /// Conditions, one bit of the mask each.
    pub conditions: Vec<PlannedFilter>,
    /// Amount columns (`i64`): what sums, means and extremes are taken of.
    pub amounts: Vec<Slot>,
    /// Value columns (64-bit fingerprints): what is counted as distinct or compared.
    pub values: Vec<Slot>,
    /// The features, in column order.
    pub features: Vec<PlannedFeature>,
    /// How long an entry can matter: the longest finite lag + window, milliseconds.
    pub window_ms_max: i64,
    /// How long a row is revised after its event time, milliseconds.
    pub revise_ms: i64,
    /// An entry touches no row sooner than this after it, milliseconds: the shortest lag.
    pub lag_ms_min: i64,
    /// Whether a feature looks at labels, so that a label that arrives changes entries.
    pub uses_labels: bool,
    /// The shortest lag of a feature to which a label counts whenever it came, milliseconds.
    pub label_lag_ms: Option<i64>,
    /// The shortest lag of a feature to which a label counts once it is available, milliseconds.
    pub known_lag_ms: Option<i64>,
}

/// One feature of a key, resolved. `bit` says which entries count.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedFeature {
    /// The column name.
    pub name: String,
    /// What is computed.
    pub measure: PlannedMeasure,
    /// An entry counts if this bit of its mask is set.
    pub bit: u8,
    /// Window length in milliseconds; `None` for all time.
    pub window_ms: Option<i64>,
    /// The window ends this many milliseconds before the event.
    pub lag_ms: i64,
    /// Whether the current event counts.
    pub include_current: bool,
    /// Whether an entry counts only once its label is available.
    pub as_known: bool,
    /// Stands for missing.
    pub default: f64,
    /// Integer units of state per unit of the result: `10^scale` for a sum, mean, deviation, extreme or quantile of a
    /// decimal field (100 for cents), else 1. State stays in integers; the result becomes a double once, at the end, by
    /// exactly one division (with `n` entries, `s` their sum, `q` the sum of their squares, all integers):
    ///
    /// * sum, min, max, quantile of integer value `x`: `x as f64 / unit`
    /// * mean: `s as f64 / (n as f64 * unit)`
    /// * std: `((n * q - s * s) as f64).sqrt() / (n as f64 * unit)`, with `n * q - s * s` exact
    ///
    /// Every operand below 2^53 is exact, so sum, mean and extremes are the correctly rounded values.
    pub unit: f64,
}

/// [`Measure`] with columns for names. `usize`s index [`KeyPlan::amounts`] or [`KeyPlan::values`]; `u8`s are bits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PlannedMeasure {
    /// Number of entries.
    Count,
    /// Sum of an amount column.
    Sum(usize),
    /// Mean of an amount column.
    Mean(usize),
    /// Population standard deviation of an amount column.
    Std(usize),
    /// Smallest of an amount column.
    Min(usize),
    /// Largest of an amount column.
    Max(usize),
    /// Nearest-rank quantile of an amount column, in thousandths.
    Quantile(usize, u16),
    /// Different values of a value column.
    Distinct(usize),
    /// Entries with this bit (which implies the feature's own) per counted entry.
    Ratio(u8),
    /// Different values of a value column per entry.
    DistinctRatio(usize),
    /// Milliseconds since the last counted entry.
    SinceLast,
    /// Milliseconds since the first counted entry.
    SinceFirst,
    /// Mean gap between consecutive counted entries.
    GapMean,
    /// Population standard deviation of the gaps.
    GapStd,
    /// Smallest gap.
    GapMin,
    /// 1 if no entry counts.
    IsNew,
    /// Entropy of a value column, bits.
    Entropy(usize),
    /// Share of the most frequent value of a value column.
    TopShare(usize),
    /// Most entries in any span of so many milliseconds.
    Burst(i64),
    /// Counted entries since the last entry with this reset bit.
    Streak(u8),
    /// Entries with the current event's value in a value column.
    Repeat(usize),
    /// Deviation of the current amount from the mean, in standard deviations.
    ZScore(usize),
    /// Current amount per mean.
    RatioToMean(usize),
    /// Current amount per largest.
    RatioToMax(usize),
    /// Share of entries with an amount below the current one.
    PercentRank(usize),
}

/// A [`Filter`] with slots for names.
#[derive(Clone, Debug, PartialEq)]
pub enum PlannedFilter {
    /// One of these kinds.
    Kind(Vec<u16>),
    /// A field's fingerprint equals this.
    Is(Slot, u64),
    /// A field is at least this.
    AtLeast(Slot, i64),
    /// A field is a positive multiple of this.
    MultipleOf(Slot, i64),
    /// A field is present.
    Has(Slot),
    /// The label says this.
    Label(bool),
    /// There is a label.
    Labelled,
    /// Hour of the day in `[from, to)`.
    Hours(u8, u8),
    /// All hold.
    All(Vec<PlannedFilter>),
    /// It does not hold.
    Not(Box<PlannedFilter>),
}

impl PlannedFilter {
    /// Resolves a filter; one that names no kind holds for scored kinds only. The error names what the schema lacks.
    pub fn resolve(filter: &Filter, schema: &Schema) -> Result<Self, String> {
        condition(filter, schema)
    }

    /// Whether it holds for an event and its label.
    pub fn holds(&self, event: &Event, label: Option<bool>, schema: &Schema) -> bool {
        self.holds_by(event, label, &|slot| event.fingerprint(slot, schema))
    }

    /// The same, where someone knows the fingerprints of the event's fields.
    pub fn holds_by(&self, event: &Event, label: Option<bool>, fingerprint: &impl Fn(Slot) -> Option<u64>) -> bool {
        match self {
            PlannedFilter::Kind(kinds) => kinds.contains(&event.kind),
            PlannedFilter::Is(slot, value) => fingerprint(*slot) == Some(*value),
            PlannedFilter::AtLeast(slot, least) => event.int(*slot).is_some_and(|value| value >= *least),
            PlannedFilter::MultipleOf(slot, unit) => {
                event.int(*slot).is_some_and(|value| value > 0 && value % unit == 0)
            }
            PlannedFilter::Has(slot) => event.has(*slot),
            PlannedFilter::Label(says) => label == Some(*says),
            PlannedFilter::Labelled => label.is_some(),
            PlannedFilter::Hours(from, to) => {
                let hour = event.time.div_euclid(3_600_000).rem_euclid(24) as u8;
                *from <= hour && hour < *to
            }
            PlannedFilter::All(all) => all.iter().all(|one| one.holds_by(event, label, fingerprint)),
            PlannedFilter::Not(inner) => !inner.holds_by(event, label, fingerprint),
        }
    }

    /// Visits the fields whose fingerprints it looks at.
    pub fn each_fingerprint(&self, visit: &mut dyn FnMut(Slot)) {
        match self {
            PlannedFilter::Is(slot, _) => visit(*slot),
            PlannedFilter::All(all) => all.iter().for_each(|one| one.each_fingerprint(visit)),
            PlannedFilter::Not(inner) => inner.each_fingerprint(visit),
            _ => {}
        }
    }

    /// Whether it looks at labels.
    pub fn uses_labels(&self) -> bool {
        match self {
            PlannedFilter::Label(_) | PlannedFilter::Labelled => true,
            PlannedFilter::All(all) => all.iter().any(PlannedFilter::uses_labels),
            PlannedFilter::Not(inner) => inner.uses_labels(),
            _ => false,
        }
    }
}

impl KeyPlan {
    /// Resolves the features of one key. The error names the feature, the field and what to do.
    pub fn resolve(velocity: &Velocity, schema: &Schema) -> Result<Self, String> {
        let fields = velocity.fields().iter().map(|name| slot(schema, name)).collect::<Result<Vec<_>, _>>()?;
        if fields.is_empty() || fields.len() > 2 {
            return Err(format!("key '{}' has {} fields; a key is one field or a pair", velocity.key(), fields.len()));
        }
        let mut plan = KeyPlan {
            name: velocity.key().to_owned(),
            fingerprint: xxh3_64(format!("{velocity:?}").as_bytes()),
            fields,
            conditions: Vec::new(),
            amounts: Vec::new(),
            values: Vec::new(),
            features: Vec::new(),
            window_ms_max: 0,
            lag_ms_min: 0,
            revise_ms: velocity.revise_ms(),
            uses_labels: false,
            label_lag_ms: None,
            known_lag_ms: None,
        };
        for spec in velocity.features() {
            let feature = plan.feature(spec, schema).map_err(|reason| format!("feature '{}': {reason}", spec.name))?;
            if let Some(length) = feature.window_ms {
                plan.window_ms_max = plan.window_ms_max.max(length + feature.lag_ms);
            } else {
                plan.window_ms_max = plan.window_ms_max.max(feature.lag_ms);
            }
            plan.features.push(feature);
        }
        plan.lag_ms_min = plan.features.iter().map(|feature| feature.lag_ms).min().unwrap_or(0);
        plan.known_lag_ms = plan.features.iter().filter(|f| f.as_known).map(|f| f.lag_ms).min();
        let at_once = plan.features.iter().filter(|f| !f.as_known && plan.looks_at_labels(f));
        plan.label_lag_ms = at_once.map(|f| f.lag_ms).min();
        plan.uses_labels = plan.known_lag_ms.is_some() || plan.label_lag_ms.is_some();
        Ok(plan)
    }

    fn feature(&mut self, spec: &super::FeatureSpec, schema: &Schema) -> Result<PlannedFeature, String> {
        if spec.include_current && spec.lag_ms > 0 {
            return Err("a lagged window cannot include the current event; drop one of the two".into());
        }
        let base = condition(&spec.filter, schema)?;
        let window_ms = match spec.window {
            Window::Millis(ms) if ms <= 0 => return Err("the window must be longer than 0".into()),
            Window::Millis(ms) => Some(ms),
            Window::AllTime => None,
        };
        if window_ms.is_none() && (spec.as_known || !measure_allows_all_time(&spec.measure)) {
            return Err("this measure needs a finite window; choose one of up to 90 days".into());
        }
        use PlannedMeasure as P;
        let mut field_bit = None;
        let measure = match &spec.measure {
            Measure::Count => P::Count,
            Measure::Sum(f) => P::Sum(self.amount(f, &mut field_bit, schema)?),
            Measure::Mean(f) => P::Mean(self.amount(f, &mut field_bit, schema)?),
            Measure::Std(f) => P::Std(self.amount(f, &mut field_bit, schema)?),
            Measure::Min(f) => P::Min(self.amount(f, &mut field_bit, schema)?),
            Measure::Max(f) => P::Max(self.amount(f, &mut field_bit, schema)?),
            Measure::Quantile(f, q) if (1..=1000).contains(q) => {
                P::Quantile(self.amount(f, &mut field_bit, schema)?, *q)
            }
            Measure::Quantile(_, q) => return Err(format!("quantile {q} is outside 1..=1000 thousandths")),
            Measure::Distinct(f) => P::Distinct(self.value(f, &mut field_bit, schema)?),
            Measure::DistinctRatio(f) => P::DistinctRatio(self.value(f, &mut field_bit, schema)?),
            Measure::Entropy(f) => P::Entropy(self.value(f, &mut field_bit, schema)?),
            Measure::TopShare(f) => P::TopShare(self.value(f, &mut field_bit, schema)?),
            Measure::Repeat(f) => P::Repeat(self.value(f, &mut field_bit, schema)?),
            Measure::ZScore(f) => P::ZScore(self.amount(f, &mut field_bit, schema)?),
            Measure::RatioToMean(f) => P::RatioToMean(self.amount(f, &mut field_bit, schema)?),
            Measure::RatioToMax(f) => P::RatioToMax(self.amount(f, &mut field_bit, schema)?),
            Measure::PercentRank(f) => P::PercentRank(self.amount(f, &mut field_bit, schema)?),
            Measure::Ratio(filter) => {
                let both = all([base.clone(), condition(filter, schema)?]);
                P::Ratio(self.bit(both)?)
            }
            Measure::Streak(filter) => P::Streak(self.bit(condition(filter, schema)?)?),
            Measure::SinceLast => P::SinceLast,
            Measure::SinceFirst => P::SinceFirst,
            Measure::GapMean => P::GapMean,
            Measure::GapStd => P::GapStd,
            Measure::GapMin => P::GapMin,
            Measure::IsNew => P::IsNew,
            Measure::Burst(ms) if *ms > 0 => P::Burst(*ms),
            Measure::Burst(_) => return Err("the span of a burst must be longer than 0".into()),
        };
        let unit = match measure {
            P::Sum(column) | P::Mean(column) | P::Std(column) => unit_of(schema, self.amounts[column]),
            P::Min(column) | P::Max(column) | P::Quantile(column, _) => unit_of(schema, self.amounts[column]),
            _ => 1.0,
        };
        let counted = match field_bit {
            Some(slot) => all([base, PlannedFilter::Has(slot)]),
            None => base,
        };
        Ok(PlannedFeature {
            name: spec.name.clone(),
            measure,
            bit: self.bit(counted)?,
            window_ms,
            lag_ms: spec.lag_ms,
            include_current: spec.include_current,
            as_known: spec.as_known,
            default: spec.default,
            unit,
        })
    }

    fn looks_at_labels(&self, feature: &PlannedFeature) -> bool {
        let of_measure = match feature.measure {
            PlannedMeasure::Ratio(bit) | PlannedMeasure::Streak(bit) => bit,
            _ => feature.bit,
        };
        [feature.bit, of_measure].iter().any(|&bit| self.conditions[bit as usize].uses_labels())
    }

    /// The event time from which rows change when an event gets its first label; `None` if no feature looks at labels.
    pub fn label_touches_from(&self, time: i64, available_at: i64) -> Option<i64> {
        let at_once = self.label_lag_ms.map(|lag| time.saturating_add(lag));
        let known = self.known_lag_ms.map(|lag| time.saturating_add(lag).max(available_at));
        at_once.into_iter().chain(known).min()
    }

    fn bit(&mut self, condition: PlannedFilter) -> Result<u8, String> {
        let index = index_of(&mut self.conditions, condition);
        if index >= CONDITIONS_MAX {
            return Err(format!("key '{}' has more than {CONDITIONS_MAX} different conditions", self.name));
        }
        Ok(index as u8)
    }

    fn amount(&mut self, name: &str, bit: &mut Option<Slot>, schema: &Schema) -> Result<usize, String> {
        let slot = slot(schema, name)?;
        if !matches!(schema.field(slot).kind, FieldType::Int | FieldType::Decimal | FieldType::Time | FieldType::Bool) {
            return Err(format!("field '{name}' is not an integer; declare it as decimal with a scale"));
        }
        // An optional field counts only where it is present; a required one needs no bit of its own.
        if !schema.field(slot).required {
            *bit = Some(slot);
        }
        Ok(index_of(&mut self.amounts, slot))
    }

    fn value(&mut self, name: &str, bit: &mut Option<Slot>, schema: &Schema) -> Result<usize, String> {
        let slot = slot(schema, name)?;
        if !schema.field(slot).required {
            *bit = Some(slot);
        }
        Ok(index_of(&mut self.values, slot))
    }

    /// The key of an event, if it has all the fields.
    #[inline]
    pub fn key_of(&self, event: &Event, schema: &Schema) -> Option<Key> {
        let first = event.key(self.fields[0], schema)?;
        match self.fields.get(1) {
            None => Some(first),
            Some(second) => Some(first.pair(event.key(*second, schema)?)),
        }
    }

    /// The mask of an event: one bit per condition.
    #[inline]
    pub fn mask_of(&self, event: &Event, label: Option<bool>, schema: &Schema) -> u64 {
        let holds = |condition: &PlannedFilter| condition.holds(event, label, schema) as u64;
        self.conditions.iter().enumerate().fold(0, |mask, (bit, condition)| mask | holds(condition) << bit)
    }
}

/// Integer units per unit of a field: `10^scale` of a decimal, 1 of anything else.
fn unit_of(schema: &Schema, slot: Slot) -> f64 {
    let field = schema.field(slot);
    if field.kind == FieldType::Decimal { 10f64.powi(i32::from(field.scale)) } else { 1.0 }
}

fn measure_allows_all_time(measure: &Measure) -> bool {
    matches!(
        measure,
        Measure::Count
            | Measure::Sum(_)
            | Measure::Mean(_)
            | Measure::Std(_)
            | Measure::Min(_)
            | Measure::Max(_)
            | Measure::Ratio(_)
            | Measure::SinceLast
            | Measure::SinceFirst
            | Measure::IsNew
            | Measure::ZScore(_)
            | Measure::RatioToMean(_)
            | Measure::RatioToMax(_)
    )
}

fn slot(schema: &Schema, name: &str) -> Result<Slot, String> {
    schema
        .slot(name)
        .ok_or_else(|| format!("the schema '{}' has no field '{name}'; add it there or use another", schema.name()))
}

fn index_of<T: PartialEq>(list: &mut Vec<T>, item: T) -> usize {
    list.iter().position(|known| *known == item).unwrap_or_else(|| {
        list.push(item);
        list.len() - 1
    })
}

/// A conjunction without nesting, so that equal conditions compare equal.
fn all(parts: [PlannedFilter; 2]) -> PlannedFilter {
    let mut flat = Vec::new();
    for part in parts {
        let inner = match part {
            PlannedFilter::All(inner) => inner,
            one => vec![one],
        };
        for one in inner {
            index_of(&mut flat, one);
        }
    }
    if flat.len() == 1 { flat.remove(0) } else { PlannedFilter::All(flat) }
}

/// Resolves a filter; a condition that names no kind holds for scored kinds only.
fn condition(filter: &Filter, schema: &Schema) -> Result<PlannedFilter, String> {
    let scored = || PlannedFilter::Kind((0..schema.kinds().len() as u16).filter(|&k| schema.is_scored(k)).collect());
    if names_kind(filter) { bare(filter, schema) } else { Ok(all([scored(), bare(filter, schema)?])) }
}

fn names_kind(filter: &Filter) -> bool {
    match filter {
        Filter::Kind(_) | Filter::Scored => true,
        Filter::And(a, b) => names_kind(a) || names_kind(b),
        Filter::Not(inner) => names_kind(inner),
        _ => false,
    }
}

fn bare(filter: &Filter, schema: &Schema) -> Result<PlannedFilter, String> {
    Ok(match filter {
        Filter::Scored => {
            PlannedFilter::Kind((0..schema.kinds().len() as u16).filter(|&k| schema.is_scored(k)).collect())
        }
        Filter::Kind(kinds) => PlannedFilter::Kind(
            kinds
                .iter()
                .map(|kind| {
                    schema.kind(kind).ok_or_else(|| format!("the schema has no kind '{kind}'; add it to kinds"))
                })
                .collect::<Result<_, _>>()?,
        ),
        Filter::Is(name, value) => {
            let slot = slot(schema, name)?;
            PlannedFilter::Is(slot, constant(schema, slot, value)?)
        }
        Filter::AtLeast(name, least) => PlannedFilter::AtLeast(slot(schema, name)?, *least),
        Filter::MultipleOf(name, unit) if *unit > 0 => PlannedFilter::MultipleOf(slot(schema, name)?, *unit),
        Filter::MultipleOf(name, unit) => return Err(format!("'{name}' cannot be a multiple of {unit}")),
        Filter::Has(name) => PlannedFilter::Has(slot(schema, name)?),
        Filter::Label(says) => PlannedFilter::Label(*says),
        Filter::Labelled => PlannedFilter::Labelled,
        Filter::Hours(from, to) => PlannedFilter::Hours(*from, *to),
        Filter::And(a, b) => all([bare(a, schema)?, bare(b, schema)?]),
        Filter::Not(inner) => PlannedFilter::Not(Box::new(bare(inner, schema)?)),
    })
}

/// The fingerprint of a constant written as in a record.
fn constant(schema: &Schema, slot: Slot, value: &str) -> Result<u64, String> {
    let field = schema.field(slot);
    let wrong = || format!("'{value}' is not a value of field '{}'", field.name);
    Ok(match field.kind {
        FieldType::Text => xxhash_rust::xxh3::xxh3_64(value.as_bytes()),
        FieldType::Float => value.parse::<f64>().map_err(|_| wrong())?.to_bits(),
        FieldType::Bool => match value {
            "true" | "1" => 1,
            "false" | "0" => 0,
            _ => return Err(wrong()),
        },
        FieldType::Int | FieldType::Decimal | FieldType::Time => value.parse::<i64>().map_err(|_| wrong())? as u64,
    })
}
