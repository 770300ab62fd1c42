//! What counting steps count, and how many events that takes at least.

use super::condition::{Column, Condition, TermSource, TermValue};
use super::expr::Comparison;

/// What a counting step counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Count {
    /// So many events at least.
    pub at_least: i128,
    /// What is added up; the first is the number of events.
    pub aggregates: Vec<CountAggregate>,
    /// Conditions over these.
    pub having: Option<Condition>,
    /// Only the earliest start within `within` before the last event counts.
    pub whole_window: bool,
    /// What a look at the events' bits can tell: fewer than so many events that are all of these named events are not
    /// enough.
    pub needs: Vec<(u64, i128)>,
}

impl Count {
    /// How many events of which kind there are at least once the count of events that are `bit` is enough.
    pub fn least(&self, bit: u8) -> Vec<(u64, i128)> {
        let mut needs = vec![(1 << bit, self.at_least)];
        let parts = match &self.having {
            Some(Condition::All(parts)) => &parts[..],
            _ => &[],
        };
        for part in parts {
            // One condition is a list of one.
            let part = match part {
                Condition::All(one) if one.len() == 1 => &one[0],
                part => part,
            };
            if let Condition::Compare(left, Comparison::AtLeast | Comparison::More, right) = part
                && let (TermSource::Total(None, top, None, 1), TermSource::Constant(TermValue::Exact(most, per))) =
                    (&left.source, &right.source)
                && (left.factor, right.factor) == ((1, 1), (1, 1))
                && let CountAggregate { measure: CountMeasure::Count | CountMeasure::Distinct(_), only } =
                    &self.aggregates[*top]
            {
                needs.push((1 << bit | only.map_or(0, |only| 1 << only), most / per));
            }
        }
        needs
    }
}

/// One thing that is added up over counted events.
#[derive(Clone, Debug, PartialEq)]
pub struct CountAggregate {
    /// What of each event.
    pub measure: CountMeasure,
    /// Only events that are also this named event.
    pub only: Option<u8>,
}

/// What is added up of each counted event.
#[derive(Clone, Debug, PartialEq)]
pub enum CountMeasure {
    /// One.
    Count,
    /// A field, if the event has it.
    Sum(Column),
    /// One for each value of a field.
    Distinct(Column),
}
