//! From written conditions to conditions with places for names, checked against the schema.

use std::collections::BTreeMap;

use xxhash_rust::xxh3::xxh3_64;

use super::condition::{Column, ColumnKind, ColumnOf, Condition, Operand, Source, Value};
use super::count::{Aggregate, Measure};
use super::expr::{Comparison, Decimal, Expr, Side, Term, parse};
use super::features::{FeatureNames, feature_argument};
use super::history::{PastMeasure, PastTerm};
use super::plan::{Group, NamedEvent};
use super::spec::{EventSpec, KeySpec};
use crate::event::{FieldType, Schema};

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
    pub here: Option<Vec<Aggregate>>,
}

/// A step that later ones may name.
pub struct StepName {
    /// Its name.
    pub name: String,
    /// The kinds of its event.
    pub kinds: Vec<u16>,
    /// What it adds up, if it counts.
    pub aggregates: Option<Vec<Aggregate>>,
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
        let text = |source: &Source| match source {
            Source::Own(column) | Source::Taken(_, column) => column.kind == ColumnKind::Text,
            Source::Constant(value) => matches!(value, Value::Word(_)),
            _ => false,
        };
        if text(&a.source) != text(&b.source) {
            return Err(format!("compares text with a number: '{}' and '{}'", left.term, right.term));
        }
        let equality = matches!(comparison, Comparison::Equal | Comparison::Unequal);
        if text(&a.source) && (!equality || a.factor != (1, 1) || b.factor != (1, 1)) {
            return Err(format!("'{}' is text: it is equal (=) or unequal (!=), and has no factor", left.term));
        }
        if let (Source::Own(column), Source::Constant(value), (1, 1), (1, 1)) =
            (&a.source, &b.source, a.factor, b.factor)
        {
            match (column.kind, value) {
                (ColumnKind::Text, Value::Word(word)) => {
                    return Ok(Condition::Is(*column, comparison == Comparison::Equal, *word));
                }
                (ColumnKind::Exact(unit), Value::Exact(top, bottom)) => {
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

    fn operand(&mut self, side: &Side) -> Result<Operand, String> {
        let Decimal { digits, scale } = side.factor;
        let bottom = 10i64.checked_pow(u32::from(scale)).ok_or("the factor has too many digits")?;
        Ok(Operand {
            factor: if scale == 0 { (digits, 1) } else { (digits, bottom) },
            source: self.source(&side.term)?,
        })
    }

    fn source(&mut self, term: &Term) -> Result<Source, String> {
        Ok(match term {
            Term::Number(Decimal { digits, scale }) => {
                Source::Constant(Value::Exact(i128::from(*digits), 10i128.pow(u32::from(*scale))))
            }
            Term::Duration(ms) => Source::Constant(Value::Exact(i128::from(*ms), 1)),
            Term::Text(text) => Source::Constant(Value::Word(xxh3_64(text.as_bytes()))),
            Term::Bool(value) => Source::Constant(Value::Exact(i128::from(*value), 1)),
            Term::Name(None, name) => Source::Own(self.field(name)?),
            Term::Name(Some(step), name) => {
                let step = self.step_named(step)?;
                if self.steps[step].aggregates.is_some() {
                    let name = &self.steps[step].name;
                    return Err(format!("step '{name}' counts: use {name}.count(), .sum(..) or .distinct(..)"));
                }
                let column = self.field(name)?;
                self.steps[step].keeps = true;
                Source::Taken(step, column)
            }
            Term::Call(Some(of), name, arguments) if of == "history" => Source::Past(self.past(name, arguments)?),
            Term::Call(None, name, arguments) if name == "feature" => Source::Own(self.feature(arguments, None)?),
            Term::Call(Some(step), name, arguments) if name == "feature" => {
                let step = self.step_of_one(step, "feature")?;
                let column = self.feature(arguments, Some(step))?;
                self.steps[step].keeps = true;
                Source::Taken(step, column)
            }
            Term::Call(Some(step), name, arguments) => {
                let step = self.step_named(step)?;
                let mut aggregates = self.steps[step].aggregates.take().ok_or_else(|| {
                    format!("step '{}' takes one event: name a field of it, or let it count", self.steps[step].name)
                })?;
                let source = self.total(Some(step), &mut aggregates, name, arguments);
                self.steps[step].aggregates = Some(aggregates);
                source?
            }
            Term::Call(None, name, arguments) if ["distance", "speed", "since"].contains(&name.as_str()) => {
                let [Term::Name(None, step)] = arguments.as_slice() else {
                    return Err(format!("'{name}' asks for an earlier step: {name}(STEP)"));
                };
                if name == "since" {
                    return Ok(Source::Since(self.step_named(step)?));
                }
                let step = self.step_of_one(step, name)?;
                let [lat, lon] = self.location.clone();
                let (lat, lon) = (self.field(&lat)?, self.field(&lon)?);
                if lat.kind != ColumnKind::Float || lon.kind != ColumnKind::Float {
                    return Err("the location's fields must be of type float; name them with location = [..]".into());
                }
                self.steps[step].keeps = true;
                if name == "distance" { Source::Distance(step, lat, lon) } else { Source::Speed(step, lat, lon) }
            }
            Term::Call(None, name, arguments) => {
                let Some(mut aggregates) = self.here.take() else {
                    return Err(format!("'{name}(..)' may stand in a counting step's 'having' only"));
                };
                let source = self.total(None, &mut aggregates, name, arguments);
                self.here = Some(aggregates);
                source?
            }
        })
    }

    /// An aggregate over counted events.
    fn total(
        &mut self,
        step: Option<usize>,
        aggregates: &mut Vec<Aggregate>,
        name: &str,
        arguments: &[Term],
    ) -> Result<Source, String> {
        let mut of = |measure: Measure, only: Option<u8>| {
            let aggregate = Aggregate { measure, only };
            aggregates.iter().position(|known| *known == aggregate).unwrap_or_else(|| {
                aggregates.push(aggregate);
                aggregates.len() - 1
            })
        };
        let only = |names: &Self, term: Option<&Term>| match term {
            None => Ok(None),
            Some(Term::Name(None, event)) => names.named(event).map(Some),
            Some(term) => Err(format!("'{term}' is no event")),
        };
        match (name, arguments) {
            ("count", [] | [_]) => Ok(Source::Total(step, of(Measure::Count, only(self, arguments.first())?), None, 1)),
            ("share", [event]) => {
                let top = of(Measure::Count, only(self, Some(event))?);
                Ok(Source::Total(step, top, Some(of(Measure::Count, None)), 1))
            }
            ("sum", [Term::Name(None, field), rest @ ..]) if rest.len() <= 1 => {
                let (column, unit) = self.number(field)?;
                Ok(Source::Total(step, of(Measure::Sum(column), only(self, rest.first())?), None, unit))
            }
            ("distinct", [Term::Name(None, field), rest @ ..]) if rest.len() <= 1 => {
                let column = self.field(field)?;
                Ok(Source::Total(step, of(Measure::Distinct(column), only(self, rest.first())?), None, 1))
            }
            _ => Err(format!(
                "there is no '{name}' with these; use count(), count(EVENT), share(EVENT), sum(FIELD), distinct(FIELD)"
            )),
        }
    }

    /// Arguments of which there are `own`, and perhaps one more: the named event whose earlier ones are looked at.
    fn based<'t>(&self, arguments: &'t [Term], own: usize, base: u8) -> Result<(&'t [Term], u8), String> {
        match arguments.split_last() {
            Some((Term::Name(None, event), before)) if before.len() == own => Ok((before, self.named_alone(event)?)),
            _ => Ok((arguments, base)),
        }
    }

    /// The bit of a named event that does not look at the key's history.
    fn named_alone(&self, name: &str) -> Result<u8, String> {
        self.named(name).map_err(|reason| format!("{reason} (events that look at the history cannot be named here)"))
    }

    fn past(&mut self, name: &str, arguments: &[Term]) -> Result<PastTerm, String> {
        let own = self.base.ok_or("'history' may stand in an event's own conditions only; move it there")?;
        let fields = match name {
            "sum" => 2,
            "mean" | "median_day" => 1,
            _ => 0,
        };
        let (arguments, base) = self.based(arguments, fields, own)?;
        let measure = match (name, arguments) {
            ("count", []) => PastMeasure::Count,
            ("since_last", []) => PastMeasure::SinceLast,
            ("age", []) => PastMeasure::Age,
            ("mean", [Term::Name(None, field)]) => PastMeasure::Mean(self.number(field)?.0),
            ("median_day", [Term::Name(None, field)]) => PastMeasure::MedianDay(self.number(field)?.0),
            ("sum", [Term::Name(None, field), Term::Duration(ms)]) => PastMeasure::Sum(self.number(field)?.0, *ms),
            _ => {
                return Err(format!(
                    "there is no history.{name} with these; use history.count(), since_last(), age(), mean(FIELD), \
                     median_day(FIELD) or sum(FIELD, 24h), each perhaps with an event as last argument"
                ));
            }
        };
        Ok(PastTerm { measure, base })
    }

    fn step_named(&self, name: &str) -> Result<usize, String> {
        let known = || self.steps.iter().map(|step| step.name.as_str()).collect::<Vec<_>>().join(", ");
        let at = self.steps.iter().position(|step| step.name == name);
        at.ok_or_else(|| match self.steps.is_empty() {
            true => format!("there is no step '{name}' before this one"),
            false => format!("there is no step '{name}' before this one; there are: {}", known()),
        })
    }

    /// A step that takes one event.
    fn step_of_one(&self, name: &str, function: &str) -> Result<usize, String> {
        let step = self.step_named(name)?;
        match self.steps[step].aggregates {
            None => Ok(step),
            Some(_) => Err(format!("step '{name}' counts; '{function}' asks for a step of one event")),
        }
    }

    /// The column of a velocity feature, of the event itself or of a step's.
    fn feature(&mut self, arguments: &[Term], step: Option<usize>) -> Result<Column, String> {
        let name = feature_argument(arguments)?;
        if self.here.is_some() && step.is_none() {
            return Err(format!(
                "feature('{name}') is of one event, and 'having' is over all that are counted; put it into the event or \
                 the step's 'where'"
            ));
        }
        let kinds = step.map_or(&self.kinds, |step| &self.steps[step].kinds);
        if let Some(&kind) = kinds.iter().find(|&&kind| !self.schema.is_scored(kind)) {
            let names = self.schema.kinds();
            let scored = (0..names.len()).filter(|&kind| self.schema.is_scored(kind as u16));
            return Err(format!(
                "feature('{name}') is of scored events, and '{}' is not scored; let the event be of these kinds only: {}",
                names[usize::from(kind)],
                scored.map(|kind| names[kind].as_str()).collect::<Vec<_>>().join(", ")
            ));
        }
        let of = ColumnOf::Feature(self.features.number(name)?);
        Ok(self.placed(Column { of, index: u16::MAX, kind: ColumnKind::Float }))
    }

    /// A column of numbers that can be added up exactly, and its unit.
    fn number(&mut self, name: &str) -> Result<(Column, i64), String> {
        let column = self.field(name)?;
        match column.kind {
            ColumnKind::Exact(unit) => Ok((column, unit)),
            _ => Err(format!("'{name}' is not an integer; declare it as decimal with a scale")),
        }
    }

    fn field_argument(&mut self, function: &str, arguments: &[Term]) -> Result<Column, String> {
        match arguments {
            [Term::Name(None, field)] => self.field(field),
            _ => Err(format!("'{function}' asks for one field: {function}(FIELD)")),
        }
    }

    fn field(&mut self, name: &str) -> Result<Column, String> {
        let unknown =
            || format!("the schema '{}' has no field '{name}'; add it there or use another", self.schema.name());
        let slot = self.schema.slot(name).ok_or_else(unknown)?;
        let of = ColumnOf::Field(slot);
        Ok(self.placed(Column { of, index: u16::MAX, kind: ColumnKind::of(self.schema, slot) }))
    }

    /// The column with its place in the log, if it is looked at there.
    fn placed(&mut self, column: Column) -> Column {
        if self.alone { column } else { self.group.column(column) }
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
