//! From what happens to what arrives: late, duplicated, corrected and withdrawn records, and labels.
//!
//! The draws are its own, so that the events themselves are the same whatever the shares are. Each event meets at most
//! one of: late, duplicated, corrected, withdrawn. A label arrives when it becomes available, after its target;
//! corrections, repeats and withdrawals come after the record they are about.

use super::GeneratorConfig;
use super::behaviour::{MINUTE_MS, World};
use super::draft::{Draft, EventKind, FutureLabel, Truth};
use super::random::Random;
use super::schedule::Schedule;
use crate::event::Op;

/// This share of fraud is ever reported.
const FRAUD_LABELLED: f64 = 0.9;
/// A repeat comes within so many milliseconds, a correction or withdrawal within as many minutes.
const REPEAT_MS_MAX: i64 = 5_000;
const MEND_MS_MAX: i64 = 15 * MINUTE_MS;
/// Payments per event of the world, roughly; only the pace depends on it.
const PAYMENTS_PER_EVENT: f64 = 0.75;

#[derive(Debug)]
pub(super) struct EventStream {
    world: World,
    random: Random,
    config: GeneratorConfig,
    day_ms: i64,
    next: Draft,
    /// Records that arrive after others that happened later.
    delayed: Schedule,
}

impl EventStream {
    pub fn new(config: &GeneratorConfig) -> Self {
        let c = config;
        let mended = c.label_share + c.fraud_share + c.correction_share + c.withdrawal_share;
        let mut world = World::new(c, c.duplicate_share + PAYMENTS_PER_EVENT * mended);
        let next = world.next();
        EventStream {
            world,
            random: Random::new(c.seed, 3),
            config: config.clone(),
            day_ms: c.slow_day_ms(),
            next,
            delayed: Schedule::default(),
        }
    }

    /// The next record in order of arrival. Never ends.
    pub fn next(&mut self) -> Draft {
        loop {
            if self.delayed.due_ms().is_some_and(|due_ms| due_ms <= self.next.time_ms)
                && let Some(draft) = self.delayed.take()
            {
                return draft;
            }
            let draft = std::mem::replace(&mut self.next, self.world.next());
            if let Some(draft) = self.send(draft) {
                return draft;
            }
        }
    }

    /// Decides what becomes of an event; `None` if it arrives later.
    fn send(&mut self, mut draft: Draft) -> Option<Draft> {
        let payment = draft.kind == EventKind::Payment;
        // What was planted must stay as it was planted.
        let mendable = payment && draft.truth.planted.is_none();
        let (mut arrives_ms, mut withdrawn) = (draft.time_ms, false);
        let fate = self.random.unit();
        let late = self.config.late_share;
        let repeated = late + self.config.duplicate_share;
        let corrected = repeated + self.config.correction_share;
        if fate < late {
            let share = self.random.unit();
            arrives_ms += 1 + (share * share * self.config.late_ms_max as f64) as i64;
        } else if fate < repeated {
            let again_ms = draft.time_ms + self.random.between(0, REPEAT_MS_MAX);
            self.delayed.put(again_ms, Draft { first: false, ..draft });
        } else if mendable && fate < corrected {
            let mended_ms = draft.time_ms + self.random.between(1_000, MEND_MS_MAX);
            let amount_cents = draft.amount_cents + 1 + self.random.below(draft.amount_cents as u64) as i64;
            self.delayed.put(mended_ms, Draft { first: false, op: Op::Correct, amount_cents, ..draft });
        } else if mendable && !draft.truth.fraud && fate < corrected + self.config.withdrawal_share {
            let mended_ms = draft.time_ms + self.random.between(1_000, MEND_MS_MAX);
            self.delayed.put(mended_ms, Draft { first: false, op: Op::Withdraw, ..draft });
            withdrawn = true;
        }
        let share = if draft.truth.fraud { FRAUD_LABELLED } else { self.config.label_share };
        if payment && !withdrawn && self.random.chance(share) {
            let days = (0.1 + self.random.exponential()).min(10.0);
            let available_at_ms = arrives_ms + 1_000 + (days * self.day_ms as f64) as i64;
            let label = FutureLabel { fraud: draft.truth.fraud, available_at_ms };
            draft.label = Some(label);
            let mut known = Draft::new(EventKind::Label, available_at_ms, draft.actor);
            (known.number, known.target, known.label) = (draft.number, Some(draft.number), Some(label));
            known.truth = Truth::default();
            self.delayed.put(available_at_ms, known);
        }
        if arrives_ms == draft.time_ms {
            return Some(draft);
        }
        self.delayed.put(arrives_ms, draft);
        None
    }
}
