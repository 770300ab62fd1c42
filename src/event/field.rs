//! One field of a schema: its type, how it is written, what it means, and which times it takes.

use serde::{Deserialize, Serialize};

/// The type of a field's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FieldType {
    /// Text.
    Text,
    /// A signed 64-bit integer; a numeric text is accepted.
    Int,
    /// A double.
    Float,
    /// A boolean; 0 and 1 are accepted.
    Bool,
    /// A decimal number kept as an integer in units of `10^-scale`, rounded half away from zero, never through a double
    /// when the record has the digits.
    Decimal,
    /// A point in time, kept in milliseconds UTC (see [`TimeFormat`]).
    Time,
}

/// How a time is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeFormat {
    /// Integer milliseconds since the epoch.
    #[default]
    Millis,
    /// Seconds since the epoch, with digits after the point or without.
    Seconds,
    /// Integer microseconds since the epoch; digits beyond milliseconds are cut off, towards the past.
    Micros,
    /// Integer nanoseconds since the epoch; digits beyond milliseconds are cut off, towards the past.
    Nanos,
    /// Integer hours since the epoch, as in simulations that count steps.
    Hours,
    /// Integer days since the epoch.
    Days,
    /// RFC 3339, or `YYYY-MM-DD HH:MM:SS` taken as UTC.
    Text,
}

/// What a field means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The event's id (exactly one; text or int).
    Id,
    /// The event's kind, one of [`super::Schema::kinds`].
    Kind,
    /// `insert`, `correct` or `withdraw`.
    Op,
    /// Event time (exactly one).
    Time,
    /// Breaks ties on event time before the id does (needs an int id).
    Rank,
    /// The value of an entity; the field's name is the entity's kind (card, device, ...).
    Entity,
    /// Money in minor units.
    Amount,
    /// Any other number.
    #[default]
    Number,
    /// A category.
    Category,
    /// A yes or no.
    Flag,
    /// The id of the event that a label is about.
    LabelTarget,
    /// What a label says (true: fraud).
    LabelValue,
    /// When a label became known (event time of the label if missing).
    AvailableAt,
}

/// Whether ids are integers or text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IdType {
    /// Integers from 0 to 2^64 - 1.
    #[default]
    Int,
    /// Text.
    Text,
}

/// One field of a schema.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Field {
    /// The name by which features, rules and rows know the field.
    pub name: String,
    /// Where it stands in a record: dot-separated path in JSON, where a number names an element of an array; column in CSV, the second
    /// of a name being `NAME.1`. [`super::OF_RECORD`] are the record's own.
    #[serde(default)]
    pub path: String,
    /// The type of its values.
    #[serde(rename = "type")]
    pub kind: FieldType,
    /// What it means.
    #[serde(default)]
    pub role: Role,
    /// Whether a record without it is a reject.
    #[serde(default)]
    pub required: bool,
    /// The value if it is missing, written as in a record.
    #[serde(default)]
    pub default: Option<String>,
    /// Digits after the point of a decimal.
    #[serde(default)]
    pub scale: u8,
    /// The field that says in which currency a decimal is: its numbers are whole minor units of that (ISO 4217), so that 1999 is 19.99
    /// dollars and 1999 yen.
    #[serde(default)]
    pub minor_units: Option<String>,
    /// How a time is written.
    #[serde(default)]
    pub format: TimeFormat,
    /// A time before this (RFC 3339) is a bad value. Of an event time that is a number, unless it is said: 1970.
    #[serde(default)]
    pub earliest: Option<String>,
    /// A time after this (RFC 3339) is a bad value. Of an event time that is a number, unless it is said: 2200.
    #[serde(default)]
    pub latest: Option<String>,
    /// Old paths that are read when `path` is absent (a renamed field), the first that is there.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// The kinds of records that the field belongs to: `required` and `default` apply to those only. Empty: all.
    #[serde(default)]
    pub kinds: Vec<String>,
}

/// Event times that are numbers are from here to there unless the schema says otherwise: microseconds taken for milliseconds
/// are caught. A text says its year, whatever the unit.
pub(super) const EVENT_TIMES: [&str; 2] = ["1970-01-01T00:00:00Z", "2200-01-01T00:00:00Z"];

impl Field {
    /// The earliest and the latest time that the field takes, milliseconds.
    pub fn range_ms(&self) -> (i64, i64) {
        let millis = |text: &Option<String>| text.as_deref().and_then(|text| time_ms(text).ok());
        (millis(&self.earliest).unwrap_or(i64::MIN), millis(&self.latest).unwrap_or(i64::MAX))
    }

    pub(super) fn check_range(&self) -> Result<(), String> {
        let name = &self.name;
        for (key, text) in [("earliest", &self.earliest), ("latest", &self.latest)] {
            let Some(text) = text else { continue };
            if self.kind != FieldType::Time {
                return Err(format!("field '{name}' has {key} but is not of type time; remove it"));
            }
            time_ms(text)
                .map_err(|_| format!("field '{name}': {key} = \"{text}\" is not a time; write 2024-01-31T00:00:00Z"))?;
        }
        let (earliest_ms, latest_ms) = self.range_ms();
        if earliest_ms > latest_ms {
            return Err(format!("field '{name}': earliest is after latest; swap them"));
        }
        Ok(())
    }
}

fn time_ms(text: &str) -> Result<i64, jiff::Error> {
    text.parse::<jiff::Timestamp>().map(jiff::Timestamp::as_millisecond)
}
