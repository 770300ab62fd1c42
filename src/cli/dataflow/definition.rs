//! Features in words: what exactly is counted, in which units, and what stands for nothing.

use crate::event::{FieldType, Schema};
use crate::views::velocity::store::ALL_TIME_IDLE_MS;
use crate::views::velocity::{FeatureSpec, Filter, Measure, Window};

/// What holds for every feature of a key, one sentence each.
pub fn notes() -> Vec<String> {
    let forget = Window::Millis(ALL_TIME_IDLE_MS).label();
    [
        "a window of length W is (t - W, t], t being the event's time; with a lag D it is (t - D - W, t - D]",
        "events of one time are in the order of their ranks, then ids; this event counts only where that is said, and no event after it",
        "a condition that names no kind holds for events of the scored kinds only",
        "decimal fields are whole minor units inside: conditions compare minor units; sums, means, deviations, extremes and quantiles are given in the field's own unit",
        "an event without the field that is added up or compared does not count",
        "nothing counted: counts, sums, distinct values, bursts, streaks and repeats are 0, is_new is 1, all else is missing",
        "an event without a field of the key has no features of it: all are missing, counts too, or their default; and it counts in no other event's",
        "a measure that compares with this event is missing if this event lacks the field",
        "labels count whenever they come, also those that become known after the event, lag or not: a late label revises the row; 'labels as known' counts a label from its available_at on",
    ]
    .into_iter()
    .map(str::to_owned)
    .chain([format!(
        "a feature over all time begins anew when its key was silent for longer than --forget ({forget} unless set), and than its longest window, whatever the horizon; until then its sums are kept"
    )])
    .collect()
}

/// One feature.
pub fn definition(feature: &FeatureSpec, schema: &Schema) -> String {
    let mut text = measure(&feature.measure, schema);
    match feature.window {
        Window::AllTime => text.push_str(", over all time"),
        window => text += &format!(", over {}", window.label()),
    }
    if feature.lag_ms > 0 {
        text += &format!(" up to {} before", Window::Millis(feature.lag_ms).label());
    }
    if feature.include_current {
        text.push_str(", this event included");
    }
    if feature.as_known {
        text.push_str(", labels as known");
    }
    if feature.filter != Filter::Scored {
        text += &format!(", where {}", condition(&feature.filter, schema));
    }
    if !feature.default.is_nan() {
        text += &format!(", {} if missing", feature.default);
    }
    text
}

fn measure(measure: &Measure, schema: &Schema) -> String {
    match measure {
        Measure::Count => "number of events".into(),
        Measure::Sum(field) => format!("sum of {field}"),
        Measure::Mean(field) => format!("mean of {field}"),
        Measure::Std(field) => format!("population standard deviation of {field}"),
        Measure::Min(field) => format!("smallest {field}"),
        Measure::Max(field) => format!("largest {field}"),
        Measure::Quantile(field, permille) => {
            format!("{field} at rank ceil({} * n) of n from the smallest", f64::from(*permille) / 1000.0)
        }
        Measure::Distinct(field) => format!("number of different values of {field}"),
        Measure::Ratio(filter) => format!("share of the counted events where also {}", condition(filter, schema)),
        Measure::DistinctRatio(field) => {
            format!("number of different values of {field} divided by the number of counted events that have one")
        }
        Measure::SinceLast => "milliseconds since the last counted event before this one".into(),
        Measure::SinceFirst => "milliseconds since the first counted event".into(),
        Measure::GapMean => "mean gap between consecutive counted events, milliseconds".into(),
        Measure::GapStd => "population standard deviation of the gaps between counted events, milliseconds".into(),
        Measure::GapMin => "smallest gap between consecutive counted events, milliseconds".into(),
        Measure::IsNew => "1 if no event is counted, else 0".into(),
        Measure::Entropy(field) => format!("entropy of the values of {field} to base 2 (bits), rounded to 2^-32"),
        Measure::TopShare(field) => {
            format!("share of the most frequent value of {field} in the counted events that have one")
        }
        Measure::Burst(ms) => {
            let span = Window::Millis(*ms).label();
            format!("most counted events in any {span} of the window, (s - {span}, s], that ends with one of them")
        }
        Measure::Streak(reset) => format!(
            "number of counted events since the last event of the key in the window where {}, which ends the run and does \
             not count; events that do neither are passed over",
            condition(reset, schema)
        ),
        Measure::Repeat(field) => format!("number of counted events whose {field} is this event's"),
        Measure::ZScore(field) => format!(
            "(this event's {field} - mean) / population standard deviation; missing if fewer than two events count or they \
             do not deviate"
        ),
        Measure::RatioToMean(field) => format!("this event's {field} / mean; missing if that is 0"),
        Measure::RatioToMax(field) => format!("this event's {field} / largest; missing if that is 0"),
        Measure::PercentRank(field) => {
            format!(
                "share of the counted events whose {field} is below this event's, strictly: equal ones are not below"
            )
        }
    }
}

/// A condition with its units.
fn condition(filter: &Filter, schema: &Schema) -> String {
    match filter {
        Filter::Scored => "the kind is scored".into(),
        Filter::Kind(kinds) => format!("the kind is {}", kinds.join(" or ")),
        Filter::Is(field, value) => match value.parse() {
            Ok(number) => format!("{field} = {}", amount(field, number, schema)),
            Err(_) => format!("{field} = {value}"),
        },
        Filter::AtLeast(field, least) => format!("{field} >= {}", amount(field, *least, schema)),
        Filter::MultipleOf(field, of) => format!("{field} is a positive multiple of {}", amount(field, *of, schema)),
        Filter::Has(field) => format!("{field} is there"),
        Filter::Label(true) => "the label says fraud".into(),
        Filter::Label(false) => "the label says no fraud".into(),
        Filter::Labelled => "there is a label".into(),
        Filter::Hours(from, to) => format!("the hour of the day, UTC, is in [{from}, {to})"),
        Filter::And(a, b) => format!("{} and {}", condition(a, schema), condition(b, schema)),
        Filter::Not(inner) => format!("not ({})", condition(inner, schema)),
    }
}

/// A number that a condition compares a field with, in the unit of the field.
fn amount(field: &str, number: i64, schema: &Schema) -> String {
    let field = schema.slot(field).map(|slot| schema.field(slot));
    match field {
        Some(field) if field.kind == FieldType::Decimal && field.scale > 0 => {
            let (scale, size) = (usize::from(field.scale), number.unsigned_abs().to_string());
            let digits = format!("{size:0>width$}", width = scale + 1);
            let (whole, fraction) = digits.split_at(digits.len() - scale);
            let sign = if number < 0 { "-" } else { "" };
            format!("{sign}{whole}.{fraction} ({number} minor units)")
        }
        Some(field) if field.kind == FieldType::Time => format!("{number} (milliseconds since 1970)"),
        _ => number.to_string(),
    }
}
