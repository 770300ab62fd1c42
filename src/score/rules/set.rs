//! All rules of a run, checked and lowered: what matches a transaction, and what follows from it.

use std::collections::HashSet;
use std::sync::Arc;

use super::check::Scope;
use super::expression::RuleCondition;
use super::program::RuleFacts;
use super::rule::{Rule, RuleAction, RuleError, RuleFile, RuleMode, RuleThresholds, WrittenList};
use crate::event::{Event, Schema};
use crate::flow::Action;
use crate::score::lists::Lists;

/// Rules at most.
const RULES_MAX: usize = 10_000;

/// A rule whose names are resolved and whose types are checked.
#[derive(Debug)]
pub struct CheckedRule {
    /// As it was written.
    pub rule: Rule,
    /// What decisions and assessments refer to it by.
    pub number: u32,
    /// Event time before which it rests, milliseconds.
    pub snoozed_until_ms: Option<i64>,
    condition: Arc<RuleCondition>,
    /// By kind of event: whether it looks at it.
    kinds: Arc<[bool]>,
    /// Event time that it holds for, milliseconds.
    valid_ms: std::ops::Range<i64>,
}

/// All rules of a deployment, in the order in which they are named: by action, priority, id. A changed copy shares them with the one
/// that it was made of.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    rules: Arc<[Arc<CheckedRule>]>,
    lists: Lists,
    thresholds: RuleThresholds,
    kinds: Arc<[String]>,
}

/// What rules say of a transaction.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RuleMatches {
    /// The active ones that match.
    pub rules: Vec<u32>,
    /// Those in shadow that do.
    pub shadow: Vec<u32>,
    /// What they add to the score.
    pub score: f64,
    /// The strongest action that one asks for.
    pub action: Option<Action>,
    /// Rules that had no value: they do not match.
    pub faults: u32,
}

impl Rules {
    /// The rules of a file, for a schema and the columns of feature rows, numbered in their order. Messages call it `file`.
    ///
    /// # Errors
    /// If one of them is wrong.
    pub fn new(file: &str, content: RuleFile, schema: &Schema, columns: &[String]) -> Result<Self, RuleError> {
        let RuleFile { thresholds, lists, rules } = content;
        check_thresholds(file, &thresholds)?;
        let add = |so_far: Lists, list: &WrittenList| list.added_to(&so_far);
        let lists = lists.iter().try_fold(Lists::default(), add);
        let lists = lists.map_err(|reason| RuleError::Format { file: file.to_owned(), reason })?;
        Rules::among(file, rules, thresholds, lists, (schema, columns))
    }

    /// These rules, looking things up in these lists.
    ///
    /// # Errors
    /// If one of them is wrong.
    pub fn among(
        file: &str,
        rules: Vec<Rule>,
        thresholds: RuleThresholds,
        lists: Lists,
        (schema, columns): (&Schema, &[String]),
    ) -> Result<Self, RuleError> {
        let scope = Scope::new(schema, columns).with_lists(&lists);
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
        let check = |rule: Rule| CheckedRule::new(file, rule, &scope, schema);
        let mut rules = rules.into_iter().map(check).collect::<Result<Vec<_>, _>>()?;
        rules.sort_by(|one, other| order(&one.rule, &other.rule));
        (0..).zip(&mut rules).for_each(|(number, checked)| checked.number = number);
        let rules = rules.into_iter().map(Arc::new).collect();
        Ok(Rules { rules, lists, thresholds, kinds: schema.kinds().into() })
    }

    /// The same with this rule, in place of the one that has its id.
    ///
    /// # Errors
    /// If there are too many then.
    pub fn with(&self, checked: CheckedRule, schema: &Schema) -> Result<Self, String> {
        let mut rules: Vec<_> = self.rules.iter().filter(|one| one.rule.id != checked.rule.id).cloned().collect();
        if rules.len() >= RULES_MAX {
            return Err(format!("there are {RULES_MAX} rules, and that is the most; delete some"));
        }
        let at = rules.partition_point(|one| order(&one.rule, &checked.rule).is_lt());
        rules.insert(at, Arc::new(checked));
        Ok(Rules { rules: rules.into(), kinds: schema.kinds().into(), ..self.clone() })
    }

    /// The same without the rule of this id.
    #[must_use]
    pub fn without(&self, id: &str) -> Self {
        Rules { rules: self.rules.iter().filter(|one| one.rule.id != id).cloned().collect(), ..self.clone() }
    }

    /// What they look things up in.
    pub fn lists(&self) -> &Lists {
        &self.lists
    }

    /// The same looking things up in these lists, which have all that a rule refers to.
    #[must_use]
    pub fn with_lists(&self, lists: Lists) -> Self {
        Rules { lists, ..self.clone() }
    }

    /// The rules that refer to a list.
    pub fn that_use(&self, list: u32) -> impl Iterator<Item = &Rule> {
        let uses = move |checked: &&Arc<CheckedRule>| checked.condition.lists().any(|used| used == list);
        self.rules.iter().filter(uses).map(|checked| &checked.rule)
    }

