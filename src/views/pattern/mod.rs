//! Event patterns: sequences, counts and absences of events of one key, in event time.
//!
//! ```text
//!  changes ─► [patterns: cut] ── requests, by key ──► [patterns: own] ──┬── slices, by origin
//!                                                                       ├── matches (differential, with event ids)
//!                                                                       └── touched ids, beyond
//! ```
//!
//! # Floor plan
//!
//! What comes in: changes of retained events, and the slices of the velocity features that conditions look at. What goes out:
//! slices of features, matches with diffs, rows to be read again, and changes that touched rows too old for that.
//!
//! * [`spec`] is what is written; [`compile`] makes plain data of it; [`machine`] runs that over the logs of keys, and
//!   [`cycles`] over a graph of transfers. [`compile`] knows nothing of the other two.
//! * [`cut`] turns changes into requests of the keys, `view` is what the owner of a worker's keys runs (what an epoch does to one
//!   group is an [`outcome`]); `family` is the face towards a dataflow, and
//!   [`twin`] computes the same from scratch.
//!
//! What holds at every closed epoch: the matches of a key are those that the next section defines over its retained events.
//!
//! # What a pattern means
//!
//! A pattern ([`spec`], written in TOML) looks at the retained events of one key in (event time, id) order: call them the
//! *log*. Its named events are conditions over one event: kinds, comparisons of its own fields, and what the key's earlier
//! events say (`first_seen`, `history`; see [`history`]). An event may be several named events at once.
//!
//! For each event `e` of the log that is the first step's named event there is at most one candidate that begins at `e`. It
//! follows from the log alone, by rules 1 to 4; a candidate is a match unless rule 5 skips it:
//!
//! 1. **A step of one event** takes the first event after what the step before has taken that is acceptable, whatever lies
//!    between. Acceptable is an event that is the step's named event, for which the step's conditions hold (over its own
//!    fields and those of the steps taken), for which no event of the step's `not` lies strictly between the last event
//!    taken or counted before and it, and whose time is less than `within` after that of `e`.
//! 2. **A counting step** takes its first event in the same way (`e` itself if it is the first step), and then counts
//!    every later event that is its named event and for which its conditions hold, until the next step takes its first.
//!    Next to it, only those events are acceptable to the next step before which the count is enough: `at_least` and
//!    `having` hold over what has been counted before them. An event that the next step can take is not counted. A counting
//!    step that is the last is complete with the first counted event at which the count is enough.
//!    With `whole_window` (a pattern of this one step) a start is complete only with an event before which it is the earliest
//!    within `within`: the count is over everything in `(t - within, t]`.
//! 3. **Absence**: with a last step `absent`, the candidate is complete once its event has stayed away for the step's `within`:
//!    no event that is it, and for which its conditions hold, has a time in `[t, t + within)` and comes after the last event
//!    taken, whose time is `t`. It is complete at `t + within`, before all events of that time. A row sees it as of its own
//!    event time; the collection of matches has it once the watermark has come to `t + within`.
//! 4. `within` is from the first event to the last that is taken or counted: less than that. Exactly that is too late.
//! 5. **After a match** (`after_match`): candidates are taken in the order of (completion, start), and one is a match unless
//!    its start is skipped by a match taken before it that is complete in the same period.
//!    * `no_skip`, or nothing written: no start is skipped; matches may overlap.
//!    * `skip_past_last`: a match skips what began at or before its last event (an absence takes none).
//!    * `skip_to_first:STEP`, `skip_to_last:STEP`: a match skips what began before the first, or the last, event that the step
//!      has taken. That cannot be the step whose event is always the first of the match itself. Where it happens to be (a
//!      first count of one), what began earlier and is complete later is skipped, and nothing else.
//!    * `skip_to_next`: what began at the first event is skipped; as that is one candidate at most, it is `no_skip`.
//!
//!    A period is the pattern's reach (`within` and the absence's length) in whole days, rounded up; periods follow each other
//!    from 1970 on, so most patterns begin anew at midnight UTC. Without that, the three payments that are a match today would
//!    depend on how payments fell into threes years ago, which no log retains.
//!
//! Without counts this is relaxed contiguity as Flink CEP has it (`followedBy`, `notFollowedBy`, `within`,
//! `AfterMatchSkipStrategy`): `a ; b` over `a c b1 b2` gives `{a b1}`, over `a1 a2 b` it gives `{a1 b}` and `{a2 b}`, of which
//! `skip_past_last` leaves `{a1 b}`. But where what begins later is complete earlier, Flink holds it back until the earlier
//! one is complete or out of time, and takes that first; here a match waits for nothing, so that a row can see it.
//!
//! # What follows
//!
//! The matches are a function of the set of retained events, whatever the order in which they came. An event changes no
//! candidate that began `within` (and the absence's length) or longer before it, and none that was complete before it; an
//! event that changes what `history` says to later events counts as a change of those. So a late, corrected or withdrawn
//! event throws away what began within the reach before it and takes that stretch of the log again (`machine/replay.rs`).
//!
//! Skipping carries a change further: candidates that are complete after the first that has changed are chosen again
//! (`machine/choose.rs`), as far as those of its period. So a match follows from the events since the beginning of the period in
//! which it is complete, and the reach before that. While an engine runs, what is kept of earlier matches (for 24 hours or
//! the reach, if that is longer) says the same as those events. An engine that starts from retained events needs them for the
//! reach and a period more than the rows that it is to give, and 24 hours for the feature that counts.
//!
//! Features of each pattern, as of the event: `pattern_NAME_now`, 1 if the event is the last of a match, and
//! `pattern_NAME_count_24h`, matches complete in `(t - 24 h, t]` and not after the event. Both are 0 for an event without
//! the key.
//!
//! # Conditions over features
//!
//! `feature(NAME)` is a velocity feature of the same dataflow as of the event, `STEP.feature(NAME)` that of the event which an
//! earlier step has taken; a name that is no word stands in quotes.
//!
//! ```toml
//! where = ["feature(card_count_1h) > 3", "amount >= 2 * feature(card_amount_mean_24h)"]      # of an event or a step
//! where = ["feature(card_amount_sum_1h) > 2 * first.feature(card_amount_sum_1h)"]            # of a step after `first`
//! ```
//!
//! The units are the feature's: a number of events, units of the currency, milliseconds (`dataflow describe` lists them). Features
//! are doubles; what they are compared with is rounded once, as they are, so that equal compares equal. A comparison with a
//! missing feature does not hold; `has(feature(NAME))` asks. Only events of scored kinds have features. `having`, which is
//! over all that are counted, has those of earlier steps only.
//!
//! The value is that of the event's own row, not computed again. Where a late, corrected or withdrawn event or a label
//! changes it, while the feature's key still revises that row, the event counts as one that has changed in its place, and
//! matches follow. A row that is read again without such a change changes no match, so what goes round comes to rest.
//!
//! # Cost
//!
//! Patterns of one key share a log, an exchange and a look-up. An event costs a test of each named event's condition where
//! it was taken in, one request per key, a step per pattern whose events it is, and, where it could end a first count, a
//! walk back over the events within `within`. Conditions over the key's history walk back too, but only where their answer
//! matters. A late event of a busy key costs such walks for each event that it reaches.
//!
//! What is skipped costs as much as a match until no change reaches it, and each change among candidates a walk over the
//! later ones that are kept; `no_skip` costs nothing.
//!
//! A key keeps 48 bytes per event and 8 per field of it that conditions across events look at, for the longest reach of its
//! patterns and the history they look at: `dormant_awakening` keeps 200 days of logins and payments. An event that is none
//! of the named events is kept for its row alone, as long as a late event may touch that. A pattern that has not begun
//! keeps nothing, and one that has taken one event only keeps its place.
//!
//! Patterns over features form groups of their own, whose requests wait until the epoch's velocity is read (`cut.rs`); a row
//! that is read again costs them a look-up. Other patterns do not wait and cost what they did, but for those of a dataflow
//! that has both: their operator acts once it has all requests of an epoch.

