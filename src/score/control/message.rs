//! Control messages as they are written: a JSON object each, on a line of a file or in a record of a topic.
//!
//! ```json
//! {"version": 1, "op": "rule", "rule": {"id": "night", "when": "amount > 900.0", "action": "review", "reason": "..."}}
//! {"version": 1, "op": "rule-mode", "rule": "night", "mode": "active"}
//! ```
//!
//! | `op` | fields | what it does |
//! | --- | --- | --- |
//! | `rule` | `rule`: as a table of a file of rules | adds the rule, or puts it in place of the one with its `id`; another condition needs another `version` |
//! | `rule-mode` | `rule`: id, `mode`: `active`, `shadow` or `paused` | changes how a rule takes part |
//! | `rule-snooze` | `rule`: id, `until`: time | lets a rule rest for events before that time |
//! | `rule-delete` | `rule`: id | deletes a rule |
//! | `rules` | `rules`: list, `thresholds` | puts these in place of all rules and thresholds |
//! | `rules-restore` | `deployment`: number | puts the rules and thresholds of an earlier deployment in place of all |
//! | `list` | `name`, `entries`: list of `value`, `reason`, `until` | adds entries to a list, which is made if it is not there; they hold for events before `until` |
//! | `list-remove` | `list`: name, `values` | takes values off a list |
//! | `list-delete` | `list`: name | deletes a list that no rule looks into |
//! | `thresholds` | `review`, `challenge`, `block` | sets thresholds; those that are left out are the model's |
//! | `model` | `model`: `NAME` or `NAME@VERSION`, `role`: `champion`, `challenger` or `shadow`, `share` | deploys a model, or changes its role; a new champion takes the place of the one before |
//! | `models` | `models`: list of objects with the fields of `model` | puts these in place of all models, in this order |
//! | `model-delete` | `model`: `NAME@VERSION` | takes a model out |
//!
//! Beside these: `id` and `by` (texts, repeated in the reply), and `time`, which says in a replay of files before which event it takes
//! effect. An unknown field is an error.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::flow::DeploymentNumber;
use crate::score::rules::{Rule, RuleMode, RuleThresholds, WrittenList};
use crate::score::scorer::ModelRole;

/// The version of messages that this program reads.
pub const MESSAGE_VERSION: u32 = 1;

/// A message.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ControlMessage {
    /// [`MESSAGE_VERSION`].
    pub version: u32,
    /// What its sender calls it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// Who has sent it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub by: String,
    /// When it takes effect in a replay of files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<jiff::Timestamp>,
    /// What it changes.
    #[serde(flatten)]
    pub change: ControlChange,
}

/// What a message changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ControlChange {
    /// Adds a rule, or puts it in place of the one with its id.
    Rule {
        /// The rule.
        rule: Rule,
    },
    /// Changes how a rule takes part.
    RuleMode {
        /// Its id.
        rule: String,
        /// How it takes part from now on.
        mode: RuleMode,
    },
    /// Lets a rule rest.
    RuleSnooze {
        /// Its id.
        rule: String,
        /// Event time before which it rests.
        until: jiff::Timestamp,
    },
    /// Deletes a rule.
    RuleDelete {
        /// Its id.
        rule: String,
    },
    /// Puts these rules in place of all.
    Rules {
        /// The rules.
        rules: Vec<Rule>,
        /// Scores from which on an action follows.
        #[serde(default)]
        thresholds: RuleThresholds,
    },
    /// Puts the rules and thresholds of an earlier deployment in place of all. It is taken in as [`ControlChange::Rules`].
    RulesRestore {
        /// Its number.
        deployment: DeploymentNumber,
    },
    /// Adds entries to a list.
    List(WrittenList),
    /// Takes values off a list.
    ListRemove {
        /// Its name.
        list: String,
        /// The values.
        values: Vec<String>,
    },
    /// Deletes a list.
    ListDelete {
        /// Its name.
        list: String,
    },
    /// Sets thresholds.
    Thresholds {
        /// From here on a transaction is reviewed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        review: Option<f64>,
        /// From here on the payer is asked for a proof.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        challenge: Option<f64>,
        /// From here on it is blocked.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        block: Option<f64>,
    },
    /// Deploys a model, or changes its role.
    Model(WantedModel),
    /// Puts these models in place of all, in this order.
    Models {
        /// The models.
        models: Vec<WantedModel>,
    },
    /// Takes a model out.
    ModelDelete {
        /// `NAME@VERSION`.
        model: String,
    },
}

/// A model to be deployed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WantedModel {
    /// `NAME` or `NAME@VERSION`.
    pub model: String,
    /// What it is there for.
    pub role: ModelRole,
    /// The share that a challenger decides on.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub share: f64,
    /// A hash of its files, set when it is taken in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<String>,
}

fn is_zero(share: &f64) -> bool {
    *share == 0.0
}

/// What a message says beside its change.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    version: u32,
    #[serde(default)]
    id: String,
    #[serde(default)]
    by: String,
    time: Option<jiff::Timestamp>,
}

const HEADER: [&str; 4] = ["version", "id", "by", "time"];

impl ControlMessage {
    /// Parses a message.
    ///
    /// # Errors
    /// If it is none, on one line, with the position where that is known.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut fields: serde_json::Map<String, Value> = serde_json::from_str(text).map_err(said)?;
        let header = HEADER.iter().filter_map(|name| fields.remove_entry(*name)).collect();
        if !fields.contains_key("op") {
            return Err("has no `op`, which says what it changes".to_owned());
        }
        let Header { version, id, by, time } = serde_json::from_value(Value::Object(header)).map_err(said)?;
        if version != MESSAGE_VERSION {
            return Err(format!("its version is {version}, and this program reads version {MESSAGE_VERSION}"));
        }
        let change = serde_json::from_value(Value::Object(fields)).map_err(said)?;
        Ok(ControlMessage { version, id, by, time, change })
    }

    /// The message as one line of JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// What is wrong with a message, with line and column where they are known.
fn said(error: serde_json::Error) -> String {
    let (line, column, said) = (error.line(), error.column(), error.to_string());
    let said = said.split(" at line ").next().unwrap_or_default();
    if line > 0 { format!("{line}:{column}: {said}") } else { said.to_owned() }
}
