//! What is written about what a match skips (rule 5).

use super::plan::Step;
use super::resolve::StepName;

/// Periods are whole days.
const DAY_MS: i64 = 86_400_000;

/// What is skipped after a match.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AfterMatch {
    /// Nothing: matches may overlap.
    #[default]
    NoSkip,
    /// What began at or before its last event.
    PastLast,
    /// What began before the first event that a step has taken.
    ToFirst(usize),
    /// What began before the last event that a step has taken or counted.
    ToLast(usize),
}

impl AfterMatch {
    /// Resolves what is written. The error says what is wrong and how to mend it.
    pub fn resolve(text: Option<&str>, steps: &[Step], names: &[StepName]) -> Result<Self, String> {
        let there = || names.iter().map(|step| step.name.as_str()).collect::<Vec<_>>().join(", ");
        let (first, name) = match text.map(|text| text.split_once(':').unwrap_or((text, ""))) {
            // As each event begins at most one match, going on with the next event skips nothing.
            None | Some(("no_skip" | "skip_to_next", "")) => return Ok(AfterMatch::NoSkip),
            Some(("skip_past_last", "")) => return Ok(AfterMatch::PastLast),
            Some(("skip_to_first", name)) => (true, name),
            Some(("skip_to_last", name)) => (false, name),
            Some(_) => {
                return Err(format!(
                    "'{}' is not known; write \"no_skip\", \"skip_past_last\", \"skip_to_next\", \"skip_to_first:STEP\" or \
                     \"skip_to_last:STEP\"",
                    text.unwrap_or_default()
                ));
            }
        };
        let step = names.iter().position(|step| step.name == name);
        let step = step.ok_or_else(|| {
            let to = if first { "skip_to_first" } else { "skip_to_last" };
            format!("there is no step '{name}' to skip to; write \"{to}:STEP\" with one of: {}", there())
        })?;
        if step == 0 && (first || steps.first().is_none_or(|step| step.count.is_none())) {
            return Err(format!(
                "the event of '{name}' to skip to is always the first of the match itself; name a later step, or write \
                 \"no_skip\""
            ));
        }
        Ok(if first { AfterMatch::ToFirst(step) } else { AfterMatch::ToLast(step) })
    }
}

/// How long a period is: the pattern's reach in whole days, rounded up. Matches of one period skip nothing of another.
pub fn period_ms(reach_ms: i64) -> i64 {
    reach_ms.max(1).saturating_add(DAY_MS - 1) / DAY_MS * DAY_MS
}
