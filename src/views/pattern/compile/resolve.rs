//! From written conditions to conditions with places for names, checked against the schema.

use std::collections::BTreeMap;

use super::condition::{ColumnKind, Condition, TermSource, TermValue};
use super::count::CountAggregate;
use super::expr::{Comparison, Decimal, Expr, Side, Term, parse};
use super::features::FeatureNames;
use super::plan::{Group, NamedEvent};
use crate::event::{FieldType, Schema};
use crate::views::pattern::spec::{EventSpec, KeySpec};

/// What names mean in one place of a pattern.
pub struct Names<'a, 'v> {
    /// The schema.
    pub schema: &'a Schema,
    /// The velocity features.
    pub features: &'a mut FeatureNames<'v>,
    /// Where columns and named events are registered.
    pub group: &'a mut Group,
    /// The pattern's named events.
    pub bits: BTreeMap<String, u8>,
    /// The steps before this place.
    pub steps: Vec<StepName>,
    /// The kinds of the event whose conditions are resolved.
    pub kinds: Vec<u16>,
    /// The fields of latitude and longitude.
    pub location: [String; 2],
    /// In a named event's condition: the bit of its kinds, for what looks at the key's history.
    pub base: Option<u8>,
    /// In a named event's condition over the event alone, which is evaluated before the event is cut to columns.
    pub alone: bool,
    /// In a counting step's `having`: what it adds up.
    pub here: Option<Vec<CountAggregate>>,
}

/// A step that later ones may name.
pub struct StepName {
    /// Its name.
    pub name: String,
    /// The kinds of its event.
    pub kinds: Vec<u16>,
    /// What it adds up, if it counts.
    pub aggregates: Option<Vec<CountAggregate>>,
    /// Whether a later step looks at its event's fields.
    pub keeps: bool,
}

/// Resolves conditions, all of which hold. The error names the condition.
pub(super) fn resolve_all(conditions: &[String], names: &mut Names<'_, '_>) -> Result<Condition, String> {
    let mut all = Vec::new();
    for text in conditions {
        let one = parse(text).and_then(|expr| names.condition(&expr));
        all.push(one.map_err(|reason| format!("condition \"{text}\": {reason}"))?);
    }
    Ok(Condition::All(all))
}

impl Names<'_, '_> {
    /// The bit of a named event of the pattern.
    pub fn named(&self, name: &str) -> Result<u8, String> {
        let known = || self.bits.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        self.bits.get(name).copied().ok_or_else(|| {
            format!("there is no event '{name}'; write [pattern.events.{name}], or use one of: {}", known())
        })
    }

    /// Registers a named event.
    pub fn event(&mut self, event: &EventSpec, main: usize, history_ms: i64) -> Result<u8, String> {
        let side = match &event.key {
            None => main,
            Some(key) => {
                let side = self.group.side(key, self.schema).map_err(|reason| format!("key: {reason}"))?;
                if self.group.sides[side].fields.len() != self.group.sides[main].fields.len() {
                    return Err("key: has not as many fields as the pattern's key".into());
                }
                side
            }
        };
        let kinds = self.kinds(&event.kind)?;
        self.kinds.clone_from(&kinds);
        let (mut own, mut historic) = (Vec::new(), Vec::new());
        for text in &event.conditions {
            let in_condition = |reason| format!("condition \"{text}\": {reason}");
            let expr = parse(text).map_err(in_condition)?;
            if looks_back(&expr) {
                let base = NamedEvent {
                    kinds: kinds.clone(),
                    own: Condition::always(),
                    historic: Condition::always(),
                    history_ms: 0,
                    side,
                };
                self.base = Some(self.group.bit(base)?);
                historic.push(self.condition(&expr).map_err(in_condition)?);
                self.base = None;
            } else {
                self.alone = true;
                let condition = self.condition(&expr).map_err(in_condition);
                self.alone = false;
                own.push(condition?);
            }
        }
        let history_ms = if historic.is_empty() { 0 } else { history_ms };
        let (own, historic) = (Condition::All(own), Condition::All(historic));
        self.group.bit(NamedEvent { kinds, own, historic, history_ms, side })
    }

    fn kinds(&self, kinds: &KeySpec) -> Result<Vec<u16>, String> {
        let index = |kind: &String| {
            let unknown =
                || format!("kind: the schema '{}' has no kind '{kind}'; add it to its kinds", self.schema.name());
            self.schema.kind(kind).ok_or_else(unknown)
        };
        let mut kinds = kinds.fields().iter().map(index).collect::<Result<Vec<_>, _>>()?;
        kinds.sort_unstable();
        kinds.dedup();
        if kinds.is_empty() { Err("kind: names none".into()) } else { Ok(kinds) }
    }