pub mod compile;
pub mod cut;
pub mod cycles;
mod family;
pub mod machine;
pub mod outcome;
pub mod spec;
pub mod twin;
mod view;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::event::{Id, Key};

pub use compile::{PatternPlan, condition, expr};
pub use family::Matches;
pub use machine::history;
pub use machine::run::MATCH_IDS_MAX;
pub use spec::Patterns;

/// A match: what leaves the operator with a diff.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Match {
    /// The pattern's name.
    pub pattern: Arc<str>,
    /// The key.
    pub key: Key,
    /// Event time of its first event, milliseconds.
    pub started_ms: i64,
    /// Event time at which it was complete, milliseconds.
    pub completed_ms: i64,
    /// Its events, in order; of more than [`MATCH_IDS_MAX`] the first ones and the last.
    pub ids: Vec<Id>,
    /// How many events it has.
    pub events: u32,
}

impl Match {
    fn of(group: &compile::plan::Group, number: usize, key: Key, held: &machine::run::KeptMatch) -> Self {
        Match {
            pattern: group.programs[number].name.clone(),
            key,
            started_ms: held.start.0,
            completed_ms: held.at.0,
            ids: held.ids.to_vec(),
            events: held.events,
        }
    }
}

/// Why patterns were refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// The text is not a file of patterns.
    #[error("patterns: {0}")]
    File(String),
    /// A pattern cannot be used.
    #[error("pattern '{pattern}', {place}: {reason}")]
    Invalid {
        /// The pattern.
        pattern: String,
        /// Where in it.
        place: String,
        /// What is wrong and how to mend it.
        reason: String,
    },
}

impl PatternError {
    pub(crate) fn invalid(pattern: &str, place: &str, reason: impl Into<String>) -> Self {
        PatternError::Invalid { pattern: pattern.to_owned(), place: place.to_owned(), reason: reason.into() }
    }
}
