//! Rules as they are written: a TOML file of `[[rule]]` tables.
//!
//! ```toml
//! [thresholds]               # instead of the champion's; each may be left out
//! review = 0.5
//! challenge = 0.65
//! block = 0.8
//!
//! [[list]]                   # what rules look things up in, as in `card in blocked`
//! name = "blocked"
//! entries = [{ value = "c-17", until = "2026-12-01T00:00:00Z", reason = "reported stolen" }]    # for ever without `until`
//!
//! [[rule]]
//! id = "card-testing"
//! version = 2                # 1 if left out; another condition is another version
//! when = "card_count_10m >= 8 && event.amount < 5.00"
//! action = "block"           # allow, tag, review, challenge or block
//! score = 0.2                # added to the champion's score when it matches; 0 if left out
//! reason = "Many small payments by one card within minutes: it is being tried out."
//! mode = "active"            # or shadow: it is evaluated and shown, and decides nothing; or paused: it is not evaluated
//! scope = ["payment"]        # kinds of event; all that are scored if left out
//! priority = 10              # among rules of one action the highest is named first; 0 if left out
//! valid_from = "2026-01-01T00:00:00Z"    # event time; from then on, and before
//! valid_until = "2027-01-01T00:00:00Z"
//! owner = "risk-operations"
//! ```

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::flow::Action;
use crate::score::lists::{ListEntry, Lists};

/// What a rule does when it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RuleAction {
    /// Names itself beside what others decide.
    Tag,
    /// Lets it pass, as far as nothing says otherwise.
    Allow,
    /// Has it looked at.
    Review,
    /// Asks the payer for a proof.
    Challenge,
    /// Stops it.
    Block,
}

impl RuleAction {
    /// The action it asks for; none of a tag.
    pub fn action(self) -> Option<Action> {
        match self {
            RuleAction::Tag => None,
            RuleAction::Allow => Some(Action::Allow),
            RuleAction::Review => Some(Action::Review),
            RuleAction::Challenge => Some(Action::Challenge),
            RuleAction::Block => Some(Action::Block),
        }
    }

    /// As it is written.
    pub fn name(self) -> &'static str {
        self.action().map_or("tag", Action::name)
    }
}

/// Whether a rule takes part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RuleMode {
    /// It decides.
    #[default]
    Active,
    /// It is evaluated and shown, and decides nothing.
    Shadow,
    /// It is not evaluated.
    Paused,
}

impl RuleMode {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            RuleMode::Active => "active",
            RuleMode::Shadow => "shadow",
            RuleMode::Paused => "paused",
        }
    }
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Its name.
    pub id: String,
    /// Counted up when its condition changes.
    #[serde(default = "first_version")]
    pub version: u32,
    /// The condition, in CEL.
    pub when: String,
    /// What it does.
    pub action: RuleAction,
    /// Added to the champion's score.
    #[serde(default)]
    pub score: f64,
    /// Why it exists, for those who read a decision.
    pub reason: String,
    /// Whether it takes part.
    #[serde(default)]
    pub mode: RuleMode,
    /// Kinds of event that it looks at; all that are scored if empty.
    #[serde(default)]
    pub scope: Vec<String>,
    /// Among rules of one action the highest is named first.
    #[serde(default)]
    pub priority: i32,
    /// From this event time on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub valid_from: Option<jiff::Timestamp>,
    /// Before this event time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<jiff::Timestamp>,
    /// Who answers for it.
    #[serde(default)]
    pub owner: String,
}

fn first_version() -> u32 {
    1
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.id, self.version)
    }
}

/// Scores from which on an action follows, instead of the champion's thresholds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RuleThresholds {
    /// From here on a transaction is reviewed.
    pub review: Option<f64>,
    /// From here on the payer is asked for a proof.
    pub challenge: Option<f64>,
    /// From here on it is blocked.
    pub block: Option<f64>,
}

/// A list of a file of rules.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenList {
    /// Its name.
    pub name: String,
    /// What is on it.
    #[serde(default)]
    pub entries: Vec<WrittenEntry>,
}

/// An entry of a list, as it is written.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenEntry {
    /// The value.
    pub value: String,
    /// It holds for events before this time; for ever without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<jiff::Timestamp>,
    /// Why it is there.
    pub reason: String,
}

impl WrittenList {
    /// The lists with this one's entries added; it is made if it is not there.
    ///
    /// # Errors
    /// If its name or an entry is wrong.
    pub fn added_to(&self, lists: &Lists) -> Result<Lists, String> {
        let made = if lists.number(&self.name).is_some() { lists.clone() } else { lists.create(&self.name)? };
        self.entries.iter().try_fold(made, |lists, WrittenEntry { value, until, reason }| {
            if value.is_empty() || reason.trim().is_empty() {
                return Err(format!("list {}: an entry has a value, and a reason for those who read it", self.name));
            }
            lists.put(&self.name, value, ListEntry { until: *until, reason: reason.clone() })
        })
    }

    /// A list with all that is on it.
    pub fn of(lists: &Lists, name: &str) -> Self {
        let entry = |(value, entry): (&str, &ListEntry)| {
            let ListEntry { until, reason } = entry.clone();
            WrittenEntry { value: value.to_owned(), until, reason }
        };
        let entries = lists.entries(name).into_iter().flatten().map(entry).collect();
        WrittenList { name: name.to_owned(), entries }
    }
}

/// A file of rules.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RuleFile {
    /// Scores from which on an action follows.
    #[serde(default)]
    pub thresholds: RuleThresholds,
    /// What rules look things up in.
    #[serde(default, rename = "list")]
    pub lists: Vec<WrittenList>,
    /// The rules.
    #[serde(default, rename = "rule")]
    pub rules: Vec<Rule>,
}

/// Why rules cannot be used. One line, which says what to mend.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// The file cannot be read.
    #[error("{file}: cannot read it ({reason}); check the path")]
    File {
        /// The file.
        file: String,
        /// What the system said.
        reason: String,
    },
    /// It is not a file of rules.
    #[error("{file}: {reason}")]
    Format {
        /// The file.
        file: String,
        /// What is wrong, and where.
        reason: String,
    },
    /// A rule of it is wrong.
    #[error("{file}: rule {rule}: {field}: {reason}")]
    Rule {
        /// The file.
        file: String,
        /// The rule's id.
        rule: String,
        /// The field of the rule.
        field: &'static str,
        /// What is wrong, and how to mend it.
        reason: String,
    },
}

impl RuleFile {
    /// Reads a file.
    ///
    /// # Errors
    /// If it cannot be read, or is not a file of rules.
    pub fn load(path: &Path) -> Result<Self, RuleError> {
        let file = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|error| RuleError::File { file: file.clone(), reason: error.to_string() })?;
        RuleFile::parse(&file, &text)
    }

    /// Parses the content of a file, which messages call `file`.
    ///
    /// # Errors
    /// If it is not a file of rules.
    pub fn parse(file: &str, text: &str) -> Result<Self, RuleError> {
        toml::from_str(text).map_err(|error: toml::de::Error| {
            let line = error.span().map_or(0, |span| text[..span.start].matches('\n').count() + 1);
            let reason = format!("line {line}: {}", error.message().lines().next().unwrap_or_default());
            RuleError::Format { file: file.to_owned(), reason }
        })
    }
}
