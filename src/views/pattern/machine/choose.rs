//! After a match (rule 5): which candidates are matches.
//!
//! The automaton finds one *candidate* per first event. They are taken in the order of (completion, start), and each match
//! says where the next one may begin: its `next`. A candidate that begins before that is skipped, unless the match is of an
//! earlier period. A match begins no earlier than the one before it lets it, and lets the next begin no earlier than it did
//! itself, so the last match taken is all that there is to remember, and a change of candidates changes nothing before the
//! first of them.
//!
//! What is skipped is kept as long as a change may reach it: the match that it was skipped for may go.

use super::run::KeptMatch;
use crate::flow::Place;
use crate::flow::after;
use crate::views::pattern::compile::after_match::AfterMatch;
use crate::views::pattern::compile::plan::Program;

impl AfterMatch {
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

/// What is known of the candidates of one pattern over one key, each in order of (completion, start).
pub struct Candidates<'a> {
    /// The matches.
    pub matches: &'a mut Vec<KeptMatch>,
    /// What is skipped.
    pub skipped: &'a mut Vec<KeptMatch>,
}

impl Candidates<'_> {
    /// Adds candidates, and tells again matches from what is skipped, from the first added or `gone` (a completion) on.
    /// Calls `changed` with each that is a match no more (false), or now (true).
    pub fn choose(
        self,
        program: &Program,
        found: &mut Vec<KeptMatch>,
        gone: Option<Place>,
        mut changed: impl FnMut(&mut KeptMatch, bool),
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
        let tail_of = |held: &Vec<KeptMatch>| held.partition_point(|held| held.at < from);
        let mut tail: Vec<(KeptMatch, bool)> = matches.drain(tail_of(matches)..).map(|held| (held, true)).collect();
        tail.extend(skipped.drain(tail_of(skipped)..).map(|held| (held, false)));
        tail.extend(found.drain(..).map(|held| (held, false)));
        tail.sort_by_key(|(held, _)| (held.at, held.start));
        let period = |held: &KeptMatch| held.at.0.div_euclid(program.period_ms);
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
fn insert(matches: &mut Vec<KeptMatch>, held: KeptMatch) {
    let at = matches.partition_point(|known| (known.at, known.start) < (held.at, held.start));
    matches.insert(at, held);
}
