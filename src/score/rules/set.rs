//! All rules of a run, checked and lowered: what matches a transaction, and what follows from it.

use std::collections::HashSet;
use std::sync::Arc;

use super::check::Scope;
use super::expression::RuleCondition;
use super::program::RuleFacts;
use super::rule::{Rule, RuleAction, RuleError, RuleFile, RuleMode, RuleThresholds};
use crate::event::{Event, Schema};
use crate::flow::Action;
use crate::score::lists::Lists;

/// Rules at most: what matches is kept as numbers of 16 bits.
const RULES_MAX: usize = 10_000;

#[derive(Debug)]
struct ActiveRule {
    rule: Rule,
    condition: RuleCondition,
    /// By kind of event: whether it looks at it.
    kinds: Vec<bool>,
    /// Event time that it holds for, milliseconds.
    valid_ms: std::ops::Range<i64>,
}

/// All rules of a run, in the order in which they are named: by action, priority, id.
#[derive(Clone, Debug)]
pub struct Rules {
    rules: Arc<[ActiveRule]>,
    thresholds: RuleThresholds,
    kinds: Arc<[String]>,
}

/// What rules say of a transaction.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RuleMatches {
    /// The active ones that match.
    pub rules: Vec<u16>,
    /// Those in shadow that do.
    pub shadow: Vec<u16>,
    /// What they add to the score.
    pub score: f64,
    /// The strongest action that one asks for.
    pub action: Option<Action>,
    /// Rules that had no value: they do not match.
    pub faults: u32,
}

impl Rules {
    /// The rules of a file, for a schema and the columns of feature rows. Messages call it `file`.
    ///
    /// # Errors
    /// If one of them is wrong.
    pub fn new(file: &str, content: RuleFile, schema: &Schema, columns: &[String]) -> Result<Self, RuleError> {
        let scope = Scope::new(schema, columns);
        let RuleFile { thresholds, mut rules } = content;
        check_thresholds(file, &thresholds)?;
        if rules.len() > RULES_MAX {
            let reason = format!("has {} rules, and {RULES_MAX} at most are allowed", rules.len());
            return Err(RuleError::Format { file: file.to_owned(), reason });
        }
        let mut ids = HashSet::new();
        if let Some(twice) = rules.iter().find(|rule| !ids.insert(&*rule.id)) {
            let reason = "another rule has it already; give it one of its own".to_owned();
            return Err(RuleError::Rule { file: file.to_owned(), rule: twice.id.clone(), field: "id", reason });
        }
        rules.retain(|rule| rule.mode != RuleMode::Paused);
        rules.sort_by(|one, other| {
            let of = |rule: &Rule| (std::cmp::Reverse(rule.action), std::cmp::Reverse(rule.priority));
            of(one).cmp(&of(other)).then_with(|| one.id.cmp(&other.id))
        });
        let activate = |rule: Rule| activate(file, rule, &scope, schema);
        let rules = rules.into_iter().map(activate).collect::<Result<Vec<_>, _>>()?;
        Ok(Rules { rules: rules.into(), thresholds, kinds: schema.kinds().into() })
    }

    /// `id@version` of each rule, by its number.
    pub fn labels(&self) -> Vec<String> {
        self.rules.iter().map(|active| active.rule.to_string()).collect()
    }

    /// All rules but those that are paused, by number.
    pub fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter().map(|active| &active.rule)
    }

    /// Scores from which on an action follows.
    pub fn thresholds(&self) -> RuleThresholds {
        self.thresholds
    }

    /// What matches a transaction with this row, to which the champion gives this score.
    pub fn matches(&self, event: &Event, row: &[f64], score: f64) -> RuleMatches {
        let kind = self.kinds.get(usize::from(event.kind)).map_or("", |kind| kind);
        let facts = RuleFacts { row, score, event, kind, lists: &Lists::default() };
        let mut matches = RuleMatches::default();
        for (number, ActiveRule { rule, condition, kinds, valid_ms }) in self.rules.iter().enumerate() {
            let looks = kinds.get(usize::from(event.kind)).copied().unwrap_or(false) && valid_ms.contains(&event.time);
            if !looks {
                continue;
            }
            match condition.holds(&facts) {
                Ok(false) => {}
                Err(_) => matches.faults += 1,
                Ok(true) if rule.mode == RuleMode::Shadow => matches.shadow.push(number as u16),
                Ok(true) => {
                    matches.rules.push(number as u16);
                    matches.score += rule.score;
                    matches.action = matches.action.max(rule.action.action());
                }
            }
        }
        matches
    }
}

fn activate(file: &str, rule: Rule, scope: &Scope<'_>, schema: &Schema) -> Result<ActiveRule, RuleError> {
    let id = rule.id.clone();
    let wrong = |field, reason: String| Err(RuleError::Rule { file: file.to_owned(), rule: id.clone(), field, reason });
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if rule.id.is_empty() || rule.id.len() > 128 || !rule.id.chars().all(plain) {
        return wrong("id", "takes letters, digits and -_. , 128 at most".into());
    }
    if rule.reason.trim().is_empty() {
        return wrong("reason", "says nothing; say why the rule exists".into());
    }
    if !(-1.0..=1.0).contains(&rule.score) {
        return wrong("score", format!("is {}; a score is between -1 and 1", rule.score));
    }
    if rule.action == RuleAction::Tag && rule.score != 0.0 {
        return wrong("score", "a tag adds nothing to the score; take another action, or leave it out".into());
    }
    let mut kinds: Vec<bool> = (0..schema.kinds().len()).map(|_| rule.scope.is_empty()).collect();
    for name in &rule.scope {
        match schema.kind(name).filter(|&kind| schema.is_scored(kind)) {
            Some(kind) => kinds[usize::from(kind)] = true,
            None => {
                let scored = schema.kinds().iter().enumerate().filter(|(kind, _)| schema.is_scored(*kind as u16));
                let scored = scored.map(|(_, name)| &**name).collect::<Vec<_>>().join(", ");
                return wrong(
                    "scope",
                    format!("no kind of event that is scored is called `{name}`; there are {scored}"),
                );
            }
        }
    }
    let ms = |time: Option<jiff::Timestamp>| time.map(jiff::Timestamp::as_millisecond);
    let valid_ms = ms(rule.valid_from).unwrap_or(i64::MIN)..ms(rule.valid_until).unwrap_or(i64::MAX);
    if valid_ms.is_empty() {
        return wrong("valid_until", "is not behind valid_from".into());
    }
    match RuleCondition::new(&rule.when, scope) {
        Ok(condition) => Ok(ActiveRule { rule, condition, kinds, valid_ms }),
        Err(error) => wrong("when", error.to_string()),
    }
}

fn check_thresholds(file: &str, thresholds: &RuleThresholds) -> Result<(), RuleError> {
    let RuleThresholds { review, challenge, block } = *thresholds;
    let given: Vec<f64> = [review, challenge, block].into_iter().flatten().collect();
    let ordered = given.is_sorted() && given.iter().all(|threshold| (0.0..=1.0).contains(threshold));
    if ordered {
        return Ok(());
    }
    let reason = "[thresholds]: they are between 0 and 1, review <= challenge <= block".to_owned();
    Err(RuleError::Format { file: file.to_owned(), reason })
}