    /// Resolves a condition.
    fn condition(&mut self, expr: &Expr) -> Result<Condition, String> {
        Ok(match expr {
            Expr::All(all) => Condition::All(all.iter().map(|one| self.condition(one)).collect::<Result<_, _>>()?),
            Expr::Any(any) => Condition::Any(any.iter().map(|one| self.condition(one)).collect::<Result<_, _>>()?),
            Expr::Not(inner) => Condition::Not(Box::new(self.condition(inner)?)),
            Expr::In(term, values) => {
                let one = Decimal { digits: 1, scale: 0 };
                let side = |term: &Term| Side { factor: one, term: term.clone() };
                let equal = |value| self.compare(&side(term), Comparison::Equal, &side(value));
                Condition::Any(values.iter().map(equal).collect::<Result<_, _>>()?)
            }
            Expr::Compare(left, comparison, right) => self.compare(left, *comparison, right)?,
            Expr::Holds(Term::Call(None, name, arguments)) if name == "first_seen" => {
                let own = self.base.ok_or("'first_seen' may stand in an event's own conditions only; move it there")?;
                let (arguments, base) = self.based(arguments, 1, own)?;
                Condition::FirstSeen(self.field_argument(name, arguments)?, base)
            }
            Expr::Holds(Term::Call(None, name, arguments)) if name == "has" => match arguments.as_slice() {
                [Term::Call(None, inner, arguments)] if inner == "feature" => {
                    Condition::Has(self.feature(arguments, None)?)
                }
                _ => Condition::Has(self.field_argument(name, arguments)?),
            },
            Expr::Holds(Term::Name(None, name)) => {
                let column = self.field(name)?;
                if self.schema.slot(name).is_none_or(|slot| self.schema.field(slot).kind != FieldType::Bool) {
                    return Err(format!("'{name}' is not a flag; compare it with something"));
                }
                Condition::Bound(column, Comparison::Equal, 1)
            }
            Expr::Holds(term) => return Err(format!("'{term}' says neither yes nor no; compare it with something")),
        })
    }

    fn compare(&mut self, left: &Side, comparison: Comparison, right: &Side) -> Result<Condition, String> {
        let (a, b) = (self.operand(left)?, self.operand(right)?);
        let text = |source: &TermSource| match source {
            TermSource::Own(column) | TermSource::Taken(_, column) => column.kind == ColumnKind::Text,
            TermSource::Constant(value) => matches!(value, TermValue::Word(_)),
            _ => false,
        };
        if text(&a.source) != text(&b.source) {
            return Err(format!("compares text with a number: '{}' and '{}'", left.term, right.term));
        }
        let equality = matches!(comparison, Comparison::Equal | Comparison::Unequal);
        if text(&a.source) && (!equality || a.factor != (1, 1) || b.factor != (1, 1)) {
            return Err(format!("'{}' is text: it is equal (=) or unequal (!=), and has no factor", left.term));
        }
        if let (TermSource::Own(column), TermSource::Constant(value), (1, 1), (1, 1)) =
            (&a.source, &b.source, a.factor, b.factor)
        {
            match (column.kind, value) {
                (ColumnKind::Text, TermValue::Word(word)) => {
                    return Ok(Condition::Is(*column, comparison == Comparison::Equal, *word));
                }
                (ColumnKind::Exact(unit), TermValue::Exact(top, bottom)) => {
                    let scaled = top * i128::from(unit);
                    if scaled % bottom != 0 {
                        let digits = unit.ilog10();
                        return Err(format!(
                            "'{}' has more digits than '{}', which keeps {digits}; round it",
                            right.term, left.term
                        ));
                    }
                    let bound = i64::try_from(scaled / bottom).map_err(|_| format!("'{}' is too large", right.term))?;
                    return Ok(Condition::Bound(*column, comparison, bound));
                }
                _ => {}
            }
        }
        Ok(Condition::Compare(a, comparison, b))
    }
}

impl EventSpec {
    /// Whether its conditions look at the key's history; not if they cannot be read.
    pub(super) fn looks_back(&self) -> bool {
        self.conditions.iter().any(|text| parse(text).is_ok_and(|expr| looks_back(&expr)))
    }
}

/// Whether a condition looks at the key's history.
fn looks_back(expr: &Expr) -> bool {
    let in_term = |term: &Term| match term {
        Term::Call(Some(of), _, _) => of == "history",
        Term::Call(None, name, _) => name == "first_seen",
        _ => false,
    };
    match expr {
        Expr::All(parts) | Expr::Any(parts) => parts.iter().any(looks_back),
        Expr::Not(inner) => looks_back(inner),
        Expr::Compare(left, _, right) => in_term(&left.term) || in_term(&right.term),
        Expr::In(term, values) => in_term(term) || values.iter().any(in_term),
        Expr::Holds(term) => in_term(term),
    }
}
