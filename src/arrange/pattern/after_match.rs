//! After a match (rule 5): which candidates are matches.
//!
//! The automaton finds one *candidate* per first event. They are taken in the order of (completion, start), and each match
//! says where the next one may begin: its `next`. A candidate that begins before that is skipped, unless the match is of an
//! earlier period. A match begins no earlier than the one before it lets it, and lets the next begin no earlier than it did
//! itself, so the last match taken is all that there is to remember, and a change of candidates changes nothing before the
//! first of them.
//!
//! What is skipped is kept as long as a change may reach it: the match that it was skipped for may go.

use super::log::Place;
use super::plan::{Program, Step};
use super::resolve::StepName;
use super::run::Held;
use crate::event::Id;

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

    /// Where the next match may begin, if the event at `place`, taken (its first) or counted by a step, decides that for
    /// now.
    #[inline]
    pub fn next(self, step: usize, first: bool, place: Place) -> Option<Place> {
        match self {
            AfterMatch::NoSkip => None,
            AfterMatch::PastLast => Some(after(place)),
            AfterMatch::ToFirst(of) => (of == step && first).then_some(place),
            AfterMatch::ToLast(of) => (of == step).then_some(place),
        }
    }
}

/// The position right after another.
fn after((time, id): Place) -> Place {
    let whole = u128::from(id.hi) << 64 | u128::from(id.lo);
    match whole.checked_add(1) {
        Some(more) => (time, Id { hi: (more >> 64) as u64, lo: more as u64 }),
        None => (time.saturating_add(1), Id::default()),
    }
}

/// How long a period is: the pattern's reach in whole days, rounded up. Matches of one period skip nothing of another.
pub fn period_ms(reach_ms: i64) -> i64 {
    reach_ms.max(1).saturating_add(DAY_MS - 1) / DAY_MS * DAY_MS
}

/// What is known of the candidates of one pattern over one key, each in order of (completion, start).
pub struct Candidates<'a> {
    /// The matches.
    pub matches: &'a mut Vec<Held>,
    /// What is skipped.
    pub skipped: &'a mut Vec<Held>,
}

impl Candidates<'_> {
    /// Adds candidates, and tells again matches from what is skipped, from the first added or `gone` (a completion) on.
    /// Calls `changed` with each that is a match no more (false), or now (true).
    pub fn choose(
        self,
        program: &Program,
        found: &mut Vec<Held>,
        gone: Option<Place>,
        mut changed: impl FnMut(&mut Held, bool),
    ) {
        let Candidates { matches, skipped } = self;
        if program.after_match == AfterMatch::NoSkip {
            for mut held in found.drain(..) {
                changed(&mut held, true);
                insert(matches, held);
            }
            return;
        }
        let Some(from) = found.iter().map(|held| held.at).chain(gone).min() else { return };
        let tail_of = |held: &Vec<Held>| held.partition_point(|held| held.at < from);
        let mut tail: Vec<(Held, bool)> = matches.drain(tail_of(matches)..).map(|held| (held, true)).collect();
        tail.extend(skipped.drain(tail_of(skipped)..).map(|held| (held, false)));
        tail.extend(found.drain(..).map(|held| (held, false)));
        tail.sort_by_key(|(held, _)| (held.at, held.start));
        let period = |held: &Held| held.at.0.div_euclid(program.period_ms);
        let mut last = matches.last().map(|held| (period(held), held.next));
        for (mut held, was) in tail {
            let of = period(&held);
            let is = last.is_none_or(|(period, next)| period != of || next <= held.start);
            if is != was {
                changed(&mut held, is);
            }
            if is {
                last = Some((of, held.next));
                matches.push(held);
            } else {
                held.announced = false;
                skipped.push(held);
            }
        }
    }
}

/// Puts a match to its place.
fn insert(matches: &mut Vec<Held>, held: Held) {
    let at = matches.partition_point(|known| (known.at, known.start) < (held.at, held.start));
    matches.insert(at, held);
}
