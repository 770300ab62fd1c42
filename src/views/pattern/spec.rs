//! Patterns as they are written in TOML, before a schema gives their fields a place.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::PatternError;

/// A file of patterns, in the order in which they are written.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Patterns {
    /// The patterns.
    #[serde(default, rename = "pattern")]
    pub patterns: Vec<PatternSpec>,
}

/// One pattern.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PatternSpec {
    /// Its name: features are called `pattern_NAME_now` and `pattern_NAME_count_24h`.
    pub name: String,
    /// What its events have in common: one field or two.
    #[serde(default)]
    pub key: Option<KeySpec>,
    /// The same pattern once per key; each is called `NAME_KEY`. Stands instead of `key`.
    #[serde(default)]
    pub keys: Vec<KeySpec>,
    /// The time from the first event to the last is less than this.
    #[serde(default)]
    pub within: Option<String>,
    /// What a match skips: `no_skip`, `skip_past_last`, `skip_to_next`, `skip_to_first:STEP` or `skip_to_last:STEP`; the first
    /// unless it is written.
    #[serde(default)]
    pub after_match: Option<String>,
    /// How far back `history` and `first_seen` look; 30 days unless it is written.
    #[serde(default)]
    pub history: Option<String>,
    /// The fields with latitude and longitude, degrees, for `distance` and `speed`; `lat` and `lon` unless written.
    #[serde(default)]
    pub location: Option<[String; 2]>,
    /// Events by the name that the steps call them.
    #[serde(default)]
    pub events: BTreeMap<String, EventSpec>,
    /// The steps, in order.
    #[serde(default, rename = "step")]
    pub steps: Vec<StepSpec>,
    /// A cycle of transfers, instead of steps.
    #[serde(default)]
    pub cycle: Option<CycleSpec>,
}

/// One field or several.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum KeySpec {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

impl KeySpec {
    /// The fields.
    pub fn fields(&self) -> &[String] {
        match self {
            KeySpec::One(field) => std::slice::from_ref(field),
            KeySpec::Many(fields) => fields,
        }
    }
}

/// A condition over one event.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventSpec {
    /// Its kind, or one of several.
    pub kind: KeySpec,
    /// Conditions, all of which hold.
    #[serde(default, rename = "where")]
    pub conditions: Vec<String>,
    /// Where this event carries the pattern's key, if not in the fields of the pattern's own key (the payee of a transfer
    /// into the account).
    #[serde(default)]
    pub key: Option<KeySpec>,
}

/// One step of a pattern.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepSpec {
    /// The event to take.
    #[serde(default)]
    pub event: Option<String>,
    /// What later steps call this one; the event's name unless it is written.
    #[serde(default, rename = "as")]
    pub label: Option<String>,
    /// Conditions on the event and earlier steps, all of which hold.
    #[serde(default, rename = "where")]
    pub conditions: Vec<String>,
    /// Events that do not lie between the step before and this one.
    #[serde(default)]
    pub not: Vec<String>,
    /// The step counts events: so many at least.
    #[serde(default)]
    pub at_least: Option<u32>,
    /// The step counts events: conditions over all it has counted.
    #[serde(default)]
    pub having: Vec<String>,
    /// The pattern is this one counting step, and it counts over everything within `within` before the last event, not from
    /// any later start: for shares and ratios, which part of the events may always fulfil.
    #[serde(default)]
    pub whole_window: bool,
    /// Instead of `event`, as the last step: this event does not come for `within` after the step before.
    #[serde(default)]
    pub absent: Option<String>,
    /// How long the absent event stays away.
    #[serde(default)]
    pub within: Option<String>,
}

impl StepSpec {
    /// What later steps call it.
    pub fn name(&self) -> Option<&str> {
        self.label.as_deref().or(self.event.as_deref())
    }

    /// Whether it counts.
    pub fn counts(&self) -> bool {
        self.at_least.is_some() || !self.having.is_empty()
    }
}

/// A cycle of transfers: a→b→…→a.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CycleSpec {
    /// The event that is a transfer.
    pub event: String,
    /// The field of the payer.
    pub from: String,
    /// The field of the payee.
    pub to: String,
    /// The field of the amount.
    pub amount: String,
    /// Transfers of a cycle, fewest and most.
    pub hops: [u32; 2],
    /// Each amount is at least and at most this share of the one before.
    pub share: [f64; 2],
}

impl Patterns {
    /// Reads a file's text.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let patterns: Patterns = toml::from_str(text)
            .map_err(|error| PatternError::File(error.to_string().trim_end().replace('\n', " | ")))?;
        let mut names: Vec<&str> = patterns.patterns.iter().map(|pattern| pattern.name.as_str()).collect();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(twice) => Err(PatternError::invalid(twice[0], "name", "is used twice; rename one of the two")),
            None => Ok(patterns),
        }
    }

    /// The pattern of this name alone; nothing if there is none.
    pub fn only(&self, names: &[&str]) -> Self {
        let wanted = self.patterns.iter().filter(|pattern| names.contains(&pattern.name.as_str()));
        Patterns { patterns: wanted.cloned().collect() }
    }

    /// The patterns with `keys` written out: one pattern per key.
    pub fn expanded(&self) -> Vec<PatternSpec> {
        let mut all = Vec::new();
        for pattern in &self.patterns {
            if pattern.keys.is_empty() {
                all.push(pattern.clone());
            }
            for key in &pattern.keys {
                let name = format!("{}_{}", pattern.name, key.fields().join("_"));
                all.push(PatternSpec { name, key: Some(key.clone()), keys: Vec::new(), ..pattern.clone() });
            }
        }
        all
    }

    /// The names of the features, in the order of the patterns: `pattern_NAME_now`, `pattern_NAME_count_24h`.
    pub fn feature_names(&self) -> Vec<String> {
        let names = self.expanded().into_iter().map(|pattern| pattern.name);
        names.flat_map(|name| [format!("pattern_{name}_now"), format!("pattern_{name}_count_24h")]).collect()
    }
}