    /// The same with other thresholds.
    ///
    /// # Errors
    /// If they are none.
    pub fn with_thresholds(&self, thresholds: RuleThresholds) -> Result<Self, String> {
        check_thresholds("", &thresholds).map_err(|_| THRESHOLDS.to_owned())?;
        Ok(Rules { thresholds, ..self.clone() })
    }

    /// The same rules, each with the number that its label has.
    #[must_use]
    pub fn renumbered(&self, mut number: impl FnMut(&str) -> u32) -> Self {
        let numbered = |checked: &Arc<CheckedRule>| {
            let mut same = checked.changed(checked.rule.mode, checked.snoozed_until_ms);
            same.number = number(&checked.rule.to_string());
            Arc::new(same)
        };
        Rules { rules: self.rules.iter().map(numbered).collect(), ..self.clone() }
    }

    /// The rule of an id.
    pub fn get(&self, id: &str) -> Option<&Arc<CheckedRule>> {
        self.rules.iter().find(|checked| checked.rule.id == id)
    }

    /// `id@version` of each rule, by its number, of rules that no one has changed.
    pub fn labels(&self) -> Vec<String> {
        self.rules.iter().map(|checked| checked.rule.to_string()).collect()
    }

    /// All rules, in their order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Arc<CheckedRule>> {
        self.rules.iter()
    }

    /// Scores from which on an action follows.
    pub fn thresholds(&self) -> RuleThresholds {
        self.thresholds
    }

    /// What matches a transaction with this row, to which the champion gives this score.
    pub fn matches(&self, event: &Event, row: &[f64], score: f64) -> RuleMatches {
        let kind = self.kinds.get(usize::from(event.kind)).map_or("", |kind| kind);
        let facts = RuleFacts { row, score, event, kind, lists: &self.lists };
        let mut matches = RuleMatches::default();
        for checked in &*self.rules {
            let CheckedRule { rule, number, condition, .. } = &**checked;
            if !checked.looks_at(event) {
                continue;
            }
            match condition.holds(&facts) {
                Ok(false) => {}
                Err(_) => matches.faults += 1,
                Ok(true) if rule.mode == RuleMode::Shadow => matches.shadow.push(*number),
                Ok(true) => {
                    matches.rules.push(*number);
                    matches.score += rule.score;
                    matches.action = matches.action.max(rule.action.action());
                }
            }
        }
        matches
    }
}

/// The order in which rules are named.
fn order(one: &Rule, other: &Rule) -> std::cmp::Ordering {
    let of = |rule: &Rule| (std::cmp::Reverse(rule.action), std::cmp::Reverse(rule.priority));
    of(one).cmp(&of(other)).then_with(|| one.id.cmp(&other.id))
}

impl CheckedRule {
    /// Checks a rule; its number is to be set. Messages call where it stands `file`.
    ///
    /// # Errors
    /// If it is wrong.
    pub fn new(file: &str, rule: Rule, scope: &Scope<'_>, schema: &Schema) -> Result<Self, RuleError> {
        activate(file, rule, scope, schema)
    }

    /// The same rule in another mode, or at rest before an event time (milliseconds).
    #[must_use]
    pub fn changed(&self, mode: RuleMode, snoozed_until_ms: Option<i64>) -> Self {
        let CheckedRule { rule, number, condition, kinds, valid_ms, .. } = self;
        let (condition, kinds, valid_ms) = (condition.clone(), kinds.clone(), valid_ms.clone());
        let rule = Rule { mode, ..rule.clone() };
        CheckedRule { rule, number: *number, snoozed_until_ms, condition, kinds, valid_ms }
    }

    fn looks_at(&self, event: &Event) -> bool {
        self.rule.mode != RuleMode::Paused
            && self.kinds.get(usize::from(event.kind)).copied().unwrap_or(false)
            && self.valid_ms.contains(&event.time)
            && self.snoozed_until_ms.is_none_or(|until_ms| event.time >= until_ms)
    }
}

fn activate(file: &str, rule: Rule, scope: &Scope<'_>, schema: &Schema) -> Result<CheckedRule, RuleError> {
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
        Ok(condition) => {
            let (condition, kinds) = (Arc::new(condition), kinds.into());
            Ok(CheckedRule { rule, number: 0, snoozed_until_ms: None, condition, kinds, valid_ms })
        }
        Err(error) => wrong("when", error.to_string()),
    }
}

/// What thresholds must be.
const THRESHOLDS: &str = "they are between 0 and 1, review <= challenge <= block";

fn check_thresholds(file: &str, thresholds: &RuleThresholds) -> Result<(), RuleError> {
    let RuleThresholds { review, challenge, block } = *thresholds;
    let given: Vec<f64> = [review, challenge, block].into_iter().flatten().collect();
    let ordered = given.is_sorted() && given.iter().all(|threshold| (0.0..=1.0).contains(threshold));
    if ordered {
        return Ok(());
    }
    Err(RuleError::Format { file: file.to_owned(), reason: format!("[thresholds]: {THRESHOLDS}") })
}
