//! Conversions, searches in texts, and lists.

use cel::common::ast::{Expr, IdedExpr, ListExpr};
use regex::RegexBuilder;

use super::super::program::{Among, Bool, Double, Int, Search, Text, Typed, bits};
use super::{Checked, Checker, is_exact, shortened};
use crate::score::lists::Lists;

const NO_LIST: &str = "`in` takes the name of a list, or constants as in kind in ['payment', 'refund']";

/// Bytes that a pattern may be compiled to.
const PATTERN_BYTES_MAX: usize = 256 << 10;

impl Checker<'_> {
    pub(super) fn convert(&self, at: &IdedExpr, to: &str, inner: &IdedExpr) -> Checked {
        Ok(match (to, self.typed(inner)?) {
            ("int", Typed::Int(value)) => Typed::Int(value),
            ("int", Typed::Double(value)) => Typed::Int(Int::OfDouble(Box::new(value))),
            ("int", Typed::Text(value)) => Typed::Int(Int::OfText(Box::new(value))),
            ("double", Typed::Double(value)) => Typed::Double(value),
            ("double", Typed::Int(value)) => Typed::Double(Double::OfInt(Box::new(value))),
            ("double", Typed::Text(value)) => Typed::Double(Double::OfText(Box::new(value))),
            ("string", Typed::Text(value)) => Typed::Text(value),
            ("string", Typed::Int(value)) => Typed::Text(Text::OfInt(Box::new(value))),
            ("string", Typed::Bool(value)) => Typed::Text(Text::OfBool(Box::new(value))),
            ("bool", Typed::Bool(value)) => Typed::Bool(value),
            (_, other) => return self.refuse(at, format!("there is no {to}() of {}", other.one())),
        })
    }

    pub(super) fn search(&self, at: &IdedExpr, how: &str, text: &IdedExpr, part: &IdedExpr) -> Checked {
        let (text, part) = match (self.typed(text)?, self.typed(part)?) {
            (Typed::Text(text), Typed::Text(part)) => (text, part),
            (one, other) => {
                let (one, other) = (one.one(), other.one());
                return self.refuse(at, format!("{how} looks for a string in a string, not for {other} in {one}"));
            }
        };
        let search = match how {
            "contains" => Search::Contains(part),
            "startsWith" => Search::StartsWith(part),
            "endsWith" => Search::EndsWith(part),
            _ => {
                let Text::Const(pattern) = &part else {
                    return self.refuse(at, "the pattern of matches() must be a constant");
                };
                let built =
                    RegexBuilder::new(pattern).size_limit(PATTERN_BYTES_MAX).dfa_size_limit(PATTERN_BYTES_MAX).build();
                match built {
                    Ok(pattern) => Search::Matches(pattern),
                    Err(error) => {
                        let error = error.to_string();
                        let reason = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
                        let pattern = shortened(pattern);
                        return self.refuse(at, format!("the pattern {pattern:?}: {reason}"));
                    }
                }
            }
        };
        Ok(Typed::Bool(Bool::Search(Box::new((text, search)))))
    }

    pub(super) fn among(&self, at: &IdedExpr, value: &IdedExpr, list: &IdedExpr) -> Checked {
        let (elements, optional_indices) = match &list.expr {
            Expr::List(ListExpr { elements, optional_indices }) => (elements, optional_indices),
            Expr::Ident(name) => return self.listed(value, list, name),
            _ => return self.refuse(list, NO_LIST),
        };
        if !optional_indices.is_empty() {
            return self.refuse(list, "optional elements are not supported");
        }
        let constants = elements.iter().map(|element| Ok((element, self.typed(element)?)));
        let constants = constants.collect::<Checked<Vec<(&IdedExpr, Typed)>>>()?;
        let among = match self.typed(value)? {
            Typed::Text(value) => Among::Texts(
                value,
                self.constants(constants, "string", |constant| match constant {
                    Typed::Text(Text::Const(text)) => Some(text),
                    _ => None,
                })?,
            ),
            Typed::Int(value) => Among::Ints(
                value,
                self.constants(constants, "int", |constant| match constant {
                    Typed::Int(constant) => constant_of(&constant),
                    _ => None,
                })?,
            ),
            Typed::Double(value) => Among::Doubles(
                value,
                self.constants(constants, "number", |constant| match constant {
                    Typed::Int(constant) => {
                        constant_of(&constant).filter(|&int| is_exact(int)).map(|int| bits(int as f64))
                    }
                    Typed::Double(Double::Const(double)) => Some(bits(double)),
                    Typed::Double(Double::Negate(inner)) => match *inner {
                        Double::Const(double) => Some(bits(-double)),
                        _ => None,
                    },
                    _ => None,
                })?,
            ),
            Typed::Bool(_) => return self.refuse(at, "a bool is in no list: compare it"),
        };
        Ok(Typed::Bool(Bool::In(Box::new(among))))
    }

    /// The number of a list.
    pub(super) fn list(&self, name: &str) -> Option<u32> {
        self.scope.lists?.number(name)
    }

    fn listed(&self, value: &IdedExpr, list: &IdedExpr, name: &str) -> Checked {
        let feature = self.scope.columns.contains_key(name).then_some("feature");
        let other = feature.or_else(|| self.scope.schema.slot(name).map(|_| "field of the event"));
        let number = match (self.list(name), other) {
            (Some(number), None) => number,
            (Some(_), Some(other)) => {
                return self.refuse(list, format!("`{name}` is a list and a {other}: give the list another name"));
            }
            (None, Some(_)) => return self.refuse(list, NO_LIST),
            (None, None) if matches!(name, "score" | "kind") => return self.refuse(list, NO_LIST),
            (None, None) => {
                let known = self.scope.lists.into_iter().flat_map(Lists::names);
                return self.unknown(list, "no list", name, known);
            }
        };
        let text = match self.typed(value)? {
            Typed::Text(text) => text,
            Typed::Int(int) => Text::OfInt(Box::new(int)),
            other => {
                return self.refuse(value, format!("{} is on no list: they hold strings and ints", other.one()));
            }
        };
        self.lists.borrow_mut().insert(number);
        Ok(Typed::Bool(Bool::Listed(number, Box::new(text))))
    }

    fn constants<C: FromIterator<T>, T>(
        &self,
        constants: Vec<(&IdedExpr, Typed)>,
        wanted: &str,
        of: impl Fn(Typed) -> Option<T>,
    ) -> Checked<C> {
        let one = |(at, constant): (&IdedExpr, Typed)| match of(constant) {
            Some(constant) => Ok(constant),
            None => self.refuse(at, format!("a list to look a {wanted} up in holds constants of that type only")),
        };
        constants.into_iter().map(one).collect()
    }
}

/// An int that is one at activation.
fn constant_of(int: &Int) -> Option<i64> {
    match int {
        Int::Const(value) => Some(*value),
        Int::Negate(inner) => constant_of(inner)?.checked_neg(),
        _ => None,
    }
}
