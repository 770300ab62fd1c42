//! Values in conditions: fields, features, steps, what is counted, and the key's history.

use xxhash_rust::xxh3::xxh3_64;

use super::condition::{Column, ColumnKind, ColumnOf, Operand, PastMeasure, PastTerm, TermSource, TermValue};
use super::count::{CountAggregate, CountMeasure};
use super::expr::{Decimal, Side, Term};
use super::features::feature_argument;
use super::resolve::Names;

impl Names<'_, '_> {
    /// A value times its factor.
    pub(super) fn operand(&mut self, side: &Side) -> Result<Operand, String> {
        let Decimal { digits, scale } = side.factor;
        let bottom = 10i64.checked_pow(u32::from(scale)).ok_or("the factor has too many digits")?;
        Ok(Operand {
            factor: if scale == 0 { (digits, 1) } else { (digits, bottom) },
            source: self.source(&side.term)?,
        })
    }

    fn source(&mut self, term: &Term) -> Result<TermSource, String> {
        Ok(match term {
            Term::Number(Decimal { digits, scale }) => {
                TermSource::Constant(TermValue::Exact(i128::from(*digits), 10i128.pow(u32::from(*scale))))
            }
            Term::Duration(ms) => TermSource::Constant(TermValue::Exact(i128::from(*ms), 1)),
            Term::Text(text) => TermSource::Constant(TermValue::Word(xxh3_64(text.as_bytes()))),
            Term::Bool(value) => TermSource::Constant(TermValue::Exact(i128::from(*value), 1)),
            Term::Name(None, name) => TermSource::Own(self.field(name)?),
            Term::Name(Some(step), name) => {
                let step = self.step_named(step)?;
                if self.steps[step].aggregates.is_some() {
                    let name = &self.steps[step].name;
                    return Err(format!("step '{name}' counts: use {name}.count(), .sum(..) or .distinct(..)"));
                }
                let column = self.field(name)?;
                self.steps[step].keeps = true;
                TermSource::Taken(step, column)
            }
            Term::Call(Some(of), name, arguments) if of == "history" => TermSource::Past(self.past(name, arguments)?),
            Term::Call(None, name, arguments) if name == "feature" => TermSource::Own(self.feature(arguments, None)?),
            Term::Call(Some(step), name, arguments) if name == "feature" => {
                let step = self.step_of_one(step, "feature")?;
                let column = self.feature(arguments, Some(step))?;
                self.steps[step].keeps = true;
                TermSource::Taken(step, column)
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
                    return Ok(TermSource::Since(self.step_named(step)?));
                }
                let step = self.step_of_one(step, name)?;
                let [lat, lon] = self.location.clone();
                let (lat, lon) = (self.field(&lat)?, self.field(&lon)?);
                if lat.kind != ColumnKind::Float || lon.kind != ColumnKind::Float {
                    return Err("the location's fields must be of type float; name them with location = [..]".into());
                }
                self.steps[step].keeps = true;
                if name == "distance" {
                    TermSource::Distance(step, lat, lon)
                } else {
                    TermSource::Speed(step, lat, lon)
                }
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
        aggregates: &mut Vec<CountAggregate>,
        name: &str,
        arguments: &[Term],
    ) -> Result<TermSource, String> {
        let mut of = |measure: CountMeasure, only: Option<u8>| {
            let aggregate = CountAggregate { measure, only };
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
            ("count", [] | [_]) => {
                Ok(TermSource::Total(step, of(CountMeasure::Count, only(self, arguments.first())?), None, 1))
            }
            ("share", [event]) => {
                let top = of(CountMeasure::Count, only(self, Some(event))?);
                Ok(TermSource::Total(step, top, Some(of(CountMeasure::Count, None)), 1))
            }
            ("sum", [Term::Name(None, field), rest @ ..]) if rest.len() <= 1 => {
                let (column, unit) = self.number(field)?;
                Ok(TermSource::Total(step, of(CountMeasure::Sum(column), only(self, rest.first())?), None, unit))
            }
            ("distinct", [Term::Name(None, field), rest @ ..]) if rest.len() <= 1 => {
                let column = self.field(field)?;
                Ok(TermSource::Total(step, of(CountMeasure::Distinct(column), only(self, rest.first())?), None, 1))
            }
            _ => Err(format!(
                "there is no '{name}' with these; use count(), count(EVENT), share(EVENT), sum(FIELD), distinct(FIELD)"
            )),
        }
    }

    /// Arguments of which there are `own`, and perhaps one more: the named event whose earlier ones are looked at.
    pub(super) fn based<'t>(&self, arguments: &'t [Term], own: usize, base: u8) -> Result<(&'t [Term], u8), String> {
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
    pub(super) fn feature(&mut self, arguments: &[Term], step: Option<usize>) -> Result<Column, String> {
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

    /// The one field among the arguments of a function.
    pub(super) fn field_argument(&mut self, function: &str, arguments: &[Term]) -> Result<Column, String> {
        match arguments {
            [Term::Name(None, field)] => self.field(field),
            _ => Err(format!("'{function}' asks for one field: {function}(FIELD)")),
        }
    }

    /// The column of a field.
    pub(super) fn field(&mut self, name: &str) -> Result<Column, String> {
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
