//! Velocity features in conditions: their names, and where their values are found.
//!
//! A feature's value is the cell of the event's own row, as the velocity store gives it: nothing is computed twice. Names
//! are resolved to numbers once; per epoch the store's slices, which come by ticket, are cut to those numbers (`cut.rs`).

use super::expr::{Expr, Term, parse};
use crate::views::pattern::spec::{EventSpec, PatternSpec};
use crate::views::velocity::Velocity;

/// Names that an error proposes at most.
const NAMES_MAX: usize = 5;

/// Where the value of a feature is found.
#[derive(Clone, Copy, Debug)]
pub struct FeatureCell {
    /// The plan of its key's blocks ([`crate::flow::Block::plan`]).
    pub plan: u16,
    /// Features of that key.
    pub width: usize,
    /// Its place among them.
    pub place: usize,
    /// Its value for an event without the key; NaN is missing.
    pub default: f64,
}

/// The default is compared bit by bit: missing is equal to missing.
impl PartialEq for FeatureCell {
    fn eq(&self, other: &Self) -> bool {
        let all = |cell: &FeatureCell| (cell.plan, cell.width, cell.place, cell.default.to_bits());
        all(self) == all(other)
    }
}

/// The velocity features of a dataflow, and which of them conditions look at.
pub struct FeatureNames<'a> {
    velocities: &'a [Velocity],
    /// Those that are looked at; the place is the number.
    pub cells: Vec<FeatureCell>,
}

impl<'a> FeatureNames<'a> {
    /// None is looked at yet.
    pub fn new(velocities: &'a [Velocity]) -> Self {
        FeatureNames { velocities, cells: Vec::new() }
    }

    /// The number of a feature. The error says what can be written.
    pub fn number(&mut self, name: &str) -> Result<u16, String> {
        let cell = self.velocities.iter().enumerate().find_map(|(plan, velocity)| {
            let place = velocity.features().iter().position(|feature| feature.name == name)?;
            let (width, default) = (velocity.features().len(), velocity.features()[place].default);
            Some(FeatureCell { plan: plan as u16, width, place, default })
        });
        let cell = cell.ok_or_else(|| self.unknown(name))?;
        let known = self.cells.iter().position(|known| (known.plan, known.place) == (cell.plan, cell.place));
        Ok(known.unwrap_or_else(|| {
            self.cells.push(cell);
            self.cells.len() - 1
        }) as u16)
    }

    fn unknown(&self, name: &str) -> String {
        let features = self.velocities.iter().flat_map(|velocity| velocity.features());
        let mut names: Vec<&str> = features.map(|feature| feature.name.as_str()).collect();
        if names.is_empty() {
            return format!(
                "there is no velocity feature '{name}', for there are none beside these patterns; add a Velocity to the \
                 dataflow's features"
            );
        }
        let alike = |other: &str| name.chars().zip(other.chars()).take_while(|(a, b)| a == b).count();
        names.sort_by_key(|other| (std::cmp::Reverse(alike(other)), other.len()));
        let more = if names.len() > NAMES_MAX { " or another" } else { "" };
        names.truncate(NAMES_MAX);
        format!(
            "there is no velocity feature '{name}' in this dataflow; write one of {}{more}, or add it to the \
             dataflow's velocities",
            names.join(", ")
        )
    }
}

/// The name in the arguments of `feature(..)`: as a word, or between quotes.
pub fn feature_argument(arguments: &[Term]) -> Result<&str, String> {
    match arguments {
        [Term::Name(None, name) | Term::Text(name)] => Ok(name),
        _ => Err("'feature' asks for the name of one velocity feature, like feature('card_count_1h')".into()),
    }
}

impl PatternSpec {
    /// Whether one of its conditions looks at a velocity feature; not if they cannot be read.
    pub fn looks_at_features(&self) -> bool {
        let of_steps = self.steps.iter().flat_map(|step| step.conditions.iter().chain(&step.having));
        any_looks(of_steps) || self.events.values().any(EventSpec::looks_at_features)
    }
}

impl EventSpec {
    /// The same of an event's own conditions.
    pub fn looks_at_features(&self) -> bool {
        any_looks(&self.conditions)
    }
}

fn any_looks<'a>(conditions: impl IntoIterator<Item = &'a String>) -> bool {
    conditions.into_iter().any(|text| parse(text).is_ok_and(|expr| looks(&expr)))
}

fn looks(expr: &Expr) -> bool {
    match expr {
        Expr::All(parts) | Expr::Any(parts) => parts.iter().any(looks),
        Expr::Not(inner) => looks(inner),
        Expr::Compare(left, _, right) => is_feature(&left.term) || is_feature(&right.term),
        Expr::In(term, values) => is_feature(term) || values.iter().any(is_feature),
        Expr::Holds(term) => is_feature(term),
    }
}

/// Whether a term is a feature, or asks for one among its arguments.
fn is_feature(term: &Term) -> bool {
    matches!(term, Term::Call(_, name, arguments) if name == "feature" || arguments.iter().any(is_feature))
}
