//! After-match skipping by definition: each candidate is held against every match before it.

use super::candidate::{KeyTwin, StepEvents};
use super::{DAY_MS, Found};
use crate::views::pattern::expr::duration_ms;

impl KeyTwin<'_> {
    /// The matches among the candidates of a key, each with the events that its steps took.
    pub(super) fn not_skipped(&self, mut candidates: Vec<(Found, StepEvents)>) -> Vec<Found> {
        candidates.sort_by_key(|(one, taken)| (one.at, taken[0][0]));
        let mut matches: Vec<(Found, StepEvents)> = Vec::new();
        for (one, taken) in candidates {
            let skips = |(other, of): &(Found, StepEvents)| {
                self.period(other) == self.period(&one) && self.skips(of, taken[0][0])
            };
            if !matches.iter().any(skips) {
                matches.push((one, taken));
            }
        }
        matches.into_iter().map(|(one, _)| one).collect()
    }

    /// The period of so many days, the reach of the pattern, in which a match is complete.
    fn period(&self, one: &Found) -> i64 {
        let absent = self.spec.steps.last().and_then(|step| step.within.as_deref());
        let stays_away_ms = absent.and_then(|text| duration_ms(text).ok()).unwrap_or(0);
        let reach_ms = self.within_ms() + stays_away_ms;
        let days = (1..).find(|days| days * DAY_MS >= reach_ms).unwrap_or(1);
        one.at.0.div_euclid(days * DAY_MS)
    }

    /// Whether a match that took these events skips what begins at `start`.
    fn skips(&self, taken: &StepEvents, start: usize) -> bool {
        let strategy = self.spec.after_match.as_deref().unwrap_or("no_skip");
        let of_step =
            |name: &str| self.spec.steps.iter().position(|step| step.name() == Some(name)).map(|at| &taken[at]);
        match strategy.split_once(':') {
            None => strategy == "skip_past_last" && taken.iter().flatten().any(|&at| start <= at),
            Some((to, name)) => of_step(name).is_some_and(|events| {
                let target = if to == "skip_to_first" { events.first() } else { events.last() };
                target.is_some_and(|target| start < *target)
            }),
        }
    }
}
