//! Expressions that are ready to be evaluated.

use super::check::{ExpressionError, Scope, check};
use super::program::{Bool, Fault, RuleFacts, Typed};

/// A condition: an expression that is a bool.
#[derive(Clone, Debug)]
pub struct RuleCondition {
    holds: Bool,
    /// Numbers of the lists that it looks into, each once.
    lists: Box<[u32]>,
}

/// An expression of any type.
#[derive(Clone, Debug)]
pub struct Expression(Typed);

/// What an expression comes to.
#[derive(Clone, Debug, PartialEq)]
pub enum ExpressionValue {
    /// A bool.
    Bool(bool),
    /// An int.
    Int(i64),
    /// A double.
    Double(f64),
    /// A string.
    Text(String),
}

impl RuleCondition {
    /// Parses, checks and lowers an expression, which must be a bool.
    ///
    /// # Errors
    /// If it is none, with the position.
    pub fn new(source: &str, scope: &Scope<'_>) -> Result<Self, ExpressionError> {
        match check(source, scope)? {
            (Typed::Bool(holds), lists) => Ok(RuleCondition { holds, lists: lists.into_iter().collect() }),
            (other, _) => {
                let reason = format!("is {} and not a bool: compare it with something", other.one());
                Err(ExpressionError { line: 1, column: 1, reason })
            }
        }
    }

    /// Whether it holds.
    ///
    /// # Errors
    /// If it has no value; what is missing makes a comparison false and is no error here.
    pub fn holds(&self, facts: &RuleFacts<'_>) -> Result<bool, Fault> {
        self.holds.eval(facts)
    }

    /// Numbers of the lists that it looks into.
    pub fn lists(&self) -> impl Iterator<Item = u32> {
        self.lists.iter().copied()
    }
}

impl Expression {
    /// Parses, checks and lowers an expression.
    ///
    /// # Errors
    /// If it is wrong, with the position.
    pub fn new(source: &str, scope: &Scope<'_>) -> Result<Self, ExpressionError> {
        check(source, scope).map(|(typed, _)| Expression(typed))
    }

    /// What it comes to.
    ///
    /// # Errors
    /// If it has no value.
    pub fn value(&self, facts: &RuleFacts<'_>) -> Result<ExpressionValue, Fault> {
        Ok(match &self.0 {
            Typed::Bool(value) => ExpressionValue::Bool(value.eval(facts)?),
            Typed::Int(value) => ExpressionValue::Int(value.eval(facts)?),
            Typed::Double(value) => ExpressionValue::Double(value.eval(facts)?),
            Typed::Text(value) => ExpressionValue::Text(value.eval(facts)?.into_owned()),
        })
    }
}
